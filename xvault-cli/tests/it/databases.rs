//! Databases, there and back on real servers, and everything that is typed wrong on the way.

use std::fs;
use std::path::PathBuf;

use xvault_testkit::databases::{MARIADB_SAMPLE, POSTGRES_SAMPLE};
use xvault_testkit::{Mariadb, Postgres};

use crate::world::{Ran, World, everything, text};

/// Debian's packages of database tools lag behind at times.
const TOOLS: &str = "--allow-outdated-tools";

/// A user who knows the password of a server.
struct Admin {
    world: World,
    password: String,
    file: PathBuf,
}

impl Admin {
    fn new(password: &str) -> Self {
        let world = World::new();
        let file = world.path("password");
        fs::write(&file, format!("{password}\n")).unwrap();
        Self { world, password: password.to_owned(), file }
    }

    fn run(&self, args: &[&str]) -> Ran {
        let ran = self.world.run(&[args, &["--password-file", text(&self.file), TOOLS]].concat());
        assert!(!everything(&ran).contains(&self.password), "{args:?} shows the password");
        ran
    }

    fn back_up(&self, source: &str) {
        let ran = self.run(&["backup", source, "--recipient", &self.world.recipient]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    fn restore(&self, to: &str, more: &[&str]) -> Ran {
        self.run(&[&["restore", "latest", "--to", to], more].concat())
    }

    /// The restore is refused, with all of `parts` in what is said.
    fn refused(&self, to: &str, more: &[&str], parts: &[&str]) {
        refused(&self.restore(to, more), parts);
    }
}

fn refused(ran: &Ran, parts: &[&str]) {
    assert!(ran.code == 1 || ran.code == 2, "{ran:?}");
    for part in parts {
        assert!(ran.stderr.contains(part), "no {part:?}: {ran:?}");
    }
}

/// What `ls` shows of the dump, and that the dump in the snapshot is loaded and told as JSON.
fn there_and_back(admin: &Admin, server: &str, name: &str, dump: &str) {
    admin.back_up(&format!("{server}/{name}"));
    let listed = admin.world.ok(&["ls", "latest"]);
    assert!(listed.stdout.contains(dump), "{listed:?}");
    let to = format!("{server}/copy_of_{name}");
    admin.refused(&to, &[], &["does not exist", "--create"]);
    let done = admin.restore(&to, &["--create", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let told: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&told["created"], &told["path"]), (&true.into(), &dump.into()), "{told}");
    admin.refused(&to, &[], &["not empty", "--overwrite always"]);
}

#[test]
fn a_postgresql_database_comes_back_into_one_that_is_made() {
    let server = Postgres::shared();
    let url = server.create_database();
    let _ = server.psql(&url, POSTGRES_SAMPLE);
    let name = url.rsplit('/').next().unwrap();
    let admin = Admin::new(server.password());
    let at = format!("postgres://postgres@127.0.0.1:{}", server.port);
    there_and_back(&admin, &at, name, &format!("database/{name}.dump"));
    let copy = format!("copy_of_{name}");
    assert_eq!(server.checksums(&copy), server.checksums(&url));
    let _ = server.psql(&copy, "DELETE FROM child");
    let again = admin.restore(&format!("{at}/{copy}"), &["--overwrite", "always"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(server.checksums(&copy), server.checksums(&url));
    let mysql = format!("mysql://{}@127.0.0.1:{}/other", Mariadb::USER, Mariadb::shared().port);
    fs::write(&admin.file, &Mariadb::shared().password).unwrap();
    admin.refused(&mysql, &["--create"], &["can be loaded into MySQL"]);
}

#[test]
fn a_mysql_database_comes_back_into_one_that_is_made() {
    let server = Mariadb::shared();
    let name = server.create_database();
    let _ = server.sql(&name, MARIADB_SAMPLE);
    let admin = Admin::new(&server.password);
    let at = format!("mysql://{}@127.0.0.1:{}", Mariadb::USER, server.port);
    there_and_back(&admin, &at, &name, &format!("database/{name}.sql"));
    let copy = format!("copy_of_{name}");
    assert_eq!(server.checksums(&copy), server.checksums(&name));
}

#[test]
fn what_can_not_be_a_source_is_told_by_its_name() {
    let world = World::new();
    let ca = world.path("no-such.pem");
    let cases: [(&[&str], &[&str]); 15] = [
        (&["postgres://u:secret@h/db"], &["a password does not belong into the URL", "--password-file"]),
        (&["mysql://127.0.0.1/db"], &["names no user", "mysql://user@host/database"]),
        (&["postgres://u@h:port/db"], &["`port` is no port"]),
        (&["postgres://u@h/db", "--exclude", "x"], &["--exclude-table"]),
        (&["mysql://u@h/db", "--schema", "x"], &["for PostgreSQL"]),
        (&["mysql://u@h/db", "--plain-sql"], &["for PostgreSQL"]),
        (&["mysql://u@h/db", "--globals"], &["for PostgreSQL"]),
        (&["mysql://u@h/db", "--exclude-schema", "x"], &["for PostgreSQL"]),
        (&["mysql://u@h/db", "--lock-timeout", "3"], &["for PostgreSQL"]),
        (&["postgres://u@h/db", "--lock-timeout", "0"], &["lock_timeout_seconds", "between 1 and 86400"]),
        (&["mysql://u@h/db", "--remote-tools"], &["--via"]),
        (&["mysql://u@h/db", "--via", "sftp://u@h"], &["ssh://user@host:port"]),
        (&["mysql://u@h/db", "--via", "ssh://u@h/x"], &["ssh://user@host:port"]),
        (&["postgres://u@h/db?sslmode=disable"], &["--tls"]),
        (&["mysql://u@h/db", "--tls-ca", text(&ca)], &["no-such.pem"]),
    ];
    for (args, parts) in cases {
        let ran = world.run(&[&["backup", "--recipient", &world.recipient], args].concat());
        refused(&ran, parts);
        assert!(!everything(&ran).contains("secret"), "{ran:?}");
    }
    assert_eq!(world.snapshot_dirs().len(), 0);
}

#[test]
fn a_wrong_password_a_missing_database_and_a_dead_server_leave_no_snapshot() {
    let (postgres, mysql) = (Postgres::shared(), Mariadb::shared());
    let (good, user) = (Admin::new(postgres.password()), Mariadb::USER);
    let backup = |admin: &Admin, url: &str| {
        let ran = admin.run(&["backup", url, "--recipient", &admin.world.recipient]);
        assert_eq!(admin.world.snapshot_dirs().len(), 0, "{ran:?}");
        ran
    };
    let wrong = Admin::new("not it at all");
    let postgres = |name: &str| format!("postgres://postgres@127.0.0.1:{}/{name}", postgres.port);
    let mysql = format!("mysql://{user}@127.0.0.1:{}/mysql", mysql.port);
    let hint = "xvault: the password is given by --password-file FILE or XVAULT_PASSWORD";
    for url in [&postgres("postgres"), &mysql] {
        let without = good.world.run(&["probe", url, TOOLS]);
        for ran in [backup(&wrong, url), without] {
            refused(&ran, &["password", hint]);
            assert!(!ran.stderr.contains("/proc/self") && !ran.stderr.contains("/dev/null"), "{ran:?}");
        }
    }
    refused(&backup(&good, &postgres("no_such")), &["no_such"]);
    refused(&backup(&good, "postgres://postgres@127.0.0.1:1/x"), &["127.0.0.1:1"]);
    let plain = good.run(&["probe", &postgres("postgres"), "--tls", "require"]);
    refused(&plain, &["TLS with 127.0.0.1:", "--tls disable"]);
}

#[test]
fn what_can_not_be_loaded_is_refused_before_anything_is_touched() {
    let server = Postgres::shared();
    let admin = Admin::new(server.password());
    let tree = admin.world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    admin.world.backup(text(&tree), &[]);
    let at = format!("postgres://postgres@127.0.0.1:{}", server.port);
    let never = format!("{at}/never_made");
    admin.refused(&never, &["--create"], &["holds no dump", "xvault ls"]);
    admin.refused(&never, &["--create", "database/x.dump"], &["database/x.dump"]);
    admin.refused(&never, &["--create", "a", "b"], &["name one path"]);
    admin.refused(&at, &["--create"], &["names no database"]);
    admin.refused("postgres://u:secret@h/db", &[], &["a password does not belong into the URL"]);
    admin.refused("mysql://h/db", &[], &["names no user"]);
    let there = "SELECT count(*) FROM pg_database WHERE datname = 'never_made'";
    assert_eq!(server.psql("postgres", there), "0\n");
}

/// A process's own peak, in KiB; its children's do not count, nor does the program's file, of which a development build has 40 MiB in memory.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(kib("VmHWM:")?.saturating_sub(kib("RssFile:")?))
}

/// Runs to the end; gives the peak of the program itself.
fn peak_of(mut command: std::process::Command) -> u64 {
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut highest = 0;
    let status = loop {
        highest = peak(child.id()).unwrap_or(0).max(highest);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(status.success(), "{command:?}: {status}");
    highest
}

/// The row is held by server and tool, and never by us.
#[test]
fn a_row_of_a_hundred_mebibytes_comes_and_goes_in_little_memory() {
    // Below the 96 MiB that are promised, whatever of a release build's file is in memory.
    const MOST_KIB: u64 = 72 << 10;
    let make =
        "CREATE TABLE wide (body LONGTEXT); INSERT INTO wide VALUES (REPEAT('0123456789abcdef', 6553600))";
    let (postgres, mysql) = (Postgres::shared(), Mariadb::shared());
    let (url, name) = (postgres.create_database(), mysql.create_database());
    let _ = postgres.psql(&url, &make.replace("LONGTEXT", "text"));
    let _ = mysql.sql(&name, make);
    let sum = "SELECT length(body), md5(body) FROM wide";
    let expected = (postgres.psql(&url, sum), mysql.sql(&name, sum));
    assert!(expected.0.starts_with("104857600|") && expected.1.starts_with("104857600\t"), "{expected:?}");
    let database = url.rsplit('/').next().unwrap();
    for (at, name, password) in [
        (format!("postgres://postgres@127.0.0.1:{}", postgres.port), database, postgres.password()),
        (format!("mysql://{}@127.0.0.1:{}", Mariadb::USER, mysql.port), name.as_str(), &mysql.password),
    ] {
        let admin = Admin::new(password);
        let (file, world) = (text(&admin.file).to_owned(), &admin.world);
        let login = ["--password-file", &file, TOOLS, "--quiet"];
        let (source, copy) = (format!("{at}/{name}"), format!("{at}/{name}_wide"));
        let backup = ["backup", &source, "--recipient", &world.recipient];
        let restore = ["restore", "latest", "--to", &copy, "--create"];
        for args in [&backup[..], &restore[..]] {
            let peak = peak_of(world.command(&[args, &login].concat()));
            assert!((1 << 10..MOST_KIB).contains(&peak), "{args:?} took {peak} KiB");
        }
    }
    let found = (postgres.psql(&format!("{database}_wide"), sum), mysql.sql(&format!("{name}_wide"), sum));
    assert_eq!(found, expected);
}
