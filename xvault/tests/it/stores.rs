//! Stores that fail: the error is theirs and names what was done, nothing is left, and the next run works.

use std::path::PathBuf;
use std::sync::Arc;

use xvault::connectors::snapshot;
use xvault::connectors::store::unreliable::{Call, UnreliableStore};
use xvault::connectors::{Emitter, Error as ConnectorError};
use xvault::core::error::chain;
use xvault::core::snapshot::{ARTIFACT_NAME, INDEX_NAME, MANIFEST_NAME, META_NAME};
use xvault::core::{Dispose, Disposition, Entry, EntryKind, Identity, Metadata, SourceId};
use xvault::{Control, Error, Filter, FsStore, MemoryStore, ReadBack, Source};

use crate::support::{Hook, Seen, backup, files, files_in, keys, options, path, random, scripted, walked};
use crate::tripwire::{Fate, tripwire};

const FAILURES: u64 = 3;

/// Backs up until it works; every failure before is checked. Gives the number of failures.
async fn until_it_works(store: &UnreliableStore, call: Call, nothing_left: impl AsyncFn()) -> u64 {
    let identity = Identity::generate();
    let mut source = files(&[("a", random(6 << 20, 1))]);
    for failures in 0..=FAILURES {
        match backup(&mut source, store, &options(&identity)).await {
            Ok(_) => return failures,
            Err(error) => {
                assert_eq!(error.disposition(), Disposition::Transient, "{error:?}");
                let line = chain(&error);
                assert!(
                    line.contains(&format!("{call:?} ")) && line.contains("told to fail"),
                    "{call:?}: {line}"
                );
                nothing_left().await;
            }
        }
    }
    panic!("{call:?} never works again");
}

#[tokio::test]
async fn each_kind_of_call_may_fail_at_first_on_disk() {
    for call in [Call::Stage, Call::Write, Call::Close, Call::Read, Call::Commit] {
        let dir = tempfile::tempdir().unwrap();
        let store = UnreliableStore::new(FsStore::open(dir.path()).unwrap()).failing(call, FAILURES);
        let failures = until_it_works(&store, call, async || {
            assert_eq!(files_in(dir.path()), Vec::<PathBuf>::new(), "{call:?}");
        });
        assert!(failures.await >= 1, "{call:?}");
        assert_eq!(xvault::list(&store, &Filter::default()).await.unwrap().len(), 1, "{call:?}");
        assert_eq!(files_in(dir.path()).len(), 4, "{call:?}");
    }
}

#[tokio::test]
async fn each_kind_of_call_may_fail_at_first_in_memory() {
    for call in [Call::Stage, Call::Write, Call::Close, Call::Read, Call::Commit] {
        let memory = MemoryStore::new().unwrap();
        let store = UnreliableStore::new(memory.clone()).failing(call, FAILURES);
        let failures = until_it_works(&store, call, async || {
            assert_eq!(keys(&memory).await, Vec::<String>::new(), "{call:?}");
        });
        assert!(failures.await >= 1, "{call:?}");
        assert_eq!(keys(&memory).await.len(), 4, "{call:?}");
    }
}

#[tokio::test]
async fn listing_and_deleting_may_fail_at_first() {
    let store = UnreliableStore::new(MemoryStore::new().unwrap());
    let identity = Identity::generate();
    let manifest = backup(&mut files(&[("a", random(10, 1))]), &store, &options(&identity)).await.unwrap();

    let store = store.failing(Call::List, 1).failing(Call::Delete, 1);
    let error = xvault::list(&store, &Filter::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "store: List tenants");
    assert_eq!(error.disposition(), Disposition::Transient);
    assert_eq!(xvault::list(&store, &Filter::default()).await.unwrap().len(), 1);

    assert!(snapshot::delete(&store, &manifest.key()).await.is_err());
    snapshot::delete(&store, &manifest.key()).await.unwrap();
    assert_eq!(keys(&store).await, Vec::<String>::new());
}

/// One of the two files failing makes the other one be given up: that is no cause to tell.
#[tokio::test]
async fn the_error_is_that_of_the_object_that_failed() {
    for name in [ARTIFACT_NAME, INDEX_NAME] {
        for call in [Call::Write, Call::Close] {
            let store = tripwire(call, name, Fate::Fail);
            let mut source = files(&[("a", random(20 << 20, 1))]);
            let error = backup(&mut source, &store, &options(&Identity::generate())).await.unwrap_err();
            let Error::Store(ConnectorError::Incomplete(told)) = &error else { panic!("{error:?}") };
            assert_eq!(*told, format!("{call:?} {name} went wrong"));
            assert_eq!(keys(&store).await, Vec::<String>::new());
        }
    }
}

/// Links whose targets make the index as large as the artifact, so that it is written, and fails, in the middle.
fn links() -> impl Source {
    scripted(|sink, control| {
        Box::pin(async move {
            let mut emitter = Emitter::new(sink, control);
            for number in 0..5000 {
                let target = random(1500, number).iter().map(|byte| byte % 90 + 33).collect();
                let (path, kind) = (path(&format!("link/{number}")), EntryKind::Symlink { target });
                emitter.whole(Entry { path, kind, metadata: Metadata::default() }).await?;
            }
            Ok(emitter.finish(walked(0)))
        })
    })
}

#[tokio::test]
async fn an_index_that_fails_while_the_artifact_is_written_is_the_cause() {
    for name in [ARTIFACT_NAME, INDEX_NAME] {
        let store = tripwire(Call::Write, name, Fate::Fail);
        let error = backup(&mut links(), &store, &options(&Identity::generate())).await.unwrap_err();
        assert_eq!(error.to_string(), format!("store: incomplete: Write {name} went wrong"));
    }
}

#[tokio::test]
async fn a_commit_that_fails_after_the_fact_leaves_no_snapshot_that_nobody_knows_of() {
    let store = tripwire(Call::Commit, MANIFEST_NAME, Fate::Fail);
    let error = backup(&mut files(&[("a", random(10, 1))]), &store, &options(&Identity::generate())).await;
    assert_eq!(chain(&error.unwrap_err()), "store: incomplete: Commit manifest.json went wrong");
    assert_eq!(keys(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_object_that_is_lost_before_the_commit_makes_no_snapshot() {
    for name in [ARTIFACT_NAME, INDEX_NAME, META_NAME] {
        let store = tripwire(Call::Close, name, Fate::Lose);
        let options = options(&Identity::generate()).read_back(ReadBack::Off);
        let Err(error) = backup(&mut files(&[("a", random(10, 1))]), &store, &options).await else {
            panic!("{name} is lost")
        };
        assert!(matches!(error, Error::ReadBack(_)), "{error:?}");
        assert_eq!(error.disposition(), Disposition::Transient);
        assert!(chain(&error).ends_with(&format!("{name}: it is missing")), "{}", chain(&error));
        assert_eq!(keys(&store).await, Vec::<String>::new());
    }
}

/// The writers of the local store make missing directories, without a word.
#[tokio::test]
async fn a_staging_that_is_removed_in_mid_run_makes_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path().join("store")).unwrap();
    let snapshots = format!("store/tenants/local/sources/{}/snapshots", SourceId::derive("test"));
    let (staging, away) = (dir.path().join(snapshots).join(".x.staging"), dir.path().join("away"));
    let hook = move |seen| {
        if seen == Seen::Bytes && !away.exists() {
            std::fs::rename(&staging, &away).unwrap();
        }
    };
    let options = options(&Identity::generate()).read_back(ReadBack::Off).snapshot("x".parse().unwrap());
    let options = options.control(Control::default().with_progress(Arc::new(Hook(hook))));
    let result = backup(&mut files(&[("a", random(6 << 20, 1))]), &store, &options).await;
    let Err(error) = result else { panic!("the artifact is lost") };
    assert!(chain(&error).ends_with("the staging directory was removed during the backup"), "{error:?}");
    assert!(xvault::list(&store, &Filter::default()).await.unwrap().is_empty());
    assert_eq!(files_in(&dir.path().join("store")), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_a_backup_returns_is_what_the_store_holds() {
    let store = MemoryStore::new().unwrap();
    let options = options(&Identity::generate());
    let manifest = backup(&mut files(&[("a", random(10, 1))]), &store, &options).await.unwrap();
    assert!(manifest.checksum.starts_with("sha256:"), "{}", manifest.checksum);
    assert_eq!(snapshot::manifest(&store, &manifest.key()).await.unwrap(), manifest);
}

#[tokio::test]
async fn a_failing_read_is_told_as_the_stores_own_error() {
    let store = UnreliableStore::new(MemoryStore::new().unwrap());
    let identity = Identity::generate();
    let manifest = backup(&mut files(&[("a", random(10, 1))]), &store, &options(&identity)).await.unwrap();
    let snapshot = xvault::Snapshot::open(&store, &manifest.key(), vec![identity]).await.unwrap();
    let path = path("a");
    let _ = store.clone().failing(Call::Read, 1);
    let error = snapshot.read_to_vec(&path, 100).await.unwrap_err();
    assert!(matches!(error, Error::Store(ConnectorError::Store { .. })), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Transient);
    assert_eq!(snapshot.read_to_vec(&path, 100).await.unwrap(), random(10, 1));
}
