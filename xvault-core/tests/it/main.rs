//! What needs whole documents, which the tests of other crates share.

mod job;
mod snapshot;
