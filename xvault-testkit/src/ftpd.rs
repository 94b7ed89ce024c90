//! Private FTP servers on free loopback ports: ProFTPD, which has MLSD, and vsftpd, which has not.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::server::{Process, descendants, kill, on_free_port};
use crate::tools::{command, run, tool};
use crate::user::SystemUser;

/// The user that ProFTPD's virtual account runs as.
const VIRTUAL_ID: u32 = 61_234;

/// PAM's rules for vsftpd: its own ones need more of the system than a password.
const PAM: (&str, &str) = (
    "xvault-test-ftp",
    "auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n",
);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FtpKind {
    /// Has MLSD.
    Proftpd,
    /// Has LIST alone.
    Vsftpd,
}

/// How a server shall be: see [`Ftpd::builder`].
#[derive(Debug, Clone)]
pub struct FtpdBuilder {
    kind: FtpKind,
    implicit: bool,
    self_signed: bool,
    extra: String,
    passive: u16,
}

impl FtpdBuilder {
    /// TLS from the first byte; otherwise it is there for who asks for it.
    #[must_use]
    pub fn implicit(mut self) -> Self {
        self.implicit = true;
        self
    }

    /// A certificate that nobody signed but itself, as `openssl req -x509` makes it.
    #[must_use]
    pub fn self_signed(mut self) -> Self {
        self.self_signed = true;
        self
    }

    /// Adds lines to the server's configuration, which go before its own ones or behind them: as the server wants it, so that they win.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        writeln!(self.extra, "{line}").unwrap();
        self
    }

    /// So many ports for data, which is how many connections can be had: for proxies before each of them.
    #[must_use]
    pub fn passive_ports(mut self, count: u16) -> Self {
        self.passive = count;
        self
    }

    /// Starts it and waits until it greets.
    ///
    /// # Panics
    /// When the server is missing, the test does not run as root, or the server does not come up.
    #[must_use]
    pub fn start(self) -> Ftpd {
        Ftpd::start(self)
    }
}

/// A running server; stopped, with its sessions, its user and its files, on drop.
#[derive(Debug)]
pub struct Ftpd {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The account.
    pub user: String,
    /// Its password.
    pub password: String,
    /// What the account sees as `/`.
    pub home: PathBuf,
    /// The authority that signed the server's certificate, in PEM: the certificate itself when nobody did.
    pub ca: String,
    /// The server's certificate, as `openssl x509 -fingerprint -sha256` prints it.
    pub fingerprint: String,
    /// Ports of data connections.
    pub passive: RangeInclusive<u16>,
    builder: FtpdBuilder,
    process: Option<Process>,
    account: Option<SystemUser>,
    dir: TempDir,
}

impl Ftpd {
    /// A server of that kind, which takes passwords of one account.
    #[must_use]
    pub fn builder(kind: FtpKind) -> FtpdBuilder {
        FtpdBuilder { kind, implicit: false, self_signed: false, extra: String::new(), passive: 200 }
    }

    fn start(builder: FtpdBuilder) -> Self {
        let dir = tempfile::Builder::new().prefix("xvt-ftpd").tempdir().unwrap();
        let home = dir.path().join("home");
        for path in [&home, &dir.path().join("empty")] {
            fs::create_dir(path).unwrap();
        }
        for path in [dir.path(), &home] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let account = (builder.kind == FtpKind::Vsftpd).then(|| SystemUser::create(&home, &tool("bash")));
        let (ca, fingerprint) = certificate(dir.path(), builder.self_signed);
        let mut ftpd = Self {
            port: 0,
            user: account.as_ref().map_or("bk", |account| &account.name).to_owned(),
            password: account.as_ref().map_or("s3cret of bk", |account| &account.password).to_owned(),
            home,
            ca,
            fingerprint,
            passive: 0..=0,
            builder,
            process: None,
            account,
            dir,
        };
        let process = on_free_port(|port| {
            ftpd.port = port;
            ftpd.passive = passive_range(port, ftpd.builder.passive);
            ftpd.launch()
        });
        assert!(process.is_some(), "the FTP server did not start: {}", ftpd.log());
        ftpd.process = process;
        ftpd
    }

    /// Numeric user and group that the account's files should have to be its own.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        self.account.as_ref().map_or((VIRTUAL_ID, VIRTUAL_ID), SystemUser::ids)
    }

    /// Gives everything below `path` to the account.
    pub fn give(&self, path: &Path) {
        let (uid, gid) = self.ids();
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
        if fs::symlink_metadata(path).unwrap().is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.give(&entry.unwrap().path());
            }
        }
    }

    /// Ends all sessions, as a server that is restarted does; new ones can begin.
    pub fn drop_sessions(&self) {
        for pid in self.process.as_ref().map(|process| descendants(process.pid())).unwrap_or_default() {
            kill(pid);
        }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.process.as_ref().map_or(0, |process| descendants(process.pid()).len())
    }

    /// What the server wrote down.
    #[must_use]
    pub fn log(&self) -> String {
        ["log", "tls.log", "out"]
            .map(|name| fs::read(self.dir.path().join(name)).unwrap_or_default())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat()
    }

    fn launch(&self) -> Option<Process> {
        let config = self.dir.path().join("config");
        let out = fs::File::create(self.dir.path().join("out")).unwrap();
        let (text, mut command) = match self.builder.kind {
            FtpKind::Proftpd => {
                self.write_accounts();
                let mut command = Command::new(tool("proftpd"));
                command.args(["--nodaemon", "-c"]).arg(&config);
                (self.proftpd(), command)
            }
            FtpKind::Vsftpd => {
                fs::write(Path::new("/etc/pam.d").join(PAM.0), PAM.1).unwrap();
                let mut command = Command::new(tool("vsftpd"));
                command.arg(&config);
                (self.vsftpd(), command)
            }
        };
        fs::write(&config, text).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        Process::start(&mut command, Signal::TERM, || self.answers())
    }

    /// With TLS from the first byte nothing greets before it is agreed on.
    fn answers(&self) -> bool {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port);
        let Ok(mut stream) = TcpStream::connect_timeout(&address.into(), Duration::from_secs(1)) else {
            return false;
        };
        if self.builder.implicit {
            return true;
        }
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut banner = [0; 3];
        stream.read_exact(&mut banner).is_ok() && &banner == b"220"
    }

    fn write_accounts(&self) {
        let hash =
            run(command("openssl", ["passwd", "-6", "-stdin"]).stdin(crate::tools::text(&self.password)));
        let hash = String::from_utf8(hash).unwrap();
        let (user, home) = (&self.user, self.home.display());
        let line = format!("{user}:{}:{VIRTUAL_ID}:{VIRTUAL_ID}::{home}:/bin/false\n", hash.trim());
        for (name, text) in [("passwd", line), ("group", format!("{user}:x:{VIRTUAL_ID}:\n"))] {
            let path = self.dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    fn proftpd(&self) -> String {
        let (dir, port) = (self.dir.path().display(), self.port);
        let (first, last) = (self.passive.start(), self.passive.end());
        let implicit = if self.builder.implicit { "TLSOptions UseImplicitSSL\n" } else { "" };
        format!(
            "ServerType standalone\nDefaultServer on\nDefaultAddress 127.0.0.1\nPort {port}\nUseIPv6 off\n\
             UseReverseDNS off\nWtmpLog off\nTransferLog none\nSystemLog {dir}/log\nPidFile {dir}/pid\n\
             ScoreboardFile {dir}/scoreboard\nUser nobody\nGroup nogroup\nMaxInstances 200\nRequireValidShell off\n\
             AuthOrder mod_auth_file.c\nAuthUserFile {dir}/passwd\nAuthGroupFile {dir}/group\nDefaultRoot ~\n\
             AllowRetrieveRestart on\nPassivePorts {first} {last}\nLoadModule mod_tls.c\n\
             <IfModule mod_delay.c>\nDelayEngine off\n</IfModule>\n{extra}TLSEngine on\nTLSLog {dir}/tls.log\n\
             TLSProtocol TLSv1.2 TLSv1.3\nTLSRSACertificateFile {dir}/cert.pem\n\
             TLSRSACertificateKeyFile {dir}/key.pem\nTLSVerifyClient off\nTLSRequired off\n{implicit}",
            extra = self.builder.extra,
        )
    }

    fn vsftpd(&self) -> String {
        let (dir, port, pam) = (self.dir.path().display(), self.port, PAM.0);
        let (first, last) = (self.passive.start(), self.passive.end());
        let implicit = if self.builder.implicit { "YES" } else { "NO" };
        format!(
            "listen=YES\nlisten_ipv6=NO\nbackground=NO\nlisten_address=127.0.0.1\nlisten_port={port}\n\
             anonymous_enable=NO\nlocal_enable=YES\nwrite_enable=NO\nchroot_local_user=YES\n\
             allow_writeable_chroot=YES\nsecure_chroot_dir={dir}/empty\npam_service_name={pam}\n\
             userlist_enable=NO\ncheck_shell=NO\npasv_enable=YES\npasv_min_port={first}\npasv_max_port={last}\n\
             utf8_filesystem=YES\nmax_clients=0\nmax_per_ip=0\nseccomp_sandbox=NO\nsession_support=NO\n\
             xferlog_enable=YES\nvsftpd_log_file={dir}/log\nssl_enable=YES\nallow_anon_ssl=NO\n\
             force_local_data_ssl=NO\nforce_local_logins_ssl=NO\nrsa_cert_file={dir}/cert.pem\n\
             rsa_private_key_file={dir}/key.pem\nrequire_ssl_reuse=YES\nimplicit_ssl={implicit}\n{extra}",
            extra = self.builder.extra,
        )
    }
}

impl Drop for Ftpd {
    fn drop(&mut self) {
        let sessions = self.process.as_ref().map(|process| descendants(process.pid())).unwrap_or_default();
        drop(self.process.take());
        sessions.into_iter().for_each(kill);
    }
}

/// Ports that no other server of these tests has: they are told by the control port's. Below those that Linux gives to clients.
fn passive_range(port: u16, count: u16) -> RangeInclusive<u16> {
    let first = 10_000 + (port % 50) * 200;
    first..=first + count - 1
}

/// Makes `cert.pem` and `key.pem` in `dir`: the authority's certificate, and the fingerprint of the server's.
fn certificate(dir: &Path, self_signed: bool) -> (String, String) {
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2";
    let openssl = |args: &str, names: &[&str]| {
        let mut command = command("openssl", args.split_whitespace());
        let _ = run(command.args(names).current_dir(dir).stderr(Stdio::piped()));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    if self_signed {
        openssl(
            &format!("req -x509 {key} -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost -addext"),
            &[names],
        );
        fs::copy(dir.join("cert.pem"), dir.join("ca.pem")).unwrap();
    } else {
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=Authority"), &[]);
        openssl(&format!("req {key} -keyout key.pem -out request.pem -subj /CN=localhost"), &[]);
        fs::write(dir.join("names"), format!("{names}\nbasicConstraints=CA:FALSE\n")).unwrap();
        let args = "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 30 -extfile names -out cert.pem";
        openssl(args, &[]);
    }
    fs::set_permissions(dir.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let args = ["x509", "-noout", "-fingerprint", "-sha256", "-in", "cert.pem"];
    let shown = String::from_utf8(run(command("openssl", args).current_dir(dir))).unwrap();
    let fingerprint = shown.trim().rsplit_once('=').unwrap().1.to_owned();
    (fs::read_to_string(dir.join("ca.pem")).unwrap(), fingerprint)
}
