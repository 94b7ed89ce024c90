//! Archives that no honest writer makes, correctly encrypted: each is refused, and nothing is written outside.

use std::fs;
use std::io::{Cursor, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use xvault_archive::{ArchiveReader, Error, ExtractOptions, Overwrite, Watch, export, extract, verify};
use xvault_core::{EntryPath, Identity, Phase, Progress, Warning, seal};

use crate::support::{Counting, key};
use crate::tree::{names, place};

/// A tar and an index made by hand, byte by byte.
#[derive(Default)]
struct Crafted {
    tar: Vec<u8>,
    lines: Vec<String>,
    entries: u64,
    /// `[files, directories, symlinks, hardlinks, bytes]`
    counts: [u64; 5],
}

/// A tar header block.
fn block(name: &str, flag: u8, size: u64, target: &str) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(157, target);
    put(257, "ustar\x0000");
    block[156] = flag;
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

impl Crafted {
    fn tar(&mut self, name: &str, flag: u8, body: &[u8], target: &str) -> &mut Self {
        self.tar.extend(block(name, flag, body.len() as u64, target));
        self.tar.extend_from_slice(body);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// An index line for the entry that was put into the tar last, which began `blocks` blocks ago.
    fn line(&mut self, path: &str, blocks: usize, rest: &serde_json::Value) -> &mut Self {
        let offset = self.tar.len() - blocks * 512;
        let mut line = serde_json::json!({
            "type": "entry", "path": path, "mode": 0o644, "uid": 0, "gid": 0, "mtime": [0, 0],
            "offset": offset, "data_offset": offset + 512,
        });
        for (field, value) in rest.as_object().unwrap() {
            line[field] = value.clone();
        }
        self.lines.push(line.to_string());
        self.entries += 1;
        self
    }

    fn file(&mut self, path: &str, body: &[u8]) -> &mut Self {
        self.file_as(path, path, body)
    }

    fn file_as(&mut self, in_tar: &str, in_index: &str, body: &[u8]) -> &mut Self {
        let blake3 = blake3::hash(body).to_hex().to_string();
        self.counts[0] += 1;
        self.counts[4] += body.len() as u64;
        let rest = serde_json::json!({"kind": "file", "size": body.len(), "blake3": blake3});
        self.tar(in_tar, b'0', body, "").line(in_index, 1 + body.len().div_ceil(512), &rest)
    }

    fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.counts[2] += 1;
        let rest = serde_json::json!({"kind": "symlink", "target": target});
        self.tar(path, b'2', b"", target).line(path, 1, &rest)
    }

    fn hardlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.counts[3] += 1;
        let rest = serde_json::json!({"kind": "hardlink", "target": target});
        self.tar(path, b'1', b"", target).line(path, 1, &rest)
    }

    /// One frame, a matching index, both encrypted.
    fn seal(&mut self) -> Sealed {
        self.tar.extend([0; 1024]);
        let zstd = zstd_of(&self.tar);
        self.seal_with(&zstd, self.tar.len() as u64, 4 << 20)
    }

    fn seal_with(&self, zstd: &[u8], size: u64, frame_size: u64) -> Sealed {
        self.seal_frames(zstd, &[(size, zstd.len() as u64)], frame_size)
    }

    /// Whatever the index says about frames, plain and compressed size of each, over whatever artifact.
    fn seal_frames(&self, zstd: &[u8], frames: &[(u64, u64)], frame_size: u64) -> Sealed {
        let [files, directories, symlinks, hardlinks, bytes] = self.counts;
        let mut lines = vec![header(frame_size)];
        let (mut size, mut zstd_size) = (0, 0);
        for (at, (plain, compressed)) in frames.iter().enumerate() {
            // An entry's line stands before the frame it ends in: the last one.
            if at + 1 == frames.len() {
                lines.extend(self.lines.iter().cloned());
            }
            let frame = serde_json::json!({
                "type": "frame", "offset": size, "size": plain, "zstd_offset": zstd_size, "zstd_size": compressed,
            });
            lines.push(frame.to_string());
            (size, zstd_size) = (size + plain, zstd_size + compressed);
        }
        let end = serde_json::json!({
            "type": "end", "entries": self.entries, "frames": frames.len(), "tar_size": size,
            "zstd_size": zstd_size, "files": files, "directories": directories, "symlinks": symlinks,
            "hardlinks": hardlinks, "bytes": bytes, "warnings": 0, "skipped": 0,
        });
        lines.push(end.to_string());
        Sealed::new(zstd, (lines.join("\n") + "\n").as_bytes())
    }
}

fn header(frame_size: u64) -> String {
    let key = key();
    serde_json::json!({
        "type": "header", "format": "xvault-index", "version": 1, "tenant_id": key.tenant_id,
        "source_id": key.source_id, "snapshot_id": key.snapshot_id, "frame_size": frame_size,
    })
    .to_string()
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

type Reader<'a> = ArchiveReader<Cursor<&'a [u8]>, Cursor<&'a [u8]>>;

struct Sealed {
    artifact: Vec<u8>,
    index: Vec<u8>,
    identity: Identity,
}

impl Sealed {
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

    /// As [`Sealed::refused`], when no part of it is acceptable to anybody.
    fn refused_by_all(&self) -> String {
        let deep = self.open().and_then(|mut reader| verify::deep(&mut reader, &Watch::default()));
        assert!(deep.is_err());
        let export = |mut reader| export::tar(&mut reader, &[], &mut std::io::sink(), &Watch::default());
        assert!(self.open().and_then(export).is_err());
        self.refused()
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
        let blake3 = blake3::hash(b"").to_hex().to_string();
        let rest = serde_json::json!({"kind": "file", "size": 0, "blake3": blake3});
        let mut crafted = Crafted { counts: [1, 0, 0, 0, 0], ..Crafted::default() };
        let error = crafted.tar("node", flag, b"", "").line("node", 1, &rest).seal().refused_by_all();
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
    let sealed = Crafted::default().file("a", b"one").symlink("a", "b").seal();
    let error = verify::deep(&mut sealed.open().unwrap(), &Watch::default()).unwrap_err();
    assert!(error.to_string().contains("`a` appears twice"), "{error}");
}

#[test]
fn sizes_and_hashes_that_lie_are_found_out() {
    let blake3 = blake3::hash(b"hello").to_hex().to_string();
    let lying = |size: u64, blake3: &str| {
        let mut crafted = Crafted { counts: [1, 0, 0, 0, size], ..Crafted::default() };
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

/// A tebibyte of zeros in one file, in frames of 64 MiB.
struct Tebibyte {
    crafted: Crafted,
    /// The first frame, and each of the others.
    head: Vec<u8>,
    zeros: Vec<u8>,
    tail: Vec<u8>,
}

const FRAME: u64 = 64 << 20;
const TIB: u64 = 1 << 40;

impl Tebibyte {
    fn new() -> Self {
        let mut header = block("zeros", b'0', 0, "");
        // Larger than octal digits can say: GNU's binary form, and the checksum again.
        header[124..136].copy_from_slice(&[&[0x80, 0, 0, 0][..], &TIB.to_be_bytes()].concat());
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut crafted = Crafted { counts: [1, 0, 0, 0, TIB], tar: header.clone(), ..Crafted::default() };
        let blake3 = blake3::hash(b"whatever").to_hex().to_string();
        crafted.line("zeros", 1, &serde_json::json!({"kind": "file", "size": TIB, "blake3": blake3}));
        let mut first = header;
        first.resize(FRAME.try_into().unwrap(), 0);
        let zeros = zstd_of(&vec![0; first.len()]);
        // Header, file and the two blocks of the end, less what full frames hold.
        Self { crafted, head: zstd_of(&first), zeros, tail: zstd_of(&[0; 1536]) }
    }

    /// What an honest index says.
    fn frames(&self) -> Vec<(u64, u64)> {
        let mut frames = vec![(FRAME, self.zeros.len() as u64); (TIB / FRAME).try_into().unwrap()];
        frames[0].1 = self.head.len() as u64;
        frames.push((1536, self.tail.len() as u64));
        frames
    }

    fn zstd(&self) -> Vec<u8> {
        let mut zstd = self.head.clone();
        for _ in 1..TIB / FRAME {
            zstd.extend_from_slice(&self.zeros);
        }
        zstd.extend_from_slice(&self.tail);
        zstd
    }
}

#[test]
fn a_tebibyte_of_zeros_in_a_few_kib_is_refused() {
    let bomb = Tebibyte::new();
    // The index promises frames that aren't there.
    let few = [&*bomb.head, &*bomb.zeros, &*bomb.tail].concat();
    assert!(few.len() < 100_000);
    let error = bomb.crafted.seal_frames(&few, &bomb.frames(), FRAME).refused_by_all();
    assert!(error.contains("the length of its zstd stream"), "{error}");
    // It promises only those that are there: the file does not fit in.
    let frames =
        [(FRAME, bomb.head.len() as u64), (FRAME, bomb.zeros.len() as u64), (1536, bomb.tail.len() as u64)];
    let error = bomb.crafted.seal_frames(&few, &frames, FRAME).refused_by_all();
    assert!(error.contains("an entry's line comes before the frame it ends in"), "{error}");
    // It makes the lengths agree by frames that are smaller than zstd can make them. Listing knows it, too.
    let mut tiny = vec![(FRAME, 4); (TIB / FRAME).try_into().unwrap()];
    tiny.push((1536, bomb.tail.len() as u64));
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
    let bomb = Tebibyte::new();
    let sealed = bomb.crafted.seal_frames(&bomb.zstd(), &bomb.frames(), FRAME);
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
    crafted.file("a", b"x").tar.extend(block("hidden", b'0', 0, ""));
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
