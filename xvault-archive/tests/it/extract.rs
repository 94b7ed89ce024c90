//! Extraction: what was written comes back as a tree, and what was there is treated as asked.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink as make_symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use xvault_archive::{
    ArchiveReader, Error, ExtractOptions, ExtractStats, Overwrite, Watch, WriterOptions, extract,
};
use xvault_core::monitor::Recorder;
use xvault_core::{EntryKind, EntryPath, Identity, Mtime, Phase, Progress, Warning};

use crate::support::{
    Archive, Counting, Item, dir, file, hardlink, key, noise, oddities, path, stream, symlink, trees, write,
    write_with,
};
use crate::tree::{assert_tree, names, place};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Owners that this system has, so that root can restore them.
fn possible(items: Vec<Item>) -> Vec<Item> {
    let adjust = |(mut entry, body): Item| {
        entry.metadata.uid %= 60_000;
        entry.metadata.gid %= 60_000;
        // ext4 and tmpfs differ beyond this; the tar tests go further.
        entry.metadata.mtime.secs = entry.metadata.mtime.secs.clamp(1 - (1 << 31), 1 << 33);
        (entry, body)
    };
    items.into_iter().map(adjust).collect()
}

fn all(archive: &Archive, target: &std::path::Path, overwrite: Overwrite) -> Result<ExtractStats, Error> {
    extract(&mut archive.reader(), target, &ExtractOptions { overwrite, ..ExtractOptions::default() })
}

#[test]
fn every_oddity_comes_back_as_a_tree() {
    let items = possible(oddities());
    let archive = write(&items);
    let target = tempfile::tempdir().unwrap();
    let watched = Arc::new(Recorder::default());
    let options = ExtractOptions { watch: Watch::new(watched.clone()), ..ExtractOptions::default() };
    let stats = extract(&mut archive.reader(), target.path(), &options).unwrap();
    assert_tree(target.path(), &items, is_root());
    let content = archive.stats.content;
    assert_eq!((stats.files, stats.bytes, stats.kept), (content.files, content.bytes, 0));
    assert_eq!((stats.directories, stats.symlinks, stats.hardlinks), (3, 4, 1));
    assert_eq!(watched.byte_count(), content.bytes);
    assert_eq!(watched.entry_count(), items.len() as u64);
    // No part, no closing entry, no temporary name is left.
    let left = names(target.path());
    assert!(left.iter().all(|name| !name.ends_with(b".partial") && !name.ends_with(b".parts.json")));
}

#[test]
fn set_id_bits_come_back_with_their_owner_only() {
    let (mut entry, body) = file("tool", "#!");
    entry.metadata.mode = 0o4755;
    let archive = write(&[(entry, body)]);
    for owner in [true, false] {
        if owner && !is_root() {
            continue;
        }
        let target = tempfile::tempdir().unwrap();
        let options = ExtractOptions { owner, ..ExtractOptions::default() };
        extract(&mut archive.reader(), target.path(), &options).unwrap();
        let mode = fs::metadata(target.path().join("tool")).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if owner { 0o4755 } else { 0o755 });
    }
}

#[test]
fn what_exists_is_kept_replaced_or_compared() {
    let items =
        possible(vec![dir("d"), file("d/same", "same"), file("d/other", "new!"), symlink("d/link", "new")]);
    let archive = write(&items);
    for overwrite in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always] {
        let target = tempfile::tempdir().unwrap();
        all(&archive, target.path(), Overwrite::Never).unwrap();
        fs::write(target.path().join("d/other"), "old!").unwrap();
        fs::write(target.path().join("d/stranger"), "stays").unwrap();
        fs::remove_file(target.path().join("d/link")).unwrap();
        make_symlink("old", target.path().join("d/link")).unwrap();
        fs::set_permissions(target.path().join("d"), fs::Permissions::from_mode(0o711)).unwrap();
        let same = fs::metadata(target.path().join("d/same")).unwrap().ino();

        let stats = all(&archive, target.path(), overwrite).unwrap();

        let other = fs::read_to_string(target.path().join("d/other")).unwrap();
        let mode = fs::metadata(target.path().join("d")).unwrap().permissions().mode() & 0o777;
        let kept_inode = fs::metadata(target.path().join("d/same")).unwrap().ino() == same;
        match overwrite {
            Overwrite::Never => {
                assert_eq!((stats.kept, other.as_str(), mode, kept_inode), (3, "old!", 0o711, true));
            }
            Overwrite::IfChanged => {
                assert_eq!((stats.kept, other.as_str(), mode, kept_inode), (1, "new!", 0o755, true));
            }
            Overwrite::Always => {
                assert_eq!((stats.kept, other.as_str(), mode, kept_inode), (0, "new!", 0o755, false));
            }
        }
        if overwrite != Overwrite::Never {
            assert_tree(target.path(), &items, is_root());
        }
        assert_eq!(fs::read_to_string(target.path().join("d/stranger")).unwrap(), "stays");
    }
}

#[test]
fn hard_links_survive_every_way_of_overwriting() {
    let items = possible(vec![file("a", "one"), hardlink("b", "a"), hardlink("c", "a")]);
    let archive = write(&items);
    let target = tempfile::tempdir().unwrap();
    for overwrite in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always, Overwrite::Always] {
        all(&archive, target.path(), overwrite).unwrap();
        assert_tree(target.path(), &items, is_root());
        assert_eq!(names(target.path()), [b"a", b"b", b"c"]);
    }
}

#[test]
fn a_link_to_a_kept_file_gets_the_content_of_the_snapshot() {
    let body = noise(30_000, 1);
    let items = possible(vec![
        file("a", body.clone()),
        hardlink("b", "a"),
        dir("d"),
        hardlink("d/c", "a"),
        file("other", "other"),
        hardlink("other-link", "other"),
    ]);
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("a"), "the user's").unwrap();
    let before = fs::metadata(target.path().join("a")).unwrap();
    let archive = write(&items);
    let stats = all(&archive, target.path(), Overwrite::Never).unwrap();
    let at = |name: &str| fs::metadata(target.path().join(name)).unwrap();
    assert_eq!(fs::read_to_string(target.path().join("a")).unwrap(), "the user's");
    assert_eq!((at("a").ino(), at("a").nlink(), at("a").mtime()), (before.ino(), 1, before.mtime()));
    assert!(fs::read(target.path().join("b")).unwrap() == body);
    assert_eq!((at("b").ino(), at("b").nlink()), (at("d/c").ino(), 2));
    assert_eq!(at("b").mtime(), 1_600_000_000);
    assert_eq!(at("other").ino(), at("other-link").ino());
    assert_eq!((stats.files, stats.hardlinks, stats.kept, stats.bytes), (2, 2, 1, 30_005));
    assert_eq!(at("d").mtime(), 1_600_000_000, "directories come after the links in them");

    // In a selection the link that takes the content along is the file of the others.
    let target = tempfile::tempdir().unwrap();
    fs::create_dir(target.path().join("d")).unwrap();
    make_symlink("elsewhere", target.path().join("b")).unwrap();
    let options = ExtractOptions { paths: vec![path("b"), path("d")], ..ExtractOptions::default() };
    extract(&mut archive.reader(), target.path(), &options).unwrap();
    assert_eq!(fs::read_link(target.path().join("b")).unwrap().to_str(), Some("elsewhere"));
    assert!(fs::read(target.path().join("d/c")).unwrap() == body);
}

#[test]
fn a_link_to_a_kept_file_is_made_when_it_is_the_same_file() {
    let items = possible(vec![file("a", noise(30_000, 1)), hardlink("b", "a")]);
    let archive = write(&items);
    let target = tempfile::tempdir().unwrap();
    let (a, b) = (target.path().join("a"), target.path().join("b"));
    all(&archive, target.path(), Overwrite::Never).unwrap();
    fs::remove_file(&b).unwrap();
    all(&archive, target.path(), Overwrite::Never).unwrap();
    assert_tree(target.path(), &items, is_root());
    // The same size and time are not the same content.
    fs::remove_file(&b).unwrap();
    let time = fs::metadata(&a).unwrap().modified().unwrap();
    fs::write(&a, noise(30_000, 2)).unwrap();
    fs::File::options().append(true).open(&a).unwrap().set_modified(time).unwrap();
    all(&archive, target.path(), Overwrite::Never).unwrap();
    assert!(fs::read(&a).unwrap() == noise(30_000, 2) && fs::read(&b).unwrap() == noise(30_000, 1));
}

#[test]
fn a_directory_where_a_file_belongs_is_in_the_way_and_stays() {
    for overwrite in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always] {
        let target = tempfile::tempdir().unwrap();
        fs::create_dir_all(target.path().join("x/precious")).unwrap();
        let error = all(&write(&[file("x", "content")]), target.path(), overwrite).unwrap_err();
        assert!(matches!(&error, Error::Obstructed { path, .. } if path == "x"), "{error}");
        assert_eq!(names(target.path()), [&b"x"[..], b"x/precious"]);

        let target = tempfile::tempdir().unwrap();
        fs::write(target.path().join("x"), "precious").unwrap();
        for items in [vec![dir("x")], vec![file("x/below", "")]] {
            let error = all(&write(&items), target.path(), overwrite).unwrap_err();
            assert!(matches!(&error, Error::Obstructed { path, .. } if path == "x"), "{error}");
        }
        assert_eq!(fs::read_to_string(target.path().join("x")).unwrap(), "precious");
    }
}

#[test]
fn links_in_the_target_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    make_symlink(outside.path(), target.path().join("d")).unwrap();
    fs::write(outside.path().join("victim"), "untouched").unwrap();
    make_symlink(outside.path().join("victim"), target.path().join("f")).unwrap();

    let error = all(&write(&[file("d/evil", "x")]), target.path(), Overwrite::Always).unwrap_err();
    assert!(matches!(&error, Error::Obstructed { path, .. } if path == "d"), "{error}");
    let error = all(&write(&[dir("d")]), target.path(), Overwrite::Always).unwrap_err();
    assert!(matches!(&error, Error::Obstructed { path, .. } if path == "d"), "{error}");

    all(&write(&[file("f", "new")]), target.path(), Overwrite::Always).unwrap();
    assert!(target.path().join("f").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "untouched");
    assert_eq!(names(outside.path()), [b"victim"]);
}

#[test]
fn a_selection_takes_its_links_along() {
    let items = possible(vec![
        dir("a"),
        file("a/file", noise(30_000, 1)),
        dir("b"),
        hardlink("b/first", "a/file"),
        hardlink("b/second", "a/file"),
        dir("c"),
        stream("c/dump", noise(70_000, 2)),
    ]);
    let archive = write(&items);
    let target = tempfile::tempdir().unwrap();
    let options = ExtractOptions { paths: vec![path("b"), path("c/dump")], ..ExtractOptions::default() };
    extract(&mut archive.reader(), target.path(), &options).unwrap();
    let expected: [&[u8]; 5] = [b"b", b"b/first", b"b/second", b"c", b"c/dump"];
    assert_eq!(names(target.path()), expected);
    let first = fs::metadata(target.path().join("b/first")).unwrap();
    assert_eq!(first.ino(), fs::metadata(target.path().join("b/second")).unwrap().ino());
    assert!(fs::read(target.path().join("b/first")).unwrap() == noise(30_000, 1));
    assert!(fs::read(target.path().join("c/dump")).unwrap() == noise(70_000, 2));

    let options = ExtractOptions { paths: vec![path("b"), path("nowhere")], ..ExtractOptions::default() };
    let error = extract(&mut archive.reader(), target.path(), &options).unwrap_err();
    assert!(matches!(&error, Error::NotFound { path } if path.as_bytes() == b"nowhere"), "{error}");
}

#[test]
fn directories_that_nobody_may_enter_come_last() {
    let mut items = possible(vec![dir("a"), dir("a/b"), file("a/b/c", "deep"), dir("a/b/d")]);
    for (entry, _) in &mut items {
        if entry.kind == EntryKind::Directory {
            entry.metadata.mode = 0;
        }
        entry.metadata.mtime = Mtime { secs: 1_000_000_000, nanos: 5 };
    }
    let target = tempfile::tempdir().unwrap();
    let options = ExtractOptions { owner: false, ..ExtractOptions::default() };
    extract(&mut write(&items).reader(), target.path(), &options).unwrap();
    let top = fs::metadata(target.path().join("a")).unwrap();
    assert_eq!((top.permissions().mode() & 0o7777, top.mtime(), top.mtime_nsec()), (0, 1_000_000_000, 5));
    // So that the temporary directory can be removed by others than root.
    for name in ["a", "a/b", "a/b/d"] {
        fs::set_permissions(target.path().join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(fs::read_to_string(target.path().join("a/b/c")).unwrap(), "deep");
}

#[test]
fn a_cancelled_extraction_leaves_no_half_file() {
    let archive = write(&[file("big", noise(300_000, 1))]);
    let target = tempfile::tempdir().unwrap();
    let options = ExtractOptions::default();
    options.watch.cancel.store(true, Ordering::Relaxed);
    let error = extract(&mut archive.reader(), target.path(), &options).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(names(target.path()).is_empty());
}

/// Cancels when an entry of that path comes.
struct CancelAt(EntryPath, Arc<AtomicBool>);

impl Progress for CancelAt {
    fn phase(&self, _: Phase, _: Option<u64>) {}
    fn entry(&self, path: &EntryPath) {
        if *path == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
    fn bytes(&self, _: u64) {}
    fn warning(&self, _: &Warning) {}
    fn note(&self, _: &str) {}
}

/// The id of a process that has ended.
fn dead_process() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// Directories whose mode and time no directory gets by itself, with links across them.
fn deep_tree() -> Vec<Item> {
    let mut items = possible(vec![
        dir("d"),
        file("d/a", noise(20_000, 1)),
        dir("d/e"),
        hardlink("d/e/b", "d/a"),
        file("d/e/c", "c"),
        dir("d/e/empty"),
        symlink("d/link", "e"),
        hardlink("d/z", "d/a"),
        file("last", "last"),
    ]);
    for (entry, _) in items.iter_mut().filter(|(entry, _)| entry.kind == EntryKind::Directory) {
        entry.metadata.mode = 0o2750;
        entry.metadata.mtime = Mtime { secs: 1_060_000_000, nanos: 7 };
    }
    items
}

#[test]
fn an_extraction_that_was_stopped_anywhere_is_completed_by_another() {
    let items = deep_tree();
    let archive = write(&items);
    for (stop, _) in &items {
        let target = tempfile::tempdir().unwrap();
        let cancel = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(CancelAt(stop.path.clone(), cancel.clone()));
        let options = ExtractOptions { watch: Watch { progress, cancel }, ..ExtractOptions::default() };
        let stopped = extract(&mut archive.reader(), target.path(), &options);
        assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
        // As if it had been killed within a file.
        let litter = format!(".xvault-{}-7.partial", dead_process());
        for directory in names(target.path()).into_iter().map(|name| place(target.path(), &name)) {
            if directory.symlink_metadata().unwrap().is_dir() {
                fs::write(directory.join(&litter), "half").unwrap();
            }
        }
        fs::write(target.path().join(&litter), "half").unwrap();

        all(&archive, target.path(), Overwrite::Never).unwrap();

        assert_tree(target.path(), &items, is_root());
        let wanted: BTreeSet<_> = items.iter().map(|(entry, _)| entry.path.as_bytes().to_vec()).collect();
        let left: BTreeSet<_> = names(target.path()).into_iter().collect();
        // What lies in a directory that nothing is put into is not looked for.
        let empty = [b"d/e/empty/".as_slice(), litter.as_bytes()].concat();
        let stray: Vec<_> = left.difference(&wanted).filter(|name| **name != empty).collect();
        assert!(stray.is_empty(), "stopped at {}: {stray:?}", stop.path);
    }
}

#[test]
fn a_bad_archive_leaves_finished_directories() {
    let mut items = deep_tree();
    items.push(file("big", noise(300_000, 3)));
    let mut archive = write(&items);
    let at = archive.artifact.len() - 100_000;
    archive.artifact[at] ^= 1;
    let target = tempfile::tempdir().unwrap();
    let error = all(&archive, target.path(), Overwrite::Never).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    items.pop();
    assert_tree(target.path(), &items, is_root());
}

#[test]
fn only_what_an_extraction_left_unfinished_is_finished() {
    let items = deep_tree();
    let archive = write(&items);
    let target = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(target.path().join(name)).unwrap().permissions().mode() & 0o7777;
    // The user's own private directory.
    fs::create_dir(target.path().join("d")).unwrap();
    fs::set_permissions(target.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    // Killed while the metadata of directories was restored: the mode comes last.
    fs::create_dir(target.path().join("d/e")).unwrap();
    if is_root() {
        std::os::unix::fs::chown(target.path().join("d/e"), Some(1000), Some(1000)).unwrap();
    }
    fs::set_permissions(target.path().join("d/e"), fs::Permissions::from_mode(0o1700)).unwrap();
    all(&archive, target.path(), Overwrite::Never).unwrap();
    assert_eq!(mode("d"), 0o700);
    assert_tree(target.path(), &items[1..], is_root());
    // A directory that was whole stays whole when something is put back into it.
    fs::remove_file(target.path().join("d/e/c")).unwrap();
    let e = fs::File::open(target.path().join("d/e")).unwrap();
    let (entry, _) = &items[2];
    let time =
        UNIX_EPOCH + Duration::new(entry.metadata.mtime.secs.unsigned_abs(), entry.metadata.mtime.nanos);
    e.set_modified(time).unwrap();
    all(&archive, target.path(), Overwrite::Never).unwrap();
    assert_tree(target.path(), &items[1..], is_root());
}

#[test]
fn a_directory_may_come_after_what_is_in_it() {
    let items = possible(vec![file("d/e/x", "x"), dir("d/e"), dir("d")]);
    let target = tempfile::tempdir().unwrap();
    all(&write(&items), target.path(), Overwrite::Never).unwrap();
    assert_tree(target.path(), &items, is_root());
}

#[test]
fn unfinished_files_of_dead_processes_only_are_removed() {
    let target = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "untouched").unwrap();
    let (dead, living) = (dead_process(), std::os::unix::process::parent_id());
    fs::create_dir_all(target.path().join("d/other")).unwrap();
    let stay = [
        format!("d/.xvault-{living}-0.partial"),
        format!("d/.xvault-{dead}-0.partial.txt"),
        format!("d/xvault-{dead}-0.partial"),
        format!("d/other/.xvault-{dead}-0.partial"),
    ];
    for name in &stay {
        fs::write(target.path().join(name), "stays").unwrap();
    }
    let directory = format!("d/.xvault-{dead}-3.partial");
    fs::create_dir(target.path().join(&directory)).unwrap();
    for at in ["", "d/"] {
        fs::write(target.path().join(format!("{at}.xvault-{dead}-1.partial")), "half").unwrap();
        let link = target.path().join(format!("{at}.xvault-{dead}-2.partial"));
        make_symlink(outside.path().join("victim"), link).unwrap();
    }
    // A snapshot may hold such a name: it is a file like others, and is there afterwards.
    let backed_up = format!("d/.xvault-{dead}-9.partial");
    let archive =
        write(&[file("d/x", "x"), file(&backed_up, "backed up"), file("q/y", "y"), file("d/z", "z")]);

    all(&archive, target.path(), Overwrite::Never).unwrap();

    let others = ["d", "d/other", "d/x", "d/z", "q", "q/y", &directory, &backed_up];
    let mut wanted: Vec<_> =
        stay.iter().map(String::as_str).chain(others).map(|n| n.as_bytes().to_vec()).collect();
    wanted.sort();
    assert_eq!(names(target.path()), wanted);
    assert_eq!(fs::read_to_string(target.path().join(&backed_up)).unwrap(), "backed up");
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "untouched");
}

#[test]
fn one_file_costs_its_frames_and_two_chunks() {
    let identity = Identity::generate();
    let mut options = WriterOptions::new(key(), vec![identity.recipient()]);
    options.frame_size = 256 << 10;
    let items: Vec<_> = (0u8..40).map(|at| file(format!("f{at}"), noise(500_000, at))).collect();
    let archive = write_with(&items, options, identity);
    let read = Arc::new(AtomicU64::new(0));
    let artifact = Counting(Cursor::new(archive.artifact.clone()), read.clone());
    let index = Cursor::new(archive.index.clone());
    let mut reader = ArchiveReader::open(artifact, index, std::slice::from_ref(&archive.identity)).unwrap();
    let mut body = Vec::new();
    reader.read(&path("f20")).unwrap().read_to_end(&mut body).unwrap();
    assert!(body == noise(500_000, 20));
    let read = read.load(Ordering::Relaxed);
    // Its three frames rounded to chunks, and header and last chunk at opening, out of 20 MB.
    assert!(read < 3 * (256 << 10) + 5 * (64 << 10), "{read} bytes were read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_trees_come_back_as_trees(items in trees()) {
        let target = tempfile::tempdir().unwrap();
        let mut items = possible(items);
        for (entry, _) in &mut items {
            // So that the temporary directory can be looked at by others than root.
            entry.metadata.mode |= 0o700;
        }
        let archive = write(&items);
        all(&archive, target.path(), Overwrite::Never).unwrap();
        assert_tree(target.path(), &items, is_root());
        for (entry, _) in &items {
            prop_assert!(place(target.path(), entry.path.as_bytes()).symlink_metadata().is_ok());
        }
    }
}
