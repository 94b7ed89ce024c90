//! Object lock from end to end: proven by a worker, put on a snapshot and on its copy, and seen by another client.

use reqwest::Method;
use serde_json::{Value, json};
use xvault_testkit::{S3Access, SeaweedFs};

use crate::disaster::of_bucket;
use crate::documented::Shell;
use crate::fleet::{Fleet, Plan, SOON, text};
use crate::wait::{eventually, until};

/// A store of the platform in that bucket, reached as `who`; gives its id.
fn store(fleet: &Fleet, bucket: &S3Access, who: &S3Access) -> String {
    let body = json!({
        "name": bucket.bucket, "kind": "s3",
        "config": {
            "bucket": bucket.bucket, "prefix": "locks", "endpoint": bucket.endpoint, "region": bucket.region,
        },
        "credential": { "access_key_id": who.access_key, "secret_access_key": who.secret_key },
    });
    text(&fleet.api.post("/api/v1/stores", &body)["id"])
}

/// What a hub answers that is to have the store's snapshots locked. On a busy machine a test takes longer than a request.
fn lock(fleet: &Fleet, store: &str, body: &Value) -> (u16, Value) {
    let path = format!("/api/v1/stores/{store}/object-lock");
    eventually(SOON, "the store is tested", || {
        let answer = fleet.api.send(Method::PUT, &path, Some(body))?;
        (answer.body["code"] != "test_running").then_some((answer.status, answer.body))
    })
}

/// The ends of the locks of all objects below the prefix, as another client sees them.
fn ends(bucket: &S3Access, mode: &str) -> Vec<String> {
    let end = |key: String| {
        let (found, end) = bucket.lock(&key).unwrap_or_else(|| panic!("{key} is not locked"));
        assert_eq!(found, mode, "{key}");
        end
    };
    bucket.keys("locks/tenants/").into_iter().map(end).collect()
}

#[test]
fn a_store_that_keeps_what_is_locked_locks_snapshots_and_copies_and_one_that_does_not_is_refused() {
    let seaweed = SeaweedFs::shared();
    let (first, second, plain) =
        (seaweed.new_locking_bucket(), seaweed.new_locking_bucket(), seaweed.new_bucket());
    let fleet = Fleet::start(&Plan { sqlite: true, ..Plan::default() });
    let ids = [&first, &second, &plain].map(|bucket| store(&fleet, bucket, bucket));
    let days = json!({ "mode": "compliance", "span": { "kind": "days", "days": 3 } });
    let by_policy = json!({ "mode": "governance", "span": { "kind": "policy", "at_least_days": 2 } });
    std::thread::scope(|threads| {
        let refused = threads.spawn(|| lock(&fleet, &ids[2], &days));
        let locking = threads.spawn(|| lock(&fleet, &ids[0], &by_policy));
        let (status, answer) = lock(&fleet, &ids[1], &days);
        assert_eq!(
            (status, &answer["object_lock"], &answer["may_delete"]),
            (200, &days, &json!(true)),
            "{answer}"
        );
        let (status, answer) = locking.join().unwrap();
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = refused.join().unwrap();
        assert_eq!((status, &answer["code"]), (409, &json!("lock_not_proven")), "{answer}");
        assert!(text(&answer["error"]).contains("keeps no versions"), "{answer}");
    });
    assert_eq!(fleet.api.get(&format!("/api/v1/stores/{}", ids[2]))["object_lock"], json!(null));

    let source = fleet.small_source("letters");
    let stores = json!({ "store_id": ids[0], "replica_store_id": ids[1] });
    let _ = fleet.put(&format!("/api/v1/sources/{source}"), &stores);
    let policy = json!({ "retention_policy": { "keep_within": "10d" } });
    let _ = fleet.put(&format!("/api/v1/sources/{source}/retention"), &policy);
    let id = text(&fleet.completed(&fleet.backup(&source))["snapshot_id"]);
    let path = format!("/api/v1/snapshots/{id}");
    let lies = || fleet.api.get(&path)["locators"].as_array().unwrap().clone();
    until(SOON, "the snapshot lies in two places", || lies().len() == 2);
    let (snapshot, lies) = (fleet.api.get(&path), lies());
    for (bucket, mode, told) in [(&first, "GOVERNANCE", &lies[0]), (&second, "COMPLIANCE", &lies[1])] {
        let ends = ends(bucket, mode);
        assert_eq!(ends, vec![text(&told["locked_until"]); 5], "{told}");
    }
    assert_eq!(snapshot["locked_until"], lies[0]["locked_until"], "ten days are more than three");
    let refused = fleet.api.send(Method::DELETE, &path, None).expect("an answer");
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("locked")), "{}", refused.body);
    let plan = fleet.api.get(&format!("/api/v1/sources/{source}/retention/plan"));
    let reasons = plan["decisions"][0]["reasons"].to_string();
    assert!(reasons.contains(&format!("locked until {}", text(&snapshot["locked_until"]))), "{plan}");
    // And so would `xvault-hub rebuild` learn it from the bucket.
    let dir = tempfile::tempdir().unwrap();
    let shell = of_bucket(Shell::new(dir.path()), &first);
    let listed = shell.run("xvault snapshots --json --store \"s3://$BUCKET/locks\"");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed["snapshot_id"], &listed["locked_until"]), (&json!(id), &lies[0]["locked_until"]));
}
