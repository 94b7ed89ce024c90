//! Connections that drop, servers that allow little, and files that change while they are read.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use xvault_connectors::Error;
use xvault_core::{Dispose, Disposition, WarningCode};
use xvault_testkit::trees::{random_file, small_files};
use xvault_testkit::{FaultProxy, FtpFront, FtpKind, Ftpd, MtimeMatch, TreeOptions, assert_same_tree};

use crate::ftp_support::{BOTH, Job, body, fill};
use crate::ssh_support::Kept;

const SIZE: u64 = 24 << 20;

/// A server with one file `big`, and few ports for data.
fn serving_a_big_file(kind: FtpKind) -> Ftpd {
    let ftpd = Ftpd::builder(kind).passive_ports(12).start();
    random_file(&ftpd.home.join("big"), SIZE, 1);
    ftpd.give(&ftpd.home);
    ftpd
}

#[tokio::test]
async fn a_file_goes_on_where_its_data_connection_dropped() {
    for kind in BOTH {
        let ftpd = serving_a_big_file(kind);
        let front = FtpFront::of(&ftpd);
        for proxy in &front.data {
            proxy.cut_each_after(10 << 20);
        }
        let job = Job::new(&ftpd, &["/big"]).through(&front);
        let (kept, _) = job.pull().await;
        assert!(body(&kept, "/big") == fs::read(ftpd.home.join("big")).unwrap(), "{kind:?}: content differs");
        assert_eq!(kept.warnings, [], "{kind:?}");
        assert!(job.noted("connecting again"), "{:?}", job.seen.notes());
        // What was delivered is not fetched again.
        assert!(front.data_bytes() < SIZE + (4 << 20), "{kind:?}: {}", front.data_bytes());
    }
}

#[tokio::test]
async fn where_a_server_can_not_go_on_in_the_middle_it_begins_again() {
    let config = "AllowRetrieveRestart off";
    let ftpd = Ftpd::builder(FtpKind::Proftpd).passive_ports(12).config(config).start();
    random_file(&ftpd.home.join("big"), SIZE, 1);
    ftpd.give(&ftpd.home);
    let front = FtpFront::of(&ftpd);
    for proxy in &front.data {
        proxy.cut_once_after(10 << 20);
    }
    let job = Job::new(&ftpd, &["/big"]).through(&front);
    let mut kept = Kept::default();
    let healing = async {
        while !job.noted("connecting again") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        front.data.iter().for_each(FaultProxy::heal);
    };
    let (pulled, ()) = tokio::join!(job.pull_into(&mut kept), healing);
    pulled.unwrap();
    assert!(body(&kept, "/big") == fs::read(ftpd.home.join("big")).unwrap());
}

#[tokio::test]
async fn a_tree_survives_sessions_that_end_and_servers_that_let_fewer_in_again() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        small_files(&ftpd.home.join("t"), 600, 30_000);
        ftpd.give(&ftpd.home);
        let ftpd = std::sync::Arc::new(ftpd);
        let (server, mut next) = (ftpd.clone(), 2 << 20);
        let dropping = move |bytes: u64| {
            if bytes > next {
                server.drop_sessions();
                next += 6 << 20;
            }
        };
        let job = Job::new(&ftpd, &["/t"]);
        let mut kept = Kept { on_data: Some(Box::new(dropping)), ..Kept::default() };
        job.pull_into(&mut kept).await.unwrap();
        assert_eq!(kept.warnings, [], "{kind:?}");
        assert!(!job.seen.notes().is_empty());
        let out = tempfile::tempdir().unwrap();
        kept.unpack(out.path());
        let options = TreeOptions { mtime: MtimeMatch::Ignore, owner: true, ..TreeOptions::default() };
        assert_same_tree(&ftpd.home.join("t"), &out.path().join("t"), &options);
    }
}

#[tokio::test]
async fn a_server_that_allows_fewer_connections_gets_fewer() {
    let narrow = [
        Ftpd::builder(FtpKind::Proftpd).config("MaxClientsPerUser 2").start(),
        Ftpd::builder(FtpKind::Vsftpd).config("max_per_ip=2").start(),
    ];
    for ftpd in narrow {
        small_files(&ftpd.home.join("t"), 200, 5000);
        ftpd.give(&ftpd.home);
        let job = Job::new(&ftpd, &["/t"]);
        let (kept, _) = job.pull().await;
        assert_eq!((kept.entries.len(), kept.warnings.len()), (203, 0));
        let notes = job.seen.notes();
        let settled = notes.iter().filter(|note| note.contains("going on with 2 connections")).count();
        assert_eq!(settled, 1, "a third one is not asked for again: {notes:?}");
    }
}

#[tokio::test]
async fn ports_for_data_that_a_firewall_keeps_are_told() {
    for kind in BOTH {
        let ftpd = serving_a_big_file(kind);
        let proxy = FaultProxy::start_at(FtpFront::ADDRESS, 0, ftpd.port);
        let job = Job::new(&ftpd, &["/big"]).set(|settings| {
            (settings.host, settings.port) = (FtpFront::ADDRESS.to_string(), Some(proxy.port));
        });
        for error in [job.error().await, job.probe().await.unwrap_err()] {
            assert_eq!(error.disposition(), Disposition::Transient);
            let text = error.to_string();
            assert!(
                text.contains("passive ports") && text.contains(&FtpFront::ADDRESS.to_string()),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn data_connections_that_are_always_dropped_fail_the_job() {
    for kind in BOTH {
        let ftpd = serving_a_big_file(kind);
        let front = FtpFront::of(&ftpd);
        for proxy in &front.data {
            proxy.cut_each_after(0);
        }
        let job = Job::new(&ftpd, &["/big"]).through(&front);
        let error = job.error().await;
        assert!(matches!(error, Error::Connection { .. } | Error::Timeout { .. }), "{error}");
        assert_eq!(error.disposition(), Disposition::Transient);
    }
}

#[tokio::test]
async fn a_wrong_address_in_passive_mode_is_not_followed() {
    let wrong = [
        Ftpd::builder(FtpKind::Proftpd)
            .config("MasqueradeAddress 10.255.255.1\n<Limit EPSV>\nDenyAll\n</Limit>")
            .start(),
        Ftpd::builder(FtpKind::Vsftpd).config("pasv_address=10.255.255.1\ncmds_denied=EPSV").start(),
    ];
    for ftpd in wrong {
        fill(&ftpd, &[("t/a", "a"), ("t/b", "b")]);
        let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
        assert_eq!((body(&kept, "/t/a"), body(&kept, "/t/b")), (&b"a"[..], &b"b"[..]));
        let probe = Job::new(&ftpd, &["/t"]).probe().await.unwrap();
        assert!(probe.notes.join("\n").contains("PASV"), "{probe:?}");
    }
}

#[tokio::test]
async fn files_that_shrink_and_grow_are_told_as_everywhere() {
    for kind in BOTH {
        let ftpd = serving_a_big_file(kind);
        let path = ftpd.home.join("big");
        for (change, code) in [(SIZE / 2, WarningCode::Shrunk), (SIZE + 777, WarningCode::Grew)] {
            random_file(&path, SIZE, 1);
            let (changing, mut done) = (path.clone(), false);
            let on_data = move |_| {
                if !std::mem::replace(&mut done, true) {
                    OpenOptions::new().write(true).open(&changing).unwrap().set_len(change).unwrap();
                }
            };
            let mut kept = Kept { on_data: Some(Box::new(on_data)), ..Kept::default() };
            Job::new(&ftpd, &["/big"]).plain().pull_into(&mut kept).await.unwrap();
            assert_eq!(body(&kept, "/big").len() as u64, SIZE, "{kind:?}");
            // A server that breaks off when the end is missing is connected to again, and the change is told, too.
            assert_eq!(kept.codes().first(), Some(&(code, "/big".into())), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_vanishes_before_it_is_read_is_told() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fs::create_dir(ftpd.home.join("t")).unwrap();
        for name in ["a", "b", "c"] {
            random_file(&ftpd.home.join("t").join(name), 6 << 20, 1);
        }
        ftpd.give(&ftpd.home);
        let gone = ftpd.home.join("t/c");
        let on_data = move |_| drop(fs::remove_file(&gone));
        let mut kept = Kept { on_data: Some(Box::new(on_data)), ..Kept::default() };
        let job = Job::new(&ftpd, &["/t"]).set(|settings| settings.max_connections = 1);
        job.pull_into(&mut kept).await.unwrap();
        assert_eq!(kept.codes(), [(WarningCode::Vanished, "/t/c".into())], "{kind:?}");
        assert_eq!(kept.entries.len(), 3, "{kind:?}");
    }
}

#[tokio::test]
async fn a_file_that_changed_while_the_connection_was_lost_is_told() {
    let ftpd = serving_a_big_file(FtpKind::Proftpd);
    let front = FtpFront::of(&ftpd);
    for proxy in &front.data {
        proxy.cut_once_after(10 << 20);
    }
    let job = Job::new(&ftpd, &["/big"]).through(&front);
    let path = ftpd.home.join("big");
    let (server, mut done) = (path.clone(), false);
    let on_data = move |bytes| {
        if bytes > 4 << 20 && !std::mem::replace(&mut done, true) {
            OpenOptions::new().append(true).open(&server).unwrap().write_all(b"more").unwrap();
        }
    };
    let mut kept = Kept { on_data: Some(Box::new(on_data)), ..Kept::default() };
    job.pull_into(&mut kept).await.unwrap();
    let codes: Vec<_> = kept.codes().into_iter().map(|(code, _)| code).collect();
    assert!(codes.contains(&WarningCode::Other), "{:?}", kept.warnings);
    assert_eq!(body(&kept, "/big").len() as u64, SIZE);
}

#[tokio::test]
async fn what_nobody_takes_is_let_go_and_goes_on_later() {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).start();
    for name in ["a", "b", "c"] {
        random_file(&ftpd.home.join(name), 8 << 20, 1);
    }
    ftpd.give(&ftpd.home);
    let job = Job::new(&ftpd, &["/"]).with(|options| options.timeouts.stall = Duration::from_millis(100));
    let mut kept = Kept { slow: Some(Duration::from_millis(10)), ..Kept::default() };
    job.pull_into(&mut kept).await.unwrap();
    for name in ["a", "b", "c"] {
        assert!(body(&kept, &format!("/{name}")) == fs::read(ftpd.home.join(name)).unwrap(), "{name}");
    }
    assert_eq!(kept.warnings, []);
    let sessions = ftpd.log().matches("FTP session opened").count();
    assert!(sessions > 5, "nothing was let go: {sessions} sessions");
}

#[tokio::test]
async fn a_server_that_goes_silent_is_given_up_in_time() {
    let ftpd = serving_a_big_file(FtpKind::Vsftpd);
    let front = FtpFront::of(&ftpd);
    for proxy in &front.data {
        proxy.stall_after(5 << 20);
    }
    let job = Job::new(&ftpd, &["/big"]).through(&front).with(|options| {
        options.timeouts.idle = Duration::from_millis(300);
        options.timeouts.reconnects = 2;
    });
    let healing = async {
        while !job.noted("did not answer") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        front.data.iter().for_each(FaultProxy::heal);
    };
    let began = Instant::now();
    let ((kept, _), ()) = tokio::join!(job.pull(), healing);
    assert!(body(&kept, "/big") == fs::read(ftpd.home.join("big")).unwrap());
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_server_that_is_gone_for_good_fails_the_job() {
    let ftpd = serving_a_big_file(FtpKind::Proftpd);
    let front = FtpFront::of(&ftpd);
    let job = Job::new(&ftpd, &["/big"]).through(&front).with(|options| options.timeouts.reconnects = 2);
    let mut cut = Some((front.control, front.data));
    let on_data = move |bytes| {
        if bytes > 4 << 20 {
            drop(cut.take());
        }
    };
    let mut kept = Kept { on_data: Some(Box::new(on_data)), ..Kept::default() };
    let error = job.pull_into(&mut kept).await.unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error}");
    assert_eq!(error.disposition(), Disposition::Transient);
}

/// The server has said that all was sent before it can see that somebody cut it.
#[tokio::test]
async fn an_encrypted_listing_that_was_cut_is_not_believed() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).passive_ports(12).start();
        for number in 0..300 {
            fill_one(&ftpd, number);
        }
        let front = FtpFront::of(&ftpd);
        for proxy in &front.data {
            proxy.cut_each_after(9_000);
        }
        let job = Job::new(&ftpd, &["/t"]).through(&front).with(|options| options.timeouts.reconnects = 2);
        let mut kept = Kept::default();
        let error = job.pull_into(&mut kept).await.unwrap_err();
        assert!(matches!(error, Error::Connection { .. }), "{kind:?}: {error}");
        assert_eq!(error.disposition(), Disposition::Transient);
    }
}

fn fill_one(ftpd: &Ftpd, number: u32) {
    let folder = ftpd.home.join("t");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("a file with a name that takes some room {number:04}")), "x").unwrap();
}
