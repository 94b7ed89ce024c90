//! The accounts that the manual tells to make: what its pages print is run, and then used.

use std::fs;
use std::path::Path;

use xvault_testkit::tools::{command, run};
use xvault_testkit::{Postgres, Sshd};

use crate::db_support::{Db, Way};
use crate::ssh_support::{Job, Kind};

/// Whom the pages make.
const ACCOUNT: &str = "xvault_backup";

/// A block of a page.
fn block(page: &str, begin: &str) -> String {
    let path = format!("{}/../docs/sources/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let (_, rest) =
        text.split_once(&format!("```{begin}\n")).unwrap_or_else(|| panic!("{page} has no block {begin}"));
    rest.split_once("```").unwrap().0.to_owned()
}

/// The account; gone on drop, with its home.
struct Account;

impl Account {
    /// Runs the commands of a page where `backup.pub` is the key of the tests.
    fn make(commands: &str, sshd: &Sshd) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(sshd.key_path.with_extension("pub"), dir.path().join("backup.pub")).unwrap();
        let account = Self;
        let _ = run(command("bash", ["-euc", commands]).current_dir(dir.path()));
        account
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ =
            command("userdel", ["--force", "--remove", ACCOUNT]).stderr(std::process::Stdio::null()).status();
    }
}

/// A server as Debian sets it up, as far as logins go.
fn server() -> xvault_testkit::SshdBuilder {
    let usual = ["UsePAM yes", "AuthorizedKeysFile .ssh/authorized_keys"];
    usual
        .into_iter()
        .fold(Sshd::builder(), xvault_testkit::SshdBuilder::config)
        .config(&format!("AllowUsers {ACCOUNT}"))
}

/// A pull by the account.
fn job(kind: Kind, sshd: &Sshd, paths: &[&Path]) -> Job {
    let mut job = Job::new(kind, sshd, paths).with(|options| options.username = ACCOUNT.to_owned());
    job.settings.username = ACCOUNT.to_owned();
    job
}

/// Whether the account may do that by OpenSSH's own client.
fn may(sshd: &Sshd, program: &str, more: &[&str]) -> bool {
    let port = format!("-oPort={}", sshd.port);
    let (key, known) =
        (sshd.key_path.display().to_string(), format!("-oUserKnownHostsFile={}", sshd.known_hosts.display()));
    let args = ["-i", &key, "-oIdentitiesOnly=yes", "-oBatchMode=yes", &port, &known];
    let output = command(program, args.iter().copied().chain(more.iter().copied())).output().unwrap();
    output.status.success()
}

/// Debian has an account of the name `backup`, for one: there the command fails, and what follows it is for the wrong one.
#[test]
fn no_page_tells_to_make_an_account_that_systems_have() {
    let pages = fs::read_dir(format!("{}/../docs/sources", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut made = 0;
    for page in pages {
        let page = page.unwrap().path();
        let text = fs::read_to_string(&page).unwrap();
        for (at, word) in text.match_indices("useradd ") {
            let end = if text[..at].ends_with('`') { '`' } else { '\n' };
            let command = text[at + word.len()..].split(end).next().unwrap();
            assert_eq!(command.split_whitespace().last(), Some(ACCOUNT), "{}: {command}", page.display());
            made += 1;
        }
    }
    assert!(made >= 4, "{made}");
}

/// One after the other: they make the same account.
#[tokio::test]
async fn the_accounts_of_the_manual_read_and_do_nothing_else() {
    read_only_over_sftp().await;
    with_a_shell().await;
}

async fn read_only_over_sftp() {
    let sshd = server().matching(&block("sftp.md", "sshd_config")).start();
    let _account = Account::make(&block("sftp.md", "sh"), &sshd);
    let place = format!("{ACCOUNT}@127.0.0.1");
    let batch = sshd.home.join("batch");
    fs::write(&batch, "put /etc/hostname taken\n").unwrap();
    assert!(!may(&sshd, "sftp", &["-b", batch.to_str().unwrap(), &place]), "it may write");
    assert!(!may(&sshd, "ssh", &[&place, "true"]), "it may run programs");
    let (port, forward) = (Postgres::shared().port, sshd.port + 1);
    assert!(
        !may(&sshd, "ssh", &["-oExitOnForwardFailure=yes", &format!("-W127.0.0.1:{port}"), &place]),
        "it may open tunnels {forward}"
    );
    for kind in [Kind::Sftp, Kind::Ssh] {
        let (kept, _) = job(kind, &sshd, &[Path::new("/etc/hostname")]).pull().await;
        assert_eq!(
            kept.body(Path::new("/etc/hostname")),
            Some(&*fs::read("/etc/hostname").unwrap()),
            "{kind:?}"
        );
    }
}

async fn with_a_shell() {
    let sshd = server().start();
    let _account = Account::make(&block("ssh.md", "sh"), &sshd);
    let job = job(Kind::Ssh, &sshd, &[Path::new("/etc/hostname")]);
    let (kept, _) = job.pull().await;
    assert_eq!(kept.body(Path::new("/etc/hostname")), Some(&*fs::read("/etc/hostname").unwrap()));
    assert!(!job.noted("SFTP"), "it was not tar: {:?}", job.seen.notes());
    let server = Postgres::shared();
    let mut db =
        Db::postgres(server, &server.create_database()).by(Way::Tunnel, &sshd).set("ssh_username", ACCOUNT);
    let refused = db.error().await;
    for part in ["forbids tunnels", "authorized_keys", "`permitopen`"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    // With what the page says to be given back, it gets to the database, and to no other port.
    let home = format!("/home/{ACCOUNT}/.ssh/authorized_keys");
    let line = fs::read_to_string(&home).unwrap();
    let open = format!("restrict,port-forwarding,permitopen=\"127.0.0.1:{}\"", server.port);
    fs::write(&home, line.replace("restrict", &open)).unwrap();
    let _ = run(&mut command("usermod", ["--shell", "/usr/sbin/nologin", ACCOUNT]));
    let _ = db.pull().await;
    db = db.set("port", sshd.port);
    assert!(db.error().await.to_string().contains("forbids tunnels"), "another port");
}
