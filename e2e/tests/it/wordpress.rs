//! WordPress from end to end: a real site is backed up by the service, and comes back by age, zstd and tar, and by xvault: its tables are
//! equal, and its front page answers.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use xvault_testkit::{Mariadb, MtimeMatch, Sshd, TreeOptions, Wordpress, assert_same_tree, tools};

use crate::databases::Shop;
use crate::fleet::text;

/// Saves the site, compares and pins its server's key, has it looked at, and backs it up. Gives the ids of source and snapshot.
fn backed_up(shop: &Shop, sshd: &Sshd, root: &Path) -> (String, String) {
    let credential = shop.credential(&sshd.password);
    let mut config = json!({
        "host": "127.0.0.1", "port": sshd.port, "username": sshd.user, "paths": [root], "use_password": true,
    });
    let (_, shown) = shop.probed("wordpress", &credential, &config);
    let probe = &shown["probe"];
    assert_eq!((&probe["logged_in"], &probe["host_key"]), (&json!(false), &json!(sshd.host_key.fingerprint)));
    config["host_key"] = probe["host_key"].clone();
    config["hooks"] = json!({
        "before": {"command": "echo frozen > frozen; cat frozen"},
        "after": {"command": "rm frozen && echo thawed", "timeout_seconds": 10, "on_failure": "warn"},
    });
    let (source, test) = shop.probed("wordpress", &credential, &config);
    assert_eq!((&test["status"], &test["probe"]["logged_in"]), (&json!("completed"), &json!(true)), "{test}");
    let kinds: Vec<&Value> = (0..2).map(|at| &test["probe"]["paths"][at]["kind"]).collect();
    assert_eq!(kinds, ["directory", "database"], "{test}");
    assert!(test["probe"]["notes"].to_string().contains("WordPress 6."), "{test}");
    let snapshot = shop.up.back_up(&shop.tenant, &source);
    let manifest = &shop.up.api.get(&format!("/api/v1/snapshots/{snapshot}"))["manifest"];
    assert_eq!((&manifest["source_type"], &manifest["completeness"]), (&json!("wordpress"), &json!("whole")));
    let evidence = &manifest["evidence"];
    assert_eq!((&evidence["kind"], &evidence["databases"][0]["kind"]), (&json!("site"), &json!("dump")));
    let logs = shop.up.api.get(&format!("/api/v1/jobs/{}/logs", text(&manifest["job_id"]))).to_string();
    for told in ["hook before: frozen", "hook after: thawed", "WordPress 6."] {
        assert!(logs.contains(told), "{told}: {logs}");
    }
    assert!(!sshd.home.join("frozen").exists());
    (source, snapshot)
}

/// Asserts that the copy in `root`, once its configuration names `database` of `server`, answers its front page.
fn assert_answers(site: &Wordpress, root: &Path, server: &Mariadb, database: &str) {
    let path = root.join("wp-config.php");
    let config = fs::read_to_string(&path).unwrap();
    let here =
        config.replace(&format!("127.0.0.1:{}", site.database_port), &format!("127.0.0.1:{}", server.port));
    let here = here.replace(&format!("'DB_NAME', '{}'", site.database), &format!("'DB_NAME', '{database}'"));
    assert_ne!(here, config);
    fs::write(&path, here).unwrap();
    let (status, page) = site.serve(root).front_page();
    assert!(status == 200 && page.contains(Wordpress::TITLE), "{status}: {page}");
}

#[test]
fn wordpress_over_ssh() {
    let (sshd, shop, live) = (Sshd::builder().start(), Shop::open(), Mariadb::shared());
    let root = sshd.home.join("html");
    let site = Wordpress::install(live, &root);
    site.give_to(sshd.ids());
    let (source, snapshot) = backed_up(&shop, &sshd, &root);
    let expected = live.checksums(&site.database);
    assert!(expected.lines().count() > 12, "{expected}");

    let (dir, fresh) = (tempfile::tempdir().unwrap(), Mariadb::start());
    let (key, by_hand, by_us) = (dir.path().join("key"), dir.path().join("hand"), dir.path().join("us"));
    let same =
        TreeOptions { owner: true, hard_links: true, mtime: MtimeMatch::Exact, ..TreeOptions::default() };
    let copied = |out: &Path| out.join("files").join(root.strip_prefix("/").unwrap());
    shop.write_identity(&key);

    // By hand, as docs/sources/wordpress.md has it.
    tools::age_decrypt_untar(&shop.artifact(&source, &snapshot), &key, &by_hand);
    assert_same_tree(&root, &copied(&by_hand), &same);
    site.grant(&fresh);
    let dump = fs::File::open(by_hand.join(format!("database/{}.sql", site.database))).unwrap();
    let port = format!("--port={}", fresh.port);
    let place = [
        "--no-defaults",
        "--binary-mode",
        "--host=127.0.0.1",
        &port,
        "--user",
        Mariadb::USER,
        &site.database,
    ];
    let mut mariadb = tools::command("mariadb", place);
    let _ = tools::run(mariadb.env("MYSQL_PWD", &fresh.password).stdin(Stdio::from(dump)));
    assert_eq!(fresh.checksums(&site.database), expected);
    assert_answers(&site, &copied(&by_hand), &fresh, &site.database);

    // By xvault: the files into a directory, the database by a job.
    let mut xvault = Command::new(env!("CARGO_BIN_EXE_up"));
    xvault.args(["restore", &snapshot, "files", "--store"]).arg(shop.up.data.join("backups"));
    let _ = tools::run(xvault.arg("--identity").arg(&key).arg("--to").arg(&by_us));
    assert_same_tree(&root, &copied(&by_us), &same);
    let config = json!({"host": "127.0.0.1", "port": fresh.port, "username": Mariadb::USER, "database": site.database});
    let entry = format!("/database/{}.sql", site.database);
    shop.loaded(("mysql", &config, &fresh.password), &snapshot, &entry, "come_back");
    assert_eq!(fresh.checksums("come_back"), expected);
    let _ = fresh.sql("", &format!("GRANT ALL ON come_back.* TO {}@'%'", site.user));
    assert_answers(&site, &copied(&by_us), &fresh, "come_back");
}
