//! A snapshot that lies in two places is looked into, downloaded and restored from either, by choice or because one is gone.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xvault_testkit::{MtimeMatch, SeaweedFs, TreeOptions, assert_same_tree, tools};

use crate::copies::{backed_up_and_copied, second_store, source};
use crate::fleet::{Fleet, Plan, SOON, text};
use crate::wait::until;

/// A snapshot on one worker's disk with a copy in a bucket, which both workers reach. Redis and PostgreSQL are real.
struct Stage {
    fleet: Fleet,
    store: String,
    snapshot: String,
    tree: PathBuf,
    /// The worker that has it on its disk, and the other.
    workers: [usize; 2],
}

impl Stage {
    fn set() -> Self {
        let bucket = SeaweedFs::shared().new_bucket();
        let fleet = Fleet::start(&Plan { workers: 2, ..Plan::default() });
        let store = second_store(&fleet, &bucket, &bucket.endpoint);
        let snapshot = backed_up_and_copied(&fleet, &source(&fleet, "letters", &store, false));
        let shown = fleet.api.get(&format!("/api/v1/snapshots/{snapshot}"));
        let owner = fleet.workers.iter().position(|worker| json!(worker.id) == shown["worker_id"]).unwrap();
        let tree = fleet.site.sshd.home.join("letters");
        Self { fleet, store, snapshot, tree, workers: [owner, 1 - owner] }
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/snapshots/{}/{rest}", self.snapshot)
    }

    /// The names in the tree's directory.
    fn listed(&self, query: &str) -> Vec<String> {
        let path = self.path(&format!("entries?path={}{query}", self.tree.display()));
        let entries = self.fleet.api.get(&path);
        let name = |entry: &Value| text(&entry["path"]).rsplit('/').next().unwrap().to_owned();
        entries["entries"].as_array().unwrap().iter().map(name).collect()
    }

    fn pushed(&self, name: &str, from: &Value) -> Value {
        let out = self.fleet.site.sshd.home.join(name);
        let body = json!({ "target": { "type": "server", "path": out }, "from_store": from });
        let done = self.fleet.completed(&text(&self.fleet.api.post(&self.path("restore"), &body)["id"]));
        self.is_the_tree(&out);
        done
    }

    fn is_the_tree(&self, out: &Path) {
        let options = TreeOptions { mtime: MtimeMatch::WholeSeconds, ..TreeOptions::default() };
        assert_same_tree(&self.tree, &out.join(self.tree.strip_prefix("/").unwrap()), &options);
    }

    /// One file by its path, as curl gets it.
    fn content(&self, options: &[&str], name: &str, query: &str) -> String {
        let path = self
            .path(&format!("entries/content?path={}/{name}{query}", self.tree.display()))
            .replace(' ', "%20");
        let url = format!("http://127.0.0.1:{}{path}", self.fleet.hubs[0].port);
        let mut curl = tools::command("curl", ["-fsS"]);
        curl.args(options).arg(url).args(["-H", &format!("Authorization: Bearer {}", self.fleet.api.token)]);
        let output = curl.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A reader that is asked to read the disk can't: the copy alone is whole.
    fn without_the_first_place(&self) {
        let disk = self.fleet.workers[self.workers[0]].storage.join("tenants");
        std::fs::rename(&disk, disk.with_file_name("away")).unwrap();
    }
}

fn works(command: &str, dir: &Path) {
    let line = format!("set -o pipefail; {command}");
    let output = tools::command("bash", ["-c", &line]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_copy_is_read_by_choice_although_its_snapshot_is_there() {
    let stage = Stage::set();
    let names = stage.listed("");
    assert!(names.len() > 1, "{names:?}");
    stage.without_the_first_place();
    let chosen = format!("&from_store={}", stage.store);
    assert_eq!(stage.listed(&chosen), names);
    let path = stage.path(&format!("download?format=tar{chosen}"));
    let dir = tempfile::tempdir().unwrap();
    works(&text(&stage.fleet.api.get(&path)["command"]), dir.path());
    stage.is_the_tree(dir.path());
    let done = stage.pushed("chosen", &json!(stage.store));
    assert_eq!(done["target_worker_id"], Value::Null, "{done}");

    let file = names.iter().find(|name| stage.tree.join(name).is_file()).unwrap();
    let written = std::fs::read_to_string(stage.tree.join(file)).unwrap();
    assert_eq!(stage.content(&["-L"], file, &chosen), written, "who follows has the file");
    let told: Value = serde_json::from_str(&stage.content(&[], file, &chosen)).unwrap();
    assert_eq!((&told["file_name"], &told["single_use"]), (&json!(file), &json!(true)), "{told}");
    works(&text(&told["command"]), dir.path());
    assert_eq!(std::fs::read_to_string(dir.path().join(file)).unwrap(), written, "who does not is told how");
    let again = tools::command("curl", ["-sS", &text(&told["url"])]).output().unwrap();
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["code"], "link_used");
    let head = stage.content(&["-I", "-L"], file, &chosen).to_lowercase();
    let (redirect, found) = head.split_once("\r\n\r\n").unwrap();
    assert!(redirect.starts_with("http/1.1 307") && found.starts_with("http/1.1 200"), "{head}");
    assert!(
        found.contains(&format!("filename*=utf-8''{}", file.to_lowercase().replace(' ', "%20"))),
        "{found}"
    );
}

#[test]
fn a_copy_is_read_while_its_snapshots_worker_is_gone() {
    let mut stage = Stage::set();
    let names = stage.listed("");
    let [owner, other] = stage.workers;
    // Asked for while the worker is there, and cannot be done by it any more.
    stage.fleet.workers[owner].program.freeze();
    let out = stage.fleet.site.sshd.home.join("waited");
    let body = json!({ "target": { "type": "server", "path": out } });
    let waiting = stage.fleet.api.post(&stage.path("restore"), &body);
    assert_eq!(waiting["target_worker_id"], json!(stage.fleet.workers[owner].id), "{waiting}");
    stage.fleet.workers[owner].program.kill();
    let done = stage.fleet.completed(&text(&waiting["id"]));
    assert_eq!(stage.fleet.worker_of(&done), other, "{done}");
    stage.is_the_tree(&out);

    let id = stage.fleet.workers[owner].id.clone();
    until(SOON, "the worker is offline", || {
        stage.fleet.api.get(&format!("/api/v1/workers/{id}"))["status"] == "offline"
    });
    assert_eq!(stage.listed(""), names);
    let dir = tempfile::tempdir().unwrap();
    works(&text(&stage.fleet.api.get(&stage.path("download"))["command"]), dir.path());
    stage.is_the_tree(dir.path());
    assert_eq!(stage.fleet.worker_of(&stage.pushed("gone", &Value::Null)), other);
}
