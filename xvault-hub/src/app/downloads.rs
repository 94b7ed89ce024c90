//! Downloads: links that give what a snapshot holds, for a while, to whoever has them.
//!
//! A link's token is signed by the hub and kept nowhere; a row of `downloads` says what the link gives. The worker that a link
//! leads to asks the hub each time one is opened, and gets a job for it: `docs/decisions/2026-11-29-downloads.md`.

mod content;
mod create;
mod open;
mod presign;
mod token;
mod way;

pub(crate) use content::Content;
pub(crate) use create::{Link, Wanted, create, of_job, prepared};
pub(crate) use open::open;
pub(crate) use token::DownloadTokens;
pub(crate) use way::check_readable;
