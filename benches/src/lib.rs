//! What the benchmarks in `benches/criterion/` and `benches/hub/` share.
//!
//! Those of criterion measure the archive alone, in memory: MB/s of content by size and kind, without any source or
//! store. How a whole backup compares with other programs is measured by `benches/peers/run`, and the service by
//! `benches/hub/run`.

pub mod content;
pub mod latency;
pub mod snapshot;

pub use content::Content;
pub use latency::Latencies;
pub use snapshot::Files;
