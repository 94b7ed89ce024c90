//! Bad input and damage: a sentence that names the thing, the right exit code, and nothing lost.

use std::fs;

use xvault_testkit::{SmallFs, Sshd, tools, trees};

use crate::world::{World, everything, inside, login, run, strs, text, url};

#[test]
fn a_wrong_password_is_told_without_the_password() {
    let sshd = Sshd::builder().start();
    let world = World::new();
    let source = url("sftp", &sshd, sshd.port, &sshd.home);
    let args = ["backup", &source, "--recipient", &world.recipient, "--host-key", &sshd.host_key.fingerprint];
    let ran = run(world.command(&args).env("XVAULT_PASSWORD", "hunter2-wrong"));
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(&format!("{}@127.0.0.1", sshd.user)), "{ran:?}");
    assert!(!everything(&ran).contains("hunter2"), "{ran:?}");
    assert_eq!(world.snapshot_dirs().len(), 0);
}

#[test]
fn a_missing_path_is_named_and_makes_no_snapshot() {
    let sshd = Sshd::builder().start();
    let world = World::new();
    let missing = sshd.home.join("no such dir");
    for scheme in ["sftp", "ssh"] {
        let source = format!(
            "{scheme}://{}@127.0.0.1:{}{}/no%20such%20dir",
            sshd.user,
            sshd.port,
            sshd.home.display()
        );
        let ran = world.backup_ran(&source, &strs(&login(&sshd)));
        assert_eq!(ran.code, 1, "{scheme}: {ran:?}");
        assert!(ran.stderr.contains(text(&missing)), "{scheme}: {ran:?}");
    }
    let ran = world.backup_ran(text(&missing), &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(text(&missing)), "{ran:?}");
    assert_eq!(world.snapshot_dirs().len(), 0);
}

#[test]
fn nobody_listens() {
    let world = World::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = format!("sftp://u@127.0.0.1:{free}/x");
    let key = world.path("key");
    let _ = tools::run(tools::command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let ran = world.backup_ran(&source, &["--ssh-key", text(&key), "--accept-new-host-key"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(&format!("127.0.0.1:{free}")), "{ran:?}");
    assert!(ran.stderr.contains("tried again"), "a refused connection may heal: {ran:?}");
}

#[test]
fn wrong_usage_ends_with_2() {
    let world = World::new();
    for args in [
        &["backup"][..],
        &["frobnicate"],
        &["backup", "/", "--level", "99"],
        &["verify"],
        &["restore", "latest"],
    ] {
        assert_eq!(world.run(args).code, 2, "{args:?}");
    }
}

#[test]
fn a_source_that_is_none_is_told() {
    let world = World::new();
    for (source, part) in
        [("gopher://u@h/x", "gopher://"), ("sftp://h/x", "no account"), ("sftp://u:hunter2@h/x", "password")]
    {
        let ran = world.backup_ran(source, &[]);
        assert_eq!(ran.code, 1, "{source}");
        assert!(ran.stderr.contains(part) && !ran.stderr.contains("hunter2"), "{source}: {ran:?}");
    }
}

#[test]
fn a_full_store_keeps_no_half_snapshot() {
    let world = World::new();
    let tree = world.tree(|dir| trees::random_file(&dir.join("large"), 12 << 20, 7));
    let small = SmallFs::mount(4 << 20);
    let ran = world.backup_ran(text(&tree), &["--store", text(small.path())]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("No space left") && ran.stderr.contains("tried again"), "{ran:?}");
    let left = tools::run(tools::command("find", [small.path()]).args(["-type", "f"]));
    assert_eq!(String::from_utf8(left).unwrap(), "", "the space is free again");
}

#[test]
fn a_restore_onto_a_full_disk_is_told() {
    let world = World::new();
    let tree = world.tree(|dir| trees::random_file(&dir.join("large"), 12 << 20, 7));
    world.backup(text(&tree), &[]);
    let small = SmallFs::mount(4 << 20);
    let ran = world.run(&["restore", "latest", "--to", text(small.path())]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("large") && ran.stderr.contains("space"), "{ran:?}");
}

#[test]
fn the_wrong_identity_opens_nothing() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    world.backup(text(&tree), &[]);
    let other = tempfile::tempdir().unwrap();
    let (stranger, _) = tools::age_keygen(other.path());
    let out = world.path("out");
    let file = inside(&tree.join("file"));
    let commands: [&[&str]; 4] = [
        &["ls", "latest"],
        &["cat", "latest", &file],
        &["restore", "latest", "--to", text(&out)],
        &["verify", "latest"],
    ];
    for command in commands {
        let ran = world.run(&[command, &["--identity", text(&stranger)]].concat());
        assert_eq!(ran.code, 1, "{command:?}: {ran:?}");
        assert!(ran.stderr.contains("identit"), "{command:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{command:?}");
    }
    assert!(!out.join("file").exists());
    let ran = world.run(&["ls", "latest", "--identity", "/nonexistent/key"]);
    assert!(ran.code == 1 && ran.stderr.contains("/nonexistent/key"), "{ran:?}");
}

#[test]
fn every_damage_to_every_file_is_told_by_every_command_that_meets_it() {
    let world = World::new();
    let tree = world.tree(|dir| trees::random_file(&dir.join("file"), 6 << 20, 3));
    world.backup(text(&tree), &[]);
    let dir = world.only_snapshot();
    let other = World::new();
    let _ = other.tree(|dir| trees::random_file(&dir.join("file"), 6 << 20, 4));
    let ran = run(&mut other.command(&["backup", "tree", "--recipient", &world.recipient]));
    assert_eq!(ran.code, 0, "{ran:?}");
    let foreign = other.only_snapshot();

    for name in ["backup.tar.zst.enc", "index.zst.enc", "manifest.json", "meta.json"] {
        let good = fs::read(dir.join(name)).unwrap();
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            bytes
        };
        let damages = [
            ("truncated", Some(good[..good.len() / 2].to_vec())),
            ("emptied", Some(Vec::new())),
            ("flipped early", Some(flipped(good.len() / 10))),
            ("flipped late", Some(flipped(good.len() - 3))),
            ("swapped", Some(fs::read(foreign.join(name)).unwrap())),
            ("deleted", None),
        ];
        for (damage, bytes) in damages {
            match &bytes {
                Some(bytes) => fs::write(dir.join(name), bytes).unwrap(),
                None => fs::remove_file(dir.join(name)).unwrap(),
            }
            check_damaged(&world, name, damage, &dir);
            fs::write(dir.join(name), &good).unwrap();
        }
    }
    world.ok(&["verify", "--all", "--identity", text(&world.identity)]);
}

/// Runs every reading command; those that need the damaged file must fail and say which, the others must not mind.
fn check_damaged(world: &World, name: &str, damage: &str, dir: &std::path::Path) {
    let id = dir.file_name().unwrap().to_str().unwrap();
    let (out, file) = (world.path("out"), inside(&world.path("tree/file")));
    let needs = |files: &[&str]| files.contains(&name);
    let commands: [(&[&str], bool); 5] = [
        (&["ls", id], needs(&["index.zst.enc", "manifest.json"])),
        (&["cat", id, &file], needs(&["backup.tar.zst.enc", "index.zst.enc", "manifest.json"])),
        (
            &["restore", id, "--to", text(&out)],
            needs(&["backup.tar.zst.enc", "index.zst.enc", "manifest.json"]),
        ),
        (&["verify", id], true),
        (&["verify", id, "--identity", text(&world.identity)], true),
    ];
    for (index, (command, fails)) in commands.into_iter().enumerate() {
        let mut process = world.command(command);
        if index == 3 {
            process.env_remove("XVAULT_IDENTITY");
        }
        let ran = run(&mut process);
        let told = ran.stderr.contains(name) || (damage == "deleted" && ran.stderr.contains(id));
        assert_eq!(ran.code == 0, !fails, "{name} {damage}: {command:?}: {ran:?}");
        assert!(!fails || told, "{name} {damage}: {command:?} does not name it: {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{name} {damage}: {command:?}: {ran:?}");
    }
    let restored = out.join(&file);
    if restored.exists() {
        let same = fs::read(&restored).unwrap() == fs::read(world.path("tree/file")).unwrap();
        assert!(same, "{name} {damage}: a wrong file was restored");
    }
    let _ = fs::remove_dir_all(&out);
}

#[test]
fn a_damaged_snapshot_hides_no_other() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    let first = world.backup(text(&tree), &[]);
    let second = world.backup(text(&tree), &[]);
    let dir = world.snapshot_dirs();
    let damaged = dir.iter().find(|dir| dir.ends_with(second["snapshot_id"].as_str().unwrap())).unwrap();
    fs::write(damaged.join("manifest.json"), "{").unwrap();
    let ran = world.run(&["snapshots"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stdout.contains(first["snapshot_id"].as_str().unwrap()), "{ran:?}");
    assert!(ran.stdout.contains("DAMAGED"), "{ran:?}");
    let ran = world.run(&["verify", "--all"]);
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn a_selector_that_fits_nothing_or_too_much_is_told() {
    let world = World::new();
    let ran = world.run(&["ls", "latest"]);
    assert!(ran.code == 1 && ran.stderr.contains("does not exist"), "{ran:?}");
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    let first = world.backup(text(&tree), &[]);
    world.backup(text(&tree), &[]);
    let id = first["snapshot_id"].as_str().unwrap();
    let ran = world.run(&["ls", "0"]);
    assert!(ran.code == 1 && ran.stderr.contains("2 snapshots"), "{ran:?}");
    let ran = world.run(&["ls", "zzz"]);
    assert!(ran.code == 1 && ran.stderr.contains("`zzz`"), "{ran:?}");
    world.ok(&["ls", id]);
    let ran = world.run(&["cat", "latest", "no/such/file"]);
    assert!(ran.code == 1 && ran.stderr.contains("no/such/file"), "{ran:?}");
    let ran = world.run(&["ls", "latest", "no/such/dir"]);
    assert!(ran.code == 1 && ran.stderr.contains("no/such/dir"), "{ran:?}");
    let ran = world.run(&["restore", "latest", "no/such/dir", "--to", "out"]);
    assert!(ran.code == 1 && ran.stderr.contains("no/such/dir"), "{ran:?}");
}
