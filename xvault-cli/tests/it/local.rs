//! A directory of this machine, there and back.

use std::fs;

use serde_json::Value;
use xvault_testkit::{TreeOptions, assert_same_tree, tools, trees};

use crate::world::{World, inside, os, restored, text};

#[test]
fn a_tree_of_oddities_comes_back_by_xvault_and_by_hand() {
    let world = World::new();
    let tree = world.tree(trees::oddities);
    let manifest = world.backup(text(&tree), &[]);
    assert_eq!(manifest["completeness"], "whole");
    assert_eq!(manifest["read_back"]["mode"], "full");
    assert_eq!(manifest["content_summary"]["skipped"], 2, "pipe and socket");

    let exact = TreeOptions { owner: true, ..TreeOptions::default() };
    let out = world.path("out");
    world.ok(&["restore", "latest", "--to", text(&out)]);
    assert_same_tree(&tree, &restored(&out, &tree), &exact);

    let by_hand = world.path("by-hand");
    tools::age_decrypt_untar(&world.only_snapshot().join("backup.tar.zst.enc"), &world.identity, &by_hand);
    assert_same_tree(&tree, &restored(&by_hand, &tree), &exact);
}

#[test]
fn the_stored_files_are_what_the_manifest_says() {
    let world = World::new();
    let tree = world.tree(|dir| trees::small_files(dir, 50, 1000));
    let manifest = world.backup(text(&tree), &[]);
    let dir = world.only_snapshot();
    let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["backup.tar.zst.enc", "index.zst.enc", "manifest.json", "meta.json"]);
    for (name, field) in [("backup.tar.zst.enc", "artifact"), ("index.zst.enc", "index")] {
        let path = dir.join(name);
        let sum = tools::run(tools::command("sha256sum", ["-b"]).arg(&path));
        let sum = String::from_utf8(sum).unwrap();
        assert_eq!(manifest[field]["sha256"], sum.split(' ').next().unwrap());
        assert_eq!(manifest[field]["size_bytes"], fs::metadata(&path).unwrap().len());
    }
    let meta: Value = serde_json::from_slice(&fs::read(dir.join("meta.json")).unwrap()).unwrap();
    for id in ["tenant_id", "source_id", "snapshot_id", "job_id", "worker_id"] {
        assert_eq!(meta[id], manifest[id], "{id}");
    }
    let stored: Value = serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(stored["content_summary"]["files"], 50);
    assert!(!stored.to_string().contains("tree"), "a manifest holds no file names: {stored}");
}

#[test]
fn excludes_leave_out_what_they_match() {
    let world = World::new();
    let tree = world.tree(|dir| {
        for path in ["keep.txt", "drop.log", "cache/x", "sub/cache/y", "sub/keep.log"] {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
    });
    world.backup(text(&tree), &["--exclude", "*.log", "--exclude", "/cache/", "--exclude", "!keep.log"]);
    let listed = world.ok(&["ls", "latest"]).stdout;
    let below: Vec<_> =
        listed.lines().filter_map(|line| line.split_once("tree/")).map(|(_, name)| name).collect();
    assert_eq!(below, ["", "keep.txt", "sub/", "sub/cache/", "sub/cache/y", "sub/keep.log"]);
}

#[test]
fn one_path_is_restored_alone() {
    let world = World::new();
    let tree = world.tree(trees::oddities);
    world.backup(text(&tree), &[]);
    let out = world.path("out");
    let links = tree.join("links");
    world.ok(&["restore", "latest", &inside(&links), "--to", text(&out)]);
    assert_same_tree(&links, &restored(&out, &links), &TreeOptions::default());
    assert!(!restored(&out, &tree.join("names")).exists());
    // A leading slash, as the file lay on the source, means the same.
    let again = world.path("again");
    world.ok(&["restore", "latest", text(&links), "--to", text(&again)]);
    assert_same_tree(&links, &restored(&again, &links), &TreeOptions::default());
}

#[test]
fn cat_gives_the_bytes_of_one_file() {
    let world = World::new();
    let tree = world.tree(trees::oddities);
    world.backup(text(&tree), &[]);
    let random = tree.join("sizes/random");
    let ran = world.ok(&["cat", "latest", &inside(&random)]);
    assert_eq!(ran.bytes, fs::read(&random).unwrap());
    let hard = world.ok(&["cat", "latest", &inside(&tree.join("links/folder/hard-2"))]);
    assert_eq!(hard.bytes, b"linked");
    // A name that is no UTF-8, as a shell passes it.
    let odd = tree.join("names").join(os(b"latin1-\xe9\xff"));
    let ran = crate::world::run(world.command(&["cat", "latest"]).arg(odd.strip_prefix("/").unwrap()));
    assert_eq!((ran.code, ran.bytes), (0, b"latin1-\xe9\xff".to_vec()));
}

#[test]
fn existing_files_stay_unless_asked() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "backed up").unwrap());
    world.backup(text(&tree), &[]);
    let out = world.path("out");
    let file = restored(&out, &tree.join("file"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "my work!!").unwrap();
    let kept = world.ok(&["restore", "latest", "--to", text(&out), "--json"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "my work!!");
    let result: Value = serde_json::from_str(&kept.stdout).unwrap();
    assert_eq!(result["kept"], 1, "{result}");
    world.ok(&["restore", "latest", "--to", text(&out), "--overwrite", "if-changed"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "backed up", "its time differs");
    fs::write(&file, "my work!!").unwrap();
    world.ok(&["restore", "latest", "--to", text(&out), "--overwrite", "always"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "backed up");
}

#[test]
fn the_index_can_have_other_readers_than_the_content() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("name"), "content").unwrap());
    let other = tempfile::tempdir().unwrap();
    let (browser, recipient) = tools::age_keygen(other.path());
    world.backup(text(&tree), &["--index-recipient", &recipient]);
    let listed = world.ok(&["ls", "latest", "--identity", text(&browser)]).stdout;
    assert!(listed.contains("tree/name"), "{listed}");
    let ran = world.run(&["cat", "latest", &inside(&tree.join("name")), "--identity", text(&browser)]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.is_empty() && ran.stderr.contains("backup.tar.zst.enc"), "{ran:?}");
}

#[test]
fn two_paths_make_one_snapshot_and_overlap_is_no_matter() {
    let world = World::new();
    let tree = world.tree(|dir| {
        fs::create_dir(dir.join("a")).unwrap();
        fs::write(dir.join("a/x"), "x").unwrap();
        fs::write(dir.join("b"), "b").unwrap();
    });
    let (a, b) = (tree.join("a"), tree.join("b"));
    let manifest = world.backup(text(&a), &["--path", text(&b), "--path", text(&a.join("x"))]);
    assert_eq!(manifest["content_summary"]["files"], 2);
    world.ok(&["verify", "latest", "--identity", text(&world.identity)]);
}

#[test]
fn a_store_inside_the_source_is_not_backed_up_into_itself() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    let store = tree.join("backups");
    for _ in 0..2 {
        let manifest = world.backup(text(&tree), &["--store", text(&store)]);
        assert_eq!(manifest["content_summary"]["files"], 1, "{manifest}");
    }
}

#[test]
fn a_store_is_not_a_source_of_itself() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    world.backup(text(&tree), &[]);
    for source in [world.store.clone(), world.store.join("tenants")] {
        let ran = world.backup_ran(text(&source), &[]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(text(&source)) && ran.stderr.contains("store"), "{ran:?}");
    }
    assert_eq!(world.snapshot_dirs().len(), 1);
}
