//! Copies into a second store: the same bytes or none, whatever happens.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use xvault::connectors::snapshot;
use xvault::connectors::store::unreliable::{Call, UnreliableStore};
use xvault::core::error::chain;
use xvault::core::monitor::{Phase, Recorder};
use xvault::core::snapshot::{ARTIFACT_NAME, INDEX_NAME, MANIFEST_NAME, META_NAME, UNREPORTED_NAME};
use xvault::core::{Dispose, Disposition, Identity, Manifest, Meta};
use xvault::{Control, Error, Filter, FsStore, MemoryStore, Snapshot, Store, VerifyOptions};

use crate::support::{Hook, Seen, backup, files, files_in, keys, only_file, options, path, random, timely};
use crate::tripwire::{Fate, tripwire};

const NAMES: [&str; 4] = [ARTIFACT_NAME, INDEX_NAME, META_NAME, MANIFEST_NAME];

/// Some chunks long, in a store on disk.
async fn original(dir: &Path, identity: &Identity) -> (FsStore, Manifest) {
    let store = FsStore::open(dir).unwrap();
    let options = options(identity).unreported();
    let manifest = backup(&mut files(&[("a", random(9 << 20, 1))]), &store, &options).await.unwrap();
    (store, manifest)
}

async fn copy(from: &dyn Store, to: &dyn Store, manifest: &Manifest) -> Result<xvault::CopyReport, Error> {
    timely(xvault::copy(from, to, &manifest.key(), &Control::default())).await
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let named = |file: &std::path::PathBuf| {
        let name = file.strip_prefix(dir.canonicalize().unwrap()).unwrap().display().to_string();
        (name, std::fs::read(file).unwrap())
    };
    files_in(&dir.canonicalize().unwrap()).iter().map(named).collect()
}

#[tokio::test]
async fn a_copy_is_the_same_byte_for_byte_and_needs_neither_key_nor_original() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let (store, manifest) = original(&from, &identity).await;
    let second = FsStore::open(&to).unwrap();
    let recorder = Arc::new(Recorder::default());
    let control = Control::default().with_progress(recorder.clone());
    let report = xvault::copy(&store, &second, &manifest.key(), &control).await.unwrap();
    let stored = manifest.artifact.size_bytes + manifest.index.size_bytes;
    assert_eq!((recorder.phases(), recorder.byte_count()), (vec![Phase::Copy], stored));

    let mut expected = contents(&from);
    expected.retain(|name, _| !name.ends_with(UNREPORTED_NAME));
    assert_eq!(expected.len(), 4);
    assert!(contents(&to) == expected, "the files differ");
    let bytes = expected.values().map(|file| file.len() as u64).sum::<u64>();
    assert_eq!((report.was_there, report.bytes), (false, bytes));

    std::fs::remove_dir_all(&from).unwrap();
    let deep = VerifyOptions::default().identities(vec![identity.clone()]);
    xvault::verify(&second, &manifest.key(), &deep).await.unwrap();
    let snapshot = Snapshot::open(&second, &manifest.key(), vec![identity]).await.unwrap();
    assert_eq!(snapshot.read_to_vec(&path("a"), 10 << 20).await.unwrap(), random(9 << 20, 1));
}

#[tokio::test]
async fn a_copy_that_is_there_is_left_as_it_is() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (store, manifest) = original(dir.path(), &identity).await;
    let second = MemoryStore::new().unwrap();
    copy(&store, &second, &manifest).await.unwrap();
    let refusing = UnreliableStore::new(second).failing(Call::Stage, 1);
    let again = copy(&store, &refusing, &manifest).await.unwrap();
    assert_eq!((again.was_there, again.bytes), (true, 0));
}

/// Damage × file: the error names the file, and nothing is in the other store.
#[tokio::test]
async fn a_damaged_original_is_not_copied() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (store, manifest) = original(&dir.path().join("from"), &identity).await;
    let second = dir.path().join("to");
    let to = FsStore::open(&second).unwrap();
    for name in NAMES {
        let file = only_file(&dir.path().join("from"), name);
        let sound = std::fs::read(&file).unwrap();
        let flipped = |at: usize| {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            bytes
        };
        let cut = sound[..sound.len() - 1].to_vec();
        let longer = [&sound[..], b"x"].concat();
        let (middle, last) = (sound.len() / 2, sound.len() - 1);
        for (damage, bytes) in [
            ("first", flipped(0)),
            ("middle", flipped(middle)),
            ("last", flipped(last)),
            ("cut", cut),
            ("longer", longer),
        ] {
            // It has no checksum: a line break less, say, is no damage that anybody can see.
            if name == META_NAME && Meta::from_json(&bytes).is_ok() {
                continue;
            }
            std::fs::write(&file, bytes).unwrap();
            let error = copy(&store, &to, &manifest).await.unwrap_err();
            let line = chain(&error);
            assert!(matches!(error, Error::Store(_)) && line.contains(name), "{name} {damage}: {line}");
            assert_eq!(error.disposition(), Disposition::Permanent, "{name} {damage}");
            assert_eq!(files_in(&second).len(), 0, "{name} {damage}");
        }
        std::fs::remove_file(&file).unwrap();
        let line = chain(&copy(&store, &to, &manifest).await.unwrap_err());
        assert!(line.contains(name), "{name} missing: {line}");
        std::fs::write(&file, sound).unwrap();
    }
    copy(&store, &to, &manifest).await.unwrap();
}

#[tokio::test]
async fn a_damaged_copy_and_another_snapshot_of_the_same_id_are_named_and_never_replaced() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (store, manifest) = original(&dir.path().join("from"), &identity).await;
    let second = dir.path().join("to");
    let to = FsStore::open(&second).unwrap();
    copy(&store, &to, &manifest).await.unwrap();
    for name in [ARTIFACT_NAME, INDEX_NAME] {
        let file = only_file(&second, name);
        let sound = std::fs::read(&file).unwrap();
        std::fs::write(&file, b"short").unwrap();
        let error = copy(&store, &to, &manifest).await.unwrap_err();
        assert!(matches!(error, Error::SecondStore(_)) && chain(&error).contains(name), "{error:?}");
        assert_eq!(std::fs::read(&file).unwrap(), b"short");
        std::fs::write(&file, sound).unwrap();
    }
    let file = only_file(&second, META_NAME);
    let sound = std::fs::read(&file).unwrap();
    let strange = Meta { worker_id: "another".parse().unwrap(), ..Meta::from_json(&sound).unwrap() };
    for damage in [b"{}".to_vec(), strange.to_json().unwrap().to_vec()] {
        std::fs::write(&file, &damage).unwrap();
        let error = copy(&store, &to, &manifest).await.unwrap_err();
        assert!(matches!(error, Error::SecondStore(_)) && chain(&error).contains(META_NAME), "{error:?}");
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert_eq!(std::fs::read(&file).unwrap(), damage);
    }
    std::fs::write(&file, sound).unwrap();
    let other = Manifest { tags: vec!["other".into()], ..manifest.clone() };
    std::fs::write(only_file(&second, MANIFEST_NAME), other.to_json().unwrap()).unwrap();
    let line = chain(&copy(&store, &to, &manifest).await.unwrap_err());
    assert!(line.contains("another snapshot of this id"), "{line}");
}

#[tokio::test]
async fn a_copy_that_lacks_a_file_is_named_and_never_filled_up() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (store, manifest) = original(&dir.path().join("from"), &identity).await;
    for name in [ARTIFACT_NAME, INDEX_NAME, META_NAME] {
        let second = dir.path().join(format!("to-{name}"));
        let to = FsStore::open(&second).unwrap();
        copy(&store, &to, &manifest).await.unwrap();
        std::fs::remove_file(only_file(&second, name)).unwrap();
        let error = copy(&store, &to, &manifest).await.unwrap_err();
        assert!(matches!(error, Error::SecondStore(_)) && chain(&error).contains(name), "{error:?}");
        assert_eq!(error.disposition(), Disposition::Permanent, "{name}");
        assert_eq!(files_in(&second).len(), 3, "{name}");
    }
}

#[tokio::test]
async fn each_kind_of_call_may_fail_at_either_store_and_the_next_run_copies() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (store, manifest) = original(&dir.path().join("from"), &identity).await;
    for call in [Call::Stage, Call::Open, Call::Write, Call::Close, Call::Commit, Call::Read] {
        let second = dir.path().join(format!("{call:?}"));
        let to = UnreliableStore::new(FsStore::open(&second).unwrap()).failing(call, 1);
        let error = copy(&store, &to, &manifest).await.unwrap_err();
        assert!(matches!(error, Error::SecondStore(_)), "{call:?}: {error:?}");
        assert_eq!(error.disposition(), Disposition::Transient);
        assert_eq!(files_in(&second).len(), 0, "{call:?}");
        copy(&store, &to, &manifest).await.unwrap();
        assert_eq!(files_in(&second).len(), 4);
    }
    let from = UnreliableStore::new(store).failing(Call::Read, 1);
    let error = copy(&from, &MemoryStore::new().unwrap(), &manifest).await.unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error:?}");
}

#[tokio::test]
async fn a_copy_whose_object_is_lost_before_its_manifest_does_not_come_into_being() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (store, manifest) = original(dir.path(), &identity).await;
    for name in [ARTIFACT_NAME, INDEX_NAME, META_NAME] {
        let to = tripwire(Call::Close, name, Fate::Lose);
        let error = copy(&store, &to, &manifest).await.unwrap_err();
        assert!(chain(&error).contains("it is missing"), "{name}: {error:?}");
        assert!(xvault::list(&to, &Filter::default()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_copy_into_a_store_that_never_answers_can_be_stopped() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (store, manifest) = original(dir.path(), &identity).await;
    for call in [Call::Stage, Call::Open, Call::Write, Call::Close, Call::StagedSize] {
        let (to, control) = (tripwire(call, "", Fate::Hang), Control::default());
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            control.cancel_token().cancel();
        };
        let key = manifest.key();
        let (copied, ()) =
            timely(async { tokio::join!(xvault::copy(&store, &to, &key, &control), cancel) }).await;
        assert_eq!(copied.unwrap_err().disposition(), Disposition::Cancelled, "{call:?}");
    }
}

/// Where objects lie in place, what a killed run leaves is in the way of nobody. It dies between two chunks of the artifact.
#[tokio::test]
async fn what_a_killed_copy_left_is_written_over() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (store, manifest) = original(dir.path(), &identity).await;
    let second = tripwire(Call::Write, ARTIFACT_NAME, Fate::HangAfter(1));
    let (key, control) = (manifest.key(), Control::default());
    let until_dead = async {
        while second.hook().met() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = xvault::copy(&store, &second, &key, &control) => panic!("it did not hang: {done:?}"),
        () = timely(until_dead) => {}
    }
    let left = keys(&second).await;
    assert_eq!(left.len(), 2, "index and meta file: {left:?}");
    for object in left {
        let staging = second.stage_again(&key.prefix()).await.unwrap();
        let mut writer = staging.writer(object.rsplit('/').next().unwrap()).await.unwrap();
        writer.write("junk".into()).await.unwrap();
        writer.close().await.unwrap();
    }
    assert!(!copy(&store, &second, &manifest).await.unwrap().was_there);
    xvault::verify(&second, &key, &VerifyOptions::default()).await.unwrap();
}

/// A worker that lost its lease may still be at it when another one is done.
#[tokio::test]
async fn a_copy_that_is_given_up_takes_nothing_from_another_that_is_done() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let (store, manifest) = original(dir.path(), &identity).await;
    let (second, key) = (MemoryStore::new().unwrap(), manifest.key());
    let (late, stop) = (Control::default(), tokio::sync::Notify::new());
    let late = late.clone().with_progress(Arc::new(Hook(|seen| {
        if seen == Seen::Bytes {
            std::thread::sleep(Duration::from_millis(5));
        }
    })));
    let other = async {
        copy(&store, &second, &manifest).await.unwrap();
        late.cancel_token().cancel();
        stop.notify_one();
    };
    let (given_up, ()) = tokio::join!(xvault::copy(&store, &second, &key, &late), other);
    stop.notified().await;
    if let Err(error) = given_up {
        assert_eq!(error.disposition(), Disposition::Cancelled);
    }
    xvault::verify(&second, &key, &VerifyOptions::default()).await.unwrap();
    assert_eq!(keys(&second).await.len(), 4);
    snapshot::manifest(&second, &key).await.unwrap();
}
