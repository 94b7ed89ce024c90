//! `xvault up`: the whole service in one process, on a directory of its own.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::Api;
use crate::fleet::{SOON, files_below, free_port, text};
use crate::process::Program;
use crate::wait::{eventually, until};

/// A running one. Its operator is logged in.
#[derive(Debug)]
pub(crate) struct Up {
    program: Program,
    listen: String,
    pub(crate) port: u16,
    pub(crate) token: String,
    pub(crate) api: Api,
    pub(crate) data: PathBuf,
    /// What `local` sources may be read from.
    pub(crate) home: PathBuf,
    dir: TempDir,
}

/// Starts one on the directories below `dir`.
fn begin(dir: &Path, listen: &str) -> Program {
    let place = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (data, home) = (place("data"), place("home"));
    // Debian's packages of database tools lag behind at times.
    let tools = "--allow-outdated-tools";
    let args = ["up", "--data-dir", &data, "--listen", listen, "--allow-local", &home, tools];
    Program::start(env!("CARGO_BIN_EXE_up"), &args, &Vec::new(), &dir.join("up.log"))
}

impl Up {
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("xvt-up").tempdir().unwrap();
        let (data, home) = (dir.path().join("data"), dir.path().join("home"));
        std::fs::create_dir(&home).unwrap();
        let port = free_port();
        let (api, token, listen) = (Api::anonymous(port), String::new(), format!("127.0.0.1:{port}"));
        let program = begin(dir.path(), &listen);
        let mut up = Self { program, listen, port, token, api, data, home, dir };
        up.log_in();
        up
    }

    /// Waits until it serves, and logs in as it says that its first operator does.
    fn log_in(&mut self) {
        self.api = Api::anonymous(self.port);
        until(60, "a hub that serves", || {
            assert!(self.program.is_alive(), "{}", self.program.log());
            self.api.is_ready()
        });
        let login = std::fs::read(self.data.join("first-login.json")).unwrap();
        let session = self.api.post("/api/v1/auth/login", &serde_json::from_slice(&login).unwrap());
        self.token = text(&session["access_token"]);
        self.api = self.api.with_token(&self.token);
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts it again.
    pub(crate) fn start_again(&mut self) {
        self.program = begin(self.dir.path(), &self.listen);
        self.log_in();
    }

    /// All that it printed.
    pub(crate) fn log(&self) -> String {
        self.program.log()
    }

    /// Where the hub keeps its rows.
    pub(crate) fn database(&self) -> String {
        format!("sqlite:{}", self.data.join("hub.db").display())
    }

    /// A tenant with a source of one file. Gives the ids of both.
    pub(crate) fn local_source(&self) -> (String, String) {
        std::fs::write(self.home.join("letter.txt"), "Dear Sirs").unwrap();
        let tenant = text(&self.api.post("/api/v1/tenants", &json!({"name": "home"}))["id"]);
        let config = json!({"paths": [self.home]});
        let body = json!({"tenant_id": tenant, "type": "local", "name": "home", "config": config});
        let source = text(&self.api.post("/api/v1/sources", &body)["id"]);
        until(60, "a worker that is online", || self.api.get("/api/v1/workers/local")["status"] == "online");
        (tenant, source)
    }

    /// Backs a source up, and waits until that is done. Gives the snapshot's id.
    pub(crate) fn back_up(&self, tenant: &str, source: &str) -> String {
        let path = format!("/api/v1/jobs?tenant_id={tenant}");
        let job = text(&self.api.post(&path, &json!({"source_id": source}))["id"]);
        let done = eventually(SOON, "the backup is done", || {
            let job = self.api.get(&format!("/api/v1/jobs/{job}"));
            assert!(job["status"] != "failed", "{job}");
            (job["status"] == "completed").then_some(job)
        });
        text(&done["snapshot_id"])
    }

    /// The snapshots of a source that the API lists, newest first.
    pub(crate) fn snapshots(&self, source: &str) -> Vec<Value> {
        let listed = self.api.get(&format!("/api/v1/sources/{source}/snapshots"));
        listed["snapshots"].as_array().unwrap().clone()
    }

    /// The ids of all snapshots that exist on the disk, newest first.
    pub(crate) fn on_disk(&self) -> Vec<String> {
        let files = files_below(&self.data.join("backups")).into_iter();
        let manifests = files.filter(|path| path.ends_with("manifest.json"));
        let id = |path: PathBuf| path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let mut ids: Vec<_> = manifests.map(id).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids
    }
}
