//! What each fuzz target does with its bytes.
//!
//! A body takes bytes from anywhere, asserts what must hold for all bytes, and says whether the
//! code under test took them. It lives here, in stable Rust, and is called from two places:
//! `fuzz/fuzz_targets/` (libFuzzer, nightly, as long as you like) and this crate's tests (the
//! committed corpus and a few thousand seeded mutations of it, in seconds).
//!
//! - [`tar_parser`]: the same events however the stream is cut, and none that contradict it;
//! - [`repack`]: of a remote tar stream only what was asked for, each thing once, in order, whole;
//! - [`archive_reader`]: from a hostile snapshot only what its index promised, and nothing outside a target;
//! - [`entry_path`]: no path that leads out of a target directory;
//! - [`index_line`]: no line that means two things, and no index that contradicts itself;
//! - [`manifest`]: what is read is what is written, and no changed byte passes;
//! - [`wp_config`]: the same database however often it is read, and an error that tells no secret.

mod chunks;
mod hostile;
pub mod mutate;
mod sealed;

mod archive_reader;
mod entry_path;
mod index_line;
mod manifest;
mod repack;
mod tar_parser;
mod wp_config;

pub use archive_reader::archive_reader;
pub use entry_path::entry_path;
pub use index_line::index_line;
pub use manifest::manifest;
pub use repack::repack;
pub use tar_parser::tar_parser;
pub use wp_config::wp_config;

/// Whether the code under test took the bytes; either is right, as long as nothing was asserted wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It read them to the end.
    Accepted,
    /// It named an error.
    Refused,
}

impl Verdict {
    /// The verdict that a result stands for.
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Accepted } else { Self::Refused }
    }
}

/// A target's body.
pub type Target = fn(&[u8]) -> Verdict;

/// Every target, by the name that its corpus and its fuzz target bear.
pub const TARGETS: &[(&str, Target)] = &[
    ("archive_reader", archive_reader),
    ("entry_path", entry_path),
    ("index_line", index_line),
    ("manifest", manifest),
    ("repack", repack),
    ("tar_parser", tar_parser),
    ("wp_config", wp_config),
];
