//! Each recipe runs for real, and says what it should.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use xvault_testkit::databases::POSTGRES_SAMPLE;
use xvault_testkit::tools::{age_decrypt_untar, age_keygen};
use xvault_testkit::{
    FtpKind, Ftpd, Mariadb, Postgres, Sshd, TreeOptions, Wordpress, assert_same_tree, tools, trees,
};

/// What the program prints; it must succeed.
fn output<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> String {
    String::from_utf8(tools::run(Command::new(program).args(args))).unwrap()
}

/// What the program prints to standard error; it must fail.
fn failure(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn backup_directory_restores_what_it_backed_up() {
    let dir = tempfile::tempdir().unwrap();
    let [tree, store, out] = ["tree", "store", "out"].map(|name| dir.path().join(name));
    trees::small_files(&tree, 30, 2000);
    let program = env!("CARGO_BIN_EXE_backup_directory");
    let printed = output(program, [&tree, &store, &out]);
    let lines: Vec<_> = printed.lines().collect();
    let [snapshot, listed, restored] = lines.as_slice() else { panic!("{printed}") };
    assert!(snapshot.ends_with(" holds 30 files"), "{printed}");
    assert!(listed.ends_with(" bytes stored"), "{printed}");
    assert_eq!(snapshot.split(' ').nth(1), listed.split(' ').next());
    assert_eq!(*restored, "restored 30 files");
    assert_same_tree(&tree, &out.join(tree.strip_prefix("/").unwrap()), &TreeOptions::default());
    assert!(failure(program, &["only one"]).contains("usage: backup_directory DIR STORE TARGET"));
}

#[test]
fn backup_server_pulls_over_sftp_and_refuses_another_host_key() {
    let (sshd, dir) = (Sshd::builder().start(), tempfile::tempdir().unwrap());
    let tree = sshd.home.join("tree");
    trees::small_files(&tree, 12, 1000);
    let store = dir.path().join("store");
    let port = sshd.port.to_string();
    let args = |host_key: &str| {
        let text = |path: &Path| path.display().to_string();
        let (key, tree, store) = (text(&sshd.key_path), text(&tree), text(&store));
        ["127.0.0.1", &port, &sshd.user, &key, host_key, &tree, &store].map(str::to_owned)
    };
    let program = env!("CARGO_BIN_EXE_backup_server");
    let printed = output(program, args(&sshd.host_key.fingerprint));
    assert_eq!(printed, "12 files, 12000 bytes, 0 warnings\n");
    assert_eq!(artifacts(&store), 1);

    let other = format!("SHA256:{}", "A".repeat(43));
    let args = args(&other);
    let refused = failure(program, &args.each_ref().map(String::as_str));
    assert!(refused.contains("CHANGED") && refused.contains(&sshd.host_key.fingerprint), "{refused}");
    assert_eq!(artifacts(&store), 1);
}

#[test]
fn backup_wordpress_tells_what_it_found_and_takes_it_all() {
    let (sshd, dir) = (Sshd::builder().start(), tempfile::tempdir().unwrap());
    let root = sshd.home.join("html");
    let site = Wordpress::install(Mariadb::shared(), &root);
    site.give_to(sshd.ids());
    let (port, store) = (sshd.port.to_string(), dir.path().join("store"));
    let [key, root, place] = [&sshd.key_path, &root, &store].map(|path| path.display().to_string());
    let args = ["127.0.0.1", &port, &sshd.user, &key, &sshd.host_key.fingerprint, &root, &place];
    let printed = output(env!("CARGO_BIN_EXE_backup_wordpress"), args);
    assert!(printed.contains("WordPress 6.") && printed.contains(&site.database), "{printed}");
    assert!(printed.ends_with(" bytes, 0 warnings\n") && artifacts(&store) == 1, "{printed}");
}

#[test]
fn backup_ftp_shows_a_certificate_and_takes_it_when_it_is_pinned() {
    let (ftpd, dir) = (Ftpd::builder(FtpKind::Proftpd).self_signed().start(), tempfile::tempdir().unwrap());
    trees::small_files(&ftpd.home.join("www"), 12, 1000);
    ftpd.give(&ftpd.home.join("www"));
    let (store, port) = (dir.path().join("store"), ftpd.port.to_string());
    let password = secret_file(dir.path(), "password", &ftpd.password);
    let args = ["127.0.0.1", &port, &ftpd.user, &password, "/www", store.to_str().unwrap()];
    let program = env!("CARGO_BIN_EXE_backup_ftp");
    let refused = failure(program, &args);
    assert!(refused.contains(&format!("pin it with {}", ftpd.fingerprint)), "{refused}");
    let printed = output(program, [&args[..], &[&ftpd.fingerprint]].concat());
    assert!(printed.ends_with("12 files, 12000 bytes, 0 warnings\n"), "{printed}");
    assert_eq!(artifacts(&store), 1);
}

#[test]
fn backup_postgres_gives_an_equal_database() {
    let (server, dir) = (Postgres::shared(), tempfile::tempdir().unwrap());
    let url = server.create_database();
    let _ = server.psql(&url, POSTGRES_SAMPLE);
    let (name, store) = (url.rsplit('/').next().unwrap(), dir.path().join("store"));
    let password = secret_file(dir.path(), "password", server.password());
    let port = server.port.to_string();
    let args = ["127.0.0.1", &port, "postgres", &password, name, store.to_str().unwrap(), "a copy"];
    let printed = output(env!("CARGO_BIN_EXE_backup_postgres"), args);
    assert!(printed.ends_with(&format!("database/{name}.dump went into a copy\n")), "{printed}");
    assert_eq!(server.checksums("a copy"), server.checksums(&url));
}

#[test]
fn backup_mysql_runs_the_tools_of_the_server_and_names_doubtful_tables() {
    let (server, sshd, dir) = (Mariadb::shared(), Sshd::builder().start(), tempfile::tempdir().unwrap());
    let name = server.create_database();
    let _ = server.sql(&name, "CREATE TABLE t (a INT); CREATE TABLE old (a INT) ENGINE=MyISAM");
    let (store, password) = (dir.path().join("store"), secret_file(dir.path(), "password", &server.password));
    let (ssh_port, port) = (sshd.port.to_string(), server.port.to_string());
    let (key, fingerprint) = (sshd.key_path.to_str().unwrap(), &sshd.host_key.fingerprint);
    let ssh = ["127.0.0.1", &ssh_port, &sshd.user, key, fingerprint];
    let database = [&port, Mariadb::USER, &password, &name, store.to_str().unwrap()];
    let printed = output(env!("CARGO_BIN_EXE_backup_mysql"), [ssh, database].concat());
    assert!(printed.contains("of the SSH server") && printed.contains("`old (MyISAM)`"), "{printed}");
    assert!(printed.ends_with("bytes of dump, Partial\n"), "{printed}");
    assert_eq!(artifacts(&store), 1);
}

fn secret_file(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, format!("{content}\n")).unwrap();
    path.display().to_string()
}

/// How many snapshots lie in the store.
fn artifacts(store: &Path) -> usize {
    let listed = tools::run(&mut tools::command(
        "find",
        [store.as_os_str(), "-name".as_ref(), "*.tar.zst.enc".as_ref()],
    ));
    String::from_utf8(listed).unwrap().lines().count()
}

#[test]
fn own_source_reads_its_dump_as_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let printed = output(env!("CARGO_BIN_EXE_own_source"), [dir.path()]);
    let bytes: usize = (0..1_000_000_u64).map(|row| format!("{row},{}\n", row * row).len()).sum();
    assert_eq!(printed, format!("{} bytes, last line: -- complete\n", bytes + "-- complete\n".len()));
}

#[test]
fn artifact_alone_reads_one_note_and_so_do_the_tools() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, _) = age_keygen(dir.path());
    let [artifact, index, out] = ["artifact", "index", "out"].map(|name| dir.path().join(name));
    let printed = output(env!("CARGO_BIN_EXE_artifact_alone"), [&artifact, &index, &identity]);
    let lines: Vec<_> = printed.lines().collect();
    assert!(lines[0].starts_with("1000 files, "), "{printed}");
    assert_eq!(lines[1..], ["notes/0500.txt: this is note 500"]);
    age_decrypt_untar(&artifact, &identity, &out);
    assert_eq!(fs::read_to_string(out.join("notes/0999.txt")).unwrap(), "this is note 999\n");
}

#[test]
fn find_file_finds_a_name_in_every_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, recipient) = age_keygen(dir.path());
    let (store, tree) = (dir.path().join("store"), dir.path().join("tree"));
    fs::create_dir_all(tree.join("deep")).unwrap();
    fs::write(tree.join("deep/needle.txt"), "twelve bytes").unwrap();
    fs::write(tree.join("hay.txt"), "").unwrap();
    for _ in 0..2 {
        back_up(&tree, &store, &recipient);
    }
    let program = env!("CARGO_BIN_EXE_find_file");
    let found = |name: &str| output(program, [store.as_os_str(), identity.as_os_str(), name.as_ref()]);
    let printed = found("needle.txt");
    let tree = tree.display().to_string();
    let end = format!("            12  {}/deep/needle.txt", tree.trim_start_matches('/'));
    assert_eq!(printed.lines().filter(|line| line.ends_with(&end)).count(), 2, "{printed}");
    assert_eq!(printed.lines().count(), 2, "{printed}");
    assert_eq!(found("needle"), "");
}

#[test]
fn own_retention_says_what_goes_and_deletes_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let dumps = [
        (
            "shop-20261124-100000.sql.gz",
            "rows",
            "keep  the last good snapshot; younger than 12 h; 1st of 3 last",
        ),
        ("shop-20261124-030000.sql.gz", "", "keep  younger than 12 h"),
        ("shop-20261123-230000.sql.gz", "rows", "delete  no rule keeps it"),
        ("shop-20261101-030000.sql.gz", "", "delete  failed: counts for no rule"),
        ("shop-20261031-030000.sql.gz", "rows", "keep  newest of month 2026-10"),
    ];
    // Newer ones that take the three places, and the places of days and months.
    let newer =
        ["20261124-090000", "20261124-080000", "20261123-233000"].map(|at| format!("shop-{at}.sql.gz"));
    for (name, content) in dumps
        .map(|(name, content, _)| (name.to_owned(), content))
        .into_iter()
        .chain(newer.map(|name| (name, "rows")))
    {
        fs::write(dir.path().join(name), content).unwrap();
    }
    fs::write(dir.path().join("notes.txt"), "none of its business").unwrap();
    let run = |more: &[&str]| {
        let program = env!("CARGO_BIN_EXE_own_retention");
        let args = ["-m", "2026-11-24 12:00:00", program, dir.path().to_str().unwrap()];
        let mut command = tools::command("faketime", args);
        String::from_utf8(tools::run(command.args(more).env("TZ", "UTC"))).unwrap()
    };
    let printed = run(&[]);
    for (name, _, said) in dumps {
        let stem = name.trim_end_matches(".sql.gz");
        assert!(
            printed.lines().any(|line| line.starts_with(&format!("{stem}  {said}"))),
            "{name}: {printed}"
        );
    }
    assert!(printed.ends_with("6 to keep, 2 to delete\n"), "{printed}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 9, "it only said so");
    assert_eq!(run(&["--delete"]), printed);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 7);
    assert!(!dir.path().join(dumps[2].0).exists() && dir.path().join(dumps[4].0).exists());
}

#[test]
fn gfs_picture_draws_the_picture_of_the_documentation() {
    let drawn = output(env!("CARGO_BIN_EXE_gfs_picture"), [""; 0]);
    let committed = fs::read_to_string("../docs/gfs-year.svg").unwrap();
    assert!(
        drawn == committed,
        "docs/gfs-year.svg is out of date: cargo run -p xvault-examples --bin gfs_picture > docs/gfs-year.svg"
    );
}

fn back_up(tree: &Path, store: &Path, recipient: &str) {
    use xvault::core::{LocalSettings, SourceId};
    let settings = LocalSettings { paths: vec![tree.display().to_string()], excludes: vec![] };
    let mut source = xvault::LocalSource::new(&settings).unwrap();
    let store = xvault::FsStore::open(store).unwrap();
    let options =
        xvault::BackupOptions::to(vec![recipient.parse().unwrap()], SourceId::derive("tree")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(xvault::backup(&mut source, &store, &options)).unwrap();
}
