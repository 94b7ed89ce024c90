//! The program itself: its settings, its signals, its logs, and what a `kill -9` leaves.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use xvault::core::protocol::{QueueName, Sealed, StoreAccess, Task, VerifyDepth, VerifyTask};
use xvault::core::secret::ExposeSecret as _;
use xvault::core::{Identity, JobId, JobStatus, PostgresSettings, Recipient, SourceSettings, clock};
use xvault_testkit::{FaultProxy, Postgres, Sshd};

use crate::fake_hub::{FakeHub, Fault, TOKEN};
use crate::redis_server::RedisServer;
use crate::support::{backup, eventually, key_of, local, remains, snapshots, ssh};

/// A worker in a process of its own.
struct Program {
    child: Child,
    log: PathBuf,
}

/// Where it works.
struct Place {
    dir: TempDir,
    hub: FakeHub,
    redis: RedisServer,
    owner: Identity,
}

impl Place {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("token"), format!("{TOKEN}\n")).unwrap();
        Self { dir, hub: FakeHub::start().await, redis: RedisServer::start(), owner: Identity::generate() }
    }

    fn storage(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    fn start(&self, more: &[(&str, &str)]) -> Program {
        let log = self.dir.path().join(format!("log-{}", JobId::generate()));
        let mut command = bare();
        command
            .env("WORKER_ID", "worker-1")
            .env("WORKER_TOKEN_FILE", self.dir.path().join("token"))
            .env("HUB_BASE_URL", &self.hub.url)
            .env("REDIS_URL", self.redis.url())
            .env("WORKER_STORAGE_BASE", self.storage())
            .env("WORKER_ALLOW_LOCAL", self.dir.path().join("data"))
            .env("WORKER_MIN_FREE", "0")
            .env("WORKER_EGRESS_ALLOW", "127.0.0.1")
            .envs(more.iter().copied())
            .stderr(File::create(&log).unwrap());
        Program { child: command.spawn().unwrap(), log }
    }

    async fn run(&self, task: Task) -> JobId {
        let job_id = self.hub.add(task);
        self.redis.push(&QueueName::Shared, &job_id).await;
        job_id
    }

    async fn completes(&self, job_id: &JobId) {
        assert!(
            eventually(|| self.hub.status(job_id) == JobStatus::Completed).await,
            "{:?}",
            self.hub.status(job_id)
        );
    }

    fn local_backup(&self) -> Task {
        backup(local(&self.dir.path().join("data")), None, &self.owner)
    }
}

fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xvault-worker"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Program {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    async fn ends(&mut self) -> Option<i32> {
        let mut code = None;
        assert!(
            eventually(|| {
                code = self.child.try_wait().unwrap();
                code.is_some()
            })
            .await
        );
        code.unwrap().code()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn refused(env: &[(&str, &str)]) -> String {
    let Output { status, stderr, .. } =
        bare().envs(env.iter().copied()).stderr(Stdio::piped()).output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn wrong_settings_stop_the_program_and_are_named() {
    let base = [("WORKER_ID", "w1"), ("WORKER_TOKEN", "xvw_hunter2"), ("REDIS_URL", "redis://:hunter2@h")];
    let with = |more: &[(&'static str, &'static str)]| [&base[..], more].concat();
    let cases = [
        (vec![], "WORKER_ID"),
        (vec![("WORKER_ID", "w1")], "WORKER_TOKEN"),
        (base[..2].to_vec(), "REDIS_URL"),
        (vec![base[0], base[1], ("REDIS_URL", "rediss://:hunter2@h")], "REDIS_URL: Redis over TLS"),
        (vec![base[0], base[1], ("REDIS_URL", "redis://:hunter2@h:port")], "REDIS_URL: it is no address"),
        (with(&[("WORKER_CONCURENCY", "1")]), "WORKER_CONCURENCY"),
        (with(&[("WORKER_CONCURRENCY", "0")]), "WORKER_CONCURRENCY"),
        (with(&[("WORKER_METRICS_ADDR", "nowhere")]), "WORKER_METRICS_ADDR"),
        (with(&[("WORKER_MIN_FREE", "much")]), "WORKER_MIN_FREE"),
        (with(&[("WORKER_EGRESS_ALLOW", "10.0.0.1/8")]), "WORKER_EGRESS_ALLOW"),
        (with(&[("WORKER_EGRESS_DENY", "lan")]), "WORKER_EGRESS_DENY"),
        (with(&[("WORKER_EGRESS", "all")]), "WORKER_EGRESS"),
        (with(&[("WORKER_LOG", "a=b=c")]), "WORKER_LOG"),
        (with(&[("WORKER_LOG_FORMAT", "xml")]), "WORKER_LOG_FORMAT"),
        (with(&[("WORKER_STORAGE_BASE", "/proc/nowhere")]), "/proc/nowhere"),
        (with(&[("HUB_BASE_URL", "hub"), ("WORKER_STORAGE_BASE", "/tmp")]), "hub"),
        (with(&[("WORKER_HUB_CA_FILE", "/no/such.pem"), ("WORKER_STORAGE_BASE", "/tmp")]), "/no/such.pem"),
        (
            with(&[("WORKER_HUB_CA_FILE", "/etc/hostname"), ("WORKER_STORAGE_BASE", "/tmp")]),
            "no certificates",
        ),
    ];
    for (env, named) in cases {
        let said = refused(&env);
        assert!(said.contains(named) && !said.contains("hunter2"), "{env:?}: {said}");
    }
}

/// A program in the middle of a backup, whose server has fallen silent after 1 MiB.
struct MidJob {
    place: Place,
    program: Program,
    recipient: Recipient,
    _server: (Sshd, FaultProxy),
}

impl MidJob {
    async fn reach() -> Self {
        let place = Place::new().await;
        let sshd = Sshd::builder().start();
        fs::write(sshd.home.join("big"), vec![1; 4 << 20]).unwrap();
        let proxy = FaultProxy::start(sshd.port);
        proxy.stall_after(1 << 20);
        let program = place.start(&[]);
        assert!(eventually(|| !place.hub.state().registered.is_empty()).await);
        let recipient = place.hub.state().registered[0].recipient.clone();
        let credential = Sealed::to(&recipient, sshd.password.as_bytes()).unwrap();
        let source = SourceSettings::Sftp(ssh(&sshd, proxy.port, "."));
        place.run(backup(source, Some(credential), &place.owner)).await;
        assert!(eventually(|| proxy.bytes_to_client() >= 1 << 20).await);
        Self { place, program, recipient, _server: (sshd, proxy) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_mid_job_it_sweeps_up_when_it_comes_back() {
    let MidJob { place, mut program, recipient, _server } = MidJob::reach().await;
    assert_eq!(remains(&place.storage()).len(), 1);
    program.signal(Signal::KILL);
    program.ends().await;
    assert_eq!(remains(&place.storage()).len(), 1);

    let mut program = place.start(&[]);
    assert!(eventually(|| remains(&place.storage()).is_empty()).await, "{}", program.log());
    // It has the same key as before, and works.
    let job_id = place.run(place.local_backup()).await;
    place.completes(&job_id).await;
    assert_eq!(place.hub.state().registered.last().unwrap().recipient, recipient);
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await, Some(0), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_drains_and_the_second_ends() {
    let MidJob { place, mut program, _server, .. } = MidJob::reach().await;
    program.signal(Signal::TERM);
    assert!(eventually(|| place.hub.state().heartbeats.last().is_some_and(|beat| beat.draining)).await);
    assert!(program.child.try_wait().unwrap().is_none());
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await, Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_queued_or_stored_and_every_line_of_a_job_says_whose_it_is() {
    let place = Place::new().await;
    let sshd = Sshd::builder().start();
    fs::write(sshd.home.join("a"), "a").unwrap();
    let program = place.start(&[("WORKER_LOG", "trace"), ("WORKER_LOG_FORMAT", "json")]);
    assert!(eventually(|| !place.hub.state().registered.is_empty()).await);
    let recipient = place.hub.state().registered[0].recipient.clone();
    let key = fs::read(&sshd.key_path).unwrap();
    let mut failing = ssh(&sshd, sshd.port, "gone");
    failing.use_password = false;
    let by_password = ssh(&sshd, sshd.port, ".");
    let tasks = [(by_password, sshd.password.as_bytes()), (failing, &key[..])].map(|(settings, secret)| {
        let credential = Sealed::to(&recipient, secret).unwrap();
        backup(SourceSettings::Sftp(settings), Some(credential), &place.owner)
    });
    let mut job_ids = Vec::new();
    for task in tasks {
        job_ids.push(place.run(task).await);
    }
    place.completes(&job_ids[0]).await;
    assert!(eventually(|| place.hub.status(&job_ids[1]) == JobStatus::Failed).await);

    let log = program.log();
    let redis = place.redis.dump();
    let command_line = fs::read_to_string(format!("/proc/{}/cmdline", program.child.id())).unwrap();
    let told = place.hub.state().jobs.values().map(|job| format!("{job:?}")).collect::<String>();
    let worker_key = fs::read_to_string(place.storage().join(xvault_worker::IDENTITY_FILE)).unwrap();
    let worker_key = worker_key.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).unwrap().to_owned();
    let pem_line = std::str::from_utf8(&key).unwrap().lines().nth(2).unwrap().to_owned();
    let secrets = [sshd.password.clone(), TOKEN.to_owned(), place.redis.password(), worker_key, pem_line];
    for secret in &secrets {
        let escaped = secret.escape_default().to_string();
        for (place, text) in
            [("log", &log), ("Redis", &redis), ("process list", &command_line), ("reports", &told)]
        {
            assert!(!text.contains(secret) && !text.contains(&escaped), "a secret is in the {place}");
        }
    }
    for secret in &secrets[..3] {
        assert!(!holds(&place.storage(), secret.as_bytes()), "a secret is in the store");
    }
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed = lines.iter().find(|line| line["message"] == "job failed").expect("the failure is logged");
    assert!(failed["reason"].as_str().unwrap().contains("gone"), "{failed}");
    assert_eq!(failed["code"], "path_missing");
    for line in
        lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with("job ")))
    {
        let span = &line["span"];
        assert_eq!(
            (&span["tenant_id"], &span["worker_id"]),
            (&"tenant-1".into(), &"worker-1".into()),
            "{line}"
        );
        assert!(job_ids.iter().any(|id| span["job_id"] == id.as_str()), "{line}");
    }
}

/// With a token that was revoked nobody eats the messages of others: the first claim that is refused is the last one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_stops_the_worker_from_consuming_until_it_is_taken_again() {
    let place = Place::new().await;
    // No heartbeat comes between: it is the claim that is refused first.
    place.hub.state().heartbeat_ms = 300_000;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut program = place.start(&[("WORKER_METRICS_ADDR", &format!("127.0.0.1:{port}"))]);
    let job_id = place.run(place.local_backup()).await;
    place.completes(&job_id).await;
    let is_refused = |value: u8| {
        let line = format!("xvault_worker_token_refused {value}");
        get(port, "/metrics").lines().any(|found| found == line)
    };
    assert!(is_refused(0));

    place.hub.set_fault(Fault::Unauthorized);
    let mut job_ids = Vec::new();
    for _ in 0..4 {
        job_ids.push(place.run(place.local_backup()).await);
    }
    assert!(eventually(|| is_refused(1)).await, "{}", program.log());
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let refused = place.hub.state().refused.clone();
    let claims = refused.iter().filter(|path| path.ends_with("/claim")).count();
    assert!(claims == 1 && refused.len() > 1, "{refused:?}");
    // All of them wait for somebody else.
    assert_eq!(place.redis.waiting(&QueueName::Shared).await, 4);
    assert!(program.child.try_wait().unwrap().is_none());
    let told = |log: &str| log.lines().filter(|line| line.contains("refuses this worker's token")).count();
    assert_eq!(told(&program.log()), 1, "{}", program.log());
    assert!(program.log().contains("xvault-hub token worker-1"), "{}", program.log());

    place.hub.set_fault(Fault::None);
    for job_id in &job_ids {
        place.completes(job_id).await;
    }
    assert!(is_refused(0) && told(&program.log()) == 1, "{}", program.log());
}

fn holds(dir: &Path, secret: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, secret);
        }
        fs::read(&path).unwrap().windows(secret.len()).any(|window| window == secret)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_quiet_and_cheap_when_idle_and_shows_its_metrics() {
    let place = Place::new().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = place.start(&[("WORKER_METRICS_ADDR", &format!("127.0.0.1:{port}"))]);
    let job_id = place.run(place.local_backup()).await;
    place.completes(&job_id).await;
    // The hub knows of its end a little before the worker has heard that it does.
    let counted = "xvault_worker_jobs_total{kind=\"backup\",outcome=\"completed\"} 1";
    assert!(eventually(|| get(port, "/metrics").contains(counted)).await, "{}", get(port, "/metrics"));
    assert!(get(port, "/healthz").contains("\"status\":\"ok\""));
    assert_eq!(snapshots(&place.storage()).await.len(), 1);

    let (lines, cpu) = (program.log().lines().count(), cpu_ticks(program.child.id()));
    let span = std::time::Duration::from_secs(10);
    tokio::time::sleep(span).await;
    assert_eq!(program.log().lines().count(), lines, "{}", program.log());
    // In hundredths of a second; a debug build and ten times as many heartbeats as in earnest.
    let spent = cpu_ticks(program.child.id()) - cpu;
    assert!(spent <= 50, "{spent} ticks in {span:?}");
}

/// Time that the process has spent, in the kernel's ticks of a hundredth of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Restores quickly, but for an index that takes a minute in a scratch database.
const SLOW_TO_RESTORE: &str = "CREATE FUNCTION public.slow(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
    IF current_database() LIKE 'xvault_test%' THEN PERFORM pg_sleep(60); END IF; RETURN a; END $$; \
    CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE INDEX i ON t (public.slow(a))";

/// The scratch databases of a server.
fn scratch_databases(server: &Postgres) -> String {
    let list = "SELECT datname FROM pg_database WHERE datname LIKE 'xvault_test%'";
    server.psql("postgres", list).trim().to_owned()
}

/// Those whose restore has come to the index.
fn restoring(server: &Postgres, what: &str) -> String {
    let list = format!(
        "SELECT {what} FROM pg_stat_activity WHERE datname LIKE 'xvault_test%' AND wait_event = 'PgSleep'"
    );
    server.psql("postgres", &list)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_mid_trial_it_leaves_a_scratch_database_that_goes_when_it_is_old() {
    let (place, server) = (Place::new().await, Postgres::start());
    let _ = server.psql("postgres", "CREATE ROLE scratch LOGIN CREATEDB PASSWORD 'secret'");
    let url = server.create_database();
    let _ = server.psql(&url, SLOW_TO_RESTORE);
    let (scratch, path) =
        (format!("postgres://scratch:secret@127.0.0.1:{}", server.port), std::env::var("PATH").unwrap());
    let env = [
        ("WORKER_SCRATCH_POSTGRES_URL", scratch.as_str()),
        ("WORKER_ALLOW_OUTDATED_TOOLS", "true"),
        ("PATH", path.as_str()),
    ];
    let mut program = place.start(&env);
    assert!(eventually(|| !place.hub.state().registered.is_empty()).await);
    let recipient = place.hub.state().registered[0].recipient.clone();
    let sealed = |secret: &str| Sealed::to(&recipient, secret.as_bytes()).unwrap();
    let mut settings = PostgresSettings::new("127.0.0.1", "postgres");
    (settings.port, settings.database) = (server.port, url.rsplit('/').next().map(str::to_owned));
    let task = backup(SourceSettings::Postgres(settings), Some(sealed(server.password())), &place.owner);
    let snapshot = key_of(&task);
    let made = place.run(task).await;
    place.completes(&made).await;
    let identities = vec![sealed(place.owner.to_secret().expose_secret())];
    let (store, depth) = (StoreAccess::LocalFs, VerifyDepth::RestoreTest);
    place.run(Task::Verify(Box::new(VerifyTask { snapshot, store, depth, identities }))).await;
    assert!(eventually(|| restoring(&server, "1") == "1\n").await, "{}", program.log());
    program.signal(Signal::KILL);
    program.ends().await;
    // The server notices sooner or later that nobody is there any more.
    let _ = restoring(&server, "pg_terminate_backend(pid)");
    let left = scratch_databases(&server);
    assert_eq!(left.len(), "xvault_test_".len() + 32, "{left}");

    // A day later, by its name. A younger one may be of a trial that goes on elsewhere.
    let old = clock::now().as_millisecond() - 25 * 3_600_000;
    let renamed = format!("xvault_test_{old:012x}{}", &left["xvault_test_".len() + 12..]);
    let rename = format!("ALTER DATABASE {left} RENAME TO {renamed}");
    assert!(eventually(|| restoring(&server, "1").is_empty()).await);
    let _ = server.psql("postgres", &rename);
    let program = place.start(&env);
    assert!(eventually(|| scratch_databases(&server).is_empty()).await, "{}", program.log());
    let told = "dropped scratch databases that were left over";
    assert!(eventually(|| program.log().contains(told)).await, "{}", program.log());
}
