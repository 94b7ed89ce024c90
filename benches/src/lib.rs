//! What the criterion benchmarks in `benches/criterion/` share.
//!
//! They measure the archive alone, in memory: MB/s of content by size and kind, without any source or
//! store. How a whole backup compares with other programs is measured by `benches/peers/run`.

pub mod content;
pub mod snapshot;

pub use content::Content;
pub use snapshot::Files;
