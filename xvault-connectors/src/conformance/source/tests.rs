//! The suite is there to reject: for each of its rules a source that breaks that one alone.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use xvault_core::snapshot::{ContentSummary, Evidence};
use xvault_core::{Entry, EntryKind, EntryPath, EntrySink, Metadata, SinkError, Warning, WarningCode};

use super::*;
use crate::{Probe, ProbedPath};

/// What may be fetched ahead; the large file is longer.
const AHEAD: u64 = 1000;

/// What a pull does with its sink, one after the other.
#[derive(Debug, Clone)]
enum Deed {
    Begin(Entry),
    Data(Bytes),
    End,
    Warn(Warning),
}

/// How the source goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Good,
    /// Does not hear that the job is cancelled.
    Deaf,
    /// Hears it, and takes its time.
    Dawdling,
    /// Does not know of the bandwidth's limit.
    Hurrying,
    /// Goes on when the sink has failed.
    Swallowing,
    /// Says that it was the source's failure.
    Blaming,
    /// Makes do without a sink that takes long.
    Impatient,
    /// Leaves something behind when it is dropped.
    Leaving,
    /// Fetches all before anybody takes any of it.
    Hoarding,
    /// Reads content in a probe.
    Prying,
}

/// A source whose every deed is written down.
#[derive(Clone)]
struct Sample {
    kind: &'static str,
    deeds: Vec<Deed>,
    summary: PullSummary,
    probe: Probe,
    habit: Habit,
    failure: Option<fn() -> Error>,
    fetched: Arc<AtomicU64>,
    /// Whether a pull was dropped, and something left behind.
    left: Arc<AtomicBool>,
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

fn begin(name: &str, kind: EntryKind) -> Deed {
    Deed::Begin(Entry { path: path(name), kind, metadata: Metadata::default() })
}

fn warning(message: &str) -> Deed {
    Deed::Warn(Warning { path: path("d/x"), code: WarningCode::Unreadable, message: message.to_owned() })
}

/// `d`, in it the file `f` of 2000 bytes, its other name `h`, the link `l`, the stream `s`; and `x`, which can't be read.
fn good() -> Sample {
    let part = Deed::Data(Bytes::from_static(&[7; 100]));
    let deeds = [
        vec![begin("d", EntryKind::Directory), begin("d/f", EntryKind::File { size: 2000 })],
        vec![part; 20],
        vec![Deed::End, begin("d/h", EntryKind::Hardlink { target: path("d/f") })],
        vec![begin("d/l", EntryKind::Symlink { target: b"f".to_vec() }), warning("it is shut")],
        vec![begin("d/s", EntryKind::Stream), Deed::Data(Bytes::from_static(b"end")), Deed::End],
    ];
    let content = ContentSummary {
        files: 2,
        directories: 1,
        symlinks: 1,
        hardlinks: 1,
        bytes: 2003,
        warnings: 1,
        skipped: 0,
    };
    let found = ProbedPath { path: "/d".to_owned(), kind: Some("directory"), error: None };
    Sample {
        kind: "sample",
        deeds: deeds.concat(),
        summary: PullSummary { content, evidence: Evidence::Walk { directories: 1, files: 2 } },
        probe: Probe { server: None, host_key: None, paths: vec![found], notes: Vec::new() },
        habit: Habit::Good,
        failure: None,
        fetched: Arc::default(),
        left: Arc::default(),
    }
}

impl Sample {
    fn entry(&mut self, name: &str) -> &mut Entry {
        let mut entries = self.deeds.iter_mut().filter_map(|deed| match deed {
            Deed::Begin(entry) => Some(entry),
            _ => None,
        });
        entries.find(|entry| entry.path == path(name)).unwrap()
    }

    fn at(&self, is: impl Fn(&Deed) -> bool) -> usize {
        self.deeds.iter().position(is).unwrap()
    }

    fn content(&mut self) -> &mut ContentSummary {
        &mut self.summary.content
    }

    async fn deed(&self, deed: Deed, sink: &mut dyn EntrySink, control: &Control) -> Result<(), Error> {
        let bytes = if let Deed::Data(chunk) = &deed { chunk.len() as u64 } else { 0 };
        match (control.throttle(bytes), self.habit) {
            (_, Habit::Hurrying) => {}
            (throttled, Habit::Deaf) => drop(throttled.await),
            (throttled, _) => throttled.await?,
        }
        let pushed = push(sink, deed);
        match self.habit {
            Habit::Deaf => pushed.await.map_err(Error::from),
            Habit::Impatient => match timeout(QUIET / 3, pushed).await {
                Ok(pushed) => pushed.map_err(Error::from),
                Err(_) => Err(Error::NotFound("patience".to_owned())),
            },
            _ => control.run(async { pushed.await.map_err(Error::from) }).await,
        }
    }

    async fn ended(&self, error: Error) -> Result<(), Error> {
        match (error, self.habit) {
            (Error::Sink(_), Habit::Swallowing) => Ok(()),
            (Error::Sink(error), Habit::Blaming) => Err(Error::Incomplete(error.to_string())),
            (Error::Cancelled, Habit::Dawdling) => {
                tokio::time::sleep(PROMPT + QUIET).await;
                Err(Error::Cancelled)
            }
            (error, _) => Err(error),
        }
    }
}

async fn push(sink: &mut dyn EntrySink, deed: Deed) -> Result<(), SinkError> {
    match deed {
        Deed::Begin(entry) => sink.begin(entry).await,
        Deed::Data(chunk) => sink.data(chunk).await,
        Deed::End => sink.end().await,
        Deed::Warn(warning) => sink.warning(warning).await,
    }
}

#[async_trait]
impl Source for Sample {
    fn kind(&self) -> &'static str {
        self.kind
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        if self.habit == Habit::Prying {
            self.fetched.fetch_add(PROBED, Ordering::Relaxed);
        }
        Ok(self.probe.clone())
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        if let Some(failure) = self.failure {
            return Err(failure());
        }
        let ahead = if self.habit == Habit::Hoarding { 2003 } else { 10 };
        self.fetched.fetch_add(ahead, Ordering::Relaxed);
        let leaves = self.habit == Habit::Leaving;
        if leaves && self.left.load(Ordering::Relaxed) {
            push(sink, self.deeds[0].clone()).await?;
        }
        self.left.store(leaves, Ordering::Relaxed);
        for deed in self.deeds.clone() {
            match self.deed(deed, sink, control).await {
                Err(Error::NotFound(_)) => break,
                Err(error) => self.ended(error).await?,
                Ok(()) => {}
            }
        }
        self.left.store(false, Ordering::Relaxed);
        Ok(self.summary.clone())
    }
}

/// What is changed of the good one.
type Change = fn(&mut Sample);

/// What the suite says of sources that were changed so, all but the first of them by `later`, too.
async fn verdict(change: Change, later: Change) -> Result<(), String> {
    let mut sample = good();
    change(&mut sample);
    let made = AtomicU32::new(0);
    let make = || {
        let mut sample = sample.clone();
        if made.fetch_add(1, Ordering::Relaxed) > 0 {
            later(&mut sample);
        }
        Box::new(sample) as Box<dyn Source>
    };
    let bench =
        SourceBench::new(make).unreadable(&["d/x"]).fetched(|| sample.fetched.load(Ordering::Relaxed), AHEAD);
    judged(&bench).await
}

async fn judged(bench: &SourceBench<'_>) -> Result<(), String> {
    match AssertUnwindSafe(source(bench)).catch_unwind().await {
        Ok(passed) => passed.map_err(|error| error.to_string()),
        Err(panic) => Err(said(&*panic)),
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap()
}

fn nothing(_: &mut Sample) {}

/// The suite must say `sentence` of each.
async fn assert_rejected(cases: impl IntoIterator<Item = (Change, Change, &'static str)>) {
    let judged = cases.into_iter().map(|(change, later, sentence)| async move {
        let verdict = verdict(change, later).await;
        let told = verdict.as_ref().is_err_and(|told| told.contains(sentence));
        assert!(told, "`{sentence}` was expected, and came: {verdict:?}");
    });
    futures::future::join_all(judged).await;
}

#[tokio::test]
async fn a_good_source_passes() {
    assert_eq!(verdict(nothing, nothing).await, Ok(()));
}

#[tokio::test]
async fn entries_that_break_the_grammar_are_rejected() {
    let cases: [(Change, &str); 13] = [
        (|s| s.deeds.extend_from_within(1..23), "d/f comes twice"),
        (|s| s.deeds.rotate_left(1), "d comes after what lies in it"),
        (|s| s.deeds.push(begin("d/l/y", EntryKind::Directory)), "d/l/y lies in what is no directory"),
        (|s| drop(s.deeds.remove(2)), "d/f is as long as it was promised"),
        (|s| s.deeds.insert(2, s.deeds[2].clone()), "d/f is as long as it was promised"),
        (|s| s.deeds.push(s.deeds[2].clone()), "data outside of a body"),
        (|s| s.deeds.push(Deed::End), "an end without a body"),
        (|s| drop(s.deeds.remove(22)), "d/h begins within another's body"),
        (|s| drop(s.deeds.pop()), "the last body was not ended"),
        (
            |s| s.entry("d/h").kind = EntryKind::Hardlink { target: path("d/s") },
            "d/h is another name of d/s, which is no file that came before",
        ),
        (|s| s.entry("d/f").metadata.mode = 0o10_644, "d/f has mode 10644"),
        (|s| s.entry("d/f").metadata.mtime.nanos = 1_000_000_000, "d/f has odd nanoseconds"),
        (
            |s| s.deeds = vec![begin("d", EntryKind::Directory), warning("it is shut")],
            "the summary counts what the sink got",
        ),
    ];
    assert_rejected(cases.map(|(change, sentence)| (change, nothing as Change, sentence))).await;
}

/// Warns of nothing.
fn silent(sample: &mut Sample) {
    sample.deeds.remove(sample.at(|deed| matches!(deed, Deed::Warn(_))));
    sample.content().warnings = 0;
}

/// Warns of what can be read, too.
fn warning_twice(sample: &mut Sample) {
    sample.deeds.push(warning("another"));
    sample.content().warnings = 2;
}

#[tokio::test]
async fn what_is_told_of_a_pull_and_is_not_so_is_rejected() {
    let cases: [(Change, &str); 17] = [
        (|s| s.kind = "Two Words", "kind `Two Words` is no word"),
        (|s| s.kind = "", "kind `` is no word"),
        (|s| s.content().files += 1, "the summary counts what the sink got"),
        (|s| s.content().bytes -= 1, "the summary counts what the sink got"),
        (|s| s.content().warnings = 0, "the summary counts what the sink got"),
        (silent, "exactly what can't be read is warned of"),
        (warning_twice, "exactly what can't be read is warned of"),
        (|s| s.deeds.push(warning("")), "a warning says what is wrong"),
        (
            |s| {
                s.deeds = vec![begin("d", EntryKind::Directory), warning("it is shut")];
                *s.content() = ContentSummary { directories: 1, warnings: 1, ..ContentSummary::default() };
                s.summary.evidence = Evidence::Walk { directories: 1, files: 0 };
            },
            "there is nothing to test with: no body came",
        ),
        (
            |s| s.summary.evidence = Evidence::Walk { directories: 0, files: 0 },
            "the evidence is of a walk that read nothing",
        ),
        (
            |s| s.summary.evidence = Evidence::Walk { directories: 1, files: 3 },
            "the evidence is of 3 bodies, and the sink got 2",
        ),
        (
            |s| s.summary.evidence = Evidence::Tar { exit_status: 0, entries: 0 },
            "the evidence is of a tar that held nothing",
        ),
        (
            |s| {
                silent(s);
                s.summary.evidence = Evidence::Tar { exit_status: 2, entries: 5 };
            },
            "the evidence is of a tar that failed: it exited with 2",
        ),
        (
            |s| s.summary.evidence = Evidence::Tar { exit_status: 3, entries: 5 },
            "the evidence is of a tar that failed: it exited with 3",
        ),
        (|s| s.summary.evidence = dump(0, "pg_dump 15.18"), "the evidence is of 0 bodies"),
        (|s| s.summary.evidence = dump(2, ""), "the evidence names no tool, or no server"),
        (
            |s| {
                let files = Box::new(Evidence::Walk { directories: 1, files: 2 });
                s.summary.evidence = Evidence::Site { databases: vec![dump(1, "mysqldump 9.7")], files };
            },
            "the evidence is of 3 bodies, and the sink got 2",
        ),
    ];
    assert_rejected(cases.map(|(change, sentence)| (change, nothing as Change, sentence))).await;
}

fn dump(dumps: u64, tool: &str) -> Evidence {
    Evidence::Dump { dumps, tool: tool.to_owned(), server: "PostgreSQL 15.18".to_owned() }
}

#[tokio::test]
async fn two_pulls_that_differ_are_rejected() {
    let cases: [(Change, &str); 6] = [
        (|s| s.deeds.swap(23, 24), "the order is the same each time"),
        (|s| s.deeds[2] = Deed::Data(Bytes::from_static(&[8; 100])), "d/f has the same content each time"),
        (|s| s.entry("d/f").metadata.mode = 0o600, "d/f has the same metadata each time"),
        (
            |s| s.entry("d/l").kind = EntryKind::Symlink { target: b"g".to_vec() },
            "d/l is of the same kind each time",
        ),
        (
            |s| {
                s.deeds.remove(24);
                s.content().symlinks = 0;
            },
            "entries of two pulls",
        ),
        (warning_twice, "warnings of two pulls"),
    ];
    assert_rejected(cases.map(|(later, sentence)| (nothing as Change, later, sentence))).await;
}

#[tokio::test]
async fn bad_probes_are_rejected() {
    let cases: [(Change, &str); 4] = [
        (|s| s.probe.paths.clear(), "a probe tells of every configured path"),
        (|s| s.probe.paths[0].kind = None, "either a kind or an error"),
        (|s| s.probe.paths[0].error = Some("both".to_owned()), "either a kind or an error"),
        (|s| s.habit = Habit::Prying, "it reads no content"),
    ];
    assert_rejected(cases.map(|(change, sentence)| (change, nothing as Change, sentence))).await;
}

#[tokio::test]
async fn bad_habits_are_rejected() {
    let cases: [(Change, &str); 8] = [
        (|s| s.habit = Habit::Hurrying, "the bandwidth's limit was passed"),
        (|s| s.habit = Habit::Deaf, "a cancelled pull ends as cancelled"),
        (|s| s.habit = Habit::Dawdling, "a cancelled pull is over soon, and this one went on for"),
        (|s| s.habit = Habit::Swallowing, "the sink's error is the pull's"),
        (|s| s.habit = Habit::Blaming, "the sink's error is the pull's"),
        (|s| s.habit = Habit::Impatient, "the sink takes nothing, and the pull ended"),
        (|s| s.habit = Habit::Leaving, "d comes twice"),
        (|s| s.habit = Habit::Hoarding, "2003 bytes were fetched that nobody takes; 1000 may be"),
    ];
    assert_rejected(cases.map(|(change, sentence)| (change, nothing as Change, sentence))).await;
}

/// Whether the suite takes this for the failure of one that is refused, and of one that is away.
async fn failing(failure: fn() -> Error) -> [Result<(), String>; 2] {
    let failing = move || Box::new(Sample { failure: Some(failure), ..good() }) as Box<dyn Source>;
    let bench = || SourceBench::new(|| Box::new(good()) as Box<dyn Source>).unreadable(&["d/x"]);
    let (refused, away) = (bench().refused(failing), bench().away(failing));
    let (refused, away) = tokio::join!(judged(&refused), judged(&away));
    [refused, away]
}

#[tokio::test]
async fn failures_that_are_not_told_apart_are_rejected() {
    let permanent = || Error::NotFound("it".to_owned());
    let transient = || Error::Timeout { what: "it".to_owned(), after: QUIET };
    let silent = || Error::io("")(std::io::ErrorKind::PermissionDenied.into());
    let (permanent, transient, silent) =
        tokio::join!(failing(permanent), failing(transient), failing(silent));
    let is_told = |verdict: &Result<(), String>| {
        verdict.as_ref().is_err_and(|told| told.contains("is told as what it is"))
    };
    assert!(permanent[0].is_ok() && is_told(&permanent[1]), "{permanent:?}");
    assert!(is_told(&transient[0]) && transient[1].is_ok(), "{transient:?}");
    let said = silent[0].as_ref().is_err_and(|told| told.contains("an error says what is wrong"));
    assert!(said, "{silent:?}");
}
