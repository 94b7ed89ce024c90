//! The first slice of the service from end to end, with the requests that it was first tested with: real curl, the
//! bodies word for word but for what is particular to a place, a bearer token added.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use xvault_core::Identity;
use xvault_core::seal;
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_testkit::{MtimeMatch, TreeOptions, assert_same_tree, tools};

use crate::curl::{Curl, filled};
use crate::database;
use crate::fleet::{Fleet, Plan, SOON, text};
use crate::process::Program;
use crate::site::Site;
use crate::up::Up;
use crate::wait::{eventually, until};

const CREATE_TENANT: &str = r#"{"name":"my-tenant"}"#;
const CREATE_CREDENTIAL: &str = r#"{"tenant_id":"...","kind":"source","plaintext":"dGVzdC1wYXNz"}"#;
const CREATE_SOURCE: &str = r#"{"tenant_id":"...","type":"ssh","name":"server","credential_id":"...","config":{"host":"10.0.100.85","port":22,"username":"web","paths":["/home/web/test"],"use_password":true}}"#;
const ENQUEUE: &str = r#"{"source_id":"..."}"#;

/// What the steps are tried on.
struct Stage<'a> {
    curl: Curl,
    database: String,
    kek: Identity,
    site: &'a Site,
    /// Holds jobs back, and lets them go.
    workers: Vec<&'a Program>,
    /// Where the worker of this name keeps its snapshots.
    storage: &'a dyn Fn(&str) -> PathBuf,
    /// All that is in Redis, where there is one.
    redis: &'a dyn Fn() -> Option<String>,
}

fn steps(stage: &Stage<'_>) {
    let tree = stage.site.busy_tree("test");

    // 5.9.1 Create tenant → verify keypair generated
    let tenant = stage.curl.send("POST", "/api/v1/tenants", Some(CREATE_TENANT));
    let tenant_id = text(&tenant["id"]);
    let recipient = text(&tenant["public_key"]);
    assert!(recipient.starts_with("age1"), "{tenant}");
    let identity = tenant_identity(&stage.database, &stage.kek);
    assert_eq!(identity.recipient().to_string(), recipient);

    // 5.9.2 Create source → verify credentials encrypted
    let password = STANDARD.encode(&stage.site.sshd.password);
    let body = filled(CREATE_CREDENTIAL, &[("...", &tenant_id), ("dGVzdC1wYXNz", &password)]);
    let credential = stage.curl.send("POST", "/api/v1/credentials", Some(&body));
    assert!(!credential.to_string().contains(&password), "{credential}");
    let credential_id = text(&credential["id"]);
    let stored = database::blobs(&stage.database, "SELECT ciphertext FROM credentials");
    let opened = seal::open(std::slice::from_ref(&stage.kek), &stored[0]).unwrap();
    assert_eq!((stored.len(), opened.expose_secret()), (1, stage.site.sshd.password.as_bytes()));
    let source_id = source(stage, &tenant_id, &credential_id, &tree);

    // 5.9.3 Enqueue backup job → verify appears in Redis
    stage.site.close_tap();
    stage.workers.iter().for_each(|worker| worker.freeze());
    let path = format!("/api/v1/jobs?tenant_id={tenant_id}");
    let job = stage.curl.send("POST", &path, Some(&filled(ENQUEUE, &[("...", &source_id)])));
    assert_eq!(job["status"], "queued");
    let job_id = text(&job["id"]);
    if (stage.redis)().is_some() {
        let message = format!(r#"{{"job_id":"{job_id}"}}"#);
        until(20, "the job appears in Redis", || (stage.redis)().unwrap().contains(&message));
    }
    let path = format!("/api/v1/jobs/{job_id}");

    // 5.9.4 Worker claims job → verify status=running
    stage.workers.iter().for_each(|worker| worker.thaw());
    stage.site.until_in_the_middle();
    assert_eq!(stage.curl.send("GET", &path, None)["status"], "running");

    // 5.9.5 Worker completes SSH/SFTP backup
    stage.site.open_tap();
    let job = eventually(SOON, "the job completed", || {
        let job = stage.curl.send("GET", &path, None);
        assert!(job["status"] != "failed", "{job}");
        (job["status"] == "completed").then_some(job)
    });
    assert_eq!((&job["attempt"], &job["error_code"]), (&1.into(), &Value::Null), "{job}");
    let snapshot_id = text(&job["snapshot_id"]);

    // 5.9.6 Verify snapshot stored in worker filesystem
    let storage = (stage.storage)(job["worker_id"].as_str().unwrap());
    let place = storage.join(format!("tenants/{tenant_id}/sources/{source_id}/snapshots/{snapshot_id}"));
    let read =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(place.join(name)).unwrap()).unwrap() };
    let (manifest, meta) = (read("manifest.json"), read("meta.json"));
    for (id, value) in [("tenant_id", &tenant_id), ("source_id", &source_id), ("snapshot_id", &snapshot_id)] {
        assert_eq!((&manifest[id], &meta[id]), (&json!(value), &json!(value)));
    }
    assert_eq!(
        (&manifest["job_id"], &meta["job_id"], &meta["worker_id"]),
        (&job["id"], &job["id"], &job["worker_id"])
    );
    assert_eq!(manifest["encryption_recipient"], json!(recipient));
    let artifact = place.join("backup.tar.zst.enc");
    assert_eq!(json!(artifact.metadata().unwrap().len()), manifest["size_bytes"]);
    opens_by_hand(&artifact, &identity, &tree);

    // 5.9.7 Verify snapshot record in Hub DB
    let path = format!("/api/v1/snapshots/{snapshot_id}");
    let snapshot = stage.curl.send("GET", &path, None);
    let row = "SELECT id || ' ' || storage_backend || ' ' || worker_id || ' ' || local_path FROM snapshots";
    let expected = format!("{snapshot_id} local_fs {} {}", text(&job["worker_id"]), place.display());
    assert_eq!(database::texts(&stage.database, row), [expected]);
    assert_eq!(snapshot["manifest"], manifest);

    // 5.9.8 List snapshots via API
    let listed = stage.curl.send("GET", &format!("/api/v1/snapshots?tenant_id={tenant_id}"), None);
    let ids: Vec<_> = listed["snapshots"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&json!(snapshot_id)]);
    let entry = &listed["snapshots"][0];
    assert_eq!((&entry["local_path"], &entry["status"]), (&json!(place), &json!("completed")), "{entry}");
}

/// Saves the seed's source, and pins the key that a test of it shows, as everybody must.
fn source(stage: &Stage<'_>, tenant_id: &str, credential_id: &str, tree: &Path) -> String {
    let body = filled(
        CREATE_SOURCE,
        &[
            ("...", tenant_id),
            ("...", credential_id),
            ("10.0.100.85", "127.0.0.1"),
            (":22,", &format!(":{},", stage.site.tap.port)),
            (r#""web""#, &format!("{:?}", stage.site.sshd.user)),
            ("/home/web/test", tree.to_str().unwrap()),
        ],
    );
    let source = stage.curl.send("POST", "/api/v1/sources", Some(&body));
    let sent: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(source["config"], sent["config"]);
    let id = text(&source["id"]);
    let test = stage.curl.send("POST", &format!("/api/v1/sources/{id}/test?wait_seconds=30"), None);
    assert_eq!(test["probe"]["host_key"], json!(stage.site.sshd.host_key.fingerprint), "{test}");
    let mut config = sent["config"].clone();
    config["host_key"] = test["probe"]["host_key"].clone();
    let change = json!({"config": config}).to_string();
    let _ = stage.curl.send("PUT", &format!("/api/v1/sources/{id}"), Some(&change));
    let test = stage.curl.send("POST", &format!("/api/v1/sources/{id}/test?wait_seconds=30"), None);
    assert_eq!((&test["status"], &test["probe"]["logged_in"]), (&json!("completed"), &json!(true)), "{test}");
    id
}

/// What the tenant's backups are opened with, from the only row of its table.
pub(crate) fn tenant_identity(database: &str, kek: &Identity) -> Identity {
    let stored = database::blobs(database, "SELECT encrypted_private_key FROM tenant_keys");
    assert_eq!(stored.len(), 1);
    let opened = seal::open(std::slice::from_ref(kek), &stored[0]).unwrap();
    let text = SecretString::from(std::str::from_utf8(opened.expose_secret()).unwrap().to_owned());
    Identity::parse_file(&text).unwrap().remove(0)
}

/// With nothing but age, zstd and tar.
pub(crate) fn opens_by_hand(artifact: &Path, identity: &Identity, tree: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let (key, out) = (dir.path().join("key.txt"), dir.path().join("out"));
    std::fs::write(&key, identity.to_secret().expose_secret()).unwrap();
    tools::age_decrypt_untar(artifact, &key, &out);
    let options = TreeOptions { mtime: MtimeMatch::WholeSeconds, ..TreeOptions::default() };
    assert_same_tree(tree, &out.join(tree.strip_prefix("/").unwrap()), &options);
}

#[test]
fn on_postgres_and_redis_with_two_workers() {
    let fleet = Fleet::without_tenant(&Plan { workers: 2, lease_secs: 30, ..Plan::default() });
    let session = fleet.api.login(crate::fleet::OPERATOR, &fleet.secrets.operator_password);
    steps(&Stage {
        curl: Curl { port: fleet.hubs[0].port, token: text(&session["access_token"]) },
        database: fleet.database.clone(),
        kek: fleet.secrets.kek.clone(),
        site: &fleet.site,
        workers: fleet.workers.iter().map(|worker| &worker.program).collect(),
        storage: &|id| fleet.workers.iter().find(|worker| worker.id == id).unwrap().storage.clone(),
        redis: &|| Some(fleet.redis.dump()),
    });
}

#[test]
fn on_sqlite_and_memory_in_one_process() {
    let (site, up) = (Site::start(), Up::start());
    let kek = SecretString::from(std::fs::read_to_string(up.data.join("kek.txt")).unwrap());
    steps(&Stage {
        curl: Curl { port: up.port, token: up.token.clone() },
        database: up.database(),
        kek: Identity::parse_file(&kek).unwrap().remove(0),
        site: &site,
        workers: Vec::new(),
        storage: &|id| {
            assert_eq!(id, "local");
            up.data.join("backups")
        },
        redis: &|| None,
    });
}
