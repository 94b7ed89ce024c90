//! The archive as its users meet it: one binary, a module for each kind of test.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod extract;
mod roundtrip;
mod support;
mod tree;
