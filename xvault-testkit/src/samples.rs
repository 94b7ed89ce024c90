//! The small files of a snapshot that never was, for tests that need them to be there and well-formed.

use xvault_core::snapshot::{
    Completeness, ContentSummary, Evidence, FORMAT_VERSION, FileDigest, ReadBackReport, hex,
};
use xvault_core::{Identity, Manifest, Meta, ReadBack, SnapshotId, SnapshotKey, SourceId, seal};

/// A new snapshot of one and the same source of the tenant `local`.
#[must_use]
pub fn key() -> SnapshotKey {
    SnapshotKey {
        tenant_id: "local".parse().unwrap(),
        source_id: SourceId::derive("local:/srv"),
        snapshot_id: SnapshotId::generate(),
    }
}

/// `meta.json` of `key`; agrees with [`manifest`].
#[must_use]
pub fn meta(key: &SnapshotKey) -> Meta {
    Meta {
        format_version: FORMAT_VERSION,
        tenant_id: key.tenant_id.clone(),
        source_id: key.source_id.clone(),
        snapshot_id: key.snapshot_id.clone(),
        job_id: "job-1".parse().unwrap(),
        worker_id: "worker-1".parse().unwrap(),
    }
}

/// `manifest.json` of `key`: whole, empty, and encrypted to a recipient whose identity is gone. Its two digests are invented.
#[must_use]
pub fn manifest(key: &SnapshotKey) -> Manifest {
    let recipient = Identity::generate().recipient();
    let digest = FileDigest { size_bytes: 8, sha256: hex(&[0xab; 32]) };
    let meta = meta(key);
    Manifest {
        format_version: meta.format_version,
        tenant_id: meta.tenant_id,
        source_id: meta.source_id,
        snapshot_id: meta.snapshot_id,
        job_id: meta.job_id,
        worker_id: meta.worker_id,
        source_type: "local".into(),
        started_at: "2026-11-24T10:00:00Z".parse().unwrap(),
        finished_at: "2026-11-24T10:00:01Z".parse().unwrap(),
        duration_ms: 1000,
        size_bytes: digest.size_bytes,
        sha256: digest.sha256.clone(),
        encryption_algorithm: seal::ALGORITHM.into(),
        encryption_key_id: recipient.key_id(),
        encryption_recipient: recipient.clone(),
        encryption_recipients: vec![recipient.clone()],
        index_recipients: vec![recipient],
        artifact: digest.clone(),
        index: digest,
        tar_size_bytes: 1024,
        compressed_size_bytes: 100,
        completeness: Completeness::Whole,
        tags: Vec::new(),
        content_summary: ContentSummary::default(),
        evidence: Evidence::Walk { directories: 1, files: 0 },
        read_back: ReadBackReport { mode: ReadBack::Full, entries: 0, frames: 1, bytes: 1024 },
        xvault_version: "0.1.0".into(),
        checksum: String::new(),
    }
}
