//! A directory of a server, over SFTP.

mod directories;
mod links;
mod place;
mod push;
mod upload;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use xvault_core::{Entry, EntryKind, Overwrite};

use super::{Plan, Target};
use crate::Error;
use crate::source::Link;
use crate::ssh::SshOptions;
use push::Push;

/// How long a server may take to remove what is half-done.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// How entries are restored to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpTargetOptions {
    /// The directory that everything goes below; a relative one starts at the account's home.
    pub directory: String,
    /// What happens to what exists.
    pub overwrite: Overwrite,
    /// Whether owner and group are restored, by number. Without it set-id bits are dropped.
    pub owner: bool,
}

/// A directory of a server, over SFTP.
///
/// A file is written to a name beside its own (`.xvault-….part`, derived from it) and renamed when it is whole; one that
/// an earlier run left half-written is begun again, files that are there whole are recognised by size and time. Many
/// files are in flight at once, 16 MiB of content at most. Directories have mode 1700 until their own metadata comes, at
/// the end. A directory of the server that is a symbolic link is never entered, except on the way to the target's own.
///
/// SFTP version 3 carries whole seconds from 1970 to 2106: fractions are lost, and of other times the low 32 bits are set,
/// which a backup over SFTP reads back right. Memory: the content in flight, and the path of each directory. Two runs must not restore into one directory at the same time.
pub struct SftpTarget {
    link: Link,
    options: SftpTargetOptions,
    push: Option<Push>,
}

impl SftpTarget {
    /// How to connect, and where to.
    #[must_use]
    pub fn new(server: SshOptions, options: SftpTargetOptions) -> Self {
        Self { link: Link::new(server), options, push: None }
    }

    fn push(&mut self) -> Result<&mut Push, Error> {
        self.push.as_mut().ok_or(Error::Cancelled)
    }
}

#[async_trait]
impl Target for SftpTarget {
    fn describe(&self) -> String {
        format!("{} on {}", self.options.directory, self.link.server())
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let sftp = self.link.sftp().await?;
        self.push = Some(Push::start(sftp, self.link.server(), &self.options).await?);
        Ok(())
    }

    fn has_hard_links(&self) -> bool {
        self.push.as_ref().is_some_and(Push::has_hard_links)
    }

    async fn plan(&mut self, entries: &[Entry]) -> Result<Vec<Plan>, Error> {
        let push = self.push()?;
        push.settle().await?;
        push.make_directories(entries).await?;
        push.look(entries).await
    }

    async fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        let push = self.push()?;
        match &entry.kind {
            EntryKind::Directory => Ok(()),
            EntryKind::File { .. } | EntryKind::Stream => push.begin_file(entry).await,
            EntryKind::Symlink { .. } | EntryKind::Hardlink { .. } => {
                push.put_off(entry);
                Ok(())
            }
        }
    }

    async fn data(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.push()?.data(chunk).await
    }

    async fn end(&mut self) -> Result<(), Error> {
        self.push()?.end_file().await
    }

    async fn finish_directories(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let push = self.push()?;
        push.settle().await?;
        push.finish_directories(entries).await
    }

    async fn finish(&mut self) -> Result<(), Error> {
        let push = self.push()?;
        push.settle().await?;
        push.finish_closed().await?;
        self.push = None;
        self.link.close().await;
        Ok(())
    }

    async fn abort(&mut self) {
        if let Some(mut push) = self.push.take() {
            // A server that is gone has its temporary files removed by the next run.
            let _ = tokio::time::timeout(ABORT_PATIENCE, push.clean_up()).await;
        }
        let _ = tokio::time::timeout(ABORT_PATIENCE, self.link.close()).await;
    }
}
