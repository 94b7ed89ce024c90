//! A private Garage on free loopback ports. Building it takes a quarter of an hour: tests that start one are ignored but in
//! `scripts/test --full`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::keeper::Keeper;
use crate::s3::S3Access;
use crate::server::{Process, on_free_ports, random_password};
use crate::tools::{command, run, tool};

const REGION: &str = "garage";
const BUCKET: &str = "xvault";

/// A running server; it is ended, and its directory removed, on drop and when the test process ends.
#[derive(Debug)]
pub struct Garage {
    /// S3, RPC, administration.
    ports: [u16; 3],
    access_key: String,
    secret_key: String,
    admin_token: String,
    buckets: AtomicU32,
    // Dropped in this order: first the server, then what it stands on.
    process: Option<Process>,
    keeper: Keeper,
}

impl Garage {
    /// The one server of this test process, started at the first call. Take [`Garage::new_bucket`] of it.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Garage> = LazyLock::new(Garage::start);
        &SHARED
    }

    /// Starts one and waits until its bucket answers.
    ///
    /// # Panics
    /// When it is missing or does not come up.
    #[must_use]
    pub fn start() -> Self {
        let program = tool("garage");
        let mut garage = Self {
            ports: [0; 3],
            access_key: format!("GK{}", &random_password()[..24]),
            secret_key: [random_password(), random_password()].concat(),
            admin_token: random_password(),
            buckets: AtomicU32::new(0),
            process: None,
            keeper: Keeper::new("xvt-garage", Signal::KILL),
        };
        let process = on_free_ports(|ports| {
            garage.ports = ports;
            garage.process(&program)
        });
        assert!(process.is_some(), "garage did not start: {}", garage.keeper.log());
        garage.process = process;
        garage
    }

    fn process(&self, program: &Path) -> Option<Process> {
        let config = self.keeper.path().join("garage.toml");
        fs::write(&config, self.config()).unwrap();
        let mut command = self.keeper.server(program);
        command.arg("-c").arg(config).args(["server", "--single-node", "--default-bucket"]);
        command.env("GARAGE_DEFAULT_ACCESS_KEY", &self.access_key);
        command.env("GARAGE_DEFAULT_SECRET_KEY", &self.secret_key).env("GARAGE_DEFAULT_BUCKET", BUCKET);
        Process::start(&mut command, Signal::KILL, || self.access().in_bucket("GET", "", b"").status == 200)
    }

    fn config(&self) -> String {
        let [s3, rpc, admin] = self.ports;
        format!(
            "metadata_dir = \"{dir}/meta\"\ndata_dir = \"{dir}/data\"\ndb_engine = \"sqlite\"\n\
             replication_factor = 1\nmetadata_fsync = false\ndata_fsync = false\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{secret}\"\n\
             [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"127.0.0.1:{s3}\"\n\
             root_domain = \".s3.localhost\"\n\
             [admin]\napi_bind_addr = \"127.0.0.1:{admin}\"\nadmin_token = \"{token}\"\n",
            dir = self.keeper.path().display(),
            secret = [random_password(), random_password()].concat(),
            token = self.admin_token,
        )
    }

    /// `http://127.0.0.1:PORT` of its S3 API.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// `http://127.0.0.1:PORT` of its administration API.
    #[must_use]
    pub fn admin_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[2])
    }

    /// The bearer token of the administration API.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// A bucket that is there from the start, with a key that may do everything in it.
    #[must_use]
    pub fn access(&self) -> S3Access {
        S3Access {
            endpoint: self.endpoint(),
            region: REGION.to_owned(),
            bucket: BUCKET.to_owned(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            session_token: None,
        }
    }

    /// Makes a bucket of a name not used before, for the same key.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn new_bucket(&self) -> S3Access {
        let name = format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        let bucket = self.admin("CreateBucket", &json!({"globalAlias": name}));
        let permissions = json!({"read": true, "write": true, "owner": true});
        let allow =
            json!({"bucketId": bucket["id"], "accessKeyId": self.access_key, "permissions": permissions});
        let _ = self.admin("AllowBucketKey", &allow);
        S3Access { bucket: name, ..self.access() }
    }

    /// Asks the administration API, version 2.
    ///
    /// # Panics
    /// When it refuses.
    #[must_use]
    pub fn admin(&self, call: &str, body: &Value) -> Value {
        serde_json::from_slice(&run(self.curl(call).args(["-f", "-d", &body.to_string()]))).unwrap()
    }

    /// Whether there is an access key of that id, expired or not.
    ///
    /// # Panics
    /// When it says neither.
    #[must_use]
    pub fn knows_key(&self, id: &str) -> bool {
        let answer = run(&mut self.curl(&format!("GetKeyInfo?id={id}")));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer["accessKeyId"] == id || answer["code"] == "NoSuchAccessKey", "{answer}");
        answer["accessKeyId"] == id
    }

    fn curl(&self, call: &str) -> Command {
        let url = format!("{}/v2/{call}", self.admin_endpoint());
        let bearer = format!("authorization: Bearer {}", self.admin_token);
        command("curl", ["-sS", "-H", &bearer, &url])
    }
}
