//! The outcome: what happens to every snapshot, and why.

use jiff::Timestamp;
use serde::Serialize;
use xvault_core::SnapshotId;

use crate::reason::Reason;

/// What happens to one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Decision {
    /// Which one.
    pub id: SnapshotId,
    /// When its backup began.
    pub at: Timestamp,
    /// Kept, or deleted.
    pub keep: bool,
    /// Every reason for that, never none.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>, min_items = 1))]
    pub reasons: Vec<Reason>,
}

/// How many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Summary {
    /// Snapshots that were looked at.
    pub total_snapshots: usize,
    /// Of them, those that are kept.
    pub total_to_keep: usize,
    /// Of them, those that are deleted.
    pub total_to_delete: usize,
}

/// What happens to every snapshot of a source. A plan only says; nothing is deleted by making one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RetentionPlan))]
pub struct Plan {
    /// One decision for each snapshot, newest first.
    pub decisions: Vec<Decision>,
    /// How many.
    pub summary: Summary,
}

impl Plan {
    pub(crate) fn new(decisions: Vec<Decision>) -> Self {
        let total_to_keep = decisions.iter().filter(|decision| decision.keep).count();
        let total_snapshots = decisions.len();
        let summary =
            Summary { total_snapshots, total_to_keep, total_to_delete: total_snapshots - total_to_keep };
        Self { decisions, summary }
    }

    /// The snapshots to delete, oldest first: whoever breaks off half-way has the newer ones still.
    pub fn to_delete(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().rev().filter(|decision| !decision.keep)
    }
}
