//! The suite for sources.

mod evidence;
#[cfg(test)]
mod tests;
mod witness;

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use xvault_core::{Dispose, Disposition};

use crate::{Control, Error, PullSummary, Source};
use witness::{Body, Seen, Temper, Witness};

/// Nothing of the suite takes longer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How soon a cancelled job must be over.
const PROMPT: Duration = Duration::from_secs(10);
/// What a probe may fetch: logins, greetings, and looks at paths.
const PROBED: u64 = 1 << 20;
/// Nothing more was fetched for so long: then nothing more is.
const QUIET: Duration = Duration::from_millis(700);

type Make<'a> = Box<dyn Fn() -> Box<dyn Source> + Send + Sync + 'a>;
type Count<'a> = Box<dyn Fn() -> u64 + Send + Sync + 'a>;

/// A source under test, and what is known of the system behind it.
///
/// The system must hold still, with at least one body in it. What is not told is not tested.
pub struct SourceBench<'a> {
    make: Make<'a>,
    unreadable: Vec<String>,
    refused: Option<Make<'a>>,
    away: Option<Make<'a>>,
    fetched: Option<(Count<'a>, u64)>,
    dates_itself: bool,
}

impl<'a> SourceBench<'a> {
    /// Each call makes another source of the same settings.
    pub fn new(make: impl Fn() -> Box<dyn Source> + Send + Sync + 'a) -> Self {
        let (refused, away, fetched) = (None, None, None);
        Self { make: Box::new(make), unreadable: Vec::new(), refused, away, fetched, dates_itself: false }
    }

    /// Entries that can't be read, by their paths in the archive: each must become a warning, and nothing else may.
    #[must_use]
    pub fn unreadable(self, paths: &[&str]) -> Self {
        Self { unreadable: paths.iter().map(|path| (*path).to_owned()).collect(), ..self }
    }

    /// Sources that are not let in, or whose configured path is not there: a permanent error.
    #[must_use]
    pub fn refused(self, make: impl Fn() -> Box<dyn Source> + Send + Sync + 'a) -> Self {
        Self { refused: Some(Box::new(make)), ..self }
    }

    /// Sources of a system that is not there, and may be tomorrow: a transient error.
    #[must_use]
    pub fn away(self, make: impl Fn() -> Box<dyn Source> + Send + Sync + 'a) -> Self {
        Self { away: Some(Box::new(make)), ..self }
    }

    /// How many bytes have come from the system so far, as a proxy before it counts them; and how many may come that the sink has not
    /// taken yet. There must be more content than that, for this to mean anything.
    #[must_use]
    pub fn fetched(self, count: impl Fn() -> u64 + Send + Sync + 'a, ahead: u64) -> Self {
        Self { fetched: Some((Box::new(count), ahead)), ..self }
    }

    /// Bodies that hold the time at which they were made, as dumps do: two pulls may differ in them.
    #[must_use]
    pub fn dates_itself(self) -> Self {
        Self { dates_itself: true, ..self }
    }
}

/// Runs the suite against sources of one kind.
///
/// # Errors
/// What a source fails at.
///
/// # Panics
/// When a source does something else than [`Source`] promises.
pub async fn source(bench: &SourceBench<'_>) -> Result<(), Error> {
    let content = pulls_the_same_twice(bench).await?;
    probes_without_reading(bench, &content).await?;
    keeps_to_the_bandwidth(bench, &content).await?;
    is_over_soon_when_cancelled(bench).await;
    passes_the_sinks_error_on(bench).await;
    stops_when_it_is_dropped(bench).await?;
    waits_for_the_sink(bench, &content).await;
    tells_permanent_from_transient(bench).await;
    Ok(())
}

async fn pulled(source: &mut dyn Source, sink: &mut Witness) -> Result<PullSummary, Error> {
    let control = Control::default();
    in_time(source.pull(sink, &control)).await
}

#[expect(clippy::panic, reason = "a test suite for sources")]
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("nothing came of it within {PATIENCE:?}"),
    }
}

/// Same entries, in the same order, with the same bodies and warnings; and the summary counts what the sink got.
async fn pulls_the_same_twice(bench: &SourceBench<'_>) -> Result<Seen, Error> {
    let (mut first, mut second) = (Witness::default(), Witness::new(Temper::Slow));
    let mut source = (bench.make)();
    let kind = source.kind();
    assert!(
        !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
        "kind `{kind}` is no word"
    );
    let summary = pulled(&mut *source, &mut first).await?;
    let again = pulled(&mut *(bench.make)(), &mut second).await?;
    let (first, second) = (first.finish(&summary), second.finish(&again));
    assert_eq!(summary.content, first.content, "the summary counts what the sink got");
    assert_eq!(again.content, second.content, "the summary counts what a slow sink got");
    for summary in [&summary, &again] {
        let fault = evidence::fault(&summary.evidence, &summary.content);
        assert!(fault.is_none(), "{}", fault.unwrap_or_default());
    }
    assert_eq!(
        first.warned(),
        bench.unreadable,
        "exactly what can't be read is warned of, in order of pulling"
    );
    assert_eq!(first.warned(), second.warned(), "warnings of two pulls");
    assert_same(&first, &second, bench.dates_itself);
    Ok(first)
}

fn assert_same(first: &Seen, second: &Seen, dates_itself: bool) {
    assert!(
        first.entries.iter().any(|(_, body)| body.is_some()),
        "there is nothing to test with: no body came"
    );
    assert_eq!(first.entries.len(), second.entries.len(), "entries of two pulls");
    for ((entry, body), (other, other_body)) in first.entries.iter().zip(&second.entries) {
        assert_eq!(entry.path, other.path, "the order is the same each time");
        let path = &entry.path;
        assert_eq!(entry.kind, other.kind, "{path} is of the same kind each time");
        if !dates_itself {
            assert_eq!(entry.metadata, other.metadata, "{path} has the same metadata each time");
            let [hash, other_hash] = [body, other_body].map(|body| body.as_ref().map(Body::hash));
            assert_eq!(hash, other_hash, "{path} has the same content each time");
        }
    }
}

/// A probe tells of every path, takes little, and a pull by the same source may follow it.
async fn probes_without_reading(bench: &SourceBench<'_>, content: &Seen) -> Result<(), Error> {
    let mut source = (bench.make)();
    let before = fetched(bench);
    let probe = in_time(source.probe()).await?;
    assert!(!probe.paths.is_empty(), "a probe tells of every configured path");
    for path in &probe.paths {
        assert!(path.kind.is_some() != path.error.is_some(), "either a kind or an error: {path:?}");
    }
    let took = fetched(bench).saturating_sub(before);
    assert!(took < PROBED, "a probe fetched {took} bytes: it reads no content");
    let mut sink = Witness::default();
    let summary = pulled(&mut *source, &mut sink).await?;
    assert_same(content, &sink.finish(&summary), bench.dates_itself);
    Ok(())
}

fn fetched(bench: &SourceBench<'_>) -> u64 {
    bench.fetched.as_ref().map_or(0, |(count, _)| count())
}

/// Under a limit that content takes a second of, it takes most of a second.
async fn keeps_to_the_bandwidth(bench: &SourceBench<'_>, content: &Seen) -> Result<(), Error> {
    let Some(limit) = NonZeroU64::new(content.content.bytes) else { return Ok(()) };
    let control = Control::default().with_bandwidth(limit);
    let begun = Instant::now();
    in_time((bench.make)().pull(&mut Witness::default(), &control)).await?;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(600), "the bandwidth's limit was passed: all came within {took:?}");
    Ok(())
}

/// Before it begins, at the first entry, and while the sink holds it up.
async fn is_over_soon_when_cancelled(bench: &SourceBench<'_>) {
    for temper in [None, Some(Temper::Cancels), Some(Temper::CancelsLater)] {
        let cancel = CancellationToken::new();
        let mut sink =
            temper.map_or_else(Witness::default, |temper| Witness::cancelling(temper, cancel.clone()));
        let control = Control::default().with_cancel(cancel.clone());
        if temper.is_none() {
            cancel.cancel();
        }
        let mut source = (bench.make)();
        let pull = async {
            let ended = source.pull(&mut sink, &control).await;
            (ended, Instant::now())
        };
        let since = async {
            cancel.cancelled().await;
            Instant::now()
        };
        let ((ended, at), since) = in_time(async { tokio::join!(pull, since) }).await;
        let disposition = ended.as_ref().err().map(Dispose::disposition);
        let cancelled = Some(Disposition::Cancelled);
        assert_eq!(disposition, cancelled, "a cancelled pull ends as cancelled: {temper:?}: {ended:?}");
        let after = at.saturating_duration_since(since);
        assert!(
            after < PROMPT,
            "a cancelled pull is over soon, and this one went on for {after:?}: {temper:?}"
        );
    }
}

/// What the sink says is what the job says: a full disk is no trouble of the source.
async fn passes_the_sinks_error_on(bench: &SourceBench<'_>) {
    for (temper, disposition) in [
        (Temper::BreaksFor(Disposition::Transient), Disposition::Transient),
        (Temper::BreaksFor(Disposition::Permanent), Disposition::Permanent),
    ] {
        let mut sink = Witness::new(temper);
        let ended = pulled(&mut *(bench.make)(), &mut sink).await;
        assert!(matches!(ended, Err(Error::Sink(_))), "the sink's error is the pull's: {ended:?}");
        let told = ended.err().map(|error| error.disposition());
        assert_eq!(told, Some(disposition), "the sink's error is of the same kind as the pull's");
    }
}

/// A pull that is dropped is over, and the next one begins as if it had not been.
async fn stops_when_it_is_dropped(bench: &SourceBench<'_>) -> Result<(), Error> {
    let control = Control::default();
    let mut stuck = Witness::new(Temper::Stuck);
    let mut source = (bench.make)();
    let dropped = timeout(QUIET, source.pull(&mut stuck, &control)).await;
    assert!(dropped.is_err(), "the sink takes nothing, and the pull ended: {:?}", dropped.ok());
    drop(source);
    let mut sink = Witness::default();
    let summary = pulled(&mut *(bench.make)(), &mut sink).await?;
    sink.finish(&summary);
    Ok(())
}

/// While the sink takes nothing, no more is fetched than fits a buffer.
async fn waits_for_the_sink(bench: &SourceBench<'_>, content: &Seen) {
    let Some((count, ahead)) = &bench.fetched else { return };
    assert!(
        content.content.bytes > *ahead,
        "there is nothing to test with: {ahead} bytes may be fetched ahead, and no more are there"
    );
    let (mut stuck, control, before) = (Witness::new(Temper::Stuck), Control::default(), count());
    let mut source = (bench.make)();
    let quiet = async {
        let mut last = u64::MAX;
        while std::mem::replace(&mut last, count()) != last || last == before {
            tokio::time::sleep(QUIET).await;
        }
        last - before
    };
    let fetched = tokio::select! {
        ended = source.pull(&mut stuck, &control) => { assert!(ended.is_err(), "the sink takes nothing"); 0 }
        fetched = in_time(quiet) => fetched,
    };
    assert!(fetched <= *ahead, "{fetched} bytes were fetched that nobody takes; {ahead} may be");
}

async fn tells_permanent_from_transient(bench: &SourceBench<'_>) {
    let cases = [(&bench.refused, Disposition::Permanent), (&bench.away, Disposition::Transient)];
    for (make, disposition) in cases {
        let Some(make) = make else { continue };
        let ended = pulled(&mut *make(), &mut Witness::default()).await;
        let told = ended.as_ref().err().map(Dispose::disposition);
        assert_eq!(told, Some(disposition), "the failure of a system is told as what it is: {ended:?}");
        let error = ended.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!error.is_empty(), "an error says what is wrong");
    }
}
