//! The hub's database is lost, or that and a worker's disk. What `docs/disaster.md` prints brings everything back, word for word.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use xvault_core::Identity;
use xvault_core::secret::ExposeSecret as _;
use xvault_core::snapshot::ARTIFACT_NAME;
use xvault_testkit::{MtimeMatch, S3Access, SeaweedFs, TreeOptions, assert_same_tree, tools};

use crate::copies::{backed_up_and_copied, second_store, source};
use crate::documented::{self, Shell};
use crate::fleet::{Fleet, OPERATOR, Plan, text};
use crate::up::Up;
use crate::wait::eventually;

const DOCS: &str = include_str!("../../../docs/disaster.md");

/// The commands of the documentation's block of this name.
fn documented(name: &str) -> String {
    documented::block(DOCS, name)
}

/// A shell where the hub's variables are set.
fn shell(up: &Up, dir: &Path) -> Shell {
    Shell::new(dir)
        .with("DATABASE_URL", up.database())
        .with("HUB_ENCRYPTION_KEK_FILE", up.data.join("kek.txt").to_str().unwrap())
        .with("STORE", up.data.join("backups").to_str().unwrap())
}

/// Makes the recovery key; the shell knows its recipient.
fn make_recovery_key(shell: &mut Shell, dir: &Path) {
    shell.run(&documented("a recovery key, made on a machine that is kept offline"));
    let key = fs::read_to_string(dir.join("recovery.key")).unwrap();
    let recipient = key.lines().find_map(|line| line.split("public key: ").nth(1)).unwrap();
    shell.set("RECOVERY_RECIPIENT", recipient);
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
    let mut shell = shell(&up, dir.path()).with("SNAPSHOT", &snapshot);
    make_recovery_key(&mut shell, dir.path());
    let export_keys = documented("the identities of all tenants, for that key alone");
    shell.run(&export_keys);
    let export = fs::read(dir.path().join("identities.age")).unwrap();
    assert!(export.starts_with(b"age-encryption.org/v1"));
    let again = shell.output(&export_keys);
    assert!(!again.status.success(), "an export that is there stays as it is");

    lose_database(&mut up);

    // With no hub at all: real age opens the export, and xvault and age read with what is in it.
    shell.run(&documented("without a hub"));
    same_tree(&up.home, &dir.path().join("restored"));
    let key = dir.path().join("identities.txt");
    let artifact = up
        .data
        .join(format!("backups/tenants/{tenant}/sources/{source}/snapshots/{snapshot}/backup.tar.zst.enc"));
    tools::age_decrypt_untar(&artifact, &key, &dir.path().join("by-hand"));
    same_tree(&up.home, &dir.path().join("by-hand"));

    // A new database.
    let told = shell.run(&documented("a new database"));
    assert!(told.contains("1 tenants and 1 keys were added"), "{told}");
    assert!(told.contains("1 snapshots, 1 sources and 0 tenants were added"), "{told}");
    let told = shell.run(&documented("compare"));
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
    let lost = up.on_disk().remove(0);
    shell.set("LOST", &lost);
    let place = format!("backups/tenants/{tenant}/sources/{source}/snapshots");
    fs::rename(up.data.join(&place).join(&lost), dir.path().join("aside")).unwrap();
    let told = shell.run(&documented("compare"));
    assert!(told.contains(&format!("{lost}  no bytes")), "{told}");
    let told = shell.run("xvault-hub reconcile --store \"$STORE\" --delete \"$LOST\"");
    assert!(told.contains(&format!("{lost}  deleted")), "{told}");
    fs::rename(dir.path().join("aside"), up.data.join(&place).join(&lost)).unwrap();
    let told = shell.run(&documented("compare"));
    assert!(told.contains(&format!("{lost}  no record")), "{told}");
    let wrong = shell.output("xvault-hub reconcile --store \"$STORE\" --delete \"$SNAPSHOT\"");
    assert!(!wrong.status.success() && up.on_disk().contains(&snapshot), "{wrong:?}");
    shell.run("xvault-hub reconcile --store \"$STORE\" --delete \"$LOST\"");
    assert_eq!(up.on_disk(), [snapshot]);
}

/// A byte rots on the worker's disk, and the copy is sound.
#[test]
fn a_damaged_snapshot_is_restored_from_its_copy_and_gives_way_to_it_by_one_command() {
    let (bucket, dir) = (SeaweedFs::shared().new_bucket(), tempfile::tempdir().unwrap());
    let fleet = Fleet::start(&Plan { sqlite: true, ..Plan::default() });
    let store = second_store(&fleet, &bucket, &bucket.endpoint);
    let snapshot = backed_up_and_copied(&fleet, &source(&fleet, "letters", &store, false));
    let path = format!("/api/v1/snapshots/{snapshot}");
    let place = Path::new(&text(&fleet.api.get(&path)["local_path"])).to_owned();
    let mut bytes = fs::read(place.join(ARTIFACT_NAME)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(place.join(ARTIFACT_NAME), bytes).unwrap();
    let verify = fleet.api.post(&format!("{path}/verify"), &json!({ "depth": "deep" }));
    fleet.completed(&text(&verify["id"]));
    assert_eq!(fleet.api.get(&path)["verify_result"], "damaged");

    // Nothing has to be put right for a restore, or a download.
    let tree = fleet.site.sshd.home.join("letters");
    let restore = |name: &str, from: &Value| {
        let out = fleet.site.sshd.home.join(name);
        let body = json!({ "target": { "type": "server", "path": out }, "from_store": from });
        let answer = fleet.api.send(reqwest::Method::POST, &format!("{path}/restore"), Some(&body)).unwrap();
        (answer, out)
    };
    let (refused, _) = restore("refused", &json!(null));
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("damaged")));
    assert_eq!(refused.body["details"]["stores"], json!([store]));
    let (job, out) = restore("chosen", &json!(store));
    fleet.completed(&text(&job.ok()["id"]));
    same_tree(&tree, &out);
    let link = fleet.api.get(&format!("{path}/download?format=tar&from_store={store}"));
    Shell::new(dir.path()).run(&text(&link["command"]));
    same_tree(&tree, dir.path());

    // The copy becomes the snapshot once it was looked at, too.
    fs::write(dir.path().join("token.txt"), &fleet.api.token).unwrap();
    let shell = Shell::new(dir.path())
        .with("DATABASE_URL", &fleet.database)
        .with("HUB_ENCRYPTION_KEK", fleet.secrets.kek_text())
        .with("HUB", format!("http://127.0.0.1:{}", fleet.hubs[0].port))
        .with("STORE", fleet.workers[0].storage.to_str().unwrap())
        .with("SNAPSHOT", &snapshot)
        .with("COPY", &store);
    let told = shell.run(&documented("compare"));
    assert!(told.contains(&format!("{snapshot}  damaged: ")), "{told}");
    let give_way = documented("the copy is the snapshot from now on");
    let too_soon = shell.output(&give_way);
    let told = String::from_utf8_lossy(&too_soon.stderr).into_owned();
    assert!(!too_soon.status.success() && told.contains("no copy of it was verified"), "{told}");
    shell.run(&documented("verify the copy"));
    let told = shell.run(&give_way);
    assert!(told.contains(&format!("{snapshot}  lies in store {store} from now on")), "{told}");
    assert!(!place.exists(), "what was damaged is there");
    assert_eq!(places(&fleet, &snapshot), ["s3"]);
    assert_eq!(fleet.api.get(&path)["verify_result"], "ok");
    let (job, out) = restore("afterwards", &json!(null));
    fleet.completed(&text(&job.ok()["id"]));
    same_tree(&tree, &out);
}

/// The bucket's variables, as `xvault` and the documentation have them.
pub(crate) fn of_bucket(shell: Shell, bucket: &S3Access) -> Shell {
    shell
        .with("BUCKET", &bucket.bucket)
        .with("PREFIX", "copies")
        .with("AWS_ENDPOINT_URL_S3", &bucket.endpoint)
        .with("AWS_REGION", &bucket.region)
        .with("AWS_ACCESS_KEY_ID", &bucket.access_key)
        .with("AWS_SECRET_ACCESS_KEY", &bucket.secret_key)
}

/// Where each snapshot lies, as the hub says: kinds of places.
fn places(fleet: &Fleet, snapshot: &str) -> Vec<String> {
    let snapshot = fleet.api.get(&format!("/api/v1/snapshots/{snapshot}"));
    snapshot["locators"].as_array().unwrap().iter().map(|one| text(&one["storage_backend"])).collect()
}

#[test]
fn losing_the_hubs_database_and_one_workers_disk_at_once_loses_nothing_that_was_replicated() {
    let (bucket, dir) = (SeaweedFs::shared().new_bucket(), tempfile::tempdir().unwrap());
    let mut fleet = Fleet::start(&Plan { workers: 2, ..Plan::default() });
    let store = second_store(&fleet, &bucket, &bucket.endpoint);
    // One snapshot on the disk of each worker, and both in the bucket.
    let mut copied = Vec::new();
    for (number, name) in ["letters", "pictures"].into_iter().enumerate() {
        fleet.workers[1 - number].program.kill();
        if number > 0 {
            fleet.workers[number].start_again();
        }
        let source = source(&fleet, name, &store, name == "pictures");
        let snapshot = backed_up_and_copied(&fleet, &source);
        assert_eq!(fleet.worker_of(&fleet.api.get(&format!("/api/v1/snapshots/{snapshot}"))), number);
        copied.push((name, source, snapshot));
    }

    // On an ordinary day.
    let mut shell = of_bucket(Shell::new(dir.path()), &bucket)
        .with("DATABASE_URL", &fleet.database)
        .with("HUB_ENCRYPTION_KEK", fleet.secrets.kek_text());
    make_recovery_key(&mut shell, dir.path());
    shell.run(&documented("the identities of all tenants, for that key alone"));

    // All at once, and for good: the hub, its database, its KEK, and the disk of the first worker.
    fleet.hubs[0].program.kill();
    fleet.workers[1].program.kill();
    fs::remove_dir_all(&fleet.workers[0].storage).unwrap();

    // With no hub at all.
    for (name, _, snapshot) in &copied {
        let alone = tempfile::tempdir().unwrap();
        for file in ["recovery.key", "identities.age"] {
            fs::copy(dir.path().join(file), alone.path().join(file)).unwrap();
        }
        let place = format!("s3://{}/copies", bucket.bucket);
        let alone_there =
            of_bucket(Shell::new(alone.path()), &bucket).with("STORE", place).with("SNAPSHOT", snapshot);
        alone_there.run(&documented("without a hub"));
        same_tree(&fleet.site.sshd.home.join(name), &alone.path().join("restored"));
    }

    // A new hub, with a new database and a new KEK. The disk that is left comes first, then the bucket.
    let (database, kek) = (xvault_testkit::Postgres::shared().create_database(), Identity::generate());
    let kek = kek.to_secret().expose_secret().to_owned();
    let disk = fleet.workers[1].storage.to_str().unwrap().to_owned();
    let mut shell = shell
        .with("DATABASE_URL", &database)
        .with("HUB_ENCRYPTION_KEK", &kek)
        .with("STORE", disk)
        .with("HUB", format!("http://127.0.0.1:{}", fleet.hubs[0].port));
    let told = shell.run(&documented("a new database"));
    assert!(told.contains("1 tenants and 1 keys were added"), "{told}");
    assert!(told.contains("1 snapshots, 1 sources and 0 tenants were added"), "{told}");
    fleet.hubs[0].start_with(&[("DATABASE_URL", &database), ("HUB_ENCRYPTION_KEK", &kek)]);
    fleet.until_ready();
    let login = json!({ "email": OPERATOR, "password": fleet.secrets.operator_password });
    fs::write(dir.path().join("login.json"), login.to_string()).unwrap();
    shell.run(&documented("log in"));
    fleet.api = fleet.api.with_token(fs::read_to_string(dir.path().join("token.txt")).unwrap().trim());
    let told = shell.run(&documented("a bucket"));
    assert!(told.contains("1 snapshots, 1 sources and 0 tenants were added"), "{told}");
    assert!(told.contains("1 copies of snapshots that lie elsewhere were added"), "{told}");
    assert_eq!(places(&fleet, &copied[0].2), ["s3"], "the disk is lost");
    assert_eq!(places(&fleet, &copied[1].2), ["local_fs", "s3"]);
    let again = shell.run(documented("a bucket").lines().last().unwrap());
    assert!(
        again.contains("0 snapshots, 0 sources") && again.contains("2 snapshots were on record"),
        "{again}"
    );

    // The worker that is left gets a new token, and restores both through the new hub.
    let token = shell.run("xvault-hub token worker-1");
    let _worker = fleet.workers[1].with(&[("WORKER_TOKEN", token.lines().last().unwrap())]);
    for (name, source, snapshot) in &copied {
        let out = tempfile::tempdir().unwrap();
        fs::copy(dir.path().join("token.txt"), out.path().join("token.txt")).unwrap();
        let there = Shell::new(out.path())
            .with("HUB", format!("http://127.0.0.1:{}", fleet.hubs[0].port))
            .with("SNAPSHOT", snapshot);
        there.run(&documented("a restore through the new hub"));
        same_tree(&fleet.site.sshd.home.join(name), out.path());
        assert_eq!(fleet.snapshots(source).len(), 1);
    }

    // What the bucket and the records do not agree about.
    let compare = "xvault-hub reconcile --store \"s3://$BUCKET/$PREFIX\"";
    let told = shell.run(compare);
    assert!(told.contains("2 snapshots lie there and are on record") && told.lines().count() == 1, "{told}");
    for (_, _, snapshot) in &copied {
        for key in bucket.keys("copies").iter().filter(|key| key.contains(snapshot.as_str())) {
            let _ = bucket.in_bucket("DELETE", key, b"");
        }
    }
    shell.run(
        "mkdir stranger && date > stranger/file && xvault backup stranger --store \"s3://$BUCKET/$PREFIX\"",
    );
    let told = shell.run(compare);
    let (only, copy) = (&copied[0].2, &copied[1].2);
    let line = |told: &str, end: &str| {
        let line = told.lines().find(|line| line.contains(end)).unwrap_or_else(|| panic!("{end}: {told}"));
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert!(told.contains("0 snapshots lie there"), "{told}");
    assert_eq!(line(&told, "  no bytes: "), *only);
    assert_eq!(line(&told, "  no bytes of its copy: "), *copy);
    let stranger = line(&told, "  no record: ");
    for snapshot in [only, copy, &stranger] {
        shell.set("LOST", snapshot);
        let told = shell.run(&format!("{compare} --delete \"$LOST\""));
        assert!(told.contains(&format!("{snapshot}  deleted")), "{told}");
    }
    assert!(bucket.keys("copies").iter().all(|key| !key.contains(&stranger)), "its bytes are there");
    assert_eq!(places(&fleet, copy), ["local_fs"], "the snapshot itself is as it was");
    let told = shell.run(compare);
    assert!(told.contains("0 snapshots lie there") && told.lines().count() == 1, "{told}");
}
