//! Snapshots in a bucket outlive the worker that made them, and go back to a server although workers die.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use xvault_testkit::{
    Garage, MtimeMatch, Postgres, S3Access, SeaweedFs, TreeOptions, assert_same_tree, tools, trees,
};

use crate::fleet::{Fleet, Plan, SOON, text};
use crate::links::opened;
use crate::wait::{eventually, until};

/// What a server says to whoever logs in, and pushes a few files of many: far less than of all.
const LET_THROUGH: u64 = 16 << 10;

/// How far the clock of a hub is off whose links, good for a day, end in 15 seconds.
const NEARLY_ENDED: i64 = 15 - 24 * 3600;

/// Two workers, and a backup of a tree in a bucket.
struct Stage {
    fleet: Fleet,
    tree: PathBuf,
    backup: Value,
}

impl Stage {
    fn set() -> Self {
        Self::with(&store(&SeaweedFs::shared().new_bucket()))
    }

    /// The backup lies in a store as it is described.
    fn with(store: &Value) -> Self {
        let fleet = Fleet::start(&Plan { workers: 2, ..Plan::default() });
        let tree = fleet.site.small_tree("site");
        trees::small_files(&tree.join("many"), 200, 300);
        trees::random_file(&tree.join("z.bin"), 4 << 20, 11);
        let source = fleet.new_source("web", &fleet.site.tapped(&tree));
        let store = text(&fleet.api.post("/api/v1/stores", store)["id"]);
        fleet.put(&format!("/api/v1/sources/{source}"), &json!({ "store_id": store }));
        let backup = fleet.completed(&fleet.backup(&source));
        Self { fleet, tree, backup }
    }

    /// Asks for a restore of all of it to a directory of the server.
    fn push_back(&self, directory: &Path) -> String {
        let target = json!({ "type": "server", "path": directory, "overwrite": "if_changed" });
        text(&self.restore(&json!({ "target": target }))["id"])
    }

    fn restore(&self, body: &Value) -> Value {
        let path = format!("/api/v1/snapshots/{}/restore", text(&self.backup["snapshot_id"]));
        self.fleet.api.post(&path, body)
    }

    /// That below `out` lies what was backed up.
    fn is_the_tree(&self, out: &Path) {
        let options = TreeOptions { mtime: MtimeMatch::WholeSeconds, ..TreeOptions::default() };
        assert_same_tree(&self.tree, &out.join(self.tree.strip_prefix("/").unwrap()), &options);
    }
}

/// A store of the platform.
fn store(bucket: &S3Access) -> Value {
    json!({
        "name": "shared",
        "kind": "s3",
        "config": { "bucket": bucket.bucket, "endpoint": bucket.endpoint, "region": bucket.region },
        "credential": { "access_key_id": bucket.access_key, "secret_access_key": bucket.secret_key },
    })
}

/// Runs a command line as it was shown.
fn works(command: &str, dir: &Path) {
    let line = format!("set -o pipefail; {command}");
    let output = tools::command("bash", ["-c", &line]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The same in a Garage that gives each tenant a bucket and each job a key.
fn store_on_garage() -> Value {
    let garage = Garage::shared();
    json!({
        "name": "shared",
        "kind": "s3",
        "config": { "bucket": "shared", "endpoint": garage.endpoint(), "region": garage.access().region },
        "admin_token": garage.admin_token(),
        "scoping": { "kind": "garage", "admin_endpoint": garage.admin_endpoint() },
    })
}

#[test]
fn multi_worker_cross_disk_restores() {
    one_worker_dies_and_the_other_restores(Stage::set());
}

#[test]
#[ignore = "needs Garage: scripts/test --full"]
fn multi_worker_cross_disk_restores_on_garage() {
    one_worker_dies_and_the_other_restores(Stage::with(&store_on_garage()));
}

fn one_worker_dies_and_the_other_restores(mut stage: Stage) {
    let dead = stage.fleet.worker_of(&stage.backup);
    stage.fleet.workers[dead].program.kill();
    let other = 1 - dead;

    let done = stage.fleet.completed(&text(&stage.restore(&json!({}))["id"]));
    assert_eq!(stage.fleet.worker_of(&done), other);
    // The link leads to the worker that lives, as soon as the hub has heard of it since.
    let command = eventually(SOON, "a link that leads to the other worker", || {
        let download = stage.fleet.job(&text(&done["id"]))["download"].clone();
        let url = download["url"].as_str()?;
        url.starts_with(&stage.fleet.workers[other].download_url).then(|| text(&download["command"]))
    });
    let dir = tempfile::tempdir().unwrap();
    works(&command, dir.path());
    stage.is_the_tree(dir.path());

    let out = stage.fleet.site.sshd.home.join("restored");
    let pushed = stage.fleet.completed(&stage.push_back(&out));
    assert_eq!(stage.fleet.worker_of(&pushed), other);
    assert_eq!(pushed["restore"]["files"], json!(12 + 1 + 200 + 1), "{pushed}");
    stage.is_the_tree(&out);
    // What is there already stays.
    let again = stage.fleet.completed(&stage.push_back(&out));
    assert_eq!(
        (&again["restore"]["files"], &again["restore"]["skipped"]),
        (&json!(0), &json!(214)),
        "{again}"
    );
}

#[test]
fn presigned_url_downloads() {
    a_link_into_the_bucket_opens(&SeaweedFs::shared().new_bucket(), (403, "expired"));
}

#[test]
#[ignore = "needs Garage: scripts/test --full"]
fn presigned_url_downloads_on_garage() {
    a_link_into_the_bucket_opens(&Garage::shared().new_bucket(), (400, "Date is too old"));
}

/// `ended`: how its server refuses a link that has ended.
fn a_link_into_the_bucket_opens(bucket: &S3Access, ended: (u16, &str)) {
    let stage = Stage::with(&store(bucket));
    let path = format!("/api/v1/snapshots/{}/download?what=artifact", text(&stage.backup["snapshot_id"]));
    let link = stage.fleet.api.get(&path);
    assert!(text(&link["url"]).starts_with(&format!("{}/{}/", bucket.endpoint, bucket.bucket)), "{link}");
    let dir = tempfile::tempdir().unwrap();
    let identity =
        stage.fleet.api.post(&format!("/api/v1/tenants/{}/identity", stage.fleet.tenant), &json!({}));
    let (key, out) = (dir.path().join("key.txt"), dir.path().join("out"));
    std::fs::write(&key, text(&identity["identity"])).unwrap();
    std::fs::create_dir(&out).unwrap();
    works(&text(&link["command"]).replace("KEY", key.to_str().unwrap()), &out);
    stage.is_the_tree(&out);
    the_link_ends(&stage, &path, ended);
}

/// A bucket knows neither hub nor snapshot: what it is told of both is in the link, and in what lies there.
fn the_link_ends(stage: &Stage, path: &str, (refusal, words): (u16, &str)) {
    let fleet = &stage.fleet;
    let url = text(&fleet.api.get(path)["url"]);
    assert_eq!(opened(&url).0, 200);

    // A hub that signs as it did a day ago, less a few seconds: so soon does its link end.
    let (_hub, then) = fleet.hub_off_by(NEARLY_ENDED);
    let short = text(&then.get(path)["url"]);
    assert_eq!(opened(&short).0, 200);
    until(SOON, "the link has ended", || opened(&short).0 != 200);
    let (status, said) = opened(&short);
    assert!(status == refusal && said.contains(words), "{status}: {said}");
    assert_eq!(opened(&url).0, 200, "the other one has not");

    let snapshot = path.split_once("/download").unwrap().0;
    fleet.api.send(Method::DELETE, snapshot, None).unwrap().ok();
    until(SOON, "the snapshot is gone", || {
        fleet.api.send(Method::GET, snapshot, None).is_some_and(|answer| answer.status == 404)
    });
    let (status, said) = opened(&url);
    assert!(status == 404 && said.contains("NoSuchKey"), "{status}: {said}");
}

#[test]
fn killed_in_mid_restore_and_gone_on_with_by_another_worker() {
    let mut stage = Stage::set();
    let before = stage.fleet.site.tap.bytes_to_client();
    stage.fleet.site.tap.stall_after(LET_THROUGH);
    let out = stage.fleet.site.sshd.home.join("restored");
    let job = stage.push_back(&out);
    until(SOON, "a restore in its middle", || stage.fleet.site.tap.bytes_to_client() >= before + LET_THROUGH);
    let running = stage.fleet.job(&job);
    assert_eq!(running["status"], "running", "{running}");
    let dead = stage.fleet.worker_of(&running);
    stage.fleet.workers[dead].program.kill();
    stage.fleet.site.tap.heal();
    let done = stage.fleet.completed(&job);
    assert_eq!((stage.fleet.worker_of(&done), &done["attempt"]), (1 - dead, &json!(2)), "{done}");
    assert!(done["restore"]["skipped"].as_u64().unwrap() > 0, "it was begun anew: {done}");
    stage.is_the_tree(&out);
}

#[test]
fn a_dump_is_loaded_into_a_database_by_a_job() {
    let (fleet, server) = (Fleet::start(&Plan { workers: 1, ..Plan::default() }), Postgres::shared());
    let (shop, source) = fleet.shop_source(server);
    let backup = fleet.completed(&fleet.backup(&source));
    let entries =
        fleet.api.get(&format!("/api/v1/snapshots/{}/entries?q=*{shop}*", text(&backup["snapshot_id"])));
    let entries = entries["entries"].as_array().unwrap().clone();
    let entry = entries.iter().map(|entry| text(&entry["path"])).find(|path| path.contains(&shop)).unwrap();

    let path = format!("/api/v1/snapshots/{}/restore", text(&backup["snapshot_id"]));
    let copy = format!("{shop}_copy");
    let target = json!({ "type": "database", "entry": entry, "database": copy, "create": true });
    let done = fleet.completed(&text(&fleet.api.post(&path, &json!({ "target": target }))["id"]));
    assert!(done["restore"]["bytes"].as_u64().unwrap() > 0, "{done}");
    assert_eq!(server.checksums(&copy), server.checksums(&shop));
    // Nothing is loaded over tables that nobody gave up.
    let again = text(&fleet.api.post(&path, &json!({ "target": target }))["id"]);
    let failed = eventually(SOON, "the job has failed", || {
        Some(fleet.job(&again)).filter(|job| job["status"] == "failed")
    });
    assert_eq!(failed["attempt"], json!(1), "{failed}");
}
