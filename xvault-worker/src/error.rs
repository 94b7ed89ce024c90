//! Why a worker does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use xvault::core::service::SettingError;

use crate::{hub, identity};

/// Why a worker does not start. Once it runs, trouble is logged and outlived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store can't be opened.
    #[error("open the storage base {}", path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: Box<xvault::connectors::Error>,
    },
    /// A setting is wrong in itself.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The worker has no key.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The hub can't be called.
    #[error(transparent)]
    Hub(#[from] hub::ClientError),
    /// A directory that tenants may back up is missing.
    #[error("a directory of WORKER_ALLOW_LOCAL can't be found")]
    AllowLocal(#[source] io::Error),
    /// Long parts of uploads could wait nowhere.
    #[error("WORKER_UPLOAD_DIR {} is no directory", .0.display())]
    UploadDir(PathBuf),
    /// Nobody could reach the downloads.
    #[error("WORKER_DOWNLOAD_URL is not set: people can't reach {0}, so say what they do reach")]
    NoDownloadUrl(SocketAddr),
    /// An address to serve at can't be had.
    #[error("listen at {addr} for {what}")]
    Listen {
        /// What was to be served.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}
