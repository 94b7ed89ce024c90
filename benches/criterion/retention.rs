//! The plan of a source: from a thousand snapshots to a million, sorted and shuffled, in UTC and where clocks change.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run must stop")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use xvault_retention::{Policy, Snapshot, Status, evaluate};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Every kind of rule, with numbers that reach through the whole history.
fn policy() -> Policy {
    let rules = json!({
        "keep_last_n": 7, "keep_hourly": 100_000, "keep_daily": 3650, "keep_weekly": 520, "keep_monthly": 120,
        "keep_yearly": 10, "keep_within": "2y", "keep_tags": ["release"], "min_age_hours": 24,
        "max_age_days": 7300, "require_verified": true,
    });
    Policy::parse(&rules).unwrap()
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// One every 331 seconds, newest first: a million reach back ten years. One in 50 is partial, one in 100 failed, one in
/// three verified, one in 1000 tagged.
fn history(length: usize) -> Vec<Snapshot> {
    let snapshot = |place: usize| {
        let at = now() - SignedDuration::from_secs(331 * i64::try_from(place).unwrap());
        let id = format!("0194f3c8-0000-7000-8000-{:012x}", length - place).parse().unwrap();
        let status = match place {
            place if place % 100 == 99 => Status::Failed,
            place if place % 50 == 49 => Status::Partial,
            _ => Status::Whole,
        };
        let tags = if place.is_multiple_of(1000) { vec!["release".to_owned()] } else { Vec::new() };
        Snapshot { status, verified: place.is_multiple_of(3), tags, ..Snapshot::new(id, at) }
    };
    (0..length).map(snapshot).collect()
}

/// In an order without any order, the same every time.
fn shuffled(mut history: Vec<Snapshot>) -> Vec<Snapshot> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for place in (1..history.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        history.swap(place, usize::try_from(state % (place as u64 + 1)).unwrap());
    }
    history
}

/// In which order a history comes.
type Order = fn(Vec<Snapshot>) -> Vec<Snapshot>;

fn plans(criterion: &mut Criterion) {
    let (policy, berlin) = (policy(), TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
    let cases: [(&str, &TimeZone, Order); 3] = [
        ("sorted/UTC", &TimeZone::UTC, std::convert::identity),
        ("sorted/Berlin", &berlin, std::convert::identity),
        ("shuffled/Berlin", &berlin, shuffled),
    ];
    for (name, zone, order) in cases {
        let mut group = criterion.benchmark_group(format!("retention/{name}"));
        group.sample_size(10);
        for size in SIZES {
            let snapshots = order(history(size));
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| evaluate(&policy, &snapshots, now(), zone));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, plans);
criterion_main!(benches);
