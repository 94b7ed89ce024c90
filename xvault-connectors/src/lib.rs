//! Every system xVault talks to.

mod control;
mod error;
pub mod source;
pub mod ssh;
pub mod store;

pub use control::Control;
pub use error::Error;
pub use source::{Emitter, Probe, ProbedPath, PullSummary, Source};
pub use store::{Staging, Store, StoreWriter, Swept};
