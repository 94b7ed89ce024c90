//! Who can read a snapshot: the recipients, in the manifest and in fact, and nobody else.

use std::fs;
use std::ops::ControlFlow;

use xvault::core::snapshot::{ARTIFACT_NAME, INDEX_NAME};
use xvault::core::{Identity, LocalSettings, Recipient, seal};
use xvault::{Error, FsStore, LocalSource, ReadBack, Snapshot};
use xvault_testkit::{TreeOptions, assert_same_tree, tools, trees};

use crate::support::{backup, files, only_file, options, path, random};

/// Lines of the age header that wrap the file key for an X25519 recipient.
fn stanzas(file: &std::path::Path) -> usize {
    let bytes = fs::read(file).unwrap();
    let header = bytes.windows(5).position(|window| window == b"\n--- ").unwrap();
    String::from_utf8_lossy(&bytes[..header]).lines().filter(|line| line.starts_with("-> X25519 ")).count()
}

#[tokio::test]
async fn the_real_age_opens_it_and_the_throw_away_recipient_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, out) = (dir.path().join("tree"), dir.path().join("out"));
    trees::small_files(&tree, 20, 3000);
    let (key_file, recipient) = tools::age_keygen(dir.path());
    let user: Recipient = recipient.parse().unwrap();

    let store = FsStore::open(dir.path().join("store")).unwrap();
    let settings = LocalSettings { paths: vec![tree.display().to_string()], excludes: vec![] };
    let mut source = LocalSource::new(&settings).unwrap();
    let options = xvault::BackupOptions::to(vec![user.clone()], "tree".parse().unwrap()).unwrap();
    let manifest = backup(&mut source, &store, &options).await.unwrap();

    assert_eq!(manifest.read_back.mode, ReadBack::Full);
    assert_eq!(manifest.encryption_recipients, std::slice::from_ref(&user));
    assert_eq!(manifest.index_recipients, std::slice::from_ref(&user));
    assert_eq!(manifest.encryption_recipient, user);
    let artifact = only_file(&dir.path().join("store"), ARTIFACT_NAME);
    assert_eq!(stanzas(&artifact), 2, "the user's and the throw-away one");
    tools::age_decrypt_untar(&artifact, &key_file, &out);
    assert_same_tree(&tree, &out.join(tree.strip_prefix("/").unwrap()), &TreeOptions::default());
}

#[tokio::test]
async fn without_read_back_there_is_no_throw_away_recipient() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = FsStore::open(dir.path()).unwrap();
    let options = options(&identity).read_back(ReadBack::Off);
    backup(&mut files(&[("a", random(10, 1))]), &store, &options).await.unwrap();
    assert_eq!(stanzas(&only_file(dir.path(), ARTIFACT_NAME)), 1);
    assert_eq!(stanzas(&only_file(dir.path(), INDEX_NAME)), 1);
}

#[tokio::test]
async fn whoever_may_browse_reads_names_and_no_content() {
    let (dir, owner, browser) = (tempfile::tempdir().unwrap(), Identity::generate(), Identity::generate());
    let store = FsStore::open(dir.path()).unwrap();
    let options = options(&owner).index_recipients(vec![owner.recipient(), browser.recipient()]);
    let manifest = backup(&mut files(&[("a", random(10, 1))]), &store, &options).await.unwrap();

    let snapshot = Snapshot::open(&store, &manifest.key(), vec![browser]).await.unwrap();
    let (names, seen) = std::sync::mpsc::channel();
    let list = move |entry: xvault::ArchiveEntry| {
        names.send(entry.entry.path).unwrap();
        ControlFlow::Continue(())
    };
    snapshot.entries(list).await.unwrap();
    assert_eq!(seen.iter().collect::<Vec<_>>(), [path("a")]);
    let error = snapshot.read_to_vec(&path("a"), 100).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{ARTIFACT_NAME} is encrypted to other keys than the identities given")
    );
}

#[tokio::test]
async fn a_snapshot_that_nobody_could_read_is_refused() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = FsStore::open(dir.path()).unwrap();
    let options = options(&identity).index_recipients(vec![]);
    let error = backup(&mut files(&[("a", random(10, 1))]), &store, &options).await.unwrap_err();
    assert!(matches!(error, Error::Key(seal::Error::NoRecipient)), "{error:?}");
    assert!(xvault::BackupOptions::to(vec![], "s".parse().unwrap()).is_err());
}
