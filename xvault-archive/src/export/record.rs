//! The records of a zip file (APPNOTE 6.3): what stands before a member, after it, and in the directory at the end.

use xvault_core::Mtime;

use super::deflate::Deflated;

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;

const ZIP64: u16 = 0x0001;
const TIMESTAMP: u16 = 0x5455;

/// Sizes and checksum follow the body.
const STREAMED: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// What made it: Unix, so that modes count; and the version that brought ZIP64.
const MADE_BY: u16 = 3 << 8 | VERSION_64;
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
const DOS_DIRECTORY: u32 = 0x10;

/// Files from here on have 64-bit sizes: what deflate may add to one below still fits 32 bits.
const LARGE: u64 = 0xc000_0000;

/// One member as its records describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// UTF-8, with a slash at the end of a directory's.
    pub(super) name: String,
    /// Type and permissions, as `st_mode`.
    pub(super) mode: u32,
    pub(super) mtime: Mtime,
    pub(super) size: u64,
    /// Deflated as a stream; all others are stored, and known before.
    pub(super) streamed: bool,
}

impl Member {
    fn is_large(&self) -> bool {
        self.streamed && self.size >= LARGE
    }

    fn version(&self) -> u16 {
        if self.is_large() { VERSION_64 } else { VERSION }
    }

    fn flags(&self) -> u16 {
        UTF8 | if self.streamed { STREAMED } else { 0 }
    }

    fn method(&self) -> u16 {
        if self.streamed { DEFLATED } else { STORED }
    }

    /// What goes before the body. `known` is what is in it; nothing is known of one that is streamed.
    pub(super) fn local(&self, known: Deflated) -> Vec<u8> {
        let mut extra = timestamp(self.mtime);
        let sizes = match (self.streamed, self.is_large()) {
            (true, true) => {
                // Says that sizes have 64 bits; they follow the body.
                extra.u16(ZIP64).u16(16).u64(0).u64(0);
                [u32::MAX; 2]
            }
            (true, false) => [0; 2],
            (false, _) => [low(known.packed), low(self.size)],
        };
        let (time, date) = dos_time(self.mtime);
        let mut out = Record::new(LOCAL);
        out.u16(self.version()).u16(self.flags()).u16(self.method()).u16(time).u16(date);
        out.u32(known.crc32).u32(sizes[0]).u32(sizes[1]);
        out.len(self.name.len()).len(extra.0.len()).bytes(self.name.as_bytes()).bytes(&extra.0);
        out.0
    }

    /// What follows a streamed body.
    pub(super) fn descriptor(&self, body: Deflated) -> Vec<u8> {
        let mut out = Record::new(DESCRIPTOR);
        out.u32(body.crc32);
        if self.is_large() {
            out.u64(body.packed).u64(self.size);
        } else {
            out.u32(low(body.packed)).u32(low(self.size));
        }
        out.0
    }

    /// The member in the directory; `offset` is where its local record begins.
    pub(super) fn central(&self, body: Deflated, offset: u64) -> Vec<u8> {
        let mut wide = Record(Vec::new());
        for value in [self.size, body.packed, offset] {
            if value >= u64::from(u32::MAX) {
                wide.u64(value);
            }
        }
        let mut extra = timestamp(self.mtime);
        if !wide.0.is_empty() {
            extra.u16(ZIP64).len(wide.0.len()).bytes(&wide.0);
        }
        let version = if wide.0.is_empty() { self.version() } else { VERSION_64 };
        let (time, date) = dos_time(self.mtime);
        let is_directory = self.name.ends_with('/');
        let attributes = self.mode << 16 | if is_directory { DOS_DIRECTORY } else { 0 };
        let mut out = Record::new(CENTRAL);
        out.u16(MADE_BY).u16(version).u16(self.flags()).u16(self.method()).u16(time).u16(date);
        out.u32(body.crc32).u32(low(body.packed)).u32(low(self.size));
        out.len(self.name.len()).len(extra.0.len());
        // No comment, first disk, no internal attributes.
        out.u16(0).u16(0).u16(0).u32(attributes).u32(low(offset));
        out.bytes(self.name.as_bytes()).bytes(&extra.0);
        out.0
    }
}

/// The last records: `members` in a directory of `len` bytes that begins at `start`.
pub(super) fn end(members: u64, start: u64, len: u64) -> Vec<u8> {
    let mut out = Record(Vec::new());
    let count = u16::try_from(members).unwrap_or(u16::MAX);
    if count == u16::MAX || start >= u64::from(u32::MAX) || len >= u64::from(u32::MAX) {
        out.u32(END_64).u64(44).u16(MADE_BY).u16(VERSION_64).u32(0).u32(0);
        out.u64(members).u64(members).u64(len).u64(start);
        out.u32(LOCATOR_64).u32(0).u64(start.saturating_add(len)).u32(1);
    }
    out.u32(END).u16(0).u16(0).u16(count).u16(count).u32(low(len)).u32(low(start)).u16(0);
    out.0
}

/// The value, or the mark that it stands in a 64-bit field.
fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The Unix time, where its 32 bits hold it.
fn timestamp(mtime: Mtime) -> Record {
    let mut extra = Record(Vec::new());
    if let Ok(secs) = i32::try_from(mtime.secs) {
        extra.u16(TIMESTAMP).u16(5).bytes(&[1]).bytes(&secs.to_le_bytes());
    }
    extra
}

/// Time and date of DOS, in UTC: two seconds fine, 1980 to 2107.
fn dos_time(mtime: Mtime) -> (u16, u16) {
    const DAY: i64 = 86_400;
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_198;
    let secs = mtime.secs.clamp(FIRST, LAST);
    let (days, second) = (secs.div_euclid(DAY), secs.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let time = ((second / 3600) << 11) | ((second / 60 % 60) << 5) | (second % 60 / 2);
    let date = ((year - 1980) << 9) | (month << 5) | day;
    (u16::try_from(time).unwrap_or_default(), u16::try_from(date).unwrap_or_default())
}

/// Year, month and day of a day counted from 1970 (Howard Hinnant's algorithm, for days after 1970 only).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Bytes being put together, numbers little end first.
struct Record(Vec<u8>);

impl Record {
    fn new(signature: u32) -> Self {
        let mut record = Self(Vec::with_capacity(128));
        record.u32(signature);
        record
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A length that was capped long before.
    fn len(&mut self, len: usize) -> &mut Self {
        self.u16(u16::try_from(len).unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |secs| {
            let (time, date) = dos_time(Mtime { secs, nanos: 0 });
            (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, (time & 31) * 2)
        };
        assert_eq!(date(951_782_399), (2000, 2, 28, 23, 59, 58));
        assert_eq!(date(951_782_400), (2000, 2, 29, 0, 0, 0));
        assert_eq!(date(1_709_251_200), (2024, 3, 1, 0, 0, 0));
        assert_eq!(date(-5), (1980, 1, 1, 0, 0, 0));
        assert_eq!(date(i64::MAX), (2107, 12, 31, 23, 59, 58));
    }
}
