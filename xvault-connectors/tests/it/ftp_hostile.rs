//! Scripted FTP servers: odd ones, broken ones, and ones that mean harm.

use std::sync::atomic::{AtomicUsize, Ordering};

use xvault_connectors::Error;
use xvault_core::{Dispose, Disposition, WarningCode};

use crate::ftp_script::{Script, listing, with_mlsd};
use crate::ftp_support::{body, found};

#[tokio::test]
async fn a_server_that_lists_as_dos_does_is_backed_up() {
    let root =
        "01-29-24  03:20PM       <DIR>          a folder\n01-29-24  03:20PM                    5 a file\n";
    let below = "01-30-2024  11:59AM                    3 caf\u{e9}\n";
    let content = listing(
        &[("/", root), ("/a folder", below)],
        &[("/a file", "hello"), ("/a folder/caf\u{e9}", "abc")],
    );
    let script = Script::start(content, |_| None);
    let (kept, _) = script.job(&["/"]).pull().await;
    let expected = [("a file", "hello"), ("a folder/", ""), ("a folder/caf\u{e9}", "abc")];
    let expected = expected.map(|(name, body)| (name.to_owned(), body.as_bytes().to_vec()));
    assert_eq!(found(&kept), expected);
    assert_eq!(kept.warnings, []);
    assert!(script.heard("MDTM") <= 2, "each of two connections asks for MDTM once, where there is none");
    assert_eq!(kept.entries[0].0.metadata.mtime.secs, 1_706_541_600);
}

#[tokio::test]
async fn a_server_to_which_minus_a_is_a_name_is_listed_plainly() {
    let line = "-rw-r--r-- 1 u g 2 Jan 12 2020 x\n";
    for answer in ["550 no such file: -a\r\n", "501 syntax\r\n"] {
        let content = listing(&[("/", line)], &[("/x", "ab")]);
        let script = Script::start(content, move |line| (line == "LIST -a").then_some(answer));
        let (kept, _) = script.job(&["/"]).pull().await;
        assert_eq!((found(&kept).len(), body(&kept, "/x")), (1, &b"ab"[..]));
    }
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_told_and_not_asked_for() {
    let root = "type=file;size=1; ../../etc/passwd\ntype=file;size=1; a/b\ntype=dir; ..\ntype=file;size=2; good\ntype=file;size=2; good\nnonsense\n";
    let script = Script::start(listing(&[("/t", root)], &[("/t/good", "ok")]), with_mlsd);
    let (kept, _) = script.job(&["/t"]).pull().await;
    let names: Vec<_> = found(&kept).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["t/", "t/good"]);
    assert_eq!(kept.warnings.len(), 4, "{:?}", kept.warnings);
    assert!(kept.warnings.iter().all(|warning| warning.code == WarningCode::BadName));
    assert_eq!(script.heard("RETR"), 1);
}

#[tokio::test]
async fn a_directory_that_leads_back_is_left_out() {
    let root = "type=cdir;unique=1; .\ntype=dir;unique=1; loop\ntype=dir;unique=2; sub\n";
    let sub = "type=dir;unique=2; again\ntype=dir;unique=1; up\n";
    let script = Script::start(listing(&[("/t", root), ("/t/sub", sub)], &[]), |line| match line {
        "MLST /t" => Some("250-\r\n type=dir;unique=1; /t\r\n250 end\r\n"),
        "LIST -a" => Some("550 no\r\n"),
        "LIST" => Some("550 no\r\n"),
        line => with_mlsd(line),
    });
    let (kept, _) = script.job(&["/t"]).pull().await;
    let names: Vec<_> = found(&kept).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["t/", "t/sub/"]);
    assert_eq!(kept.codes().len(), 3, "{:?}", kept.warnings);
}

#[tokio::test]
async fn listings_that_are_not_understood_are_no_empty_directories() {
    let strange = "README.TXT;4  2  18-APR-2000 10:40:36  [ANONYMOUS]  (RWED,,,)\nA.B;1  3 18-APR-2000 10:40:36 [X] (R,,,)\n";
    let script = Script::start(listing(&[("/", strange)], &[]), |_| None);
    let error = script.job(&["/"]).error().await;
    assert!(matches!(&error, Error::Protocol { detail, .. } if detail.contains("not understood")), "{error}");
}

#[tokio::test]
async fn a_listing_that_failed_behind_its_data_is_no_empty_directory() {
    let root = "drwxr-xr-x 2 u g 4096 Jan 12 2020 sub\n";
    let content = || listing(&[("/", root), ("/sub", "")], &[]);
    let vsftpd = Script::start(content(), |line| {
        // The second directory is the one.
        line.starts_with("LIST").then_some("150 226 Transfer done (but failed to open directory).\r\n")
    });
    let error = vsftpd.job(&["/"]).error().await;
    assert!(error.to_string().contains("failed to open"), "{error}");
    let broken =
        Script::start(content(), |line| line.starts_with("LIST").then_some("150 451 disk error\r\n"));
    let error = broken.job(&["/"]).error().await;
    assert!(matches!(error, Error::Incomplete(_)), "{error}");
}

#[tokio::test]
async fn a_listing_without_end_is_given_up() {
    let line = "-rw-r--r-- 1 u g 2 Jan 12 2020 ";
    let many: String = (0..500_000).map(|number| format!("{line}{number}\n")).collect();
    let script = Script::start(listing(&[("/", &many)], &[]), |_| None);
    let error = script.job(&["/"]).error().await;
    assert!(matches!(&error, Error::Protocol { detail, .. } if detail.contains("memory")), "{error}");
    let long = Script::start(listing(&[("/", &"x".repeat(1 << 20))], &[]), |_| None);
    let error = long.job(&["/"]).error().await;
    assert!(matches!(&error, Error::Protocol { detail, .. } if detail.contains("does not end")), "{error}");
}

#[tokio::test]
async fn a_transfer_that_ends_before_its_size_is_begun_again_there() {
    // The second one is fetched in pieces.
    for text in ["01234".to_owned(), "0123456\n".repeat(200_000)] {
        let (len, size) = (text.len(), text.len() + 5);
        let root = format!("type=file;size={size};modify=20200101000000; f\n");
        let told: &'static str = format!("213 {size}\r\n").leak();
        let script = Script::start(listing(&[("/t", &root)], &[("/t/f", &text)]), move |line| match line {
            "SIZE /t/f" => Some(told),
            line => with_mlsd(line),
        });
        let job = script.job(&["/t"]);
        let (kept, _) = job.pull().await;
        assert!(job.noted(&format!("ended after {len} bytes of {size}")), "{:?}", job.seen.notes());
        assert_eq!(script.heard("RETR"), 3);
        assert!(body(&kept, "/t/f") == [text.as_bytes(), &[0; 5]].concat(), "{len}");
        assert_eq!(kept.codes(), [(WarningCode::Shrunk, "/t/f".into())]);
    }
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_listed_is_kept_as_it_is_now() {
    let root = "type=file;size=3;modify=20200101000000; f\n";
    let script = Script::start(listing(&[("/t", root)], &[("/t/f", "0123456789")]), with_mlsd);
    let (kept, _) = script.job(&["/t"]).pull().await;
    assert_eq!((body(&kept, "/t/f"), kept.warnings.len()), (&b"0123456789"[..], 0));
}

#[tokio::test]
async fn a_read_that_fails_on_the_server_is_told() {
    let root = "type=file;size=4;modify=20200101000000; f\ntype=file;size=2;modify=20200101000000; g\n";
    let script =
        Script::start(listing(&[("/t", root)], &[("/t/f", "abcd"), ("/t/g", "ok")]), |line| match line {
            "RETR /t/f" => Some("150 451 Local error reading file\r\n"),
            line => with_mlsd(line),
        });
    let (kept, _) = script.job(&["/t"]).pull().await;
    assert_eq!(kept.codes(), [(WarningCode::Unreadable, "/t/f".into())]);
    assert_eq!(body(&kept, "/t/g"), b"ok");
}

#[tokio::test]
async fn answers_that_break_the_protocol_fail_the_job_with_a_sentence() {
    let cases: [(&str, &'static str); 7] = [
        ("HELLO", "SSH-2.0-OpenSSH_9.2\r\n"),
        ("HELLO", "554 go away\r\n"),
        ("TYPE I", "504 only text here\r\n"),
        ("EPSV", "229 no port\r\n"),
        ("EPSV", "299 (|||x|)\r\n"),
        ("PWD", "550 who knows\r\n"),
        ("CWD /t", "99 what\r\n"),
    ];
    for (command, answer) in cases {
        let content = listing(&[("/t", "-rw-r--r-- 1 u g 0 Jan 12 2020 x\n")], &[]);
        let script = Script::start(content, move |line| match line {
            "PASV" => Some("502 what?\r\n"),
            line => (line == command).then_some(answer),
        });
        let path = if command == "PWD" { "t" } else { "/t" };
        let error = script.job(&[path]).error().await;
        assert!(matches!(error, Error::Protocol { .. }), "{command}: {error}");
        assert!(error.to_string().contains("127.0.0.1"), "{command}: {error}");
        assert_eq!(error.disposition(), Disposition::Permanent, "{command}");
    }
}

#[tokio::test]
async fn files_are_never_asked_for_as_text_nor_with_a_line_break() {
    let script = Script::start(listing(&[("/t", "type=file;size=1; a\rb\n")], &[]), with_mlsd);
    let (kept, _) = script.job(&["/t"]).pull().await;
    assert_eq!(kept.codes(), [(WarningCode::BadName, "/t".into())]);
    let types: Vec<_> =
        script.heard.lock().unwrap().iter().filter(|line| line.starts_with("TYPE")).cloned().collect();
    assert!(!types.is_empty() && types.iter().all(|line| line == "TYPE I"), "{types:?}");
    assert_eq!(script.heard("RETR"), 0);
}

/// What it sends is read all the same.
#[tokio::test]
async fn a_server_that_announces_no_transfer_is_read_to_its_end() {
    for (verb, features) in [("LIST", None), ("MLSD", Some(())), ("RETR", Some(()))] {
        let facts = "type=file;size=2;modify=20200101000000; x\n";
        let line = "-rw-r--r-- 1 u g 2 Jan 12 2020 x\n";
        let content = listing(&[("/t", if features.is_some() { facts } else { line })], &[("/t/x", "ab")]);
        let script = Script::start(content, move |line| match line {
            "LIST -a" | "LIST" if features.is_some() => Some("550 no\r\n"),
            line if line.starts_with(verb) => Some("150-226 done\r\n"),
            line => features.and_then(|()| with_mlsd(line)),
        });
        let (kept, _) = script.job(&["/t"]).pull().await;
        assert_eq!((body(&kept, "/t/x"), kept.warnings.len()), (&b"ab"[..], 0), "{verb}");
        let probe = script.job(&["/t"]).probe().await.unwrap();
        assert_eq!(probe.paths[0].kind, Some("directory"), "{verb}: {probe:?}");
    }
}

#[tokio::test]
async fn a_server_that_names_no_port_to_epsv_is_asked_the_old_way() {
    for answer in ["229 Entering Extended Passive Mode\r\n", "229 ok (|||0|)\r\n"] {
        let content = listing(&[("/t", "type=file;size=2; x\n")], &[("/t/x", "ab")]);
        let script = Script::start(content, move |line| match line {
            "EPSV" => Some(answer),
            line => with_mlsd(line),
        });
        let (kept, _) = script.job(&["/t"]).pull().await;
        assert_eq!((body(&kept, "/t/x"), kept.warnings.len()), (&b"ab"[..], 0), "{answer}");
        assert!(script.heard("EPSV") <= 2, "each of two connections asks once");
    }
}

/// Some count a connection that dropped as one that is there, and let nobody more in.
#[tokio::test]
async fn a_server_that_let_us_in_before_is_asked_again_when_it_does_not() {
    let content = listing(&[("/t", "type=file;size=4; f\n")], &[("/t/f", "abcd")]);
    let (logins, cuts) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let script = Script::start(content, move |line| match line {
        "RETR /t/f" if cuts.fetch_add(1, Ordering::Relaxed) == 0 => Some("150 426 broken off\r\n"),
        "PASS p" if logins.fetch_add(1, Ordering::Relaxed) == 1 => Some("530 too many of you\r\n"),
        line => with_mlsd(line),
    });
    let job = script.job(&["/t"]);
    let (kept, _) = job.pull().await;
    assert_eq!((body(&kept, "/t/f"), kept.warnings.len()), (&b"abcd"[..], 0));
    assert!(job.noted("530 too many of you; connecting again"), "{:?}", job.seen.notes());
    assert_eq!(script.heard("PASS"), 3);
}

/// It says no to REST.
#[tokio::test]
async fn a_server_that_does_not_go_on_in_the_middle_is_skipped_through_at_once() {
    let text: String = (0..300_000).map(|number| format!("{number:07}\n")).collect();
    let facts = format!("type=file;size={};modify=20200101000000; f\n", text.len());
    let cuts = AtomicUsize::new(0);
    let script = Script::start(listing(&[("/t", &facts)], &[("/t/f", &text)]), move |line| match line {
        "RETR /t/f" if cuts.fetch_add(1, Ordering::Relaxed) == 0 => Some("150 426 broken off\r\n"),
        line if line.starts_with("REST") => Some("502 not here\r\n"),
        line => with_mlsd(line),
    });
    let job = script.job(&["/t"]);
    let (kept, _) = job.pull().await;
    assert!(body(&kept, "/t/f") == text.as_bytes(), "{:?}", kept.warnings);
    assert_eq!((kept.warnings.len(), script.heard("REST"), script.heard("RETR")), (0, 1, 2));
}

/// It says yes to REST.
#[tokio::test]
async fn a_server_that_begins_from_zero_all_the_same_is_skipped_through() {
    let many: String = (0..300_000).map(|number| format!("{number:07}\n")).collect();
    let zeros = "0".repeat(many.len());
    for (text, is_seen) in [(many, true), (zeros, false)] {
        let facts = format!("type=file;size={};modify=20200101000000; f\n", text.len());
        let cuts = AtomicUsize::new(0);
        let script = Script::start(listing(&[("/t", &facts)], &[("/t/f", &text)]), move |line| match line {
            "RETR /t/f" if cuts.fetch_add(1, Ordering::Relaxed) == 0 => Some("150 426 broken off\r\n"),
            line if line.starts_with("REST") => Some("350 as you like\r\n"),
            line => with_mlsd(line),
        });
        let job = script.job(&["/t"]);
        let (kept, _) = job.pull().await;
        if is_seen {
            assert!(body(&kept, "/t/f") == text.as_bytes(), "{:?}", kept.warnings);
            assert_eq!((kept.warnings.len(), script.heard("REST")), (0, 1), "{:?}", job.seen.notes());
        } else {
            // Nothing tells these bytes from others, but that there are too many of them.
            assert!(kept.codes().contains(&(WarningCode::Unreadable, "/t/f".into())), "{:?}", kept.warnings);
        }
    }
}

/// What was listed before is no directory.
#[tokio::test]
async fn a_listing_that_was_broken_off_is_asked_for_again() {
    let line = "-rw-r--r-- 1 u g 2 Jan 12 2020 x\n";
    let cuts = AtomicUsize::new(0);
    let script = Script::start(listing(&[("/t", line)], &[("/t/x", "ab")]), move |line| {
        let is_first = line.starts_with("LIST") && cuts.fetch_add(1, Ordering::Relaxed) == 0;
        is_first.then_some("150 426 broken off\r\n")
    });
    let job = script.job(&["/t"]);
    let (kept, _) = job.pull().await;
    assert_eq!((body(&kept, "/t/x"), kept.warnings.len()), (&b"ab"[..], 0));
    assert!(
        job.noted("the listing of `/t` was broken off") && job.noted("connecting again"),
        "{:?}",
        job.seen.notes()
    );
}

/// It says that it knows it.
#[tokio::test]
async fn a_server_that_has_no_mlsd_after_all_is_listed_the_old_way() {
    let line = "-rw-r--r-- 1 u g 2 Jan 12 2020 x\n";
    for answer in ["500 what?\r\n", "502 not here\r\n"] {
        let script = Script::start(listing(&[("/t", line)], &[("/t/x", "ab")]), move |line| match line {
            line if line.starts_with("MLSD") => Some(answer),
            line => with_mlsd(line),
        });
        let (kept, _) = script.job(&["/t"]).pull().await;
        assert_eq!((body(&kept, "/t/x"), kept.warnings.len()), (&b"ab"[..], 0), "{answer}");
    }
}

/// As DOS writes it: there is nothing that MLSD does not tell.
#[tokio::test]
async fn a_list_that_tells_no_links_is_not_asked_for_beside_mlsd() {
    let root = "type=dir; a\ntype=dir; b\ntype=file;size=2; x\n";
    let dos = "01-29-24  03:20PM       <DIR>          a\n01-29-24  03:20PM                    2 x\n";
    let lists = [("/t", root), ("LIST /t", dos), ("/t/a", ""), ("/t/b", "")];
    let script = Script::start(listing(&lists, &[("/t/x", "ab")]), with_mlsd);
    let (kept, _) = script.job(&["/t"]).set(|settings| settings.max_connections = 1).pull().await;
    assert_eq!((body(&kept, "/t/x"), kept.entries.len()), (&b"ab"[..], 4));
    assert!(script.heard("MLSD") == 3 && script.heard("LIST") <= 2, "{:?}", script.heard.lock().unwrap());
}
