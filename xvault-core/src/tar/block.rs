//! The fields of one 512-byte header block: ustar, old GNU and V7.

use crate::entry::Mtime;
use crate::tar::BLOCK_LEN;

/// A header block whose checksum holds.
pub(super) struct Block<'a>(&'a [u8; BLOCK_LEN]);

/// Why a field can't be read; becomes [`crate::tar::Error::Malformed`].
pub(super) type Fault = &'static str;

impl<'a> Block<'a> {
    pub(super) fn new(bytes: &'a [u8; BLOCK_LEN]) -> Result<Self, Fault> {
        let block = Self(bytes);
        let stored = octal(block.field(148, 8)).ok_or("the checksum is not a number")?;
        let (unsigned, signed) = block.sums();
        // Historic tars summed signed bytes; GNU tar accepts both.
        if stored == unsigned || i64::try_from(stored) == Ok(signed) {
            Ok(block)
        } else {
            Err("the checksum does not match: this is no tar header, or it was changed")
        }
    }

    fn sums(&self) -> (u64, i64) {
        let bytes = self.0.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { b' ' } else { *b });
        bytes.fold((0, 0), |(unsigned, signed), b| {
            (unsigned + u64::from(b), signed + i64::from(i8::from_ne_bytes([b])))
        })
    }

    fn field(&self, start: usize, len: usize) -> &'a [u8] {
        self.0.get(start..start + len).unwrap_or_default()
    }

    fn text(&self, start: usize, len: usize) -> &'a [u8] {
        self.field(start, len).split(|b| *b == 0).next().unwrap_or_default()
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    /// The name, with the prefix field where the format has one.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = if self.field(257, 6) == b"ustar\0" { self.text(345, 155) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link_target(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, Fault> {
        let mode = octal(self.field(100, 8)).ok_or("the mode is not a number")?;
        u32::try_from(mode & 0o7777).map_err(|_| "the mode is too large")
    }

    pub(super) fn uid(&self) -> Result<u64, Fault> {
        unsigned(self.field(108, 8)).ok_or("the user id is not a number")
    }

    pub(super) fn gid(&self) -> Result<u64, Fault> {
        unsigned(self.field(116, 8)).ok_or("the group id is not a number")
    }

    pub(super) fn size(&self) -> Result<u64, Fault> {
        unsigned(self.field(124, 12)).ok_or("the size is not a number")
    }

    pub(super) fn mtime(&self) -> Result<Mtime, Fault> {
        let field = self.field(136, 12);
        let secs = base256(field).or_else(|| octal(field).and_then(|secs| secs.try_into().ok()));
        let secs = secs.ok_or("the modification time is not a number")?;
        Ok(Mtime { secs, nanos: 0 })
    }

    /// User and group names; only where the block says ustar (either kind).
    pub(super) fn owner_names(&self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let named = self.field(257, 5) == b"ustar";
        let name = |start| Some(self.text(start, 32)).filter(|name| named && !name.is_empty());
        (name(265).map(<[u8]>::to_vec), name(297).map(<[u8]>::to_vec))
    }

    /// Whether an old GNU sparse header goes on in the next block.
    pub(super) fn sparse_goes_on(&self) -> bool {
        self.0[482] != 0
    }
}

fn unsigned(field: &[u8]) -> Option<u64> {
    match base256(field) {
        Some(value) => value.try_into().ok(),
        None => octal(field),
    }
}

/// Octal digits between optional spaces and a closing space or NUL; an empty field is 0, as in GNU tar.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// GNU's binary numbers: two's complement, big-endian, the first byte 0x80 or 0xff.
fn base256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let start = match first {
        0x80 => 0i128,
        0xff => -1,
        _ => return None,
    };
    let value = rest
        .iter()
        .try_fold(start, |value, byte| value.checked_mul(256).map(|shifted| shifted | i128::from(*byte)))?;
    value.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_every_notation() {
        assert_eq!(octal(b"0000644\0"), Some(0o644));
        assert_eq!(octal(b"   644 \0"), Some(0o644));
        assert_eq!(octal(b"\0\0\0\0"), Some(0));
        assert_eq!(octal(b"000064x\0"), None);
        assert_eq!(octal(b"-1\0"), None);
        assert_eq!(octal(&[b'7'; 12]), Some(0o777_777_777_777));
        assert_eq!(base256(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(0x2_0000_0000));
        assert_eq!(base256(&[0xff; 12]), Some(-1));
        assert_eq!(
            base256(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]),
            Some(-256)
        );
        assert_eq!(unsigned(&[0xff; 12]), None);
        let huge = [0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(base256(&huge), None);
    }
}
