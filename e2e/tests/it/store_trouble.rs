//! A bucket that is down, refuses or loses things while a backup goes into it: the job is tried again or fails with what to do, and
//! nothing half-written is a snapshot.

use serde_json::{Value, json};
use xvault_testkit::{FaultProxy, S3Access, SeaweedFs, trees};

use crate::database;
use crate::fleet::{Fleet, Plan, SOON, text};
use crate::wait::{eventually, until};

/// Three parts.
const BYTES: u64 = 18 << 20;
/// More than the first part.
const LET_THROUGH: u64 = 11 << 20;

/// A fleet with a source whose snapshots go into a bucket, through a proxy.
struct Stage {
    fleet: Fleet,
    bucket: S3Access,
    line: FaultProxy,
    store: String,
    source: String,
}

impl Stage {
    fn set(bucket: S3Access) -> Self {
        let fleet = Fleet::start(&Plan { concurrency: 1, ..Plan::default() });
        let line = FaultProxy::start(bucket.endpoint.rsplit(':').next().unwrap().parse().unwrap());
        let store = text(&fleet.api.post("/api/v1/stores", &store(&bucket, line.port))["id"]);
        let tree = fleet.site.small_tree("site");
        trees::random_file(&tree.join("z.bin"), BYTES, 11);
        let source = fleet.new_source("web", &fleet.site.tapped(&tree));
        fleet.put(&format!("/api/v1/sources/{source}"), &json!({ "store_id": store }));
        Self { fleet, bucket, line, store, source }
    }

    /// The job once it has come to this.
    fn reaches(&self, job: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        eventually(SOON, &format!("job {job} {what}"), || Some(self.fleet.job(job)).filter(&so))
    }

    /// A backup fails for good: with that code, in these words.
    fn fails(&self, job: &str, code: &str, words: &[&str]) {
        let failed = self.reaches(job, "failed", |job| job["status"] == "failed");
        assert_eq!((&failed["error_code"], &failed["attempt"]), (&json!(code), &json!(1)), "{failed}");
        let message = text(&failed["error_message"]);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert!(!message.contains(&self.bucket.secret_key), "{message}");
    }

    /// A backup succeeds, at last in that attempt, and is one whole snapshot.
    fn is_whole(&self, job: &str, attempt: u64) {
        let done = self.fleet.completed(job);
        assert_eq!(done["attempt"], json!(attempt), "{done}");
        let snapshot = text(&done["snapshot_id"]);
        assert!(self.listed().contains(&snapshot));
        let path = format!("/api/v1/snapshots/{snapshot}/verify");
        let checked = self.fleet.api.post(&path, &json!({ "depth": "deep" }));
        self.fleet.completed(&text(&checked["id"]));
        assert!(self.bucket.uploads().is_empty(), "{:?}", self.bucket.uploads());
    }

    fn listed(&self) -> Vec<String> {
        self.fleet.snapshots(&self.source).iter().map(|snapshot| text(&snapshot["id"])).collect()
    }

    /// Exactly the snapshots that are listed have manifests, and nothing of others is left in a while.
    fn only_what_is_listed(&self) {
        let listed = self.listed();
        let foreign = |key: &String| !listed.iter().any(|id| key.contains(id.as_str()));
        until(SOON, "nothing is left of what failed", || {
            self.bucket.uploads().is_empty() && !self.bucket.keys("").iter().any(foreign)
        });
        let manifests = self.bucket.keys("").iter().filter(|key| key.ends_with("/manifest.json")).count();
        assert_eq!(manifests, listed.len());
    }
}

fn store(bucket: &S3Access, port: u16) -> Value {
    json!({
        "name": "shared",
        "kind": "s3",
        "config": {
            "bucket": bucket.bucket, "endpoint": format!("http://127.0.0.1:{port}"), "region": bucket.region,
        },
        "credential": { "access_key_id": bucket.access_key, "secret_access_key": bucket.secret_key },
    })
}

#[test]
fn a_bucket_in_trouble_costs_an_attempt_or_the_job_and_nothing_half_written_is_a_snapshot() {
    let stage = Stage::set(SeaweedFs::shared().new_bucket());
    let (fleet, line) = (&stage.fleet, &stage.line);
    // It is overloaded for a moment, and an answer is lost: nobody notices.
    let slow_down = "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
    line.answer_instead("partNumber=2", 2, "503 Service Unavailable", slow_down);
    line.lose_answer_to("<CompleteMultipartUpload>");
    stage.is_whole(&fleet.backup(&stage.source), 1);
    assert_eq!((line.answered(), line.answers_lost()), (2, 1));

    // It refuses: for good, and its words are told.
    let denied = "<Error><Code>AccessDenied</Code><Message>Not you.</Message></Error>";
    line.answer_instead("partNumber=2", 1, "403 Forbidden", denied);
    let refused = fleet.backup(&stage.source);
    stage.fails(&refused, "store_denied", &["the store says AccessDenied", "give it the right"]);
    stage.only_what_is_listed();

    // It is down: the job waits for it.
    line.refuse();
    let waiting = fleet.backup(&stage.source);
    let waits = stage.reaches(&waiting, "waits", |job| job["error_code"] == "store_unreachable");
    assert_eq!(waits["status"], "queued", "{waits}");
    let message = text(&waits["error_message"]);
    // Where a store of the platform is, tenants need not know.
    assert!(message.contains("the store") && !message.contains("127.0.0.1"), "{waits}");
    line.heal();
    stage.is_whole(&waiting, 2);
    stage.only_what_is_listed();

    // It has lost the parts: they are uploaded again, all of them.
    fleet.site.tap.stall_after(LET_THROUGH);
    let lost = fleet.backup(&stage.source);
    until(SOON, "a part is there", || !stage.bucket.uploads().is_empty());
    forget_upload(&stage.bucket);
    fleet.site.open_tap();
    stage.is_whole(&lost, 2);
    assert_eq!(stage.listed().len(), 3);
    stage.only_what_is_listed();

    // It is not there: somebody must make it.
    let missing = S3Access { bucket: "no-such-bucket".into(), ..stage.bucket.clone() };
    let missing = text(&fleet.api.post("/api/v1/stores", &store(&missing, line.port))["id"]);
    fleet.put(&format!("/api/v1/sources/{}", stage.source), &json!({ "store_id": missing }));
    stage.fails(
        &fleet.backup(&stage.source),
        "store",
        &["NoSuchBucket", "make the bucket, or correct its name"],
    );
}

/// Somebody ends the only upload behind its worker's back.
fn forget_upload(bucket: &S3Access) {
    assert_eq!(bucket.in_bucket("DELETE", &the_upload(bucket).unwrap(), b"").status, 204);
}

/// Where the only upload that nobody has finished is asked about; none when there is none.
pub(crate) fn the_upload(bucket: &S3Access) -> Option<String> {
    let listed = String::from_utf8(bucket.in_bucket("GET", "?uploads=", b"").body).unwrap();
    let element = |name: &str| {
        let after = listed.split_once(&format!("<{name}>"))?.1;
        after.split(&format!("</{name}>")).next()
    };
    Some(format!("{}?uploadId={}", element("Key")?, element("UploadId")?))
}

#[test]
fn credentials_revoked_in_mid_job_fail_it_and_what_it_left_is_swept_up() {
    let seaweed = SeaweedFs::start();
    let mut stage = Stage::set(seaweed.access());
    stage.fleet.site.tap.stall_after(LET_THROUGH);
    let job = stage.fleet.backup(&stage.source);
    until(SOON, "a part is there", || !stage.bucket.uploads().is_empty());
    stage.bucket = seaweed.revoke();
    stage.fleet.site.open_tap();
    stage.fails(
        &job,
        "store",
        &["InvalidAccessKeyId", "does not know this access key id, or knows it no more"],
    );
    assert!(stage.listed().is_empty());
    let manifests = stage.bucket.keys("").into_iter().filter(|key| key.ends_with("manifest.json"));
    assert_eq!(manifests.count(), 0);
    assert!(!stage.bucket.uploads().is_empty(), "nobody could end it");

    // With a new key the next backup works, and the sweep removes what nobody could.
    let key =
        json!({ "access_key_id": stage.bucket.access_key, "secret_access_key": stage.bucket.secret_key });
    let path = format!("/api/v1/stores/{}", stage.store);
    let changed = stage.fleet.api.send(reqwest::Method::PATCH, &path, Some(&json!({ "credential": key })));
    changed.expect("an answer").ok();
    let done = stage.fleet.completed(&stage.fleet.backup(&stage.source));
    assert_eq!(stage.listed(), [text(&done["snapshot_id"])]);
    database::sweeps_are_due(&stage.fleet.database);
    // It looks at once.
    stage.fleet.hubs[0].start_again();
    stage.fleet.until_ready();
    stage.only_what_is_listed();
}
