//! From settings and one credential to a source of any type.

use xvault_connectors::source::open;
use xvault_connectors::{Error, HostKeyPolicy, Saved, SshCredential};
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::source::{Hook, Hooks};
use xvault_core::{
    FtpSettings, LocalSettings, MysqlSettings, PostgresSettings, SourceSettings, SshSettings,
    WordpressSettings,
};

fn saved(secret: Option<&str>) -> Saved {
    Saved::new(secret.map(|secret| SecretString::from(secret.to_owned())))
}

fn account() -> SshSettings {
    SshSettings::new("web.example", "web", vec!["/srv".into()])
}

fn pin() -> Option<String> {
    Some(format!("SHA256:{}", "a".repeat(43)))
}

#[tokio::test]
async fn settings_of_each_type_become_its_source() {
    let (host, user, paths) = ("h", "u", || vec!["/srv".to_owned()]);
    let files = SshSettings { host_key: pin(), ..account() };
    let hop = PostgresSettings {
        use_ssh: true,
        ssh_host: Some("s".into()),
        ssh_username: Some("w".into()),
        use_password: false,
        ..PostgresSettings::new(host, user)
    };
    let all = [
        ("local", SourceSettings::Local(LocalSettings { paths: paths(), excludes: Vec::new() })),
        ("sftp", SourceSettings::Sftp(files.clone())),
        ("ssh", SourceSettings::Ssh(files)),
        ("ftp", SourceSettings::Ftp(FtpSettings::new(host, user, paths()))),
        ("postgres", SourceSettings::Postgres(hop)),
        ("mysql", SourceSettings::Mysql(MysqlSettings::new(host, user))),
        ("wordpress", SourceSettings::Wordpress(WordpressSettings::new(host, user, paths()))),
    ];
    for (kind, settings) in all {
        let source = open(&settings, &saved(Some("hunter2"))).await.unwrap();
        assert_eq!(source.kind(), kind);
    }
}

#[tokio::test]
async fn settings_that_can_not_work_are_refused_whatever_the_type() {
    let broken = SourceSettings::Ssh(SshSettings { port: 0, ..account() });
    assert!(matches!(open(&broken, &saved(None)).await.err(), Some(Error::Settings(_))));
}

/// A hook gives a source time to wind up.
#[tokio::test]
async fn commands_stand_around_the_source() {
    let hooks = Hooks { before: None, after: Some(Hook::new("true")) };
    for hooks in [Hooks::default(), hooks] {
        let settings = SourceSettings::Sftp(SshSettings { hooks: hooks.clone(), ..account() });
        let source = open(&settings, &saved(Some("x"))).await.unwrap();
        assert_eq!(source.wind_up().is_zero(), hooks.is_empty());
    }
}

#[test]
fn without_a_credential_only_the_host_key_can_be_asked_for() {
    let options = saved(None).ssh(&account()).unwrap();
    let SshCredential::Password(password) = &options.credential else { panic!("{options:?}") };
    assert!(password.expose_secret().is_empty() && matches!(options.host_key, HostKeyPolicy::Refuse));
    let pinned = SshSettings { host_key: pin(), ..account() };
    assert!(matches!(saved(None).ssh(&pinned), Err(Error::NoCredential(_))));
}

#[test]
fn a_database_has_a_password_and_the_server_in_between_a_key() {
    let server = PostgresSettings::new("h", "u").server();
    assert!(matches!(saved(None).database(&server), Err(Error::NoCredential(_))));
    let login = saved(Some("hunter2")).database(&server).unwrap();
    assert_eq!(login.password.as_ref().map(ExposeSecret::expose_secret), Some("hunter2"));
    assert!(login.ssh.is_none());

    let hop = PostgresSettings { use_ssh: true, ..PostgresSettings::new("h", "u") }.server();
    let asks = saved(None).database(&hop).unwrap();
    let SshCredential::PrivateKey { pem, .. } = &asks.ssh.as_ref().unwrap().credential else {
        panic!("{asks:?}")
    };
    assert_eq!(pem.expose_secret(), "", "the server is refused before anybody logs in");
    let unfit = saved(Some("hunter2")).database(&hop).unwrap_err();
    assert!(matches!(unfit, Error::Credential(_)) && !format!("{unfit:?} {unfit}").contains("hunter2"));
}

#[test]
fn ftp_takes_the_password_or_none_where_none_is_asked_for() {
    let settings = |use_password| FtpSettings { use_password, ..FtpSettings::new("h", "u", Vec::new()) };
    assert!(matches!(saved(None).ftp(&settings(true)), Err(Error::NoCredential(_))));
    let password = |use_password, secret| {
        let options = saved(secret).ftp(&settings(use_password)).unwrap();
        options.password.map(|password| password.expose_secret().to_owned())
    };
    assert_eq!(password(true, Some("hunter2")).as_deref(), Some("hunter2"));
    assert_eq!((password(false, Some("hunter2")), password(false, None)), (None, None));
}
