//! After a full run no secret lies where it does not belong: Redis, logs, database, process list, API answers, disks.

mod at_no_moment;
mod given_back;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use xvault_core::seal;
use xvault_core::secret::ExposeSecret;
use xvault_testkit::{Postgres, Redis};
use xvault_worker::IDENTITY_FILE;

use crate::api::Api;
use crate::database;
use crate::fleet::{Fleet, Plan, files_below, text};
use crate::process::{Env, Program};
use crate::wait::until;

const IDENTITY_OF_WORKER: &str = "a worker's identity";

/// A secret in all forms that it may leak in.
struct Secret {
    what: String,
    forms: Vec<String>,
}

impl Secret {
    fn new(what: &str, value: &str) -> Self {
        assert!(value.len() >= 12, "{what} is too short to be searched for");
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        let json = json!(value).to_string();
        let plain = [value.to_owned(), json.trim_matches('"').to_owned(), hex];
        // Base64 depends on what stands before: three alignments, without the ends that depend on neighbours.
        let encoded = (0..3).map(|shift| {
            let text = STANDARD.encode([&b"xxx"[..shift], value.as_bytes()].concat());
            text[4..text.len() - 4].to_owned()
        });
        let percent = |byte: u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        let in_url: String = value.bytes().map(percent).collect();
        let in_shell = value.replace('\'', "'\\''");
        let others = [URL_SAFE_NO_PAD.encode(value), in_url.replace("%20", "+"), in_url, in_shell];
        let forms = plain.into_iter().chain(encoded).chain(others).collect();
        Self { what: what.to_owned(), forms }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.is_in_text(&String::from_utf8_lossy(bytes))
    }

    fn is_in_text(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form))
    }
}

/// Bytes that are no UTF-8 stand for none: whatever of a text lies between them stays.
fn contains(bytes: &[u8], part: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains(&*String::from_utf8_lossy(part))
}

/// Where to look, and something that is surely there: a search that finds nothing anywhere proves nothing.
struct Place {
    name: String,
    bytes: Vec<u8>,
    surely: String,
}

impl Place {
    fn new(name: &str, bytes: impl Into<Vec<u8>>, surely: &str) -> Self {
        Self { name: name.to_owned(), bytes: bytes.into(), surely: surely.to_owned() }
    }

    fn check(&self, secrets: &[Secret]) {
        let found = self.found(secrets);
        assert!(found.is_empty(), "{found:?} in {}: {}", self.name, String::from_utf8_lossy(&self.bytes));
    }

    fn found<'a>(&self, secrets: &'a [Secret]) -> Vec<&'a str> {
        let Self { name, bytes, surely } = self;
        assert!(
            contains(bytes, surely.as_bytes()),
            "{surely} is not in {name}: {}",
            String::from_utf8_lossy(bytes)
        );
        secrets.iter().filter(|secret| secret.is_in(bytes)).map(|secret| secret.what.as_str()).collect()
    }
}

/// Command lines of all processes, looked at again and again while `act` runs.
fn watching_command_lines<T>(act: impl FnOnce() -> T) -> (T, BTreeSet<Vec<u8>>) {
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                seen.lock().unwrap().extend(command_lines());
                std::thread::sleep(Duration::from_millis(15));
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        stop.store(true, Ordering::Relaxed);
        done
    });
    (done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), seen.into_inner().unwrap())
}

fn command_lines() -> Vec<Vec<u8>> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| !line.is_empty()).collect()
}

/// What a run leaves for the search.
struct Run {
    fleet: Fleet,
    secrets: Vec<Secret>,
    jobs: Vec<String>,
    answers: Vec<Value>,
}

/// Everything that handles a secret: logins right and wrong, users, keys, tokens, credentials good and bad, backups
/// by password and by key, a rotation, a failing job, restores to a server, into a database and by a link.
fn full_run() -> Run {
    let plan = Plan { workers: 2, log_filter: "debug", ..Plan::default() };
    let fleet = Fleet::start(&plan);
    let mut secrets = vec![
        Secret::new("the SSH password", &fleet.site.sshd.password),
        Secret::new("the operator's password", &fleet.secrets.operator_password),
        Secret::new("the KEK", fleet.secrets.kek_text().trim_start_matches("AGE-SECRET-KEY-")),
        Secret::new("the JWT secret", &fleet.secrets.jwt),
        Secret::new("the password of Redis", password_in(&fleet.redis.url())),
        Secret::new("the password of PostgreSQL", password_in(&fleet.database)),
    ];
    for worker in &fleet.workers {
        secrets.push(Secret::new("a worker's token", &worker.token));
        secrets
            .push(Secret::new(IDENTITY_OF_WORKER, worker.identity().trim_start_matches("AGE-SECRET-KEY-")));
    }
    let answers = use_the_api(&fleet, &mut secrets);
    let mut jobs = back_up(&fleet, &mut secrets);
    jobs.extend(given_back::give_back(&fleet, &jobs[0], &mut secrets));
    secrets.extend(tenant_keys(&fleet));
    Run { fleet, secrets, jobs, answers }
}

/// What stands between the user and the host.
fn password_in(url: &str) -> &str {
    let before_host = url.rsplit_once('@').unwrap().0;
    before_host.rsplit_once(':').unwrap().1
}

fn use_the_api(fleet: &Fleet, secrets: &mut Vec<Secret>) -> Vec<Value> {
    let api = &fleet.api;
    let mut keep = |what: &str, value: &Value| secrets.push(Secret::new(what, value.as_str().unwrap()));
    let session = api.login(crate::fleet::OPERATOR, &fleet.secrets.operator_password);
    keep("an access token", &session["access_token"]);
    keep("a refresh token", &session["refresh_token"]);
    let again = api.post("/api/v1/auth/refresh", &json!({"refresh_token": session["refresh_token"]}));
    keep("another access token", &again["access_token"]);
    keep("another refresh token", &again["refresh_token"]);
    let wrong = json!({"email": crate::fleet::OPERATOR, "password": "wrong-password-that-was-typed"});
    keep("a wrong password", &wrong["password"]);
    let refused = api.send(reqwest::Method::POST, "/api/v1/auth/login", Some(&wrong)).unwrap();
    assert_eq!(refused.status, 401, "{}", refused.body);
    let user = json!({
        "tenant_id": fleet.tenant, "email": "owner@example.org", "password": "password-of-the-owner", "role": "owner",
    });
    keep("a user's password", &user["password"]);
    let user = api.post("/api/v1/users", &user);
    let key =
        api.post("/api/v1/api-keys", &json!({"tenant_id": fleet.tenant, "name": "ci", "role": "admin"}));
    keep("an API key", &key["key"]);
    let lists = [
        "users",
        "api-keys",
        "credentials",
        "sources",
        "audit-events",
        "workers",
        "tenants",
        "jobs",
        "settings",
    ];
    let _ = api.with_token(key["key"].as_str().unwrap()).get("/api/v1/sources");
    let paths = lists.map(|list| {
        let of_tenant = !["workers", "tenants"].contains(&list);
        let query = if of_tenant { format!("?tenant_id={}", fleet.tenant) } else { String::new() };
        format!("/api/v1/{list}{query}")
    });
    paths.iter().map(|path| api.get(path)).chain([refused.body, user]).collect()
}

/// A backup by password, one by private key, one that is refused at the door, and one while Redis forgets.
fn back_up(fleet: &Fleet, secrets: &mut Vec<Secret>) -> Vec<String> {
    let by_password = fleet.small_source("by-password");
    let first = fleet.backup(&by_password);
    let _ = fleet.completed(&first);

    let pem = std::fs::read_to_string(&fleet.site.sshd.key_path).unwrap();
    secrets
        .extend(pem.lines().filter(|line| line.len() == 70).map(|line| Secret::new("the private key", line)));
    let with_key = fleet.new_credential(&pem);
    let mut config = fleet.site.direct(&fleet.site.small_tree("by-key"));
    config["use_password"] = json!(false);
    let by_key = source_with(fleet, &with_key, "by-key", &config);
    let second = fleet.backup(&by_key);
    let _ = fleet.completed(&second);

    secrets.push(Secret::new("a password that is refused", "no-such-password-here"));
    let bad = fleet.new_credential("no-such-password-here");
    let refused = source_with(fleet, &bad, "refused", &fleet.site.direct(&fleet.site.small_tree("refused")));
    let third = fleet.backup(&refused);
    until(crate::fleet::SOON, "the login is refused", || fleet.job(&third)["status"] == "failed");
    assert_eq!(fleet.job(&third)["error_code"], "auth_failed");
    secrets.push(Secret::new("a rotated password", "rotated-password-here"));
    let rotated = json!({"plaintext": STANDARD.encode("rotated-password-here")});
    let _ = fleet.api.post(&format!("/api/v1/credentials/{bad}/rotate"), &rotated);
    vec![first, second, third]
}

fn source_with(fleet: &Fleet, credential: &str, name: &str, config: &Value) -> String {
    let body = json!({
        "tenant_id": fleet.tenant, "type": "sftp", "name": name, "credential_id": credential, "config": config,
    });
    text(&fleet.api.post("/api/v1/sources", &body)["id"])
}

fn tenant_keys(fleet: &Fleet) -> Vec<Secret> {
    let stored = database::blobs(&fleet.database, "SELECT encrypted_private_key FROM tenant_keys");
    let opened =
        stored.iter().map(|sealed| seal::open(std::slice::from_ref(&fleet.secrets.kek), sealed).unwrap());
    opened
        .map(|identity| {
            let text = String::from_utf8(identity.expose_secret().to_vec()).unwrap();
            Secret::new("a tenant's identity", text.trim().trim_start_matches("AGE-SECRET-KEY-"))
        })
        .collect()
}

/// All files below `dir` but `except`, one after the other.
fn disk(dir: &Path, except: &str) -> Vec<u8> {
    let files = files_below(dir).into_iter().filter(|file| !file.ends_with(except));
    files
        .flat_map(|file| [file.display().to_string().into_bytes(), std::fs::read(&file).unwrap()].concat())
        .collect()
}

#[test]
fn none_is_found_after_a_full_run() {
    let (run, command_lines) = watching_command_lines(full_run);
    let Run { fleet, secrets, jobs, answers } = &run;
    assert!(secrets.len() > 20, "{}", secrets.len());

    let lines: Vec<u8> = command_lines.into_iter().flat_map(|line| [line, vec![b'\n']].concat()).collect();
    Place::new("the process list", lines, "/hub\0serve").check(secrets);
    Place::new("Redis", fleet.redis.dump(), &jobs[0]).check(secrets);
    Place::new("the database", Postgres::shared().dump(&fleet.database), &jobs[1]).check(secrets);
    Place::new("the hub's log", fleet.hubs[0].program.log(), "listening").check(secrets);
    for worker in &fleet.workers {
        Place::new(&worker.id, worker.program.log(), "registered with the hub").check(secrets);
    }
    let disks =
        |except| fleet.workers.iter().flat_map(|worker| disk(&worker.storage, except)).collect::<Vec<u8>>();
    Place::new("the workers' disks", disks(IDENTITY_FILE), "manifest.json").check(secrets);
    // Each identity lies in its own file, and would be found in another.
    let found = Place::new("their own files", disks("none"), IDENTITY_FILE).found(secrets).join(", ");
    assert_eq!(found, [IDENTITY_OF_WORKER; 2].join(", "));
    let logs = fleet.workers.iter().map(|worker| worker.program.log()).collect::<String>();
    assert!(jobs.iter().all(|job| logs.contains(job)), "logs of every job");
    for answer in answers {
        Place::new("an answer", answer.to_string(), "").check(secrets);
    }
    let of_jobs = jobs.iter().map(|job| fleet.api.get(&format!("/api/v1/jobs/{job}/logs")).to_string());
    Place::new("job logs", of_jobs.collect::<String>(), "auth_failed").check(secrets);
    let ports = [fleet.hubs[0].port, fleet.workers[0].metrics_port];
    for metrics in ports.map(|port| Api::anonymous(port).get("/metrics")) {
        Place::new("metrics", text(&metrics), "# TYPE").check(secrets);
    }
}

/// In each of the places that a full run is searched in.
#[test]
fn a_secret_that_lies_there_is_found() {
    const PLANTED: &str = "planted-secret-of-the-tests";
    let secrets = [Secret::new("it", PLANTED)];
    let found = |place: Place| assert_eq!(place.found(&secrets), ["it"], "{}", place.name);

    let redis = Redis::start();
    let value = json!({"job_id": "j", "password": PLANTED}).to_string();
    for command in
        [["HSET", "xvault:jobs:data", "01", &value], ["ZADD", "xvault:jobs:scheduled", "1", &value]]
    {
        let _ = redis.cli(&["FLUSHALL"]);
        let _ = redis.cli(&command);
        found(Place::new("Redis", redis.dump(), command[1]));
    }

    let postgres = Postgres::shared();
    for column in [format!("text DEFAULT 'a {PLANTED} b'"), format!("bytea DEFAULT 'a {PLANTED} b'")] {
        let database = postgres.create_database();
        // The default would show it, too.
        let sql = format!(
            "CREATE TABLE t (a {column}); INSERT INTO t DEFAULT VALUES; ALTER TABLE t ALTER a DROP DEFAULT"
        );
        let _ = postgres.psql(&database, &sql);
        found(Place::new("the database", postgres.dump(&database), "CREATE TABLE"));
    }

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("below")).unwrap();
    std::fs::write(dir.path().join("below/any"), PLANTED).unwrap();
    std::fs::write(dir.path().join(IDENTITY_FILE), "its own").unwrap();
    found(Place::new("a disk", disk(dir.path(), IDENTITY_FILE), "below"));

    let log = dir.path().join("log");
    let print = ["-c", "echo \"$1\"; sleep 0.3", "sh", PLANTED];
    let (program, seen) = watching_command_lines(|| {
        let mut program = Program::start("sh", &print, &Env::new(), &log);
        assert!(program.ended(Duration::from_secs(20)).success());
        program
    });
    found(Place::new("a log", program.log(), "secret"));
    found(Place::new("the process list", seen.into_iter().flatten().collect::<Vec<u8>>(), "sleep 0.3"));
}

#[test]
fn the_search_finds_what_is_there() {
    let secret = Secret::new("it", "correct horse \"battery\" staple");
    let hex: String = b"correct horse \"battery\" staple".iter().map(|byte| format!("{byte:02x}")).collect();
    for hay in [
        "a correct horse \"battery\" staple b".to_owned(),
        json!({"password": "correct horse \"battery\" staple"}).to_string(),
        format!("\\x{hex}"),
        STANDARD.encode("user:correct horse \"battery\" staple and more"),
        STANDARD.encode("u:correct horse \"battery\" staple"),
        STANDARD.encode("us:correct horse \"battery\" staple."),
        "ftp://u:correct%20horse%20%22battery%22%20staple@h/".to_owned(),
        "password=correct+horse+%22battery%22+staple&x=".to_owned(),
    ] {
        assert!(secret.is_in(hay.as_bytes()), "{hay}");
    }
    assert!(!secret.is_in(b"correct horse battery staple"));
}
