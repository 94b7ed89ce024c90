//! How sources stand, in two questions for a whole page of them: tables `sources`, `tenants`, `snapshots` and `schedules`.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use xvault_core::SourceId;

use super::schedules::{self, Schedule};
use super::{Result, instant_opt, parsed, places};

/// What is known of a source's backups.
#[derive(Debug)]
pub(crate) struct Known {
    /// When the hub took note of its last whole snapshot.
    pub(crate) last_success_at: Option<Timestamp>,
    /// Neither it nor its tenant is disabled.
    pub(crate) active: bool,
    pub(crate) schedule: Option<Schedule>,
}

/// Those of `ids` that exist.
pub(crate) async fn of_sources(
    conn: &mut AnyConnection,
    ids: &[&SourceId],
) -> Result<HashMap<SourceId, Known>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let sources = fetch(
        conn,
        "SELECT s.id, s.status, t.status AS tenant_status, (SELECT MAX(n.created_at) FROM snapshots n
             WHERE n.source_id = s.id AND n.status = 'completed' AND n.damaged_at IS NULL) AS last_success_at
         FROM sources s JOIN tenants t ON t.id = s.tenant_id WHERE s.id IN",
        ids,
    )
    .await?;
    let mut known = HashMap::with_capacity(ids.len());
    for row in &sources {
        known.insert(parsed(row, "id")?, from_row(row)?);
    }
    for row in fetch(conn, "SELECT * FROM schedules WHERE source_id IN", ids).await? {
        let schedule = schedules::from_row(&row)?;
        if let Some(source) = known.get_mut(&schedule.source_id) {
            source.schedule = Some(schedule);
        }
    }
    Ok(known)
}

fn from_row(row: &AnyRow) -> Result<Known> {
    let is_active = |column| Ok::<_, super::Error>(row.try_get::<String, _>(column)? == "active");
    Ok(Known {
        last_success_at: instant_opt(row, "last_success_at")?,
        active: is_active("status")? && is_active("tenant_status")?,
        schedule: None,
    })
}

/// The rows for `ids`, which are compared with what `select` ends in. It is of this program's own words.
async fn fetch(conn: &mut AnyConnection, select: &str, ids: &[&SourceId]) -> Result<Vec<AnyRow>> {
    let text = format!("{select} {}", places(1, ids.len()));
    let query = ids.iter().fold(sqlx::query(AssertSqlSafe(text)), |query, id| query.bind(id.as_str()));
    Ok(query.fetch_all(conn).await?)
}
