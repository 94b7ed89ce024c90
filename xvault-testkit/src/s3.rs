//! What the private S3 servers share: how to reach a bucket, and requests that curl signs.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::tools::command;

/// How to reach a bucket of a running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Access {
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
    /// What requests are signed for.
    pub region: String,
    /// Its name.
    pub bucket: String,
    /// Who asks.
    pub access_key: String,
    /// What the requests are signed with.
    pub secret_key: String,
    /// Comes with keys that live for a while only.
    pub session_token: Option<String>,
}

/// What the server said.
#[derive(Debug)]
pub struct S3Answer {
    /// 200, 403…
    pub status: u16,
    /// As it came: XML, or an object.
    pub body: Vec<u8>,
}

impl S3Access {
    /// A request to `path` below the endpoint (`bucket/key?query`), signed and sent by curl.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> S3Answer {
        self.signed("s3", method, path, body, &[])
    }

    /// A request without a body, with headers besides (`name: value`).
    #[must_use]
    pub fn request_with(&self, method: &str, path: &str, headers: &[&str]) -> S3Answer {
        self.signed("s3", method, path, b"", headers)
    }

    /// A request below the bucket: `key`, or `?uploads`.
    #[must_use]
    pub fn in_bucket(&self, method: &str, path: &str, body: &[u8]) -> S3Answer {
        self.request(method, &format!("{}/{path}", self.bucket), body)
    }

    /// The keys of the bucket's objects below `prefix`, the first thousand of them.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.listed(&format!("?list-type=2&prefix={}", prefix.replace('/', "%2F")), "Key")
    }

    /// The keys of the multipart uploads that nobody finished.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn uploads(&self) -> Vec<String> {
        self.listed("?uploads=", "Key")
    }

    /// Key and version of everything that a bucket keeps below `prefix`, marks of deletions included; the first thousand.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn versions(&self, prefix: &str) -> Vec<(String, String)> {
        let query = format!("?prefix={}&versions=", prefix.replace('/', "%2F"));
        let answer = self.in_bucket("GET", &query, b"");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{text}");
        let entries = ["Version", "DeleteMarker"].into_iter().flat_map(|kind| elements(&text, kind));
        let field = |entry: &str, name| elements(entry, name).pop().unwrap();
        entries.map(|entry| (field(&entry, "Key"), field(&entry, "VersionId"))).collect()
    }

    /// Mode and end of an object's lock, as the server tells them; `None` for an object without.
    ///
    /// # Panics
    /// When there is no such object.
    #[must_use]
    pub fn lock(&self, key: &str) -> Option<(String, String)> {
        let answer = self.in_bucket("HEAD", key, b"");
        assert_eq!(answer.status, 200, "{key}");
        let text = String::from_utf8_lossy(&answer.body).to_lowercase();
        let header = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_uppercase())
        };
        header("x-amz-object-lock-mode:").zip(header("x-amz-object-lock-retain-until-date:"))
    }

    fn listed(&self, query: &str, element: &str) -> Vec<String> {
        let answer = self.in_bucket("GET", query, b"");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{text}");
        elements(&text, element)
    }

    /// A request to another service at the same endpoint.
    pub(crate) fn signed(
        &self,
        service: &str,
        method: &str,
        path: &str,
        body: &[u8],
        headers: &[&str],
    ) -> S3Answer {
        let url = format!("{}/{path}", self.endpoint);
        let sigv4 = format!("aws:amz:{}:{service}", self.region);
        let mut config = format!("user = \"{}:{}\"\n", self.access_key, self.secret_key);
        if let Some(token) = &self.session_token {
            config += &format!("header = \"x-amz-security-token: {token}\"\n");
        }
        let body_file = tempfile::NamedTempFile::new().unwrap();
        body_file.as_file().write_all(body).unwrap();
        let mut curl = command("curl", ["-sS", "-X", method, "--max-time", "30", "--aws-sigv4", &sigv4]);
        curl.args(["-K", "-", "-w", "%{stderr}%{http_code}", &url]);
        if service == "s3" {
            // Else this curl signs a digest that it does not send.
            curl.args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        }
        for header in headers {
            curl.args(["-H", header]);
        }
        if method == "HEAD" {
            curl.arg("--head");
        }
        if !body.is_empty() {
            curl.arg("--data-binary").arg(format!("@{}", body_file.path().display()));
        }
        answer(&fed(&mut curl, &config))
    }

    /// The environment that `rclone` and the AWS tools read: of a remote named `s3`.
    #[must_use]
    pub fn rclone_env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("RCLONE_CONFIG", "/dev/null".into()),
            ("RCLONE_CONFIG_S3_TYPE", "s3".into()),
            ("RCLONE_CONFIG_S3_PROVIDER", "Other".into()),
            ("RCLONE_CONFIG_S3_ENDPOINT", self.endpoint.clone()),
            ("RCLONE_CONFIG_S3_REGION", self.region.clone()),
            ("RCLONE_CONFIG_S3_ACCESS_KEY_ID", self.access_key.clone()),
            ("RCLONE_CONFIG_S3_SECRET_ACCESS_KEY", self.secret_key.clone()),
            ("RCLONE_CONFIG_S3_SESSION_TOKEN", self.session_token.clone().unwrap_or_default()),
        ]
    }

    /// `rclone`, an independent client, with this bucket's server as its remote `s3:`.
    #[must_use]
    pub fn rclone(&self, args: &[&str]) -> Command {
        let mut rclone = command("rclone", args);
        rclone.envs(self.rclone_env());
        rclone
    }
}

/// Secrets reach curl on its standard input: the list of processes is everybody's to read.
fn fed(curl: &mut Command, config: &str) -> Output {
    let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// No connection is status 0.
fn answer(output: &Output) -> S3Answer {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let digits: String = stderr.chars().rev().take_while(char::is_ascii_digit).take(3).collect();
    let status = digits.chars().rev().collect::<String>().parse().unwrap_or(0);
    S3Answer { status, body: output.stdout.clone() }
}

/// The texts of all elements of that name.
pub(crate) fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let after = xml.split(open.as_str()).skip(1);
    after.filter_map(|rest| rest.split(close.as_str()).next()).map(str::to_owned).collect()
}
