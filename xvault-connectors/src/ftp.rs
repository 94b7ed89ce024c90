//! FTP, with bytes for names: what servers send is kept, and sent back, as it came.
//!
//! - [`FtpOptions`]: which server, how it proves itself, how long is waited;
//! - `Session`: one control connection that is logged in, and one transfer at a time beside it;
//! - `listing`: what MLSD and LIST bring, Unix's and DOS's.

mod control;
mod data;
mod features;
pub(crate) mod listing;
mod options;
mod reply;
mod session;
mod telnet;

pub(crate) use data::Data;
pub(crate) use listing::{Kind, Listed};
pub(crate) use options::Shared;
pub use options::{FtpOptions, FtpTimeouts};
pub(crate) use reply::Reply;
pub(crate) use session::{Begun, Session};
