//! Names that lie about lines of a listing: arrows in links, line breaks in files. No other entry may vanish by them.

use std::fs;
use std::os::unix::fs::symlink;

use xvault_core::EntryKind;
use xvault_testkit::Ftpd;

use crate::ftp_script::{Script, listing, with_mlsd};
use crate::ftp_support::{BOTH, Job, body, fill};
use crate::ssh_support::Kept;

/// Names below `/t`, and where links lead.
fn links(kept: &Kept) -> Vec<(String, String)> {
    let target = |kind: &EntryKind| match kind {
        EntryKind::Symlink { target } => Some(String::from_utf8(target.clone()).unwrap()),
        _ => None,
    };
    let links = kept.entries.iter().filter_map(|(entry, _)| Some((&entry.path, target(&entry.kind)?)));
    links.map(|(path, target)| (path.to_string().replacen("t/", "", 1), target)).collect()
}

fn owned(links: &[(&str, &str)]) -> Vec<(String, String)> {
    links.iter().map(|(name, target)| ((*name).to_owned(), (*target).to_owned())).collect()
}

#[tokio::test]
async fn an_arrow_in_a_link_hides_no_other_entry() {
    // Names and targets with arrows: dangling, leading somewhere, and beside what the line could be taken for.
    let expected = [
        ("a -> b", "/etc/passwd"),
        ("folder -> a", "a"),
        ("lone", "x -> y"),
        ("lone -> z", "a -> b -> c"),
        ("to", "odd -> name"),
    ];
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fill(&ftpd, &[("t/a", "precious"), ("t/folder/x", "x"), ("t/odd -> name", "odd"), ("t/z", "z")]);
        for (name, target) in expected {
            symlink(target, ftpd.home.join("t").join(name)).unwrap();
        }
        let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
        assert_eq!(kept.warnings, [], "{kind:?}");
        assert_eq!(links(&kept), owned(&expected), "{kind:?}");
        let files = [("/t/a", "precious"), ("/t/folder/x", "x"), ("/t/odd -> name", "odd"), ("/t/z", "z")];
        for (path, content) in files {
            assert_eq!(body(&kept, path), content.as_bytes(), "{kind:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_line_break_in_a_name_hides_no_other_entry() {
    for kind in BOTH {
        for line in ["lrwxrwxrwx 1 0 0 1 Jan 12 2020 a -> b", "prw-r--r-- 1 0 0 0 Jan 12 2020 a"] {
            let ftpd = Ftpd::builder(kind).start();
            fill(&ftpd, &[("t/a", "precious"), ("t/z", "z")]);
            fs::write(ftpd.home.join(format!("t/\n{line}")), "").unwrap();
            fs::write(ftpd.home.join(format!("t/x\n{line}")), "").unwrap();
            let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
            assert_eq!((body(&kept, "/t/a"), body(&kept, "/t/z")), (&b"precious"[..], &b"z"[..]), "{kind:?}");
            assert!(!kept.warnings.is_empty(), "{kind:?} {line}");
        }
    }
}

/// FTP can't say what it leads to: that is told, instead of the half of it.
#[tokio::test]
async fn a_link_whose_target_has_a_line_break_is_told() {
    for kind in BOTH {
        let ftpd = Ftpd::builder(kind).start();
        fill(&ftpd, &[("t/a", "a")]);
        symlink("half\nof it", ftpd.home.join("t/link")).unwrap();
        let (kept, _) = Job::new(&ftpd, &["/t"]).pull().await;
        assert_eq!(body(&kept, "/t/a"), b"a", "{kind:?}");
        assert!(!kept.warnings.is_empty(), "{kind:?}: {:?}", links(&kept));
    }
}

/// The server follows links in MLSD, and counts no bytes of targets: nothing says which it is.
#[tokio::test]
async fn a_line_that_can_be_read_in_two_ways_is_told_and_the_file_is_kept() {
    let facts = "type=file;size=8;modify=20200101000000; a\n";
    let line = "lrwxrwxrwx 1 u g 9 Jan 12 2020 a -> b -> c\n";
    let script =
        Script::start(listing(&[("/t", facts), ("LIST /t", line)], &[("/t/a", "precious")]), with_mlsd);
    let (kept, _) = script.job(&["/t"]).pull().await;
    assert_eq!((body(&kept, "/t/a"), links(&kept)), (&b"precious"[..], owned(&[])));
    let told = |kept: &Kept| kept.warnings.iter().map(|warning| warning.message.clone()).collect::<Vec<_>>();
    assert!(
        told(&kept)[0].contains("in more than one way, as names and targets may have arrows: `a -> b -> c`"),
        "{:?}",
        told(&kept)
    );
    // By LIST alone there is no more to go by, but names that it lists plainly.
    let script = Script::start(listing(&[("/t", line)], &[]), |_| None);
    let (kept, _) = script.job(&["/t"]).pull().await;
    assert_eq!(links(&kept), owned(&[("a", "b -> c")]));
    assert!(told(&kept)[0].contains("in more than one way"), "{:?}", told(&kept));
    let lines = "-rw-r--r-- 1 u g 8 Jan 12 2020 a\nlrwxrwxrwx 1 u g 9 Jan 12 2020 a -> b -> c\n";
    let script = Script::start(listing(&[("/t", lines)], &[("/t/a", "precious")]), |_| None);
    let (kept, _) = script.job(&["/t"]).pull().await;
    assert_eq!((body(&kept, "/t/a"), links(&kept)), (&b"precious"[..], owned(&[("a -> b", "c")])));
    assert_eq!(told(&kept), Vec::<String>::new());
}
