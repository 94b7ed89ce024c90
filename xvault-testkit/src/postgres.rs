//! A private PostgreSQL on a free loopback port.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::server::{Guarded, free_port, log, wait_ready};
use crate::tools::{command, run};

/// The super-user's password: long enough to be found when it leaks.
const PASSWORD: &str = "pg-password-of-the-tests";

/// A running server; stopped, and its files removed, on drop and when the test's process ends.
#[derive(Debug)]
pub struct Postgres {
    /// The port on 127.0.0.1.
    pub port: u16,
    durable: bool,
    dir: PathBuf,
    server: Option<Guarded>,
}

impl Postgres {
    /// A server that forgets what it was told when it is killed by the kernel: fast, for tests.
    ///
    /// # Panics
    /// When PostgreSQL is missing or does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::with_durability(false)
    }

    /// A server with PostgreSQL's own defaults of durability, for measurements.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    #[must_use]
    pub fn durable() -> Self {
        Self::with_durability(true)
    }

    /// One server for all tests of this process; ask it for databases.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn with_durability(durable: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("xvt-postgres").tempdir().unwrap().keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let mut postgres = Self { port: 0, durable, dir, server: None };
        postgres.init();
        for _ in 0..10 {
            postgres.port = free_port();
            if postgres.launch() {
                return postgres;
            }
        }
        panic!("postgres did not start: {}", log(&postgres.dir));
    }

    fn init(&self) {
        let password = self.dir.join("password");
        fs::write(&password, PASSWORD).unwrap();
        if rustix::process::geteuid().is_root() {
            let _ = run(&mut command("chown", [Path::new("-R"), Path::new("postgres:"), &self.dir]));
        }
        let data = self.dir.join("data");
        let mut args = as_postgres(&program("initdb"));
        args.extend(
            ["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
                .map(String::from),
        );
        args.extend(["-D".into(), data.display().to_string()]);
        args.extend(["--pwfile".into(), password.display().to_string()]);
        let _ = run(Command::new(&args[0]).args(&args[1..]).current_dir("/").stdin(Stdio::null()));
    }

    /// Whether the server answers.
    fn launch(&mut self) -> bool {
        let mut args = as_postgres(&program("postgres"));
        args.extend(["-D".into(), self.dir.join("data").display().to_string()]);
        let mut options = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            "unix_socket_directories=".to_owned(),
            "max_connections=200".to_owned(),
            "shared_buffers=64MB".to_owned(),
        ];
        if !self.durable {
            options.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"].map(String::from));
        }
        args.extend(options.into_iter().flat_map(|option| ["-c".to_owned(), option]));
        let server = Guarded::start(&self.dir, "INT", &args);
        let port = self.port.to_string();
        let up = wait_ready(&server, || {
            let mut ready = Command::new(program("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port]);
            ready.status().is_ok_and(|status| status.success())
        });
        if up {
            self.server = Some(server);
        } else {
            server.stop();
        }
        up
    }

    /// The URL of database `name`, with the password.
    #[must_use]
    pub fn url_of(&self, name: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{name}", self.port)
    }

    /// Makes an empty database, and gives its URL.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn create_database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let _ = self.psql("postgres", &format!("CREATE DATABASE {name}"));
        self.url_of(&name)
    }

    /// Runs one statement with the real `psql`, and gives what it prints: rows without heading, columns parted by `|`.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn psql(&self, database: &str, statement: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h", "127.0.0.1"]);
        psql.args(["-p", &self.port.to_string(), "-d", database, "-c", statement]);
        String::from_utf8(run(psql.env("PGPASSWORD", PASSWORD).stdin(Stdio::null()))).unwrap()
    }

    /// Everything in the database of `url`, as `pg_dump` writes it.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn dump(&self, url: &str) -> Vec<u8> {
        let name = url.rsplit('/').next().unwrap();
        let mut dump = Command::new(program("pg_dump"));
        dump.args(["-U", "postgres", "-h", "127.0.0.1", "-p", &self.port.to_string(), name]);
        run(dump.env("PGPASSWORD", PASSWORD).stdin(Stdio::null()))
    }

    /// Stops it in the middle of everything, as an operator's `pg_ctl stop -m fast` would; connections break.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }

    /// Stops it if it runs, and starts it on the same port with the same data.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.stop();
        assert!(self.launch(), "postgres did not start again: {}", log(&self.dir));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.take().is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A program of the newest PostgreSQL of this machine; Debian keeps them out of the path.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.is_file()).max();
    found.unwrap_or_else(|| panic!("`{name}` is missing: install Debian package postgresql"))
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Vec<String> {
    let mut argv = Vec::new();
    if rustix::process::geteuid().is_root() {
        let setpriv = crate::tools::tool("setpriv").display().to_string();
        argv.push(setpriv);
        argv.extend(["--reuid=postgres", "--regid=postgres", "--clear-groups"].map(String::from));
    }
    argv.push(program.display().to_string());
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_it_was_told_over_a_restart() {
        let mut postgres = Postgres::start();
        let url = postgres.create_database();
        let name = url.rsplit('/').next().unwrap().to_owned();
        let _ = postgres.psql(&name, "CREATE TABLE t (x TEXT)");
        let _ = postgres.psql(&name, "INSERT INTO t VALUES ('hello')");
        postgres.restart();
        assert_eq!(postgres.psql(&name, "SELECT x FROM t").trim(), "hello");
        assert!(String::from_utf8(postgres.dump(&url)).unwrap().contains("hello"));
        let dir = postgres.dir.clone();
        drop(postgres);
        assert!(!dir.exists());
    }
}
