//! `xvault copy`: the same snapshots in a second store, or none.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use xvault_testkit::{SmallFs, tools, trees};

use crate::world::{World, restored, text};

fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn all_snapshots_are_copied_once_and_restore_without_the_first_store() {
    let world = World::new();
    let tree = world.tree(|dir| trees::small_files(dir, 30, 100));
    for _ in 0..2 {
        world.backup(text(&tree), &[]);
    }
    let second = world.path("second");
    let copy = ["copy", "--all", "--to-store", text(&second), "--json"];
    let copied = lines(&world.ok(&copy).stdout);
    assert!(copied.len() == 2 && copied.iter().all(|one| one["was_there"] == false), "{copied:?}");
    let again = lines(&world.ok(&copy).stdout);
    assert!(again.len() == 2 && again.iter().all(|one| one["was_there"] == true), "{again:?}");
    fs::remove_dir_all(&world.store).unwrap();
    let out = world.path("out");
    world.ok(&["restore", "latest", "--store", text(&second), "--to", text(&out)]);
    xvault_testkit::assert_same_tree(&tree, &restored(&out, &tree), &xvault_testkit::TreeOptions::default());
}

#[test]
fn a_damaged_snapshot_is_named_and_keeps_no_other_from_being_copied() {
    let world = World::new();
    let tree = world.tree(|dir| trees::small_files(dir, 30, 100));
    let damaged = world.backup(text(&tree), &[]);
    let artifact = world.only_snapshot().join("backup.tar.zst.enc");
    let mut bytes = fs::read(&artifact).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&artifact, bytes).unwrap();
    let sound = world.backup(text(&tree), &[]);
    let second = world.path("second");
    let ran = world.run(&["copy", "--all", "--to-store", text(&second), "--json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let told = lines(&ran.stdout);
    assert_eq!((&told[0]["snapshot_id"], &told[0]["ok"]), (&damaged["snapshot_id"], &false.into()));
    assert!(told[0]["error"].as_str().unwrap().contains("backup.tar.zst.enc"), "{told:?}");
    assert_eq!((&told[1]["snapshot_id"], &told[1]["ok"]), (&sound["snapshot_id"], &true.into()));
    assert_eq!(world.ok(&["snapshots", "--store", text(&second), "--json"]).stdout.lines().count(), 1);
}

#[test]
fn a_full_second_store_keeps_no_half_copy() {
    let world = World::new();
    let tree = world.tree(|dir| trees::random_file(&dir.join("large"), 12 << 20, 7));
    world.backup(text(&tree), &["--read-back", "off"]);
    let small = SmallFs::mount(4 << 20);
    let ran = world.run(&["copy", "latest", "--to-store", text(small.path())]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("the copy's store") && ran.stderr.contains("No space left"), "{ran:?}");
    let left = tools::run(tools::command("find", [small.path()]).args(["-type", "f"]));
    assert_eq!(String::from_utf8(left).unwrap(), "", "the space is free again");
}

#[test]
fn a_killed_copy_is_none_and_the_next_run_makes_it() {
    let world = World::new();
    let tree = world.tree(|dir| trees::random_file(&dir.join("large"), 24 << 20, 5));
    world.backup(text(&tree), &["--read-back", "off"]);
    let second = world.path("second");
    let copy = ["copy", "latest", "--to-store", text(&second)];
    let slow = [&copy[..], &["--bwlimit", "8MiB"]].concat();
    let mut child = world.command(&slow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let staged = || {
        tools::run(tools::command("find", [text(&world.path(""))]).args([
            "-path",
            "*second*.enc",
            "-size",
            "+1M",
        ]))
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while staged().is_empty() {
        assert!(Instant::now() < deadline, "nothing is copied");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.ok(&["snapshots", "--store", text(&second)]).stdout, "");
    world.ok(&copy);
    world.ok(&["verify", "--all", "--store", text(&second)]);
}

#[test]
fn a_store_is_not_copied_into_itself() {
    let world = World::new();
    let tree = world.tree(|dir| trees::small_files(dir, 1, 1));
    world.backup(text(&tree), &[]);
    let ran = world.run(&["copy", "--all", "--to-store", text(&world.store)]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("is the store that is copied from"), "{ran:?}");
}
