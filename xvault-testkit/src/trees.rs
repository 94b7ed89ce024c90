//! Trees for tests: one with every oddity, and plain ones of a given size. The same call makes the same content.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

/// 1960-01-01 00:00:00 UTC.
pub const EARLY: i64 = -315_619_200;
/// 2100-01-01 00:00:00 UTC: still within the 32 unsigned bits of SFTP version 3.
pub const FAR_FUTURE: i64 = 4_102_444_800;
/// What ordinary entries of [`oddities`] carry: 2001-09-09 01:46:40 UTC.
const ORDINARY: i64 = 1_000_000_000;

/// Reproducible numbers that do not compress: xorshift64*.
#[derive(Debug, Clone)]
pub struct Xorshift(u64);

impl Xorshift {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Zero is the one state this generator never leaves.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap().max(1);
        usize::try_from(self.next_u64() % bound).unwrap()
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Writes `len` random bytes of `seed` to `path`.
pub fn random_file(path: &Path, len: u64, seed: u64) {
    let mut random = Xorshift::new(seed);
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(path).unwrap());
    let mut left = len;
    while left > 0 {
        let part = usize::try_from(left.min(1 << 16)).unwrap();
        file.write_all(&random.bytes(part)).unwrap();
        left -= u64::try_from(part).unwrap();
    }
    file.flush().unwrap();
}

/// Makes `dir` with `count` random files of `size` bytes, a hundred to a directory.
pub fn small_files(dir: &Path, count: usize, size: usize) {
    fs::create_dir_all(dir).unwrap();
    for number in 0..count {
        let folder = dir.join(format!("d{:04}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        let content = Xorshift::new(u64::try_from(number).unwrap() + 1).bytes(size);
        fs::write(folder.join(format!("f{number:06}")), content).unwrap();
    }
}

/// Makes `dir` with `files` text files of `total` bytes in all, which compress like source code.
pub fn source_like(dir: &Path, files: usize, total: u64) {
    fs::create_dir_all(dir).unwrap();
    let mut random = Xorshift::new(7);
    let words: Vec<String> = (0..4000).map(|_| word(&mut random)).collect();
    let mut left = usize::try_from(total).unwrap();
    for number in 0..files {
        let folder = dir.join(format!("m{:03}/s{}", number / 250, number / 25 % 10));
        if number % 25 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        // Between half and one and a half of what each remaining file would get.
        let mean = left / (files - number);
        let size = if number + 1 == files { left } else { mean / 2 + mean * (number * 37 % 100) / 100 };
        left -= size;
        fs::write(folder.join(format!("f{number:06}.rs")), text(&mut random, &words, size)).unwrap();
    }
}

fn word(random: &mut Xorshift) -> String {
    let len = 2 + random.below(9);
    (0..len).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap())).collect()
}

fn text(random: &mut Xorshift, words: &[String], size: usize) -> String {
    let mut text = String::with_capacity(size + 64);
    while text.len() < size {
        text.extend(std::iter::repeat_n("    ", random.below(4)));
        for _ in 0..2 + random.below(7) {
            // Squared, so that few words are frequent and many are rare, as in programs.
            let rank = random.below(words.len()) * random.below(words.len()) / words.len();
            text.push_str(&words[rank]);
            text.push_str([" ", ".", "(", ") ", " = ", ", "][random.below(6)]);
        }
        text.push_str(";\n");
    }
    text.truncate(size);
    text
}

/// Sets the modification time of `path` itself, be it a link.
pub fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Makes `dir` with every oddity a backup meets, in a folder per theme: `names`, `times`, `modes`,
/// `links`, `special` (a pipe and a socket, which no archive keeps), `sizes`, `deep`, `empty`.
pub fn oddities(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    odd_names(&dir.join("names"));
    odd_modes(&dir.join("modes"));
    odd_links(&dir.join("links"));
    odd_sizes(&dir.join("sizes"));
    deep_path(&dir.join("deep"));
    special_files(&dir.join("special"));
    fs::create_dir(dir.join("empty")).unwrap();
    settle(dir);
    odd_times(&dir.join("times"));
    set_mtime(dir, ORDINARY, 0);
}

/// Gives everything that has no time of its own the same one, children first.
fn settle(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            settle(&entry.unwrap().path());
        }
    }
    set_mtime(path, ORDINARY, 123_456_789);
}

fn odd_names(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let long = vec![b'n'; 255];
    let names: [&[u8]; 22] = [
        b"new\nline",
        b"\ttab\rreturn",
        b"single'quote",
        b"double\"quote",
        b" leading and trailing space ",
        b"back\\slash",
        b"-rf",
        b"--help",
        b"star*",
        b"question?",
        b"[bracket]",
        b"$HOME `id` $(id) ;&|<>#!",
        b"~",
        b"...",
        b".hidden",
        "gr\u{fc}n \u{65e5}\u{672c} \u{1f980}".as_bytes(),
        // The same word composed and decomposed: two names.
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        b"latin1-\xe9\xff",
        b"\x01\x1b[31m\x7f",
        b"%s%n",
        &long,
    ];
    for name in names {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let folder = dir.join(OsStr::from_bytes(b"folder \xfe\n"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("inside"), "inside").unwrap();
}

fn odd_times(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let times: [(&str, i64, i64); 7] = [
        ("fraction", ORDINARY, 1),
        ("half", ORDINARY, 500_000_000),
        ("before-1970", EARLY, 0),
        ("before-1970-fraction", EARLY, 250_000_000),
        ("just-before-1970", -1, 999_999_999),
        ("epoch", 0, 0),
        ("far-future", FAR_FUTURE, 987_654_321),
    ];
    for (name, secs, nanos) in times {
        fs::write(dir.join(name), name).unwrap();
        set_mtime(&dir.join(name), secs, nanos);
    }
    let folder = dir.join("folder");
    fs::create_dir(&folder).unwrap();
    set_mtime(&folder, EARLY + 1, 5);
    symlink("fraction", dir.join("link")).unwrap();
    set_mtime(&dir.join("link"), ORDINARY + 5, 7);
    set_mtime(dir, ORDINARY, 42);
}

fn odd_modes(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for mode in [0o000, 0o400, 0o644, 0o755, 0o777, 0o2755, 0o4755, 0o6711] {
        let path = dir.join(format!("file-{mode:04o}"));
        fs::write(&path, format!("{mode:o}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for mode in [0o500, 0o700, 0o1777, 0o2775] {
        let path = dir.join(format!("folder-{mode:04o}"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "inside").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn odd_links(dir: &Path) {
    fs::create_dir(dir).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    fs::write(dir.join("file"), "linked").unwrap();
    let long = format!("/nowhere/{}", "t/".repeat(1000));
    let links: [(&str, &str); 9] = [
        ("relative", "file"),
        ("up", "../names"),
        ("absolute", "/etc/hostname"),
        ("dangling", "no such file"),
        ("loop-a", "loop-b"),
        ("loop-b", "loop-a"),
        ("self", "."),
        ("to-folder", "folder"),
        ("long", &long),
    ];
    for (name, target) in links {
        symlink(target, dir.join(name)).unwrap();
    }
    symlink(OsStr::from_bytes(b"bad \xff\n target"), dir.join("bytes")).unwrap();
    fs::hard_link(dir.join("file"), dir.join("hard-1")).unwrap();
    fs::hard_link(dir.join("file"), dir.join("folder/hard-2")).unwrap();
}

fn odd_sizes(dir: &Path) {
    fs::create_dir(dir).unwrap();
    // Around the block of tar.
    for size in [0, 1, 511, 512, 513, 1024] {
        fs::write(dir.join(format!("{size}-bytes")), vec![b's'; size]).unwrap();
    }
    random_file(&dir.join("random"), 5 * 1024 * 1024 + 17, 1);
    fs::write(dir.join("zeros"), vec![0; 3 * 1024 * 1024]).unwrap();
    let mut sparse = fs::File::create(dir.join("sparse")).unwrap();
    sparse.write_all(b"start").unwrap();
    sparse.seek(SeekFrom::Start(2 * 1024 * 1024)).unwrap();
    sparse.write_all(b"end").unwrap();
}

fn deep_path(dir: &Path) {
    let mut path = PathBuf::from(dir);
    for level in 0..10 {
        path.push(format!("level-{level}-{}", "x".repeat(40)));
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("bottom"), "deep").unwrap();
}

fn special_files(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, dir.join("pipe"), FileType::Fifo, mode, 0).unwrap();
    mknodat(CWD, dir.join("socket"), FileType::Socket, mode, 0).unwrap();
    fs::write(dir.join("file"), "beside special ones").unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TreeOptions, assert_same_tree};

    #[test]
    fn the_same_call_makes_the_same_tree() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            oddities(&dir.path().join(name));
        }
        let options = TreeOptions { special: true, ..TreeOptions::default() };
        assert_same_tree(&dir.path().join("a"), &dir.path().join("b"), &options);
    }

    #[test]
    fn text_has_the_size_asked_for_and_compresses() {
        let dir = tempfile::tempdir().unwrap();
        source_like(dir.path(), 101, 1_010_000);
        let list = crate::tools::run(&mut crate::tools::command(
            "tar",
            [Path::new("-cC"), dir.path(), Path::new(".")],
        ));
        fs::write(dir.path().join("all.tar"), &list).unwrap();
        let mut zstd = crate::tools::command("zstd", ["-c"]);
        let packed = crate::tools::run(zstd.arg(dir.path().join("all.tar"))).len();
        assert!(list.len() > 1_010_000 && packed * 2 < list.len() && packed * 8 > list.len(), "{packed}");
        let sum: u64 = files_in(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert_eq!(sum - u64::try_from(list.len()).unwrap(), 1_010_000);
    }

    fn files_in(dir: &Path) -> Vec<PathBuf> {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        paths.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn random_files_have_their_length() {
        let dir = tempfile::tempdir().unwrap();
        random_file(&dir.path().join("r"), 100_003, 9);
        let bytes = fs::read(dir.path().join("r")).unwrap();
        assert_eq!(bytes.len(), 100_003);
        assert_eq!(bytes[..64], Xorshift::new(9).bytes(64));
    }
}
