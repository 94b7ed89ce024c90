//! What is pulled over FTP is what is there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xvault_connectors::Error;
use xvault_core::snapshot::Evidence;
use xvault_core::source::FtpTls;
use xvault_core::{Dispose, Disposition, EntryKind, WarningCode};
use xvault_testkit::trees::{EARLY, oddities, random_file, set_mtime, small_files};
use xvault_testkit::{FtpKind, Ftpd, MtimeMatch, TreeOptions, assert_same_tree};

use crate::ftp_support::{BOTH, Job, body, fill, found};
use crate::ssh_support::Kept;

/// Makes a tree with every oddity that FTP can say, below the account's `/`.
fn odd_tree(ftpd: &Ftpd) {
    let tree = ftpd.home.join("tree");
    oddities(&tree);
    let bytes = |name: &'static [u8]| OsStr::from_bytes(name);
    // ProFTPD runs a line of more than a thousand bytes into the next one.
    let odd = ["names/new\nline", "names/\ttab\rreturn", "modes/file-0000", "links/bytes", "links/long"];
    for name in odd {
        fs::remove_file(tree.join(name)).unwrap();
    }
    fs::remove_dir_all(tree.join("names").join(bytes(b"folder \xfe\n"))).unwrap();
    fs::create_dir(tree.join("names").join(bytes(b"folder \xfe"))).unwrap();
    symlink(bytes(b"bad \xff target -> x"), tree.join("links/bytes")).unwrap();
    ftpd.give(&tree);
    // Who gives a file away takes setuid from it.
    for mode in [0o2755, 0o4755, 0o6711] {
        let path = tree.join(format!("modes/file-{mode:04o}"));
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    // What was changed in it has another time than the rest.
    for folder in ["names", "modes", "links"] {
        set_mtime(&tree.join(folder), 1_000_000_000, 0);
    }
}

#[tokio::test]
async fn every_oddity_that_ftp_can_say_survives() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        odd_tree(&ftpd);
        let (kept, summary) = Job::new(&ftpd, &["/tree"]).pull().await;
        assert_eq!(kept.warnings, [], "{kind:?}");
        assert_eq!(summary.content.skipped, 2, "{kind:?}");
        let Evidence::Walk { directories, files } = summary.evidence else { panic!("{summary:?}") };
        assert_eq!((directories, files), (summary.content.directories, summary.content.files));
        let out = tempfile::tempdir().unwrap();
        kept.unpack(out.path());
        // LIST has times of directories and links to the minute, or the day.
        let mtime = if kind == FtpKind::Proftpd { MtimeMatch::WholeSeconds } else { MtimeMatch::Ignore };
        // Links that lead nowhere are in LIST alone.
        let nowhere = ["absolute", "bytes", "dangling", "loop-a", "loop-b"];
        let except = match kind {
            FtpKind::Proftpd => nowhere.map(|name| PathBuf::from("links").join(name)).to_vec(),
            FtpKind::Vsftpd => Vec::new(),
        };
        let options = TreeOptions { mtime, owner: true, hard_links: false, except, ..TreeOptions::default() };
        let (tree, copy) = (ftpd.home.join("tree"), out.path().join("tree"));
        assert_same_tree(&tree, &copy, &options);
        for name in nowhere {
            let target = |tree: &Path| fs::read_link(tree.join("links").join(name)).unwrap();
            assert_eq!(target(&tree), target(&copy), "{kind:?}");
            let owner = |tree: &Path| fs::symlink_metadata(tree.join("links").join(name)).unwrap().uid();
            assert_eq!(owner(&tree), owner(&copy), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn times_of_files_are_to_the_second_without_mlsd_too() {
    let ftpd = Ftpd::builder(FtpKind::Vsftpd).start();
    fill(&ftpd, &[("t/old", "o"), ("t/early", "e"), ("t/large", &"x".repeat(3 << 20))]);
    for (name, secs) in [("old", 1_234_567_890), ("early", EARLY + 7), ("large", 1_111_111_111)] {
        set_mtime(&ftpd.home.join("t").join(name), secs, 0);
    }
    let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
    let times: Vec<_> = kept.entries.iter().skip(1).map(|(entry, _)| entry.metadata.mtime.secs).collect();
    assert_eq!(times, [EARLY + 7, 1_111_111_111, 1_234_567_890]);
}

#[tokio::test]
async fn names_with_line_breaks_are_told_and_nothing_else_is_lost() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fill(&ftpd, &[("t/a", "a"), ("t/new\nline", "x"), ("t/z", "z")]);
        let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
        let names: Vec<_> = found(&kept).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["t/", "t/a", "t/z"], "{kind:?}");
        let codes: BTreeSet<_> = kept.warnings.iter().map(|warning| warning.code.as_str()).collect();
        assert_eq!(codes, BTreeSet::from(["bad_name", "vanished"]), "{kind:?}");
    }
}

#[tokio::test]
async fn configured_paths_may_be_files_links_relative_nested_or_strange() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fill(&ftpd, &[("data/sub/f", "f"), (r"-x\ty [z]*/g", "g"), ("file", "content")]);
        symlink("data", ftpd.home.join("link")).unwrap();
        symlink("file", ftpd.home.join("flink")).unwrap();
        let paths = ["data/sub", "/data", "link", "flink", r"-x\ty [z]*", "./data//"];
        let (kept, _) = Job::new(&ftpd, &paths).pull().await;
        let names: Vec<_> = found(&kept).into_iter().map(|(name, _)| name).collect();
        let expected = [
            "data/",
            "data/sub/",
            "data/sub/f",
            "link/",
            "link/sub/",
            "link/sub/f",
            "flink",
            r"-x\ty [z]*/",
            r"-x\ty [z]*/g",
        ];
        assert_eq!(names, expected, "{kind:?}");
        assert_eq!((body(&kept, "/flink"), body(&kept, "/link/sub/f")), (&b"content"[..], &b"f"[..]));
        let (all, _) = Job::new(&ftpd, &["/"]).pull().await;
        assert_eq!(found(&all).first().map(|(name, _)| name.as_str()), Some(r"-x\ty [z]*/"));
        assert_eq!(all.entries.len(), 8, "{kind:?}");
    }
}

#[tokio::test]
async fn a_path_behind_a_link_inside_another_path_is_refused() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fill(&ftpd, &[("real/uploads/x", "x"), ("web/y", "y")]);
        symlink("../real", ftpd.home.join("web/current")).unwrap();
        let error = Job::new(&ftpd, &["/web", "/web/current/uploads"]).error().await;
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert!(error.to_string().contains("web/current/uploads"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_path_is_named_and_makes_no_backup() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fill(&ftpd, &[("a/x", "x"), ("locked/y", "y")]);
        let error = Job::new(&ftpd, &["/a", "/no such"]).error().await;
        assert!(matches!(&error, Error::NotFound(what) if what.contains("/no such")), "{error}");
        fs::set_permissions(ftpd.home.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
        let error = Job::new(&ftpd, &["/locked"]).error().await;
        assert!(error.to_string().contains("/locked"), "{error}");
        fs::set_permissions(ftpd.home.join("locked"), fs::Permissions::from_mode(0o111)).unwrap();
        let error = Job::new(&ftpd, &["/locked"]).error().await;
        assert_eq!(error.disposition(), Disposition::Permanent, "{error}");
        assert!(error.to_string().starts_with("path `/locked` could not be"), "{error}");
    }
}

#[tokio::test]
async fn what_can_not_be_read_is_told_and_the_rest_is_kept() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fill(&ftpd, &[("t/a", "a"), ("t/dark/x", "x"), ("t/deaf/x", "x"), ("t/secret", "s"), ("t/z", "z")]);
        for (name, mode) in [("dark", 0o000), ("deaf", 0o111), ("secret", 0o000)] {
            fs::set_permissions(ftpd.home.join("t").join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
        let names: Vec<_> = found(&kept).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["t/", "t/a", "t/dark/", "t/deaf/", "t/z"], "{kind:?}");
        let unreadable = |name: &str| (WarningCode::Unreadable, format!("/t/{name}").into());
        let expected = ["dark", "deaf", "secret"].map(unreadable);
        assert_eq!(kept.codes(), expected, "{kind:?}: {:?}", kept.warnings);
    }
}

#[tokio::test]
async fn excludes_are_neither_listed_nor_fetched() {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).start();
    fill(&ftpd, &[("t/a.log", "a"), ("t/b", "b"), ("t/cache/x", "x"), ("t/keep/a.log", "k")]);
    let globs = ["*.log", "cache/", "!/keep/a.log"].map(str::to_owned).to_vec();
    let (kept, _) = Job::new(&ftpd, &["/t"]).set(|settings| settings.excludes = globs).pull().await;
    let names: Vec<_> = found(&kept).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["t/", "t/b", "t/keep/", "t/keep/a.log"]);
}

#[tokio::test]
async fn every_way_to_encrypt_brings_the_same_from_both_servers() {
    for kind in BOTH {
        for mode in [FtpTls::Explicit, FtpTls::Implicit, FtpTls::Disable] {
            let builder = Ftpd::builder(kind);
            let ftpd = if mode == FtpTls::Implicit { builder.implicit().start() } else { builder.start() };
            small_files(&ftpd.home.join("t"), 250, 2000);
            random_file(&ftpd.home.join("t/large"), (5 << 20) + 3, 4);
            fs::write(ftpd.home.join("t/text"), "line\r\nline\nno end").unwrap();
            ftpd.give(&ftpd.home);
            let job = match mode {
                FtpTls::Disable => Job::new(&ftpd, &["/t"]).plain(),
                mode => Job::new(&ftpd, &["/t"]).set(|settings| settings.tls_mode = mode),
            };
            let (kept, _) = job.pull().await;
            assert_eq!(kept.warnings, [], "{kind:?} {mode:?}");
            let out = tempfile::tempdir().unwrap();
            kept.unpack(out.path());
            let options = TreeOptions { mtime: MtimeMatch::Ignore, owner: true, ..TreeOptions::default() };
            assert_same_tree(&ftpd.home.join("t"), &out.path().join("t"), &options);
            assert_eq!(job.seen.notes(), Vec::<String>::new(), "{kind:?} {mode:?}");
        }
    }
}

#[tokio::test]
async fn no_more_connections_are_made_than_the_settings_allow() {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).start();
    small_files(&ftpd.home.join("t"), 300, 20_000);
    ftpd.give(&ftpd.home);
    let most = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (seen, ftpd) = (most.clone(), std::sync::Arc::new(ftpd));
    let (server, job) = (ftpd.clone(), Job::new(&ftpd, &["/t"]).set(|settings| settings.max_connections = 3));
    let count = move |_| {
        seen.fetch_max(server.sessions(), std::sync::atomic::Ordering::Relaxed);
    };
    let mut kept = Kept { on_data: Some(Box::new(count)), ..Kept::default() };
    job.pull_into(&mut kept).await.unwrap();
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((most, kept.entries.len()), (3, 304));
}

#[tokio::test]
async fn a_hundred_thousand_files_in_one_directory_are_listed() {
    let proftpd = Ftpd::builder(FtpKind::Proftpd).start();
    let folder = proftpd.home.join("t");
    fs::create_dir(&folder).unwrap();
    for number in 0..100_000 {
        fs::File::create(folder.join(format!("file number {number:06}"))).unwrap();
    }
    let same = format!("local_root={}", proftpd.home.display());
    let vsftpd = Ftpd::builder(FtpKind::Vsftpd).config(&same).start();
    for ftpd in [&proftpd, &vsftpd] {
        let globs = ["*", "!*000"].map(str::to_owned).to_vec();
        let job = Job::new(ftpd, &["/t"]).plain().set(|settings| settings.excludes = globs);
        let (kept, _) = job.pull().await;
        assert_eq!((kept.warnings.len(), kept.entries.len()), (0, 1 + 100));
    }
}

#[tokio::test]
async fn a_cancelled_pull_ends_at_once() {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).start();
    random_file(&ftpd.home.join("large"), 40 << 20, 1);
    let job = Job::new(&ftpd, &["/large"]);
    let cancel = job.control.cancel_token().clone();
    let cancelling = Box::new(move |bytes| {
        if bytes > 1 << 20 {
            cancel.cancel();
        }
    });
    let mut kept = Kept { on_data: Some(cancelling), ..Kept::default() };
    let began = Instant::now();
    let error = job.pull_into(&mut kept).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(10) && kept.bytes < 8 << 20, "{}", kept.bytes);
}

#[tokio::test]
async fn links_are_kept_as_links_wherever_they_lead() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fill(&ftpd, &[("t/file", "f"), ("t/folder/x", "x")]);
        let links =
            [("a", "file"), ("b", "folder"), ("c", "/etc/passwd"), ("d", "."), ("e", "no such"), ("f", "..")];
        for (name, target) in links {
            symlink(target, ftpd.home.join("t").join(name)).unwrap();
        }
        let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
        let kinds = kept.entries.iter().filter_map(|(entry, _)| match &entry.kind {
            EntryKind::Symlink { target } => Some((entry.path.name().to_vec(), target.clone())),
            _ => None,
        });
        let expected = links.map(|(name, target)| (name.as_bytes().to_vec(), target.as_bytes().to_vec()));
        assert_eq!(kinds.collect::<Vec<_>>(), expected, "{kind:?}");
        assert_eq!(kept.warnings, [], "{kind:?}");
    }
}

/// A block of code of the manual.
fn from_manual(language: &str) -> String {
    let path = format!("{}/../docs/sources/ftp.md", env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(path).unwrap();
    let begin = page.find(&format!("```{language}\n")).unwrap() + language.len() + 4;
    page[begin..].split("```").next().unwrap().to_owned()
}

#[tokio::test]
async fn the_account_of_the_manual_reads_and_nothing_else() {
    for (kind, language) in [(FtpKind::Proftpd, "proftpd"), (FtpKind::Vsftpd, "vsftpd")] {
        let ftpd = Ftpd::builder(kind).config(&from_manual(language)).start();
        fill(&ftpd, &[("t/a", "a")]);
        let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
        assert_eq!((body(&kept, "/t/a"), kept.warnings.len()), (&b"a"[..], 0));
        let url = format!("ftp://127.0.0.1:{}/t/new", ftpd.port);
        let account = format!("{}:{}", ftpd.user, ftpd.password);
        let args = ["-sS", "--ssl-reqd", "-k", "-u", &account, "-T", "/etc/hostname", &url];
        let output = xvault_testkit::tools::command("curl", args).output().unwrap();
        assert!(!output.status.success() && !ftpd.home.join("t/new").exists(), "{kind:?}: {output:?}");
    }
}

/// ProFTPD's own limit, which it says nothing of.
#[tokio::test]
async fn a_listing_with_a_line_that_servers_cut_is_told() {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).start();
    fill(&ftpd, &[("t/good/a", "a"), ("t/long/z", "z")]);
    std::os::unix::fs::symlink("x/".repeat(300), ftpd.home.join("t/good/link")).unwrap();
    std::os::unix::fs::symlink("x/".repeat(1500), ftpd.home.join("t/long/link")).unwrap();
    ftpd.give(&ftpd.home.join("t"));
    let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
    let told: Vec<_> =
        kept.warnings.iter().map(|warning| (warning.path.to_string(), &warning.message)).collect();
    assert!(
        told.iter().any(|(path, message)| path == "t/long" && message.contains("which some servers cut")),
        "{told:?}"
    );
    assert!(told.iter().all(|(path, _)| path != "t/good"), "{told:?}");
    assert_eq!(body(&kept, "/t/good/a"), b"a");
}
