//! Damage between the write and the commit: found, and no snapshot comes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xvault::connectors::Error as ConnectorError;
use xvault::connectors::store::unreliable::{Call, UnreliableStore};
use xvault::core::error::chain;
use xvault::core::monitor::Phase;
use xvault::core::snapshot::{ARTIFACT_NAME, INDEX_NAME};
use xvault::core::{Dispose, Disposition, Identity, Manifest};
use xvault::{BackupOptions, Control, Error, Filter, FsStore, MemoryStore, ReadBack, VerifyOptions};

use crate::support::{Hook, Seen, backup, files, files_in, keys, only_file, options, random};

/// A file lies in the store, and the disk under it rots.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// One bit at this part of the file, in thousandths of its length.
    Flip(usize),
    Cut,
}

fn damage(file: &Path, damage: Damage) {
    let mut bytes = fs::read(file).unwrap();
    match damage {
        Damage::Flip(thousandth) => {
            let last = bytes.len() - 1;
            bytes[last * thousandth / 1000] ^= 1;
        }
        Damage::Cut => bytes.truncate(bytes.len() - 1),
    }
    fs::write(file, bytes).unwrap();
}

/// Damages a staged file when read-back begins.
fn rotting(dir: PathBuf, name: &'static str, how: Damage) -> Control {
    let hook = move |seen| {
        if seen == Seen::Phase(Phase::ReadBack) {
            damage(&only_file(&dir, name), how);
        }
    };
    Control::default().with_progress(Arc::new(Hook(hook)))
}

/// 13 frames of 4 MiB, so that a sample leaves some out.
async fn back_up_13_frames(store: &FsStore, options: &BackupOptions) -> Result<Manifest, Error> {
    let body = random(2 << 20, 1);
    let names: Vec<_> = (0..25).map(|number| format!("data/{number}")).collect();
    let list: Vec<_> = names.iter().map(|name| (name.as_str(), body.clone())).collect();
    backup(&mut files(&list), store, options).await
}

async fn assert_refused(store: &FsStore, dir: &Path, result: Result<Manifest, Error>, case: &str) {
    let Err(error) = result else { panic!("{case} was not found") };
    assert!(matches!(error, Error::ReadBack(_)), "{case}: {error:?}");
    assert_eq!(error.disposition(), Disposition::Transient, "{case}");
    assert_eq!(chain(&error).contains(" bytes instead of "), case.ends_with("Cut"), "{}", chain(&error));
    assert!(xvault::list(store, &Filter::default()).await.unwrap().is_empty(), "{case}");
    assert_eq!(files_in(dir), Vec::<PathBuf>::new(), "{case}");
}

#[tokio::test]
async fn full_read_back_finds_one_flipped_bit_anywhere() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = FsStore::open(dir.path()).unwrap();
    let mut source = files(&[("a", random(300_000, 1)), ("b", random(20, 2))]);
    for name in [ARTIFACT_NAME, INDEX_NAME] {
        for how in [0, 1, 300, 500, 900, 1000].map(Damage::Flip).into_iter().chain([Damage::Cut]) {
            let options = options(&identity).control(rotting(dir.path().to_owned(), name, how));
            let result = backup(&mut source, &store, &options).await;
            assert_refused(&store, dir.path(), result, &format!("{name}, {how:?}")).await;
        }
    }
    // The disk is sound again.
    let manifest = backup(&mut source, &store, &options(&identity)).await.unwrap();
    let report = &manifest.read_back;
    assert_eq!((report.mode, report.entries, report.bytes), (ReadBack::Full, 2, manifest.tar_size_bytes));
    let stored = xvault::list(&store, &Filter::default()).await.unwrap();
    assert_eq!(stored[0].manifest.as_ref().unwrap().read_back, manifest.read_back);
}

#[tokio::test]
async fn a_store_that_changes_what_it_is_given_is_found_out() {
    let identity = Identity::generate();
    let memory = MemoryStore::new().unwrap();
    for name in [ARTIFACT_NAME, INDEX_NAME] {
        let store = UnreliableStore::new(memory.clone()).corrupting(name, 250);
        let mut source = files(&[("a", random(5 << 20, 1))]);
        let error = backup(&mut source, &store, &options(&identity)).await.unwrap_err();
        assert!(matches!(error, Error::ReadBack(_)), "{error:?}");
        assert_eq!(keys(&memory).await, Vec::<String>::new());
    }
}

/// A store that can't answer has not given anything wrong back.
#[tokio::test]
async fn a_store_that_fails_while_it_is_read_back_is_told_as_such() {
    let memory = MemoryStore::new().unwrap();
    let store = UnreliableStore::new(memory.clone()).failing(Call::Read, 1);
    let mut source = files(&[("a", random(20, 1))]);
    let error = backup(&mut source, &store, &options(&Identity::generate())).await.unwrap_err();
    assert!(matches!(error, Error::Store(ConnectorError::Store { .. })), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Transient);
    assert_eq!(keys(&memory).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_sample_finds_damage_at_both_ends_and_says_how_much_it_read() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = FsStore::open(dir.path()).unwrap();
    let sampled = || options(&identity).read_back(ReadBack::Sample);
    let cases = [
        (ARTIFACT_NAME, Damage::Flip(0)),
        (ARTIFACT_NAME, Damage::Flip(20)),
        (ARTIFACT_NAME, Damage::Flip(1000)),
        (ARTIFACT_NAME, Damage::Cut),
        (INDEX_NAME, Damage::Flip(500)),
        (INDEX_NAME, Damage::Cut),
    ];
    for (name, how) in cases {
        let options = sampled().control(rotting(dir.path().to_owned(), name, how));
        let result = back_up_13_frames(&store, &options).await;
        assert_refused(&store, dir.path(), result, &format!("{name}, {how:?}")).await;
    }
    let manifest = back_up_13_frames(&store, &sampled()).await.unwrap();
    let report = manifest.read_back;
    assert_eq!(report.mode, ReadBack::Sample);
    assert!((3..=10).contains(&report.frames), "{report:?}");
    // The last frame is a short one.
    assert!(
        report.bytes > (report.frames - 1) * (4 << 20) && report.bytes < manifest.tar_size_bytes,
        "{report:?}"
    );
}

#[tokio::test]
async fn full_read_back_leaves_no_frame_out() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = FsStore::open(dir.path()).unwrap();
    for tenth in [2, 4, 6, 8] {
        let control = rotting(dir.path().to_owned(), ARTIFACT_NAME, Damage::Flip(tenth * 100));
        let result = back_up_13_frames(&store, &options(&identity).control(control)).await;
        assert_refused(&store, dir.path(), result, &format!("{tenth}/10")).await;
    }
    let manifest = back_up_13_frames(&store, &options(&identity)).await.unwrap();
    assert_eq!((manifest.read_back.entries, manifest.read_back.frames), (25, 13));
}

#[tokio::test]
async fn without_read_back_the_damage_waits_for_verify() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = UnreliableStore::new(FsStore::open(dir.path()).unwrap()).corrupting(ARTIFACT_NAME, 50_000);
    let off = options(&identity).read_back(ReadBack::Off);
    let manifest = backup(&mut files(&[("a", random(100_000, 1))]), &store, &off).await.unwrap();
    assert_eq!((manifest.read_back.mode, manifest.read_back.frames), (ReadBack::Off, 0));
    for verify in [VerifyOptions::default(), VerifyOptions::default().identities(vec![identity])] {
        let error = xvault::verify(&store, &manifest.key(), &verify).await.unwrap_err();
        assert!(error.to_string().contains(ARTIFACT_NAME), "{error}");
        assert_eq!(error.disposition(), Disposition::Permanent);
    }
}
