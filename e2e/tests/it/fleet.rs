//! Hubs and workers as processes, on a database and a Redis of their own.

mod members;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use xvault_testkit::{FaultProxy, Postgres, Redis};

use crate::api::{Answer, Api};
use crate::process::{Env, Program};
use crate::site::Site;
use crate::tls::{Authority, TlsDoor};
use crate::wait::{eventually, until};

use members::{HUB, WORKER, changed, skew, variables};
pub(crate) use members::{HubProgram, Plan, Secrets, Worker, files_below, free_port, text};

pub(crate) const OPERATOR: &str = "operator@example.org";
/// How long a job may take that nothing holds up, on a busy machine, its message having been lost included.
pub(crate) const SOON: u64 = 120;

/// Everything that a fleet is made of. Programs end first.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) workers: Vec<Worker>,
    pub(crate) hubs: Vec<HubProgram>,
    pub(crate) redis_line: Option<FaultProxy>,
    pub(crate) redis: Redis,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) database: String,
    pub(crate) secrets: Secrets,
    /// The operator at the first hub.
    pub(crate) api: Api,
    authority: Option<Authority>,
    pub(crate) dir: TempDir,
    pub(crate) site: Site,
    pub(crate) tenant: String,
    pub(crate) credential: String,
}

impl Fleet {
    /// Starts it: a tenant has the credential of the [`Site`].
    pub(crate) fn start(plan: &Plan) -> Self {
        let mut fleet = Self::without_tenant(plan);
        let tenant = fleet.api.post("/api/v1/tenants", &json!({"name": "trouble"}));
        fleet.tenant = text(&tenant["id"]);
        fleet.credential = fleet.new_credential(&fleet.site.sshd.password.clone());
        fleet
    }

    /// Starts it and leaves the tables empty.
    pub(crate) fn without_tenant(plan: &Plan) -> Self {
        let dir = tempfile::Builder::new().prefix("xvt-fleet").tempdir().unwrap();
        let postgres = plan.own_postgres.then(Postgres::start);
        let database = if plan.sqlite {
            format!("sqlite:{}", dir.path().join("hub.db").display())
        } else {
            postgres.as_ref().unwrap_or_else(|| Postgres::shared()).create_database()
        };
        let redis = Redis::start();
        let redis_line = plan.redis_line.then(|| FaultProxy::start(redis.port));
        let mut fleet = Self {
            workers: Vec::new(),
            hubs: Vec::new(),
            redis_line,
            redis,
            postgres,
            database,
            secrets: Secrets::new(),
            api: Api::anonymous(0),
            authority: plan.tls.then(Authority::new),
            dir,
            site: Site::start(),
            tenant: String::new(),
            credential: String::new(),
        };
        // All at once: they migrate an empty database in each other's way.
        fleet.hubs = (0..plan.hubs).map(|number| fleet.start_hub(plan, number)).collect();
        fleet.until_ready();
        fleet.log_in();
        fleet.workers = (0..plan.workers).map(|number| fleet.start_worker(plan, number)).collect();
        fleet.until_all_online();
        fleet
    }

    fn start_hub(&self, plan: &Plan, number: usize) -> HubProgram {
        let port = free_port();
        let env = self.hub_env(plan, number, port);
        let log = self.dir.path().join(format!("hub-{number}.log"));
        HubProgram { port, program: Program::start(HUB, &["serve"], &env, &log), env, log }
    }

    fn hub_env(&self, plan: &Plan, number: usize, port: u16) -> Env {
        let redis = self.redis.url();
        let redis = match &self.redis_line {
            Some(line) => redis.replace(&format!(":{}/", self.redis.port), &format!(":{}/", line.port)),
            None => redis,
        };
        let mut env = variables(&[
            ("HUB_LISTEN_ADDR", &format!("127.0.0.1:{port}")),
            ("DATABASE_URL", &self.database),
            ("REDIS_URL", &redis),
            ("HUB_ENCRYPTION_KEK", &self.secrets.kek_text()),
            ("HUB_JWT_SECRET", &self.secrets.jwt),
            ("HUB_AUTO_MIGRATE", "true"),
            ("HUB_OPERATOR_EMAIL", OPERATOR),
            ("HUB_OPERATOR_PASSWORD", &self.secrets.operator_password),
            ("HUB_LEASE_SECONDS", &plan.lease_secs.to_string()),
            ("HUB_DATABASE_CONNECTIONS", "6"),
            ("BACKUP_SCHEDULER_INTERVAL_SECONDS", "1"),
            ("HUB_LOG", plan.log_filter),
        ]);
        env.extend(skew(plan.hub_skews.get(number)));
        env.extend(plan.hub_settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        env
    }

    fn start_worker(&self, plan: &Plan, number: usize) -> Worker {
        let id = format!("worker-{number}");
        let (token, storage) = (self.new_token(&id), self.dir.path().join(&id));
        let metrics_port = free_port();
        let download_addr = format!("127.0.0.1:{}", free_port());
        let hub = &self.hubs[number % self.hubs.len()];
        let line = plan.hub_lines.then(|| FaultProxy::start(hub.port));
        let port = line.as_ref().map_or(hub.port, |line| line.port);
        let door = self.authority.as_ref().map(|authority| TlsDoor::start(authority, port));
        let url = match &door {
            Some(door) => format!("https://127.0.0.1:{}", door.port),
            None => format!("http://127.0.0.1:{port}"),
        };
        let mut env = variables(&[
            ("WORKER_ID", &id),
            ("WORKER_TOKEN", &token),
            ("HUB_BASE_URL", &url),
            ("REDIS_URL", &self.redis.url()),
            ("WORKER_STORAGE_BASE", storage.to_str().unwrap()),
            ("WORKER_CONCURRENCY", &plan.concurrency.to_string()),
            ("WORKER_MIN_FREE", "1MiB"),
            ("WORKER_EGRESS_ALLOW", plan.egress_allow),
            ("WORKER_ALLOW_OUTDATED_TOOLS", "true"),
            ("WORKER_METRICS_ADDR", &format!("127.0.0.1:{metrics_port}")),
            ("WORKER_DOWNLOAD_ADDR", &download_addr),
            ("WORKER_LOG", plan.log_filter),
        ]);
        env.extend(skew(plan.worker_skews.get(number)));
        if let Some(authority) = &self.authority {
            env.extend(variables(&[("WORKER_HUB_CA_FILE", authority.file().to_str().unwrap())]));
        }
        let log = self.dir.path().join(format!("{id}.log"));
        let program = Program::start(WORKER, &[], &env, &log);
        let download_url = format!("http://{download_addr}");
        Worker { id, storage, token, metrics_port, download_url, line, _door: door, program, env, log }
    }

    /// As an operator makes one, on the machine of the hub.
    fn new_token(&self, worker: &str) -> String {
        let env = variables(&[("DATABASE_URL", &self.database)]);
        let output = self.dir.path().join(format!("{worker}.token"));
        let mut program = Program::start(HUB, &["token", worker], &env, &output);
        let ended = program.ended(std::time::Duration::from_secs(60));
        assert!(ended.success(), "{}", program.log());
        program.log().lines().last().unwrap().to_owned()
    }

    /// A hub of this fleet, with some of its settings changed, that runs to its end.
    pub(crate) fn hub_with(&self, changes: &[(&str, &str)]) -> Program {
        let changes = [&[("HUB_LISTEN_ADDR", "127.0.0.1:0")], changes].concat();
        let env = changed(&self.hubs[0].env, &changes);
        Program::start(HUB, &["serve"], &env, &self.dir.path().join("other-hub.log"))
    }

    /// A further hub of this fleet, whose clock is off, with the operator at it.
    pub(crate) fn hub_off_by(&self, seconds: i64) -> (Program, Api) {
        let port = free_port();
        let mut env = changed(&self.hubs[0].env, &[("HUB_LISTEN_ADDR", &format!("127.0.0.1:{port}"))]);
        env.extend(skew(Some(&seconds)));
        let program = Program::start(HUB, &["serve"], &env, &self.dir.path().join("hub-off.log"));
        until(90, "a hub whose clock is off serves", || Api::anonymous(port).is_ready());
        (program, self.api.at(port))
    }

    /// Waits until every hub serves.
    pub(crate) fn until_ready(&mut self) {
        for hub in &mut self.hubs {
            let api = Api::anonymous(hub.port);
            until(90, "a hub that serves", || {
                assert!(hub.program.is_alive(), "the hub ended: {}", hub.program.log());
                api.is_ready()
            });
        }
    }

    fn log_in(&mut self) {
        let api = Api::anonymous(self.hubs[0].port);
        let session = api.login(OPERATOR, &self.secrets.operator_password);
        self.api = api.with_token(session["access_token"].as_str().unwrap());
    }

    /// Waits until the hub has heard of every worker.
    pub(crate) fn until_all_online(&self) {
        for worker in &self.workers {
            until(60, "a worker that is online", || {
                self.api.get(&format!("/api/v1/workers/{}", worker.id))["status"] == "online"
            });
        }
    }

    /// The operator at hub number `number`.
    pub(crate) fn api_at(&self, number: usize) -> Api {
        self.api.at(self.hubs[number].port)
    }

    /// Stores a password or a private key; gives its id.
    pub(crate) fn new_credential(&self, secret: &str) -> String {
        let body = json!({"tenant_id": self.tenant, "kind": "source", "plaintext": STANDARD.encode(secret)});
        text(&self.api.post("/api/v1/credentials", &body)["id"])
    }

    /// Saves a source with `config` as its settings; gives its id.
    pub(crate) fn new_source(&self, name: &str, config: &Value) -> String {
        let body = json!({
            "tenant_id": self.tenant, "type": "ssh", "name": name, "credential_id": self.credential, "config": config,
        });
        text(&self.api.post("/api/v1/sources", &body)["id"])
    }

    /// Saves a source of any kind, with what one logs in with; gives its id.
    pub(crate) fn source_of(&self, kind: &str, secret: &str, config: &Value) -> String {
        let body = json!({
            "tenant_id": self.tenant, "type": kind, "name": kind, "credential_id": self.new_credential(secret), "config": config,
        });
        text(&self.api.post("/api/v1/sources", &body)["id"])
    }

    /// A new database of `server` with a small table, and a source of it; gives the names of both.
    pub(crate) fn shop_source(&self, server: &Postgres) -> (String, String) {
        let address = server.create_database();
        let shop = address.rsplit('/').next().unwrap().to_owned();
        let _said =
            server.psql(&shop, "CREATE TABLE goods (name TEXT); INSERT INTO goods VALUES ('tea'), ('rice')");
        let body = json!({
            "tenant_id": self.tenant, "type": "postgres", "name": "shop",
            "credential_id": self.new_credential(server.password()),
            "config": { "host": "127.0.0.1", "port": server.port, "username": "postgres", "database": shop },
        });
        (shop, text(&self.api.post("/api/v1/sources", &body)["id"]))
    }

    /// A source of a few files; gives its id.
    pub(crate) fn small_source(&self, name: &str) -> String {
        let tree = self.site.small_tree(name);
        self.new_source(name, &self.site.direct(&tree))
    }

    /// A source that a closed tap holds up; gives its id.
    pub(crate) fn busy_source(&self) -> String {
        let tree = self.site.busy_tree("busy");
        self.new_source("busy", &self.site.tapped(&tree))
    }

    /// Asks for a backup as a user does.
    pub(crate) fn try_backup(&self, api: &Api, source: &str) -> Option<Answer> {
        let path = format!("/api/v1/jobs?tenant_id={}", self.tenant);
        api.send(Method::POST, &path, Some(&json!({"source_id": source})))
    }

    /// Asks for a backup, which must be taken; gives the job's id.
    pub(crate) fn backup(&self, source: &str) -> String {
        let job = self.try_backup(&self.api, source).expect("an answer").ok();
        assert_eq!(job["status"], "queued", "{job}");
        text(&job["id"])
    }

    /// A backup that is in its middle, and stays there until the site's tap is opened; gives source and job.
    pub(crate) fn backup_in_the_middle(&self) -> (String, String) {
        self.site.close_tap();
        let source = self.busy_source();
        let job = self.backup(&source);
        self.site.until_in_the_middle();
        assert_eq!(self.job(&job)["status"], "running");
        (source, job)
    }

    pub(crate) fn job(&self, id: &str) -> Value {
        self.api.get(&format!("/api/v1/jobs/{id}"))
    }

    /// Waits for a job's success.
    pub(crate) fn completed(&self, id: &str) -> Value {
        eventually(SOON, &format!("job {id} completed"), || {
            // The hub may be away.
            let answer = self.api.send(Method::GET, &format!("/api/v1/jobs/{id}"), None)?;
            let job = (answer.status == 200).then_some(answer.body)?;
            let status = job["status"].as_str().unwrap();
            assert!(!["failed", "canceled"].contains(&status), "{job}");
            (status == "completed").then_some(job)
        })
    }

    /// The worker that has, or had, a job, as its place in [`Fleet::workers`].
    pub(crate) fn worker_of(&self, job: &Value) -> usize {
        let id = job["worker_id"].as_str().unwrap_or_else(|| panic!("no worker: {job}"));
        self.workers.iter().position(|worker| worker.id == id).unwrap()
    }

    /// What the API lists as the snapshots of a source.
    pub(crate) fn snapshots(&self, source: &str) -> Vec<Value> {
        let listed = self.api.get(&format!("/api/v1/sources/{source}/snapshots"));
        listed["snapshots"].as_array().unwrap().clone()
    }

    /// Asks for something that must be done, as the operator.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Value {
        self.api.send(Method::PUT, path, Some(body)).expect("an answer").ok()
    }

    /// The only snapshot of a source: one row, and (waited for) one on all the workers' disks, where the row says.
    pub(crate) fn only_snapshot(&self, source: &str) -> Value {
        let listed = self.snapshots(source);
        assert_eq!(listed.len(), 1, "{listed:?}");
        let place = PathBuf::from(listed[0]["local_path"].as_str().unwrap());
        until(SOON, "no bytes but those of the snapshot", || self.on_disk(source) == [place.clone()]);
        listed[0].clone()
    }

    /// The directories of all snapshots of a source that exist on the workers' disks.
    pub(crate) fn on_disk(&self, source: &str) -> Vec<PathBuf> {
        let manifests = self.workers.iter().flat_map(Worker::snapshots);
        let of_source = manifests.filter(|path| path.to_str().unwrap().contains(source));
        of_source.map(|path| path.parent().unwrap().to_owned()).collect()
    }

    /// How many jobs all the workers have begun, by their own word.
    pub(crate) fn runs(&self, job: &str) -> usize {
        let begins = |log: String| {
            log.lines().filter(|line| line.contains("job begins") && line.contains(job)).count()
        };
        self.workers.iter().map(|worker| begins(worker.program.log())).sum()
    }
}

impl Drop for Fleet {
    /// A failed test shows what the programs said last.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let hubs = self.hubs.iter().map(|hub| &hub.log);
        for log in hubs.chain(self.workers.iter().map(|worker| &worker.log)) {
            let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
            let lines: Vec<_> = text.lines().collect();
            eprintln!("== {}", log.display());
            lines.iter().skip(lines.len().saturating_sub(40)).for_each(|line| eprintln!("{line}"));
        }
    }
}
