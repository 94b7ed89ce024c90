//! One file out of a large snapshot: what `xvault cat` costs beside opening the store.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run must stop")]

use std::io::{Cursor, copy, sink};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xvault_archive::ArchiveReader;
use xvault_benches::snapshot::{Stored, path, store};
use xvault_benches::{Content, Files};

/// Bytes of the whole snapshot; a file in its middle is read.
const WHOLE: usize = 256 << 20;
const SIZES: [usize; 3] = [8 << 10, 1 << 20, 16 << 20];

fn open(stored: &Stored) -> ArchiveReader<Cursor<&[u8]>, Cursor<&[u8]>> {
    let (artifact, index) = (Cursor::new(&stored.artifact[..]), Cursor::new(&stored.index[..]));
    ArchiveReader::open(artifact, index, std::slice::from_ref(&stored.identity)).unwrap()
}

fn single_entry(criterion: &mut Criterion) {
    for content in [Content::Text, Content::Random] {
        let bytes = content.bytes(WHOLE, 1);
        for size in SIZES {
            let count = WHOLE / size;
            let stored = store(Files { content: &bytes, size }).unwrap();
            let wanted = path(count / 2).unwrap();
            let mut group = criterion.benchmark_group(format!("single_entry/{}", content.name()));
            group.throughput(Throughput::Bytes(size as u64)).sample_size(10);
            let name = |what| BenchmarkId::new(what, format!("{}KiB_of_{count}", size >> 10));
            group.bench_function(name("open_find_read"), |bencher| {
                bencher.iter(|| copy(&mut open(&stored).read(&wanted).unwrap(), &mut sink()).unwrap());
            });
            let mut reader = open(&stored);
            let entry = reader.find(&wanted).unwrap();
            group.bench_function(name("read"), |bencher| {
                bencher.iter(|| copy(&mut reader.read_entry(entry.clone()).unwrap(), &mut sink()).unwrap());
            });
            group.finish();
        }
    }
}

criterion_group!(benches, single_entry);
criterion_main!(benches);
