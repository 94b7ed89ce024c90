//! What a frame costs: one compressing thread, by level and by frame size.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run must stop")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xvault_archive::WriterOptions;
use xvault_benches::snapshot::{single_threaded, write};
use xvault_benches::{Content, Files};
use xvault_core::Identity;

const MIB: usize = 1 << 20;

fn frames(criterion: &mut Criterion) {
    let identity = Identity::generate();
    for content in Content::ALL {
        let bytes = content.bytes(16 * MIB, 1);
        let files = Files { content: &bytes, size: bytes.len() };
        let mut group = criterion.benchmark_group(format!("frames/{}", content.name()));
        group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(10);
        let run = |options: WriterOptions| write(files, std::io::sink(), std::io::sink(), options).unwrap().2;
        for level in [1, 3, 9] {
            group.bench_function(BenchmarkId::new("level", level), |bencher| {
                bencher.iter(|| run(WriterOptions { level, ..single_threaded(&identity) }));
            });
        }
        for mib in [1, 2, 8] {
            group.bench_function(BenchmarkId::new("size_mib", mib), |bencher| {
                bencher.iter(|| run(WriterOptions { frame_size: mib * MIB, ..single_threaded(&identity) }));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, frames);
criterion_main!(benches);
