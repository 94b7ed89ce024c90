//! The hub's database is lost. What `docs/disaster.md` prints brings everything back, word for word.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use xvault_testkit::{MtimeMatch, TreeOptions, assert_same_tree, tools};

use crate::fleet::text;
use crate::up::Up;
use crate::wait::eventually;

const DOCS: &str = include_str!("../../../docs/disaster.md");

/// The commands of the documentation's block of this name, with `xvault` and `xvault-hub` on the path.
fn documented(name: &str) -> String {
    let start = format!("```sh\n# {name}\n");
    let (_, rest) =
        DOCS.split_once(&start).unwrap_or_else(|| panic!("docs/disaster.md has no block `{name}`"));
    rest.split_once("```").unwrap().0.to_owned()
}

/// A shell of the operator, where the documentation's variables are set.
struct Shell<'a> {
    up: &'a Up,
    dir: &'a Path,
}

impl Shell<'_> {
    fn output(&self, commands: &str, more: &[(&str, &str)]) -> Output {
        let bin = self.dir.join("bin");
        if !bin.exists() {
            fs::create_dir(&bin).unwrap();
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_up"), bin.join("xvault")).unwrap();
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hub"), bin.join("xvault-hub")).unwrap();
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", commands])
            .current_dir(self.dir)
            .env_clear()
            .env("PATH", path);
        command.env("HOME", self.dir).env("DATABASE_URL", self.up.database());
        command.env("HUB_ENCRYPTION_KEK_FILE", self.up.data.join("kek.txt"));
        command.env("STORE", self.up.data.join("backups")).envs(more.iter().copied());
        command.output().unwrap()
    }

    /// What the commands print, which must work.
    fn run(&self, commands: &str, more: &[(&str, &str)]) -> String {
        let output = self.output(commands, more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{commands}\n{said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn lose_database(up: &mut Up) {
    up.kill();
    for entry in fs::read_dir(&up.data).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("hub.db") || name == "first-login.json" {
            fs::remove_file(path).unwrap();
        }
    }
}

fn same_tree(home: &Path, restored: &Path) {
    let options = TreeOptions { mtime: MtimeMatch::WholeSeconds, ..TreeOptions::default() };
    assert_same_tree(home, &restored.join(home.strip_prefix("/").unwrap()), &options);
}

#[test]
fn losing_the_hubs_database_loses_no_backup() {
    let (mut up, dir) = (Up::start(), tempfile::tempdir().unwrap());
    let (tenant, source) = up.local_source();
    let snapshot = up.back_up(&tenant, &source);

    // On an ordinary day.
    let shell = Shell { up: &up, dir: dir.path() };
    shell.run(&documented("a recovery key, made on a machine that is kept offline"), &[]);
    let key = fs::read_to_string(dir.path().join("recovery.key")).unwrap();
    let recipient = key.lines().find_map(|line| line.split("public key: ").nth(1)).unwrap().to_owned();
    shell.run(
        &documented("the identities of all tenants, for that key alone"),
        &[("RECOVERY_RECIPIENT", &recipient)],
    );
    let export = fs::read(dir.path().join("identities.age")).unwrap();
    assert!(export.starts_with(b"age-encryption.org/v1"));
    let again = shell.output(
        &documented("the identities of all tenants, for that key alone"),
        &[("RECOVERY_RECIPIENT", &recipient)],
    );
    assert!(!again.status.success(), "an export that is there stays as it is");

    lose_database(&mut up);

    // With no hub at all: real age opens the export, and xvault and age read with what is in it.
    let shell = Shell { up: &up, dir: dir.path() };
    shell.run(&documented("without a hub"), &[("SNAPSHOT", &snapshot)]);
    same_tree(&up.home, &dir.path().join("restored"));
    let key = dir.path().join("identities.txt");
    let artifact = up
        .data
        .join(format!("backups/tenants/{tenant}/sources/{source}/snapshots/{snapshot}/backup.tar.zst.enc"));
    tools::age_decrypt_untar(&artifact, &key, &dir.path().join("by-hand"));
    same_tree(&up.home, &dir.path().join("by-hand"));

    // A new database.
    let told = shell.run(&documented("a new database"), &[]);
    assert!(told.contains("1 tenants and 1 keys were added"), "{told}");
    assert!(told.contains("1 snapshots, 1 sources and 0 tenants were added"), "{told}");
    let told = shell.run(&documented("compare"), &[]);
    assert!(told.contains("1 snapshots lie there and are on record"), "{told}");

    up.start_again();
    let found = up.api.get(&format!("/api/v1/snapshots/{snapshot}"));
    assert_eq!((&found["tenant_id"], &found["status"]), (&json!(tenant), &json!("completed")));
    assert_eq!(up.api.get(&format!("/api/v1/tenants/{tenant}"))["name"], "home");
    // The hub can open it again.
    let job = up.api.post(&format!("/api/v1/snapshots/{snapshot}/verify"), &json!({ "depth": "deep" }));
    let path = format!("/api/v1/jobs/{}", text(&job["id"]));
    eventually(60, "the verification is done", || {
        let job = up.api.get(&path);
        assert!(job["status"] != "failed", "{job}");
        (job["status"] == "completed").then_some(())
    });
    assert_eq!(up.api.get(&format!("/api/v1/snapshots/{snapshot}"))["verify_result"], "ok");
    // And the source goes on once somebody has said where it is.
    let path = format!("/api/v1/sources/{source}");
    let config = json!({ "config": { "paths": [up.home] } });
    up.api.send(reqwest::Method::PUT, &path, Some(&config)).unwrap().ok();
    up.api.post(&format!("{path}/enable"), &json!({}));
    up.back_up(&tenant, &source);

    // Bytes without a record, and the other way round: told, and deleted only by name.
    up.kill();
    let shell = Shell { up: &up, dir: dir.path() };
    let lost = up.on_disk().remove(0);
    let place = format!("backups/tenants/{tenant}/sources/{source}/snapshots");
    fs::rename(up.data.join(&place).join(&lost), dir.path().join("aside")).unwrap();
    let told = shell.run(&documented("compare"), &[]);
    assert!(told.contains(&format!("{lost}  no bytes")), "{told}");
    let told = shell.run("xvault-hub reconcile --store \"$STORE\" --delete \"$LOST\"", &[("LOST", &lost)]);
    assert!(told.contains(&format!("{lost}  deleted")), "{told}");
    fs::rename(dir.path().join("aside"), up.data.join(&place).join(&lost)).unwrap();
    let told = shell.run(&documented("compare"), &[]);
    assert!(told.contains(&format!("{lost}  no record")), "{told}");
    let wrong =
        shell.output("xvault-hub reconcile --store \"$STORE\" --delete \"$GOOD\"", &[("GOOD", &snapshot)]);
    assert!(!wrong.status.success() && up.on_disk().contains(&snapshot), "{wrong:?}");
    shell.run("xvault-hub reconcile --store \"$STORE\" --delete \"$LOST\"", &[("LOST", &lost)]);
    assert_eq!(up.on_disk(), [snapshot]);
}
