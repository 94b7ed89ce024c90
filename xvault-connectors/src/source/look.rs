//! How much there is, and what of it can't be read: the server's own `du` and `find`, for a few seconds.

use std::time::Duration;

use tokio::time::Instant;
use xvault_core::entry::display_name;

use crate::Error;
use crate::database::some_of;
use crate::source::in_time::before;
use crate::source::postgres::size_note;
use crate::ssh::{Exec, ExecEvent, Session};

/// A big site is not counted to its end.
const PATIENCE: Duration = Duration::from_secs(4);

/// The most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// `$1`…: directories.
const SIZES: &str = r#"LC_ALL=C du -sk -- "$@" 2>/dev/null; true"#;
/// Its first name says that the server's `find` knows what it is asked: those of busybox and of most BSDs do not.
const UNREADABLE: &str = r#"find / -prune -readable -executable >/dev/null 2>&1 && printf 'asked\0' &&
    find "$@" \( -type d ! \( -readable -executable \) -o -type f ! -readable \) -prune -print0 2>/dev/null |
    head -c 60000; true"#;

/// What it says first where it can be asked.
const ASKED: &[u8] = b"asked\0";

/// What is said where nothing can be asked.
pub(super) fn unknown(protocol: &str) -> String {
    format!(
        "{protocol} can't tell before a backup how much there is, and what of it can't be read: a backup names it, and is partial"
    )
}

/// What is worth knowing of these absolute paths before `end`, a sentence each; `what` the size is of. Trouble here is none of the
/// backup's.
pub(super) async fn look(session: &Session, roots: &[Vec<u8>], what: &str, end: Instant) -> Vec<String> {
    if roots.is_empty() {
        return Vec::new();
    }
    let end = end.min(Instant::now() + PATIENCE);
    let ask = |script| ask(session, script, roots, end);
    let (sizes, unreadable) = tokio::join!(ask(SIZES), ask(UNREADABLE));
    let mut notes = Vec::new();
    notes.push(match sizes.as_deref().map(kibibytes) {
        Some(Some(kib)) => size_note(kib << 10, what),
        Some(None) => "how much there is, the server does not say: it has no shell, or no `du`".to_owned(),
        None => "how much there is could not be counted in time".to_owned(),
    });
    notes.extend(unreadable_note(unreadable.as_deref()));
    notes
}

fn unreadable_note(answer: Option<&[u8]>) -> Option<String> {
    let unknown = |why: &str| {
        Some(format!("what the account can't read is not known: {why}; a backup names it, and is partial"))
    };
    let Some(answer) = answer else { return unknown("it could not be looked for in time") };
    let Some(names) = answer.strip_prefix(ASKED) else {
        return unknown("the server has no shell, or no `find` that knows `-readable`");
    };
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(display_name).collect();
    (!names.is_empty()).then(|| {
        format!(
            "the account can't read {}: let it (group or ACL), or exclude them; otherwise each snapshot is partial",
            some_of(&names)
        )
    })
}

/// What the server's shell answers before `end`: nothing where there is none. `None`: it takes too long.
async fn ask(session: &Session, script: &str, roots: &[Vec<u8>], end: Instant) -> Option<Vec<u8>> {
    let words = ["sh", "-c", script, "sh"].map(|word| word.as_bytes().to_vec());
    let argv: Vec<Vec<u8>> = words.into_iter().chain(roots.iter().cloned()).collect();
    let Ok(mut exec) = before(end, session.exec(&argv)).await? else { return Some(Vec::new()) };
    match before(end, stdout(&mut exec)).await {
        Some(answer) => Some(answer.unwrap_or_default()),
        None => {
            // One that has ended meanwhile needs no end.
            let _ = exec.terminate().await;
            None
        }
    }
}

/// The beginning of what a command prints.
async fn stdout(exec: &mut Exec) -> Result<Vec<u8>, Error> {
    let mut answer = Vec::new();
    while let Some(event) = exec.next().await? {
        if let ExecEvent::Stdout(data) = event {
            let room = MAX_ANSWER.saturating_sub(answer.len());
            answer.extend_from_slice(data.get(..room).unwrap_or(&data));
        }
    }
    Ok(answer)
}

/// The sum of what `du` says of each. `None`: it says nothing.
fn kibibytes(answer: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(answer);
    let counts: Vec<u64> = text.lines().filter_map(|line| line.split('\t').next()?.parse().ok()).collect();
    if counts.is_empty() { None } else { Some(counts.into_iter().fold(0, u64::saturating_add)) }
}
