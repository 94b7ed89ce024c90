//! A source of each type, opened by its settings and one credential, makes the backup of the connector that is made by hand.

use std::fs;
use std::path::Path;

use serde_json::json;
use xvault_connectors::source::{Source, open};
use xvault_connectors::tool::ToolOptions;
use xvault_connectors::{Control, Error, LocalSource, Saved};
use xvault_core::secret::SecretString;
use xvault_core::source::{Hook, Hooks, SshMode};
use xvault_core::{EntryKind, LocalSettings, SourceSettings};
use xvault_testkit::{FtpKind, Ftpd, Sshd};

use crate::db_support::{Db, Way};
use crate::db_trouble::{mysql, postgres};
use crate::egress::{assert_refused, public};
use crate::ftp_support;
use crate::ssh_support::{Job, Kept, Kind};
use crate::wordpress::Site;

/// The same source twice: as it is saved, and made by hand; both without hooks.
struct Row {
    saved: SourceSettings,
    secret: String,
    made: Box<dyn Source>,
}

/// With a command before it, where there can be one, that leaves a file of this name.
fn hooked(row: &Row) -> (SourceSettings, &'static str) {
    let mut saved = row.saved.clone();
    let kind = saved.kind();
    let hooks = Hooks { before: Some(Hook::new(format!("touch before-{kind}"))), after: None };
    match &mut saved {
        SourceSettings::Sftp(settings) | SourceSettings::Ssh(settings) => settings.hooks = hooks,
        SourceSettings::Wordpress(settings) => settings.hooks = hooks,
        SourceSettings::Postgres(settings) => settings.hooks = hooks,
        SourceSettings::Mysql(settings) => settings.hooks = hooks,
        _ => {}
    }
    (saved, kind)
}

/// What is pulled: names, and the content of files that are the same each time, which dumps are not.
async fn pulled(mut source: Box<dyn Source>) -> Vec<(String, String, Vec<u8>)> {
    let mut kept = Kept::default();
    source.pull(&mut kept, &Control::default()).await.unwrap();
    let entries = kept.entries.into_iter();
    let content = |kind: &EntryKind, body| if *kind == EntryKind::Stream { Vec::new() } else { body };
    let row = |(entry, body): (xvault_core::Entry, Vec<u8>)| {
        (entry.path.to_string(), format!("{:?}", entry.metadata.mode), content(&entry.kind, body))
    };
    entries.map(row).collect()
}

fn saved(secret: &str) -> Saved {
    // Debian's packages lag behind at times.
    let tools = ToolOptions { allow_outdated: true, ..ToolOptions::default() };
    Saved { tools, local_roots: vec!["/".into()], ..Saved::new(Some(SecretString::from(secret.to_owned()))) }
}

fn config<T: serde::de::DeserializeOwned>(db: &Db) -> T {
    serde_json::from_value(db.config.clone()).unwrap()
}

fn files(sshd: &Sshd, tree: &Path, key: &str) -> Vec<Row> {
    let job = |kind| Job::new(kind, sshd, &[tree]).excluding(&["*.log"]);
    let (sftp, ssh) = (job(Kind::Sftp), job(Kind::Ssh));
    let local =
        LocalSettings { paths: vec![tree.to_str().unwrap().to_owned()], excludes: vec!["*.log".to_owned()] };
    let made = Box::new(LocalSource::new(&local).unwrap());
    vec![
        Row { saved: SourceSettings::Local(local), secret: String::new(), made },
        Row {
            saved: SourceSettings::Sftp(sftp.settings.clone()),
            secret: key.to_owned(),
            made: sftp.source(),
        },
        Row { saved: SourceSettings::Ssh(ssh.settings.clone()), secret: key.to_owned(), made: ssh.source() },
    ]
}

fn databases(sshd: &Sshd, key: &str) -> Vec<Row> {
    let ((pg, url), (my, name)) = (postgres(), mysql());
    let both = |db: &Db| json!({"password": db.password, "ssh": key}).to_string();
    let pg = Db::postgres(pg, &url).set("tables", json!(["public.plain"])).by(Way::Tunnel, sshd);
    let my = Db::mysql(my, &name).set("exclude_tables", json!(["large"])).by(Way::Remote, sshd);
    vec![
        Row { saved: SourceSettings::Postgres(config(&pg)), secret: both(&pg), made: pg.source().unwrap() },
        Row { saved: SourceSettings::Mysql(config(&my)), secret: both(&my), made: my.source().unwrap() },
    ]
}

#[tokio::test]
async fn each_type_makes_the_same_backup_and_is_refused_what_may_not_be_connected_to() {
    let mut site = Site::new(Sshd::builder().start()).small();
    // Tools of this machine.
    site.settings.ssh_mode = Some(SshMode::Tunnel);
    let (sshd, tree) = (&site.sshd, site.sshd.home.join("tree"));
    fs::create_dir(&tree).unwrap();
    for (name, text) in [("kept", "content"), ("left.log", "out")] {
        fs::write(tree.join(name), text).unwrap();
    }
    let ftpd = Ftpd::builder(FtpKind::Proftpd).start();
    ftp_support::fill(&ftpd, &[("t/kept", "content"), ("t/left.log", "out")]);
    let ftp =
        ftp_support::Job::new(&ftpd, &["/t"]).set(|settings| settings.excludes = vec!["*.log".to_owned()]);
    let key = fs::read_to_string(&sshd.key_path).unwrap();

    let mut rows = files(sshd, &tree, &key);
    let made = ftp.source();
    rows.push(Row { saved: SourceSettings::Ftp(ftp.settings.clone()), secret: ftpd.password.clone(), made });
    rows.extend(databases(sshd, &key));
    let made = Box::new(site.source());
    rows.push(Row { saved: SourceSettings::Wordpress(site.settings.clone()), secret: key.clone(), made });
    for row in rows {
        let (settings, kind) = hooked(&row);
        let saved = saved(&row.secret);
        let opened = pulled(open(&settings, &saved).await.unwrap()).await;
        assert_eq!(opened, pulled(row.made).await, "{kind}");
        assert!(!opened.is_empty() && !opened.iter().any(|(path, ..)| path.ends_with(".log")), "{kind}");
        let has_hooks = !matches!(kind, "local" | "ftp");
        assert_eq!(sshd.home.join(format!("before-{kind}")).exists(), has_hooks, "{kind}");
        if kind == "wordpress" {
            let without =
                Saved { tools: ToolOptions { usual_places: false, ..saved.tools.clone() }, ..saved.clone() };
            let mut source = open(&row.saved, &without).await.unwrap();
            let error = source.pull(&mut Kept::default(), &Control::default()).await.unwrap_err();
            assert!(matches!(error, Error::Tool { .. }), "{error:?}");
        }
        if kind != "local" {
            let limited = Saved { network: public(), ..saved };
            let mut source = open(&row.saved, &limited).await.unwrap();
            assert_refused(
                &source.pull(&mut Kept::default(), &Control::default()).await.unwrap_err(),
                "127.0.0.1",
            );
        }
    }
}
