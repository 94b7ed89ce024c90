//! What a fleet is made of: how it shall be, its programs, and its secrets.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use xvault_core::Identity;
use xvault_core::secret::ExposeSecret;
use xvault_testkit::FaultProxy;

use crate::api::Api;
use crate::process::{Env, Program};
use crate::tls::TlsDoor;

pub(crate) const HUB: &str = env!("CARGO_BIN_EXE_hub");
pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_worker");

/// How a fleet shall be.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) hubs: usize,
    pub(crate) workers: usize,
    /// Jobs at a time of each worker.
    pub(crate) concurrency: usize,
    pub(crate) lease_secs: u64,
    /// A server of its own instead of a database in the shared one.
    pub(crate) own_postgres: bool,
    /// SQLite in place of PostgreSQL.
    pub(crate) sqlite: bool,
    /// Hubs reach Redis through [`Fleet::redis_line`].
    pub(crate) redis_line: bool,
    /// Workers reach their hub through [`Worker::line`].
    pub(crate) hub_lines: bool,
    /// Workers reach their hub over TLS, by the certificate of a private authority.
    pub(crate) tls: bool,
    /// Networks that tenants may have workers connect to.
    pub(crate) egress_allow: &'static str,
    /// How far the clocks of the hubs, and of the workers, are off, in seconds; 0 for those that are not named.
    pub(crate) hub_skews: Vec<i64>,
    pub(crate) worker_skews: Vec<i64>,
    /// For all programs.
    pub(crate) log_filter: &'static str,
    /// Further settings of all hubs.
    pub(crate) hub_settings: Vec<(&'static str, String)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            hubs: 1,
            workers: 1,
            concurrency: 2,
            lease_secs: 4,
            own_postgres: false,
            sqlite: false,
            redis_line: false,
            hub_lines: false,
            tls: false,
            // Where the servers of these tests are.
            egress_allow: "127.0.0.0/8,::1",
            hub_skews: Vec::new(),
            worker_skews: Vec::new(),
            log_filter: "info,xvault_hub=debug,xvault_worker=debug,apalis=error,apalis_core=error,apalis_redis=error",
            hub_settings: Vec::new(),
        }
    }
}

/// What must not be found anywhere.
#[derive(Debug)]
pub(crate) struct Secrets {
    pub(crate) kek: Identity,
    pub(crate) jwt: String,
    pub(crate) operator_password: String,
}

impl Secrets {
    pub(super) fn new() -> Self {
        let random = || Identity::generate().to_secret().expose_secret().to_lowercase();
        Self { kek: Identity::generate(), jwt: random(), operator_password: random() }
    }

    pub(crate) fn kek_text(&self) -> String {
        self.kek.to_secret().expose_secret().to_owned()
    }
}

/// A hub and how it is started.
#[derive(Debug)]
pub(crate) struct HubProgram {
    pub(crate) port: u16,
    pub(crate) program: Program,
    pub(super) env: Env,
    pub(super) log: PathBuf,
}

impl HubProgram {
    pub(crate) fn start_again(&mut self) {
        self.program.kill();
        self.program = Program::start(HUB, &["serve"], &self.env, &self.log);
    }

    /// As [`HubProgram::start_again`], on another database.
    pub(crate) fn start_on(&mut self, database: &str) {
        self.start_with(&[("DATABASE_URL", database)]);
    }

    /// As [`HubProgram::start_again`], with some of its settings changed from now on.
    pub(crate) fn start_with(&mut self, changes: &[(&str, &str)]) {
        self.env = changed(&self.env, changes);
        self.start_again();
    }
}

/// A worker and how it is started.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) storage: PathBuf,
    pub(crate) token: String,
    pub(crate) metrics_port: u16,
    /// What links to its downloads begin with.
    pub(crate) download_url: String,
    /// Between it and its hub.
    pub(crate) line: Option<FaultProxy>,
    /// Before that line, or the hub.
    pub(super) _door: Option<TlsDoor>,
    pub(crate) program: Program,
    pub(super) env: Env,
    pub(super) log: PathBuf,
}

impl Worker {
    pub(crate) fn start_again(&mut self) {
        self.program.kill();
        self.program = Program::start(WORKER, &[], &self.env, &self.log);
    }

    /// As [`Worker::start_again`], with some of its settings changed from now on.
    pub(crate) fn start_with(&mut self, changes: &[(&str, &str)]) {
        self.env = changed(&self.env, changes);
        self.start_again();
    }

    /// This worker, which must not run, with some of its settings changed, and a log of its own.
    pub(crate) fn with(&self, changes: &[(&str, &str)]) -> Program {
        let log = self.log.with_extension("changed.log");
        Program::start(WORKER, &[], &changed(&self.env, changes), &log)
    }

    /// The secret half of its own key.
    pub(crate) fn identity(&self) -> String {
        let file = std::fs::read_to_string(self.storage.join(xvault_worker::IDENTITY_FILE)).unwrap();
        file.lines().find(|line| !line.starts_with('#')).unwrap().to_owned()
    }

    /// Its hub is out of its reach, at once.
    pub(crate) fn cut_off(&self) {
        let line = self.line.as_ref().expect("a plan with hub_lines");
        line.refuse();
        line.cut_now();
    }

    pub(crate) fn reconnect(&self) {
        self.line.as_ref().expect("a plan with hub_lines").heal();
    }

    /// A number that it tells of itself; empty when it does not.
    pub(crate) fn metric(&self, name: &str) -> String {
        let metrics = text(&Api::anonymous(self.metrics_port).get("/metrics"));
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_default().to_owned()
    }

    /// Whether it has stored a snapshot and is done with storing it.
    pub(crate) fn has_stored(&self) -> bool {
        !["", "0"].contains(&self.metric("xvault_worker_stored_bytes_total").as_str())
    }

    /// What runs that have not ended, or were cut off, have begun to store.
    pub(crate) fn stagings(&self) -> Vec<PathBuf> {
        let is_staging = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "staging");
        paths_below(&self.storage).into_iter().filter(is_staging).collect()
    }

    /// The snapshots that exist in its storage.
    pub(crate) fn snapshots(&self) -> Vec<PathBuf> {
        files_below(&self.storage).into_iter().filter(|path| path.ends_with("manifest.json")).collect()
    }
}

/// All files below `dir`.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    paths_below(dir).into_iter().filter(|path| !path.is_dir()).collect()
}

/// All files and directories below `dir`.
fn paths_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| [vec![path.clone()], paths_below(&path)].concat()).collect()
}

/// A JSON text.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

pub(super) fn variables(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// `env` with other values for some variables, or with these added.
pub(super) fn changed(env: &Env, changes: &[(&str, &str)]) -> Env {
    let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    let kept = env.iter().filter(|(name, _)| !is_changed(name)).cloned();
    kept.chain(variables(changes)).collect()
}

/// Makes a program believe that it is `seconds` later. Its monotonic clock is right, as on any machine.
pub(super) fn skew(seconds: Option<&i64>) -> Env {
    let Some(seconds) = seconds.filter(|seconds| **seconds != 0) else { return Env::new() };
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|folder| folder.path());
    let library = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    let library = library.expect("libfaketimeMT.so.1 is missing: install Debian package libfaketime");
    variables(&[
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME", &format!("{seconds:+}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ])
}

/// A port below those that the system gives to others: it is still free when a hub comes back.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 15_000 + u16::try_from(std::process::id() % 1500).unwrap() * 10;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
