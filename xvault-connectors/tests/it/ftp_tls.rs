//! How an FTP server proves itself, and who is let in.

use std::fs;

use xvault_connectors::Error;
use xvault_core::source::FtpTls;
use xvault_core::{Dispose, Disposition};
use xvault_testkit::{FaultProxy, FtpFront, FtpKind, Ftpd, unused_port};

use crate::ftp_support::{BOTH, Job, fill};

fn serving(kind: FtpKind) -> Ftpd {
    let ftpd = Ftpd::builder(kind).start();
    fill(&ftpd, &[("t/a", "a"), ("t/sub/b", "b")]);
    ftpd
}

#[tokio::test]
async fn a_pinned_certificate_is_believed_whoever_signed_it_and_no_other_is() {
    let ftpd = Ftpd::builder(FtpKind::Vsftpd).self_signed().start();
    fill(&ftpd, &[("t/a", "a")]);
    let pinned = |pin: &str| {
        let pin = Some(pin.to_owned());
        Job::new(&ftpd, &["/t"]).set(|settings| (settings.tls_ca, settings.tls_fingerprint) = (None, pin))
    };
    assert_eq!(pinned(&ftpd.fingerprint.to_lowercase()).pull().await.0.entries.len(), 2);
    // The server's own certificate as the authority is as good.
    assert_eq!(Job::new(&ftpd, &["/t"]).pull().await.0.entries.len(), 2);
    let other = ["AB"; 32].join(":");
    let error = pinned(&other).error().await;
    let Error::ChangedCertificate { expected, found, .. } = &error else { panic!("{error:?}") };
    assert_eq!((expected, found), (&other, &ftpd.fingerprint));
    assert_eq!(error.disposition(), Disposition::Permanent);
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_with_the_fingerprint_to_compare() {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).self_signed().start();
    let other = Ftpd::builder(FtpKind::Proftpd).start();
    for ca in [None, Some(other.ca.clone())] {
        let job = Job::new(&ftpd, &["/"]).set(|settings| settings.tls_ca = ca);
        for error in [job.error().await, job.probe().await.unwrap_err()] {
            let Error::UnknownCertificate { fingerprint, reason, server } = &error else {
                panic!("{error:?}")
            };
            assert_eq!((fingerprint, server), (&ftpd.fingerprint, &format!("127.0.0.1:{}", ftpd.port)));
            assert!(reason.contains("no authority"), "{error}");
            assert_eq!(error.disposition(), Disposition::Permanent);
        }
    }
    // Nobody tried to log in.
    assert!(!ftpd.log().contains("USER"), "{}", ftpd.log());
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let ftpd = serving(FtpKind::Proftpd);
    let elsewhere = "127.0.0.3";
    let proxy = FaultProxy::start_at(elsewhere.parse().unwrap(), 0, ftpd.port);
    let job = Job::new(&ftpd, &["/t"])
        .set(|settings| (settings.host, settings.port) = (elsewhere.to_owned(), Some(proxy.port)));
    let error = job.error().await;
    assert!(
        matches!(&error, Error::UnknownCertificate { reason, .. } if reason.contains("another name")),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_without_tls_is_not_logged_in_to_unless_the_settings_say_so() {
    let plain = [
        Ftpd::builder(FtpKind::Proftpd).config("TLSEngine off").start(),
        Ftpd::builder(FtpKind::Vsftpd).config("ssl_enable=NO").start(),
    ];
    for ftpd in plain {
        fill(&ftpd, &[("t/a", "a")]);
        let front = FtpFront::of(&ftpd);
        let error = Job::new(&ftpd, &["/t"]).through(&front).error().await;
        let text = error.to_string();
        assert!(text.contains("no encryption") && text.contains("`tls_mode` `disable`"), "{text}");
        assert!(!text.contains("tls_ca"), "no certificate helps: {text}");
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert!(!ftpd.log().contains(&ftpd.user), "{}", ftpd.log());
        let (kept, _) = Job::new(&ftpd, &["/t"]).plain().pull().await;
        assert_eq!(kept.entries.len(), 2);
    }
}

/// The password would be safe, the files not.
#[tokio::test]
async fn a_server_that_does_not_encrypt_data_is_refused() {
    let refusing = [
        Ftpd::builder(FtpKind::Proftpd).config("<Limit PROT>\nDenyAll\n</Limit>").start(),
        Ftpd::builder(FtpKind::Vsftpd).config("cmds_denied=PROT").start(),
    ];
    for ftpd in refusing {
        fill(&ftpd, &[("t/a", "a")]);
        let error = Job::new(&ftpd, &["/t"]).error().await;
        assert!(matches!(error, Error::NoEncryption { .. }), "{error:?}");
        assert!(error.to_string().contains("(PROT P)"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_demands_tls_says_so_to_plain_logins() {
    let demanding = [
        Ftpd::builder(FtpKind::Proftpd).config("TLSRequired on").start(),
        Ftpd::builder(FtpKind::Vsftpd).config("force_local_logins_ssl=YES").start(),
    ];
    for ftpd in demanding {
        let error = Job::new(&ftpd, &["/"]).plain().error().await;
        let Error::Auth { reason, .. } = &error else { panic!("{error:?}") };
        assert!(["SSL", "encryption"].iter().any(|word| reason.contains(word)), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_with_the_account_and_never_shown() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        let job = Job::at(ftpd.port, &ftpd.user, "hunter2", &["/"])
            .set(|settings| settings.tls_ca = Some(ftpd.ca.clone()));
        for error in [job.error().await, job.probe().await.unwrap_err()] {
            let Error::Auth { account, reason, .. } = &error else { panic!("{error:?}") };
            assert_eq!(account, &format!("{}@127.0.0.1:{}", ftpd.user, ftpd.port));
            assert!(reason.contains("530"), "{error}");
            assert_eq!(error.disposition(), Disposition::Permanent);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}

#[tokio::test]
async fn a_password_with_a_line_break_is_not_sent() {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).start();
    let job = Job::at(ftpd.port, &ftpd.user, "pw\r\nDELE x", &["/"]).plain();
    let error = job.error().await;
    assert!(matches!(error, Error::Credential(_)), "{error}");
}

#[tokio::test]
async fn nobody_there_is_worth_another_try() {
    let job = Job::at(unused_port(), "u", "p", &["/"]);
    for error in [job.error().await, job.probe().await.unwrap_err()] {
        assert!(matches!(error, Error::Connection { .. }), "{error}");
        assert_eq!(error.disposition(), Disposition::Transient);
    }
}

#[tokio::test]
async fn a_probe_tells_what_one_needs_to_know() {
    for kind in BOTH {
        let ftpd = serving(kind);
        fs::create_dir(ftpd.home.join("locked")).unwrap();
        let missing = "/no such";
        let probe = Job::new(&ftpd, &["/t", "/t/a", "t", missing, "/locked"]).probe().await.unwrap();
        assert_eq!(probe.host_key.as_ref(), Some(&ftpd.fingerprint));
        let name = if kind == FtpKind::Proftpd { "ProFTPD" } else { "vsFTPd" };
        assert!(probe.server.as_ref().unwrap().contains(name), "{probe:?}");
        let kinds: Vec<_> = probe.paths.iter().map(|path| path.kind).collect();
        assert_eq!(kinds[..4], [Some("directory"), Some("file"), Some("directory"), None], "{probe:?}");
        assert!(probe.paths[3].error.as_ref().unwrap().contains("550"), "{probe:?}");
        let notes = probe.notes.join("\n");
        for of_vsftpd in ["without MLSD", "use_localtime"] {
            assert_eq!(notes.contains(of_vsftpd), kind == FtpKind::Vsftpd, "{notes}");
        }
        assert!(notes.contains("FTP can't tell before a backup how much there is"), "{notes}");
        assert!(notes.contains("REST") && !notes.contains("nothing is encrypted"), "{notes}");
        let plain = Job::new(&ftpd, &["/t"]).plain().probe().await.unwrap();
        assert!(
            plain.host_key.is_none() && plain.notes.join("\n").contains("nothing is encrypted"),
            "{plain:?}"
        );
    }
}

#[tokio::test]
async fn a_probe_finds_what_can_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    for kind in BOTH {
        let ftpd = serving(kind);
        for (name, mode) in [("t/a", 0o000), ("t/sub", 0o111)] {
            fs::set_permissions(ftpd.home.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let probe = Job::new(&ftpd, &["/t", "/t/a", "/t/sub"]).probe().await.unwrap();
        let told: Vec<_> = probe.paths.iter().map(|path| (path.kind, path.error.is_some())).collect();
        assert_eq!(told, [(Some("directory"), false), (None, true), (None, true)], "{probe:?}");
    }
}

#[tokio::test]
async fn implicit_tls_at_a_port_that_speaks_plain_text_is_refused() {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).start();
    let job = Job::new(&ftpd, &["/"]).set(|settings| settings.tls_mode = FtpTls::Implicit);
    let error = job.error().await;
    let text = error.to_string();
    assert!(text.contains("`tls_mode` `explicit`") && !text.contains("tls_ca"), "{text}");
    assert_eq!(error.disposition(), Disposition::Permanent);
}
