//! A private MariaDB, or MySQL, on a free loopback port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::databases::MARIADB_CHECKSUMS;
use crate::keeper::Keeper;
use crate::lent::Lent;
use crate::server::{Process, on_free_port, random_password};
use crate::tools::{command, own_folder, run, text, tool};
use crate::user::ids_of;

/// Whom it runs as when the tests run as root.
const SYSTEM_USER: &str = "mysql";

/// The user of the tests, who may do everything.
const USER: &str = "xvt";

/// Small, and without waiting for the disk.
const FAST: [&str; 4] = [
    "--innodb-buffer-pool-size=64M",
    "--innodb-flush-log-at-trx-commit=0",
    "--max-allowed-packet=1G",
    "--skip-name-resolve",
];

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    Mariadb,
    Mysql,
}

impl Make {
    /// What only this one knows, or needs more of.
    fn options(self) -> Vec<String> {
        match self {
            Self::Mariadb => [
                "--innodb-log-file-size=8M",
                "--innodb-flush-method=nosync",
                "--sync-frm=OFF",
                // The log of CREATE and DROP waits for the disk four times a table otherwise.
                "--debug-no-sync",
            ]
            .map(str::to_owned)
            .to_vec(),
            Self::Mysql => {
                let share = Mariadb::mysql_programs().parent().unwrap().join("share");
                let place = |option, path: &Path| format!("--{option}={}", path.display());
                vec![
                    place("lc-messages-dir", &share),
                    place("character-sets-dir", &share.join("charsets")),
                    "--secure-file-priv=".to_owned(),
                    "--mysqlx=OFF".to_owned(),
                    "--innodb-redo-log-capacity=32M".to_owned(),
                    "--innodb-doublewrite=OFF".to_owned(),
                    "--performance-schema=OFF".to_owned(),
                ]
            }
        }
    }

    fn server(self) -> PathBuf {
        match self {
            Self::Mariadb => tool("mariadbd"),
            Self::Mysql => Mariadb::mysql_programs().join("mysqld"),
        }
    }
}

/// A running server that asks for a password; it is ended, and its directory removed, on drop and when the test process ends.
#[derive(Debug)]
pub struct Mariadb {
    /// The port on 127.0.0.1; the same after a restart.
    pub port: u16,
    /// The password of [`Mariadb::USER`].
    pub password: String,
    make: Make,
    options: Vec<String>,
    databases: AtomicU32,
    process: Option<Process>,
    keeper: Keeper,
}

impl Mariadb {
    /// Who may do everything.
    pub const USER: &'static str = USER;

    /// A server of its own: five seconds.
    ///
    /// # Panics
    /// When MariaDB is missing or does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Mariadb::start`], with options of the server's program.
    ///
    /// # Panics
    /// As [`Mariadb::start`].
    #[must_use]
    pub fn start_with(options: &[&str]) -> Self {
        Self::launch(Make::Mariadb, options)
    }

    /// Genuine MySQL, with options of its program. Its users, and what it is asked, are the same.
    ///
    /// # Panics
    /// When it is missing (`scripts/setup full` brings it) or does not come up.
    #[must_use]
    pub fn start_mysql_with(options: &[&str]) -> Self {
        Self::launch(Make::Mysql, options)
    }

    /// Where the programs lie of the MySQL that `scripts/setup full` gets. Every user may run them.
    ///
    /// # Panics
    /// When it was not installed.
    #[must_use]
    pub fn mysql_programs() -> PathBuf {
        static MYSQL: LazyLock<Lent> = LazyLock::new(|| {
            let folder = own_folder("mysql").unwrap_or_default();
            assert!(folder.is_dir(), "MySQL is missing: run `scripts/setup full`, which unpacks it");
            Lent::of(&[folder])
        });
        MYSQL.path("mysql/bin")
    }

    fn launch(make: Make, options: &[&str]) -> Self {
        let mut mariadb = Self {
            port: 0,
            password: random_password(),
            make,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            databases: AtomicU32::new(0),
            process: None,
            keeper: Keeper::new("xvt-mariadb", Signal::KILL),
        };
        mariadb.make_data();
        let process = on_free_port(|port| {
            mariadb.port = port;
            mariadb.process()
        });
        assert!(process.is_some(), "{make:?} did not start: {}", mariadb.log());
        mariadb.process = process;
        mariadb
    }

    /// The one server of this test process, started at the first call. Take [`Mariadb::create_database`] of it.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Mariadb> = LazyLock::new(Mariadb::start);
        &SHARED
    }

    fn make_data(&self) {
        let init = self.path("init.sql");
        let pw = &self.password;
        fs::write(
            &init,
            format!(
                "CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{pw}';\n\
                 GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;\n\
                 DROP USER IF EXISTS root@localhost, root@'127.0.0.1', root@'::1';\n"
            ),
        )
        .unwrap();
        if rustix::process::geteuid().is_root() {
            let ids = ids_of(SYSTEM_USER);
            let (uid, gid) =
                ids.expect("system user mysql is missing: install Debian package mariadb-server");
            for path in [self.keeper.path(), &init] {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        let mut install = self.installer();
        install.args(self.owner()).arg(format!("--datadir={}", self.path("data").display()));
        let _ = run(&mut install);
    }

    fn installer(&self) -> Command {
        let mut install = match self.make {
            Make::Mariadb => {
                command("mariadb-install-db", ["--no-defaults", "--skip-test-db", "--skip-name-resolve"])
            }
            Make::Mysql => Command::new(self.make.server()),
        };
        match self.make {
            // As in `process`: another server that starts would remove its temporary tables.
            Make::Mariadb => install.args([
                "--auth-root-authentication-method=normal".to_owned(),
                format!("--tmpdir={}", self.path("data").display()),
            ]),
            Make::Mysql => install.args(["--no-defaults", "--initialize-insecure"]).stdin(Stdio::null()),
        };
        install.args(self.make.options());
        install
    }

    fn owner(&self) -> Option<String> {
        rustix::process::geteuid().is_root().then(|| format!("--user={SYSTEM_USER}"))
    }

    fn process(&self) -> Option<Process> {
        let mut command = self.keeper.server(&self.make.server());
        command.arg("--no-defaults").args(self.owner()).args(FAST).args(self.make.options());
        command.args([format!("--port={}", self.port), "--bind-address=127.0.0.1".to_owned()]);
        // A server that starts removes temporary tables from its directory for them, those of others, too.
        let files = [
            ("datadir", "data"),
            ("tmpdir", "data"),
            ("socket", "s"),
            ("pid-file", "server.pid"),
            ("init-file", "init.sql"),
        ];
        command.args(files.map(|(option, name)| format!("--{option}={}", self.path(name).display())));
        command.args(&self.options);
        Process::start(&mut command, Signal::TERM, || self.answers())
    }

    fn answers(&self) -> bool {
        let mut client = self.client("", "SELECT 1");
        client.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Makes an empty database and returns its name.
    #[must_use]
    pub fn create_database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let _ = self.sql("", &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"));
        name
    }

    /// Runs `sql` in `database` (or in none) through the client: the rows, a line each, columns parted by tabs.
    ///
    /// # Panics
    /// When `sql` fails; the message is the server's.
    #[must_use]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        String::from_utf8_lossy(&run(&mut self.client(database, sql))).into_owned()
    }

    fn client(&self, database: &str, sql: &str) -> Command {
        let port = format!("--port={}", self.port);
        let user = format!("--user={USER}");
        let place = ["--no-defaults", "--host=127.0.0.1", "--protocol=tcp", &port, &user];
        let mut command = command("mariadb", place);
        command.args([
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
        ]);
        command.env("MYSQL_PWD", &self.password).stdin(text(sql)).arg("--").arg(database);
        command
    }

    /// Everything in `database`, a line each: tables with a checksum over every row, and what defines everything else.
    /// Two databases with the same lines hold the same.
    ///
    /// # Panics
    /// When the server does not answer.
    #[must_use]
    pub fn checksums(&self, database: &str) -> String {
        let statements = self.sql(database, &format!("SET NAMES utf8mb4; {MARIADB_CHECKSUMS}"));
        // The client's escapes of line breaks are undone: it parts rows by them.
        let statements = statements.replace("\\n", "\n");
        self.sql(database, &format!("SET group_concat_max_len = 100000000; {statements}"))
    }

    /// Ends the server; connections are refused until [`Mariadb::restart`].
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Stops, and starts on the same port with the same data.
    ///
    /// # Panics
    /// When the port is lost to somebody else meanwhile.
    pub fn restart(&mut self) {
        self.stop();
        self.process = self.process();
        assert!(self.process.is_some(), "it did not start again: {}", self.log());
    }

    /// What the server logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.keeper.log()
    }

    /// The socket that it listens on, too.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("s")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.keeper.path()).join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::databases::MARIADB_SAMPLE;

    #[test]
    fn checksums_see_every_change() {
        let mariadb = Mariadb::shared();
        let (one, two) = (mariadb.create_database(), mariadb.create_database());
        for database in [&one, &two] {
            let _ = mariadb.sql(database, MARIADB_SAMPLE);
        }
        let mut checksums = mariadb.checksums(&one);
        assert_eq!(checksums, mariadb.checksums(&two));
        for word in
            ["column\t", "key\t", "constraint\t", "view\t", "routine\t", "trigger\t", "event\t", "table\t"]
        {
            assert!(checksums.contains(word), "{word}: {checksums}");
        }
        for change in [
            "UPDATE plain SET raw = '' WHERE id = 1000",
            "UPDATE plain SET bits = NULL WHERE bits = 0 AND id = 32",
            "DELETE FROM child WHERE id = 1",
            "SELECT NEXTVAL(counter)",
            "ALTER SEQUENCE counter INCREMENT 5",
            "DROP SEQUENCE counter",
            "ALTER TABLE latin CONVERT TO CHARACTER SET utf8mb4",
            "ALTER TABLE latin DEFAULT CHARACTER SET latin1",
            "ALTER TABLE empty COMMENT 'another'",
            "ALTER TABLE empty ENGINE = MyISAM",
            "ALTER TABLE empty ADD CHECK (a > 1)",
            "ALTER TABLE `UPPER Case` DROP KEY `odd key`, ADD UNIQUE KEY `odd key` (area)",
            "ALTER TABLE child DROP FOREIGN KEY `fk '`; ALTER TABLE child ADD CONSTRAINT `fk '` FOREIGN KEY (parent) REFERENCES parent (id)",
            "ALTER TABLE parts REORGANIZE PARTITION a, b INTO (PARTITION a VALUES LESS THAN MAXVALUE)",
            "CREATE OR REPLACE SQL SECURITY INVOKER VIEW sums AS SELECT mood, COUNT(*) AS `how many?` FROM plain GROUP BY mood",
            "CREATE OR REPLACE FUNCTION `add it`(a INT, b BIGINT) RETURNS INT DETERMINISTIC RETURN a + b",
            "CREATE OR REPLACE FUNCTION `add it`(a INT, b BIGINT) RETURNS BIGINT DETERMINISTIC RETURN a + b",
            "DROP FUNCTION `add it`",
            "DROP PROCEDURE nothing",
            "ALTER EVENT `every year` ENABLE",
            "ALTER EVENT `every year` ON SCHEDULE EVERY 2 YEAR STARTS '2037-01-01 00:00:00'",
            "DROP EVENT `every year`",
            "CREATE OR REPLACE TRIGGER `stamp it` BEFORE UPDATE ON `UPPER Case` FOR EACH ROW SET NEW.w = COALESCE(NEW.w, 0)",
            "DROP TRIGGER `stamp it`",
            "DROP VIEW sums",
        ] {
            let _ = mariadb.sql(&two, change);
            let after = mariadb.checksums(&two);
            assert_ne!(checksums, after, "{change}");
            checksums = after;
        }
    }
}
