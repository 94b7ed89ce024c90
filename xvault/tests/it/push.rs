//! Restores to real OpenSSH servers: whole, resumed, refused, and never outside the directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use xvault::connectors::ssh::{HostKeyPolicy, SshCredential, SshOptions, SshTimeouts};
use xvault::connectors::{Error as ConnectorError, LocalSource};
use xvault::core::error::chain;
use xvault::core::secret::SecretString;
use xvault::core::snapshot::ARTIFACT_NAME;
use xvault::core::{
    Dispose, Disposition, EntryPath, Identity, LocalSettings, Overwrite, SnapshotKey, SshSettings,
};
use xvault::{Control, Error, ExtractStats, FsStore, SftpTarget, SftpTargetOptions, Snapshot};
use xvault_testkit::trees::{self, set_mtime};
use xvault_testkit::{FaultProxy, MtimeMatch, SmallFs, Sshd, TreeOptions, assert_same_tree};

use crate::support::{Hook, Seen, backup, files_in, only_file, options, random, timely};

/// A snapshot of a tree of this machine.
struct World {
    dir: tempfile::TempDir,
    tree: PathBuf,
    store: FsStore,
    key: SnapshotKey,
    identity: Identity,
}

impl World {
    async fn new(fill: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fill(&tree);
        let store = FsStore::open(dir.path().join("store")).unwrap();
        let identity = Identity::generate();
        let settings = LocalSettings { paths: vec![tree.display().to_string()], excludes: Vec::new() };
        let mut source = LocalSource::new(&settings).unwrap();
        let key = backup(&mut source, &store, &options(&identity)).await.unwrap().key();
        Self { dir, tree, store, key, identity }
    }

    async fn push(&self, target: &mut SftpTarget, control: &Control) -> Result<ExtractStats, Error> {
        let identities = vec![self.identity.clone()];
        let snapshot = Snapshot::open(&self.store, &self.key, identities).await.unwrap();
        let path = EntryPath::from_source(self.tree.as_os_str().as_encoded_bytes()).unwrap().unwrap();
        timely(snapshot.restore_to(target, &[path], control)).await
    }

    /// Restores to `directory` with these rules.
    async fn push_to(
        &self,
        server: &SshOptions,
        directory: &Path,
        overwrite: Overwrite,
    ) -> Result<ExtractStats, Error> {
        self.push(&mut target(server, directory, overwrite), &Control::default()).await
    }

    /// Where the tree stands below `directory`.
    fn restored(&self, directory: &Path) -> PathBuf {
        directory.join(self.tree.strip_prefix("/").unwrap())
    }
}

fn target(server: &SshOptions, directory: &Path, overwrite: Overwrite) -> SftpTarget {
    let owner = server.username == "root";
    let directory = directory.display().to_string();
    SftpTarget::new(server.clone(), SftpTargetOptions { directory, overwrite, owner })
}

fn server_at(sshd: &Sshd, port: u16) -> SshOptions {
    let settings = SshSettings {
        host: "127.0.0.1".into(),
        port,
        username: sshd.user.clone(),
        paths: Vec::new(),
        use_password: false,
        excludes: Vec::new(),
        host_key: None,
        hooks: Default::default(),
    };
    let pem = SecretString::from(fs::read_to_string(&sshd.key_path).unwrap());
    let options = SshOptions::new(&settings, SshCredential::PrivateKey { pem, passphrase: None });
    let timeouts = SshTimeouts { idle: Duration::from_secs(10), ..options.timeouts };
    SshOptions { host_key: HostKeyPolicy::Pinned(sshd.host_key.fingerprint.clone()), timeouts, ..options }
}

fn server(sshd: &Sshd) -> SshOptions {
    server_at(sshd, sshd.port)
}

/// A directory that the account owns.
fn own(sshd: &Sshd, name: &str) -> PathBuf {
    let path = sshd.home.join(name);
    fs::create_dir(&path).unwrap();
    let (uid, gid) = sshd.ids();
    chown(&path, Some(uid), Some(gid)).unwrap();
    path
}

/// Whole seconds, as the protocol has it.
fn same(owner: bool) -> TreeOptions {
    TreeOptions { owner, mtime: MtimeMatch::Seconds32, hard_links: true, ..TreeOptions::default() }
}

/// That whatever stands below `root` under a name of the tree is whole, and gives how many files do.
fn whole_files(world: &World, root: &Path) -> usize {
    let restored = world.restored(root);
    let all = if restored.exists() { files_in(&restored) } else { Vec::new() };
    for file in &all {
        assert!(!file.file_name().unwrap().to_string_lossy().starts_with(".xvault-"), "{file:?} is left");
        let original = world.tree.join(file.strip_prefix(&restored).unwrap());
        assert!(fs::read(file).unwrap() == fs::read(&original).unwrap(), "{file:?} is not whole");
    }
    all.len()
}

#[tokio::test]
async fn oddities_come_back_with_owners_modes_and_links() {
    let sshd = Sshd::builder().root().start();
    let world = World::new(|tree| {
        trees::oddities(tree);
        chown(tree.join("names"), Some(1234), Some(4321)).unwrap();
    })
    .await;
    let out = sshd.home.join("made/on/the/way");
    let stats = world.push_to(&server(&sshd), &out, Overwrite::Never).await.unwrap();
    assert!(stats.files > 40 && stats.hardlinks > 0 && stats.symlinks > 0 && stats.kept == 0, "{stats:?}");
    assert_same_tree(&world.tree, &world.restored(&out), &same(true));
    // Again: everything is recognised, and what was restored stays as it is.
    let again = world.push_to(&server(&sshd), &out, Overwrite::IfChanged).await.unwrap();
    assert_eq!(again.files, 0, "{again:?}");
    assert_same_tree(&world.tree, &world.restored(&out), &same(true));
    // A directory that is as it should be stays so, though something is put into it.
    let sizes = world.restored(&out).join("sizes");
    let (lost, dir) = (files_in(&sizes).remove(0), sizes.metadata().unwrap().mtime());
    fs::remove_file(lost).unwrap();
    set_mtime(&sizes, dir, 0);
    world.push_to(&server(&sshd), &out, Overwrite::Never).await.unwrap();
    assert_same_tree(&world.tree, &world.restored(&out), &same(true));
    let always = world.push_to(&server(&sshd), &out, Overwrite::Always).await.unwrap();
    assert_eq!((always.files, always.hardlinks), (stats.files, stats.hardlinks));
    assert_same_tree(&world.tree, &world.restored(&out), &same(true));
}

#[tokio::test]
async fn an_ordinary_account_restores_read_only_and_closed_directories() {
    let sshd = Sshd::builder().start();
    let world = World::new(|tree| {
        for (name, mode) in [("read-only", 0o555), ("closed", 0o000), ("sticky", 0o1777)] {
            let dir = tree.join(name);
            fs::create_dir_all(dir.join("inner")).unwrap();
            fs::write(dir.join("inner/file"), name).unwrap();
            fs::write(dir.join("file"), name).unwrap();
            fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o4755)).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        }
    })
    .await;
    let out = own(&sshd, "out");
    world.push_to(&server(&sshd), &out, Overwrite::Never).await.unwrap();
    let restored = world.restored(&out);
    let mode = |name: &str| restored.join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("read-only"), mode("closed"), mode("sticky")), (0o555, 0, 0o1777));
    // Without the owner there are no set-id bits.
    assert_eq!(mode("closed/file"), 0o755);
    assert_eq!(fs::read_to_string(restored.join("closed/inner/file")).unwrap(), "closed");
    assert_eq!(restored.join("read-only/file").metadata().unwrap().uid(), sshd.ids().0);
}

#[tokio::test]
async fn existing_files_stay_unless_asked() {
    let sshd = Sshd::builder().start();
    let world = World::new(|tree| {
        fs::write(tree.join("same"), "same").unwrap();
        fs::write(tree.join("other"), "snapshot").unwrap();
        symlink("same", tree.join("link")).unwrap();
        fs::hard_link(tree.join("other"), tree.join("second")).unwrap();
    })
    .await;
    let out = own(&sshd, "out");
    world.push_to(&server(&sshd), &out, Overwrite::Never).await.unwrap();
    let restored = world.restored(&out);
    let change = || {
        fs::write(restored.join("other"), "changed").unwrap();
        let _ = fs::remove_file(restored.join("link"));
        symlink("elsewhere", restored.join("link")).unwrap();
        let _ = fs::remove_file(restored.join("second"));
    };
    let read = |name: &str| fs::read_to_string(restored.join(name)).unwrap();
    let link = || fs::read_link(restored.join("link")).unwrap();

    change();
    let stats = world.push_to(&server(&sshd), &out, Overwrite::Never).await.unwrap();
    assert_eq!((stats.kept, read("other").as_str(), link()), (3, "changed", "elsewhere".into()));
    // A second name of a file that was kept has the snapshot's content, not the file's.
    assert_eq!((stats.files, read("second").as_str()), (1, "snapshot"));

    change();
    let stats = world.push_to(&server(&sshd), &out, Overwrite::IfChanged).await.unwrap();
    assert_eq!((stats.kept, read("other").as_str(), link()), (1, "snapshot", "same".into()));
    assert_same_tree(&world.tree, &restored, &same(false));

    fs::write(restored.join("same"), "SAME").unwrap();
    set_mtime(&restored.join("same"), world.tree.join("same").metadata().unwrap().mtime(), 0);
    world.push_to(&server(&sshd), &out, Overwrite::IfChanged).await.unwrap();
    assert_eq!(read("same"), "SAME", "size and time are the same");
    world.push_to(&server(&sshd), &out, Overwrite::Always).await.unwrap();
    assert_same_tree(&world.tree, &restored, &same(false));
}

#[tokio::test]
async fn nothing_is_written_through_a_link_that_is_there() {
    let sshd = Sshd::builder().start();
    let world = World::new(|tree| {
        fs::create_dir(tree.join("dir")).unwrap();
        fs::write(tree.join("dir/file"), "content").unwrap();
    })
    .await;
    let outside = own(&sshd, "outside");
    fs::write(outside.join("victim"), "untouched").unwrap();
    let (uid, gid) = sshd.ids();
    for overwrite in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always] {
        let out = own(&sshd, &format!("{overwrite:?}"));
        let restored = world.restored(&out);
        fs::create_dir_all(&restored).unwrap();
        symlink(&outside, restored.join("dir")).unwrap();
        let error = world.push_to(&server(&sshd), &out, overwrite).await.unwrap_err();
        let text = chain(&error);
        assert!(text.contains("tree/dir`") && text.contains("links are not followed"), "{text}");
        assert_eq!(error.disposition(), Disposition::Permanent);
        // Links at the file's own name and at its temporary one lead nowhere either.
        fs::remove_file(restored.join("dir")).unwrap();
        fs::create_dir(restored.join("dir")).unwrap();
        chown(restored.join("dir"), Some(uid), Some(gid)).unwrap();
        let temporary = restored.join("dir/.xvault-3b9c358f36f0a31b.part");
        for name in [&temporary, &restored.join("dir/file")] {
            symlink(outside.join("victim"), name).unwrap();
        }
        fs::set_permissions(&restored, fs::Permissions::from_mode(0o777)).unwrap();
        chown(&restored, Some(uid), Some(gid)).unwrap();
        world.push_to(&server(&sshd), &out, overwrite).await.unwrap();
        let kept = restored.join("dir/file").symlink_metadata().unwrap().is_symlink();
        assert_eq!(kept, overwrite == Overwrite::Never);
        assert!(kept || temporary.symlink_metadata().is_err(), "the name is that of the test");
    }
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_taken_up_again_by_the_next_run() {
    let sshd = Sshd::builder().start();
    let world = World::new(|tree| {
        trees::small_files(&tree.join("small"), 300, 3000);
        fs::write(tree.join("large"), random(6 << 20, 1)).unwrap();
    })
    .await;
    let proxy = FaultProxy::start(sshd.port);
    let (direct, cut) = (server(&sshd), server_at(&sshd, proxy.port));
    let out = own(&sshd, "out");
    let mut seen = 0;
    // Until some are there: how many are under way when it breaks is the machine's affair.
    for bytes in [12_000, 25_000].into_iter().chain((40_000..).step_by(15_000)) {
        proxy.cut_once_after(bytes);
        let error = world.push_to(&cut, &out, Overwrite::Never).await.unwrap_err();
        assert!(matches!(error, Error::Target(ConnectorError::Connection { .. })), "{error:?}");
        assert_eq!(error.disposition(), Disposition::Transient);
        let now = files_in(&out).into_iter().filter(|file| !file.to_string_lossy().contains(".xvault-"));
        let now = now.inspect(|file| {
            let original = world.tree.join(file.strip_prefix(world.restored(&out)).unwrap());
            assert!(fs::read(file).unwrap() == fs::read(original).unwrap(), "{file:?}");
        });
        let now = now.count();
        assert!(now >= seen, "{now} files after {seen}");
        seen = now;
        if seen > 0 && bytes >= 40_000 {
            break;
        }
    }
    assert!(seen > 0 && seen < 301, "{seen}");
    let stats = world.push_to(&direct, &out, Overwrite::Never).await.unwrap();
    assert_eq!((stats.kept, stats.files), (seen as u64, 301 - seen as u64));
    assert_eq!(whole_files(&world, &out), 301);
    assert_same_tree(&world.tree, &world.restored(&out), &same(false));
}

#[tokio::test]
async fn a_full_disk_is_named_and_leaves_whole_files_only() {
    let sshd = Sshd::builder().start();
    let world = World::new(|tree| {
        for number in 0..8 {
            fs::write(tree.join(format!("{number}")), random(1 << 20, number)).unwrap();
        }
    })
    .await;
    let small = SmallFs::mount(5 << 20);
    fs::set_permissions(small.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = world.push_to(&server(&sshd), small.path(), Overwrite::Never).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains("the disk is full") && text.contains("tree/"), "{text}");
    assert_eq!(error.disposition(), Disposition::Transient);
    assert!(whole_files(&world, small.path()) < 8);
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_named() {
    let sshd = Sshd::builder().start();
    let world = World::new(|tree| fs::write(tree.join("file"), "x").unwrap()).await;
    let out = sshd.home.join("roots-own");
    fs::create_dir(&out).unwrap();
    let error = world.push_to(&server(&sshd), &out, Overwrite::Never).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains("permission denied") && text.contains("roots-own"), "{text}");
    assert_eq!((error.disposition(), fs::read_dir(&out).unwrap().count()), (Disposition::Permanent, 0));
    let error = world.push_to(&server(&sshd), Path::new("/proc/none"), Overwrite::Never).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains("make the directory /proc/none on 127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn damage_at_any_place_stops_it_with_the_entry_named() {
    let sshd = Sshd::builder().start();
    let world = World::new(|tree| {
        for number in 0..6 {
            fs::write(tree.join(format!("{number}")), random(3 << 20, number)).unwrap();
        }
    })
    .await;
    let artifact = only_file(world.dir.path(), ARTIFACT_NAME);
    let sound = fs::read(&artifact).unwrap();
    let len = sound.len();
    for (number, at) in [50, 1000, len / 2, len * 3 / 4, len - 1].into_iter().enumerate() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&artifact, bytes).unwrap();
        let out = own(&sshd, &format!("out-{number}"));
        let error = world.push_to(&server(&sshd), &out, Overwrite::Never).await.unwrap_err();
        let text = chain(&error);
        assert_eq!(error.disposition(), Disposition::Permanent, "{text}");
        assert!(text.contains(ARTIFACT_NAME), "{at}: {text}");
        let in_a_body = (1000..len - 1).contains(&at);
        assert!(!in_a_body || text.contains("entry `"), "{at}: {text}");
        assert!(whole_files(&world, &out) < 6, "{at}");
    }
}

#[tokio::test]
async fn cancelling_leaves_whole_files_and_no_litter() {
    let sshd = Sshd::builder().start();
    let world = World::new(|tree| {
        for number in 0..12 {
            fs::write(tree.join(format!("{number:02}")), random(4 << 20, number)).unwrap();
        }
    })
    .await;
    let (control, count) = (Control::default(), Arc::new(AtomicU64::new(0)));
    let token = control.cancel_token().clone();
    let hook = move |seen| {
        if seen == Seen::Bytes && count.fetch_add(1, Ordering::Relaxed) == 6 {
            token.cancel();
        }
    };
    let control = control.with_progress(Arc::new(Hook(hook)));
    let out = own(&sshd, "out");
    let mut target = target(&server(&sshd), &out, Overwrite::Never);
    let error = world.push(&mut target, &control).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Cancelled, "{error:?}");
    assert!(whole_files(&world, &out) < 12);
    world.push_to(&server(&sshd), &out, Overwrite::Never).await.unwrap();
    assert_same_tree(&world.tree, &world.restored(&out), &same(false));
}
