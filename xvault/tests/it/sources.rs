//! Sources that misbehave: no snapshot comes of it, and the error tells what they did.

use bytes::Bytes;
use futures::FutureExt;
use xvault::archive::Error as ArchiveError;
use xvault::connectors::{Error as ConnectorError, PullSummary};
use xvault::core::snapshot::ContentSummary;
use xvault::core::{Dispose, Disposition, Entry, EntryKind, EntrySink, Identity, Metadata, SinkError};
use xvault::{Error, MemoryStore, Source};

use crate::support::{Pulled, backup, file, keys, options, path, random, scripted, timely, walked};

async fn fails(mut source: impl Source) -> Error {
    let store = MemoryStore::new().unwrap();
    let error = backup(&mut source, &store, &options(&Identity::generate())).await.unwrap_err();
    assert_eq!(keys(&store).await, Vec::<String>::new(), "{error:?}");
    error
}

async fn whole(sink: &mut dyn EntrySink, name: &str, body: &'static [u8]) -> Result<(), SinkError> {
    sink.begin(file(path(name), body.len())).await?;
    sink.data(Bytes::from_static(body)).await?;
    sink.end().await
}

fn told(files: u64, bytes: u64) -> Pulled {
    let content = ContentSummary { files, bytes, ..ContentSummary::default() };
    Ok(PullSummary { content, evidence: walked(files) })
}

#[tokio::test]
async fn an_error_after_some_entries_is_the_error() {
    let source = scripted(|sink, _| {
        Box::pin(async move {
            whole(sink, "a", b"first").await?;
            Err(ConnectorError::Protocol { server: "there".into(), detail: "nonsense".into() })
        })
    });
    let error = fails(source).await;
    assert!(matches!(error, Error::Source(ConnectorError::Protocol { .. })), "{error:?}");
    assert_eq!(error.to_string(), "source: there breaks the protocol: nonsense");
}

#[tokio::test]
async fn other_numbers_than_the_archive_counted_are_no_backup() {
    for (files, bytes) in [(2, 5), (1, 6), (0, 0)] {
        let source = scripted(move |sink, _| {
            Box::pin(async move {
                whole(sink, "a", b"first").await?;
                told(files, bytes)
            })
        });
        let error = fails(source).await;
        let Error::Evidence { counted, told } = &error else { panic!("{error:?}") };
        assert!(counted.contains("files: 1") && told.contains(&format!("bytes: {bytes}")), "{error}");
        assert_eq!(error.disposition(), Disposition::Permanent);
    }
}

/// Each breaks the grammar, and then says that all is well.
async fn broken(sink: &mut dyn EntrySink, case: usize) -> Result<(), SinkError> {
    match case {
        0 => sink.data(Bytes::from_static(b"x")).await,
        1 => sink.end().await,
        2 => {
            sink.begin(file(path("a"), 3)).await?;
            sink.begin(file(path("b"), 3)).await
        }
        3 => {
            sink.begin(file(path("a"), 3)).await?;
            sink.data(Bytes::from_static(b"xy")).await?;
            sink.end().await
        }
        4 => {
            sink.begin(file(path("a"), 3)).await?;
            sink.data(Bytes::from_static(b"wxyz")).await
        }
        _ => sink.begin(file(path("a"), 3)).await,
    }
}

#[tokio::test]
async fn a_breach_of_the_grammar_is_named() {
    let reasons = [
        "data outside a body",
        "end outside a body",
        "begin within a body",
        "a file ended before its size",
        "data beyond a file's size",
        "finish within a body",
    ];
    for (case, reason) in reasons.into_iter().enumerate() {
        let source = scripted(move |sink, _| {
            Box::pin(async move {
                drop(broken(sink, case).await);
                told(1, 3)
            })
        });
        let error = fails(source).await;
        assert!(matches!(error, Error::Archive(ArchiveError::Misuse(found)) if found == reason), "{error:?}");
    }
}

#[tokio::test]
async fn a_path_that_comes_twice_is_named() {
    let source = scripted(|sink, _| {
        Box::pin(async move {
            whole(sink, "a/b", b"first").await?;
            whole(sink, "a/b", b"second").await?;
            // The sink fails sooner or later, and what the source makes of that hides nothing.
            while whole(sink, "c", b"").await.is_ok() {
                tokio::task::yield_now().await;
            }
            Err(ConnectorError::Incomplete("it would not take more".into()))
        })
    });
    let error = fails(source).await;
    assert!(matches!(error, Error::Archive(ArchiveError::Duplicate { .. })), "{error:?}");
    assert_eq!(error.to_string(), "entry `a/b` appears twice");
}

#[tokio::test]
async fn a_panic_in_a_source_ends_the_backup_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = xvault::FsStore::open(dir.path()).unwrap();
    let job = tokio::spawn(async move {
        let mut source = scripted(|sink, _| {
            Box::pin(async move {
                whole(sink, "a", b"first").await?;
                panic!("the source broke");
            })
        });
        xvault::backup(&mut source, &store, &options(&Identity::generate())).await
    });
    let panic = timely(job).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the source broke"));
    assert_eq!(crate::support::files_in(dir.path()), Vec::<std::path::PathBuf>::new());
}

/// A stream has no size to compare with: only the sink itself can know that a chunk was lost.
#[tokio::test]
async fn a_call_that_was_dropped_half_way_is_not_forgotten() {
    for gives_up in [false, true] {
        let source = scripted(move |sink, _| {
            Box::pin(async move {
                let kind = EntryKind::Stream;
                sink.begin(Entry { path: path("dump"), kind, metadata: Metadata::default() }).await?;
                let (chunk, mut taken) = (random(1 << 20, 1), 0);
                // Nothing takes chunks away while this does not wait: the room ends, and a call is pending.
                while let Some(sent) = sink.data(chunk.clone()).now_or_never() {
                    sent?;
                    taken += chunk.len() as u64;
                    assert!(taken < 1 << 30, "the sink takes everything without waiting");
                }
                let ended = sink.end().await;
                if gives_up {
                    ended?;
                }
                told(1, taken)
            })
        });
        let error = fails(source).await;
        assert!(matches!(error, Error::Source(ConnectorError::Sink(_))), "{error:?}");
        assert_eq!(error.to_string(), "source: a call to the archive was given up before it was done");
        assert_eq!(error.disposition(), Disposition::Permanent);
    }
}
