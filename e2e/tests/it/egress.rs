//! A worker as it is by default, in front of tenants that give it addresses of its own machine.

use serde_json::{Value, json};

use crate::fleet::{Fleet, Plan, SOON, text};
use crate::wait::eventually;

/// Name and address as the tenant gave them, and what the job says.
fn assert_refused((code, message): (&Value, &Value), host: &str) {
    let message = text(message);
    assert_eq!(code, "address_not_allowed", "{message}");
    assert!(message.contains(&format!("{host} is not connected to: its address 127.0.0.1 ")), "{message}");
    assert!(message.ends_with("WORKER_EGRESS_ALLOW"), "{message}");
}

#[test]
fn a_worker_connects_to_nothing_on_its_own_machine_until_it_is_told() {
    let mut fleet = Fleet::start(&Plan { egress_allow: "", ..Plan::default() });
    let tree = fleet.site.small_tree("files");
    for host in ["127.0.0.1", "localhost", "127.1"] {
        let mut config = fleet.site.direct(&tree);
        config["host"] = json!(host);
        let source = fleet.new_source(host, &config);
        let tested = fleet.api.post(&format!("/api/v1/sources/{source}/test?wait_seconds=30"), &json!({}));
        assert_eq!(tested["status"], "failed", "{tested}");
        assert_refused((&tested["error"]["code"], &tested["error"]["message"]), host);
        let job = fleet.backup(&source);
        let failed = eventually(SOON, "a failed job", || {
            let job = fleet.job(&job);
            (job["status"] == "failed").then_some(job)
        });
        assert_refused((&failed["error_code"], &failed["error_message"]), host);
        assert_eq!(failed["attempt"], 1, "trying again changes nothing: {failed}");
    }
    // The operator allows it, and it is done.
    let source = fleet.small_source("allowed");
    fleet.workers[0].start_with(&[("WORKER_EGRESS_ALLOW", "127.0.0.1")]);
    let job = fleet.backup(&source);
    assert_eq!(text(&fleet.completed(&job)["status"]), "completed");
}
