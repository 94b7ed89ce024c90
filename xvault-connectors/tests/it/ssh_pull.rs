//! What is pulled is what is there.

use std::fs;
use std::num::NonZeroU64;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use xvault_connectors::{Control, Error};
use xvault_core::snapshot::Evidence;
use xvault_core::{Dispose, Disposition, EntryKind, Warning, WarningCode};
use xvault_testkit::trees::{oddities, random_file, small_files};
use xvault_testkit::{MtimeMatch, Sshd, TreeOptions, assert_same_tree};

use crate::ssh_support::{BOTH, Job, Kept, Kind};

fn unpacked(kept: &Kept, tree: &Path, options: &TreeOptions) {
    let out = tempfile::tempdir().unwrap();
    kept.unpack(out.path());
    assert_same_tree(tree, &out.path().join(tree.strip_prefix("/").unwrap()), options);
}

#[tokio::test]
async fn every_oddity_survives_sftp() {
    let sshd = Sshd::builder().root().start();
    let tree = sshd.home.join("tree");
    oddities(&tree);
    let (kept, summary) = Job::new(Kind::Sftp, &sshd, &[&tree]).pull().await;
    assert_eq!(kept.warnings, []);
    assert_eq!(summary.content.skipped, 2);
    let Evidence::Walk { directories, files } = summary.evidence else { panic!("{summary:?}") };
    assert_eq!((directories, files), (summary.content.directories, summary.content.files));
    let options = TreeOptions {
        mtime: MtimeMatch::Seconds32,
        owner: true,
        hard_links: false,
        ..TreeOptions::default()
    };
    unpacked(&kept, &tree, &options);
}

#[tokio::test]
async fn every_oddity_survives_remote_tar_with_fractions_and_hard_links() {
    let sshd = Sshd::builder().root().start();
    let tree = sshd.home.join("tree");
    oddities(&tree);
    let (kept, summary) = Job::new(Kind::Ssh, &sshd, &[&tree]).pull().await;
    assert_eq!(kept.warnings, []);
    assert!(matches!(summary.evidence, Evidence::Tar { exit_status: 0, .. }), "{summary:?}");
    assert_eq!(summary.content.skipped, 2);
    assert_eq!(summary.content.hardlinks, 2);
    unpacked(&kept, &tree, &TreeOptions { owner: true, ..TreeOptions::default() });
}

/// The resume of a broken tar stream rests on this.
#[tokio::test]
async fn both_ways_have_the_same_order() {
    let sshd = Sshd::builder().root().start();
    let tree = sshd.home.join("tree");
    oddities(&tree);
    for name in ["a", "a-b", "a.b", "a\u{1}", "a b"] {
        fs::create_dir(tree.join(name)).unwrap();
        fs::write(tree.join(name).join("x"), name).unwrap();
    }
    let mut orders = Vec::new();
    for kind in BOTH {
        let (kept, _) = Job::new(kind, &sshd, &[&tree]).pull().await;
        orders.push(kept.entries.into_iter().map(|(entry, _)| entry.path).collect::<Vec<_>>());
    }
    assert_eq!(orders[0], orders[1]);
}

#[tokio::test]
async fn configured_paths_may_be_files_links_relative_nested_or_strange() {
    let sshd = Sshd::builder().start();
    let home = &sshd.home;
    fs::create_dir_all(home.join("data/sub")).unwrap();
    fs::write(home.join("data/sub/f"), "f").unwrap();
    fs::create_dir(home.join(r"-x\ty z")).unwrap();
    fs::write(home.join(r"-x\ty z/g"), "g").unwrap();
    fs::write(home.join("file"), "content").unwrap();
    symlink("data", home.join("link")).unwrap();
    symlink("file", home.join("flink")).unwrap();
    let paths = ["data/sub", "data", "link", "flink", r"-x\ty z", "./data//"].map(Path::new);
    for kind in BOTH {
        let (kept, _) = Job::new(kind, &sshd, &paths).pull().await;
        let found: Vec<_> = kept
            .entries
            .iter()
            .map(|(entry, body)| {
                let path = Path::new("/").join(entry.path.to_string());
                let below = path.strip_prefix(home).unwrap().to_str().unwrap().to_owned();
                // tar knows that it had the file under another name already.
                let body = match &entry.kind {
                    EntryKind::Hardlink { target } => {
                        kept.body(&Path::new("/").join(target.to_string())).unwrap()
                    }
                    _ => body,
                };
                (below, matches!(entry.kind, EntryKind::Directory), body.to_vec())
            })
            .collect();
        let expected = [
            ("data", true, ""),
            ("data/sub", true, ""),
            ("data/sub/f", false, "f"),
            ("link", true, ""),
            ("link/sub", true, ""),
            ("link/sub/f", false, "f"),
            ("flink", false, "content"),
            (r"-x\ty z", true, ""),
            (r"-x\ty z/g", false, "g"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(p, d, b)| ((*p).to_owned(), *d, b.as_bytes().to_vec())).collect();
        assert_eq!(found, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn a_path_behind_a_link_inside_another_path_is_refused_with_its_real_name() {
    let sshd = Sshd::builder().start();
    fs::create_dir_all(sshd.home.join("real/uploads")).unwrap();
    fs::create_dir(sshd.home.join("web")).unwrap();
    symlink("../real", sshd.home.join("web/current")).unwrap();
    for kind in BOTH {
        let paths = [Path::new("web"), Path::new("web/current/uploads")];
        let error = Job::new(kind, &sshd, &paths).error().await;
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert!(error.to_string().contains("real/uploads"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_path_is_permanent_and_named() {
    let sshd = Sshd::builder().start();
    for kind in BOTH {
        let error = Job::new(kind, &sshd, &[&sshd.home, Path::new("/no/such path")]).error().await;
        assert!(matches!(error, Error::NotFound(_)), "{error:?}");
        assert!(error.to_string().contains("/no/such path"), "{error}");
    }
}

#[tokio::test]
async fn what_can_not_be_read_is_a_warning_and_the_rest_is_kept() {
    let sshd = Sshd::builder().start();
    let tree = sshd.home.join("tree");
    fs::create_dir_all(tree.join("locked dir")).unwrap();
    fs::write(tree.join("secret: \"x\"\n"), "x").unwrap();
    fs::write(tree.join("z-readable"), "kept").unwrap();
    fs::set_permissions(tree.join("secret: \"x\"\n"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(tree.join("locked dir"), fs::Permissions::from_mode(0o700)).unwrap();
    for kind in BOTH {
        let (kept, summary) = Job::new(kind, &sshd, &[&tree]).pull().await;
        let mut codes = kept.codes();
        codes.sort_by(|a, b| a.1.cmp(&b.1));
        let unreadable = |name: &str| (WarningCode::Unreadable, tree.join(name));
        // Shown as a person sees it.
        assert_eq!(codes, [unreadable("locked dir"), unreadable("secret: \"x\"\\n")], "{kind:?}");
        assert!(kept.warnings.iter().all(|w| w.message.contains("permission denied")), "{:?}", kept.warnings);
        assert_eq!(kept.body(&tree.join("z-readable")), Some(&b"kept"[..]));
        assert_eq!(kept.body(&tree.join("secret: \"x\"\n")), None);
        assert_eq!(summary.content.warnings, 2);
    }
}

#[tokio::test]
async fn a_configured_path_that_can_not_be_read_is_no_backup() {
    let sshd = Sshd::builder().start();
    fs::write(sshd.home.join("readable"), "x").unwrap();
    fs::write(sshd.home.join("file"), "x").unwrap();
    fs::create_dir(sshd.home.join("directory")).unwrap();
    fs::set_permissions(sshd.home.join("file"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(sshd.home.join("directory"), fs::Permissions::from_mode(0o700)).unwrap();
    for kind in BOTH {
        for closed in ["file", "directory"] {
            let closed = sshd.home.join(closed);
            let error = Job::new(kind, &sshd, &[&sshd.home.join("readable"), &closed]).error().await;
            assert_eq!(error.disposition(), Disposition::Permanent, "{kind:?}: {error:?}");
            let text = error.to_string();
            assert!(text.contains(&format!("`{}`", closed.display())), "{kind:?}: {text}");
            assert!(text.contains("permission denied"), "{kind:?}: {text}");
            assert!(!text.contains("command"), "none was run: {kind:?}: {text}");
        }
    }
}

#[tokio::test]
async fn excludes_leave_out_the_same_either_way() {
    let sshd = Sshd::builder().start();
    let tree = sshd.home.join("cache");
    for name in
        ["a.log", "keep.txt", "sub/b.log", "sub/tmp/x", "node_modules/m/index.js", "sub/anchored", "anchored"]
    {
        fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
        fs::write(tree.join(name), name).unwrap();
    }
    // The first name of this file is excluded: the second must still have the content.
    fs::hard_link(tree.join("a.log"), tree.join("linked.txt")).unwrap();
    let globs = ["*.log", "node_modules", "tmp/", "/anchored", "cache"];
    for kind in BOTH {
        let (kept, _) = Job::new(kind, &sshd, &[&tree]).excluding(&globs).pull().await;
        let mut names: Vec<_> = kept.entries.iter().map(|(entry, _)| entry.path.to_string()).collect();
        names.sort();
        let prefix = tree.to_str().unwrap()[1..].to_owned();
        let below = ["", "/keep.txt", "/linked.txt", "/sub", "/sub/anchored"];
        assert_eq!(names, below.map(|name| format!("{prefix}{name}")), "{kind:?}");
        assert_eq!(kept.body(&tree.join("linked.txt")), Some(&b"a.log"[..]), "{kind:?}");
    }
    // With something taken back, tar must not leave it out over there.
    let (kept, _) = Job::new(Kind::Ssh, &sshd, &[&tree]).excluding(&["*.log", "!b.log"]).pull().await;
    assert!(kept.body(&tree.join("sub/b.log")).is_some() && kept.body(&tree.join("a.log")).is_none());
    // A hard link to an excluded name is fetched by itself.
    let (kept, _) = Job::new(Kind::Ssh, &sshd, &[&tree]).excluding(&["/a.log", "!nothing"]).pull().await;
    assert_eq!(kept.body(&tree.join("linked.txt")), Some(&b"a.log"[..]));
}

#[tokio::test]
async fn files_that_vanish_shrink_or_grow_keep_the_archive_sound() {
    for kind in BOTH {
        let sshd = Sshd::builder().start();
        let tree = sshd.home.join("tree");
        fs::create_dir(&tree).unwrap();
        // Larger than all that is read ahead, so that what comes after has not been opened yet.
        random_file(&tree.join("a"), 64 << 20, 1);
        random_file(&tree.join("grows"), 8 << 20, 2);
        random_file(&tree.join("shrinks"), 48 << 20, 3);
        fs::create_dir(tree.join("vanishing")).unwrap();
        let meddle = tree.clone();
        let mut done = 0;
        let mut kept = Kept {
            on_data: Some(Box::new(move |bytes| {
                if done == 0 {
                    done = 1;
                    let grows = fs::OpenOptions::new().append(true).open(meddle.join("grows")).unwrap();
                    std::io::Write::write_all(&mut &grows, b"more").unwrap();
                } else if done == 1 && bytes > (73 << 20) {
                    done = 2;
                    let shrinks = fs::OpenOptions::new().write(true).open(meddle.join("shrinks")).unwrap();
                    shrinks.set_len(1 << 20).unwrap();
                }
            })),
            ..Kept::default()
        };
        let job = Job::new(kind, &sshd, &[&tree]);
        job.pull_into(&mut kept).await.unwrap();
        let codes = kept.codes();
        assert!(codes.contains(&(WarningCode::Shrunk, tree.join("shrinks"))), "{kind:?} {codes:?}");
        let body = kept.body(&tree.join("shrinks")).unwrap();
        assert_eq!(body.len(), 48 << 20);
        assert_eq!(body[..1 << 20], fs::read(tree.join("shrinks")).unwrap()[..]);
        assert!(body.ends_with(&[0; 1 << 20]));
    }
}

#[tokio::test]
async fn a_file_that_vanished_before_it_was_opened_is_a_warning() {
    for kind in BOTH {
        let sshd = Sshd::builder().start();
        let tree = sshd.home.join("tree");
        fs::create_dir(&tree).unwrap();
        random_file(&tree.join("a"), 64 << 20, 1);
        // More than are opened ahead while the first is read.
        small_files(&tree.join("b"), 3000, 100);
        let last = tree.join("z");
        fs::write(&last, "gone soon").unwrap();
        let gone = last.clone();
        let mut kept = Kept {
            on_data: Some(Box::new(move |_| {
                let _ = fs::remove_file(&gone);
            })),
            ..Kept::default()
        };
        Job::new(kind, &sshd, &[&tree]).pull_into(&mut kept).await.unwrap();
        // tar may notice, besides, that the directory changed under it; that is no loss.
        assert_eq!(kept.codes(), [(WarningCode::Vanished, last)], "{kind:?}");
        let small = |kind: &EntryKind| *kind == EntryKind::File { size: 100 };
        assert_eq!(kept.entries.iter().filter(|(entry, _)| small(&entry.kind)).count(), 3000);
    }
}

#[tokio::test]
async fn a_file_that_grows_while_it_is_read_is_cut_with_a_warning() {
    // tar can't tell growing from other changes.
    for (kind, code) in [(Kind::Sftp, WarningCode::Grew), (Kind::Ssh, WarningCode::Other)] {
        let sshd = Sshd::builder().start();
        let log = sshd.home.join("log");
        random_file(&log, 64 << 20, 1);
        let growing = log.clone();
        let mut kept = Kept {
            on_data: Some(Box::new(move |bytes| {
                if bytes < (4 << 20) {
                    let file = fs::OpenOptions::new().append(true).open(&growing).unwrap();
                    std::io::Write::write_all(&mut &file, b"more").unwrap();
                }
            })),
            ..Kept::default()
        };
        Job::new(kind, &sshd, &[&log]).pull_into(&mut kept).await.unwrap();
        assert_eq!(kept.codes(), [(code, log.clone())], "{kind:?}");
        assert!(kept.body(&log).unwrap() == &fs::read(&log).unwrap()[..64 << 20], "{kind:?}");
    }
}

#[tokio::test]
async fn no_shell_and_no_usable_tar_fall_back_to_sftp() {
    let tools = tempfile::tempdir().unwrap();
    fs::set_permissions(tools.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let fake = tools.path().join("tar");
    fs::write(&fake, "#!/bin/sh\necho 'bsdtar 3.6.2 - libarchive 3.6.2'\n").unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let cases = [
        ("ForceCommand internal-sftp".to_owned(), "there is no plain shell"),
        (format!("SetEnv PATH={}:/usr/bin:/bin", tools.path().display()), "bsdtar 3.6.2"),
    ];
    let sizes = ["the server does not say", "MiB of files"];
    let unreadable = [true, false];
    for (((config, reason), size), is_unknown) in cases.into_iter().zip(sizes).zip(unreadable) {
        let sshd = Sshd::builder().config(&config).start();
        let tree = sshd.home.join("tree");
        small_files(&tree, 20, 1000);
        let job = Job::new(Kind::Ssh, &sshd, &[&tree]);
        let probe = job.source().probe().await.unwrap();
        assert!(probe.notes.iter().any(|note| note.contains(reason)), "{:?}", probe.notes);
        assert!(probe.notes.iter().any(|note| note.contains(size)), "{:?}", probe.notes);
        let unknown = probe.notes.iter().any(|note| note.contains("can't read is not known"));
        assert_eq!(unknown, is_unknown, "{:?}", probe.notes);
        let (kept, summary) = job.pull().await;
        assert!(matches!(summary.evidence, Evidence::Walk { files: 20, .. }), "{summary:?}");
        assert!(job.noted(reason), "{:?}", job.seen.notes());
        let options =
            TreeOptions { mtime: MtimeMatch::Seconds32, hard_links: false, ..TreeOptions::default() };
        unpacked(&kept, &tree, &options);
    }
}

#[tokio::test]
async fn options_for_tar_in_the_account_s_environment_change_nothing() {
    let environments = [
        "TAR_OPTIONS=--exclude=*.txt",
        "TAR_OPTIONS=--no-such-option",
        "TAR_OPTIONS=--no-recursion TAPE=/nowhere POSIXLY_CORRECT=1 LANGUAGE=de LC_ALL=C.UTF-8",
    ];
    for environment in environments {
        let sshd = Sshd::builder().config(&format!("SetEnv {environment}")).start();
        let tree = sshd.home.join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("a.txt"), "a").unwrap();
        fs::write(tree.join("b"), "b").unwrap();
        let (kept, summary) = Job::new(Kind::Ssh, &sshd, &[&tree]).pull().await;
        assert!(
            matches!(summary.evidence, Evidence::Tar { exit_status: 0, .. }),
            "{environment}: {summary:?}"
        );
        assert_eq!(kept.warnings, []);
        unpacked(&kept, &tree, &TreeOptions::default());
    }
}

#[tokio::test]
async fn a_tar_that_dies_or_stops_early_is_no_backup() {
    let cases = [
        ("head -c 512 /dev/zero", "without closing its archive"),
        ("head -c 10240 /dev/zero; echo 'tar: Cannot write' >&2; exit 2", "Cannot write"),
        ("/usr/bin/tar \"$@\"; echo 'sh: disk on fire' >&2; exit 2", "disk on fire"),
        ("kill -9 $$", "killed by signal KILL"),
        ("exec /usr/bin/tar -c -C / etc/hostname", "outside of the configured paths"),
        ("exec /usr/bin/tar -c --no-recursion -C / $(pwd) $(pwd)", "comes twice"),
        ("echo 'this is no tar at all' | head -c 30; yes | head -c 2000", "malformed"),
    ];
    for (body, expected) in cases {
        let (sshd, _tools) = with_fake_tar(body);
        let error = Job::new(Kind::Ssh, &sshd, &[&sshd.home]).error().await.to_string();
        assert!(error.contains(expected), "{body}: {error}");
    }
}

/// A server whose tar does `body`, and where that lies.
fn with_fake_tar(body: &str) -> (Sshd, tempfile::TempDir) {
    let version = "echo 'tar (GNU tar) 1.34'";
    with_fake("tar", &format!("if [ \"$1\" = --version ]; then {version}; exit; fi\n{body}"))
}

fn with_fake(tool: &str, body: &str) -> (Sshd, tempfile::TempDir) {
    let tools = tempfile::tempdir().unwrap();
    fs::set_permissions(tools.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let fake = tools.path().join(tool);
    fs::write(&fake, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("SetEnv PATH={}:/usr/bin:/bin", tools.path().display());
    (Sshd::builder().config(&path).start(), tools)
}

#[tokio::test]
async fn what_tar_complains_of_in_unknown_words_makes_the_snapshot_partial() {
    let cases = [
        ("tar: Something new left out", Some("tar: Something new left out")),
        // Cut off, or of no entry that there could be.
        (r#"tar: "srv/cut"#, Some(r#"tar: "srv/cut"#)),
        (
            r#"tar: "../x": Cannot open: Permission denied"#,
            Some("`../x` could not be read: permission denied"),
        ),
        (r#"tar: "elsewhere/x": File shrank by 1 bytes"#, Some("`elsewhere/x` became shorter")),
        ("tar: Exiting with failure status due to previous errors", None),
        ("sh: warning: setlocale: LC_ALL: cannot change locale", None),
    ];
    for (said, told) in cases {
        let (sshd, _tools) = with_fake_tar(&format!("printf '%s\\n' '{said}' >&2; exec /usr/bin/tar \"$@\""));
        fs::write(sshd.home.join("f"), "f").unwrap();
        let (kept, summary) = Job::new(Kind::Ssh, &sshd, &[&sshd.home]).pull().await;
        assert_eq!(kept.body(&sshd.home.join("f")), Some(&b"f"[..]));
        assert!(matches!(summary.evidence, Evidence::Tar { exit_status: 0, .. }), "{summary:?}");
        let codes = told.map(|_| (WarningCode::Other, sshd.home.clone()));
        assert_eq!(kept.codes(), codes.into_iter().collect::<Vec<_>>(), "{said}");
        let messages = kept.warnings.iter().map(|warning| &warning.message);
        assert!(messages.zip(told).all(|(message, told)| message.contains(told)), "{:?}", kept.warnings);
    }
}

#[tokio::test]
async fn an_excluded_thing_that_can_not_be_read_is_no_failure() {
    let sshd = Sshd::builder().start();
    fs::write(sshd.home.join("secret"), "x").unwrap();
    fs::write(sshd.home.join("f"), "f").unwrap();
    fs::set_permissions(sshd.home.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let job = Job::new(Kind::Ssh, &sshd, &[&sshd.home]).excluding(&["/secret"]);
    let (kept, summary) = job.pull().await;
    assert!(matches!(summary.evidence, Evidence::Tar { exit_status: 2, .. }), "{summary:?}");
    assert_eq!((kept.warnings.len(), kept.body(&sshd.home.join("f"))), (0, Some(&b"f"[..])));
}

#[tokio::test]
async fn a_probe_tells_server_key_and_paths() {
    let sshd = Sshd::builder().start();
    fs::write(sshd.home.join("locked"), "x").unwrap();
    fs::set_permissions(sshd.home.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    let paths = [&sshd.home, Path::new("/nowhere"), Path::new("locked")].map(|p: &Path| p);
    for kind in BOTH {
        let probe = Job::new(kind, &sshd, &paths).source().probe().await.unwrap();
        assert!(probe.server.unwrap().starts_with("SSH-2.0-OpenSSH"));
        assert_eq!(probe.host_key, Some(sshd.host_key.fingerprint.clone()));
        assert_eq!(probe.paths[0].kind, Some("directory"));
        assert_eq!(probe.paths[1].error.as_deref(), Some("does not exist"));
        assert!(probe.paths[2].error.as_deref().unwrap().contains("can't be opened"), "{:?}", probe.paths);
        let notes = probe.notes.join("\n");
        match kind {
            Kind::Sftp => assert!(notes.starts_with("SFTP can't tell"), "{notes}"),
            Kind::Ssh => assert!(notes.contains("MiB of files") && !notes.contains("excluded"), "{notes}"),
        }
    }
}

#[tokio::test]
async fn a_probe_tells_how_much_there_is_and_what_of_it_can_not_be_read() {
    let sshd = Sshd::builder().start();
    let tree = sshd.home.join("it's a $(tree)");
    small_files(&tree, 4, 1 << 20);
    let secret = tree.join("se'cret \u{1f600}.pdf");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let probe = Job::new(Kind::Ssh, &sshd, &[&tree]).excluding(&["*.tmp"]).source().probe().await.unwrap();
    let notes = probe.notes.join("\n");
    assert!(notes.contains("MiB of files, with what is excluded"), "{notes}");
    assert!(notes.contains("can't read") && notes.contains("cret \u{1f600}.pdf"), "{notes}");
    fs::remove_file(&secret).unwrap();
    let probe = Job::new(Kind::Ssh, &sshd, &[&tree]).source().probe().await.unwrap();
    assert!(!probe.notes.iter().any(|note| note.contains("can't read")), "{probe:?}");
}

#[tokio::test]
async fn a_probe_says_when_what_can_not_be_read_could_not_be_looked_for() {
    let (slow, quick) = ("exec sleep 60", "exec busybox find \"$@\"");
    for (find, told) in [(quick, "no `find` that knows `-readable`"), (slow, "looked for in time")] {
        let (sshd, _tools) = with_fake("find", find);
        let secret = sshd.home.join("secret");
        fs::write(&secret, "x").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
        let probe = Job::new(Kind::Ssh, &sshd, &[&sshd.home]).source().probe().await.unwrap();
        let told = |note: &String| note.contains("can't read is not known") && note.contains(told);
        assert!(probe.notes.iter().any(told), "{:?}", probe.notes);
        assert!(probe.notes.iter().any(|note| note.contains("MiB of files")), "{:?}", probe.notes);
    }
}

#[tokio::test]
async fn the_login_shell_may_be_any() {
    for shell in ["tcsh", "fish"] {
        let sshd = Sshd::builder().shell(shell).start();
        let tree = sshd.home.join("it's\n!! a \\ $tree");
        small_files(&tree, 4, 1000);
        let secret = tree.join("secret");
        fs::write(&secret, "x").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
        let job = Job::new(Kind::Ssh, &sshd, &[&tree]);
        let notes = job.source().probe().await.unwrap().notes.join("\n");
        assert!(notes.contains("MiB of files") && notes.contains("/secret`"), "{shell}: {notes}");
        let (kept, summary) = job.pull().await;
        assert!(matches!(summary.evidence, Evidence::Tar { exit_status: 2, .. }), "{shell}: {summary:?}");
        let told = |warning: &Warning| (warning.code, warning.path.as_bytes().ends_with(b"/secret"));
        let told: Vec<_> = kept.warnings.iter().map(told).collect();
        assert_eq!((told, summary.content.files), (vec![(WarningCode::Unreadable, true)], 4));
    }
}

#[tokio::test]
async fn a_server_with_its_own_limits_is_not_overrun() {
    let sshd = Sshd::builder().default_limits().start();
    let tree = sshd.home.join("tree");
    for folder in ["a", "b", "c"] {
        small_files(&tree.join(folder), 500, 700);
    }
    for kind in BOTH {
        let (kept, summary) = Job::new(kind, &sshd, &[&tree]).pull().await;
        assert_eq!((summary.content.files, kept.warnings.len()), (1500, 0));
    }
}

#[tokio::test]
async fn a_large_directory_is_listed_whole_and_in_order() {
    let sshd = Sshd::builder().start();
    let tree = sshd.home.join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..5000 {
        fs::write(tree.join(format!("{number:04}")), "").unwrap();
    }
    let (kept, _) = Job::new(Kind::Sftp, &sshd, &[&tree]).pull().await;
    let names = kept.entries[1..].iter().map(|(entry, _)| entry.path.name().to_vec());
    assert!(names.eq((0..5000).map(|number| format!("{number:04}").into_bytes())));
}

#[tokio::test]
async fn the_bandwidth_limit_holds() {
    let sshd = Sshd::builder().start();
    let file = sshd.home.join("f");
    random_file(&file, 2 << 20, 1);
    for kind in BOTH {
        let mut job = Job::new(kind, &sshd, &[&file]);
        job.control = Control::default().with_bandwidth(NonZeroU64::new(2 << 20).unwrap());
        let started = Instant::now();
        let (kept, _) = job.pull().await;
        let took = started.elapsed();
        assert!(took > Duration::from_millis(800) && took < Duration::from_secs(4), "{took:?}");
        assert_eq!(kept.body(&file).unwrap(), fs::read(&file).unwrap());
    }
}

#[tokio::test]
async fn cancelling_stops_in_the_middle_of_a_file() {
    let sshd = Sshd::builder().start();
    let file = sshd.home.join("f");
    random_file(&file, 64 << 20, 1);
    for kind in BOTH {
        let job = Job::new(kind, &sshd, &[&file]);
        let cancel = job.control.cancel_token().clone();
        let mut kept = Kept {
            on_data: Some(Box::new(move |bytes| {
                if bytes > (1 << 20) {
                    cancel.cancel();
                }
            })),
            ..Kept::default()
        };
        let error = job.pull_into(&mut kept).await.unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error:?}");
        assert!(kept.entries[0].1.len() < 4 << 20);
    }
}
