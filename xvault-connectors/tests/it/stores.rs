//! Every store keeps the contract, and a local one survives what happens to disks and processes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use xvault_connectors::store::unreliable::{Call, UnreliableStore};
use xvault_connectors::{FsStore, MemoryStore, Store, Swept, conformance};
use xvault_core::{Dispose, Disposition};
use xvault_testkit::SmallFs;

const PREFIX: &str = "tenants/t/sources/s/snapshots/x";

#[tokio::test]
async fn local_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::store(&FsStore::open(dir.path()).unwrap()).await.unwrap();
}

#[tokio::test]
async fn memory_conforms() {
    conformance::store(&MemoryStore::new().unwrap()).await.unwrap();
}

#[tokio::test]
async fn the_unreliable_wrapper_conforms_while_it_is_told_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = UnreliableStore::new(FsStore::open(dir.path()).unwrap());
    conformance::store(&store).await.unwrap();
    conformance::store(&UnreliableStore::new(MemoryStore::new().unwrap())).await.unwrap();
}

#[tokio::test]
async fn told_failures_are_transient_and_end() {
    let store = UnreliableStore::new(MemoryStore::new().unwrap()).failing(Call::Stage, 2);
    for _ in 0..2 {
        assert_eq!(store.stage(PREFIX).await.unwrap_err().disposition(), Disposition::Transient);
    }
    store.stage(PREFIX).await.unwrap();
}

#[tokio::test]
async fn a_corrupting_store_changes_exactly_one_bit() {
    let store = UnreliableStore::new(MemoryStore::new().unwrap()).corrupting("body", 9);
    let staging = store.stage(PREFIX).await.unwrap();
    let mut writer = staging.writer("body").await.unwrap();
    for _ in 0..4 {
        writer.write(Bytes::from_static(b"aaaa")).await.unwrap();
    }
    writer.close().await.unwrap();
    assert_eq!(staging.read("body", 0..16).await.unwrap(), "aaaaaaaaa`aaaaaa");
}

#[tokio::test]
async fn nothing_is_visible_before_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let staging = store.stage(PREFIX).await.unwrap();
    let mut writer = staging.writer("body").await.unwrap();
    writer.write(Bytes::from_static(b"half")).await.unwrap();
    assert!(!dir.path().join(PREFIX).exists());
    writer.close().await.unwrap();
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    let mut names: Vec<_> =
        fs::read_dir(dir.path().join(PREFIX)).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["body", "manifest.json"]);
}

#[tokio::test]
async fn two_runs_can_not_stage_the_same_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let _first = store.stage(PREFIX).await.unwrap();
    let error = store.stage(PREFIX).await.unwrap_err().to_string();
    assert!(error.contains(PREFIX), "{error}");
}

#[tokio::test]
async fn the_sweep_takes_the_dead_and_leaves_the_living() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let living = store.stage(PREFIX).await.unwrap();
    // What a killed process leaves: a staging that nobody holds a lock on.
    let dead = dir.path().join("tenants/t/sources/s/snapshots/.y.staging");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("backup.tar.zst.enc"), b"half").unwrap();

    let swept = store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(swept, Swept { removed: 1, in_use: 1, failed: 0 });
    assert!(!dead.exists());
    living.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(store.sweep(Duration::ZERO).await.unwrap(), Swept::default());
    assert!(dir.path().join(PREFIX).join("manifest.json").exists());
}

/// Somebody removes the staging in mid-run; what is written then must not become a snapshot without the rest.
#[tokio::test]
async fn a_staging_that_was_removed_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let staging = store.stage(PREFIX).await.unwrap();
    fs::remove_dir(staging_path(dir.path())).unwrap();
    let Err(error) = staging.writer("meta.json").await else { panic!("it was made again") };
    let told = xvault_core::error::chain(&error);
    assert!(told.contains("meta.json") && told.contains("was removed during the backup"), "{told}");
    assert!(!staging_path(dir.path()).exists());
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap_err();
    assert!(!staging_path(dir.path()).exists() && !dir.path().join(PREFIX).exists());
}

#[tokio::test]
async fn a_staging_that_was_replaced_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let staging = store.stage(PREFIX).await.unwrap();
    // A writer that was open already makes the directory again in some moments.
    fs::rename(staging_path(dir.path()), dir.path().join("elsewhere")).unwrap();
    fs::create_dir(staging_path(dir.path())).unwrap();
    let error = staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap_err();
    let told = xvault_core::error::chain(&error);
    assert!(told.contains(PREFIX) && told.contains("was removed during the backup"), "{told}");
    assert!(!dir.path().join(PREFIX).exists());
    assert!(!staging_path(dir.path()).exists(), "nobody holds it");
}

#[tokio::test]
async fn a_staging_that_another_run_holds_now_is_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let first = store.stage(PREFIX).await.unwrap();
    fs::remove_dir(staging_path(dir.path())).unwrap();
    let second = store.stage(PREFIX).await.unwrap();
    first.commit("manifest.json", Bytes::from_static(b"first")).await.unwrap_err();
    second.commit("manifest.json", Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(store.read(&format!("{PREFIX}/manifest.json"), 0..9).await.unwrap(), "second");
}

fn staging_path(root: &Path) -> PathBuf {
    root.join("tenants/t/sources/s/snapshots/.x.staging")
}

#[test]
fn a_sweep_goes_on_past_what_it_may_not_remove() {
    const CHILD: &str = "XVAULT_TEST_SWEEPER";
    const NOBODY: u32 = 65534;
    if let Some(root) = std::env::var_os(CHILD) {
        return sweep_as_nobody(Path::new(&root));
    }
    let dir = tempfile::tempdir().unwrap();
    let [foreign, closed, own] = ["foreign", "closed", "own"].map(|tenant| {
        let staging = dir.path().join(format!("tenants/{tenant}/sources/s/snapshots/.x.staging"));
        fs::create_dir_all(&staging).unwrap();
        fs::write(staging.join("backup.tar.zst.enc"), b"half").unwrap();
        staging
    });
    for path in [own.as_path(), own.parent().unwrap()] {
        chown(path, Some(NOBODY), None).unwrap();
    }
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    allow(dir.path(), 0o755);
    allow(&dir.path().join("tenants/closed"), 0o700);
    // As another user: root may remove anything. From a copy, since that user may not reach where we were built.
    let program = dir.path().join("sweeper");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    allow(&program, 0o755);
    let mut child = Command::new(program);
    child.args(["--exact", "stores::a_sweep_goes_on_past_what_it_may_not_remove"]).env(CHILD, dir.path());
    let ran = child.uid(NOBODY).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    assert_eq!([foreign, closed, own].map(|path| path.exists()), [true, true, false]);
}

#[tokio::main(flavor = "current_thread")]
async fn sweep_as_nobody(root: &Path) {
    let swept = FsStore::open(root).unwrap().sweep(Duration::ZERO).await.unwrap();
    assert_eq!(swept, Swept { removed: 1, in_use: 0, failed: 2 });
}

#[tokio::test]
async fn a_sweep_looks_into_nothing_that_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    assert_eq!(store.sweep(Duration::ZERO).await.unwrap(), Swept::default());
    let foreign = dir.path().join("photos/.holiday.staging");
    fs::create_dir_all(&foreign).unwrap();
    assert_eq!(store.sweep(Duration::ZERO).await.unwrap(), Swept::default());
    assert!(foreign.exists());
}

#[test]
fn a_killed_run_leaves_no_snapshot_and_the_next_sweep_removes_the_rest() {
    const CHILD: &str = "XVAULT_TEST_KILLED";
    if let Some(root) = std::env::var_os(CHILD) {
        return stage_until_killed(Path::new(&root));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    let name = "stores::a_killed_run_leaves_no_snapshot_and_the_next_sweep_removes_the_rest";
    child.args(["--exact", name, "--nocapture"]).env(CHILD, dir.path());
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let staged = BufReader::new(child.stdout.take().unwrap()).lines().any(|line| line.unwrap() == "staged");
    let sweep = || async { FsStore::open(dir.path()).unwrap().sweep(Duration::ZERO).await.unwrap() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let alive = runtime.block_on(sweep());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(staged);
    assert_eq!(alive, Swept { in_use: 1, ..Swept::default() });
    assert!(!dir.path().join(PREFIX).exists());
    assert_eq!(runtime.block_on(sweep()), Swept { removed: 1, ..Swept::default() });
}

#[tokio::main(flavor = "current_thread")]
async fn stage_until_killed(root: &Path) {
    let staging = FsStore::open(root).unwrap().stage(PREFIX).await.unwrap();
    let mut writer = staging.writer("body").await.unwrap();
    writer.write(Bytes::from_static(b"half")).await.unwrap();
    std::io::stdout().write_all(b"\nstaged\n").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let small = SmallFs::mount(1 << 20);
    let store = FsStore::open(small.path()).unwrap();
    let staging = store.stage(PREFIX).await.unwrap();
    let mut writer = staging.writer("body").await.unwrap();
    let error = loop {
        let written = writer.write(Bytes::from(vec![1; 100_000])).await;
        if let Err(error) = written {
            break error;
        }
    };
    assert_eq!(error.disposition(), Disposition::Transient);
    let told = xvault_core::error::chain(&error);
    assert!(told.contains("body") && told.contains("No space left"), "{told}");
    writer.abort().await.unwrap();
    staging.abandon().await.unwrap();
    assert_eq!(fs::read_dir(small.join(PREFIX).parent().unwrap()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_dropped_staging_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    drop(store.stage(PREFIX).await.unwrap());
    assert_eq!(fs::read_dir(dir.path().join(PREFIX).parent().unwrap()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_store_that_can_not_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let error = FsStore::open(file.join("store")).unwrap_err().to_string();
    assert!(error.contains("file/store"), "{error}");
}
