//! The reader: listing an index, and reading all content, which decrypts, decompresses and checks every hash.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run must stop")]

use std::io::{Cursor, copy, sink};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xvault_archive::{ArchiveReader, IndexReader};
use xvault_benches::snapshot::{Stored, store};
use xvault_benches::{Content, Files};

/// Bytes of content, and of each file in it: from many small ones to one large one.
const SHAPES: [(usize, usize); 3] = [(4 << 20, 64 << 10), (16 << 20, 1 << 20), (64 << 20, 64 << 20)];
const LISTED: usize = 20_000;

fn open(stored: &Stored) -> ArchiveReader<Cursor<&[u8]>, Cursor<&[u8]>> {
    let (artifact, index) = (Cursor::new(&stored.artifact[..]), Cursor::new(&stored.index[..]));
    ArchiveReader::open(artifact, index, std::slice::from_ref(&stored.identity)).unwrap()
}

fn read_all(stored: &Stored) {
    let mut reader = open(stored);
    let entries: Vec<_> = reader.entries().unwrap().map(Result::unwrap).collect();
    for entry in entries {
        copy(&mut reader.read_entry(entry).unwrap(), &mut sink()).unwrap();
    }
}

fn list(stored: &Stored) -> u64 {
    let identities = std::slice::from_ref(&stored.identity);
    let mut index = IndexReader::open(stored.index.as_slice(), identities).unwrap();
    while index.next_record().unwrap().is_some() {}
    index.totals().unwrap().entries
}

fn content(criterion: &mut Criterion) {
    for content in Content::ALL {
        let mut group = criterion.benchmark_group(format!("reader/content/{}", content.name()));
        group.sample_size(10);
        for (whole, size) in SHAPES {
            let bytes = content.bytes(whole, 1);
            let stored = store(Files { content: &bytes, size }).unwrap();
            group.throughput(Throughput::Bytes(whole as u64));
            group.bench_function(
                BenchmarkId::from_parameter(format!("{}x{}KiB", whole / size, size >> 10)),
                |bencher| {
                    bencher.iter(|| read_all(&stored));
                },
            );
        }
        group.finish();
    }
}

fn listing(criterion: &mut Criterion) {
    let stored = store(Files { content: &[b'x'; LISTED], size: 1 }).unwrap();
    let mut group = criterion.benchmark_group("reader/list");
    group.throughput(Throughput::Elements(LISTED as u64)).sample_size(10);
    group.bench_function(BenchmarkId::from_parameter(LISTED), |bencher| {
        bencher.iter(|| list(&stored));
    });
    group.finish();
}

criterion_group!(benches, content, listing);
criterion_main!(benches);
