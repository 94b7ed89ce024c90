//! `xvault ls`: what is in a snapshot.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};
use xvault::ArchiveEntry;
use xvault::core::entry::display_name;
use xvault::core::snapshot::hex;
use xvault::core::{EntryKind, EntryPath, Metadata, Warning};

use crate::Outcome;
use crate::args::LsArgs;
use crate::output::Output;
use crate::{keys, store};

pub(super) async fn run(args: &LsArgs, output: &Output) -> anyhow::Result<Outcome> {
    let store = store::open(&args.snapshot.store, false)?;
    let identities = keys::identities(args.snapshot.identity.identity.as_deref())?;
    let snapshot = super::open(&*store, &args.snapshot, identities).await?;
    output.say_if_partial(snapshot.manifest());
    let below = match &args.path {
        Some(path) => EntryPath::from_source(path.as_os_str().as_bytes())?,
        None => None,
    };
    let form = Form { json: output.json(), long: args.long };
    let listing = Arc::new(Mutex::new(Listing::new(below.clone(), form)));
    let printing = Arc::clone(&listing);
    if args.warnings {
        snapshot
            .warnings(move |warning| lock(&printing).visit(&warning.path, |form| warned(&warning, form)))
            .await?;
        lock(&listing).finish()?;
        return Ok(Outcome::Done);
    }
    snapshot
        .entries(move |entry| lock(&printing).visit(&entry.entry.path, |form| line(&entry, form)))
        .await?;
    let found = lock(&listing).finish()?;
    match below {
        Some(path) if !found => bail!("the snapshot has no entry `{path}`"),
        _ => Ok(Outcome::Done),
    }
}

fn lock(listing: &Mutex<Listing>) -> std::sync::MutexGuard<'_, Listing> {
    listing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy)]
struct Form {
    json: bool,
    long: bool,
}

/// Prints what lies below a path while the index is read.
struct Listing {
    out: BufWriter<io::Stdout>,
    below: Option<EntryPath>,
    form: Form,
    found: bool,
    failure: Option<io::Error>,
}

impl Listing {
    fn new(below: Option<EntryPath>, form: Form) -> Self {
        Self { out: BufWriter::new(io::stdout()), below, form, found: false, failure: None }
    }

    fn visit(&mut self, path: &EntryPath, line: impl FnOnce(Form) -> String) -> ControlFlow<()> {
        if self.below.as_ref().is_some_and(|below| !path.is_within(below)) {
            return ControlFlow::Continue(());
        }
        self.found = true;
        match writeln!(self.out, "{}", line(self.form)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Whether anything was found.
    fn finish(&mut self) -> io::Result<bool> {
        match self.failure.take() {
            Some(error) => Err(error),
            None => self.out.flush().and(Ok(self.found)),
        }
    }
}

fn line(entry: &ArchiveEntry, form: Form) -> String {
    if form.json {
        json_entry(entry).to_string()
    } else if form.long {
        long(entry)
    } else {
        name(entry)
    }
}

fn warned(warning: &Warning, form: Form) -> String {
    let Warning { path, code, message } = warning;
    if form.json {
        json!({"path": path.to_string(), "code": code.as_str(), "message": message}).to_string()
    } else {
        format!("{path}: {message}")
    }
}

/// Directories end in a slash, as `tar -t` shows them.
fn name(entry: &ArchiveEntry) -> String {
    match entry.entry.kind {
        EntryKind::Directory => format!("{}/", entry.entry.path),
        _ => entry.entry.path.to_string(),
    }
}

/// As `ls -l` does.
fn long(entry: &ArchiveEntry) -> String {
    let Metadata { mode, uid, gid, user, group, mtime } = &entry.entry.metadata;
    let owner = |name: &Option<Vec<u8>>, id: &u64| match name {
        Some(name) => display_name(name),
        None => id.to_string(),
    };
    let time = Timestamp::from_second(mtime.secs).map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let mut line = format!(
        "{}{} {:>8} {:>8} {:>13} {} {}",
        kind_letter(&entry.entry.kind),
        permissions(*mode),
        owner(user, uid),
        owner(group, gid),
        entry.size(),
        time.unwrap_or_else(|_| format!("{:>19}", mtime.secs)),
        name(entry),
    );
    if let Some(target) = target(&entry.entry.kind) {
        line.push_str(" -> ");
        line.push_str(&display_name(target));
    }
    line
}

fn kind_letter(kind: &EntryKind) -> char {
    match kind {
        EntryKind::Directory => 'd',
        EntryKind::Symlink { .. } => 'l',
        EntryKind::Hardlink { .. } => 'h',
        EntryKind::File { .. } | EntryKind::Stream => '-',
    }
}

fn kind_word(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::Hardlink { .. } => "hardlink",
        EntryKind::File { .. } | EntryKind::Stream => "file",
    }
}

fn target(kind: &EntryKind) -> Option<&[u8]> {
    match kind {
        EntryKind::Symlink { target } => Some(target),
        EntryKind::Hardlink { target } => Some(target.as_bytes()),
        EntryKind::Directory | EntryKind::File { .. } | EntryKind::Stream => None,
    }
}

/// `rwsr-xr-t`.
fn permissions(mode: u32) -> String {
    let special = [(0o4000, 's'), (0o2000, 's'), (0o1000, 't')];
    let mut text = String::with_capacity(9);
    for (class, (bit, letter)) in special.into_iter().enumerate() {
        let bits = mode >> (6 - 3 * class);
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & bit != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Names that are no UTF-8 stand escaped in `path`; the index itself keeps their bytes.
fn json_entry(entry: &ArchiveEntry) -> Value {
    let Metadata { mode, uid, gid, user, group, mtime } = &entry.entry.metadata;
    json!({
        "path": entry.entry.path.to_string(),
        "kind": kind_word(&entry.entry.kind),
        "size": entry.size(),
        "mode": format!("{mode:04o}"),
        "uid": uid,
        "gid": gid,
        "user": user.as_deref().map(display_name),
        "group": group.as_deref().map(display_name),
        "mtime": {"secs": mtime.secs, "nanos": mtime.nanos},
        "target": target(&entry.entry.kind).map(display_name),
        "blake3": entry.blake3.map(|hash| hex(&hash)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_shown_as_ls_shows_them() {
        assert_eq!(permissions(0o755), "rwxr-xr-x");
        assert_eq!(permissions(0o4755), "rwsr-xr-x");
        assert_eq!(permissions(0o6644), "rwSr-Sr--");
        assert_eq!(permissions(0o1777), "rwxrwxrwt");
        assert_eq!(permissions(0o1000), "--------T");
    }
}
