//! FTP from end to end: an unknown certificate is shown, compared and pinned; the files are backed up by the service, and come back by age,
//! zstd and tar, by xvault, and by a job that puts them onto a fresh server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;
use xvault_testkit::{FtpKind, Ftpd, MtimeMatch, Sshd, TreeOptions, assert_same_tree, tools, trees};

use crate::databases::Shop;

/// Has a job put all of the snapshot onto `server`; gives where it lies there.
fn pushed(shop: &Shop, server: &Sshd, snapshot: &str) -> PathBuf {
    let out = server.home.join("given-back");
    let config = json!({
        "host": "127.0.0.1", "port": server.port, "username": server.user, "paths": [server.home],
        "use_password": true, "host_key": server.host_key.fingerprint,
    });
    let (source, _) = shop.probed("sftp", &shop.credential(&server.password), &config);
    shop.restored(snapshot, &json!({"type": "server", "source_id": source, "path": out}));
    out
}

#[test]
fn ftp_files_only() {
    let (ftpd, shop) = (Ftpd::builder(FtpKind::Proftpd).self_signed().start(), Shop::open());
    let tree = ftpd.home.join("www");
    trees::small_files(&tree, 150, 3000);
    trees::random_file(&tree.join("caf\u{e9} (large)"), 3 << 20, 5);
    fs::create_dir(tree.join("empty")).unwrap();
    symlink("empty", tree.join("link")).unwrap();
    ftpd.give(&tree);

    let credential = shop.credential(&ftpd.password);
    let mut config = json!({
        "host": "127.0.0.1", "port": ftpd.port, "username": ftpd.user, "paths": ["/www"], "max_connections": 4,
    });
    let (_, shown) = shop.probed("ftp", &credential, &config);
    let probe = &shown["probe"];
    assert_eq!(
        (&probe["logged_in"], &probe["host_key"]),
        (&json!(false), &json!(ftpd.fingerprint)),
        "{shown}"
    );
    assert!(probe["notes"].to_string().contains("tls_fingerprint"), "{shown}");
    config["tls_fingerprint"] = probe["host_key"].clone();
    let (source, test) = shop.probed("ftp", &credential, &config);
    assert_eq!((&test["status"], &test["probe"]["logged_in"]), (&json!("completed"), &json!(true)), "{test}");
    assert_eq!(test["probe"]["paths"][0]["kind"], "directory", "{test}");

    let snapshot = shop.up.back_up(&shop.tenant, &source);
    let manifest = &shop.up.api.get(&format!("/api/v1/snapshots/{snapshot}"))["manifest"];
    assert_eq!((&manifest["source_type"], &manifest["completeness"]), (&json!("ftp"), &json!("whole")));
    let dir = tempfile::tempdir().unwrap();
    let (key, by_hand, by_us) = (dir.path().join("key"), dir.path().join("hand"), dir.path().join("us"));
    shop.write_identity(&key);
    tools::age_decrypt_untar(&shop.artifact(&source, &snapshot), &key, &by_hand);
    let options = TreeOptions { mtime: MtimeMatch::WholeSeconds, owner: true, ..TreeOptions::default() };
    assert_same_tree(&tree, &by_hand.join("www"), &options);
    let store = shop.up.data.join("backups");
    let mut xvault = std::process::Command::new(env!("CARGO_BIN_EXE_up"));
    xvault
        .args(["restore", &snapshot, "--store"])
        .arg(&store)
        .arg("--identity")
        .arg(&key)
        .arg("--to")
        .arg(&by_us);
    let _ = tools::run(&mut xvault);
    assert_same_tree(&tree, &by_us.join("www"), &options);
    let fresh = Sshd::builder().start();
    let by_a_job = pushed(&shop, &fresh, &snapshot);
    // What belongs to the account of one server does not to that of the other.
    assert_same_tree(&tree, &by_a_job.join("www"), &TreeOptions { owner: false, ..options });
}
