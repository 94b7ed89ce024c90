//! One file of a snapshot by its path: for clients that follow where an answer leads, and for those that don't.

use serde_json::json;
use xvault_core::protocol::{DownloadBody, OpenedDownload, RestoreTarget, Task};

use crate::downloads::{Stage, token};
use crate::world::text;

fn path(stage: &Stage, query: &str) -> String {
    format!("/api/v1/snapshots/{}/entries/content{query}", stage.snapshot)
}

async fn one_file_is_where_the_answer_leads_and_once_only(stage: Stage) {
    let answer = stage.acme.member.get(&path(&stage, "?path=/home/web/letter%20no.%201.pdf")).await;
    let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
    assert_eq!(answer.status, 307, "{}", answer.body);
    let url = text(&answer.body["url"]);
    assert_eq!((header("location"), header("cache-control")), (url.clone(), "no-store".to_owned()));
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert!(url.starts_with("http://w1.example:8081/downloads/xvd_"), "{url}");
    assert!(url.ends_with("/letter%20no.%201.pdf"), "{url}");
    assert_eq!(
        (&answer.body["file_name"], &answer.body["single_use"], &answer.body["command"]),
        (&json!("letter no. 1.pdf"), &json!(true), &json!(format!("curl -fsSOJ '{url}'")))
    );
    let ends: jiff::Timestamp = text(&answer.body["expires_at"]).parse().unwrap();
    let good_for = ends.duration_since(stage.world.clock.now()).as_secs();
    assert!((290..=300).contains(&good_for), "a link that is followed at once is good for {good_for} s");
    let open = json!({ "token": token(&answer.body) });
    let opened = stage.worker.caller.post("/internal/downloads/open", open.clone()).await.expect(200);
    let opened: OpenedDownload = serde_json::from_value(opened).unwrap();
    let DownloadBody::Restore { assignment } = opened.body else { panic!("{opened:?}") };
    let Task::Restore(task) = &assignment.task else { panic!("{assignment:?}") };
    assert_eq!(
        (&task.target, &task.paths[..]),
        (&RestoreTarget::File, &["home/web/letter no. 1.pdf".to_owned()][..])
    );
    stage.worker.caller.post("/internal/downloads/open", open).await.refused(410, "link_used");

    let events = stage.acme.admin.get("/api/v1/audit-events?action=download.create").await.expect(200);
    let event = &events["audit_events"][0];
    assert_eq!(
        (&event["actor_id"], &event["details"]["what"], &event["details"]["content"]["path"]),
        (&json!(stage.acme.member.user_id), &json!("file"), &json!("home/web/letter no. 1.pdf"))
    );
    assert!(!events.to_string().contains("xvd_"), "the audit log would give the file away");
}

async fn a_name_that_is_no_text_is_asked_for_in_base64(stage: Stage) {
    let answer = stage.acme.member.get(&path(&stage, "?path_base64=c3J2L2NhZukudHh0")).await;
    assert_eq!(
        (answer.status, &answer.body["file_name"]),
        (307, &json!("caf\u{fffd}.txt")),
        "{}",
        answer.body
    );
    let open = json!({ "token": token(&answer.body) });
    let opened = stage.worker.caller.post("/internal/downloads/open", open).await.expect(200);
    let task = &opened["body"]["assignment"]["task"];
    assert_eq!((&task["paths"], &task["path_base64"]), (&json!([]), &json!("c3J2L2NhZukudHh0")), "{task}");
}

async fn each_bad_question_about_a_file_is_named(stage: Stage) {
    for (query, status) in [
        ("", 400),
        ("?path=", 400),
        ("?path=/", 400),
        ("?path=../etc/passwd", 400),
        ("?path=a%00b", 400),
        ("?path_base64=no", 400),
        ("?path=a&path_base64=YQ==", 400),
        ("?path=a&what=artifact", 400),
        ("?path=a&from_store=../x", 400),
    ] {
        let answer = stage.acme.member.get(&path(&stage, query)).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        assert!(answer.headers.get("location").is_none(), "{query}");
    }
    let umbrella = stage.world.tenant("umbrella").await;
    umbrella.owner.get(&path(&stage, "?path=a")).await.refused(404, "not_found");
    stage.world.nobody().get(&path(&stage, "?path=a")).await.refused(401, "unauthorized");
    stage.world.execute("UPDATE tenant_keys SET encrypted_private_key = NULL, kek_id = NULL").await;
    stage.acme.member.get(&path(&stage, "?path=a")).await.refused(409, "no_identity");
    stage.world.execute("UPDATE snapshots SET status = 'deleting'").await;
    stage.acme.member.get(&path(&stage, "?path=a")).await.refused(409, "deleting");
}

on_both_engines!(crate::downloads::Stage::set =>
    one_file_is_where_the_answer_leads_and_once_only,
    a_name_that_is_no_text_is_asked_for_in_base64,
    each_bad_question_about_a_file_is_named,
);
