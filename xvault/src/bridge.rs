//! Where async and sync meet, and the only place where they do.
//!
//! Connectors wait for networks and are async; the archive burns CPU and is synchronous. Four
//! pieces join them, each bounded by bytes:
//!
//! - [`ArchiveSink`]: entries of a source, into an archive writer on a thread of its own;
//! - [`Outlet`]: what that thread writes, into an object of a store;
//! - [`ByteStream`]: what a thread writes, for somebody who awaits it;
//! - [`with_objects`]: objects of a store, as `Read + Seek` for an archive reader on a thread.
//!
//! No thread ever blocks on the runtime: the synchronous side sends requests over channels, and
//! the async side, which holds the store, answers them.

mod buffer;
mod input;
mod outlet;
mod pipe;
mod sink;

use std::future::Future;
use std::sync::atomic::Ordering;

use xvault_archive::Watch;
use xvault_connectors::Control;

use crate::Error;

pub(crate) use input::exactly;
pub use input::{ByteCount, Object, ObjectReader, with_objects};
pub use outlet::{Outlet, outlet};
pub use pipe::ByteStream;
pub(crate) use pipe::stream;
pub use sink::ArchiveSink;

/// Awaits `work`, whose thread looks at `watch`; when the job is cancelled the thread is told, and awaited still.
pub(crate) async fn stoppable<T>(
    control: &Control,
    watch: &Watch,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = control.cancel_token().cancelled() => watch.cancel.store(true, Ordering::Relaxed),
    }
    work.await
}
