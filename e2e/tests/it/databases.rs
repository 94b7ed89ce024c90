//! Databases from end to end: backed up by the service, opened with age, zstd and tar, restored into a fresh server by its own
//! tools, and equal table by table: PostgreSQL and MySQL, each by all three ways.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use xvault_core::Identity;
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_testkit::databases::{MARIADB_SAMPLE, POSTGRES_SAMPLE};
use xvault_testkit::{Mariadb, Postgres, Sshd, tools};

use crate::fleet::{SOON, text};
use crate::seed_flow::tenant_identity;
use crate::up::Up;
use crate::wait::{eventually, until};

/// How a database is reached: directly where there is no mode of SSH.
type Way = Option<&'static str>;

/// A customer of a service of one's own.
pub(crate) struct Shop {
    pub(crate) up: Up,
    sshd: Sshd,
    pub(crate) tenant: String,
}

/// A dump that age, zstd and tar took out of an artifact.
struct Dumps {
    dir: tempfile::TempDir,
}

impl Dumps {
    /// What the restoring tool reads.
    fn feed(&self, tool: &mut Command, name: &str) {
        let dump = File::open(self.dir.path().join("out/database").join(name)).unwrap();
        let output = tool.stdin(Stdio::from(dump)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Shop {
    pub(crate) fn open() -> Self {
        let (up, sshd) = (Up::start(), Sshd::builder().start());
        let tenant = text(&up.api.post("/api/v1/tenants", &json!({"name": "shop"}))["id"]);
        until(60, "a worker that is online", || up.api.get("/api/v1/workers/local")["status"] == "online");
        Self { up, sshd, tenant }
    }

    /// Saves a source, and has it tested. Gives its id and what the test showed.
    pub(crate) fn probed(&self, kind: &str, credential: &Value, config: &Value) -> (String, Value) {
        let body = json!({
            "tenant_id": self.tenant, "type": kind, "name": "shop", "credential_id": credential, "config": config,
        });
        let source = text(&self.up.api.post("/api/v1/sources", &body)["id"]);
        let path = format!("/api/v1/sources/{source}/test?wait_seconds=30");
        (source, self.up.api.post(&path, &json!({})))
    }

    /// Saves a secret, and gives the id of its credential.
    pub(crate) fn credential(&self, secret: &str) -> Value {
        let secret = STANDARD.encode(secret);
        let body = json!({"tenant_id": self.tenant, "kind": "source", "plaintext": secret});
        self.up.api.post("/api/v1/credentials", &body)["id"].clone()
    }

    /// The artifact of a snapshot.
    pub(crate) fn artifact(&self, source: &str, snapshot: &str) -> PathBuf {
        let tenant = &self.tenant;
        let place =
            format!("backups/tenants/{tenant}/sources/{source}/snapshots/{snapshot}/backup.tar.zst.enc");
        self.up.data.join(place)
    }

    /// Writes the tenant's identity to `key`, as `keys export` would.
    pub(crate) fn write_identity(&self, key: &Path) {
        let kek = SecretString::from(std::fs::read_to_string(self.up.data.join("kek.txt")).unwrap());
        let kek: Identity = Identity::parse_file(&kek).unwrap().remove(0);
        let identity = tenant_identity(&self.up.database(), &kek);
        std::fs::write(key, identity.to_secret().expose_secret()).unwrap();
    }

    /// Adds the way to the settings, with the key that a first test shows. Gives the id of the credential for it.
    fn reached(&self, kind: &str, config: &mut Value, password: &str, way: Way) -> Value {
        let Some(mode) = way else { return self.credential(password) };
        let through = json!({
            "use_ssh": true, "ssh_mode": mode, "ssh_host": "127.0.0.1", "ssh_port": self.sshd.port,
            "ssh_username": self.sshd.user, "ssh_use_password": true,
        });
        config.as_object_mut().unwrap().extend(through.as_object().unwrap().clone());
        let credential =
            self.credential(&json!({"password": password, "ssh": self.sshd.password}).to_string());
        let (_, shown) = self.probed(kind, &credential, config);
        assert_eq!(shown["probe"]["host_key"], self.sshd.host_key.fingerprint, "{shown}");
        assert!(shown["probe"]["notes"].to_string().contains("ssh_host_key"), "{shown}");
        config["ssh_host_key"] = shown["probe"]["host_key"].clone();
        credential
    }

    /// Backs a database up as a user would. Gives the ids of source and snapshot.
    fn snapshot(&self, kind: &str, mut config: Value, password: &str, way: Way) -> (String, String) {
        let credential = self.reached(kind, &mut config, password, way);
        let (source, test) = self.probed(kind, &credential, &config);
        assert_eq!(
            (&test["status"], &test["probe"]["logged_in"]),
            (&json!("completed"), &json!(true)),
            "{test}"
        );
        assert_eq!(test["probe"]["paths"][0]["kind"], "database", "{test}");
        let snapshot = self.up.back_up(&self.tenant, &source);
        let shown = self.up.api.get(&format!("/api/v1/snapshots/{snapshot}"));
        assert_eq!(shown["manifest"]["evidence"]["kind"], "dump", "{shown}");
        (source, snapshot)
    }

    /// The same, and opens the artifact by hand. Gives the snapshot's id, too.
    fn backed_up(&self, kind: &str, config: Value, password: &str, way: Way) -> (String, Dumps) {
        let (source, snapshot) = self.snapshot(kind, config, password, way);
        let dumps = self.opened(&self.artifact(&source, &snapshot));
        (snapshot, dumps)
    }

    /// Has a job load the dump `entry` into a database of another server, which it makes.
    pub(crate) fn loaded(
        &self,
        (kind, config, password): (&str, &Value, &str),
        snapshot: &str,
        entry: &str,
        copy: &str,
    ) {
        let mut config = config.clone();
        let credential = self.reached(kind, &mut config, password, None);
        let (fresh, _) = self.probed(kind, &credential, &config);
        let target = json!({
            "type": "database", "source_id": fresh, "entry": entry, "database": copy, "create": true,
        });
        self.restored(snapshot, &target);
    }

    /// Has a job restore everything, or what the target names.
    pub(crate) fn restored(&self, snapshot: &str, target: &Value) {
        let path = format!("/api/v1/snapshots/{snapshot}/restore");
        let job = text(&self.up.api.post(&path, &json!({ "target": target }))["id"]);
        let done = eventually(SOON, "the restore is done", || {
            let job = self.up.api.get(&format!("/api/v1/jobs/{job}"));
            assert!(job["status"] != "failed", "{job}");
            (job["status"] == "completed").then_some(job)
        });
        assert!(done["restore"]["bytes"].as_u64().unwrap() > 0, "{done}");
    }

    /// Has a job load the dump `entry` into the database that it came from, which holds something.
    fn is_refused(&self, snapshot: &str, entry: &str) {
        let database = entry.trim_start_matches("/database/").trim_end_matches(".sql");
        let target = json!({"type": "database", "entry": entry, "database": database});
        let path = format!("/api/v1/snapshots/{snapshot}/restore");
        let job = text(&self.up.api.post(&path, &json!({ "target": target }))["id"]);
        let failed = eventually(SOON, "the load is refused", || {
            let job = self.up.api.get(&format!("/api/v1/jobs/{job}"));
            (job["status"] == "failed").then_some(job)
        });
        assert_eq!(failed["error_code"], "target_refused", "{failed}");
        assert!(text(&failed["error_message"]).contains("is not empty"), "{failed}");
    }

    fn opened(&self, artifact: &Path) -> Dumps {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.txt");
        self.write_identity(&key);
        tools::age_decrypt_untar(artifact, &key, &dir.path().join("out"));
        Dumps { dir }
    }
}

fn postgres_comes_back(ways: &[Way]) {
    let (server, fresh, shop) = (Postgres::shared(), Postgres::start(), Shop::open());
    let url = server.create_database();
    let _ = server.psql(&url, POSTGRES_SAMPLE);
    let name = url.rsplit('/').next().unwrap();
    let config =
        |port: u16| json!({"host": "127.0.0.1", "port": port, "username": "postgres", "database": name});
    for way in ways {
        let (snapshot, dumps) = shop.backed_up("postgres", config(server.port), server.password(), *way);
        let copy = fresh.create_database();
        let mut tool = tools::command("pg_restore", ["--exit-on-error", "-d", &copy]);
        dumps.feed(tool.env("PGPASSWORD", fresh.password()), &format!("{name}.dump"));
        assert_eq!(fresh.checksums(&copy), server.checksums(&url), "{way:?}");
        let by_us = format!("{}_by_us", copy.rsplit('/').next().unwrap());
        let target = ("postgres", &config(fresh.port), fresh.password());
        shop.loaded(target, &snapshot, &format!("/database/{name}.dump"), &by_us);
        assert_eq!(fresh.checksums(&by_us), server.checksums(&url), "{way:?}");
    }
}

fn mysql_comes_back(ways: &[Way]) {
    let (server, fresh, shop) = (Mariadb::shared(), Mariadb::start(), Shop::open());
    let name = server.create_database();
    let _ = server.sql(&name, MARIADB_SAMPLE);
    let config =
        |port: u16| json!({"host": "127.0.0.1", "port": port, "username": Mariadb::USER, "database": name});
    let port = format!("--port={}", fresh.port);
    for way in ways {
        let (snapshot, dumps) = shop.backed_up("mysql", config(server.port), &server.password, *way);
        let copy = fresh.create_database();
        let args =
            ["--no-defaults", "--binary-mode", "--host=127.0.0.1", &port, "--user", Mariadb::USER, &copy];
        let mut tool = tools::command("mariadb", args);
        dumps.feed(tool.env("MYSQL_PWD", &fresh.password), &format!("{name}.sql"));
        assert_eq!(fresh.checksums(&copy), server.checksums(&name), "{way:?}");
        let (target, by_us) =
            (("mysql", &config(fresh.port), fresh.password.as_str()), format!("{copy}_by_us"));
        shop.loaded(target, &snapshot, &format!("/database/{name}.sql"), &by_us);
        // It is full by now.
        shop.is_refused(&snapshot, &format!("/database/{name}.sql"));
        assert_eq!(fresh.checksums(&by_us), server.checksums(&name), "{way:?}");
    }
}

#[test]
fn mysql_dump_direct() {
    mysql_comes_back(&[None]);
}

#[test]
fn postgresql_dump_direct() {
    postgres_comes_back(&[None]);
}

#[test]
fn mysql_dump_via_ssh_tunnel_or_remote_mysqldump() {
    mysql_comes_back(&[Some("tunnel"), Some("remote")]);
}

#[test]
fn postgresql_dump_via_ssh_tunnel_or_remote_pg_dump() {
    postgres_comes_back(&[Some("tunnel"), Some("remote")]);
}
