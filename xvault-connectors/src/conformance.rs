//! What every [`Source`](crate::Source) and every [`Store`](crate::Store) must do, as tests that run against any of them.
//!
//! Whoever writes a connector runs the suite from a test of their own; xVault's own connectors pass the same one. For a source:
//!
//! ```
//! use xvault_connectors::conformance::{self, SourceBench};
//! use xvault_connectors::{LocalSource, Source};
//! use xvault_core::LocalSettings;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tree = tempfile::tempdir()?;
//! std::fs::write(tree.path().join("a"), "first")?;
//! std::fs::write(tree.path().join("b"), "second")?;
//! let reading = |path: String| -> Box<dyn Source> {
//!     Box::new(LocalSource::new(&LocalSettings { paths: vec![path], excludes: vec![] }).expect("settings that can work"))
//! };
//! let bench = SourceBench::new(|| reading(tree.path().display().to_string()))
//!     // A configured path that is not there.
//!     .refused(|| reading("/no/such/path".to_owned()));
//! tokio::runtime::Runtime::new()?.block_on(conformance::source(&bench))?;
//! # Ok(())
//! # }
//! ```
//!
//! It proves that a source pulls the same each time, in the same order, directories before what lies in them, each path once and
//! each body as long as promised; that its summary counts what the sink got, that the evidence is of just that, and that exactly what
//! can't be read is warned of; that a probe reads no content; that the bandwidth's limit is kept, a cancelled job is over soon, a dropped one leaves nothing behind, a sink that takes nothing is waited for, and the
//! sink's error is the job's; and that permanent errors are told from transient ones.

mod source;
mod store;

pub use source::{SourceBench, source};
pub use store::store;
