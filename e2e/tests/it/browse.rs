//! Looking into snapshots without restoring them: directories, names, and what changed.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use xvault_testkit::tools;

use crate::fleet::{files_below, text};
use crate::up::Up;

/// All pages of a list.
fn pages(up: &Up, path: &str, what: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    for _ in 0..100 {
        let page = up.api.get(&format!("{path}&limit=2{cursor}"));
        let items = page[what].as_array().unwrap();
        assert!(items.len() <= 2, "{page}");
        all.extend(items.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
    panic!("{path} goes on for ever: {all:?}");
}

fn paths(items: &[Value]) -> Vec<String> {
    let name = |item: &Value| text(&item["path"]).rsplit('/').next().unwrap().to_owned();
    items.iter().map(name).collect()
}

#[test]
fn a_snapshot_is_listed_searched_and_compared_without_restoring_it() {
    let up = Up::start();
    let (tenant, source) = up.local_source();
    fs::create_dir(up.home.join("docs")).unwrap();
    for name in ["a.txt", "b.txt", "c.txt", "d.pdf", "e.txt"] {
        fs::write(up.home.join("docs").join(name), name).unwrap();
    }
    let first = up.back_up(&tenant, &source);
    fs::write(up.home.join("docs/a.txt"), "longer than before").unwrap();
    fs::remove_file(up.home.join("docs/b.txt")).unwrap();
    fs::write(up.home.join("docs/new.txt"), "new").unwrap();
    let second = up.back_up(&tenant, &source);

    let home = up.home.to_str().unwrap();
    let entries = format!("/api/v1/snapshots/{first}/entries");
    let root = up.api.get(&entries);
    let top = home.trim_start_matches('/').split('/').next().unwrap();
    assert_eq!(paths(root["entries"].as_array().unwrap()), [top]);
    let listed = pages(&up, &format!("{entries}?path={home}/docs"), "entries");
    assert_eq!(paths(&listed), ["a.txt", "b.txt", "c.txt", "d.pdf", "e.txt"]);
    assert_eq!((&listed[0]["kind"], &listed[0]["size"]), (&json!("file"), &json!(5)));
    assert_eq!(text(&listed[0]["blake3"]).len(), 64);
    let found = pages(&up, &format!("{entries}?q=*.TXT"), "entries");
    assert_eq!(paths(&found), ["a.txt", "b.txt", "c.txt", "e.txt", "letter.txt"]);

    let diff = format!("/api/v1/snapshots/{first}/diff/{second}?path={home}/docs");
    let changes = pages(&up, &diff, "changes");
    let told = |change: &Value| (paths(std::slice::from_ref(change)).remove(0), text(&change["change"]));
    let told: Vec<_> = changes.iter().map(told).collect();
    let expected = [("docs", "changed"), ("a.txt", "changed"), ("b.txt", "removed"), ("new.txt", "added")];
    assert_eq!(told, expected.map(|(name, change)| (name.to_owned(), change.to_owned())));
    let (before, after) = (&changes[1]["before"]["size"], &changes[1]["after"]["size"]);
    assert_eq!((before, after), (&json!(5), &json!(18)));

    let nowhere = up.api.send(Method::GET, &format!("{entries}?path=/nowhere"), None).unwrap();
    assert_eq!((nowhere.status, &nowhere.body["code"]), (404, &json!("no_such_directory")));
    let jobs = up.api.get(&format!("/api/v1/jobs?tenant_id={tenant}&type=browse"));
    assert_eq!(jobs["jobs"], json!([]), "a look leaves no job behind");
}

#[test]
fn a_tenants_own_key_opens_content_that_the_hubs_does_not_and_names_are_still_shown() {
    let up = Up::start();
    let (tenant, source) = up.local_source();
    let dir = tempfile::tempdir().unwrap();
    let (own_file, own) = tools::age_keygen(dir.path());
    let path = format!("/api/v1/tenants/{tenant}/recipients");
    let challenged = up.api.post(&format!("{path}/challenge"), &json!({"data": [own]}));
    let challenge = dir.path().join("challenge.age");
    fs::write(&challenge, text(&challenged["challenges"][0]["challenge"])).unwrap();
    let decrypt = |identity: &Path, file: &Path| {
        let args = [OsStr::new("-d"), OsStr::new("-i"), identity.as_os_str(), file.as_os_str()];
        tools::command("age", args).output().unwrap()
    };
    let word = String::from_utf8(decrypt(&own_file, &challenge).stdout).unwrap();
    let answers = json!({own.clone(): word});
    let set =
        up.api.send(Method::PUT, &path, Some(&json!({"data": [own], "answers": answers}))).unwrap().ok();
    assert_eq!(set["data"][0]["platform_can_decrypt"], false);

    let snapshot = up.back_up(&tenant, &source);
    let artifact = files_below(&up.data.join("backups"));
    let artifact = artifact.iter().find(|path| path.ends_with("backup.tar.zst.enc")).unwrap();
    let restored = dir.path().join("restored");
    tools::age_decrypt_untar(artifact, &own_file, &restored);
    let letter = restored.join(up.home.join("letter.txt").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(letter).unwrap(), "Dear Sirs");
    let exported = up.api.post(&format!("/api/v1/tenants/{tenant}/identity"), &json!({}));
    let hubs = dir.path().join("hubs.txt");
    fs::write(&hubs, text(&exported["identity"])).unwrap();
    let refused = decrypt(&hubs, artifact);
    assert!(!refused.status.success(), "the hub's identities open the content");
    assert!(decrypt(&hubs, &artifact.with_file_name("index.zst.enc")).status.success());
    let entries = format!("/api/v1/snapshots/{snapshot}/entries?q=letter.txt");
    assert_eq!(paths(&pages(&up, &entries, "entries")), ["letter.txt"]);
}
