//! The writer as it is used: hashing, compressing, encrypting and indexing, on its default threads.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run must stop")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xvault_benches::snapshot::{options, write};
use xvault_benches::{Content, Files};
use xvault_core::Identity;

/// Bytes of content, and of each file in it: from many small ones to one large one.
const SHAPES: [(usize, usize); 4] =
    [(4 << 20, 1 << 10), (16 << 20, 64 << 10), (64 << 20, 1 << 20), (64 << 20, 64 << 20)];

fn writer(criterion: &mut Criterion) {
    let identity = Identity::generate();
    for content in Content::ALL {
        let mut group = criterion.benchmark_group(format!("writer/{}", content.name()));
        group.sample_size(10);
        for (whole, size) in SHAPES {
            let bytes = content.bytes(whole, 1);
            let files = Files { content: &bytes, size };
            group.throughput(Throughput::Bytes(whole as u64));
            group.bench_function(
                BenchmarkId::from_parameter(format!("{}x{}KiB", whole / size, size >> 10)),
                |bencher| {
                    bencher.iter(|| {
                        write(files, std::io::sink(), std::io::sink(), options(&identity)).unwrap().2
                    });
                },
            );
        }
        group.finish();
    }
}

criterion_group!(benches, writer);
criterion_main!(benches);
