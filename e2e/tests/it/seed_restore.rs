//! The rows of the first document's step 7, each with a test named after it: restores and downloads, with curl.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use xvault_core::protocol::JobMessage;
use xvault_testkit::{MtimeMatch, TreeOptions, assert_same_tree, tools, trees};

use crate::curl::Curl;
use crate::fleet::{Fleet, Plan, SOON, files_below, text};
use crate::up::Up;
use crate::wait::eventually;

/// `xvault up` with a backup of a tree.
struct Stage {
    up: Up,
    curl: Curl,
    tenant: String,
    backup: Value,
}

impl Stage {
    fn set() -> Self {
        let up = Up::start();
        let curl = Curl { port: up.port, token: up.token.clone() };
        let (tenant, source) = up.local_source();
        trees::small_files(&up.home.join("site"), 12, 700);
        trees::random_file(&up.home.join("z.bin"), 4 << 20, 3);
        up.back_up(&tenant, &source);
        let jobs = curl.send("GET", "/api/v1/jobs?type=backup", None);
        let backup = jobs["jobs"][0].clone();
        Self { up, curl, tenant, backup }
    }

    /// `POST /api/v1/jobs/{id}/restore`, with the id of the backup job.
    fn restore(&self, body: &Value) -> Value {
        let path = format!("/api/v1/jobs/{}/restore", text(&self.backup["id"]));
        self.curl.send("POST", &path, Some(&body.to_string()))
    }

    /// The job once it has ended.
    fn ended(&self, job: &Value) -> Value {
        let path = format!("/api/v1/jobs/{}", text(&job["id"]));
        eventually(SOON, "the job has ended", || {
            let job = self.curl.send("GET", &path, None);
            ["completed", "failed"].contains(&job["status"].as_str().unwrap()).then_some(job)
        })
    }

    fn log(&self, job: &Value) -> String {
        self.curl.send("GET", &format!("/api/v1/jobs/{}/logs", text(&job["id"])), None).to_string()
    }

    fn link(&self, query: &str) -> Value {
        let path = format!("/api/v1/snapshots/{}/download{query}", text(&self.backup["snapshot_id"]));
        self.curl.send("GET", &path, None)
    }

    /// The jobs that links began, newest first, once the newest has ended.
    fn last_download(&self) -> Value {
        let jobs = self.curl.send("GET", "/api/v1/jobs?type=restore&limit=1", None);
        self.ended(&jobs["jobs"][0])
    }

    /// That below `out` lies what was backed up.
    fn is_the_tree(&self, out: &Path) {
        let options = TreeOptions { mtime: MtimeMatch::WholeSeconds, ..TreeOptions::default() };
        assert_same_tree(&self.up.home, &out.join(self.up.home.strip_prefix("/").unwrap()), &options);
    }
}

/// Runs a command line in a directory, as a person would.
fn shell(command: &str, dir: &Path) -> Output {
    let line = format!("set -o pipefail; {command}");
    tools::command("bash", ["-c", &line]).current_dir(dir).output().unwrap()
}

fn works(command: &str, dir: &Path) {
    let output = shell(command, dir);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn seed_row_7_1_post_jobs_id_restore_endpoint() {
    let stage = Stage::set();
    let job = stage.restore(&json!({}));
    assert_eq!(
        (&job["type"], &job["snapshot_id"]),
        (&json!("restore"), &stage.backup["snapshot_id"]),
        "{job}"
    );
    assert_eq!(stage.ended(&job)["status"], "completed");
}

#[test]
fn seed_row_7_2_hub_enqueues_restore_job_targeted_to_snapshot_worker_id() {
    let fleet = Fleet::start(&Plan { workers: 2, lease_secs: 30, ..Plan::default() });
    let backup = fleet.completed(&fleet.backup(&fleet.small_source("web")));
    let owner = fleet.worker_of(&backup);
    fleet.workers[owner].program.freeze();
    let path = format!("/api/v1/jobs/{}/restore", text(&backup["id"]));
    let job = fleet.api.post(&path, &json!({}));
    assert_eq!(job["target_worker_id"], backup["worker_id"], "{job}");
    let message = serde_json::to_string(&JobMessage { job_id: text(&job["id"]).parse().unwrap() }).unwrap();
    let queued = eventually(20, "the job appears in Redis", || {
        let dump = fleet.redis.dump();
        dump.contains(&message).then_some(dump)
    });
    assert!(queued.contains(&format!("xvault:worker:{}", text(&backup["worker_id"]))), "{queued}");
    fleet.workers[owner].program.thaw();
    let done = fleet.completed(&text(&job["id"]));
    assert_eq!(done["worker_id"], backup["worker_id"]);
    // The link leads to that worker, whichever hub is asked.
    let url = text(&done["download"]["url"]);
    assert!(url.starts_with(&fleet.workers[owner].download_url), "{url}");
    let dir = tempfile::tempdir().unwrap();
    works(&text(&done["download"]["command"]), dir.path());
    assert!(!files_below(dir.path()).is_empty());
    for log in [fleet.hubs[0].program.log(), fleet.workers[owner].program.log()] {
        assert!(!log.contains("xvd_"), "a log gives the link away: {log}");
    }
}

#[test]
fn seed_row_7_3_worker_handles_restore_job_type() {
    let stage = Stage::set();
    let body = json!({"paths": [stage.up.home.join("site")], "format": "tar"});
    let done = stage.ended(&stage.restore(&body));
    assert_eq!((&done["status"], &done["worker_id"]), (&json!("completed"), &json!("local")), "{done}");
    assert_eq!(
        (&done["restore"]["files"], &done["restore"]["bytes"]),
        (&json!(12), &json!(12 * 700)),
        "{done}"
    );
    assert!(stage.log(&done).contains("can be downloaded"));
    let missing = stage.ended(&stage.restore(&json!({"paths": ["/no/such"]})));
    assert_eq!(
        (&missing["status"], &missing["error_code"]),
        (&json!("failed"), &json!("path_missing")),
        "{missing}"
    );
    assert!(text(&missing["error_message"]).contains("no/such"), "{missing}");
}

#[test]
fn seed_row_7_4_worker_reads_encrypted_backup_from_local_storage() {
    let stage = Stage::set();
    let link = stage.link("");
    let artifact = files_below(&stage.up.data.join("backups")).into_iter();
    let artifact: Vec<PathBuf> = artifact.filter(|path| path.ends_with("backup.tar.zst.enc")).collect();
    let away = artifact[0].with_extension("away");
    std::fs::rename(&artifact[0], &away).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let refused = shell(&format!("curl -sS '{}'", text(&link["url"])), dir.path());
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(said.contains("store_damaged") && said.contains("missing"), "{said}");
    assert_eq!(stage.last_download()["error_code"], "store_damaged");
    std::fs::rename(&away, &artifact[0]).unwrap();
    works(&text(&link["command"]), dir.path());
    stage.is_the_tree(dir.path());
}

#[test]
fn seed_row_7_5_worker_decrypts_and_extracts() {
    let stage = Stage::set();
    let dir = tempfile::tempdir().unwrap();
    let path = stage.up.home.join("letter.txt");
    let link = stage.link(&format!("?what=file&path={}", path.display()));
    assert_eq!(link["file_name"], "letter.txt");
    works(&text(&link["command"]), dir.path());
    assert_eq!(std::fs::read(dir.path().join("letter.txt")).unwrap(), b"Dear Sirs");
    let job = stage.last_download();
    assert_eq!((&job["status"], &job["restore"]["bytes"]), (&json!("completed"), &json!(9)), "{job}");
    // Nothing of it lies in plain text on the worker's disk, then or later.
    for file in files_below(&stage.up.data) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(9).any(|bytes| bytes == b"Dear Sirs"), "{}", file.display());
    }
}

#[test]
fn seed_row_7_6_worker_creates_zip_or_tar_archive() {
    let stage = Stage::set();
    for format in ["tar", "tar.zst", "zip"] {
        let dir = tempfile::tempdir().unwrap();
        let link = stage.link(&format!("?format={format}"));
        assert!(text(&link["file_name"]).ends_with(&format!(".{format}")), "{link}");
        works(&text(&link["command"]), dir.path());
        if format == "zip" {
            let unpack = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall('out')";
            let zip = dir.path().join(text(&link["file_name"]));
            let zip = zip.to_str().unwrap();
            let done =
                tools::command("python3", ["-c", unpack, zip]).current_dir(dir.path()).status().unwrap();
            assert!(done.success());
            let letter =
                dir.path().join("out").join(stage.up.home.join("letter.txt").strip_prefix("/").unwrap());
            assert_eq!(std::fs::read(letter).unwrap(), b"Dear Sirs");
        } else {
            stage.is_the_tree(dir.path());
        }
    }
}

#[test]
fn seed_row_7_7_worker_reports_restore_complete() {
    let stage = Stage::set();
    let link = stage.link("");
    let dir = tempfile::tempdir().unwrap();
    works(&text(&link["command"]), dir.path());
    let job = stage.last_download();
    assert_eq!(
        (&job["type"], &job["status"], &job["attempt"]),
        (&json!("restore"), &json!("completed"), &json!(1))
    );
    assert_eq!(job["restore"]["bytes"], json!((4 << 20) + 12 * 700 + 9), "{job}");
    assert!(stage.log(&job).contains("were sent"));
    let events =
        stage.curl.send("GET", &format!("/api/v1/audit-events?tenant_id={}&limit=200", stage.tenant), None);
    for action in ["download.create", "download.open"] {
        assert!(events.to_string().contains(action), "{action}");
    }
}

#[test]
fn seed_row_7_8_provide_download_mechanism() {
    let stage = Stage::set();
    let done = stage
        .ended(&stage.restore(&json!({"format": "tar.zst", "target": {"type": "download", "once": true}})));
    let download = &done["download"];
    let dir = tempfile::tempdir().unwrap();
    works(&text(&download["command"]), dir.path());
    stage.is_the_tree(dir.path());
    // Good for one use.
    let again = shell(&format!("curl -sS '{}'", text(&download["url"])), dir.path());
    assert!(String::from_utf8_lossy(&again.stdout).contains("link_used"), "{again:?}");
    assert_eq!(stage.ended(&done)["download"], Value::Null);
    // The encrypted artifact needs no key of the platform, and can be gone on with.
    let link = stage.link("?what=artifact");
    let url = text(&link["url"]);
    let key = dir.path().join("key.txt");
    let identity = stage.curl.send("POST", &format!("/api/v1/tenants/{}/identity", stage.tenant), Some("{}"));
    std::fs::write(&key, text(&identity["identity"])).unwrap();
    let out = dir.path().join("by-hand");
    std::fs::create_dir(&out).unwrap();
    works(&text(&link["command"]).replace("KEY", key.to_str().unwrap()), &out);
    stage.is_the_tree(&out);
    works(&format!("curl -fsS -r 0-999999 -o part '{url}' && curl -fsS -C - -o part '{url}'"), dir.path());
    let whole = files_below(&stage.up.data.join("backups"));
    let whole = whole.iter().find(|path| path.ends_with("backup.tar.zst.enc")).unwrap();
    assert_eq!(std::fs::read(dir.path().join("part")).unwrap(), std::fs::read(whole).unwrap());
}
