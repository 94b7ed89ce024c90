//! Lines of LIST as `ls -l` writes them.

use xvault_core::Mtime;

use super::time::{date, moment, nanos, time, without_year};
use super::{Digits, Kind, Listed, Word, or_itself, words};

const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// `-rw-r--r-- 1 owner group 8192 Nov 24 12:34 name`
pub(super) fn unix(line: &[u8], now: i64) -> Option<Listed> {
    let words = words(line);
    let (kind, mode) = kind_and_mode(words.first()?.text)?;
    // Owners may have blanks in their names, or there is no group: the date tells where one is in the line.
    let (at, stamp) = (2..words.len()).find_map(|at| {
        let stamp = stamp(words.get(at..)?, now)?;
        words.get(at - 1)?.text.parse_number().map(|_| (at, stamp))
    })?;
    let name = line.get(stamp.end + 1..).filter(|name| !name.is_empty())?;
    let mut listed = Listed::new(name, or_itself(kind, name));
    listed.mode = Some(mode);
    listed.mtime = Some(stamp.mtime);
    if matches!(kind, Kind::File | Kind::Symlink) {
        listed.size = words.get(at - 1)?.text.parse_number();
    }
    note_owners(&mut listed, words.get(1..at - 1)?);
    Some(listed)
}

/// What stands between mode and size: links, owner, group.
fn note_owners(listed: &mut Listed, words: &[Word<'_>]) {
    let links =
        usize::from(words.len() > 1 && words.first().is_some_and(|w| w.text.parse_number().is_some()));
    let [user, group] = words.get(links..).unwrap_or_default() else { return };
    match user.text.parse_number() {
        Some(uid) => listed.uid = Some(uid),
        None => listed.user = Some(user.text.into()),
    }
    match group.text.parse_number() {
        Some(gid) => listed.gid = Some(gid),
        None => listed.group = Some(group.text.into()),
    }
}

/// `drwxr-xr-x`, with a sign of access control lists behind it perhaps.
fn kind_and_mode(word: &[u8]) -> Option<(Kind, u32)> {
    let kind = match word.first()? {
        b'-' => Kind::File,
        b'd' => Kind::Directory,
        b'l' => Kind::Symlink,
        b'b' | b'c' | b'p' | b's' | b'D' => Kind::Special,
        _ => return None,
    };
    let bits = word.get(1..10).filter(|_| word.len() <= 11)?;
    let mut mode = 0;
    for (number, triple) in bits.chunks(3).enumerate() {
        let [read, write, execute] = triple else { return None };
        let shift = 6 - 3 * u32::try_from(number).ok()?;
        // setuid, setgid, sticky.
        let special = 0o4000 >> number;
        mode |= u32::from(flag(*read, b'r')?) << (shift + 2) | u32::from(flag(*write, b'w')?) << (shift + 1);
        mode |= match execute {
            b'-' => 0,
            b'x' => 1 << shift,
            b's' | b't' => 1 << shift | special,
            b'S' | b'T' | b'l' | b'L' => special,
            _ => return None,
        };
    }
    Some((kind, mode))
}

fn flag(found: u8, set: u8) -> Option<bool> {
    match found {
        b'-' => Some(false),
        found if found == set => Some(true),
        _ => None,
    }
}

/// A time, and where it ends in the line.
struct Stamp {
    mtime: Mtime,
    end: usize,
}

fn stamp(words: &[Word<'_>], now: i64) -> Option<Stamp> {
    iso(words).or_else(|| traditional(words, now))
}

/// `Nov 24 12:34`, `Nov 24 2020`; some write `24 Nov`.
fn traditional(words: &[Word<'_>], now: i64) -> Option<Stamp> {
    let [first, second, last, ..] = words else { return None };
    let (month, day) = match (month(first.text), month(second.text)) {
        (Some(month), _) => (month, second.text.parse_number()?),
        (None, Some(month)) => (month, first.text.parse_number()?),
        (None, None) => return None,
    };
    let mtime = match clock(last.text) {
        Some((time, _)) => without_year(month, day, time, now)?,
        None => {
            moment(date(last.text.parse_number().filter(|year| *year > 1900)?, month, day)?, time(0, 0, 0)?)?
        }
    };
    Some(Stamp { mtime, end: last.end })
}

/// `2026-01-02 13:14[:15[.123456789]]`, with the offset of its time zone perhaps.
fn iso(words: &[Word<'_>]) -> Option<Stamp> {
    let [day, clock_word, ..] = words else { return None };
    let mut parts = day.text.split(|byte| *byte == b'-');
    let mut part = || parts.next()?.parse_number();
    let (year, month, day) = (part()?, part()?, part()?);
    if parts.next().is_some() || year < 1900 {
        return None;
    }
    let (time, nanos) = clock(clock_word.text)?;
    let mut mtime = Mtime { nanos, ..moment(date(year, month, day)?, time)? };
    let mut end = clock_word.end;
    if let Some((seconds, word)) = words.get(2).and_then(|word| Some((offset(word.text)?, word))) {
        mtime.secs -= seconds;
        end = word.end;
    }
    Some(Stamp { mtime, end })
}

/// `+0100` as seconds.
fn offset(word: &[u8]) -> Option<i64> {
    let (sign, digits) = word.split_first()?;
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = digits.parse_number().filter(|_| digits.len() == 4)?;
    let seconds = i64::try_from(digits / 100 * 3600 + digits % 100 * 60).ok()?;
    Some(sign * seconds)
}

fn month(word: &[u8]) -> Option<u64> {
    let word = word.to_ascii_lowercase();
    let number = MONTHS.iter().position(|month| *month == word)?;
    u64::try_from(number + 1).ok()
}

/// `12:34`, `12:34:56`, `12:34:56.789`
fn clock(word: &[u8]) -> Option<(jiff::civil::Time, u32)> {
    let (whole, fraction) = match word.iter().position(|byte| *byte == b'.') {
        Some(dot) => (word.get(..dot)?, word.get(dot + 1..)?),
        None => (word, &b""[..]),
    };
    let parts: Vec<&[u8]> = whole.split(|byte| *byte == b':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] if fraction.is_empty() => (hour.parse_number()?, minute.parse_number()?, 0),
        [hour, minute, second] => (hour.parse_number()?, minute.parse_number()?, second.parse_number()?),
        _ => return None,
    };
    Some((time(hour, minute, second)?, nanos(fraction)?))
}

#[cfg(test)]
mod tests {
    use super::super::time::modified;
    use super::*;

    /// 2026-03-10 12:00 UTC.
    const NOW: i64 = 1_773_144_000;

    fn read(line: &str) -> Listed {
        unix(line.as_bytes(), NOW).unwrap_or_else(|| panic!("{line}"))
    }

    #[test]
    fn what_servers_write_is_read() {
        let cases = [
            ("-rw-r--r--    1 1000     1000         8192 Nov 24 12:34 a name", "20251124123400", Some(1000)),
            ("-rw-r--r--   1 bk       bk           8192 Mar 10  2020 a name", "20200310000000", None),
            ("-rw-r--r--+ 1 1000 domain users 8192 Jan 02 13:14 a name", "20260102131400", None),
            ("-rw-r--r--. 1 1000 users 8192 2 Jan 13:14 a name", "20260102131400", Some(1000)),
            ("-rw-r--r--   1000 8192 Feb 29 2024 a name", "20240229000000", None),
            ("-rw-r--r-- 1 1000 g 8192 2026-01-02 13:14 a name", "20260102131400", Some(1000)),
            ("-rw-r--r-- 1 1000 g 8192 2026-01-02 13:14:15 +0130 a name", "20260102114415", Some(1000)),
            ("-rw-r--r-- 1 1000 Jan 8192 Dec 31 23:59 a name", "20251231235900", Some(1000)),
        ];
        for (line, time, uid) in cases {
            let listed = read(line);
            assert_eq!((&*listed.name, listed.kind), (&b"a name"[..], Kind::File), "{line}");
            assert_eq!((listed.size, listed.mode), (Some(8192), Some(0o644)), "{line}");
            assert_eq!((listed.mtime, listed.uid), (modified(time.as_bytes()), uid), "{line}");
            assert!(!listed.is_exact);
        }
        let fraction = read("-rw-r--r-- 1 u g 1 2026-01-02 13:14:15.25 x").mtime.unwrap();
        assert_eq!(fraction.nanos, 250_000_000);
    }

    #[test]
    fn names_keep_their_blanks_and_bytes() {
        let line = b"-rw-r--r-- 1 u g 1 Jan 12 2020  lead and trail Jan 1 2020 \xff ";
        let listed = unix(line, NOW).unwrap();
        assert_eq!(&*listed.name, b" lead and trail Jan 1 2020 \xff ");
        assert_eq!((listed.user.as_deref(), listed.group.as_deref()), (Some(&b"u"[..]), Some(&b"g"[..])));
    }

    #[test]
    fn links_and_special_files_are_told() {
        let link = read("lrwxrwxrwx 1 0 0 6 Jan 12 2020 a b -> c -> d");
        assert_eq!((&*link.name, link.target), (&b"a b -> c -> d"[..], None));
        assert_eq!((link.kind, link.mode, link.size), (Kind::Symlink, Some(0o777), Some(6)));
        assert_eq!(read("crw-rw---- 1 root tty 4, 64 Jan 12 2020 tty").kind, Kind::Special);
        assert_eq!(read("prw-r--r-- 1 u g 0 Jan 12 2020 pipe").kind, Kind::Special);
    }

    #[test]
    fn each_bit_of_a_mode_is_read() {
        let mode = |text: &str| read(&format!("{text} 1 u g 1 Jan 12 2020 x")).mode.unwrap();
        assert_eq!(mode("-rwsr-sr-t"), 0o7755);
        assert_eq!(mode("-rwSr-Sr-T"), 0o7644);
        assert_eq!(mode("d---------"), 0);
        assert_eq!(mode("-rwxrwxrwx"), 0o777);
        for bad in ["-rwxrwxrw", "-rwxrwxrwq", "?rwxrwxrwx", "-wrxrwxrwx", "-rwxrwxrwx++"] {
            assert_eq!(unix(format!("{bad} 1 u g 1 Jan 12 2020 x").as_bytes(), NOW), None, "{bad}");
        }
    }
}
