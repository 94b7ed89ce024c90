//! Frames that are loaded on a thread: the same bytes and the same faults, and nothing read that is not wanted.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use xvault_archive::{ArchiveReader, Error, ExtractOptions, Watch, export, extract, verify};
use xvault_core::{ExportFormat, Identity};

use crate::support::{Archive, Counting, Item, Reader, file, noise, path, small, trees, write, write_with};

type CountingReader = ArchiveReader<Counting<Cursor<Vec<u8>>>, Cursor<Vec<u8>>>;

/// The archive, and how many bytes of its artifact were read so far.
fn counted(archive: &Archive) -> (CountingReader, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    let artifact = Counting(Cursor::new(archive.artifact.clone()), Arc::clone(&read));
    let index = Cursor::new(archive.index.clone());
    let reader = ArchiveReader::open(artifact, index, std::slice::from_ref(&archive.identity)).unwrap();
    (reader, read)
}

/// Everything as a tar, as far as it goes, and how it ends.
fn exported(reader: Result<Reader, Error>) -> (Vec<u8>, Option<String>) {
    let mut out = Vec::new();
    let done = reader
        .and_then(|mut reader| export(&mut reader, ExportFormat::Tar, &[], &mut out, &Watch::default()));
    (out, done.err().map(|error| error.to_string()))
}

fn verified(reader: Result<Reader, Error>) -> Result<String, String> {
    let report = reader.and_then(|mut reader| verify::deep(&mut reader, &Watch::default()));
    report.map(|report| format!("{report:?}")).map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_damaged_artifact_gives_the_same_bytes_and_the_same_error(
        tree in trees(), at: prop::sample::Index, bit in 0u8..8, sound: bool,
    ) {
        let mut archive = write(&tree);
        if !sound {
            let at = at.index(archive.artifact.len());
            archive.artifact[at] ^= 1 << bit;
        }
        prop_assert_eq!(exported(archive.open_ahead()), exported(archive.open()));
        prop_assert_eq!(verified(archive.open_ahead()), verified(archive.open()));
    }
}

/// Five files of half a MiB in frames of 128 KiB.
fn wide() -> (Archive, Vec<Item>) {
    let files: Vec<_> = (0..5).map(|number| file(format!("{number}"), noise(500_000, number))).collect();
    let identity = Identity::generate();
    let mut options = small(&identity);
    options.frame_size = 128 << 10;
    (write_with(&files, options, identity), files)
}

#[test]
fn one_file_of_many_frames_costs_the_same_bytes() {
    let (archive, files) = wide();
    let cost = |(mut reader, read): (CountingReader, Arc<AtomicU64>)| {
        let mut body = reader.read(&path("1")).unwrap();
        let mut content = Vec::new();
        while let Some(chunk) = body.next_chunk().unwrap() {
            content.extend_from_slice(&chunk);
        }
        assert!(content == files[1].1, "another content");
        // Waits for the thread.
        drop(reader);
        read.load(Ordering::Relaxed)
    };
    let (plain, read) = counted(&archive);
    let ahead = cost((plain.read_ahead().unwrap(), read));
    assert_eq!(ahead, cost(counted(&archive)));
}

#[test]
fn files_that_are_there_are_stepped_over() {
    let (archive, files) = wide();
    let target = tempfile::tempdir().unwrap();
    for number in [1, 2] {
        std::fs::write(target.path().join(number.to_string()), "stays").unwrap();
    }
    let stats =
        extract(&mut archive.open_ahead().unwrap(), target.path(), &ExtractOptions::default()).unwrap();
    assert_eq!((stats.files, stats.kept), (3, 2));
    for (number, (_, content)) in files.iter().enumerate() {
        let found = std::fs::read(target.path().join(number.to_string())).unwrap();
        let expected = if [1, 2].contains(&number) { b"stays" } else { content.as_slice() };
        assert!(found == expected, "file {number}");
    }
}

/// Reads the first chunk of a file of two frames of that size, and waits for more to be read than that takes.
fn is_second_frame_read(frame_size: usize, wait: Duration) -> bool {
    let identity = Identity::generate();
    let mut options = small(&identity);
    options.frame_size = frame_size;
    let length = frame_size * 2 - 4096;
    let archive = write_with(&[file("f", noise(length, 3))], options, identity);
    let (reader, read) = counted(&archive);
    let mut reader = reader.read_ahead().unwrap();
    let mut body = reader.read(&path("f")).unwrap();
    body.next_chunk().unwrap();
    let (begun, most) = (Instant::now(), (frame_size + frame_size / 2) as u64);
    while read.load(Ordering::Relaxed) < most && begun.elapsed() < wait {
        std::thread::sleep(Duration::from_millis(5));
    }
    read.load(Ordering::Relaxed) > most
}

#[test]
fn the_next_frame_is_loaded_while_nobody_asks_for_it() {
    assert!(is_second_frame_read(1 << 20, Duration::from_secs(20)));
}

#[test]
fn frames_that_are_too_large_are_loaded_one_by_one() {
    assert!(!is_second_frame_read(17 << 20, Duration::from_millis(500)));
}
