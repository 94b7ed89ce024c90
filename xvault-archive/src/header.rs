//! Tar headers as format version 1 writes them: ustar, with a PAX record for what ustar can't hold.

use xvault_core::tar::BLOCK_LEN;
use xvault_core::{Entry, EntryKind, Metadata, Mtime};

/// The largest body that a ustar size field holds: 8 GiB − 1.
const MAX_USTAR_SIZE: u64 = 0o777_7777_7777;
/// The largest id that a ustar field holds.
const MAX_USTAR_ID: u64 = 0o777_7777;
/// The latest whole second that a ustar field holds.
const MAX_USTAR_TIME: i64 = 0o777_7777_7777;
const MAX_USTAR_NAME: usize = 100;
const MAX_USTAR_OWNER: usize = 31;

/// Appends the header blocks of `entry` to `out`; a `Stream` is written with `size` like a file.
pub(crate) fn encode(entry: &Entry, size: u64, out: &mut Vec<u8>) {
    let fields = Fields::of(entry, size);
    let records = fields.pax_records();
    if !records.is_empty() {
        out.extend_from_slice(&Fields::pax(records.len()).block());
        out.extend_from_slice(&records);
        pad(out, records.len() as u64);
    }
    out.extend_from_slice(&fields.block());
}

/// Appends the zeros that complete a body of `size` bytes.
pub(crate) fn pad(out: &mut Vec<u8>, size: u64) {
    out.resize(out.len() + padding(size), 0);
}

/// How many zeros complete a body of `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    let rest = usize::try_from(size % BLOCK_LEN as u64).unwrap_or(0);
    (BLOCK_LEN - rest) % BLOCK_LEN
}

/// What one header block says.
struct Fields<'a> {
    path: Vec<u8>,
    target: &'a [u8],
    flag: u8,
    size: u64,
    metadata: &'a Metadata,
}

const PAX_METADATA: &Metadata =
    &Metadata { mode: 0o644, uid: 0, gid: 0, user: None, group: None, mtime: Mtime { secs: 0, nanos: 0 } };

impl<'a> Fields<'a> {
    fn of(entry: &'a Entry, size: u64) -> Self {
        let mut path = entry.path.as_bytes().to_vec();
        let (flag, target, size) = match &entry.kind {
            EntryKind::Directory => {
                path.push(b'/');
                (b'5', &b""[..], 0)
            }
            EntryKind::File { .. } | EntryKind::Stream => (b'0', &b""[..], size),
            EntryKind::Symlink { target } => (b'2', target.as_slice(), 0),
            EntryKind::Hardlink { target } => (b'1', target.as_bytes(), 0),
        };
        Self { path, target, flag, size, metadata: &entry.metadata }
    }

    /// The header of `len` bytes of PAX records.
    fn pax(len: usize) -> Fields<'static> {
        let path = b"././@PaxHeader".to_vec();
        Fields { path, target: b"", flag: b'x', size: len as u64, metadata: PAX_METADATA }
    }

    fn pax_records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let Metadata { uid, gid, user, group, mtime, .. } = self.metadata;
        let owner = |name: &'a Option<Vec<u8>>| name.as_deref().filter(|name| name.len() > MAX_USTAR_OWNER);
        if self.path.len() > MAX_USTAR_NAME {
            record(&mut out, "path", &self.path);
        }
        if self.target.len() > MAX_USTAR_NAME {
            record(&mut out, "linkpath", self.target);
        }
        if self.size > MAX_USTAR_SIZE {
            record(&mut out, "size", self.size.to_string().as_bytes());
        }
        for (key, id) in [("uid", uid), ("gid", gid)] {
            if *id > MAX_USTAR_ID {
                record(&mut out, key, id.to_string().as_bytes());
            }
        }
        for (key, name) in [("uname", owner(user)), ("gname", owner(group))] {
            if let Some(name) = name {
                record(&mut out, key, name);
            }
        }
        if mtime.nanos != 0 || !(0..=MAX_USTAR_TIME).contains(&mtime.secs) {
            record(&mut out, "mtime", decimal(*mtime).as_bytes());
        }
        out
    }

    fn block(&self) -> [u8; BLOCK_LEN] {
        let mut block = [0; BLOCK_LEN];
        let Metadata { mode, uid, gid, user, group, mtime } = self.metadata;
        let zero_if_beyond = |value: u64, max: u64| if value > max { 0 } else { value };
        put(&mut block, 0, &self.path, MAX_USTAR_NAME);
        put_octal(&mut block, 100, u64::from(*mode), 7);
        put_octal(&mut block, 108, zero_if_beyond(*uid, MAX_USTAR_ID), 7);
        put_octal(&mut block, 116, zero_if_beyond(*gid, MAX_USTAR_ID), 7);
        put_octal(&mut block, 124, zero_if_beyond(self.size, MAX_USTAR_SIZE), 11);
        put_octal(&mut block, 136, mtime.secs.clamp(0, MAX_USTAR_TIME).unsigned_abs(), 11);
        put(&mut block, 156, &[self.flag], 1);
        put(&mut block, 157, self.target, MAX_USTAR_NAME);
        put(&mut block, 257, b"ustar\x0000", 8);
        put(&mut block, 265, user.as_deref().unwrap_or_default(), MAX_USTAR_OWNER);
        put(&mut block, 297, group.as_deref().unwrap_or_default(), MAX_USTAR_OWNER);
        put_checksum(&mut block);
        block
    }
}

fn put(block: &mut [u8; BLOCK_LEN], at: usize, bytes: &[u8], max: usize) {
    for (to, from) in block.iter_mut().skip(at).zip(bytes.iter().take(max)) {
        *to = *from;
    }
}

fn put_octal(block: &mut [u8; BLOCK_LEN], at: usize, value: u64, digits: usize) {
    put(block, at, format!("{value:0digits$o}").as_bytes(), digits);
}

/// Six digits, a NUL and a space, over the block with this field blank.
fn put_checksum(block: &mut [u8; BLOCK_LEN]) {
    put(block, 148, b"        ", 8);
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    put(block, 148, format!("{sum:06o}\0 ").as_bytes(), 8);
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + digits(len) != len {
        len = rest + digits(len);
    }
    out.extend_from_slice(format!("{len} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Seconds with a fraction, without trailing zeros: `-1.5` is half a second before `-1`.
fn decimal(time: Mtime) -> String {
    let (sign, secs, nanos) = match time {
        Mtime { secs, nanos } if secs >= 0 || nanos == 0 => {
            (if secs < 0 { "-" } else { "" }, secs.unsigned_abs(), nanos)
        }
        Mtime { secs, nanos } => ("-", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
    };
    let text = format!("{sign}{secs}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use xvault_core::EntryPath;
    use xvault_core::tar::{Event, TarKind, TarParser};

    fn metadata() -> impl Strategy<Value = Metadata> {
        let name = || proptest::option::of(proptest::collection::vec(1u8..=255, 1..60));
        let mtime = (any::<i64>(), 0u32..1_000_000_000).prop_map(|(secs, nanos)| Mtime { secs, nanos });
        (0u32..0o10000, any::<u64>(), any::<u64>(), name(), name(), mtime)
            .prop_map(|(mode, uid, gid, user, group, mtime)| Metadata { mode, uid, gid, user, group, mtime })
    }

    fn path() -> impl Strategy<Value = EntryPath> {
        proptest::collection::vec(any::<u8>(), 1..300).prop_filter_map("safe", |b| EntryPath::new(b).ok())
    }

    fn kind() -> impl Strategy<Value = EntryKind> {
        let target = proptest::collection::vec(1u8..=255, 1..200);
        prop_oneof![
            Just(EntryKind::Directory),
            (0u64..1 << 60).prop_map(|size| EntryKind::File { size }),
            target.prop_map(|target| EntryKind::Symlink { target }),
            path().prop_map(|target| EntryKind::Hardlink { target }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(path in path(), kind in kind(), metadata in metadata()) {
            let entry = Entry { path, kind, metadata };
            let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
            let mut out = Vec::new();
            encode(&entry, size, &mut out);
            let len = out.len() as u64;
            let event = TarParser::new().next(&mut Bytes::from(out)).unwrap();
            let Some(Event::Header(read)) = event else { panic!("{event:?}") };
            let expected = match &entry.kind {
                EntryKind::Directory => TarKind::Directory,
                EntryKind::File { .. } | EntryKind::Stream => TarKind::File,
                EntryKind::Symlink { target } => TarKind::Symlink { target: target.clone() },
                EntryKind::Hardlink { target } => TarKind::Hardlink { target: target.as_bytes().to_vec() },
            };
            prop_assert_eq!(read.kind, expected);
            prop_assert_eq!(read.metadata, entry.metadata);
            prop_assert_eq!((read.size, read.offset, read.data_offset), (size, 0, len));
            let slash = if entry.kind == EntryKind::Directory { &b"/"[..] } else { b"" };
            prop_assert_eq!(read.path, [entry.path.as_bytes(), slash].concat());
        }
    }
}
