//! Connectors of one's own, for the programs in `src/bin` and for the suite that every source passes.

pub mod http_directory;
