//! Second stores: what they are for, and a worker that dies while it copies.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use xvault_core::Identity;
use xvault_core::secret::ExposeSecret;
use xvault_core::snapshot::{ARTIFACT_NAME, INDEX_NAME, MANIFEST_NAME};
use xvault_testkit::{FaultProxy, MtimeMatch, S3Access, SeaweedFs, TreeOptions, assert_same_tree, trees};

use crate::documented::Shell;
use crate::fleet::{Fleet, Plan, SOON, text};
use crate::store_trouble::the_upload;
use crate::wait::until;

/// The page whose commands are run as they are printed.
const PAGE: &str = include_str!("../../../docs/copies.md");

/// A store of the platform in that bucket, reached at `endpoint`; gives its id.
pub(crate) fn second_store(fleet: &Fleet, bucket: &S3Access, endpoint: &str) -> String {
    let body = json!({
        "name": "second", "kind": "s3",
        "config": {
            "bucket": bucket.bucket, "prefix": "copies", "endpoint": endpoint, "region": bucket.region,
        },
        "credential": { "access_key_id": bucket.access_key, "secret_access_key": bucket.secret_key },
    });
    text(&fleet.api.post("/api/v1/stores", &body)["id"])
}

/// A source of a few files, or of a few MiB, whose snapshots are copied to `store`.
pub(crate) fn source(fleet: &Fleet, name: &str, store: &str, busy: bool) -> String {
    let tree = if busy { fleet.site.busy_tree(name) } else { fleet.site.small_tree(name) };
    let source = fleet.new_source(name, &fleet.site.direct(&tree));
    let saved = fleet.put(&format!("/api/v1/sources/{source}"), &json!({ "replica_store_id": store }));
    assert_eq!(saved["replica_store_id"], json!(store));
    source
}

/// Backs up, and waits until the snapshot lies in both places; gives its id.
pub(crate) fn backed_up_and_copied(fleet: &Fleet, source: &str) -> String {
    let done = fleet.completed(&fleet.backup(source));
    let id = text(&done["snapshot_id"]);
    until(SOON, "the snapshot lies in two places", || is_copied(fleet, &id));
    id
}

fn is_copied(fleet: &Fleet, snapshot: &str) -> bool {
    let snapshot = fleet.api.get(&format!("/api/v1/snapshots/{snapshot}"));
    let kinds: Vec<_> =
        snapshot["locators"].as_array().unwrap().iter().map(|one| text(&one["storage_backend"])).collect();
    kinds == ["local_fs", "s3"]
}

/// The block of commands that follows a heading of the page.
fn commands(heading: &str) -> &'static str {
    let section = PAGE.split_once(heading).unwrap_or_else(|| panic!("the page lacks `{heading}`")).1;
    let block = section.split_once("```sh\n").unwrap().1;
    block.split_once("```").unwrap().0
}

/// Runs commands in a shell that knows the bucket.
fn run(script: &str, dir: &Path, bucket: &S3Access) -> String {
    let shell = Shell::new(dir)
        .with("XVAULT_STORE", format!("s3://{}/copies", bucket.bucket))
        .with("AWS_ENDPOINT_URL_S3", &bucket.endpoint)
        .with("AWS_REGION", &bucket.region)
        .with("AWS_ACCESS_KEY_ID", &bucket.access_key)
        .with("AWS_SECRET_ACCESS_KEY", &bucket.secret_key);
    shell.run(script)
}

#[test]
fn every_copy_is_restored_without_hub_and_worker_by_the_recovery_key() {
    let (bucket, recovery) = (SeaweedFs::shared().new_bucket(), Identity::generate());
    let recipient = recovery.recipient().to_string();
    let plan =
        Plan { sqlite: true, hub_settings: vec![("HUB_RECOVERY_RECIPIENT", recipient)], ..Plan::default() };
    let mut fleet = Fleet::start(&plan);
    let store = second_store(&fleet, &bucket, &bucket.endpoint);
    let copied: Vec<_> = ["letters", "pictures"]
        .map(|name| (name, backed_up_and_copied(&fleet, &source(&fleet, name, &store, name == "pictures"))))
        .into();

    // All at once, and for good.
    fleet.hubs[0].program.kill();
    fleet.workers[0].program.kill();
    std::fs::remove_dir_all(&fleet.workers[0].storage).unwrap();
    let database = Path::new(fleet.database.trim_start_matches("sqlite:")).to_owned();
    for ending in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{ending}", database.display())));
    }

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("recovery.txt"), recovery.to_secret().expose_secret()).unwrap();
    let _ = run(commands("## When hub and worker are lost"), dir.path(), &bucket);
    for (name, snapshot) in copied {
        is_restored(&fleet.site.sshd.home.join(name), &dir.path().join("restored").join(&snapshot));
    }
}

/// Two parts and a rest, so that the copy is an upload in parts.
const LONG: u64 = 18 << 20;

#[test]
fn killed_in_mid_replicate() {
    let (bucket, recovery) = (SeaweedFs::shared().new_bucket(), Identity::generate());
    let line = FaultProxy::start(bucket.endpoint.rsplit(':').next().unwrap().parse().unwrap());
    line.set_delay(Duration::from_millis(700));
    let settings = vec![("HUB_RECOVERY_RECIPIENT", recovery.recipient().to_string())];
    let mut fleet = Fleet::start(&Plan { hub_settings: settings, ..Plan::default() });
    let store = second_store(&fleet, &bucket, &format!("http://127.0.0.1:{}", line.port));
    let source = source(&fleet, "busy", &store, true);
    let tree = fleet.site.sshd.home.join("busy");
    trees::random_file(&tree.join("long.bin"), LONG, 12);
    let snapshot = text(&fleet.completed(&fleet.backup(&source))["snapshot_id"]);
    until(SOON, "the artifact is in its middle", || has_a_part(&bucket));
    fleet.workers[0].program.kill();
    let lies = |name: &str| bucket.keys("copies").iter().any(|key| key.ends_with(name));
    assert!(lies(INDEX_NAME) && !lies(ARTIFACT_NAME) && !lies(MANIFEST_NAME), "{:?}", bucket.keys("copies"));
    assert_eq!(bucket.uploads().len(), 1, "nobody was left to end it");

    line.set_delay(Duration::ZERO);
    fleet.workers[0].start_again();
    until(SOON, "the copy is there", || is_copied(&fleet, &snapshot));
    let jobs = fleet.api.get("/api/v1/jobs?type=replicate");
    let jobs = jobs["jobs"].as_array().unwrap();
    assert_eq!(
        (jobs.len(), &jobs[0]["status"], &jobs[0]["attempt"]),
        (1, &json!("completed"), &json!(2)),
        "{jobs:?}"
    );
    // Of what the killed one left nothing is in the way; a sweep ends it once nobody has written to it for a day.
    assert_eq!(bucket.uploads().len(), 1, "the other try left one, too");

    // The copy is whole, and opens without the original.
    std::fs::remove_dir_all(&fleet.workers[0].storage).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("recovery.txt"), recovery.to_secret().expose_secret()).unwrap();
    let _ = run(commands("## When hub and worker are lost"), dir.path(), &bucket);
    is_restored(&tree, &dir.path().join("restored").join(&snapshot));
}

/// Whether the only upload that is under way has come as far as its first part.
fn has_a_part(bucket: &S3Access) -> bool {
    the_upload(bucket).is_some_and(|path| {
        String::from_utf8_lossy(&bucket.in_bucket("GET", &path, b"").body).contains("<PartNumber>")
    })
}

/// That below `out` lies what was backed up of `tree`.
fn is_restored(tree: &Path, out: &Path) {
    let options = TreeOptions { mtime: MtimeMatch::WholeSeconds, ..TreeOptions::default() };
    assert_same_tree(tree, &out.join(tree.strip_prefix("/").unwrap()), &options);
}
