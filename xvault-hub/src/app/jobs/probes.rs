//! Tests of sources: one of a source and a few of a tenant at a time. A test of a server that answers nothing holds a worker's slot
//! until it gives up, and nobody's tests may keep the workers from everybody's backups.

use sqlx::{Any, Transaction};
use xvault_core::{SourceId, TenantId};

use super::enqueue::{NewJob, enqueue};
use super::{ROUNDS, contended};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::jobs::Probing;
use crate::db::{Scope, jobs, tenants};

/// Unfinished tests that a tenant may have.
const MAX_UNFINISHED: i64 = 4;
/// When it is worth trying again, in seconds: about as long as a server takes that answers.
const RETRY_SECS: u64 = 5;

/// The test of a source that is under way, or else a new one. 404 when the source is not in `scope`; 409 as for any new job;
/// 429 when the tenant has too many.
pub(crate) async fn probe(hub: &Hub, who: &Principal, scope: &Scope, source: &SourceId) -> Result<Probing> {
    for _ in 0..ROUNDS {
        let found = jobs::unfinished_probe(&mut *hub.db().conn().await?, source).await?;
        if let Some(found) = found.filter(|found| scope.admits(&found.job.tenant_id)) {
            return Ok(found);
        }
        match enqueue(hub, who, scope, NewJob::Probe(source.clone())).await {
            // Somebody was faster.
            Err(error) if error.is("source_busy") => {}
            made => return Ok(Probing { job: made?, is_outdated: false }),
        }
    }
    Err(contended())
}

/// 429 when the tenant has more unfinished tests than it may, with the one that `tx` adds. Others who add some wait until `tx`
/// ends, so that the count is right.
pub(super) async fn admit(tx: &mut Transaction<'static, Any>, tenant: &TenantId) -> Result<()> {
    tenants::hold(tx, tenant).await?;
    if jobs::count_unfinished_probes(tx, tenant).await? <= MAX_UNFINISHED {
        return Ok(());
    }
    let message =
        format!("{MAX_UNFINISHED} tests of sources are under way, and no tenant may have more: wait for one");
    Err(Error::too_many(message, RETRY_SECS))
}
