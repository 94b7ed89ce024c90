//! Killed and interrupted runs leave no snapshot, and the next run sweeps up.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use xvault_testkit::{tools, trees};

use crate::world::{World, ran, text};

/// A backup that is slow enough to be met in the middle, once it has written something.
fn start_slow(world: &World) -> Child {
    let tree = world.tree(|dir| trees::random_file(&dir.join("large"), 64 << 20, 5));
    let args = ["backup", text(&tree), "--recipient", &world.recipient, "--bwlimit", "10MiB"];
    let child = world.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while staged_bytes(world) == 0 {
        assert!(Instant::now() < deadline, "nothing is staged");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn staged_bytes(world: &World) -> u64 {
    let artifacts = world.snapshot_dirs().into_iter().map(|dir| dir.join("backup.tar.zst.enc"));
    artifacts.filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn signal(child: &Child, name: &str) {
    let _ = tools::run(&mut tools::command("kill", [&format!("-{name}"), &child.id().to_string()]));
}

#[test]
fn a_killed_backup_is_no_snapshot_and_is_swept() {
    let world = World::new();
    let mut child = start_slow(&world);
    signal(&child, "KILL");
    child.wait().unwrap();
    assert_eq!(world.ok(&["snapshots"]).stdout, "");
    assert_eq!(world.snapshot_dirs().len(), 1, "the staging still lies there");

    let small = world.path("small");
    std::fs::create_dir(&small).unwrap();
    world.backup(text(&small), &[]);
    assert_eq!(world.ok(&["snapshots", "--json"]).stdout.lines().count(), 1);
    assert_eq!(world.snapshot_dirs().len(), 1, "the staging is gone, the snapshot is there");
    world.ok(&["verify", "--all"]);
}

#[test]
fn an_interrupted_backup_leaves_nothing_and_ends_with_130() {
    for name in ["INT", "TERM"] {
        let world = World::new();
        let child = start_slow(&world);
        signal(&child, name);
        let ran = ran(child.wait_with_output().unwrap());
        assert_eq!(ran.code, 130, "{name}: {ran:?}");
        assert!(ran.stderr.contains("interrupted"), "{name}: {ran:?}");
        assert_eq!(world.snapshot_dirs().len(), 0, "{name}");
    }
}

#[test]
fn a_running_backup_is_not_swept_by_another() {
    let world = World::new();
    let child = start_slow(&world);
    let small = world.path("small");
    std::fs::create_dir(&small).unwrap();
    world.backup(text(&small), &[]);
    assert!(staged_bytes(&world) > 0, "the running backup's staging is still there");
    signal(&child, "INT");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(world.ok(&["snapshots", "--json"]).stdout.lines().count(), 1);
}

#[test]
fn an_interrupted_restore_keeps_whole_files_and_can_be_run_again() {
    let world = World::new();
    let tree = world.tree(|dir| {
        for number in 0..200 {
            trees::random_file(&dir.join(format!("{number:03}")), 1 << 20, number);
        }
    });
    world.backup(text(&tree), &["--read-back", "off"]);
    let out = world.path("out");
    let mut command = world.command(&["restore", "latest", "--to", text(&out)]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let restored = crate::world::restored(&out, &tree);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !restored.join("003").exists() {
        assert!(Instant::now() < deadline, "nothing is restored");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, "INT");
    let ran = ran(child.wait_with_output().unwrap());
    // A fast machine may be done before the signal arrives.
    assert!(ran.code == 130 || ran.code == 0, "{ran:?}");
    assert!(ran.code == 0 || ran.stderr.contains("stay"), "{ran:?}");
    for entry in std::fs::read_dir(&restored).unwrap() {
        let path = entry.unwrap().path();
        let source = tree.join(path.file_name().unwrap());
        assert!(
            std::fs::read(&path).unwrap() == std::fs::read(source).unwrap(),
            "{} is half",
            path.display()
        );
    }
    world.ok(&["restore", "latest", "--to", text(&out)]);
    xvault_testkit::assert_same_tree(&tree, &restored, &xvault_testkit::TreeOptions::default());
}

#[test]
fn a_killed_backup_of_a_server_is_no_snapshot() {
    for scheme in ["sftp", "ssh"] {
        let sshd = xvault_testkit::Sshd::builder().root().start();
        let world = World::new();
        let large = sshd.home.join("large");
        trees::random_file(&large, 64 << 20, 6);
        let url = crate::world::url(scheme, &sshd, sshd.port, &large);
        let login = crate::world::login(&sshd);
        let args = ["backup", &url, "--recipient", &world.recipient, "--bwlimit", "10MiB"];
        let mut command = world.command(&[&args[..], &crate::world::strs(&login)].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while staged_bytes(&world) == 0 {
            assert!(Instant::now() < deadline, "{scheme}: nothing is staged");
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(&child, "KILL");
        child.wait().unwrap();
        assert_eq!(world.ok(&["snapshots"]).stdout, "", "{scheme}");
    }
}
