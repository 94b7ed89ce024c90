//! Archives that no honest writer makes, correctly encrypted: each is refused, and nothing is written outside.

use std::fs;
use std::io::{Cursor, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use xvault_archive::{ArchiveReader, Error, ExtractOptions, Overwrite, Watch, export, extract, verify};
use xvault_core::snapshot::ContentSummary;
use xvault_core::{EntryPath, ExportFormat, Identity, Phase, Progress, Warning, seal};
use xvault_testkit::forge::{self, Crafted, FRAME, Forged, Zeros, header_block, zstd_of};
use xvault_testkit::samples;

use crate::export::assert_not_whole;
use crate::support::Counting;
use crate::tree::{names, place};

/// Encrypts what was crafted, in the forms that these tests need.
trait Seal {
    fn seal(&mut self) -> Sealed;
    fn seal_with(&self, zstd: &[u8], size: u64, frame_size: u64) -> Sealed;
    fn seal_frames(&self, zstd: &[u8], frames: &[(u64, u64)], frame_size: u64) -> Sealed;
}

impl Seal for Crafted {
    fn seal(&mut self) -> Sealed {
        Sealed::of(&self.finish())
    }

    /// One frame.
    fn seal_with(&self, zstd: &[u8], size: u64, frame_size: u64) -> Sealed {
        self.seal_frames(zstd, &[(size, zstd.len() as u64)], frame_size)
    }

    fn seal_frames(&self, zstd: &[u8], frames: &[(u64, u64)], frame_size: u64) -> Sealed {
        Sealed::of(&self.with_frames(zstd, frames, frame_size))
    }
}

fn header(frame_size: u64) -> String {
    forge::header(&samples::key(), frame_size)
}

type Reader<'a> = ArchiveReader<Cursor<&'a [u8]>, Cursor<&'a [u8]>>;

struct Sealed {
    artifact: Vec<u8>,
    index: Vec<u8>,
    identity: Identity,
}

impl Sealed {
    fn of(forged: &Forged) -> Self {
        Self::new(&forged.zstd, &forged.lines)
    }

    fn new(zstd: &[u8], lines: &[u8]) -> Self {
        Self::with_index(zstd, &zstd_of(lines))
    }

    fn with_index(zstd: &[u8], index: &[u8]) -> Self {
        let identity = Identity::generate();
        let seal = |plain: &[u8]| seal::seal(&[identity.recipient()], plain).unwrap();
        Self { artifact: seal(zstd), index: seal(index), identity }
    }

    fn open(&self) -> Result<Reader<'_>, Error> {
        let identities = std::slice::from_ref(&self.identity);
        ArchiveReader::open(Cursor::new(&*self.artifact), Cursor::new(&*self.index), identities)
    }

    /// Tries everything; gives extraction's error.
    fn refused(&self) -> String {
        let sandbox = tempfile::tempdir().unwrap();
        fs::write(sandbox.path().join("victim"), "untouched").unwrap();
        let target = sandbox.path().join("target");
        let options = ExtractOptions { overwrite: Overwrite::Always, ..ExtractOptions::default() };
        let error = self.open().and_then(|mut reader| extract(&mut reader, &target, &options)).unwrap_err();
        for name in names(sandbox.path()) {
            assert!(name.starts_with(b"target") || name == b"victim", "{}", name.escape_ascii());
            let len = place(sandbox.path(), &name).symlink_metadata().unwrap().len();
            assert!(len <= 1 << 20, "{} has {len} bytes", name.escape_ascii());
        }
        assert_eq!(fs::read_to_string(sandbox.path().join("victim")).unwrap(), "untouched");
        error.to_string()
    }

    /// As [`Sealed::refused`], when no part of it is acceptable to anybody, and all for the same reason.
    fn refused_by_all(&self) -> String {
        let refused = self.refused();
        assert_eq!(verified(self).unwrap_err(), refused);
        for format in ExportFormat::ALL {
            let mut out = Vec::new();
            let export = |mut reader| export(&mut reader, format, &[], &mut out, &Watch::default());
            assert_eq!(self.open().and_then(export).unwrap_err().to_string(), refused, "{format:?}");
            assert_not_whole(format, &out);
        }
        refused
    }
}

#[test]
fn the_hand_made_archive_is_a_good_one_without_the_evil() {
    let sealed = Crafted::default().file("a", b"hello").symlink("l", "/etc/passwd").hardlink("h", "a").seal();
    let report = verify::deep(&mut sealed.open().unwrap(), &Watch::default()).unwrap();
    assert_eq!((report.entries, report.frames), (3, 1));
    let target = tempfile::tempdir().unwrap();
    extract(&mut sealed.open().unwrap(), target.path(), &ExtractOptions::default()).unwrap();
    assert_eq!(fs::read_to_string(target.path().join("h")).unwrap(), "hello");
}

#[test]
fn paths_that_lead_outside_are_refused_by_name() {
    for path in ["../victim", "/tmp/victim", "a/../../victim", "./x", "a//b", "..", "a/"] {
        let error = Crafted::default().file(path, b"evil").seal().refused_by_all();
        assert!(error.contains("unsafe path") && error.contains(path), "{path}: {error}");
        // The index says something harmless, the tar does not.
        let error = Crafted::default().file_as(path, "harmless", b"evil").seal().refused_by_all();
        let named = error.contains("`harmless`");
        let says = error.contains("the tar header says something else") || error.contains("has a size");
        assert!(named && says, "{path}: {error}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    for target in ["..", "../victim", "/tmp"] {
        let error = Crafted::default().symlink("d", target).file("d/evil", b"x").seal().refused();
        assert!(error.contains("`d` in the target directory is in the way"), "{error}");
    }
}

/// What deep verification says.
fn verified(sealed: &Sealed) -> Result<verify::Report, String> {
    sealed
        .open()
        .and_then(|mut reader| verify::deep(&mut reader, &Watch::default()))
        .map_err(|e| e.to_string())
}

#[test]
fn what_lies_below_something_else_than_a_directory_is_no_sound_snapshot() {
    let below = "`d/deep/evil` lies below an entry that is no directory";
    let above = "`d` is no directory, but an earlier entry lies below it";
    let evil = |crafted: &mut Crafted| crafted.file("d/deep/evil", b"x").seal();
    let cases = [
        (evil(Crafted::default().symlink("d", "/tmp")), below),
        (evil(Crafted::default().file("d", b"x")), below),
        (evil(Crafted::default().file("a", b"x").hardlink("d", "a")), below),
        (evil(Crafted::default().file("d/other", b"x").symlink("d/deep", "..")), below),
        (Crafted::default().file("d/deep/evil", b"x").symlink("d", "/tmp").seal(), above),
        (Crafted::default().file("d/deep/evil", b"x").file("d", b"y").seal(), above),
    ];
    for (sealed, expected) in cases {
        let error = verified(&sealed).unwrap_err();
        assert!(error.contains(expected), "{error}");
        let error = sealed.refused();
        assert!(error.contains("in the way"), "extraction says: {error}");
    }
    // Beside a link, and below directories that come late or never, all is well.
    let sound = Crafted::default()
        .file("d/a", b"x")
        .directory("d")
        .symlink("dd", "d")
        .file("d/b", b"y")
        .directory("d/e")
        .file("d/e/c", b"z")
        .seal();
    assert_eq!(verified(&sound).unwrap().entries, 6);
    let target = tempfile::tempdir().unwrap();
    extract(&mut sound.open().unwrap(), target.path(), &ExtractOptions::default()).unwrap();
    assert_eq!(fs::read_to_string(target.path().join("dd/e/c")).unwrap(), "z");
}

#[test]
fn hard_links_lead_to_earlier_files_only() {
    let outside = Crafted::default().hardlink("h", "../victim").seal().refused_by_all();
    assert!(outside.contains("unsafe path `../victim`"), "{outside}");
    let missing = Crafted::default().hardlink("h", "nowhere").seal().refused();
    assert!(missing.contains("`h` is a hard link to something that is no earlier file"), "{missing}");
    let later = Crafted::default().hardlink("h", "a").file("a", b"x").seal().refused();
    assert!(later.contains("`h` is a hard link"), "{later}");
    let through = Crafted::default().symlink("l", "../victim").hardlink("h", "l").seal().refused();
    assert!(through.contains("`h` is a hard link"), "{through}");
}

#[test]
fn device_nodes_are_refused() {
    for flag in [b'3', b'4', b'6'] {
        let error = Crafted::default().device_as_file("node", flag).seal().refused_by_all();
        assert!(error.contains("`node`") && error.contains("something else"), "{error}");
        let rest = serde_json::json!({"kind": "device"});
        let error =
            Crafted::default().tar("node", flag, b"", "").line("node", 1, &rest).seal().refused_by_all();
        assert!(error.contains("unknown variant `device`"), "{error}");
    }
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let error = Crafted::default().file("a", b"one").file("a", b"two").seal().refused();
    assert!(error.contains("`a` appears twice"), "{error}");
    let sealed = Crafted::default().file("a", b"one").symlink("a", "b").file("c", b"three").seal();
    let mut reader = sealed.open().unwrap();
    let path = |text| EntryPath::new(text).unwrap();
    let error = reader.read(&path("a")).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("`a` appears twice"), "neither is *the* content: {error}");
    assert_eq!(reader.find(&path("c")).unwrap().size(), 5);
    assert!(matches!(reader.index().find(&path("a")), Err(Error::Hostile { .. })));
    let error = verify::deep(&mut sealed.open().unwrap(), &Watch::default()).unwrap_err();
    assert!(error.to_string().contains("`a` appears twice"), "{error}");
}

#[test]
fn sizes_and_hashes_that_lie_are_found_out() {
    let blake3 = blake3::hash(b"hello").to_hex().to_string();
    let lying = |size: u64, blake3: &str| {
        let mut crafted = Crafted::default();
        crafted.totals = ContentSummary { files: 1, bytes: size, ..ContentSummary::default() };
        let rest = serde_json::json!({"kind": "file", "size": size, "blake3": blake3});
        crafted.tar("f", b'0', b"hello", "").line("f", 2, &rest).seal().refused_by_all()
    };
    assert!(lying(6, &blake3).contains("the tar header says something else"), "{}", lying(6, &blake3));
    assert!(lying(4, &blake3).contains("the tar header says something else"));
    assert!(lying(1 << 40, &blake3).contains("index.zst.enc is damaged"));
    assert!(lying(u64::MAX, &blake3).contains("larger than any file"));
    let other = blake3::hash(b"world").to_hex().to_string();
    assert!(lying(5, &other).contains("its content hash is not that of the index"));
}

#[test]
fn bombs_are_refused_before_they_grow() {
    let mut crafted = Crafted::default();
    crafted.file("a", b"x");
    // A frame that says 2 KiB in the index and holds a gibibyte.
    let bomb = zstd_of(&vec![0; 1 << 30]);
    assert!(bomb.len() < 200_000);
    let error = crafted.seal_with(&bomb, 2048, 4 << 20).refused_by_all();
    assert!(error.contains("compressed size can't be"), "{error}");
    let small_bomb = zstd_of(&vec![0; 4 << 20]);
    let error = crafted.seal_with(&small_bomb, 2048, 4 << 20).refused_by_all();
    assert!(error.contains("not one zstd frame of the size"), "{error}");
    // The same with the size left out of the frame.
    let mut unsized_frame = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    unsized_frame.write_all(&vec![0; 4 << 20]).unwrap();
    let error = crafted.seal_with(&unsized_frame.finish().unwrap(), 2048, 4 << 20).refused_by_all();
    assert!(error.contains("not one zstd frame of the size"), "{error}");
    // Frames so large that holding one would hurt.
    let error = crafted.seal_with(&bomb, 1 << 30, 1 << 30).refused_by_all();
    assert!(error.contains("larger than 64 MiB"), "{error}");
    // Two frames where one is promised.
    let two = [zstd_of(&[0; 1024]), zstd_of(&[0; 1024])].concat();
    let error = crafted.seal_with(&two, 2048, 4 << 20).refused_by_all();
    assert!(error.contains("not one zstd frame"), "{error}");
}

const TIB: u64 = 1 << 40;

#[test]
fn a_tebibyte_of_zeros_in_a_few_kib_is_refused() {
    let bomb = Zeros::new(TIB);
    // The index promises frames that aren't there.
    let promised = bomb.promised();
    let few = promised.zstd.clone();
    assert!(few.len() < 100_000);
    let error = Sealed::of(&promised).refused_by_all();
    assert!(error.contains("the length of its zstd stream"), "{error}");
    // It promises only those that are there: the file does not fit in.
    let frames = [
        (FRAME, bomb.head.len() as u64),
        (FRAME, bomb.zeros.len() as u64),
        (Zeros::TAIL, bomb.tail.len() as u64),
    ];
    let error = bomb.crafted.seal_frames(&few, &frames, FRAME).refused_by_all();
    assert!(error.contains("an entry's line comes before the frame it ends in"), "{error}");
    // It makes the lengths agree by frames that are smaller than zstd can make them. Listing knows it, too.
    let mut tiny = vec![(FRAME, 4); (TIB / FRAME).try_into().unwrap()];
    tiny.push((Zeros::TAIL, bomb.tail.len() as u64));
    let zstd = vec![0; tiny.iter().map(|(_, len)| usize::try_from(*len).unwrap()).sum()];
    let sealed = bomb.crafted.seal_frames(&zstd, &tiny, FRAME);
    let error = sealed.refused_by_all();
    assert!(error.contains("compressed size can't be"), "{error}");
    let listed: Result<Vec<_>, _> = sealed.open().unwrap().entries().unwrap().collect();
    assert!(listed.unwrap_err().to_string().contains("compressed size can't be"));
}

struct StopAtFirstByte(Arc<AtomicBool>);

impl Progress for StopAtFirstByte {
    fn phase(&self, _: Phase, _: Option<u64>) {}
    fn entry(&self, _: &EntryPath) {}
    fn bytes(&self, _: u64) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn warning(&self, _: &Warning) {}
    fn note(&self, _: &str) {}
}

#[test]
fn a_true_tebibyte_is_not_begun_where_it_has_no_room() {
    let sealed = Sealed::of(&Zeros::new(TIB).whole());
    // Listing tells what is coming.
    let listed: Vec<_> =
        sealed.open().unwrap().entries().unwrap().map(|entry| entry.unwrap().size()).collect();
    assert_eq!(listed, [TIB]);
    // In memory, where no machine has that much room.
    let target = tempfile::tempdir_in("/dev/shm").unwrap();
    let read = Arc::new(AtomicU64::new(0));
    let artifact = Counting(Cursor::new(&*sealed.artifact), read.clone());
    let identities = std::slice::from_ref(&sealed.identity);
    let mut reader = ArchiveReader::open(artifact, Cursor::new(&*sealed.index), identities).unwrap();
    // Were it begun, it would end with its first bytes, and not with the machine's memory.
    let begun = Arc::new(AtomicBool::new(false));
    let watch = Watch { progress: Arc::new(StopAtFirstByte(begun.clone())), cancel: begun };
    let error =
        extract(&mut reader, target.path(), &ExtractOptions { watch, ..Default::default() }).unwrap_err();
    assert!(matches!(&error, Error::Target { op: "find room for", path, .. } if path == "zeros"), "{error}");
    assert!(names(target.path()).is_empty());
    // Its header and its last chunk, and no frame.
    let read = read.load(Ordering::Relaxed);
    assert!(read < 3 * (64 << 10), "{read} of {} bytes were read", sealed.artifact.len());
}

#[test]
fn an_index_bomb_is_cut_at_one_line() {
    // A gibibyte of spaces, in a few KiB.
    let mut lines = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    lines.write_all(header(4096).as_bytes()).unwrap();
    lines.write_all(b"\n").unwrap();
    for _ in 0..1024 {
        lines.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let index = lines.finish().unwrap();
    assert!(index.len() < 200_000);
    let error = Sealed::with_index(b"", &index).refused_by_all();
    assert!(error.contains("a line is longer than 1 MiB"), "{error}");
    // A window of 128 MiB.
    let mut lines = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    lines.window_log(27).unwrap();
    lines.write_all(header(4096).as_bytes()).unwrap();
    let error = Sealed::with_index(b"", &lines.finish().unwrap()).refused_by_all();
    assert!(error.contains("index.zst.enc is damaged"), "{error}");
}

#[test]
fn what_follows_the_end_is_refused() {
    let mut crafted = Crafted::default();
    crafted.file("a", b"x").tar.extend([0; 1024]);
    let zstd = zstd_of(&crafted.tar);
    let longer = [zstd.clone(), zstd_of(b"hidden")].concat();
    let sealed = crafted.seal_with(&zstd, crafted.tar.len() as u64, 4 << 20);
    let hidden = Sealed {
        artifact: seal::seal(&[sealed.identity.recipient()], &longer).unwrap(),
        index: sealed.index,
        identity: sealed.identity,
    };
    let error = hidden.refused_by_all();
    assert!(error.contains("the length of its zstd stream"), "{error}");
    // Something else than zeros at the end of the tar: an unpacker would go on reading there.
    let mut crafted = Crafted::default();
    crafted.file("a", b"x").tar.extend(header_block("hidden", b'0', 0, ""));
    crafted.tar.extend([0; 512]);
    let sealed = crafted.seal_with(&zstd_of(&crafted.tar), crafted.tar.len() as u64, 4 << 20);
    let error = verify::deep(&mut sealed.open().unwrap(), &Watch::default()).unwrap_err();
    assert!(error.to_string().contains("two zero blocks"), "{error}");
}

#[test]
fn a_newer_index_says_so() {
    let newer = header(4096).replace("\"version\":1", "\"version\":2,\"new\":true") + "\n";
    let error = Sealed::new(b"", newer.as_bytes()).refused_by_all();
    assert!(error.contains("index version 2 is newer"), "{error}");
    let unknown = header(4096) + "\n{\"type\":\"surprise\"}\n";
    let error = Sealed::new(b"", unknown.as_bytes()).refused_by_all();
    assert!(error.contains("unknown variant `surprise`"), "{error}");
}
