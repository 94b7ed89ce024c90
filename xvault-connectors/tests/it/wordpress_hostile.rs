//! Sites whose server or files are not what they seem.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use xvault_connectors::Error;
use xvault_connectors::wordpress::WpConfig;
use xvault_testkit::{FaultProxy, Sshd};

use crate::ssh_support::turning;
use crate::wordpress::Site;

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
