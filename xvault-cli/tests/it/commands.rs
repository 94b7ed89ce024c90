//! What the commands print.

use std::fs;

use serde_json::Value;
use xvault_testkit::trees;

use crate::world::{World, inside, run, text};

#[test]
fn every_command_has_help_that_teaches() {
    let world = World::new();
    let main = world.ok(&["--help"]).stdout;
    for command in [
        "backup",
        "snapshots",
        "ls",
        "cat",
        "restore",
        "verify",
        "copy",
        "forget",
        "probe",
        "keygen",
        "completions",
    ] {
        assert!(main.contains(command), "{command}");
        let help = world.ok(&["help", command]).stdout;
        assert!(help.contains("Usage: xvault") && help.len() > 300, "{command}: {help}");
    }
    assert!(main.contains("Exit codes") && main.contains("age -d"), "{main}");
}

#[test]
fn flags_of_another_type_of_source_or_target_are_wrong_usage() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    world.backup(text(&tree), &[]);
    let (from, to) = (["probe"], ["restore", "latest", "--to"]);
    for (command, args, part) in [
        (&from[..], &["ftp://u@127.0.0.1:1/x", "--via", "ssh://u@127.0.0.1:1"][..], "--via is for databases"),
        (&from, &["sftp://u@127.0.0.1:1/x", "--plain-ftp"], "--plain-ftp is for FTP"),
        (&to, &["out", "--create"], "--create is for databases"),
        (&to, &["out", "--keep-owner"], "--keep-owner is for PostgreSQL"),
        (&to, &["mysql://u@127.0.0.1:1/x", "--keep-owner"], "--keep-owner is for PostgreSQL"),
        (&to, &["sftp://u@127.0.0.1:1/x", "--tls", "require"], "--tls is for databases"),
        (&to, &["out", "--accept-new-host-key"], "--accept-new-host-key is for SSH servers"),
        (&["restore", "latest", "-o"], &["out.zip", "--create"], "--create is for databases"),
        (&to, &["out", "--ssh-password-file", "p"], "--via"),
    ] {
        let ran = world.run(&[command, args].concat());
        assert!(ran.code == 2 && ran.stderr.contains(part), "{args:?}: {ran:?}");
    }
    let ran = world.run(&["restore", "latest", "--to", "web@shop.example:/srv"]);
    assert!(ran.code == 1 && ran.stderr.contains("write sftp://web@shop.example/srv,"), "{ran:?}");
    assert!(!world.path("out").exists() && !world.path("web@shop.example:").exists());
    world.ok(&["restore", "latest", "--to", "./web@shop.example:/srv"]);
    assert!(world.path("web@shop.example:/srv").exists());
}

#[test]
fn completions_are_scripts() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(world.ok(&["completions", shell]).stdout.contains("xvault"), "{shell}");
    }
    let script = world.path("completion");
    fs::write(&script, world.ok(&["completions", "bash"]).stdout).unwrap();
    let _ = xvault_testkit::tools::run(xvault_testkit::tools::command("bash", ["-n"]).arg(&script));
}

#[test]
fn snapshots_are_listed_oldest_first_as_json_lines() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    let ids: Vec<_> = (0..3).map(|_| world.backup(text(&tree), &[])["snapshot_id"].clone()).collect();
    let listed = world.ok(&["snapshots", "--json"]).stdout;
    let manifests: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(manifests.iter().map(|m| m["snapshot_id"].clone()).collect::<Vec<_>>(), ids);
    let sources: Vec<_> = manifests.iter().map(|m| m["source_id"].as_str().unwrap()).collect();
    assert!(sources.iter().all(|source| *source == sources[0]), "the same address is the same source");
    let none = world.ok(&["snapshots", "--source-id", "other"]);
    assert_eq!(none.stdout, "");
    let table = world.ok(&["snapshots"]).stdout;
    assert_eq!(table.lines().count(), 4, "a header and three rows: {table}");
}

#[test]
fn ls_shows_names_and_more_on_request() {
    let world = World::new();
    let tree = world.tree(trees::oddities);
    world.backup(text(&tree), &[]);
    let names = world.ok(&["ls", "latest", &inside(&tree.join("links"))]).stdout;
    assert!(names.contains("links/hard-1\n") && names.contains("links/folder/\n"), "{names}");
    assert!(!names.contains("names/"), "only what lies below: {names}");
    let long = world.ok(&["ls", "-l", "latest", &inside(&tree.join("modes"))]).stdout;
    assert!(long.lines().any(|line| line.starts_with("-rwsr-xr-x") && line.ends_with("file-4755")), "{long}");
    assert!(
        long.lines().any(|line| line.starts_with("drwxrwxrwt") && line.ends_with("folder-1777/")),
        "{long}"
    );
    let json = world.ok(&["ls", "--json", "latest", &inside(&tree.join("sizes/513-bytes"))]).stdout;
    let entry: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&entry["kind"], &entry["size"]), (&"file".into(), &513.into()));
    let odd = world.ok(&["ls", "latest", &inside(&tree.join("names"))]).stdout;
    assert!(odd.contains("new\\nline") && !odd.contains('\x1b'), "names can't drive the terminal: {odd}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let world = World::new();
    let tree = world.tree(|dir| trees::small_files(dir, 3000, 1));
    world.backup(text(&tree), &[]);
    let binary = env!("CARGO_BIN_EXE_xvault");
    let script =
        format!("set -o pipefail; '{binary}' ls latest | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}");
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &script]).env("XVAULT_STORE", &world.store).env("XVAULT_IDENTITY", &world.identity);
    let ran = run(&mut bash);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("0\n", ""), "{ran:?}");
}

#[test]
fn results_go_to_stdout_and_everything_else_to_stderr() {
    let world = World::new();
    let tree = world.tree(|dir| trees::small_files(dir, 20, 100));
    let ran = world.backup_ran(text(&tree), &[]);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    for line in ran.stderr.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["event"].is_string(), "{line}");
    }
    let quiet = run(&mut world.command(&["backup", text(&tree), "--recipient", &world.recipient, "--quiet"]));
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""), "{quiet:?}");
    assert!(quiet.stdout.starts_with("snapshot "), "{quiet:?}");
}

#[test]
fn verify_checks_what_it_is_asked_for() {
    let world = World::new();
    let tree = world.tree(|dir| trees::small_files(dir, 20, 100));
    let first = world.backup(text(&tree), &[]);
    world.backup(text(&tree), &["--read-back", "off"]);
    let quick = run(world.command(&["verify", "--all", "--json"]).env_remove("XVAULT_IDENTITY"));
    assert_eq!(quick.code, 0, "{quick:?}");
    assert_eq!(quick.stdout.lines().count(), 2);
    let deep = world.ok(&["verify", first["snapshot_id"].as_str().unwrap(), "--json"]).stdout;
    let report: Value = serde_json::from_str(&deep).unwrap();
    assert_eq!(report["depth"], "deep");
    let held = &first["content_summary"];
    let entries = held["files"].as_u64().unwrap() + held["directories"].as_u64().unwrap();
    assert_eq!(report["entries"], entries, "{report}");
}

#[test]
fn a_partial_snapshot_says_so_wherever_it_is_used() {
    let sshd = xvault_testkit::Sshd::builder().start();
    let tree = sshd.home.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("open"), "x").unwrap();
    fs::write(tree.join("secret"), "x").unwrap();
    std::os::unix::fs::chown(tree.join("secret"), Some(0), Some(0)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(tree.join("secret"), mode).unwrap();
    let world = World::new();
    let login = crate::world::login(&sshd);
    let url = crate::world::url("sftp", &sshd, sshd.port, &tree);
    assert_eq!(world.backup_ran(&url, &crate::world::strs(&login)).code, 3);

    for command in [&["ls", "latest"][..], &["restore", "latest", "--to", "out"], &["verify", "latest"]] {
        let ran = world.ok(command);
        assert!(ran.stderr.contains("PARTIAL: 1 warnings"), "{command:?}: {ran:?}");
    }
    let warnings = world.ok(&["ls", "--warnings", "latest"]).stdout;
    assert!(warnings.lines().count() == 1 && warnings.contains("tree/secret: "), "{warnings}");
    let json: Value =
        serde_json::from_str(&world.ok(&["ls", "--warnings", "latest", "--json"]).stdout).unwrap();
    assert_eq!(json["code"], "unreadable");
}

#[test]
fn a_closed_pipe_hides_no_damage() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    for _ in 0..3 {
        world.backup(text(&tree), &[]);
    }
    let damaged = &world.snapshot_dirs()[1];
    fs::write(damaged.join("index.zst.enc"), "rot").unwrap();
    let binary = env!("CARGO_BIN_EXE_xvault");
    let script = format!("'{binary}' verify --all | true; echo ${{PIPESTATUS[0]}}");
    let mut bash = std::process::Command::new("bash");
    let ran = run(bash.args(["-c", &script]).env("XVAULT_STORE", &world.store));
    assert_eq!(ran.stdout, "1\n", "{ran:?}");
    assert!(ran.stderr.contains("index.zst.enc"), "{ran:?}");
}

#[test]
fn a_check_of_nothing_is_no_success() {
    let world = World::new();
    fs::create_dir(&world.store).unwrap();
    let ran = world.run(&["verify", "--all"]);
    assert!(ran.code == 1 && ran.stderr.contains("no snapshot"), "{ran:?}");
}

#[test]
fn failures_are_json_when_json_is_asked_for() {
    let world = World::new();
    let ran = world.backup_ran("/no/such/dir", &[]);
    assert_eq!(ran.code, 1);
    let events: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let error = events.iter().find(|event| event["event"] == "error").unwrap();
    assert!(error["message"].as_str().unwrap().contains("/no/such/dir"), "{error}");
    assert_eq!(error["disposition"], "permanent");
}
