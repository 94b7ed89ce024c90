//! The archive as its users meet it: one binary, a module for each kind of test.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod ahead;
mod browse;
mod damage;
mod export;
mod extract;
mod golden;
mod hostile;
mod roundtrip;
mod support;
mod tools;
mod tree;
mod writer;
