//! What all dumps share: a tool's output becomes one entry, and its beginning, its end and its exit prove it whole.

use xvault_core::entry::{Metadata, Mtime};
use xvault_core::{Entry, EntryKind, EntryPath};

use super::Emitter;
use crate::Error;
use crate::database::Reach;
use crate::database::complaint::understood;
use crate::ssh::ExecEvent;
use crate::tool::{Call, Running};

/// The directory that dumps lie in.
const FOLDER: &str = "database";

/// How many lines of a tool's complaints go to the log.
const MAX_LINES: u32 = 200;

/// The beginning and the end that are kept of a dump, in bytes.
const HEAD: usize = 512;
const TAIL: usize = 512;

/// What a kind of dump begins and ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `pg_dump --format=custom`: it begins with its magic, and its blocks come to their end.
    PostgresCustom,
    /// `pg_dump --format=plain`.
    PostgresPlain,
    /// `pg_dumpall`.
    PostgresGlobals,
    /// `mysqldump`, `mariadb-dump`.
    Mysql,
}

impl Shape {
    fn begins(self, head: &[u8]) -> bool {
        match self {
            Self::PostgresCustom => head.starts_with(b"PGDMP"),
            Self::PostgresPlain => holds(head, b"-- PostgreSQL database dump"),
            Self::PostgresGlobals => holds(head, b"-- PostgreSQL database cluster dump"),
            Self::Mysql => holds(head, b"-- MariaDB dump") || holds(head, b"-- MySQL dump"),
        }
    }

    fn ends(self, tail: &[u8]) -> bool {
        match self {
            // Where it ends is written in it: see `custom`.
            Self::PostgresCustom => true,
            Self::PostgresPlain => holds(tail, b"\n-- PostgreSQL database dump complete\n"),
            Self::PostgresGlobals => holds(tail, b"\n-- PostgreSQL database cluster dump complete\n"),
            Self::Mysql => holds(tail, b"\n-- Dump completed"),
        }
    }
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// What is remembered of a dump while it passes.
struct Seen {
    shape: Shape,
    head: Vec<u8>,
    tail: Vec<u8>,
    custom: super::custom::Blocks,
}

impl Seen {
    fn new(shape: Shape) -> Self {
        Self { shape, head: Vec::new(), tail: Vec::new(), custom: super::custom::Blocks::default() }
    }

    fn push(&mut self, data: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(data.get(..room).unwrap_or(data));
        self.tail.extend_from_slice(data.get(data.len().saturating_sub(TAIL)..).unwrap_or(data));
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        if self.shape == Shape::PostgresCustom {
            self.custom.push(data);
        }
    }

    /// Why it is no whole dump; `None` when it is.
    fn fault(&self) -> Option<String> {
        if self.head.is_empty() {
            Some("it is empty".to_owned())
        } else if !self.shape.begins(&self.head) {
            Some("it does not begin as its tool begins dumps".to_owned())
        } else if !self.shape.ends(&self.tail) {
            Some("its last line is missing: it was cut".to_owned())
        } else if self.shape == Shape::PostgresCustom {
            self.custom.fault()
        } else {
            None
        }
    }
}

/// Where the dump of a database lies: `database/NAME.dump`. `/` and `%` in the name are escaped as in URLs.
pub(super) fn place(database: &str, extension: &str) -> Result<EntryPath, Error> {
    let name = database.replace('%', "%25").replace('/', "%2F");
    path(format!("{FOLDER}/{name}.{extension}"))
}

pub(super) fn path(text: impl Into<Vec<u8>>) -> Result<EntryPath, Error> {
    EntryPath::new(text).map_err(|error| Error::Target(error.to_string()))
}

/// The directory of the dumps.
pub(super) async fn folder(emitter: &mut Emitter<'_>) -> Result<(), Error> {
    emitter.whole(folder_at(FOLDER, 0o700)?).await
}

/// A directory that no source has.
pub(super) fn folder_at(name: &str, mode: u32) -> Result<Entry, Error> {
    Ok(Entry { path: path(name)?, kind: EntryKind::Directory, metadata: metadata(mode) })
}

/// A dump belongs to nobody at its source: it is its reader's alone, and of now.
fn metadata(mode: u32) -> Metadata {
    let now = xvault_core::clock::now().as_duration();
    let nanos = u32::try_from(now.subsec_nanos()).unwrap_or_default();
    let mtime = Mtime { secs: now.as_secs(), nanos };
    Metadata { mode, mtime, ..Metadata::default() }
}

/// Runs `call`, and pushes what it writes as one entry.
pub(super) async fn dump(
    reach: &Reach,
    mut call: Call,
    shape: Shape,
    path: EntryPath,
    emitter: &mut Emitter<'_>,
) -> Result<(), Error> {
    let control = emitter.control();
    call.writes_much = true;
    let mut tool = control.run(reach.run(call)).await?;
    let streamed = stream(&mut tool, shape, path, emitter).await;
    if streamed.is_err() {
        tool.stop().await;
    }
    streamed.map_err(|error| understood(error, reach))
}

async fn stream(
    tool: &mut Running,
    shape: Shape,
    path: EntryPath,
    emitter: &mut Emitter<'_>,
) -> Result<(), Error> {
    let control = emitter.control().clone();
    let (mut seen, mut lines) = (Seen::new(shape), Lines::default());
    emitter.begin(Entry { path: path.clone(), kind: EntryKind::Stream, metadata: metadata(0o600) }).await?;
    while let Some(event) = control.run(tool.next()).await? {
        match event {
            ExecEvent::Stdout(data) => {
                seen.push(&data);
                emitter.data(data).await?;
            }
            ExecEvent::Stderr(data) => {
                lines.push(&data, |line| control.progress().note(&format!("{}: {line}", path)));
            }
        }
    }
    tool.check_exit()?;
    if let Some(fault) = seen.fault() {
        return Err(Error::Incomplete(format!("the dump `{path}` of {} is not whole: {fault}", tool.name())));
    }
    emitter.end().await
}

/// Whole lines of what comes in pieces.
pub(crate) struct Lines {
    rest: Vec<u8>,
    told: u32,
    most: u32,
    is_cut: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self { rest: Vec::new(), told: 0, most: MAX_LINES, is_cut: false }
    }
}

impl Lines {
    /// The longest line that is told.
    const LONGEST: usize = 1000;

    /// All of them, for who counts more than they keep.
    pub(crate) fn all() -> Self {
        Self { most: u32::MAX, ..Self::default() }
    }

    pub(crate) fn push(&mut self, data: &[u8], mut tell: impl FnMut(&str)) {
        for byte in data {
            match byte {
                b'\n' => self.line(&mut tell),
                byte if self.rest.len() < Self::LONGEST => self.rest.push(*byte),
                _ => {}
            }
        }
    }

    fn line(&mut self, tell: &mut impl FnMut(&str)) {
        let line = std::mem::take(&mut self.rest);
        let line = xvault_core::entry::display_name(&line);
        match line.trim_end() {
            "" => {}
            line if self.told < self.most => {
                self.told += 1;
                tell(line);
            }
            _ => self.is_cut = true,
        }
    }

    /// Whether there were more lines than are told.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(shape: Shape, pieces: &[&[u8]]) -> Option<String> {
        let mut seen = Seen::new(shape);
        pieces.iter().for_each(|piece| seen.push(piece));
        seen.fault()
    }

    #[test]
    fn only_a_dump_with_beginning_and_end_is_whole() {
        let sandbox: &[u8] = b"/*M!999999\\- enable the sandbox mode */ \n";
        let begin = b"-- MariaDB dump 10.19\n";
        let end = b"\n-- Dump completed on 2026-11-24\n";
        let filler = [b'x'; 4000];
        assert_eq!(fault(Shape::Mysql, &[sandbox, begin, &filler, end]), None);
        assert_eq!(fault(Shape::Mysql, &[sandbox, begin, &filler, &end[..9], &end[9..]]), None);
        for (pieces, word) in [
            (&[][..], "empty"),
            (&[&b""[..]][..], "empty"),
            (&[&begin[..], &filler[..]][..], "last line"),
            (&[&begin[..], &end[..], &filler[..]][..], "last line"),
            (&[&filler[..], &end[..]][..], "begin"),
        ] {
            assert!(fault(Shape::Mysql, pieces).unwrap().contains(word), "{word}");
        }
    }

    #[test]
    fn postgres_says_for_each_kind_what_is_complete() {
        let plain = b"--\n-- PostgreSQL database dump\n--\nx\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict k\n";
        assert_eq!(fault(Shape::PostgresPlain, &[plain]), None);
        let cut = fault(Shape::PostgresPlain, &[&plain[..60]]).unwrap();
        assert_eq!(cut, "its last line is missing: it was cut");
        let globals = b"--\n-- PostgreSQL database cluster dump\n--\nx\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";
        assert_eq!(fault(Shape::PostgresGlobals, &[globals]), None);
        assert_eq!(fault(Shape::PostgresGlobals, &[&globals[..60]]).unwrap(), cut);
        for other in [Shape::PostgresGlobals, Shape::PostgresCustom] {
            assert_eq!(fault(other, &[plain]).unwrap(), "it does not begin as its tool begins dumps");
        }
    }

    #[test]
    fn names_of_databases_become_names_of_files() {
        let shown = |name: &str| place(name, "dump").unwrap().to_string();
        assert_eq!(shown("shop"), "database/shop.dump");
        assert_eq!(shown("../a/b%"), "database/..%2Fa%2Fb%25.dump");
        assert_eq!(shown(".."), "database/...dump");
        assert_eq!(shown("it's \"\u{1f600}\""), "database/it's \"\u{1f600}\".dump");
    }

    #[test]
    fn complaints_are_told_line_by_line_up_to_a_limit() {
        let mut lines = Lines::default();
        let mut told = Vec::new();
        lines.push(b"one\n\ntw", |line| told.push(line.to_owned()));
        lines.push(b"o\x1b[31m\n", |line| told.push(line.to_owned()));
        assert_eq!(told, ["one", "two\\u{1b}[31m"]);
        let mut longest = 0;
        Lines::default().push(&[&[b'x'; 5000][..], b"\n"].concat(), |line| longest = line.len());
        assert_eq!(longest, Lines::LONGEST);
        let mut count = 0;
        lines.push(&b"x\n".repeat(1000), |_| count += 1);
        assert_eq!(count, MAX_LINES - 2);
        let mut all = 0;
        Lines::all().push(&b"x\n".repeat(1000), |_| all += 1);
        assert_eq!(all, 1000);
    }
}
