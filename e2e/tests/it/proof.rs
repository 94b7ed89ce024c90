//! A byte rots on a disk: a verification finds it, everybody is told, and retention keeps the older snapshot that is good.

use std::fs;

use serde_json::{Value, json};

use crate::fleet::text;
use crate::up::Up;
use crate::wait::eventually;

const SOON: u64 = 60;

/// Verifies a snapshot, and gives it as it is known afterwards.
fn verified(up: &Up, snapshot: &str, depth: &str) -> Value {
    let job = up.api.post(&format!("/api/v1/snapshots/{snapshot}/verify"), &json!({ "depth": depth }));
    let path = format!("/api/v1/jobs/{}", text(&job["id"]));
    eventually(SOON, "the verification is done", || {
        let job = up.api.get(&path);
        assert!(job["status"] != "failed", "{job}");
        (job["status"] == "completed").then_some(())
    });
    up.api.get(&format!("/api/v1/snapshots/{snapshot}"))
}

#[test]
fn a_rotten_byte_is_found_told_and_relied_on_by_nobody() {
    let up = Up::start();
    let (tenant, source) = up.local_source();
    let (old, new) = (up.back_up(&tenant, &source), up.back_up(&tenant, &source));
    for depth in ["quick", "deep", "restore_test"] {
        let sound = verified(&up, &new, depth);
        assert_eq!((&sound["verify_result"], &sound["verified_depth"]), (&json!("ok"), &json!(depth)));
    }
    let place = up.api.get(&format!("/api/v1/snapshots/{new}"))["local_path"].as_str().unwrap().to_owned();
    let artifact = format!("{place}/backup.tar.zst.enc");
    let good = fs::read(&artifact).unwrap();
    let mut bytes = good.clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&artifact, bytes).unwrap();

    let damaged = verified(&up, &new, "deep");
    assert_eq!(damaged["verify_result"], "damaged");
    assert!(text(&damaged["damage"]).contains("backup.tar.zst.enc"), "{damaged}");
    let listed = up.api.get(&format!("/api/v1/snapshots?tenant_id={tenant}&damaged=true"));
    assert_eq!(listed["snapshots"][0]["id"], json!(new));
    let metrics = text(&up.api.get("/metrics"));
    assert!(metrics.lines().any(|line| line == "xvault_snapshots_damaged 1"), "{metrics}");
    let events = up.api.get(&format!("/api/v1/audit-events?tenant_id={tenant}&action=snapshot.damaged"));
    assert_eq!(events["audit_events"][0]["target_id"], json!(new));
    let log = up.log();
    assert!(
        log.lines().any(|line| line.contains("ERROR") && line.contains("a snapshot is damaged")),
        "{log}"
    );

    // Retention would keep the newest alone; that one is damaged, so the older one stays, too.
    let policy = json!({ "retention_policy": { "keep_last_n": 1 } });
    let path = format!("/api/v1/sources/{source}/retention");
    up.api.send(reqwest::Method::PUT, &path, Some(&policy)).unwrap().ok();
    up.api.post(&format!("/api/v1/admin/retention/run/{source}"), &json!({}));
    let statuses: Vec<_> =
        up.snapshots(&source).iter().map(|one| (text(&one["id"]), text(&one["status"]))).collect();
    assert_eq!(statuses, [(new.clone(), "completed".to_owned()), (old, "completed".to_owned())]);

    // Put right, it is good again.
    fs::write(&artifact, good).unwrap();
    assert_eq!(verified(&up, &new, "deep")["verify_result"], "ok");
}
