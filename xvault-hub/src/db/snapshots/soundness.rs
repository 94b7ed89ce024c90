//! What is known of a snapshot's bytes: when they were verified, how far, and whether they are damaged.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::protocol::{Finding, VerifyDepth};
use xvault_core::{JobId, SnapshotId, StoreId};

use crate::db::{Binds, Result, instant_opt, parsed_opt};

/// A mark that keeps a snapshot from being relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Since when it is known.
    pub(crate) at: Timestamp,
    /// One sentence.
    pub(crate) what: String,
    /// How far the verification went that found it.
    pub(crate) depth: VerifyDepth,
}

/// Columns of a snapshot, or of a copy, that verifications write: what is known of the bytes in one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Soundness {
    /// When it was last proven sound, by read-back or verification.
    pub(crate) verified_at: Option<Timestamp>,
    /// The same, of all of it.
    pub(crate) fully_verified_at: Option<Timestamp>,
    /// When a verification last ended with a finding, whatever that was.
    pub(crate) checked_at: Option<Timestamp>,
    /// The same, of those that looked inside.
    pub(crate) looked_inside_at: Option<Timestamp>,
    /// How far the last one went.
    pub(crate) checked_depth: Option<VerifyDepth>,
    /// Which job it was.
    pub(crate) checked_by: Option<JobId>,
    pub(crate) damage: Option<Damage>,
}

impl Soundness {
    pub(in crate::db) fn read(row: &AnyRow) -> Result<Self> {
        let (at, depth) = (instant_opt(row, "damaged_at")?, parsed_opt(row, "damage_depth")?);
        let what = row.try_get::<Option<String>, _>("damage")?.unwrap_or_default();
        Ok(Self {
            verified_at: instant_opt(row, "verified_at")?,
            fully_verified_at: instant_opt(row, "fully_verified_at")?,
            checked_at: instant_opt(row, "checked_at")?,
            looked_inside_at: instant_opt(row, "looked_inside_at")?,
            checked_depth: parsed_opt(row, "checked_depth")?,
            checked_by: parsed_opt(row, "checked_by_job_id")?,
            damage: at.zip(depth).map(|(at, depth)| Damage { at, what, depth }),
        })
    }

    /// Whether a verification that went at least so far has found it sound, and nothing is known to the contrary.
    pub(crate) fn is_proven(&self, depth: VerifyDepth) -> bool {
        let read_all = self.fully_verified_at.map(|_| VerifyDepth::Deep);
        self.damage.is_none() && self.checked_depth.max(read_all) >= Some(depth)
    }

    /// What is known after a verification of this depth has found this.
    pub(crate) fn after(&self, job: &JobId, depth: VerifyDepth, finding: &Finding, now: Timestamp) -> Self {
        let looked = Self {
            checked_at: Some(now),
            looked_inside_at: if depth.decrypts() { Some(now) } else { self.looked_inside_at },
            checked_depth: Some(depth),
            checked_by: Some(job.clone()),
            ..self.clone()
        };
        match (finding, &self.damage) {
            (Finding::Damaged { damage }, known) => {
                Self { damage: Some(worse(known, damage, depth, now)), ..looked }
            }
            // What only a look inside shows is still there.
            (Finding::Ok { .. }, Some(damage)) if depth < damage.depth => looked,
            // The same bytes as when all of it was read: all of it is sound.
            (Finding::Ok { .. }, _) => Self {
                verified_at: Some(now),
                fully_verified_at: self.fully_verified_at.map(|_| now).or(depth.decrypts().then_some(now)),
                damage: None,
                ..looked
            },
        }
    }
}

/// Known since it was first seen; described as it was last.
fn worse(known: &Option<Damage>, what: &str, depth: VerifyDepth, now: Timestamp) -> Damage {
    Damage {
        at: known.as_ref().map_or(now, |known| known.at),
        what: what.to_owned(),
        depth: known.as_ref().map_or(depth, |known| known.depth.max(depth)),
    }
}

/// Sets all columns of [`Soundness`] in a table, from `$1` on.
macro_rules! set_known {
    ($table:literal, $which:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET verified_at = $1, fully_verified_at = $2, checked_at = $3, looked_inside_at = $4, checked_depth = $5,
                 checked_by_job_id = $6, damaged_at = $7, damage = $8, damage_depth = $9, updated_at = $10 WHERE ",
            $which
        )
    };
}

fn bind_known<'q>(query: Binds<'q>, known: &Soundness, now: Timestamp) -> Binds<'q> {
    let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millisecond);
    let damage = known.damage.as_ref();
    query
        .bind(millis(known.verified_at))
        .bind(millis(known.fully_verified_at))
        .bind(millis(known.checked_at))
        .bind(millis(known.looked_inside_at))
        .bind(known.checked_depth.map(VerifyDepth::as_str))
        .bind(known.checked_by.as_ref().map(ToString::to_string))
        .bind(millis(damage.map(|damage| damage.at)))
        .bind(damage.map(|damage| damage.what.clone()))
        .bind(damage.map(|damage| damage.depth.as_str()))
        .bind(now.as_millisecond())
}

/// Writes down what is known of the first place. False when the snapshot is gone.
pub(crate) async fn set_soundness(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    known: &Soundness,
    now: Timestamp,
) -> Result<bool> {
    let query = bind_known(sqlx::query(set_known!("snapshots", "id = $11")), known, now);
    Ok(query.bind(id.as_str()).execute(conn).await?.rows_affected() == 1)
}

/// Writes down what is known of a copy. False when there is none.
pub(crate) async fn set_soundness_of_copy(
    conn: &mut AnyConnection,
    (id, store_id): (&SnapshotId, &StoreId),
    known: &Soundness,
    now: Timestamp,
) -> Result<bool> {
    let text = set_known!("snapshot_copies", "snapshot_id = $11 AND store_id = $12");
    let query = bind_known(sqlx::query(text), known, now).bind(id.as_str()).bind(store_id.as_str());
    Ok(query.execute(conn).await?.rows_affected() == 1)
}

/// How many snapshots are known to be damaged. Those that are being deleted trouble nobody.
pub(crate) async fn count_damaged(conn: &mut AnyConnection) -> Result<i64> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS snapshots FROM snapshots WHERE damaged_at IS NOT NULL AND status <> 'deleting'",
    );
    Ok(row.fetch_one(conn).await?.try_get("snapshots")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fresh() -> Soundness {
        Soundness {
            verified_at: Some(at(1)),
            fully_verified_at: None,
            checked_at: None,
            looked_inside_at: None,
            checked_depth: None,
            checked_by: None,
            damage: None,
        }
    }

    fn after(before: &Soundness, depth: VerifyDepth, sound: bool, second: i64) -> Soundness {
        let damaged = || Finding::Damaged { damage: format!("seen at {second}") };
        let finding = if sound { Finding::Ok { entries: 1, bytes: 1, databases: None } } else { damaged() };
        before.after(&JobId::generate(), depth, &finding, at(second))
    }

    #[test]
    fn only_a_check_that_goes_as_far_takes_a_mark_away() {
        use VerifyDepth::{Deep, Quick, RestoreTest};
        for (found_by, checked_by, clears) in [
            (Quick, Quick, true),
            (Quick, Deep, true),
            (Deep, Quick, false),
            (Deep, Deep, true),
            (Deep, RestoreTest, true),
            (RestoreTest, Deep, false),
        ] {
            let damaged = after(&fresh(), found_by, false, 2);
            assert_eq!(damaged.verified_at, Some(at(1)), "it was not proven sound");
            let checked = after(&damaged, checked_by, true, 3);
            assert_eq!(checked.damage.is_none(), clears, "{found_by} {checked_by}");
            assert_eq!(checked.verified_at, Some(at(if clears { 3 } else { 1 })), "{found_by} {checked_by}");
            assert_eq!(checked.checked_at, Some(at(3)));
        }
    }

    #[test]
    fn damage_is_dated_when_it_was_first_seen_and_stays_as_deep_as_it_is() {
        let first = after(&fresh(), VerifyDepth::Deep, false, 2);
        let again = after(&first, VerifyDepth::Quick, false, 3).damage.unwrap();
        let expected = Damage { at: at(2), what: "seen at 3".into(), depth: VerifyDepth::Deep };
        assert_eq!(again, expected);
    }

    #[test]
    fn a_quick_check_keeps_the_proof_of_a_full_one_and_gives_none() {
        let quick = after(&fresh(), VerifyDepth::Quick, true, 2);
        assert_eq!((quick.fully_verified_at, quick.looked_inside_at), (None, None));
        let deep = after(&quick, VerifyDepth::Deep, true, 3);
        assert_eq!((deep.fully_verified_at, deep.looked_inside_at), (Some(at(3)), Some(at(3))));
        let quick = after(&deep, VerifyDepth::Quick, true, 4);
        assert_eq!((quick.fully_verified_at, quick.looked_inside_at), (Some(at(4)), Some(at(3))));
    }
}
