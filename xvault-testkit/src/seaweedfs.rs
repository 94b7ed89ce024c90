//! A private SeaweedFS on free loopback ports: S3 with multipart uploads, versioning, policies and STS.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::keeper::Keeper;
use crate::s3::{S3Access, elements};
use crate::server::{Process, on_free_ports, random_password};
use crate::tools::{command, run, tool};

const REGION: &str = "us-east-1";
const BUCKET: &str = "xvault";
const NEW_KEY: &str = "AKNEW";

/// An object that is there only while the server starts.
const PROBE: &str = "xvault-testkit-probe";

/// Below it, buckets are host names: `https://BUCKET.s3.localhost:PORT`.
const DOMAIN: &str = "s3.localhost";

/// The servers in one SeaweedFS, each with a port for its protocol and one for gRPC; the S3 one comes first.
const PARTS: [&str; 5] = ["s3", "master", "volume", "filer", "admin"];

/// A running server; it is ended, and its directory removed, on drop and when the test process ends.
#[derive(Debug)]
pub struct SeaweedFs {
    ports: [u16; 11],
    access_key: String,
    secret_key: String,
    buckets: AtomicU32,
    // Dropped in this order: first the server, then what it stands on.
    process: Mutex<Option<Process>>,
    keeper: Keeper,
}

impl SeaweedFs {
    /// The one server of this test process, started at the first call. Take [`SeaweedFs::new_bucket`] of it.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<SeaweedFs> = LazyLock::new(SeaweedFs::start);
        &SHARED
    }

    /// Starts one and waits until its bucket answers: two seconds.
    ///
    /// # Panics
    /// When SeaweedFS is missing or does not come up.
    #[must_use]
    pub fn start() -> Self {
        let mut seaweed = Self {
            ports: [0; 11],
            access_key: format!("AK{}", &random_password()[..16]),
            secret_key: random_password(),
            buckets: AtomicU32::new(0),
            process: Mutex::default(),
            keeper: Keeper::new("xvt-weed", Signal::KILL),
        };
        seaweed.write_settings();
        let process = on_free_ports(|ports| {
            seaweed.ports = ports;
            seaweed.process()
        });
        assert!(process.is_some(), "weed did not start: {}", seaweed.log());
        *seaweed.process.lock().unwrap() = process;
        seaweed
    }

    fn write_settings(&self) {
        for folder in ["data", "tmp"] {
            fs::create_dir(self.file(folder)).unwrap();
        }
        self.write_identities(&self.access_key);
        fs::write(self.file("iam.json"), iam().to_string()).unwrap();
        let alternative = format!("subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN},IP:127.0.0.1");
        let mut openssl =
            command("openssl", ["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=xvault"]);
        openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-addext", &alternative]);
        // Not of an authority, which no server may be.
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        let files = openssl.arg("-keyout").arg(self.file("key.pem")).arg("-out").arg(self.certificate());
        let _ = run(files.stderr(std::process::Stdio::null()));
    }

    /// Files, for the list of processes is everybody's to read.
    fn write_identities(&self, access_key: &str) {
        let credentials = json!([{"accessKey": access_key, "secretKey": self.secret_key}]);
        let actions = ["Admin", "Read", "Write", "List", "Tagging"];
        let identities = json!([{"name": "admin", "credentials": credentials, "actions": actions}]);
        fs::write(self.file("s3.json"), json!({"identities": identities}).to_string()).unwrap();
    }

    fn process(&self) -> Option<Process> {
        self.keeper.litter(self.sockets());
        let mut command = self.keeper.server(&tool("weed"));
        command.arg("mini").args(self.args()).env("TMPDIR", self.file("tmp"));
        Process::start(&mut command, Signal::KILL, || self.answers())
    }

    fn args(&self) -> Vec<String> {
        let file = |name: &str| self.file(name).display().to_string();
        let mut args = vec![
            format!("-dir={}", file("data")),
            format!("-s3.config={}", file("s3.json")),
            format!("-s3.iam.config={}", file("iam.json")),
            format!("-s3.cert.file={}", file("cert.pem")),
            format!("-s3.key.file={}", file("key.pem")),
            format!("-s3.domainName={DOMAIN}"),
            format!("-bucket={BUCKET}"),
        ];
        // Ports that are not told are fixed ones, which another test's server has.
        args.extend(self.numbered().flat_map(|(part, own, grpc)| {
            [format!("-{part}.port={own}"), format!("-{part}.port.grpc={grpc}")]
        }));
        args.push(format!("-s3.port.https={}", self.ports[10]));
        // A bucket that is missing shall be missing; nobody is told of our tests. Each bucket takes volumes of its own: by itself
        // the server has as many as the disk has room for, were they full, and then answers with `InternalError`.
        let fixed = "-ip=127.0.0.1 -ip.bind=127.0.0.1 -s3.port.iceberg=0 -s3.port.lance=0 -webdav=false \
                     -admin.ui=false -s3.autoCreateBucket=false -master.telemetry=false \
                     -volume.max=10000";
        args.extend(fixed.split_whitespace().map(str::to_owned));
        args
    }

    fn numbered(&self) -> impl Iterator<Item = (&'static str, u16, u16)> {
        let pairs = self.ports.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        PARTS.into_iter().zip(pairs).map(|(part, (own, grpc))| (part, own, grpc))
    }

    fn sockets(&self) -> Vec<String> {
        let socket = |part: &str, port: u16| format!("/tmp/seaweedfs-{part}-{port}.sock");
        let both =
            |(part, own, grpc): (&str, u16, u16)| [socket(part, own), socket(&format!("{part}-grpc"), grpc)];
        self.numbered().flat_map(both).collect()
    }

    /// Only our own server knows our key. It answers before its bucket is there, and lists that before its volumes are:
    /// until they are, an object cannot be stored, and one that was is an `InternalError`.
    fn answers(&self) -> bool {
        let access = self.access();
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).is_ok()
            && access.in_bucket("GET", "", b"").status == 200
            && access.in_bucket("PUT", PROBE, b"here").status == 200
            && access.in_bucket("GET", PROBE, b"").body == b"here"
            && access.in_bucket("DELETE", PROBE, b"").status == 204
    }

    /// The port on 127.0.0.1 for HTTP; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// `http://127.0.0.1:PORT`, for S3 and for STS.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// `https://s3.localhost:PORT`, with buckets in the path or as host names below it.
    #[must_use]
    pub fn tls_endpoint(&self) -> String {
        format!("https://{DOMAIN}:{}", self.ports[10])
    }

    /// The file with the certificate that [`SeaweedFs::tls_endpoint`] shows, which is its own authority.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.file("cert.pem")
    }

    /// Of an identity that may do everything.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Of the same.
    #[must_use]
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// What requests are signed for.
    #[must_use]
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// A bucket that is there from the start.
    #[must_use]
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The role that [`SeaweedFs::assume_role`] takes on; it may do everything that a session policy does not take away.
    #[must_use]
    pub fn role_arn(&self) -> &'static str {
        ROLE
    }

    /// [`SeaweedFs::bucket`], by the identity that may do everything.
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

    /// Makes a bucket of a name not used before.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn new_bucket(&self) -> S3Access {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        let access = S3Access { bucket: format!("bucket-{number}"), ..self.access() };
        let answer = access.in_bucket("PUT", "", b"");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        access
    }

    /// Makes a bucket whose objects can be locked; it keeps versions.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn new_locking_bucket(&self) -> S3Access {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        let access = S3Access { bucket: format!("locking-{number}"), ..self.access() };
        let answer = access.request_with("PUT", &access.bucket, &["x-amz-bucket-object-lock-enabled: true"]);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        access
    }

    /// Credentials for a quarter of an hour, that may do what `policy` (an IAM policy document) allows.
    ///
    /// # Panics
    /// When the server gives none.
    #[must_use]
    pub fn assume_role(&self, policy: &Value) -> S3Access {
        let encoded: String = policy.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        let form = format!(
            "Action=AssumeRole&Version=2011-06-15&RoleArn={ROLE}&RoleSessionName=xvault-test\
             &DurationSeconds=900&Policy={encoded}"
        );
        let answer = self.access().signed("sts", "POST", "", form.as_bytes(), &[]);
        let text = String::from_utf8_lossy(&answer.body);
        let field = |name| elements(&text, name).pop().unwrap_or_else(|| panic!("no {name} in {text}"));
        S3Access {
            access_key: field("AccessKeyId"),
            secret_key: field("SecretAccessKey"),
            session_token: Some(field("SessionToken")),
            ..self.access()
        }
    }

    /// Takes the access key away from the running server, as an operator does whose key was stolen; gives the new one.
    ///
    /// # Panics
    /// When the server goes on to accept the old one.
    #[must_use]
    pub fn revoke(&self) -> S3Access {
        self.write_identities(NEW_KEY);
        self.process.lock().unwrap().as_mut().expect("a running SeaweedFS").signal(Signal::HUP);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.access().in_bucket("GET", "", b"").status == 200 {
            assert!(Instant::now() < deadline, "the key still works: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        S3Access { access_key: NEW_KEY.to_owned(), ..self.access() }
    }

    /// Ends the server at once, as a power cut does; connections are refused until [`SeaweedFs::restart`].
    pub fn kill(&self) {
        *self.process.lock().unwrap() = None;
    }

    /// Kills the server if it runs, and starts it on the same ports with what it had stored.
    ///
    /// # Panics
    /// When a port is lost to somebody else meanwhile.
    pub fn restart(&self) {
        self.kill();
        let process = self.process();
        assert!(process.is_some(), "weed did not start again: {}", self.log());
        *self.process.lock().unwrap() = process;
    }

    /// What the server logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.keeper.log()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.keeper.path().join(name)
    }
}

const ROLE: &str = "arn:aws:iam::000000000000:role/xvault";

fn iam() -> Value {
    let resources = ["arn:aws:s3:::*", "arn:aws:s3:::*/*"];
    let everything = json!({"Effect": "Allow", "Action": ["s3:*"], "Resource": resources});
    let anybody = json!({"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole"]});
    let document = |statement: Value| json!({"Version": "2012-10-17", "Statement": [statement]});
    json!({
        "sts": {
            "tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "xvault",
            // 32 bytes in Base64: of a server that lives for a test, seen on loopback only.
            "signingKey": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [{"name": "Everything", "document": document(everything)}],
        "roles": [{
            "roleName": "xvault", "roleArn": ROLE,
            "trustPolicy": document(anybody), "attachedPolicies": ["Everything"],
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::held;

    fn put_only(bucket: &str, prefix: &str) -> Value {
        let resource = format!("arn:aws:s3:::{bucket}/{prefix}/*");
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": [resource]},
        ]})
    }

    #[test]
    fn objects_come_back_and_a_bucket_that_is_missing_is_missing() {
        let seaweed = SeaweedFs::shared();
        let (bucket, other) = (seaweed.new_bucket(), seaweed.new_bucket());
        assert_eq!(bucket.in_bucket("PUT", "a/b", b"hello").status, 200);
        assert_eq!(bucket.in_bucket("GET", "a/b", b"").body, b"hello");
        assert_eq!((bucket.keys("a/"), other.keys("")), (vec!["a/b".to_owned()], vec![]));
        assert_eq!(run(&mut bucket.rclone(&["cat", &format!("s3:{}/a/b", bucket.bucket)])), b"hello");
        let missing = S3Access { bucket: "no-such-bucket".into(), ..bucket.clone() };
        assert_eq!(missing.in_bucket("PUT", "a", b"x").status, 404);
        let stranger = S3Access { secret_key: "guess".into(), ..bucket };
        assert_eq!(stranger.in_bucket("GET", "a/b", b"").status, 403);
    }

    #[test]
    fn a_session_policy_lets_its_holder_put_below_a_prefix_and_nothing_else() {
        let seaweed = SeaweedFs::shared();
        let bucket = seaweed.new_bucket();
        assert_eq!(bucket.in_bucket("PUT", "mine/old", b"x").status, 200);
        let role = seaweed.assume_role(&put_only(&bucket.bucket, "mine"));
        let scoped = S3Access { bucket: bucket.bucket.clone(), ..role };
        assert_eq!(scoped.in_bucket("PUT", "mine/new", b"x").status, 200);
        let refused = [("PUT", "theirs/new"), ("GET", "mine/old"), ("DELETE", "mine/old"), ("GET", "")];
        for (method, path) in refused {
            assert_eq!(scoped.in_bucket(method, path, b"").status, 403, "{method} {path}");
        }
    }

    #[test]
    fn a_bucket_is_a_host_name_under_tls() {
        let seaweed = SeaweedFs::shared();
        let url = seaweed.tls_endpoint().replace("s3.localhost", "xvault.s3.localhost");
        let mut curl = command("curl", ["-sS", "-o", "/dev/null", "-w", "%{http_code}", &url]);
        assert_eq!(run(curl.arg("--cacert").arg(seaweed.certificate())), b"403");
    }

    #[test]
    fn it_keeps_its_objects_over_a_power_cut_and_refuses_a_key_that_was_revoked() {
        let seaweed = SeaweedFs::start();
        let access = seaweed.access();
        assert_eq!(access.in_bucket("PUT", "kept", b"1").status, 200);
        seaweed.kill();
        assert_eq!(access.in_bucket("GET", "kept", b"").status, 0);
        seaweed.restart();
        assert_eq!(access.in_bucket("GET", "kept", b"").body, b"1");
        let new = seaweed.revoke();
        assert_eq!(access.in_bucket("GET", "kept", b"").status, 403);
        assert_eq!(new.in_bucket("GET", "kept", b"").body, b"1");
    }

    #[test]
    fn one_never_dropped_ends_with_the_process() {
        let seaweed = std::mem::ManuallyDrop::new(SeaweedFs::start());
        let pid = seaweed.process.lock().unwrap().as_ref().unwrap().pid();
        held::show(seaweed.keeper.path(), pid);
    }

    #[test]
    fn nothing_is_left_of_a_test_process_that_exits_or_is_killed() {
        held::assert_nothing_is_left_of("seaweedfs::tests::one_never_dropped_ends_with_the_process");
    }
}
