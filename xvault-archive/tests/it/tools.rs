//! The tools that every admin has agree with us: age, zstd and GNU tar, the real ones.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use xvault_archive::{ArchiveWriter, ExtractOptions, Watch, export, extract};
use xvault_core::secret::ExposeSecret;
use xvault_core::tar::{Event, TarEntry, TarKind, TarParser};
use xvault_core::{Entry, EntryKind, ExportFormat, Identity, Mtime};

use crate::support::{
    Archive, Item, dir, file, hardlink, metadata, noise, oddities, path, small, symlink, write,
};
use crate::tree::{assert_tree, place};

/// Runs a tool to its success.
fn run(package: &str, command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| missing(package, command, &e));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
    output
}

fn missing(package: &str, command: &Command, error: &io::Error) -> ! {
    panic!("{command:?}: {error}: install the Debian package `{package}`")
}

/// `age -d | zstd -d`, each from and to a file in `dir`; gives the tar's path.
fn open_by_hand(archive: &Archive, dir: &Path) -> std::path::PathBuf {
    let file = |name: &str| dir.join(name);
    fs::write(file("key"), archive.identity.to_secret().expose_secret()).unwrap();
    fs::write(file("backup.tar.zst.enc"), &archive.artifact).unwrap();
    run(
        "age",
        Command::new("age").args(["-d", "-i", "key", "-o", "tar.zst", "backup.tar.zst.enc"]).current_dir(dir),
    );
    run("zstd", Command::new("zstd").args(["-q", "-t", "tar.zst"]).current_dir(dir));
    run("zstd", Command::new("zstd").args(["-q", "-d", "tar.zst", "-o", "tar"]).current_dir(dir));
    file("tar")
}

fn untar(tar: &Path, target: &Path, locale: &str) {
    fs::create_dir_all(target).unwrap();
    let mut command = Command::new("tar");
    command.args(["-x", "-p", "-f"]).arg(tar).arg("-C").arg(target).env("LC_ALL", locale);
    let output = run("tar", &mut command);
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    // About times that no file system holds tar may speak, about our headers it may not.
    assert!(!complaints.contains("keyword") && !complaints.contains("lone zero"), "{complaints}");
}

/// Owners and times that a file system here can hold.
fn possible(mut items: Vec<Item>) -> Vec<Item> {
    for (entry, _) in &mut items {
        entry.metadata.uid %= 60_000;
        entry.metadata.gid %= 60_000;
        (entry.metadata.user, entry.metadata.group) = (None, None);
        entry.metadata.mtime.secs = entry.metadata.mtime.secs.clamp(1 - (1 << 31), 1 << 33);
    }
    items
}

#[test]
fn age_zstd_and_tar_restore_every_oddity() {
    let items = possible(oddities());
    let archive = write(&items);
    let work = tempfile::tempdir().unwrap();
    let tar = open_by_hand(&archive, work.path());
    let as_root = rustix::process::geteuid().is_root();
    let (plain, long): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|(entry, _)| entry.path != path("srv/long.sql"));
    for locale in ["C", "C.UTF-8"] {
        let out = work.path().join(locale);
        untar(&tar, &out, locale);
        assert_tree(&out, &plain, as_root);
        // Streams in parts concatenate by their names, as the closing entry says.
        let parts: Vec<u8> = (1..=3)
            .flat_map(|number| {
                fs::read(place(&out, format!("srv/long.sql.part-{number:05}").as_bytes())).unwrap()
            })
            .collect();
        assert!(parts == long[0].1);
        let closing: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("srv/long.sql.parts.json")).unwrap()).unwrap();
        let hash = blake3::hash(&parts).to_hex().to_string();
        assert_eq!(closing, serde_json::json!({"parts": 3, "length": 50_001, "blake3": hash}));
    }
}

#[test]
fn the_index_opens_by_hand_too() {
    let archive = write(&oddities());
    let work = tempfile::tempdir().unwrap();
    let file = |name: &str| work.path().join(name);
    fs::write(file("key"), archive.identity.to_secret().expose_secret()).unwrap();
    fs::write(file("index.zst.enc"), &archive.index).unwrap();
    let dir = work.path();
    run(
        "age",
        Command::new("age").args(["-d", "-i", "key", "-o", "index.zst", "index.zst.enc"]).current_dir(dir),
    );
    let lines =
        run("zstd", Command::new("zstd").args(["-q", "-d", "-c", "index.zst"]).current_dir(dir)).stdout;
    let lines: Vec<serde_json::Value> = lines
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines[0]["format"], "xvault-index");
    assert_eq!(lines.last().unwrap()["type"], "end");
    let count = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count() as u64;
    assert_eq!((count("entry"), count("frame")), (archive.stats.entries, archive.stats.frames));
}

#[test]
fn tar_lists_what_no_file_system_holds() {
    let mut items = vec![file("a", "x"), file("b", "y"), file("c", "z")];
    items[0].0.metadata.mtime = Mtime { secs: -6_857_222_400, nanos: 0 };
    items[1].0.metadata.mtime = Mtime { secs: 99_999_999_999, nanos: 0 };
    (items[2].0.metadata.uid, items[2].0.metadata.gid) = (4_000_000_000, 3_000_000_000);
    (items[2].0.metadata.user, items[2].0.metadata.group) = (Some(vec![b'u'; 60]), Some(b"g".to_vec()));
    let work = tempfile::tempdir().unwrap();
    let tar = open_by_hand(&write(&items), work.path());
    let list = |options: &[&str]| {
        let mut command = Command::new("tar");
        command
            .args(["-t", "-v", "--full-time", "--utc"])
            .args(options)
            .arg("-f")
            .arg(&tar)
            .env("LC_ALL", "C");
        String::from_utf8(run("tar", &mut command).stdout).unwrap()
    };
    let named = list(&[]);
    assert!(named.contains("1752-09-14 00:00:00 a"), "{named}");
    assert!(named.contains("5138-11-16 09:46:39 b"), "{named}");
    assert!(named.contains(&format!("{}/g", "u".repeat(60))), "{named}");
    assert!(list(&["--numeric-owner"]).contains("4000000000/3000000000"), "{named}");
}

/// Feeds 9 GiB through everything, in frames that compress to nothing.
#[test]
fn tar_reads_a_file_of_more_than_eight_gibibytes() {
    const SIZE: u64 = (8 << 30) + 1;
    let identity = Identity::generate();
    let options = xvault_archive::WriterOptions { level: -5, frame_size: 4 << 20, ..small(&identity) };
    let work = tempfile::tempdir().unwrap();
    let artifact = File::create(work.path().join("backup.tar.zst.enc")).unwrap();
    let mut writer = ArchiveWriter::new(artifact, io::sink(), options).unwrap();
    let big = Entry { path: path("big"), kind: EntryKind::File { size: SIZE }, metadata: metadata(0o600) };
    writer.begin(&big).unwrap();
    let zeros = vec![0; 8 << 20];
    for _ in 0..SIZE / zeros.len() as u64 {
        writer.write(&zeros).unwrap();
    }
    writer.write(&[0]).unwrap();
    writer.end().unwrap();
    let (after, body) = file("after", "the stream is still in step");
    writer.begin(&after).unwrap();
    writer.write(&body).unwrap();
    writer.end().unwrap();
    let stats = writer.finish().unwrap().stats;
    assert_eq!((stats.content.bytes, stats.content.files), (SIZE + body.len() as u64, 2));

    fs::write(work.path().join("key"), identity.to_secret().expose_secret()).unwrap();
    let pipe = "age -d -i key backup.tar.zst.enc | zstd -q -d | LC_ALL=C tar -tv --numeric-owner";
    let listed = run("age", Command::new("sh").args(["-c", pipe]).current_dir(work.path()));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].contains("8589934593") && lines[0].ends_with(" big"), "{listed}");
    assert!(lines[1].ends_with(" after"), "{listed}");
}

#[test]
fn an_export_is_a_plain_tar_with_streams_whole() {
    let items = possible(oddities());
    let archive = write(&items);
    let mut tar = Vec::new();
    let exported = export(&mut archive.reader(), ExportFormat::Tar, &[], &mut tar, &Watch::default());
    assert_eq!(exported.unwrap().bytes, tar.len() as u64);
    let work = tempfile::tempdir().unwrap();
    let place = work.path().join("tar");
    fs::write(&place, &tar).unwrap();
    untar(&place, &work.path().join("out"), "C");
    assert_tree(&work.path().join("out"), &items, rustix::process::geteuid().is_root());

    let mut part = Vec::new();
    let paths = [path("srv/second-name")];
    export(&mut archive.reader(), ExportFormat::Tar, &paths, &mut part, &Watch::default()).unwrap();
    let entries = parse(&part);
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (entries[0].path.as_slice(), &entries[0].kind, entries[0].size),
        (&b"srv/second-name"[..], &TarKind::File, 6)
    );
}

/// Entries of a tar stream, given to the parser in uneven chunks.
fn parse(tar: &[u8]) -> Vec<TarEntry> {
    let (mut parser, mut entries) = (TarParser::new(), Vec::new());
    for chunk in tar.chunks(10_007) {
        let mut chunk = Bytes::copy_from_slice(chunk);
        while let Some(event) = parser.next(&mut chunk).unwrap() {
            if let Event::Header(entry) = event {
                entries.push(*entry);
            }
        }
    }
    parser.finish().unwrap();
    entries
}

#[test]
fn the_parser_reads_what_gnu_tar_writes_in_every_format() {
    let long = format!("t/{}/{}", "d".repeat(120), "f".repeat(200));
    let items = possible(vec![
        dir("t"),
        file("t/plain", noise(70_000, 1)),
        file(*b"t/caf\xe9\n\"'", "odd"),
        symlink("t/link", "x".repeat(150)),
        hardlink("t/other", "t/plain"),
        dir(format!("t/{}", "d".repeat(120))),
        file(&long, "long"),
    ]);
    let work = tempfile::tempdir().unwrap();
    extract(&mut write(&items).reader(), work.path(), &ExtractOptions::default()).unwrap();
    run("coreutils", Command::new("mkfifo").arg(work.path().join("pipe")));
    for format in ["posix", "gnu", "oldgnu"] {
        let mut command = Command::new("tar");
        command.args(["-c", "--sort=name", "--format", format, "t", "pipe"]).current_dir(work.path());
        let entries = parse(&run("tar", &mut command).stdout);
        assert_eq!(entries.len(), items.len() + 1, "{format}");
        assert!(entries.iter().any(|entry| matches!(entry.kind, TarKind::Special(_))), "{format}");
        for (entry, _) in &items {
            let slash: &[u8] = if entry.kind == EntryKind::Directory { b"/" } else { b"" };
            let name = [entry.path.as_bytes(), slash].concat();
            let found = entries.iter().find(|found| found.path == name);
            let found = found.unwrap_or_else(|| panic!("{format}: {}", entry.path));
            let is_link = matches!(found.kind, TarKind::Symlink { .. });
            assert!(is_link || found.metadata.mode == entry.metadata.mode, "{format}: {}", entry.path);
            let mtime = entry.metadata.mtime;
            let nanos = if format == "posix" { mtime.nanos } else { 0 };
            assert_eq!(found.metadata.mtime, Mtime { nanos, ..mtime }, "{format}: {}", entry.path);
            match &entry.kind {
                EntryKind::Symlink { target } => {
                    assert_eq!(found.kind, TarKind::Symlink { target: target.clone() });
                }
                EntryKind::Directory => assert_eq!(found.kind, TarKind::Directory),
                _ => {}
            }
        }
        let kind = |name: &[u8]| entries.iter().find(|e| e.path == name).map(|e| e.kind.clone()).unwrap();
        // Which of two names comes first is the order of reading; the second one links to it.
        let first = TarKind::Hardlink { target: b"t/other".to_vec() };
        let second = TarKind::Hardlink { target: b"t/plain".to_vec() };
        assert!(kind(b"t/plain") == first || kind(b"t/other") == second, "{format}");
    }
}

#[test]
fn sparse_files_of_gnu_tar_are_told_and_stepped_over() {
    let work = tempfile::tempdir().unwrap();
    let mut holes = File::create(work.path().join("holes")).unwrap();
    for at in 0..40u64 {
        io::Seek::seek(&mut holes, io::SeekFrom::Start(at << 20)).unwrap();
        holes.write_all(b"data").unwrap();
    }
    fs::write(work.path().join("plain"), "after the holes").unwrap();
    for format in ["gnu", "posix"] {
        let mut command = Command::new("tar");
        command.args(["-c", "-S", "--format", format, "holes", "plain"]).current_dir(work.path());
        let entries = parse(&run("tar", &mut command).stdout);
        let kinds: Vec<_> = entries.iter().map(|entry| entry.kind.clone()).collect();
        assert_eq!(kinds, [TarKind::Unsupported(b'S'), TarKind::File], "{format}");
        assert_eq!((entries[1].path.as_slice(), entries[1].size), (&b"plain"[..], 15), "{format}");
    }
}
