//! The parser against streams made by hand; real tars are read in xvault-archive's tests.

use bytes::Bytes;

use super::*;
use crate::entry::Mtime;
use proptest::prelude::*;

/// A header block by hand, so that the parser is not checked against our own writer.
fn block(flag: u8, name: &str, size: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK_LEN];
    block[..name.len()].copy_from_slice(name.as_bytes());
    let mut put = |at: usize, text: String| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(100, "0000644\0".into());
    put(108, "0001750\0".into());
    put(116, "0001751\0".into());
    put(124, format!("{size:011o}\0"));
    put(136, "14000000000\0".into());
    put(257, "ustar\x0000".into());
    put(265, "web".into());
    block[156] = flag;
    sign(block)
}

fn sign(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(BLOCK_LEN), 0);
    body
}

fn extension(flag: u8, body: &[u8]) -> Vec<u8> {
    [block(flag, "x", body.len() as u64), padded(body)].concat()
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let len = (0..).find(|len: &usize| len.to_string().len() + rest.len() == *len).unwrap();
    format!("{len}{rest}").into_bytes()
}

fn events(stream: &[u8], step: usize) -> Result<Vec<Event>, Error> {
    let (mut parser, mut events) = (TarParser::new(), Vec::new());
    for chunk in stream.chunks(step) {
        let mut chunk = Bytes::copy_from_slice(chunk);
        while let Some(event) = parser.next(&mut chunk)? {
            events.push(event);
        }
    }
    parser.finish().map(|()| events)
}

/// Entries and bodies, however the stream was cut into chunks.
fn read(stream: &[u8], step: usize) -> Result<Vec<(TarEntry, Vec<u8>)>, Error> {
    let mut entries: Vec<(TarEntry, Vec<u8>)> = Vec::new();
    for event in events(stream, step)? {
        match event {
            Event::Header(entry) => entries.push((*entry, Vec::new())),
            Event::Data(data) => entries.last_mut().unwrap().1.extend_from_slice(&data),
            Event::EntryEnd | Event::ArchiveEnd => {}
        }
    }
    Ok(entries)
}

fn with_end(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), vec![0; 2 * BLOCK_LEN]].concat()
}

fn fault(parts: &[Vec<u8>]) -> &'static str {
    match read(&with_end(parts), 4096) {
        Err(Error::Malformed { reason, .. }) => reason,
        other => panic!("accepted: {other:?}"),
    }
}

#[test]
fn every_notation_of_a_name_reads() {
    let pax = [record("mtime", "1600000000.123456789"), record("path", "long/xy"), record("uname", "anna")];
    let parts = [
        extension(b'x', &pax.concat()),
        block(b'0', "short", 5),
        padded(b"hello"),
        extension(b'L', b"gnu/long\0"),
        extension(b'K', b"target/long\0"),
        block(b'2', "short", 0),
    ];
    let entries = read(&with_end(&parts), 7).unwrap();
    let (file, body) = &entries[0];
    assert_eq!((file.path.as_slice(), body.as_slice(), file.size), (&b"long/xy"[..], &b"hello"[..], 5));
    assert_eq!((file.offset, file.data_offset), (0, 1536));
    assert_eq!(file.metadata.mtime, Mtime { secs: 1_600_000_000, nanos: 123_456_789 });
    assert_eq!((file.metadata.mode, file.metadata.uid, file.metadata.gid), (0o644, 1000, 1001));
    assert_eq!(file.metadata.user.as_deref(), Some(&b"anna"[..]));
    let (link, _) = &entries[1];
    assert_eq!(link.path, b"gnu/long");
    assert_eq!(link.kind, TarKind::Symlink { target: b"target/long".to_vec() });
}

#[test]
fn global_records_hold_until_an_entry_overrides_them() {
    let parts = [
        extension(b'g', &record("uname", "glob")),
        block(b'0', "a", 0),
        extension(b'x', &record("uname", "own")),
        block(b'0', "b", 0),
        block(b'0', "c", 0),
    ];
    let entries = read(&with_end(&parts), 512).unwrap();
    let users: Vec<_> = entries.iter().map(|(e, _)| e.metadata.user.clone().unwrap()).collect();
    assert_eq!(users, [b"glob".to_vec(), b"own".to_vec(), b"glob".to_vec()]);
}

#[test]
fn what_two_programs_would_read_in_two_ways_is_refused() {
    assert!(fault(&[block(b'5', "dir/", 512), vec![1; 512]]).contains("has a size"));
    assert!(fault(&[block(b'1', "link", 5), padded(b"12345")]).contains("has a size"));
    let both = [extension(b'L', b"one"), extension(b'x', &record("path", "two")), block(b'0', "x", 0)];
    assert!(fault(&both).contains("both a PAX name and a GNU long name"));
    assert!(fault(&[extension(b'g', &record("path", "two"))]).contains("global header sets the name"));
    assert!(fault(&[extension(b'x', &record("path", "two"))]).contains("ends after an extension header"));
    assert!(fault(&[vec![0; 512], block(b'0', "x", 0)]).contains("lone zero block"));
    assert!(fault(&[block(b'0', "", 0)]).contains("name is empty"));
}

#[test]
fn limits_hold_before_memory_is_spent() {
    assert!(fault(&[block(b'x', "x", MAX_EXTENSION_LEN + 1)]).contains("longer than 1 MiB"));
    let many = vec![extension(b'L', b"n"); 17];
    assert!(fault(&many).contains("more than 16"));
    let endless = record("size", "18446744073709551615");
    assert!(fault(&[extension(b'x', &endless), block(b'0', "x", 0)]).contains("size is too large"));
}

#[test]
fn special_and_sparse_files_are_told_apart() {
    let mut sparse = block(b'S', "holes", 3);
    sparse[482] = 1;
    let mut map = vec![0; BLOCK_LEN];
    map[0] = b'1';
    let pax_sparse = record("GNU.sparse.major", "1");
    let parts = [
        block(b'3', "dev/null", 0),
        block(b'6', "pipe", 0),
        sign(sparse),
        map,
        padded(b"abc"),
        extension(b'x', &pax_sparse),
        block(b'0', "holes2", 0),
        block(b'0', "plain", 0),
    ];
    let kinds: Vec<_> = read(&with_end(&parts), 100).unwrap().into_iter().map(|(e, _)| e.kind).collect();
    let special = TarKind::Special;
    assert_eq!(kinds[..2], [special(Special::CharDevice), special(Special::Fifo)]);
    assert_eq!(kinds[2..], [TarKind::Unsupported(b'S'), TarKind::Unsupported(b'S'), TarKind::File]);
}

#[test]
fn a_stream_without_its_end_is_truncated() {
    let whole = with_end(&[block(b'0', "x", 5), padded(b"hello")]);
    for len in [0, 1, 511, 512, 515, 1024, 1536, whole.len() - 1] {
        assert_eq!(read(&whole[..len], 512).unwrap_err(), Error::Truncated { offset: len as u64 });
    }
    assert_eq!(events(&whole, 512).unwrap().last(), Some(&Event::ArchiveEnd));
}

#[test]
fn a_failed_parser_stays_failed() {
    let mut parser = TarParser::new();
    let error = parser.next(&mut Bytes::from(vec![b'x'; 512])).unwrap_err();
    assert_eq!(parser.next(&mut Bytes::from(vec![0; 1024])).unwrap_err(), error);
    assert_eq!(parser.finish().unwrap_err(), error);
}

proptest! {
    #[test]
    fn chunk_borders_do_not_matter(step in 1usize..2000, len in 0usize..1500) {
        let body: Vec<u8> = (0..=250).cycle().take(len).collect();
        let parts = [
            extension(b'L', b"a/long/name\0"),
            block(b'0', "x", len as u64),
            padded(&body),
            block(b'5', "dir/", 0),
        ];
        let stream = with_end(&parts);
        let entries = read(&stream, step).unwrap();
        prop_assert_eq!(&entries, &read(&stream, stream.len()).unwrap());
        prop_assert_eq!(&entries[0].1, &body);
    }

    #[test]
    fn no_bytes_panic(stream in proptest::collection::vec(any::<u8>(), 0..1600), flag: u8, pax in ".{0,80}") {
        let _ = read(&stream, 300);
        let hostile = [extension(b'x', pax.as_bytes()), block(flag, "x", 9), stream].concat();
        let _ = read(&hostile, 300);
    }
}
