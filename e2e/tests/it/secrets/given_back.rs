//! Restores, each of which hands a worker a secret.

use serde_json::{Value, json};
use xvault_testkit::Postgres;

use super::Secret;
use crate::fleet::{Fleet, text};
use crate::wait::block_on;

/// Of what the job `backup` made: to its server, and one file by a link; and a dump into a database. Gives the jobs.
pub(super) fn give_back(fleet: &Fleet, backup: &str, secrets: &mut Vec<Secret>) -> Vec<String> {
    let done = fleet.job(backup);
    let snapshot = text(&done["snapshot_id"]);
    let source = fleet.api.get(&format!("/api/v1/snapshots/{snapshot}"))["source_id"].clone();
    let tree = text(&fleet.api.get(&format!("/api/v1/sources/{}", text(&source)))["config"]["paths"][0]);
    let out = fleet.site.sshd.home.join("given-back");
    let to_server = restored(fleet, &snapshot, &json!({ "type": "server", "path": out }));
    by_link(fleet, &snapshot, &tree, secrets);
    let (backup, load) = into_database(fleet);
    vec![to_server, backup, load]
}

fn restored(fleet: &Fleet, snapshot: &str, target: &Value) -> String {
    let path = format!("/api/v1/snapshots/{snapshot}/restore");
    let job = text(&fleet.api.post(&path, &json!({ "target": target }))["id"]);
    let _ = fleet.completed(&job);
    job
}

/// Who has the link, has the file: it is no business of logs, and the hub keeps it nowhere.
fn by_link(fleet: &Fleet, snapshot: &str, tree: &str, secrets: &mut Vec<Secret>) {
    let entries = fleet.api.get(&format!("/api/v1/snapshots/{snapshot}/entries?path={tree}"));
    let mut files = entries["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "file");
    let file = text(&files.next_back().unwrap()["path"]);
    let path = format!("/api/v1/snapshots/{snapshot}/download?what=file&once=true&path={file}");
    let url = text(&fleet.api.get(&path)["url"]);
    secrets.push(Secret::new("the token of a link", url.split('/').nth(4).unwrap()));
    let status = block_on(async { reqwest::get(&url).await.unwrap().status().as_u16() });
    assert_eq!(status, 200);
}

/// The password is that of the hub's own database, which is a secret already.
fn into_database(fleet: &Fleet) -> (String, String) {
    let (shop, source) = fleet.shop_source(Postgres::shared());
    let backup = fleet.backup(&source);
    let snapshot = text(&fleet.completed(&backup)["snapshot_id"]);
    let target = json!({
        "type": "database", "entry": format!("database/{shop}.dump"), "database": format!("{shop}_copy"), "create": true,
    });
    let load = restored(fleet, &snapshot, &target);
    (backup, load)
}
