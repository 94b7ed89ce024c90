//! What a server tells of an entry: a line of MLSD, or one of LIST as Unix or DOS write it.

mod dos;
mod mlsd;
mod time;
mod unix;

use xvault_core::{Metadata, Mtime};

pub(crate) use mlsd::mlsd;
pub(crate) use time::modified;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink,
    /// A socket, pipe or device.
    Special,
    /// The directory that is listed.
    Itself,
    /// The one above it.
    Above,
}

/// An entry as the server tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Of a link in LIST, where it leads stands behind it: an arrow may be part of either.
    pub(crate) name: Box<[u8]>,
    pub(crate) kind: Kind,
    /// Of a link, how long its target is.
    pub(crate) size: Option<u64>,
    pub(crate) mtime: Option<Mtime>,
    /// Whether the time is to the second, and in UTC. LIST has minutes, or days, of the server's own time zone.
    pub(crate) is_exact: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) user: Option<Box<[u8]>>,
    pub(crate) group: Option<Box<[u8]>>,
    /// Where a symbolic link leads.
    pub(crate) target: Option<Box<[u8]>>,
    /// What tells it from all others on the server.
    pub(crate) unique: Option<Box<[u8]>>,
}

impl Listed {
    /// One of which no more is known.
    pub(crate) fn new(name: &[u8], kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            size: None,
            mtime: None,
            is_exact: false,
            mode: None,
            uid: None,
            gid: None,
            user: None,
            group: None,
            target: None,
            unique: None,
        }
    }

    /// For the archive. What the server does not tell is what is usual; a time is `now`, in seconds since 1970.
    pub(crate) fn metadata(&self, now: i64) -> Metadata {
        let usual = match self.kind {
            Kind::Directory | Kind::Itself | Kind::Above => 0o755,
            Kind::Symlink => 0o777,
            Kind::File | Kind::Special => 0o644,
        };
        Metadata {
            mode: self.mode.unwrap_or(usual) & 0o7777,
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
            user: self.user.as_deref().map(<[u8]>::to_vec),
            group: self.group.as_deref().map(<[u8]>::to_vec),
            mtime: self.mtime.unwrap_or(Mtime { secs: now, nanos: 0 }),
        }
    }

    /// Bytes of memory it takes, beyond itself.
    pub(crate) fn weight(&self) -> usize {
        let texts = [&self.user, &self.group, &self.target, &self.unique];
        let texts = texts.into_iter().flatten().map(|text| text.len() + ALLOCATION);
        self.name.len() + ALLOCATION + texts.sum::<usize>()
    }
}

/// What the allocator adds to a text, about.
const ALLOCATION: usize = 16;

/// What a line of LIST is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Entry(Listed),
    /// `total 12`, or nothing at all.
    Noise,
}

/// Reads a line of LIST, without its end; `now` in seconds since 1970 is for times without a year. `None`: it is not understood.
pub(crate) fn list(line: &[u8], now: i64) -> Option<Line> {
    let is_total =
        line.strip_prefix(b"total ").is_some_and(|rest| rest.trim_ascii().parse_number().is_some());
    if line.trim_ascii().is_empty() || is_total {
        return Some(Line::Noise);
    }
    unix::unix(line, now).or_else(|| dos::dos(line)).map(Line::Entry)
}

/// Reading numbers from bytes.
trait Digits {
    fn parse_number(&self) -> Option<u64>;
}

impl Digits for [u8] {
    /// Decimal digits alone, at least one.
    fn parse_number(&self) -> Option<u64> {
        let text = std::str::from_utf8(self).ok()?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        text.parse().ok()
    }
}

/// A word of a line, and where it ends.
#[derive(Debug, Clone, Copy)]
struct Word<'l> {
    text: &'l [u8],
    end: usize,
}

/// The words of a line, as blanks part them.
fn words(line: &[u8]) -> Vec<Word<'_>> {
    /// The name comes long before.
    const MOST: usize = 32;
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty())
        && words.len() < MOST
    {
        let len = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        if let Some(text) = rest.get(..len).filter(|text| !text.is_empty()) {
            words.push(Word { text, end: at + len });
        }
        at += len + 1;
    }
    words
}

/// An entry whose name is `.` or `..` is not one of the directory.
fn or_itself(kind: Kind, name: &[u8]) -> Kind {
    match name {
        b"." => Kind::Itself,
        b".." => Kind::Above,
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(line: &str) -> Listed {
        match list(line.as_bytes(), 1_700_000_000) {
            Some(Line::Entry(listed)) => listed,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn noise_is_no_entry_and_nonsense_is_not_understood() {
        for noise in ["total 12", "total 0", "", "  "] {
            assert_eq!(list(noise.as_bytes(), 0), Some(Line::Noise), "{noise}");
        }
        for nonsense in [
            "total",
            "hello world",
            "README.TXT;4  2  18-APR-2000 10:40:36  [ANONYMOUS]  (RWED,,,)",
            "-rw-r--r-- 1 u g 5 Foo 12 2020 x",
            "-rw-r--r-- 1 u g 5 Jan 12 2020",
            "-rw-r--r-- 1 u g 5 Jan 12 2020 ",
            "01-29-24  03:20PM",
        ] {
            assert_eq!(list(nonsense.as_bytes(), 0), None, "{nonsense}");
        }
    }

    #[test]
    fn what_is_not_told_is_what_is_usual() {
        let modes = [Kind::Directory, Kind::File, Kind::Symlink]
            .map(|kind| Listed::new(b"x", kind).metadata(7))
            .map(|metadata| (metadata.mode, metadata.mtime.secs));
        assert_eq!(modes, [(0o755, 7), (0o644, 7), (0o777, 7)]);
    }

    #[test]
    fn the_listed_directory_itself_is_no_entry_of_it() {
        assert_eq!(entry("drwxr-xr-x 2 u g 4096 Jan 12 2020 .").kind, Kind::Itself);
        assert_eq!(entry("drwxr-xr-x 2 u g 4096 Jan 12 2020 ..").kind, Kind::Above);
        assert_eq!(entry("drwxr-xr-x 2 u g 4096 Jan 12 2020 ...").kind, Kind::Directory);
    }

    /// A line of each kind, to be broken.
    const GOOD: [&str; 6] = [
        "-rw-r--r--   1 1000     1000         8192 Nov 24 12:34 a name",
        "lrwxrwxrwx+  1 u g 5 2026-01-02 13:14:15.123456789 l -> t",
        "crw-rw---- 1 root tty 4, 64 Feb 29 2024 d",
        "01-29-24  03:20PM       <DIR>          a folder",
        "type=file;size=12;modify=20260101120000.123;UNIX.mode=0644;UNIX.uid=7; a name",
        "type=OS.unix=slink:/t;unique=801U1;perm=r; l",
    ];

    proptest! {
        #[test]
        fn nothing_panics(line in proptest::collection::vec(any::<u8>(), 0..80), now in any::<i64>()) {
            let _ = (list(&line, now), mlsd(&line), modified(&line));
        }

        #[test]
        fn nothing_panics_at_what_is_nearly_right(
            which in 0..GOOD.len(), at in 0_usize..90, len in 0_usize..20, put in "[ -~\\PC]{0,8}", now in any::<i64>(),
        ) {
            let mut line = GOOD[which].as_bytes().to_vec();
            let from = at.min(line.len());
            let to = (from + len).min(line.len());
            line.splice(from..to, put.bytes());
            let _ = (list(&line, now), mlsd(&line), modified(&line));
        }

        #[test]
        fn names_and_sizes_come_through(
            name in proptest::collection::vec(any::<u8>(), 1..40), size in any::<u64>(), mode in 0_u32..0o1000,
        ) {
            prop_assume!(!name.contains(&b'\n') && name != b"." && name != b"..");
            let shown: String = (0..9).map(|bit| if mode >> (8 - bit) & 1 == 1 { ['r', 'w', 'x'][bit % 3] } else { '-' }).collect();
            let unix = [format!("-{shown}   1 u        g        {size:8} Nov 24 2020 ").as_bytes(), &name].concat();
            let Some(Line::Entry(listed)) = list(&unix, 0) else { panic!("{unix:?}") };
            prop_assert_eq!((&*listed.name, listed.size, listed.mode), (&name[..], Some(size), Some(mode)));
            let facts = [format!("type=file;size={size};unix.mode=0{mode:o}; ").as_bytes(), &name].concat();
            let listed = mlsd(&facts).unwrap();
            prop_assert_eq!((&*listed.name, listed.size, listed.mode), (&name[..], Some(size), Some(mode)));
            let dos = [format!("01-29-24  03:20PM {size:>20} ").as_bytes(), &name].concat();
            let Some(Line::Entry(listed)) = list(&dos, 0) else { panic!("{dos:?}") };
            prop_assert_eq!((&*listed.name, listed.size), (&name[..], Some(size)));
        }
    }
}
