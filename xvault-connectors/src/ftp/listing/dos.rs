//! Lines of LIST as `dir` writes them, and with it IIS.

use super::time::{date, moment, time};
use super::{Digits, Kind, Listed, Word, or_itself, words};

/// Where IIS begins the name, behind a date with a year of two digits.
const NAME_COLUMN: usize = 39;

/// `01-29-24  03:20PM       <DIR>          name`, `01-29-2024  15:20  8,192 name`
pub(super) fn dos(line: &[u8]) -> Option<Listed> {
    let words = words(line);
    let [day, clock, size, ..] = words.as_slice() else { return None };
    let (year, month, day_number) = day_of(day.text)?;
    let mtime = moment(date(year, month, day_number)?, clock_of(clock.text)?)?;
    let kind = if size.text.eq_ignore_ascii_case(b"<DIR>") { Kind::Directory } else { Kind::File };
    let name = name(line, day, size, kind)?;
    let mut listed = Listed::new(name, or_itself(kind, name));
    listed.mtime = Some(mtime);
    if kind == Kind::File {
        let digits: Vec<u8> = size.text.iter().copied().filter(|byte| *byte != b',').collect();
        listed.size = Some(digits.parse_number()?);
    }
    Some(listed)
}

/// Sizes stand right before the name's column. `<DIR>` does not, so the column tells, where the line has it.
fn name<'l>(line: &'l [u8], day: &Word<'_>, size: &Word<'_>, kind: Kind) -> Option<&'l [u8]> {
    let column = NAME_COLUMN + day.text.len().checked_sub(8)?;
    let is_blank = line.get(size.end..column).is_some_and(|gap| gap.iter().all(|byte| *byte == b' '));
    let name = match kind {
        Kind::Directory if is_blank => line.get(column..)?,
        Kind::Directory => line.get(size.end..)?.trim_ascii_start(),
        _ => line.get(size.end + 1..)?,
    };
    (!name.is_empty()).then_some(name)
}

/// `MM-DD-YY`, `MM-DD-YYYY`, `YYYY-MM-DD`, or with slashes.
fn day_of(word: &[u8]) -> Option<(u64, u64, u64)> {
    let parts: Vec<&[u8]> = word.split(|byte| matches!(byte, b'-' | b'/')).collect();
    let [first, second, third] = parts.as_slice() else { return None };
    if first.len() == 4 {
        return Some((first.parse_number()?, second.parse_number()?, third.parse_number()?));
    }
    let year = third.parse_number()?;
    let year = match third.len() {
        2 if year < 70 => 2000 + year,
        2 => 1900 + year,
        4 => year,
        _ => return None,
    };
    Some((year, first.parse_number()?, second.parse_number()?))
}

/// `03:20PM`, `15:20`
fn clock_of(word: &[u8]) -> Option<jiff::civil::Time> {
    let (hour, rest) = (word.get(..2)?.parse_number()?, word.get(2..)?.strip_prefix(b":")?);
    let minute = rest.get(..2)?.parse_number()?;
    let hour = match rest.get(2..)?.to_ascii_uppercase().as_slice() {
        b"" => hour,
        b"AM" if (1..=12).contains(&hour) => hour % 12,
        b"PM" if (1..=12).contains(&hour) => hour % 12 + 12,
        _ => return None,
    };
    time(hour, minute, 0)
}

#[cfg(test)]
mod tests {
    use super::super::time::modified;
    use super::*;

    /// A line, and its name, kind, size and time.
    type Case = (&'static [u8], &'static [u8], Kind, Option<u64>, &'static str);

    #[test]
    fn what_servers_write_is_read() {
        let cases: [Case; 7] = [
            (
                b"01-29-24  03:20PM       <DIR>          a folder",
                b"a folder",
                Kind::Directory,
                None,
                "20240129152000",
            ),
            (
                b"01-29-24  03:20PM       <DIR>           lead",
                b" lead",
                Kind::Directory,
                None,
                "20240129152000",
            ),
            (
                b"01-29-24  12:05AM                 8192  lead",
                b" lead",
                Kind::File,
                Some(8192),
                "20240129000500",
            ),
            (b"01-29-1999  12:05PM       <DIR>          x", b"x", Kind::Directory, None, "19990129120500"),
            (b"2024-01-29  15:20  8,192 caf\xe9 ", b"caf\xe9 ", Kind::File, Some(8192), "20240129152000"),
            (b"01/29/98 03:20am <DIR> x", b"x", Kind::Directory, None, "19980129032000"),
            (b"01-29-24  03:20PM       <DIR>          .", b".", Kind::Itself, None, "20240129152000"),
        ];
        for (line, name, kind, size, time) in cases {
            let listed = dos(line).unwrap_or_else(|| panic!("{line:?}"));
            assert_eq!((&*listed.name, listed.kind, listed.size), (name, kind, size), "{line:?}");
            assert_eq!((listed.mtime, listed.mode), (modified(time.as_bytes()), None), "{line:?}");
        }
    }

    #[test]
    fn what_is_nearly_a_line_is_none() {
        for bad in [
            "13-29-24  03:20PM  1 x",
            "01-29-24  13:20PM  1 x",
            "01-29-24  03:20XM  1 x",
            "01-29-24  03:20PM  <JUNCTION>  x",
            "01-29-24  03:20PM  1",
            "01-29-24  03:20PM  1 ",
            "1-1-1  03:20PM  1 x",
        ] {
            assert_eq!(dos(bad.as_bytes()), None, "{bad}");
        }
    }
}
