//! Lists one directory: MLSD, with what LIST knows better; or LIST alone where there is no MLSD.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BytesMut};
use xvault_core::entry::{InvalidPath, display_name};
use xvault_core::{EntryPath, WarningCode};

use super::links::{PlainNames, correct, settle};
use super::scope::{refusal, shown};
use crate::Error;
use crate::ftp::listing::{self, Line};
use crate::ftp::{Begun, Data, Kind, Listed, Reply, Session};
use crate::source::bad_names::BadNames;
use crate::source::sftp::order::Place;
use crate::source::sftp::scope::remote_path;

/// Memory of all listings together. What lists more is taken for an endless listing.
pub(super) const MAX_HELD: usize = 64 << 20;

/// The longest line of a listing, in bytes: a path of 4096 and everything else.
const MAX_LINE: usize = 16 << 10;

/// ProFTPD writes lines of LIST into a buffer of 1024 bytes: a longer one loses its end, and runs into the next.
const MAYBE_CUT: usize = 1000;

/// The option of LIST that shows what begins with a dot, the directory itself among it.
const ALL: &[u8] = b"-a";

/// A directory to be listed.
#[derive(Debug, Clone)]
pub(super) struct Dir {
    pub(super) root: usize,
    pub(super) path: Option<EntryPath>,
    /// The directories that it lies in, itself included, as far as the server tells them from others.
    pub(super) lineage: Option<Arc<Lineage>>,
}

/// A directory's identity, and those of the directories above it.
#[derive(Debug)]
pub(super) struct Lineage {
    unique: Box<[u8]>,
    above: Option<Arc<Lineage>>,
}

impl Dir {
    pub(super) fn new(root: usize, path: Option<EntryPath>, listed: &Listed, above: Option<&Self>) -> Self {
        let above = above.and_then(|above| above.lineage.clone());
        let lineage = match &listed.unique {
            Some(unique) => Some(Arc::new(Lineage { unique: unique.clone(), above })),
            None => above,
        };
        Self { root, path, lineage }
    }

    pub(super) fn place(&self) -> Place {
        Place::new(self.root, self.path.as_ref())
    }

    /// Why a name can be none of an entry here.
    pub(super) fn unfit(&self, name: &[u8]) -> Option<String> {
        if name.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Some(format!("`{}` has a line break in it, which FTP can't say", display_name(name)));
        }
        self.child(name).err().map(|error| error.to_string())
    }

    /// The path of one of its entries.
    pub(super) fn child(&self, name: &[u8]) -> Result<EntryPath, InvalidPath> {
        match &self.path {
            Some(path) => path.join(name),
            None => EntryPath::new(name),
        }
    }

    /// Whether an entry is this directory or one above it: a link that the server follows by itself.
    pub(super) fn leads_back(&self, listed: &Listed) -> bool {
        let Some(unique) = &listed.unique else { return false };
        let mut next = self.lineage.as_deref();
        while let Some(lineage) = next {
            if lineage.unique == *unique {
                return true;
            }
            next = lineage.above.as_deref();
        }
        false
    }
}

/// What listing a directory brought.
pub(super) enum Outcome {
    /// Its entries in order, and what is wrong with others.
    Listed(Listing),
    /// It could not be opened.
    Refused(WarningCode, String),
}

/// The entries of a directory.
pub(super) struct Listing {
    pub(super) children: Vec<Listed>,
    pub(super) bad_names: BadNames,
    /// Lines that may not be what they seem: the server may have cut them, or they contradict others.
    pub(super) suspects: BadNames,
    /// Of LIST, the names of files and directories.
    pub(super) plain: PlainNames,
    pub(super) weight: Weight,
    /// Whether the server said nothing at all, not even that the directory contains itself.
    is_silent: bool,
    /// Whether lines were not understood.
    pub(super) has_nonsense: bool,
    /// What the server tells of the directory itself.
    pub(super) itself: Option<Box<Listed>>,
    /// What tells the directory above from all others.
    pub(super) above: Option<Box<[u8]>>,
}

impl Listing {
    fn new(held: &Arc<AtomicUsize>) -> Self {
        let (children, bad_names, suspects) = (Vec::new(), BadNames::default(), BadNames::default());
        Self {
            children,
            bad_names,
            suspects,
            plain: PlainNames::default(),
            weight: Weight::new(held),
            is_silent: true,
            has_nonsense: false,
            itself: None,
            above: None,
        }
    }

    /// Whether LIST told an entry of this name.
    fn has(&self, name: &[u8]) -> bool {
        let is_link = |text: &[u8]| text.strip_prefix(name).is_some_and(|rest| rest.starts_with(b" -> "));
        self.plain.has(name) || self.children.iter().any(|child| *child.name == *name || is_link(&child.name))
    }

    fn sorted(mut self) -> Self {
        self.bad_names.append(std::mem::take(&mut self.suspects));
        self.bad_names.sort(&mut self.children, |child| &child.name);
        self
    }
}

/// What a listing weighs, as long as it is held.
pub(super) struct Weight {
    total: Arc<AtomicUsize>,
    own: usize,
}

impl Weight {
    pub(super) fn new(total: &Arc<AtomicUsize>) -> Self {
        Self { total: Arc::clone(total), own: 0 }
    }

    pub(super) fn own(&self) -> usize {
        self.own
    }

    /// Adds `bytes`; `false` when all listings together are too heavy.
    fn add(&mut self, bytes: usize) -> bool {
        self.own += bytes;
        self.total.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_HELD
    }

    /// Takes over what another one weighs.
    pub(super) fn join(&mut self, mut other: Self) {
        self.own += std::mem::take(&mut other.own);
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.total.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// Lists `dir`.
///
/// # Errors
/// When the connection is lost, or the listing fails half-way or does not end.
pub(super) async fn list(
    session: &mut Session,
    dir: &Dir,
    held: &Arc<AtomicUsize>,
    now: i64,
) -> Result<Outcome, Error> {
    let path = remote_path(dir.path.as_ref());
    let reading =
        |what| Reading { dir, listing: Listing::new(held), now, what, understood: false, puzzled: false };
    let mut outcome = None;
    if session.features.mlst && !session.shared().has_no_mlsd() {
        match session.begin("MLSD", Some(&path), 0).await? {
            Begun::Refused(reply) if reply.is_unknown_command() => session.shared().give_up_mlsd(),
            begun => outcome = Some(reading(What::Facts).of(session, begun).await?),
        }
    }
    match outcome {
        None => {
            let outcome = list_traditionally(session, reading(What::Lines), &path).await?;
            Ok(match outcome {
                Outcome::Listed(mut listing) => {
                    settle(dir, &mut listing, |_| false);
                    Outcome::Listed(listing.sorted())
                }
                refused => refused,
            })
        }
        Some(Outcome::Listed(mut listing)) => {
            if !session.shared().tells_no_kinds() {
                let told = list_traditionally(session, reading(What::OddLines), &path).await?;
                if let Outcome::Listed(told) = told {
                    correct(dir, &mut listing, told);
                }
            }
            Ok(Outcome::Listed(listing.sorted()))
        }
        Some(refused) => Ok(refused),
    }
}

/// A path behind LIST would be taken for a pattern, or for options.
async fn list_traditionally(
    session: &mut Session,
    reading: Reading<'_>,
    path: &[u8],
) -> Result<Outcome, Error> {
    let entered = session.enter(path).await?;
    if !entered.is_done() {
        let (code, message) = refusal(&entered, "could not be listed");
        return Ok(Outcome::Refused(code, message));
    }
    if session.shared().lists_plainly() {
        return reading.listed(session, None).await;
    }
    // Names that begin with a dot are hidden from a plain LIST; `-a` is a name to servers that know no options.
    let again = (reading.again(), reading.again());
    let first = reading.listed(session, Some(ALL)).await?;
    if matches!(&first, Outcome::Listed(listing) if listing.itself.is_some()) {
        return Ok(first);
    }
    let plain = again.0.listed(session, None).await?;
    match &plain {
        // The first answer may have been about that entry alone: ProFTPD's is.
        Outcome::Listed(listing) if listing.has(ALL) => {
            let told = again.1.listed(session, Some(b"-a .")).await?;
            Ok(if matches!(&told, Outcome::Listed(listing) if listing.itself.is_some()) {
                told
            } else {
                plain
            })
        }
        _ if matches!(&first, Outcome::Listed(listing) if !listing.is_silent) => Ok(first),
        Outcome::Listed(listing) if !listing.is_silent => {
            session.shared().list_plainly();
            Ok(plain)
        }
        _ if matches!(first, Outcome::Refused(..)) => Ok(plain),
        _ => Ok(first),
    }
}

/// What of a listing is read, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// MLSD's.
    Facts,
    /// LIST's.
    Lines,
    /// Of LIST's, what is neither a file nor a directory.
    OddLines,
}

/// A listing that is being read.
struct Reading<'d> {
    dir: &'d Dir,
    listing: Listing,
    now: i64,
    what: What,
    /// Whether any line was understood, and whether any was not.
    understood: bool,
    puzzled: bool,
}

impl Reading<'_> {
    /// The same, from the beginning.
    fn again(&self) -> Self {
        Self { listing: Listing::new(&self.listing.weight.total), ..*self }
    }

    async fn listed(self, session: &mut Session, options: Option<&[u8]>) -> Result<Outcome, Error> {
        let begun = session.begin("LIST", options, 0).await?;
        self.of(session, begun).await
    }

    async fn of(mut self, session: &mut Session, begun: Begun) -> Result<Outcome, Error> {
        match begun {
            Begun::Data(mut data) => {
                self.read(session, &mut data).await?;
                let ended_well = data.close().await;
                let reply = session.finish().await?;
                self.judge(session, &reply, ended_well)
            }
            Begun::Refused(reply) if reply.says(&["no files"]) => Ok(Outcome::Listed(self.listing)),
            Begun::Refused(reply) | Begun::NoRestart(reply) => {
                let (code, message) = refusal(&reply, "could not be listed");
                Ok(Outcome::Refused(code, message))
            }
        }
    }

    /// Whether all of it came.
    fn judge(self, session: &Session, reply: &Reply, ended_well: bool) -> Result<Outcome, Error> {
        let lost = |reason: String| Error::Connection { server: session.server(), reason, source: None };
        let path = shown(self.dir.path.as_ref());
        // What vsftpd says, with an empty listing.
        if reply.says(&["failed to open directory"]) {
            return Ok(Outcome::Refused(
                WarningCode::Unreadable,
                format!("could not be listed: {}", reply.shown()),
            ));
        }
        if matches!(reply.code, 425 | 426) {
            return Err(lost(format!("the listing of {path} was broken off: {}", reply.shown())));
        }
        if !reply.is_done() {
            return Err(Error::Incomplete(format!("list {path}: {}", reply.shown())));
        }
        if !ended_well {
            return Err(lost(format!(
                "the encrypted listing of {path} has no end (close_notify): somebody in between may have cut it"
            )));
        }
        if self.puzzled && !self.understood && self.what != What::OddLines {
            let detail = format!("its listings are of a kind that is not understood, that of {path} for one");
            return Err(session.protocol(detail));
        }
        let is_silent = !self.understood && !self.puzzled;
        Ok(Outcome::Listed(Listing { is_silent, has_nonsense: self.puzzled, ..self.listing }))
    }

    async fn read(&mut self, session: &Session, data: &mut Data) -> Result<(), Error> {
        let mut buffer = BytesMut::with_capacity(64 << 10);
        loop {
            let at_end = data.read(&mut buffer).await? == 0;
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end);
                buffer.advance(1);
                self.take(session, &line)?;
            }
            if at_end {
                return self.take(session, &buffer);
            }
            if buffer.len() > MAX_LINE {
                return Err(session.protocol("a line of a listing does not end"));
            }
            buffer.reserve(32 << 10);
        }
    }

    fn take(&mut self, session: &Session, line: &[u8]) -> Result<(), Error> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let entry = match self.what {
            _ if line.is_empty() => return Ok(()),
            What::Facts => listing::mlsd(line).map(Line::Entry),
            What::Lines | What::OddLines => {
                self.suspect(line);
                listing::list(line, self.now)
            }
        };
        let weight = match entry {
            Some(Line::Noise) => 0,
            Some(Line::Entry(listed)) if self.what == What::OddLines => self.keep_odd(session, listed),
            Some(Line::Entry(listed)) => self.keep(listed),
            None if self.what == What::OddLines => {
                self.puzzled = true;
                0
            }
            None => {
                let message = || format!("a line of its listing is not understood: `{}`", display_name(line));
                self.listing.bad_names.add(message);
                self.puzzled = true;
                line.len()
            }
        };
        if self.listing.weight.add(weight) {
            return Ok(());
        }
        let path = shown(self.dir.path.as_ref());
        Err(session.protocol(format!("with {path} its listings take more than {MAX_HELD} bytes of memory")))
    }

    /// A link with a long target is told as it came; whether that is all of it, and whether it hides another entry, nobody says.
    fn suspect(&mut self, line: &[u8]) {
        if line.len() >= MAYBE_CUT {
            let message = || {
                let (len, begin) = (line.len(), display_name(line.get(..80).unwrap_or(line)));
                format!(
                    "a line of its listing has {len} bytes, which some servers cut, so that the link in it may lead elsewhere, and the \
                     entry behind it be missing: `{begin}…`"
                )
            };
            self.listing.suspects.add(message);
        }
    }

    /// A directory's path stands twice among those that are wanted.
    fn weight_as_directory(&self, listed: &Listed) -> usize {
        let path = self.dir.path.as_ref().map_or(0, |path| path.as_bytes().len()) + listed.name.len() + 17;
        if listed.kind == Kind::Directory { 2 * path + size_of::<(Place, Dir)>() } else { 0 }
    }

    fn keep_odd(&mut self, session: &Session, listed: Listed) -> usize {
        self.understood = true;
        if listed.mode.is_none() {
            session.shared().learn_no_kinds();
        }
        if !matches!(listed.kind, Kind::File | Kind::Directory) {
            return self.keep(listed);
        }
        self.listing.plain.add(&listed.name);
        PlainNames::WEIGHT
    }

    /// Returns what it weighs: also what is not kept does, so that no name comes for nothing.
    fn keep(&mut self, listed: Listed) -> usize {
        self.understood = true;
        let weight =
            size_of::<Listed>() + listed.weight() + PlainNames::WEIGHT + self.weight_as_directory(&listed);
        match listed.kind {
            Kind::Itself => {
                self.listing.itself = Some(Box::new(listed));
                return weight;
            }
            Kind::Above => {
                self.listing.above = listed.unique;
                return weight;
            }
            _ => {}
        }
        let is_link = listed.kind == Kind::Symlink;
        if self.what == What::Lines && matches!(listed.kind, Kind::File | Kind::Directory) {
            self.listing.plain.add(&listed.name);
        }
        // What of a link's line is its name is settled once all lines are there.
        match self.dir.unfit(&listed.name) {
            Some(why) if self.what == What::Facts || !is_link => self.listing.bad_names.add(|| why),
            _ => self.listing.children.push(listed),
        }
        weight
    }
}
