//! A user with a key, a store, and a shell that knows nothing else.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use xvault_testkit::{S3Access, Sshd, tools};

/// A home directory with an age key, and a store beside it.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) store: PathBuf,
    pub(crate) identity: PathBuf,
    pub(crate) recipient: String,
    /// Where snapshots lie instead of in `store`.
    bucket: Option<S3Access>,
}

/// What a run printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) bytes: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (identity, recipient) = tools::age_keygen(dir.path());
        let store = dir.path().join("store");
        Self { dir, store, identity, recipient, bucket: None }
    }

    /// The same with a store in a bucket, `s3://BUCKET/place`.
    pub(crate) fn in_bucket(bucket: S3Access) -> Self {
        Self { bucket: Some(bucket), ..Self::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A directory of files to back up, made by `fill`.
    pub(crate) fn tree(&self, fill: impl FnOnce(&Path)) -> PathBuf {
        let path = self.path("tree");
        std::fs::create_dir_all(&path).unwrap();
        fill(&path);
        path
    }

    /// The program, with this user's home, store and identity, and nothing of the machine's.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xvault"));
        command.args(args);
        self.dress(command)
    }

    /// The program where a mistake of it can do no harm: it has `kib` KiB of memory that it can write to and a minute of
    /// processor time, writes no file of more than a MiB, and nobody reads more than a MiB of what it prints.
    pub(crate) fn confined(&self, kib: u32, args: &[&str]) -> Ran {
        let script = format!(
            "ulimit -c 0 -d {kib} -f 1024 -t 60 && \"$0\" \"$@\" | head -c 1048576; exit \"${{PIPESTATUS[0]}}\""
        );
        let bash = tools::command("bash", ["-c", &script, env!("CARGO_BIN_EXE_xvault")]);
        let mut command = self.dress(bash);
        run(command.args(args))
    }

    fn dress(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("XVAULT_STORE", &self.store)
            .env("XVAULT_IDENTITY", &self.identity)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        if let Some(bucket) = &self.bucket {
            command
                .env("XVAULT_STORE", format!("s3://{}/place", bucket.bucket))
                .env("AWS_ACCESS_KEY_ID", &bucket.access_key)
                .env("AWS_SECRET_ACCESS_KEY", &bucket.secret_key)
                .env("AWS_SESSION_TOKEN", bucket.session_token.as_deref().unwrap_or_default())
                .env("AWS_REGION", &bucket.region)
                .env("AWS_ENDPOINT_URL_S3", &bucket.endpoint);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    /// Runs a command that must succeed without warnings.
    pub(crate) fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran
    }

    /// Backs `source` up; gives the manifest from `--json`.
    pub(crate) fn backup(&self, source: &str, more: &[&str]) -> Value {
        let ran = self.backup_ran(source, more);
        assert_eq!(ran.code, 0, "{ran:?}");
        manifest(&ran)
    }

    pub(crate) fn backup_ran(&self, source: &str, more: &[&str]) -> Ran {
        let args = ["backup", source, "--recipient", &self.recipient, "--json"];
        self.run(&[&args[..], more].concat())
    }

    /// The directories of all snapshots in the store, and of whatever else lies beside them.
    pub(crate) fn snapshot_dirs(&self) -> Vec<PathBuf> {
        let sources = self.store.join("tenants/local/sources");
        let Ok(sources) = std::fs::read_dir(sources) else { return Vec::new() };
        let lists = sources.map(|source| source.unwrap().path().join("snapshots"));
        // A run that has just begun may not have made its list yet.
        let dirs = lists.filter_map(|list| std::fs::read_dir(list).ok()).flatten();
        let mut dirs: Vec<_> = dirs.map(|dir| dir.unwrap().path()).collect();
        dirs.sort();
        dirs
    }

    /// The directory of the only snapshot.
    pub(crate) fn only_snapshot(&self) -> PathBuf {
        let dirs = self.snapshot_dirs();
        assert_eq!(dirs.len(), 1, "{dirs:?}");
        dirs[0].clone()
    }
}

pub(crate) fn run(command: &mut Command) -> Ran {
    ran(command.output().unwrap())
}

pub(crate) fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        bytes: output.stdout,
    }
}

/// The manifest in the output of `backup --json`.
pub(crate) fn manifest(ran: &Ran) -> Value {
    let line: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    line["snapshot"].clone()
}

/// The URL of `path` on `sshd` at `port`.
pub(crate) fn url(scheme: &str, sshd: &Sshd, port: u16, path: &Path) -> String {
    format!("{scheme}://{}@127.0.0.1:{port}{}", sshd.user, path.display())
}

/// The flags that log in at `sshd` by key and pin its host key.
pub(crate) fn login(sshd: &Sshd) -> [String; 4] {
    let key = sshd.key_path.display().to_string();
    ["--ssh-key".into(), key, "--host-key".into(), sshd.host_key.fingerprint.clone()]
}

pub(crate) fn strs<S: AsRef<str>>(args: &[S]) -> Vec<&str> {
    args.iter().map(AsRef::as_ref).collect()
}

/// A path without its leading slash, as it stands in a snapshot.
pub(crate) fn inside(path: &Path) -> String {
    path.strip_prefix("/").unwrap().display().to_string()
}

/// Where `path` lies below the directory it was restored into.
pub(crate) fn restored(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap())
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Everything a run said, to look for what must not be there.
pub(crate) fn everything(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}

pub(crate) fn os(text: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(text)
}
