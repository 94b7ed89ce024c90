//! Names that mean something to the server itself: Telnet's commands, and options of LIST.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use xvault_core::EntryKind;
use xvault_testkit::Ftpd;

use crate::ftp_support::{BOTH, Job, fill};

/// Each is sound in Latin-1. Cut at what Telnet takes out, the first ones would be `plain`, and the last one its directory.
const TELNET: [&[u8]; 8] = [
    b"plain\xff\xfe",
    b"plain\xff\xfea",
    b"\xff\xfb\xff\xfd x",
    b"\xff\xff iac",
    b"\xff\xf4",
    b"\xff",
    b"\xff\xff\xff\xfc",
    b"\xff\xfe/in a directory",
];

#[tokio::test]
async fn names_that_are_commands_of_telnet_come_with_their_own_content() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fill(&ftpd, &[("t/plain", "plain"), ("t/in a directory", "another")]);
        let inside = |name: &[u8]| Path::new("t").join(OsStr::from_bytes(name));
        for name in TELNET {
            let path = ftpd.home.join(inside(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        ftpd.give(&ftpd.home);
        let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
        assert_eq!(kept.warnings, [], "{kind:?}");
        for name in TELNET {
            let path = PathBuf::from("/").join(inside(name));
            assert_eq!(kept.body(&path), Some(name), "{kind:?} {path:?}");
        }
    }
}

#[tokio::test]
async fn an_entry_called_as_an_option_of_list_hides_no_other() {
    for kind in BOTH {
        for is_directory in [false, true] {
            let ftpd = Ftpd::builder(kind).start();
            let odd = if is_directory { "t/-a/x" } else { "t/-a" };
            fill(&ftpd, &[(odd, "odd"), ("t/z", "z"), ("later/.hidden", "h")]);
            if is_directory {
                symlink("/phantom", ftpd.home.join("t/-a/phantom")).unwrap();
            }
            let links = [(".dangling", "/nowhere"), ("dangling", "/nowhere"), ("good", "z")];
            for (name, target) in links {
                symlink(target, ftpd.home.join("t").join(name)).unwrap();
            }
            assert!(Command::new("mkfifo").arg(ftpd.home.join("t/pipe")).status().unwrap().success());
            let (kept, _) = Job::new(&ftpd, &["/later", "/t"]).pull().await;
            let case = format!("{kind:?} {is_directory} {:?}", kept.warnings);
            for (name, target) in links {
                let path = format!("t/{name}");
                let found = kept.entries.iter().find(|(entry, _)| entry.path.to_string() == path);
                let kind = &found.unwrap_or_else(|| panic!("{path} is missing: {case}")).0.kind;
                assert_eq!(*kind, EntryKind::Symlink { target: target.into() }, "{case}");
            }
            assert!(kept.entries.iter().all(|(entry, _)| entry.path.to_string() != "t/phantom"), "{case}");
            for (path, text) in [(odd, "odd"), ("t/z", "z"), ("later/.hidden", "h")] {
                assert_eq!(kept.body(&Path::new("/").join(path)), Some(text.as_bytes()), "{case}");
            }
            assert_eq!(kept.warnings, [], "{case}");
        }
    }
}
