//! The re-packer without a server, for its fuzz target.

use bytes::Bytes;
use xvault_core::{EntryPath, EntrySink};

use super::repack::Repacker;
use crate::source::Emitter;
use crate::source::excludes::Excludes;
use crate::source::sftp::scope::{Root, Scope};
use crate::ssh::sftp::Attrs;
use crate::{Control, Error};

/// Takes `streams` as those of one pull: the first is that of all configured paths, the others are those that
/// hard links are fetched with by themselves. One is only taken from the iterator when it is due. `roots` are
/// configured paths, none inside another; `None` is the file system's root.
///
/// # Errors
/// Whatever makes a pull fail; [`Error::Incomplete`] also for a stream that is missing.
#[doc(hidden)]
pub async fn repack(
    roots: &[Option<EntryPath>],
    excludes: &[String],
    streams: impl IntoIterator<Item = Vec<Bytes>>,
    sink: &mut dyn EntrySink,
) -> Result<u64, Error> {
    let roots = roots.iter().cloned().map(|path| Root { path, attrs: Attrs::default() }).collect();
    let scope = Scope { roots, excludes: Excludes::new(excludes)?, delivered: None };
    let control = Control::default();
    let mut emitter = Emitter::new(sink, &control);
    let mut repacker = Repacker::new(&scope, &mut emitter);
    let mut streams = streams.into_iter();
    loop {
        repacker.next_stream();
        for piece in streams.next().unwrap_or_default() {
            repacker.stdout(piece).await?;
        }
        if !repacker.is_ended() {
            return Err(Error::Incomplete("a stream ended without closing its archive".into()));
        }
        if repacker.take_orphans()?.is_empty() {
            return Ok(repacker.entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use xvault_core::{Entry, SinkError, Warning};

    /// Takes what comes and keeps nothing.
    struct Nothing;

    #[async_trait]
    impl EntrySink for Nothing {
        async fn begin(&mut self, _: Entry) -> Result<(), SinkError> {
            Ok(())
        }
        async fn data(&mut self, _: Bytes) -> Result<(), SinkError> {
            Ok(())
        }
        async fn end(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
        async fn warning(&mut self, _: Warning) -> Result<(), SinkError> {
            Ok(())
        }
    }

    /// A header block of a hard link that leads out of the configured path.
    fn orphan(number: usize) -> Bytes {
        let mut block = [0_u8; 512];
        let name = format!("srv/{number:090}");
        for (at, field) in [(0, name.as_bytes()), (148, b"        "), (156, b"1"), (157, b"etc/passwd")] {
            block[at..at + field.len()].copy_from_slice(field);
        }
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Bytes::copy_from_slice(&block)
    }

    #[tokio::test]
    async fn endless_hard_links_to_nothing_are_given_up() {
        let root = [EntryPath::from_source(b"srv").unwrap()];
        // Somewhat more than there is room for.
        let stream = (0..200_000).map(orphan).collect();
        let error = repack(&root, &[], [stream], &mut Nothing).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        assert!(error.to_string().contains("take more than 16777216 bytes"), "{error}");
    }
}
