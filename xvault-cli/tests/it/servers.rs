//! Real OpenSSH servers, there and back.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use xvault_testkit::{
    FtpKind, Ftpd, Mariadb, MtimeMatch, SshAgent, Sshd, TreeOptions, Wordpress, assert_same_tree, tools,
    trees,
};

use crate::world::{World, everything, login, manifest, restored, run, strs, text, url};

/// A tree in the account's home that the account owns, mode 0 file and all.
fn owned_tree(sshd: &Sshd, fill: impl FnOnce(&Path)) -> PathBuf {
    let tree = sshd.home.join("tree");
    fs::create_dir_all(&tree).unwrap();
    fill(&tree);
    let owner = format!("{}:{}", sshd.ids().0, sshd.ids().1);
    let _ = tools::run(tools::command("chown", ["-hR", &owner]).arg(&tree));
    tree
}

fn round_trip(scheme: &str, mtime: MtimeMatch, hard_links: bool) {
    let sshd = Sshd::builder().root().start();
    let world = World::new();
    let tree = sshd.home.join("tree");
    trees::oddities(&tree);
    chown(tree.join("names"), Some(1234), Some(4321)).unwrap();
    let manifest = world.backup(&url(scheme, &sshd, sshd.port, &tree), &strs(&login(&sshd)));
    assert_eq!(manifest["source_type"], scheme);
    assert_eq!(manifest["completeness"], "whole");

    let options = TreeOptions { owner: true, mtime, hard_links, ..TreeOptions::default() };
    let out = world.path("out");
    world.ok(&["restore", "latest", "--to", text(&out)]);
    assert_same_tree(&tree, &restored(&out, &tree), &options);
    let by_hand = world.path("by-hand");
    tools::age_decrypt_untar(&world.only_snapshot().join("backup.tar.zst.enc"), &world.identity, &by_hand);
    assert_same_tree(&tree, &restored(&by_hand, &tree), &options);
}

#[test]
fn oddities_over_sftp() {
    // What version 3 of the protocol carries: whole seconds in 32 bits, and no inode numbers.
    round_trip("sftp", MtimeMatch::Seconds32, false);
}

#[test]
fn oddities_over_ssh() {
    round_trip("ssh", MtimeMatch::Exact, true);
}

#[test]
fn a_tree_over_ftp_with_the_certificate_that_was_shown() {
    let ftpd = Ftpd::builder(FtpKind::Vsftpd).self_signed().start();
    trees::small_files(&ftpd.home.join("tree"), 30, 900);
    ftpd.give(&ftpd.home);
    let world = World::new();
    let password = world.path("pw");
    fs::write(&password, format!("{}\n", ftpd.password)).unwrap();
    let url = format!("ftp://{}@127.0.0.1:{}/tree", ftpd.user, ftpd.port);

    let refused = world.run(&["probe", &url, "--password-file", text(&password)]);
    let flag = format!("--certificate {}", ftpd.fingerprint);
    assert!(refused.code == 1 && refused.stderr.contains(&flag), "{refused:?}");
    let flags = ["--password-file", text(&password), "--certificate", &ftpd.fingerprint];
    let probed = world.run(&[&["probe", &url], &flags[..]].concat());
    assert_eq!(probed.code, 0, "{probed:?}");
    for told in ["certificate", &ftpd.fingerprint, "vsFTPd", "/tree: directory", "without MLSD"] {
        assert!(probed.stdout.contains(told), "{told}: {probed:?}");
    }
    let manifest = world.backup(&url, &flags);
    assert_eq!((&manifest["source_type"], &manifest["completeness"]), (&"ftp".into(), &"whole".into()));
    let out = world.path("out");
    world.ok(&["restore", "latest", "--to", text(&out)]);
    let same = TreeOptions { mtime: MtimeMatch::Ignore, owner: true, ..TreeOptions::default() };
    assert_same_tree(&ftpd.home.join("tree"), &out.join("tree"), &same);
}

#[test]
fn a_wordpress_site_with_commands_around_its_backup() {
    let (sshd, world) = (Sshd::builder().start(), World::new());
    let root = sshd.home.join("html");
    let site = Wordpress::install(Mariadb::shared(), &root);
    site.give_to(sshd.ids());
    let source = url("wordpress+ssh", &sshd, sshd.port, &root);
    let login = login(&sshd);
    // Debian's packages lag behind at times.
    let login = [&strs(&login)[..], &["--allow-outdated-tools"]].concat();
    let probed = world.run(&[&["probe", &source], &login[..]].concat());
    assert_eq!(probed.code, 0, "{probed:?}");
    for told in
        ["WordPress 6.", &format!("{}: directory", root.display()), &format!("{}: database", site.database)]
    {
        assert!(probed.stdout.contains(told), "{told}: {probed:?}");
    }
    let hooks = ["--before", "touch before", "--after", "rm before && touch after"];
    let manifest = world.backup(&source, &[&login[..], &hooks, &["--database-tools", "tunnel"]].concat());
    assert_eq!(
        (&manifest["source_type"], &manifest["evidence"]["kind"]),
        (&"wordpress".into(), &"site".into())
    );
    assert!(sshd.home.join("after").exists() && !sshd.home.join("before").exists());
    let failing = ["--before", "echo no; exit 7"];
    let ran = world.backup_ran(&source, &[&login[..], &failing].concat());
    assert!(ran.code == 1 && ran.stderr.contains("the hook `before` failed: exit status 7: no"), "{ran:?}");
    site.write_config("<?php\ndefine('DB_NAME', env('X'));\ndefine('DB_HOST', 'h');");
    let ran = world.backup_ran(&source, &login);
    assert!(ran.code == 1 && ran.stderr.contains("line 2") && ran.stderr.contains("env()"), "{ran:?}");
    assert_eq!(world.snapshot_dirs().len(), 1);
}

#[test]
fn a_password_an_agent_and_an_encrypted_key_log_in() {
    let sshd = Sshd::builder().start();
    let tree = owned_tree(&sshd, |dir| fs::write(dir.join("file"), "x").unwrap());
    let world = World::new();
    let source = url("sftp", &sshd, sshd.port, &tree);
    let backup =
        ["backup", &source, "--recipient", &world.recipient, "--host-key", &sshd.host_key.fingerprint];

    let ran = run(world.command(&backup).env("XVAULT_PASSWORD", &sshd.password));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!everything(&ran).contains(&sshd.password));

    let password_file = world.path("password");
    fs::write(&password_file, format!("{}\n", sshd.password)).unwrap();
    world.ok(&[&backup[..], &["--password-file", text(&password_file)]].concat());

    let agent = SshAgent::start(&sshd.key_path);
    let ran = run(world.command(&backup).env("SSH_AUTH_SOCK", &agent.socket));
    assert_eq!(ran.code, 0, "{ran:?}");

    let (key, passphrase) = sshd.encrypted_key();
    let with_key = [&backup[..], &["--ssh-key", text(&key)]].concat();
    let ran = run(world.command(&with_key).env("XVAULT_PASSWORD", passphrase));
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = world.run(&with_key);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("passphrase"), "{ran:?}");

    let rsa = sshd.rsa_key();
    world.ok(&[&backup[..], &["--ssh-key", text(&rsa)]].concat());
    assert_eq!(world.snapshot_dirs().len(), 5);
}

#[test]
fn an_unknown_server_is_refused_with_the_flag_that_helps() {
    let sshd = Sshd::builder().start();
    let tree = owned_tree(&sshd, |_| {});
    let world = World::new();
    let source = url("sftp", &sshd, sshd.port, &tree);
    let key = text(&sshd.key_path).to_owned();
    let backup = |more: &[&str]| {
        world.run(&[&["backup", &source, "--recipient", &world.recipient, "--ssh-key", &key], more].concat())
    };

    let ran = backup(&[]);
    assert_eq!(ran.code, 1);
    let fingerprint = &sshd.host_key.fingerprint;
    assert!(ran.stderr.contains(fingerprint) && ran.stderr.contains("--host-key"), "{ran:?}");
    assert_eq!(world.snapshot_dirs().len(), 0);

    // Accepted once, known from then on.
    assert_eq!(backup(&["--accept-new-host-key"]).code, 0);
    let known = fs::read_to_string(world.path(".ssh/known_hosts")).unwrap();
    assert!(known.contains(&sshd.host_key.public), "{known}");
    assert_eq!(backup(&[]).code, 0);
}

#[test]
fn a_changed_server_is_refused() {
    let mut sshd = Sshd::builder().start();
    let tree = owned_tree(&sshd, |_| {});
    let world = World::new();
    let known = world.path("known_hosts");
    fs::copy(&sshd.known_hosts, &known).unwrap();
    let source = url("sftp", &sshd, sshd.port, &tree);
    let pinned = login(&sshd);
    let before = sshd.change_host_key();
    let ran = world.backup_ran(
        &source,
        &["--ssh-key", text(&sshd.key_path), "--known-hosts", text(&known), "--accept-new-host-key"],
    );
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("CHANGED") && ran.stderr.contains(&sshd.host_key.fingerprint), "{ran:?}");
    let ran = world.backup_ran(&source, &strs(&pinned));
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains(&before.fingerprint) && ran.stderr.contains(&sshd.host_key.fingerprint),
        "{ran:?}"
    );
    assert_eq!(world.snapshot_dirs().len(), 0);
}

#[test]
fn a_probe_shows_what_there_is() {
    let sshd = Sshd::builder().start();
    let tree = owned_tree(&sshd, |dir| fs::write(dir.join("file"), "x").unwrap());
    let world = World::new();
    let missing = sshd.home.join("missing");
    let args = ["probe", &url("ssh", &sshd, sshd.port, &tree), "--path", text(&missing), "--json"];
    let ran = world.run(&[&args[..], &strs(&login(&sshd))].concat());
    assert_eq!(ran.code, 3, "a path is missing: {ran:?}");
    let probe: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(probe["host_key"], sshd.host_key.fingerprint);
    assert_eq!(probe["paths"][0]["kind"], "directory");
    assert!(probe["paths"][1]["error"].is_string(), "{probe}");
    assert!(probe["server"].as_str().unwrap().contains("OpenSSH"), "{probe}");
}

#[test]
fn without_a_shell_ssh_falls_back_to_sftp() {
    let sshd = Sshd::builder().config("ForceCommand internal-sftp").start();
    let tree = owned_tree(&sshd, |dir| fs::write(dir.join("file"), "x").unwrap());
    let world = World::new();
    let ran = world.backup_ran(&url("ssh", &sshd, sshd.port, &tree), &strs(&login(&sshd)));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(manifest(&ran)["content_summary"]["files"], 1);
    assert_eq!(manifest(&ran)["evidence"]["kind"], "walk");
    assert!(ran.stderr.contains("SFTP"), "{ran:?}");
}

#[test]
fn what_can_not_be_read_makes_a_partial_snapshot() {
    for scheme in ["sftp", "ssh"] {
        let sshd = Sshd::builder().start();
        let tree = owned_tree(&sshd, |dir| {
            fs::write(dir.join("open"), "x").unwrap();
            fs::write(dir.join("secret"), "x").unwrap();
        });
        chown(tree.join("secret"), Some(0), Some(0)).unwrap();
        let _ = tools::run(tools::command("chmod", ["600"]).arg(tree.join("secret")));
        let world = World::new();
        let ran = world.backup_ran(&url(scheme, &sshd, sshd.port, &tree), &strs(&login(&sshd)));
        assert_eq!(ran.code, 3, "{scheme}: {ran:?}");
        assert_eq!(manifest(&ran)["completeness"], "partial", "{scheme}");
        assert_eq!(manifest(&ran)["content_summary"]["warnings"], 1, "{scheme}");
        assert!(ran.stderr.contains("tree/secret"), "{scheme}: {ran:?}");
        let out = world.path("out");
        world.ok(&["restore", "latest", "--to", text(&out)]);
        assert_eq!(fs::read_to_string(restored(&out, &tree.join("open"))).unwrap(), "x");
    }
}

#[test]
fn a_snapshot_goes_back_to_a_server_and_is_completed_by_the_next_run() {
    let sshd = Sshd::builder().start();
    let world = World::new();
    let tree = world.tree(|dir| {
        trees::small_files(&dir.join("small"), 40, 2000);
        fs::write(dir.join("file"), "x").unwrap();
    });
    world.backup(text(&tree), &[]);
    let out = sshd.home.join("restored here");
    let place = url("sftp", &sshd, sshd.port, &sshd.home.join("restored%20here"));
    let restore = |more: &[&str]| world.run(&[&["restore", "latest", "--to", &place], more].concat());

    let unknown = restore(&["--ssh-key", text(&sshd.key_path)]);
    assert!(unknown.code == 1 && unknown.stderr.contains(&sshd.host_key.fingerprint), "{unknown:?}");
    assert!(unknown.stderr.contains("--host-key"), "{unknown:?}");
    let login = login(&sshd);
    let done = restore(&strs(&login));
    assert_eq!(done.code, 0, "{done:?}");
    let same = TreeOptions { mtime: MtimeMatch::Seconds32, ..TreeOptions::default() };
    assert_same_tree(&tree, &restored(&out, &tree), &same);

    fs::remove_file(restored(&out, &tree).join("file")).unwrap();
    let again = restore(&[&strs(&login)[..], &["--json"]].concat());
    let told: serde_json::Value = serde_json::from_str(again.stdout.trim()).unwrap();
    assert_eq!((&told["files"], &told["kept"]), (&1.into(), &40.into()), "{told}");
    // The directory was there, so its time is that of the new file.
    assert_same_tree(&tree, &restored(&out, &tree), &TreeOptions { mtime: MtimeMatch::Ignore, ..same });

    for (bad, part) in
        [("sftp://host/dir", "no account"), ("sftp://u@host", "no directory"), ("ftp://u@h/x", "ftp://")]
    {
        let ran = world.run(&["restore", "latest", "--to", bad]);
        assert!(ran.code == 1 && ran.stderr.contains(part), "{bad}: {ran:?}");
    }
}

#[test]
fn a_server_that_encrypts_in_another_way_is_refused_with_the_flag_that_helps() {
    let plain = Ftpd::builder(FtpKind::Proftpd).config("TLSEngine off").start();
    let explicit = Ftpd::builder(FtpKind::Proftpd).start();
    let world = World::new();
    for (scheme, ftpd, part) in [("ftp", &plain, "--plain-ftp"), ("ftps", &explicit, "write ftp://")] {
        let (source, password) =
            (format!("{scheme}://{}@127.0.0.1:{}/", ftpd.user, ftpd.port), world.path("password"));
        fs::write(&password, &ftpd.password).unwrap();
        let ran = world.run(&["probe", &source, "--password-file", text(&password)]);
        assert!(ran.code == 1 && ran.stderr.contains(part), "{scheme}: {ran:?}");
        assert!(!ran.stderr.contains("tls_ca"), "no certificate helps: {ran:?}");
    }
}

#[test]
fn a_certificate_nobody_vouches_for_is_accepted_once_and_remembered() {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).self_signed().start();
    trees::small_files(&ftpd.home.join("www"), 3, 100);
    ftpd.give(&ftpd.home.join("www"));
    let world = World::new();
    let (password, known) = (world.path("password"), world.path("known/certificates"));
    fs::write(&password, &ftpd.password).unwrap();
    let source = format!("ftp://{}@127.0.0.1:{}/www", ftpd.user, ftpd.port);
    let run = |command: &str, more: &[&str]| {
        let login = ["--password-file", text(&password), "--known-certificates", text(&known)];
        let recipient = ["--recipient", &world.recipient];
        let recipient = if command == "backup" { &recipient[..] } else { &[] };
        world.run(&[&[command, &source], recipient, &login[..], more].concat())
    };
    let unknown = run("backup", &[]);
    assert!(unknown.code == 1 && unknown.stderr.contains(&ftpd.fingerprint), "{unknown:?}");
    assert!(unknown.stderr.contains("--accept-new-certificate"), "{unknown:?}");
    assert!(!known.exists());
    let accepted = run("backup", &["--accept-new-certificate"]);
    assert!(accepted.code == 0 && accepted.stderr.contains("accepted the certificate"), "{accepted:?}");
    assert_eq!(
        fs::read_to_string(&known).unwrap(),
        format!("127.0.0.1:{} {}\n", ftpd.port, ftpd.fingerprint)
    );
    for command in ["backup", "probe"] {
        assert_eq!(run(command, &[]).code, 0);
    }
    // Somebody else at the same place is not accepted, whatever is asked for.
    let other = "00:".repeat(31) + "00";
    fs::write(&known, format!("127.0.0.1:{} {other}\n", ftpd.port)).unwrap();
    let changed = run("backup", &["--accept-new-certificate"]);
    assert!(changed.code == 1 && changed.stderr.contains("CHANGED"), "{changed:?}");
    assert_eq!(world.snapshot_dirs().len(), 2);
}
