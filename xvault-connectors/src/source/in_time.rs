//! What a probe looks at, as far as there is time for it.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::ProbedPath;
use crate::Error;

/// So long after its beginning a probe ends its looks: it is given up soon after.
const ENOUGH: Duration = Duration::from_millis(8_500);

/// So many databases are looked at together.
const AT_ONCE: usize = 4;

/// When looks end.
pub(super) fn end_of_looks() -> Instant {
    Instant::now() + ENOUGH
}

/// What `look` gives before `end`.
pub(super) async fn before<T>(end: Instant, look: impl Future<Output = T>) -> Option<T> {
    timeout_at(end, look).await.ok()
}

/// What `looks` give before `end`, in their order: the first of them.
pub(super) async fn each_before<T>(end: Instant, looks: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut looks = std::pin::pin!(stream::iter(looks).buffered(AT_ONCE));
    let mut seen = Vec::new();
    while let Some(Some(one)) = before(end, looks.next()).await {
        seen.push(one);
    }
    seen
}

/// There is no server, as far as anybody can tell by now.
pub(super) fn silent(server: String) -> Error {
    Error::Timeout { what: server, after: ENOUGH }
}

/// What stands for a path, or for a database by its name, that there was no time to look for.
pub(super) fn too_late(path: &str) -> ProbedPath {
    let error = Some(
        "it was not looked at: the server let us in, and answers too slowly for a test, or not at all"
            .to_owned(),
    );
    ProbedPath { path: path.to_owned(), kind: None, error }
}

/// What stands for all that were to be looked for.
pub(super) fn all_too_late(names: &[&str]) -> Vec<ProbedPath> {
    let names = if names.is_empty() { &["all databases"] } else { names };
    names.iter().map(|name| too_late(name)).collect()
}

/// What stands for a database that is there, and that there was no time for.
pub(super) fn unseen(name: &str) -> ProbedPath {
    ProbedPath { path: name.to_owned(), kind: Some("database"), error: None }
}

/// What is to be told where there was no time for so many.
pub(super) fn unseen_note(count: usize) -> Option<String> {
    let what = if count == 1 { "one more database".to_owned() } else { format!("{count} more databases") };
    (count > 0)
        .then(|| format!("what of {what} this user may read was not looked at: there was no time for it"))
}
