//! What is exported is what was written, for whoever opens it with a tool of their own.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use xvault_archive::{ArchiveReader, ArchiveWriter, Error, Exported, REPORT_NAME, Watch, export};
use xvault_core::{Entry, EntryKind, ExportFormat, Identity, Metadata, Mtime};
use zip::ZipArchive;

use crate::support::{
    Archive, Item, dir, file, hardlink, metadata, noise, oddities, path, small, stream, symlink, trees,
    write, write_with,
};

/// That nobody takes it for a whole one.
pub(crate) fn assert_not_whole(format: ExportFormat, out: &[u8]) {
    match format {
        ExportFormat::Tar => assert!(!out.ends_with(&[0; 1024])),
        ExportFormat::TarZst if out.is_empty() => {}
        ExportFormat::TarZst => {
            let error = zstd::decode_all(out).unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string().as_str()),
                (io::ErrorKind::UnexpectedEof, "incomplete frame")
            );
        }
        ExportFormat::Zip => {
            let error = ZipArchive::new(Cursor::new(out)).unwrap_err();
            assert!(matches!(error, zip::result::ZipError::InvalidArchive(_)), "{error:?}");
            assert!(!out.windows(4).any(|window| window == b"PK\x05\x06"));
        }
    }
}

fn exported(archive: &Archive, format: ExportFormat, paths: &[&str]) -> (Vec<u8>, Exported) {
    let (mut out, paths) = (Vec::new(), paths.iter().map(path).collect::<Vec<_>>());
    let exported = export(&mut archive.reader(), format, &paths, &mut out, &Watch::default()).unwrap();
    assert_eq!(exported.bytes, out.len() as u64);
    (out, exported)
}

fn zipped(items: &[Item]) -> (Vec<u8>, Exported) {
    exported(&write(items), ExportFormat::Zip, &[])
}

/// Where the entry of each path lies in the zip; the names that were changed as the zip itself reports them.
fn names_in(zip: &[u8], renamed: u64) -> HashMap<Vec<u8>, String> {
    use base64::Engine as _;
    let mut zip = ZipArchive::new(Cursor::new(zip)).unwrap();
    let mut text = String::new();
    match zip.by_name(REPORT_NAME) {
        Ok(mut report) => drop(report.read_to_string(&mut text).unwrap()),
        Err(zip::result::ZipError::FileNotFound) => assert_eq!(renamed, 0),
        Err(other) => panic!("{other}"),
    }
    assert_eq!(text.lines().count() as u64, renamed);
    let read = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let path = match value["path"].as_str() {
            Some(path) => path.as_bytes().to_vec(),
            None => base64::engine::general_purpose::STANDARD
                .decode(value["path_base64"].as_str().unwrap())
                .unwrap(),
        };
        (path, value["name"].as_str().unwrap().to_owned())
    };
    text.lines().map(read).collect()
}

/// That the zip holds exactly `items`, by another reader than our writer.
fn assert_zip(zip: &[u8], exported: Exported, items: &[Item]) {
    let renamed = names_in(zip, exported.renamed);
    let mut archive = ZipArchive::new(Cursor::new(zip)).unwrap();
    let reports = usize::from(exported.renamed > 0);
    assert_eq!((exported.entries, archive.len()), (items.len() as u64, items.len() + reports));
    for (entry, body) in items {
        let raw = entry.path.as_bytes();
        let mut name = renamed.get(raw).cloned().unwrap_or_else(|| String::from_utf8(raw.to_vec()).unwrap());
        if entry.kind == EntryKind::Directory {
            name.push('/');
        }
        let source = match &entry.kind {
            EntryKind::Hardlink { target } => items.iter().find(|(e, _)| e.path == *target).unwrap(),
            _ => &(entry.clone(), body.clone()),
        };
        let mut found = archive.by_name(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found.enclosed_name().as_deref(), Some(Path::new(&name)));
        let (kind, content) = match &source.0.kind {
            EntryKind::Directory => (0o040_000, &[][..]),
            EntryKind::Symlink { target } => (0o120_000, target.as_slice()),
            _ => (0o100_000, source.1.as_slice()),
        };
        // This reader hides set-id bits.
        let mode = found.unix_mode().map(|mode| mode & !0o7000);
        assert_eq!(mode, Some(kind | source.0.metadata.mode & 0o777), "{name}");
        let mut read = Vec::new();
        found.read_to_end(&mut read).unwrap();
        assert!(read == content, "content of {name}");
    }
}

/// Names that Windows can't have, or would take for others.
fn hostile_names() -> Vec<Item> {
    let names: [&[u8]; 18] = [
        b"CON",
        b"nul.txt",
        b"COM1",
        b"aux .c",
        b"C:\\Windows\\system32\\evil.dll",
        b"..\\..\\evil",
        b"\\\\server\\share",
        b"C:",
        b"ends in dot.",
        b"ends in space ",
        b"stream.txt:hidden",
        b"what?<>|\"*",
        b"tab\tand\nnewline\x1b[31m",
        b"caf\xe8",
        b"Case",
        b"case",
        b"CASE/below",
        b"100%41",
    ];
    names.iter().map(|name| file([b"srv/", *name].concat(), name.to_vec())).collect()
}

#[test]
fn a_zip_holds_every_oddity_whole() {
    let mut items = oddities();
    items.extend(hostile_names());
    items.push(file(REPORT_NAME, "a file of the user's own that has the report's name"));
    let (zip, exported) = zipped(&items);
    // The user's file keeps its name, so the report has another.
    assert!(exported.renamed >= 17, "{exported:?}");
    ZipArchive::new(Cursor::new(&zip)).unwrap().by_name("xvault-renamed%~1.jsonl").unwrap();
    items.pop();
    let (zip, exported) = zipped(&items);
    assert_zip(&zip, exported, &items);
}

#[test]
fn windows_gets_names_it_can_have_and_nothing_leads_outside() {
    let (zip, _) = zipped(&hostile_names());
    let archive = ZipArchive::new(Cursor::new(&zip)).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != REPORT_NAME).collect();
    for expected in [
        "srv/%43ON",
        "srv/%6Eul.txt",
        "srv/%43OM1",
        "srv/%61ux .c",
        "srv/C%3A%5CWindows%5Csystem32%5Cevil.dll",
        "srv/..%5C..%5Cevil",
        "srv/stream.txt%3Ahidden",
        "srv/ends in dot%2E",
        "srv/ends in space%20",
        "srv/caf%E8",
        "srv/case%~1",
        "srv/CASE%~2/below",
        "srv/100%2541",
    ] {
        assert!(names.contains(&expected), "{expected} in {names:?}");
    }
    for name in names {
        assert!(
            !name.contains(['\\', ':', '<', '>', '"', '|', '?', '*']) && !name.contains(char::is_control)
        );
        assert!(name.split('/').all(|part| !part.ends_with(['.', ' ']) && part != ".."), "{name}");
    }
}

fn tool(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn unzip_and_python_unpack_a_zip_with_modes_times_and_links() {
    let items = vec![
        dir("srv"),
        file("srv/größe.txt", "content"),
        (Entry { metadata: metadata(0o750), ..file("srv/run.sh", "#!/bin/sh\n").0 }, b"#!/bin/sh\n".to_vec()),
        symlink("srv/link", "run.sh"),
        hardlink("srv/copy.sh", "srv/run.sh"),
        stream("srv/dump.sql", noise(50_001, 3)),
        file("srv/empty", ""),
    ];
    let (zip, _) = zipped(&items);
    let work = tempfile::tempdir().unwrap();
    let place = work.path().join("all.zip");
    fs::write(&place, &zip).unwrap();
    tool(Command::new("unzip").arg("-tq").arg(&place));
    let check = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print(len(z.namelist()))";
    assert_eq!(tool(Command::new("python3").args(["-c", check]).arg(&place)), "7\n");
    let out = work.path().join("out");
    tool(Command::new("unzip").arg("-q").arg(&place).arg("-d").arg(&out));
    let found = |name: &str| out.join(name).symlink_metadata().unwrap();
    for name in ["srv/größe.txt", "srv/run.sh", "srv/copy.sh", "srv/dump.sql", "srv/empty"] {
        assert_eq!(found(name).mtime(), 1_600_000_000, "{name}");
    }
    assert_eq!(found("srv/run.sh").permissions().mode() & 0o777, 0o750);
    assert_eq!(found("srv/copy.sh").permissions().mode() & 0o777, 0o750);
    assert_eq!(fs::read_link(out.join("srv/link")).unwrap(), Path::new("run.sh"));
    assert!(fs::read(out.join("srv/dump.sql")).unwrap() == items[5].1);
    assert_eq!(fs::read(out.join("srv/größe.txt")).unwrap(), b"content");
}

#[test]
fn zstd_and_tar_read_a_compressed_export() {
    let archive = write(&oddities());
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("all.tar.zst"), exported(&archive, ExportFormat::TarZst, &[]).0).unwrap();
    let pipe = "zstd -q -d -c all.tar.zst | tee all.tar | LC_ALL=C tar -t | wc -l";
    let lines = tool(Command::new("sh").args(["-c", pipe]).current_dir(work.path()));
    assert_eq!(lines.trim(), oddities().len().to_string());
    assert!(fs::read(work.path().join("all.tar")).unwrap() == exported(&archive, ExportFormat::Tar, &[]).0);
}

#[test]
fn a_part_of_a_zip_is_whole_too() {
    let items = [file("a/file", "content"), hardlink("b/link", "a/file"), hardlink("b/second", "a/file")];
    let (zip, exported) = exported(&write(&items), ExportFormat::Zip, &["b"]);
    assert_eq!((exported.entries, exported.renamed), (2, 0));
    let mut archive = ZipArchive::new(Cursor::new(&zip)).unwrap();
    for name in ["b/link", "b/second"] {
        assert_eq!(io::read_to_string(archive.by_name(name).unwrap()).unwrap(), "content");
    }
    let missing = export(
        &mut write(&items).reader(),
        ExportFormat::Zip,
        &[path("c")],
        &mut io::sink(),
        &Watch::default(),
    );
    assert_eq!(missing.unwrap_err().to_string(), "the snapshot has no entry `c`");
}

#[test]
fn times_before_1980_and_after_2038_do_no_harm() {
    let mut items = vec![file("old", "o"), file("new", "n")];
    items[0].0.metadata.mtime = Mtime { secs: -100_000_000, nanos: 5 };
    items[1].0.metadata.mtime = Mtime { secs: 99_999_999_999, nanos: 0 };
    let (zip, exported) = zipped(&items);
    assert_zip(&zip, exported, &items);
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("all.zip"), &zip).unwrap();
    tool(Command::new("unzip").args(["-q", "all.zip"]).current_dir(work.path()));
    // The zip says 1966, but unzip knows no time before DOS.
    assert_eq!(work.path().join("old").metadata().unwrap().mtime(), 315_532_800);
}

/// A writer that is full after so many bytes.
struct Full(usize);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(rest) => self.0 = rest,
            None => return Err(io::ErrorKind::StorageFull.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An index in whose place another one lies from its second reading number `at` on.
struct Replaced {
    indexes: [Cursor<Vec<u8>>; 2],
    readings: usize,
    at: usize,
}

impl Replaced {
    fn now(&mut self) -> &mut Cursor<Vec<u8>> {
        &mut self.indexes[usize::from(self.readings >= self.at)]
    }
}

impl Read for Replaced {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.now().read(buf)
    }
}

impl io::Seek for Replaced {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let before = self.now().position();
        let after = self.now().seek(to)?;
        if after < before {
            self.readings += 1;
            self.now().set_position(after);
        }
        Ok(after)
    }
}

/// As when somebody puts another snapshot's index in its place: a zip tells of an entry twice, and both must agree.
#[test]
fn an_index_that_changes_while_a_zip_is_made_makes_none() {
    let identity = Identity::generate();
    // Too many for a buffer, so that each reading reads.
    let names: Vec<String> =
        (0..3000_u64).map(|n| blake3::hash(&n.to_le_bytes()).to_hex().to_string()).collect();
    let names = &names;
    let items = |secs| {
        names.iter().map(move |name| {
            let (entry, body) = symlink(name, "x");
            let mtime = Mtime { secs, nanos: 0 };
            (Entry { metadata: Metadata { mtime, ..entry.metadata }, ..entry }, body)
        })
    };
    // Of one snapshot, as far as their beginnings tell.
    let options = small(&identity);
    let written = |secs| write_with(&items(secs).collect::<Vec<_>>(), options.clone(), identity.clone());
    let archives = [written(1_600_000_000), written(1_700_000_000)];
    let whole = archives.each_ref().map(|archive| exported(archive, ExportFormat::Zip, &[]).0);
    let mut refused = 0;
    for at in 1..8 {
        let indexes = archives.each_ref().map(|archive| Cursor::new(archive.index.clone()));
        let index = Replaced { indexes, readings: 0, at };
        let (artifact, identities) =
            (Cursor::new(archives[0].artifact.clone()), std::slice::from_ref(&identity));
        let Ok(mut reader) = ArchiveReader::open(artifact, index, identities) else { continue };
        let mut out = Vec::new();
        match export(&mut reader, ExportFormat::Zip, &[], &mut out, &Watch::default()) {
            Ok(_) => assert!(whole.contains(&out), "{at}: it is of two indexes"),
            Err(error) => {
                assert_not_whole(ExportFormat::Zip, &out);
                refused += usize::from(error.to_string().contains("changed while it was read"));
            }
        }
    }
    assert!(refused > 0, "no reading was the one that counts");
}

#[test]
fn an_output_that_fails_ends_the_export_with_its_own_error() {
    let archive = write(&oddities());
    for format in ExportFormat::ALL {
        for room in [0, 1000, 100_000] {
            let mut reader = archive.reader();
            let failed = export(&mut reader, format, &[], &mut Full(room), &Watch::default()).unwrap_err();
            let kind = match &failed {
                Error::Output(error) => error.kind(),
                other => panic!("{other}"),
            };
            assert_eq!(kind, io::ErrorKind::StorageFull, "{format} {room}");
        }
    }
}

/// 5 GiB of nothing: 64-bit sizes where they are needed, and the offsets behind them.
#[test]
fn a_zip_holds_files_of_more_than_four_gibibytes() {
    const SIZE: u64 = (5 << 30) + 1;
    let identity = Identity::generate();
    let options = xvault_archive::WriterOptions { level: -5, frame_size: 4 << 20, ..small(&identity) };
    let key = options.key.clone();
    let mut writer = ArchiveWriter::new(Vec::new(), Vec::new(), options).unwrap();
    let big = Entry { path: path("big"), kind: EntryKind::File { size: SIZE }, metadata: metadata(0o600) };
    writer.begin(&big).unwrap();
    let zeros = vec![0; 8 << 20];
    for _ in 0..SIZE / zeros.len() as u64 {
        writer.write(&zeros).unwrap();
    }
    writer.write(&[7]).unwrap();
    writer.end().unwrap();
    let (after, body) = file("after", "the directory is still in step");
    writer.begin(&after).unwrap();
    writer.write(&body).unwrap();
    writer.end().unwrap();
    let finished = writer.finish().unwrap();
    let archive =
        Archive { artifact: finished.artifact, index: finished.index, identity, key, stats: finished.stats };
    let work = tempfile::tempdir().unwrap();
    let mut out = File::create(work.path().join("big.zip")).unwrap();
    export(&mut archive.reader(), ExportFormat::Zip, &[], &mut out, &Watch::default()).unwrap();
    let listed = tool(Command::new("unzip").args(["-l", "big.zip"]).current_dir(work.path()));
    assert!(listed.contains(&SIZE.to_string()), "{listed}");
    tool(Command::new("unzip").args(["-tq", "big.zip"]).current_dir(work.path()));
    let tail = tool(Command::new("unzip").args(["-p", "big.zip", "after"]).current_dir(work.path()));
    assert_eq!(tail, "the directory is still in step");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_tree_reads_back_from_its_zip(items in trees(), hostile in any::<bool>()) {
        let mut items = items;
        if hostile {
            let clash = |name: &Item| items.iter().any(|(e, _)| e.path.is_within(&path("srv")) || name.0.path == e.path);
            let more: Vec<_> = hostile_names().into_iter().filter(|item| !clash(item)).collect();
            items.extend(more);
        }
        let archive = write(&items);
        let (zip, stats) = exported(&archive, ExportFormat::Zip, &[]);
        assert_zip(&zip, stats, &items);
        let tar = exported(&archive, ExportFormat::Tar, &[]).0;
        let unpacked = zstd::decode_all(&*exported(&archive, ExportFormat::TarZst, &[]).0).unwrap();
        prop_assert!(tar == unpacked);
    }
}
