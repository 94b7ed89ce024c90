//! Lists of more than a page: nothing is left out, and nothing comes twice, even while rows come and go.

use serde_json::json;

use crate::fake_worker::ssh_source;
use crate::world::{Caller, World, text};

/// All ids of a list, page by page; `between` is called after the first page.
async fn walk(caller: &Caller, path: &str, key: &str, between: impl AsyncFnOnce()) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    let mut between = Some(between);
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let page = caller.get(&format!("{path}{separator}limit=40{cursor}")).await.expect(200);
        let rows = page[key].as_array().unwrap();
        assert!(rows.len() <= 40);
        ids.extend(rows.iter().map(|row| text(&row["id"])));
        if let Some(between) = between.take() {
            between().await;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

async fn pages_have_neither_gaps_nor_repeats(world: World) {
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let config = json!({ "host": "h", "username": "u", "paths": ["/srv"] });
    let body = json!({ "type": "sftp", "name": "s", "config": config });
    let mut made = Vec::new();
    for _ in 0..120 {
        made.push(text(&acme.admin.post("/api/v1/sources", body.clone()).await.expect(201)["id"]));
        other.admin.post("/api/v1/sources", body.clone()).await.expect(201);
    }
    made.reverse();
    let seen = walk(&acme.member, "/api/v1/sources", "sources", async || {
        // What is new is in front of the first page; what goes after the first page is not seen again.
        acme.admin.post("/api/v1/sources", body.clone()).await.expect(201);
        acme.admin.delete(&format!("/api/v1/sources/{}", made[0])).await.expect(204);
    })
    .await;
    assert_eq!(seen, made);
    let all = walk(&world.operator, "/api/v1/admin/sources", "sources", async || ()).await;
    assert_eq!(all.len(), 240);
    let path = format!("/api/v1/admin/sources?tenant_id={}", other.id);
    assert_eq!(walk(&world.operator, &path, "sources", async || ()).await.len(), 120);
    // A page that is exactly full is the last one.
    let full = acme.member.get("/api/v1/sources?limit=120").await.expect(200);
    assert_eq!((full["sources"].as_array().unwrap().len(), &full["next_cursor"]), (120, &json!(null)));
}

async fn filtered_pages_have_neither_gaps_nor_repeats(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let mut probes = Vec::new();
    let (mut all, mut canceled) = (Vec::new(), Vec::new());
    for number in 0..100 {
        let kind = if number % 2 == 0 { "probe" } else { "backup" };
        let body = json!({ "source_id": source, "type": kind });
        let job = text(&acme.member.post("/api/v1/jobs", body).await.expect(201)["id"]);
        all.push(job.clone());
        if number % 2 == 0 {
            probes.push(job.clone());
        }
        // A source has one of each at a time: all but the last two are over.
        if number < 98 {
            acme.member.post(&format!("/api/v1/jobs/{job}/cancel"), json!({})).await.expect(200);
            canceled.push(job);
        }
    }
    for list in [&mut all, &mut probes, &mut canceled] {
        list.reverse();
    }
    assert_eq!(walk(&acme.member, "/api/v1/jobs?type=probe", "jobs", async || ()).await, probes);
    let path = format!("/api/v1/jobs?source_id={source}&status=canceled");
    assert_eq!(walk(&acme.member, &path, "jobs", async || ()).await, canceled);
    assert_eq!(walk(&acme.member, "/api/v1/jobs", "jobs", async || ()).await, all);
}

on_both_engines!(pages_have_neither_gaps_nor_repeats, filtered_pages_have_neither_gaps_nor_repeats);
