//! A private OpenSSH server on a free loopback port.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::server::{Process, descendants, has_ended, kill, on_free_port};
use crate::tools::{command, run, tool};
use crate::user::SystemUser;

/// The pass phrase of [`Sshd::encrypted_key`].
const PASSPHRASE: &str = "correct horse";

/// A key that a server proves itself with.
#[derive(Debug, Clone)]
pub struct HostKey {
    /// Private half, in OpenSSH's format.
    pub path: PathBuf,
    /// `SHA256:` and 43 characters, as `ssh-keygen -l` prints.
    pub fingerprint: String,
    /// `ssh-ed25519 AAAA…`, without comment.
    pub public: String,
}

impl HostKey {
    fn generate(path: &Path) -> Self {
        keygen(path, "ed25519", "");
        let public_path = path.with_extension("pub");
        let public = fs::read_to_string(&public_path).unwrap();
        let shown = run(&mut command("ssh-keygen", [Path::new("-l"), Path::new("-f"), &public_path]));
        let shown = String::from_utf8(shown).unwrap();
        Self {
            path: path.to_owned(),
            fingerprint: shown.split_whitespace().nth(1).unwrap().to_owned(),
            public: public.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
        }
    }
}

/// How a server shall be: see [`Sshd::builder`].
#[derive(Debug, Clone, Default)]
pub struct SshdBuilder {
    extra: String,
    matching: String,
    default_limits: bool,
    root: bool,
    shell: Option<&'static str>,
}

impl SshdBuilder {
    /// Adds a line to the server's configuration: `ForceCommand internal-sftp`.
    /// It comes first, and with OpenSSH the first one wins.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        writeln!(self.extra, "{line}").unwrap();
        self
    }

    /// Adds a block that begins with `Match`: it comes last, as all that follows would belong to it.
    #[must_use]
    pub fn matching(mut self, block: &str) -> Self {
        writeln!(self.matching, "{block}").unwrap();
        self
    }

    /// OpenSSH's own limits (10 sessions a connection, 10 unauthenticated connections), not the wide ones of tests.
    #[must_use]
    pub fn default_limits(mut self) -> Self {
        self.default_limits = true;
        self
    }

    /// Logs in as root, by key only: for trees that belong to several users.
    #[must_use]
    pub fn root(mut self) -> Self {
        self.root = true;
        self
    }

    /// The account's login shell, which is bash otherwise.
    #[must_use]
    pub fn shell(mut self, name: &'static str) -> Self {
        self.shell = Some(name);
        self
    }

    /// Starts it and waits until it greets.
    ///
    /// # Panics
    /// When OpenSSH is missing, the test does not run as root, or the server does not come up.
    #[must_use]
    pub fn start(self) -> Sshd {
        Sshd::start(self)
    }
}

/// A running server; stopped, with its sessions, its user and its files, on drop.
#[derive(Debug)]
pub struct Sshd {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The account that may log in.
    pub user: String,
    /// Its password, with spaces and quotes in it. Root (see [`SshdBuilder::root`]) has none.
    pub password: String,
    /// The account's home directory, readable and writable for it. Root has one here too, for the tests' files.
    pub home: PathBuf,
    /// A private key (ed25519, OpenSSH's format) that the account lets in.
    pub key_path: PathBuf,
    /// What the server proves itself with at the moment.
    pub host_key: HostKey,
    /// A `known_hosts` file with `host_key`.
    pub known_hosts: PathBuf,
    builder: SshdBuilder,
    process: Option<Process>,
    _account: Option<SystemUser>,
    dir: TempDir,
}

impl Sshd {
    /// A server for password and key logins of a user of its own.
    #[must_use]
    pub fn builder() -> SshdBuilder {
        SshdBuilder::default()
    }

    fn start(builder: SshdBuilder) -> Self {
        let dir = tempfile::Builder::new().prefix("xvt-sshd").tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        for path in [dir.path(), &home] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let account =
            (!builder.root).then(|| SystemUser::create(&home, &tool(builder.shell.unwrap_or("bash"))));
        let key_path = dir.path().join("client");
        keygen(&key_path, "ed25519", "");
        let host_key = HostKey::generate(&dir.path().join("hostkey"));
        let mut sshd = Self {
            port: 0,
            user: account.as_ref().map_or("root", |account| &account.name).to_owned(),
            password: account.as_ref().map_or_else(String::new, |account| account.password.clone()),
            home,
            known_hosts: dir.path().join("known_hosts"),
            key_path,
            host_key,
            builder,
            process: None,
            _account: account,
            dir,
        };
        sshd.authorize(&sshd.key_path);
        let process = on_free_port(|port| {
            sshd.port = port;
            sshd.launch()
        });
        assert!(process.is_some(), "sshd did not start: {}", sshd.log());
        sshd.process = process;
        sshd
    }

    /// The server, when it greets.
    fn launch(&self) -> Option<Process> {
        // sshd refuses to start without its privilege separation directory.
        fs::create_dir_all("/run/sshd").unwrap();
        let config = self.dir.path().join("sshd_config");
        fs::write(&config, self.config()).unwrap();
        fs::write(&self.known_hosts, format!("[127.0.0.1]:{} {}\n", self.port, self.host_key.public))
            .unwrap();
        let mut command = Command::new(tool("sshd"));
        command.args(["-D", "-f"]).arg(&config).arg("-E").arg(self.log_path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::start(&mut command, Signal::KILL, || {
            banner(self.port).is_some_and(|banner| &banner == b"SSH-")
        })
    }

    fn config(&self) -> String {
        let dir = self.dir.path().display();
        let limits = "MaxStartups 200:30:400\nMaxSessions 100\n";
        let limits = if self.builder.default_limits { "" } else { limits };
        let root = if self.builder.root { "prohibit-password" } else { "no" };
        format!(
            "{extra}Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile {dir}/sshd.pid\n\
             AuthorizedKeysFile {dir}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication yes\n\
             KbdInteractiveAuthentication no\nPubkeyAuthentication yes\nPermitRootLogin {root}\n\
             AllowUsers {user}\nUseDNS no\nPrintMotd no\n{limits}MaxAuthTries 20\nLoginGraceTime 30\n\
             Subsystem sftp internal-sftp\nLogLevel VERBOSE\n{matching}",
            matching = self.builder.matching,
            extra = self.builder.extra,
            port = self.port,
            host_key = self.host_key.path.display(),
            user = self.user,
        )
    }

    fn authorize(&self, key: &Path) {
        let path = self.dir.path().join("authorized_keys");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        file.write_all(&fs::read(key.with_extension("pub")).unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// A key with a pass phrase, made at the first call, that the account lets in: path and pass phrase.
    #[must_use]
    pub fn encrypted_key(&self) -> (PathBuf, &'static str) {
        (self.another_key("encrypted", "ed25519", PASSPHRASE), PASSPHRASE)
    }

    /// An RSA key, made at the first call, that the account lets in.
    #[must_use]
    pub fn rsa_key(&self) -> PathBuf {
        self.another_key("rsa", "rsa", "")
    }

    /// A key, made at the first call, that nobody lets in.
    #[must_use]
    pub fn stranger_key(&self) -> PathBuf {
        let path = self.dir.path().join("stranger");
        if !path.exists() {
            keygen(&path, "ed25519", "");
        }
        path
    }

    fn another_key(&self, name: &str, kind: &str, passphrase: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        if !path.exists() {
            keygen(&path, kind, passphrase);
            self.authorize(&path);
        }
        path
    }

    /// Numeric user and group of the account.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        self._account.as_ref().map_or((0, 0), SystemUser::ids)
    }

    /// The account's processes that have not ended: its sessions, and what they run.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let (uid, _) = self.ids();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let of_account = entries.filter(|entry| entry.metadata().is_ok_and(|process| process.uid() == uid));
        let pids = of_account.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| !has_ended(*pid)).collect()
    }

    /// A `known_hosts` file that names this server at another port, such as that of a [`crate::FaultProxy`].
    #[must_use]
    pub fn known_hosts_at(&self, port: u16) -> PathBuf {
        let path = self.dir.path().join(format!("known_hosts_{port}"));
        fs::write(&path, format!("[127.0.0.1]:{port} {}\n", self.host_key.public)).unwrap();
        path
    }

    /// Starts anew on the same port with another host key; `known_hosts` then names the new one.
    /// Returns the key from before.
    pub fn change_host_key(&mut self) -> HostKey {
        let path = self.dir.path().join("hostkey2");
        let before = std::mem::replace(&mut self.host_key, HostKey::generate(&path));
        self.restart();
        before
    }

    /// Stops the server with all its sessions; connections are refused until [`Sshd::restart`].
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            let sessions = descendants(process.pid());
            drop(process);
            sessions.into_iter().for_each(kill);
        }
    }

    /// Refuses connections from now on until [`Sshd::restart`]; sessions go on until their clients end them.
    pub fn stop_listening(&self) {
        if let Some(process) = &self.process {
            kill(process.pid());
        }
    }

    /// Ends all sessions; new ones are accepted. Returns how many processes were ended.
    pub fn drop_sessions(&self) -> usize {
        let sessions = self.process.as_ref().map(|process| descendants(process.pid())).unwrap_or_default();
        let count = sessions.len();
        sessions.into_iter().for_each(kill);
        count
    }

    /// Stops, and starts on the same port.
    ///
    /// # Panics
    /// When the port is lost to somebody else meanwhile.
    pub fn restart(&mut self) {
        self.stop();
        self.process = self.launch();
        assert!(self.process.is_some(), "sshd did not start again: {}", self.log());
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("sshd.log")
    }

    /// What the server logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// The real client, logging in by key and running `remote` through the account's shell.
    #[must_use]
    pub fn ssh(&self, remote: &str) -> Command {
        self.ssh_with_key(&self.key_path, remote)
    }

    /// As [`Sshd::ssh`], with another key.
    #[must_use]
    pub fn ssh_with_key(&self, key: &Path, remote: &str) -> Command {
        let mut command = command("ssh", self.client_options());
        command.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"]).arg(key);
        command.arg(format!("{}@127.0.0.1", self.user)).arg(remote);
        command
    }

    /// As [`Sshd::ssh`], with `password` through `sshpass`.
    #[must_use]
    pub fn ssh_with_password(&self, password: &str, remote: &str) -> Command {
        let mut command = command("sshpass", ["-e", "ssh"]);
        command.env("SSHPASS", password).args(self.client_options());
        command.args(["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]);
        command.arg(format!("{}@127.0.0.1", self.user)).arg(remote);
        command
    }

    /// Options of `ssh` and `sftp` that keep the machine's own settings out.
    #[must_use]
    pub fn client_options(&self) -> Vec<String> {
        let known_hosts = format!("UserKnownHostsFile={}", self.known_hosts.display());
        [
            "-F",
            "/dev/null",
            "-o",
            "GlobalKnownHostsFile=/dev/null",
            "-o",
            &known_hosts,
            "-o",
            &self.port_option(),
        ]
        .map(String::from)
        .into()
    }

    fn port_option(&self) -> String {
        format!("Port={}", self.port)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let args = ["-q", "-t", kind, "-N", passphrase, "-C", "xvault-testkit", "-f"];
    let _ = run(command("ssh-keygen", args).arg(path));
}

fn banner(port: u16) -> Option<[u8; 4]> {
    let mut stream = TcpStream::connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut banner = [0; 4];
    stream.read_exact(&mut banner).ok()?;
    Some(banner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(command: &mut Command) -> (bool, String) {
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    #[test]
    fn every_key_and_the_password_log_in() {
        let sshd = Sshd::builder().start();
        let (ok, text) = output(&mut sshd.ssh("id -un; pwd"));
        assert!(ok, "{text}");
        assert_eq!(text, format!("{}\n{}\n", sshd.user, sshd.home.display()));
        assert!(output(&mut sshd.ssh_with_key(&sshd.rsa_key(), "true")).0, "{}", sshd.log());
        let (ok, text) = output(&mut sshd.ssh_with_password(&sshd.password, "echo in"));
        assert!(ok && text == "in\n", "{text}");
    }

    #[test]
    fn wrong_keys_and_passwords_are_refused() {
        let sshd = Sshd::builder().start();
        let (ok, text) = output(&mut sshd.ssh_with_password("wrong", "true"));
        assert!(!ok && text.contains("Permission denied"), "{text}");
        let (ok, text) = output(&mut sshd.ssh_with_key(&sshd.stranger_key(), "true"));
        assert!(!ok && text.contains("Permission denied"), "{text}");
        let (encrypted, passphrase) = sshd.encrypted_key();
        // Without a terminal nobody types the pass phrase.
        assert!(!output(&mut sshd.ssh_with_key(&encrypted, "true")).0);
        let check = ["-y", "-P", passphrase, "-f"];
        assert!(output(command("ssh-keygen", check).arg(&encrypted)).0);
    }

    #[test]
    fn a_changed_host_key_is_noticed() {
        let mut sshd = Sshd::builder().start();
        let old_hosts = fs::read(&sshd.known_hosts).unwrap();
        let before = sshd.change_host_key();
        assert_ne!(before.fingerprint, sshd.host_key.fingerprint);
        assert!(output(&mut sshd.ssh("true")).0, "{}", sshd.log());
        fs::write(&sshd.known_hosts, old_hosts).unwrap();
        let (ok, text) = output(&mut sshd.ssh("true"));
        assert!(!ok && text.contains(&sshd.host_key.fingerprint), "{text}");
    }

    #[test]
    fn root_logs_in_by_key_and_forced_commands_hold() {
        let sshd = Sshd::builder().root().start();
        assert_eq!(output(&mut sshd.ssh("id -u")), (true, "0\n".into()));
        let sftp_only = Sshd::builder().config("ForceCommand internal-sftp").start();
        let (_, text) = output(&mut sftp_only.ssh("id -u"));
        assert!(!text.contains("0\n"), "{text}");
    }

    #[test]
    fn nothing_is_left_after_a_drop() {
        let sshd = Sshd::builder().start();
        let mut session =
            sshd.ssh("echo up; sleep 600").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        session.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        let (user, port, dir) = (sshd.user.clone(), sshd.port, sshd.dir.path().to_owned());
        drop(sshd);
        assert!(!session.wait().unwrap().success());
        assert!(!fs::read_to_string("/etc/passwd").unwrap().contains(&format!("{user}:")));
        assert!(!dir.exists() && banner(port).is_none());
    }
}
