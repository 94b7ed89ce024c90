//! Snapshots that no honest writer makes: tar and index written by hand, byte by byte, for whatever they should say.

mod bomb;
mod tar;

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use xvault_core::snapshot::{
    ARTIFACT_NAME, ContentSummary, FileDigest, INDEX_NAME, MANIFEST_NAME, META_NAME, hex,
};
use xvault_core::{Manifest, Recipient, SnapshotKey, seal};

pub use bomb::{FRAME, Zeros};
pub use tar::header_block;

use crate::samples;

/// The frame size of forged indexes that don't need another.
pub const FRAME_SIZE: u64 = 4 << 20;

/// A tar and the entry lines of an index, in the making.
#[derive(Debug, Clone, Default)]
pub struct Crafted {
    /// The tar stream.
    pub tar: Vec<u8>,
    /// The totals that the index will tell.
    pub totals: ContentSummary,
    lines: Vec<String>,
}

/// The plain halves of a snapshot, and what its index and its manifest say about them.
#[derive(Debug, Clone)]
pub struct Forged {
    /// Whose snapshot the index says it is.
    pub key: SnapshotKey,
    /// The zstd stream.
    pub zstd: Vec<u8>,
    /// The plain index.
    pub lines: Vec<u8>,
    tar_size: u64,
    zstd_size: u64,
    totals: ContentSummary,
}

impl Crafted {
    /// Adds an entry to the tar alone; `flag` is its type.
    pub fn tar(&mut self, name: &str, flag: u8, body: &[u8], target: &str) -> &mut Self {
        self.tar.extend(header_block(name, flag, body.len() as u64, target));
        self.tar.extend_from_slice(body);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// Adds an index line with the fields `rest` for the entry that was put into the tar last, which began `blocks`
    /// blocks ago.
    pub fn line(&mut self, path: &str, blocks: usize, rest: &Value) -> &mut Self {
        let offset = self.tar.len() - blocks * 512;
        let mut line = json!({
            "type": "entry", "path": path, "mode": 0o644, "uid": 0, "gid": 0, "mtime": [0, 0],
            "offset": offset, "data_offset": offset + 512,
        });
        for (field, value) in rest.as_object().unwrap() {
            line[field] = value.clone();
        }
        self.lines.push(line.to_string());
        self
    }

    /// A file, whatever its path.
    pub fn file(&mut self, path: &str, body: &[u8]) -> &mut Self {
        self.file_as(path, path, body)
    }

    /// A file that has another path in the tar than in the index.
    pub fn file_as(&mut self, in_tar: &str, in_index: &str, body: &[u8]) -> &mut Self {
        let blake3 = blake3::hash(body).to_hex().to_string();
        self.totals.files += 1;
        self.totals.bytes += body.len() as u64;
        let rest = json!({"kind": "file", "size": body.len(), "blake3": blake3});
        self.tar(in_tar, b'0', body, "").line(in_index, 1 + body.len().div_ceil(512), &rest)
    }

    /// A directory.
    pub fn directory(&mut self, path: &str) -> &mut Self {
        self.totals.directories += 1;
        self.tar(&format!("{path}/"), b'5', b"", "").line(path, 1, &json!({"kind": "directory"}))
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.totals.symlinks += 1;
        self.tar(path, b'2', b"", target).line(path, 1, &json!({"kind": "symlink", "target": target}))
    }

    /// A hard link.
    pub fn hardlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.totals.hardlinks += 1;
        self.tar(path, b'1', b"", target).line(path, 1, &json!({"kind": "hardlink", "target": target}))
    }

    /// A device node or a pipe in the tar that the index calls an empty file.
    pub fn device_as_file(&mut self, path: &str, flag: u8) -> &mut Self {
        self.totals.files += 1;
        let rest = json!({"kind": "file", "size": 0, "blake3": blake3::hash(b"").to_hex().to_string()});
        self.tar(path, flag, b"", "").line(path, 1, &rest)
    }

    /// The end of the tar; one frame, and an index that tells the truth about it.
    pub fn finish(&mut self) -> Forged {
        self.tar.extend([0; 1024]);
        let zstd = zstd_of(&self.tar);
        self.with_frames(&zstd, &[(self.tar.len() as u64, zstd.len() as u64)], FRAME_SIZE)
    }

    /// Whatever the index should say about frames (plain and compressed size of each), over whatever zstd stream.
    #[must_use]
    pub fn with_frames(&self, zstd: &[u8], frames: &[(u64, u64)], frame_size: u64) -> Forged {
        let key = samples::key();
        let mut lines = vec![header(&key, frame_size)];
        let (mut tar_size, mut zstd_size) = (0, 0);
        for (at, (plain, compressed)) in frames.iter().enumerate() {
            // An entry's line stands before the frame it ends in: the last one.
            if at + 1 == frames.len() {
                lines.extend(self.lines.iter().cloned());
            }
            let frame = json!({
                "type": "frame", "offset": tar_size, "size": plain, "zstd_offset": zstd_size, "zstd_size": compressed,
            });
            lines.push(frame.to_string());
            (tar_size, zstd_size) = (tar_size + plain, zstd_size + compressed);
        }
        lines.push(self.end(frames.len(), tar_size, zstd_size));
        let (zstd, lines) = (zstd.to_vec(), (lines.join("\n") + "\n").into_bytes());
        Forged { key, zstd, lines, tar_size, zstd_size, totals: self.totals }
    }

    fn end(&self, frames: usize, tar_size: u64, zstd_size: u64) -> String {
        let mut end = serde_json::to_value(self.totals).unwrap();
        end["type"] = "end".into();
        end["entries"] = self.lines.len().into();
        end["frames"] = frames.into();
        end["tar_size"] = tar_size.into();
        end["zstd_size"] = zstd_size.into();
        end.to_string()
    }
}

impl Forged {
    /// Encrypts it and puts it into the store in the directory `store`, with a manifest that agrees in everything: only what
    /// is inside is wrong.
    pub fn commit(&self, store: &Path, recipient: &Recipient) {
        let snapshot = store.join(self.key.prefix());
        std::fs::create_dir_all(&snapshot).unwrap();
        let put = |name: &str, bytes: &[u8]| std::fs::write(snapshot.join(name), bytes).unwrap();
        let sealed = |plain: &[u8]| seal::seal(std::slice::from_ref(recipient), plain).unwrap();
        let (artifact, index) = (sealed(&self.zstd), sealed(&zstd_of(&self.lines)));
        put(ARTIFACT_NAME, &artifact);
        put(INDEX_NAME, &index);
        put(META_NAME, &samples::meta(&self.key).to_json().unwrap());
        put(MANIFEST_NAME, &self.manifest(recipient, digest(&artifact), digest(&index)).to_json().unwrap());
    }

    fn manifest(&self, recipient: &Recipient, artifact: FileDigest, index: FileDigest) -> Manifest {
        Manifest {
            size_bytes: artifact.size_bytes,
            sha256: artifact.sha256.clone(),
            encryption_key_id: recipient.key_id(),
            encryption_recipient: recipient.clone(),
            encryption_recipients: vec![recipient.clone()],
            index_recipients: vec![recipient.clone()],
            artifact,
            index,
            tar_size_bytes: self.tar_size,
            compressed_size_bytes: self.zstd_size,
            content_summary: self.totals,
            ..samples::manifest(&self.key)
        }
    }
}

/// The first line of an index.
#[must_use]
pub fn header(key: &SnapshotKey, frame_size: u64) -> String {
    json!({
        "type": "header", "format": "xvault-index", "version": 1, "tenant_id": key.tenant_id,
        "source_id": key.source_id, "snapshot_id": key.snapshot_id, "frame_size": frame_size,
    })
    .to_string()
}

/// One zstd frame that tells its content size.
#[must_use]
pub fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

fn digest(bytes: &[u8]) -> FileDigest {
    FileDigest { size_bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) }
}
