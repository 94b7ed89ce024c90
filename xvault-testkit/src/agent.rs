//! A private ssh-agent.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tools::{command, run};

/// A running `ssh-agent` that holds one key; stopped on drop.
#[derive(Debug)]
pub struct SshAgent {
    /// What belongs into `SSH_AUTH_SOCK`.
    pub socket: PathBuf,
    child: Child,
    _dir: TempDir,
}

impl SshAgent {
    /// Starts one and adds the key (without pass phrase) at `key_path`.
    ///
    /// # Panics
    /// When `ssh-agent` is missing, does not come up, or refuses the key.
    #[must_use]
    pub fn start(key_path: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("xvt-agent").tempdir().unwrap();
        let socket = dir.path().join("agent");
        let mut command = command("ssh-agent", [Path::new("-D"), Path::new("-a"), &socket]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start ssh-agent");
        let agent = Self { socket, child, _dir: dir };
        agent.wait();
        agent.add(key_path);
        agent
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            assert!(Instant::now() < deadline, "ssh-agent does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Adds one more key.
    ///
    /// # Panics
    /// When the agent refuses it.
    pub fn add(&self, key_path: &Path) {
        let _ = run(command("ssh-add", [Path::new("-q"), key_path]).env("SSH_AUTH_SOCK", &self.socket));
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sshd;

    #[test]
    fn a_key_in_the_agent_logs_in() {
        let sshd = Sshd::builder().start();
        let agent = SshAgent::start(&sshd.key_path);
        let mut ssh = command("ssh", sshd.client_options());
        ssh.args([
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentityFile=none",
            &format!("{}@127.0.0.1", sshd.user),
            "true",
        ]);
        assert!(!ssh.env_remove("SSH_AUTH_SOCK").output().unwrap().status.success());
        assert!(ssh.env("SSH_AUTH_SOCK", &agent.socket).output().unwrap().status.success());
    }
}
