//! The pipelines, over real stores and with sources and stores that misbehave.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cancel;
mod control;
mod copy;
mod export;
mod forget;
mod object_reader;
mod push;
mod read_back;
mod recipients;
mod select;
mod sources;
mod stores;
mod streams;
mod support;
mod tripwire;
