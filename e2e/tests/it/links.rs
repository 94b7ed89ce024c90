//! Links that give nothing any more, or never did: what whoever opens them is told.

use reqwest::Method;
use serde_json::{Value, json};
use xvault_testkit::tools;

use crate::database;
use crate::fleet::{SOON, text};
use crate::up::Up;
use crate::wait::until;

/// What curl gets for a link: the status, and the body.
pub(crate) fn opened(url: &str) -> (u16, String) {
    let output = tools::command("curl", ["-sS", "-w", "\n%{http_code}", url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// That it is refused as the hub refuses: with a sentence, and a word for programs.
#[track_caller]
fn refused(url: &str, status: u16, code: &str) {
    let (got, body) = opened(url);
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{got}: {body}"));
    assert_eq!((got, &body["code"]), (status, &json!(code)), "{body}");
    assert!(body["error"].as_str().is_some_and(|text| text.len() > 10), "{body}");
    assert!(!body.to_string().contains("letter") && !body.to_string().contains("xvd_"), "{body}");
}

/// The id of a link, when it ends, its signature; and what stands before and after them.
fn parts(url: &str) -> (&str, [&str; 3], &str) {
    let (before, rest) = url.split_once("xvd_").unwrap();
    let (token, after) = rest.split_once('/').unwrap();
    let parts: Vec<_> = token.split('.').collect();
    (before, parts.try_into().unwrap(), after)
}

fn joined((before, [id, end, signature], after): (&str, [&str; 3], &str)) -> String {
    format!("{before}xvd_{id}.{end}.{signature}/{after}")
}

#[test]
fn a_link_that_gives_nothing_says_why() {
    let up = Up::start();
    let (tenant, source) = up.local_source();
    let snapshot = up.back_up(&tenant, &source);
    let other = text(&up.api.post("/api/v1/tenants", &json!({"name": "other"}))["id"]);
    let config = json!({"paths": [up.home]});
    let body = json!({"tenant_id": other, "type": "local", "name": "home", "config": config});
    let source = text(&up.api.post("/api/v1/sources", &body)["id"]);
    let foreign = up.back_up(&other, &source);
    let file = format!("what=file&path={}/letter.txt", up.home.display());
    let link = |snapshot: &str, query: &str| {
        text(&up.api.get(&format!("/api/v1/snapshots/{snapshot}/download?{query}"))["url"])
    };
    let (url, theirs) = (link(&snapshot, &file), link(&foreign, &file));
    assert_eq!(opened(&url), (200, "Dear Sirs".to_owned()));

    // Altered: the signature, the end, or whose it is.
    let (before, [id, end, signature], after) = parts(&url);
    let (_, [their_id, their_end, _], _) = parts(&theirs);
    let flipped = if let Some(rest) = signature.strip_prefix('A') {
        format!("B{rest}")
    } else {
        format!("A{}", &signature[1..])
    };
    let later = (end.parse::<i64>().unwrap() + 3600).to_string();
    for altered in [
        [id, end, &flipped],
        [id, &later, signature],
        [their_id, end, signature],
        [their_id, their_end, signature],
    ] {
        refused(&joined((before, altered, after)), 404, "not_found");
    }
    refused(&format!("{before}xvd_/{after}"), 404, "not_found");
    assert_eq!(
        opened(&joined((before, [id, end, signature], "any-name"))).0,
        200,
        "the name changes nothing"
    );

    let once = link(&snapshot, &format!("{file}&once=true"));
    assert_eq!(opened(&once).0, 200);
    refused(&once, 410, "link_used");

    let missing = link(&snapshot, "what=file&path=/no/such/file");
    refused(&missing, 404, "path_missing");

    let (archive, artifact) = (link(&snapshot, "format=zip"), link(&snapshot, "what=artifact"));
    let path = format!("/api/v1/snapshots/{snapshot}");
    let _ = up.api.send(Method::DELETE, &path, None).unwrap().ok();
    until(SOON, "the snapshot is gone", || {
        up.api.send(Method::GET, &path, None).is_some_and(|answer| answer.status == 404)
    });
    for gone in [&url, &archive, &artifact] {
        refused(gone, 410, "snapshot_gone");
    }

    database::links_have_ended(&up.database());
    refused(&theirs, 410, "link_expired");
}
