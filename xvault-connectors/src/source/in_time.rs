//! Looks at many databases, as many as a probe has time for.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::ProbedPath;

/// So long after its beginning a probe ends its looks at single databases: it is given up soon after.
const ENOUGH: Duration = Duration::from_secs(6);

/// When looks at single databases end.
pub(super) fn end_of_looks() -> Instant {
    Instant::now() + ENOUGH
}

/// What `look` gives before `end`.
pub(super) async fn before<T>(end: Instant, look: impl Future<Output = T>) -> Option<T> {
    timeout_at(end, look).await.ok()
}

/// What stands for a database that there was no time for.
pub(super) fn unseen(name: &str) -> ProbedPath {
    ProbedPath { path: name.to_owned(), kind: Some("database"), error: None }
}

/// What is to be told where there was no time for so many.
pub(super) fn unseen_note(count: usize) -> Option<String> {
    let what = if count == 1 { "one more database".to_owned() } else { format!("{count} more databases") };
    (count > 0)
        .then(|| format!("what of {what} this user may read was not looked at: there was no time for it"))
}
