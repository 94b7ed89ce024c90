//! Sites whose server or files are not what they seem.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use xvault_connectors::source::Source;
use xvault_connectors::tool::ToolOptions;
use xvault_connectors::wordpress::WpConfig;
use xvault_connectors::{Error, Probe, WordpressSource};
use xvault_core::WordpressSettings;
use xvault_core::source::SshMode;
use xvault_testkit::{FaultProxy, Sshd};

use crate::ssh_hostile::{Asked, DIR, READDIR, REALPATH, liar, names};
use crate::ssh_support::turning;
use crate::wordpress::Site;
use crate::wordpress_elsewhere::whole;

/// Whoever is believed in the first connection is the only one who is in the others.
#[tokio::test]
async fn the_server_of_the_database_and_of_the_files_is_the_one_that_was_looked_at() {
    let (mut site, other) = (Site::new(Sshd::builder().start()).small(), Sshd::builder().start());
    let expected = site.sshd.host_key.fingerprint.clone();
    for dump_database in [true, false] {
        site.settings.dump_database = dump_database;
        site.settings.port = turning(site.sshd.port, 1, other.port);
        let error = site.error().await;
        let Error::ChangedHostKey { expected: pinned, found, .. } = &error else { panic!("{error:?}") };
        assert_eq!((pinned, found), (&expected, &other.host_key.fingerprint));
    }
}

#[tokio::test]
async fn a_version_file_that_is_too_long_to_be_one_is_not_read_to_its_end() {
    let site = Site::new(Sshd::builder().start()).small();
    let path = site.wordpress.root.join("wp-includes/version.php");
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(&vec![b'\n'; 1 << 20]).unwrap();
    let probe = site.probe().await;
    assert!(probe.notes[0].contains("WordPress of an unknown version"), "{probe:?}");
}

#[tokio::test]
async fn a_look_at_a_server_that_goes_silent_is_over_in_time() {
    let mut site = Site::new(Sshd::builder().start());
    let proxy = FaultProxy::start(site.sshd.port);
    site.settings.port = proxy.port;
    // Logged in, and no more.
    proxy.stall_after(6000);
    let (begun, probe) = (Instant::now(), site.probe().await);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let told: Vec<_> = probe.paths.iter().map(|path| path.error.as_deref().unwrap_or_default()).collect();
    assert!(matches!(told[..], [told] if told.contains("was not looked at")), "{probe:?}");
    assert_eq!(probe.host_key.as_ref(), Some(&site.sshd.host_key.fingerprint));
}

#[tokio::test]
async fn a_server_that_lets_one_session_use_a_connection_is_enough() {
    let mut site = Site::new(Sshd::builder().config("MaxSessions 1").start()).small();
    for mode in [SshMode::Remote, SshMode::Tunnel] {
        site.settings.ssh_mode = Some(mode);
        let begun = Instant::now();
        whole(&site).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    }
}

/// What a probe finds of a site in `/t`, whose server tells this lie.
async fn probe_of_a_liar(lie: impl Fn(Asked) -> Option<Vec<u8>> + Send + Sync + 'static) -> Probe {
    let (account, options, serving) = liar(lie).await;
    let mut settings = WordpressSettings::new(&account.host, &account.username, vec!["/t".into()]);
    (settings.port, settings.dump_database) = (account.port, false);
    let mut source = WordpressSource::new(&settings, options, ToolOptions::default()).unwrap();
    let begun = Instant::now();
    let probe = source.probe().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    serving.abort();
    probe
}

#[tokio::test]
async fn directories_that_never_end_are_not_read_for_ever_and_names_fill_no_memory() {
    let (dots, long) = (vec![(&b"."[..], DIR); 100], vec![b'n'; 200 << 10]);
    let lies: [Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>; 2] =
        [Box::new(move |id| names(id, &dots)), Box::new(move |id| names(id, &[(&long, DIR)]))];
    for (number, lie) in lies.into_iter().enumerate() {
        let probe = probe_of_a_liar(move |asked| (asked.kind == READDIR).then(|| lie(asked.id))).await;
        assert_eq!(probe.paths[0].kind, Some("directory"), "{number}: {probe:?}");
        let told = probe.notes.iter().any(|note| note.contains("more links or files in its content"));
        assert!(told, "{number}: {:?}", probe.notes.iter().map(String::len).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_path_that_is_too_long_to_be_one_is_not_kept() {
    let lie = |asked: Asked| {
        (asked.kind == REALPATH && asked.nth > 1).then(|| names(asked.id, &[(&[b'p'; 40 << 10], DIR)]))
    };
    let (account, options, serving) = liar(lie).await;
    let mut settings = WordpressSettings::new(&account.host, &account.username, vec!["/t".into()]);
    (settings.port, settings.dump_database) = (account.port, false);
    let mut source = WordpressSource::new(&settings, options, ToolOptions::default()).unwrap();
    let error = source.probe().await.unwrap_err();
    assert!(error.to_string().contains("a path longer than"), "{error}");
    serving.abort();
}

/// What a site's owner writes is told to people, and passed to tools.
#[test]
fn names_with_control_characters_are_refused_and_other_odd_ones_are_kept() {
    let read = |name: &str, value: &str| {
        let of = |own: &str, usual: &str| if own == name { value.to_owned() } else { usual.to_owned() };
        let text = format!(
            "<?php define('DB_NAME', {}); define('DB_USER', {}); define('DB_PASSWORD', {}); define('DB_HOST', {});
             $table_prefix = {};",
            of("DB_NAME", "'n'"),
            of("DB_USER", "'u'"),
            of("DB_PASSWORD", "'p'"),
            of("DB_HOST", "'h'"),
            of("$table_prefix", "'wp_'"),
        );
        WpConfig::read(text.as_bytes(), b"/w/wp-config.php", b"/w")
    };
    for name in ["DB_NAME", "DB_USER", "DB_HOST", "$table_prefix"] {
        for value in [r#""a\nb""#, r#""a\0b""#, r#""\e[31m""#, r#""\x7f""#] {
            let fault = read(name, value).unwrap_err();
            assert_eq!(fault.reason, format!("{name} has control characters in it"), "{value}");
        }
        assert_eq!(read(name, r#""a\xffb""#).unwrap_err().reason, format!("{name} is not UTF-8"));
    }
    assert!(read("DB_PASSWORD", r#""a\nb""#).is_ok());
    let odd = "wp_`; DROP TABLE x; -- %s \u{1f600}";
    assert_eq!(read("$table_prefix", &format!("'{odd}'")).unwrap().table_prefix, odd);
}
