//! Pages of an index of a million entries: a directory, a search, a difference.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run must stop")]

use std::hint::black_box;
use std::io::{Cursor, sink};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xvault_archive::browse::{self, Pattern, Range};
use xvault_archive::{ArchiveIndex, ArchiveWriter};
use xvault_benches::Content;
use xvault_benches::snapshot::options;
use xvault_core::{Entry, EntryKind, EntryPath, Identity, Metadata, Mtime};

const ENTRIES: usize = 1_000_000;
/// Files in each directory.
const SHAPES: [(&str, usize); 2] = [("tree", 1_000), ("flat", ENTRIES)];

type Index = ArchiveIndex<Cursor<Vec<u8>>>;

/// As a web server's files: other content and time for each, the same owner for all. Every `changed`th one is another in each
/// `edition`.
fn index(in_each: usize, edition: i64) -> Index {
    let identity = Identity::generate();
    let mut writer = ArchiveWriter::new(sink(), Vec::new(), options(&identity)).unwrap();
    let content = Content::Random.bytes(8 * ENTRIES, 1);
    for (number, content) in content.chunks(8).enumerate() {
        let path =
            EntryPath::new(format!("srv/www/d{:04}/upload_{number:07}.jpg", number / in_each)).unwrap();
        let secs = 1_600_000_000 + i64::try_from(number * 7919 % 50_000_000).unwrap();
        let secs = if number % 100 == 0 { secs + edition } else { secs };
        let owner = Some(b"www-data".to_vec());
        let mtime = Mtime { secs, nanos: u32::try_from(number * 1013 % 1_000_000_000).unwrap() };
        let metadata = Metadata { mode: 0o644, uid: 33, gid: 33, user: owner.clone(), group: owner, mtime };
        writer.begin(&Entry { path, kind: EntryKind::File { size: 8 }, metadata }).unwrap();
        writer.write(content).unwrap();
        writer.end().unwrap();
    }
    let index = writer.finish().unwrap().index;
    ArchiveIndex::open(Cursor::new(index), &[identity]).unwrap()
}

fn pages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("browse");
    group.throughput(Throughput::Elements(ENTRIES as u64)).sample_size(10);
    for (shape, in_each) in SHAPES {
        let mut index = index(in_each, 0);
        let directory = EntryPath::new("srv/www/d0000").unwrap();
        group.bench_function(BenchmarkId::new("list", shape), |bencher| {
            bencher
                .iter(|| black_box(browse::list(&mut index, Some(&directory), &Range::first(1000)).unwrap()));
        });
        group.bench_function(BenchmarkId::new("root", shape), |bencher| {
            bencher.iter(|| black_box(browse::list(&mut index, None, &Range::first(1000)).unwrap()));
        });
        let pattern = Pattern::new(b"load_0999").unwrap();
        group.bench_function(BenchmarkId::new("search", shape), |bencher| {
            bencher
                .iter(|| black_box(browse::search(&mut index, None, &pattern, &Range::first(1000)).unwrap()));
        });
    }
    let (mut before, mut after) = (index(1_000, 0), index(1_000, 1));
    group.bench_function("diff", |bencher| {
        bencher.iter(|| black_box(browse::diff(&mut before, &mut after, None, &Range::first(1000)).unwrap()));
    });
    group.finish();
}

criterion_group!(benches, pages);
criterion_main!(benches);
