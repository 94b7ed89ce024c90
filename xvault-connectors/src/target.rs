//! Systems that a snapshot is pushed back to.

pub mod sftp;

use async_trait::async_trait;
use bytes::Bytes;
use xvault_core::Entry;

use crate::Error;

pub use sftp::{SftpTarget, SftpTargetOptions};

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It is to be pushed.
    Push,
    /// Something stands there already and stays.
    Keep {
        /// Whether it is the entry itself, as far as size and time tell.
        same: bool,
    },
}

/// Where entries of a snapshot are pushed to.
///
/// The calls follow a grammar; paths are relative to the target's directory, and nothing outside it is ever changed:
///
/// ```text
/// restore = connect { plan { begin [ data* end ] } } finish_directories* finish
/// ```
///
/// - `plan` gets a run of entries in the snapshot's order, hard links as the files they lead to, and answers for each of
///   them. It makes the directories that it is told of and those on the way to others, closed to everybody else. Of the
///   entries that it wants, and no others, `begin` follows in the same order, with `data` and `end` for files.
/// - `end` says that the content was whole and its hash was right: the file then appears under its name, whole, but maybe
///   only when a later call has succeeded. A file without `end` never appears.
/// - `begin` of a hard link is allowed where [`Target::has_hard_links`] says so, to a file that was pushed, or kept as the same.
/// - `finish_directories` gives directories their metadata. After `finish` everything is there.
///
/// After an error, or a call whose future was dropped, only [`Target::abort`] may follow: what was pushed before is
/// whole and stays, temporary files are removed as far as the system answers. Running the same restore again completes it.
#[async_trait]
pub trait Target: Send {
    /// What it is, for people: an address without secrets.
    fn describe(&self) -> String;

    /// Connects, and makes the target's directory when it is missing.
    ///
    /// # Errors
    /// When the system can't be reached, does not let us in, or refuses the directory.
    async fn connect(&mut self) -> Result<(), Error>;

    /// Whether hard links can be pushed; told after [`Target::connect`].
    fn has_hard_links(&self) -> bool;

    /// Looks at what is there, makes directories, and says what is to be pushed.
    ///
    /// # Errors
    /// When something else stands where an entry belongs, or an earlier push failed.
    async fn plan(&mut self, entries: &[Entry]) -> Result<Vec<Plan>, Error>;

    /// Begins an entry; links are complete with this.
    ///
    /// # Errors
    /// When this or an earlier push failed.
    async fn begin(&mut self, entry: &Entry) -> Result<(), Error>;

    /// A part of the file that was begun last.
    ///
    /// # Errors
    /// As [`Target::begin`].
    async fn data(&mut self, chunk: Bytes) -> Result<(), Error>;

    /// The file that was begun last is whole.
    ///
    /// # Errors
    /// As [`Target::begin`].
    async fn end(&mut self) -> Result<(), Error>;

    /// Gives directories that were planned before their metadata.
    ///
    /// # Errors
    /// As [`Target::begin`].
    async fn finish_directories(&mut self, entries: &[Entry]) -> Result<(), Error>;

    /// Waits until everything is there, and says goodbye.
    ///
    /// # Errors
    /// As [`Target::begin`].
    async fn finish(&mut self) -> Result<(), Error>;

    /// Removes what is half-done. Takes seconds at most.
    async fn abort(&mut self);
}
