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
