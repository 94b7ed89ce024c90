//! While sources of every kind are tested, backed up and given back, in every way there is, their passwords and keys are looked for all the time: in
//! command lines and environments of all processes of this machine, which is worker, database server and SSH server in one, in files of memory
//! and on disks, in the logs of every program, in Redis and in the hub's database. The password of a site's database, which nobody types, is
//! looked for as well.

mod looks;
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use xvault_testkit::{Mariadb, Postgres, tools};

use crate::fleet::{Fleet, Plan, text};
use crate::wait::until;
use looks::{Looks, TOOLS, in_memory};
use servers::{Servers, Wanted};

const CANARY: &str = "a-canary-that-is-planted-on-purpose";

/// Tests each source, backs it up, and gives all of it back.
fn full_run(fleet: &Fleet, servers: &Servers, sources: &[Wanted]) {
    let saved = sources.iter().map(|(kind, config, secret)| fleet.source_of(kind, secret, config));
    let saved: Vec<String> = saved.collect();
    for source in &saved {
        let test = fleet.api.post(&format!("/api/v1/sources/{source}/test?wait_seconds=30"), &json!({}));
        assert_eq!(test["probe"]["logged_in"], true, "{test}");
    }
    let jobs: Vec<String> = saved.iter().map(|source| fleet.backup(source)).collect();
    let done: Vec<Value> = jobs.iter().map(|job| fleet.completed(job)).collect();
    let kinds: Vec<&str> = sources.iter().map(|(kind, ..)| *kind).collect();
    let mut back = Vec::new();
    for (number, done) in done.iter().enumerate() {
        for body in restores(fleet, servers, (&kinds, &saved), number) {
            let path = format!("/api/v1/snapshots/{}/restore", text(&done["snapshot_id"]));
            back.push(text(&fleet.api.post(&path, &body)["id"]));
        }
    }
    assert_eq!(back.len(), 14, "each database in each way, and files of each kind");
    for job in &back {
        let _ = fleet.completed(job);
    }
}

/// Where what came from source `number` goes: beside it, by the way that it came, where it came by one that can be written to.
fn restores(
    fleet: &Fleet,
    servers: &Servers,
    (kinds, saved): (&[&str], &[String]),
    number: usize,
) -> Vec<Value> {
    let to = |kind: &str| &saved[kinds.iter().rposition(|one| *one == kind).unwrap()];
    let own = &saved[number];
    let kind = kinds[number];
    let files = |source: &str, paths: &[&str]| {
        let path = fleet.site.sshd.home.join(format!("given-back-{number}"));
        json!({"paths": paths, "target": {"type": "server", "source_id": source, "path": path}})
    };
    let dump = |source: &str| {
        let name = servers.dump(kind).unwrap();
        let database = format!("{}_copy{number}", name.split('.').next().unwrap());
        json!({"target": {
            "type": "database", "source_id": source, "entry": format!("/database/{name}"), "database": database,
            "create": true,
        }})
    };
    match kind {
        "postgres" | "mysql" => vec![dump(own)],
        "ssh" | "sftp" => vec![files(own, &[])],
        "ftp" => vec![files(to("sftp"), &[])],
        "wordpress" => vec![files(own, &["/files"]), dump(to("mysql"))],
        other => panic!("{other}"),
    }
}

/// A file with the canary in it.
fn planted_in(dir: &Path, mode: u32) -> NamedTempFile {
    let permissions = fs::Permissions::from_mode(mode);
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(dir).unwrap();
    write!(file, "{CANARY}").unwrap();
    file
}

/// Puts the canary where the looks must find it, if they find anything. Gives what must stay until they have.
fn plant(fleet: &Fleet) -> [NamedTempFile; 2] {
    for log in ["hub-0.log", "worker-0.log"] {
        let mut log = fs::File::options().append(true).open(fleet.dir.path().join(log)).unwrap();
        writeln!(log, "{CANARY}").unwrap();
    }
    let sql =
        format!("CREATE TABLE canary AS SELECT '{CANARY}' AS a; DO $$ BEGIN RAISE LOG '{CANARY}'; END $$");
    let _ = Postgres::shared().psql(&fleet.database, &sql);
    let _ = fleet.redis.cli(&["SET", "canary", CANARY]);
    // Nobody of that name is let in, which a server writes down.
    let port = format!("--port={}", Mariadb::shared().port);
    let login = ["--no-defaults", "--host=127.0.0.1", &port, "--user", CANARY, "--execute", "SELECT 1"];
    assert!(!tools::command("mariadb", login).status().unwrap().success());
    let mut ssh = tools::command("ssh", fleet.site.sshd.client_options());
    let ssh = ssh.args(["-o", "BatchMode=yes", "-l", CANARY, "127.0.0.1", "true"]);
    assert!(!ssh.status().unwrap().success());
    [planted_in(Path::new("/dev/shm"), 0o644), planted_in(Path::new("/tmp"), 0o600)]
}

/// For no longer than a tool takes that asks a server something.
fn shows_for_a_moment() {
    assert!(tools::command("sleep", ["0.1"]).env("CANARY", CANARY).status().unwrap().success());
    assert!(tools::command("sh", ["-c", "sleep 0.1", CANARY]).status().unwrap().success());
}

#[test]
fn no_password_of_a_source_shows_at_any_moment_of_a_full_run() {
    let plan = Plan { concurrency: 3, log_filter: "debug", ..Plan::default() };
    let fleet = Fleet::start(&plan);
    let servers = Servers::start(&fleet);
    let (secrets, sources) = (servers.secrets(&fleet), servers.sources(&fleet));
    assert_eq!(sources.len(), 12);
    Looks::new(&fleet, &secrets).while_doing(|looks| {
        full_run(&fleet, &servers, &sources);
        assert_eq!(looks.found(), []);
        let left = in_memory(|_| true);
        let left = secrets.iter().find(|secret| secret.is_in(&left)).map(|secret| &secret.what);
        assert_eq!(left, None, "it was left in memory");
        assert_eq!(looks.tools(), BTreeSet::from(TOOLS));
        looks.assert_many();
        let _planted = plant(&fleet);
        for place in looks.places() {
            until(60, &format!("the canary is found: {place}"), || {
                shows_for_a_moment();
                looks.found().contains(&(place, "canary".to_owned()))
            });
        }
    });
}
