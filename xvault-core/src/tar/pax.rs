//! The records of PAX extended headers: `LENGTH KEY=VALUE\n`.

use crate::entry::Mtime;
use crate::tar::block::Fault;

/// What PAX headers say about an entry; `None` leaves it to the ustar block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) user: Option<Vec<u8>>,
    pub(super) group: Option<Vec<u8>>,
    pub(super) mtime: Option<Mtime>,
    pub(super) sparse: bool,
}

impl Records {
    /// Applies the records of one extended header; an empty value takes an earlier one back.
    pub(super) fn apply(&mut self, mut body: &[u8]) -> Result<(), Fault> {
        while !body.is_empty() {
            let (key, value, rest) = split_record(body)?;
            self.set(key, value)?;
            body = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link_target = name(value)?,
            b"size" => self.size = number(value, "the PAX size is not a number")?,
            b"uid" => self.uid = number(value, "the PAX user id is not a number")?,
            b"gid" => self.gid = number(value, "the PAX group id is not a number")?,
            b"uname" => self.user = name(value)?,
            b"gname" => self.group = name(value)?,
            b"mtime" => self.mtime = time(value)?,
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {}
        }
        Ok(())
    }

    /// What would give every following entry the same name or size; no writer does that.
    pub(super) fn names_or_sizes(&self) -> bool {
        self.path.is_some() || self.link_target.is_some() || self.size.is_some() || self.sparse
    }
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn split_record(body: &[u8]) -> Result<Record<'_>, Fault> {
    const FAULT: Fault = "a PAX record is not of the form `LENGTH KEY=VALUE`";
    let space = body.iter().take(20).position(|b| *b == b' ').ok_or(FAULT)?;
    let (digits, _) = body.split_at(space);
    let len = usize::try_from(decimal(digits).ok_or(FAULT)?).map_err(|_| FAULT)?;
    let record = body.get(space + 1..len).and_then(|r| r.strip_suffix(b"\n")).ok_or(FAULT)?;
    let equals = record.iter().position(|b| *b == b'=').ok_or(FAULT)?;
    let (key, value) = record.split_at(equals);
    Ok((key, value.get(1..).unwrap_or_default(), body.get(len..).unwrap_or_default()))
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    if value.contains(&0) {
        // C programs would stop reading there, and see another name than we do.
        return Err("a PAX name contains a NUL byte");
    }
    Ok(Some(value.to_vec()).filter(|value| !value.is_empty()))
}

fn number(value: &[u8], fault: Fault) -> Result<Option<u64>, Fault> {
    if value.is_empty() { Ok(None) } else { decimal(value).map(Some).ok_or(fault) }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are dropped downwards.
fn time(value: &[u8]) -> Result<Option<Mtime>, Fault> {
    const FAULT: Fault = "the PAX modification time is not a number";
    if value.is_empty() {
        return Ok(None);
    }
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (digits.get(..dot).unwrap_or_default(), digits.get(dot + 1..).unwrap_or_default()),
        None => (digits, &b""[..]),
    };
    let secs = decimal(whole).ok_or(FAULT)?;
    let (nanos, inexact) = nanoseconds(fraction).ok_or(FAULT)?;
    let (secs, nanos) = if negative { before_epoch(secs, nanos, inexact) } else { (i128::from(secs), nanos) };
    Ok(Some(Mtime { secs: i64::try_from(secs).map_err(|_| FAULT)?, nanos }))
}

/// The first nine digits of a fraction, and whether more than zeros follow.
fn nanoseconds(fraction: &[u8]) -> Option<(u32, bool)> {
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some((nanos, fraction.iter().skip(9).any(|digit| *digit != b'0')))
}

fn before_epoch(secs: u64, nanos: u32, inexact: bool) -> (i128, u32) {
    let secs = -i128::from(secs);
    match nanos + u32::from(inexact) {
        0 => (secs, 0),
        1_000_000_000 => (secs - 1, 0),
        nanos => (secs - 1, 1_000_000_000 - nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(body: &[u8]) -> Result<Records, Fault> {
        let mut records = Records::default();
        records.apply(body).map(|()| records)
    }

    #[test]
    fn values_may_hold_newlines_and_equals_signs() {
        let read = records(b"14 path=a\n=b\xe9\n").unwrap();
        assert_eq!(read.path.unwrap(), b"a\n=b\xe9");
    }

    #[test]
    fn an_empty_value_takes_the_earlier_one_back() {
        assert_eq!(records(b"11 size=42\n8 size=\n").unwrap().size, None);
    }

    #[test]
    fn times_before_1970_count_forward_from_the_second_before() {
        let cases = [
            (&b"1.5"[..], 1, 500_000_000),
            (b"-1", -1, 0),
            (b"-1.5", -2, 500_000_000),
            (b"-0.25", -1, 750_000_000),
            (b"0.0000000019", 0, 1),
            (b"-0.0000000019", -1, 999_999_998),
            (b"-0.9999999999", -1, 0),
            (b"-9223372036854775808", i64::MIN, 0),
        ];
        for (text, secs, nanos) in cases {
            assert_eq!(time(text).unwrap(), Some(Mtime { secs, nanos }), "{}", text.escape_ascii());
        }
        for bad in [&b"1.x"[..], b"--1", b"1e9", b".", b"99999999999999999999"] {
            assert!(time(bad).is_err());
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        let bad: [&[u8]; 7] = [
            b"8 path=a\n",
            b"99 path=a\n",
            b"path=a\n",
            b"0 path=a\n",
            b"9 path=a",
            b"6 aaa\n",
            b"10 path=a\0\n",
        ];
        for body in bad {
            assert!(records(body).is_err(), "{}", body.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = records(&body);
        }
    }
}
