//! A manifest such as a worker reports.

use xvault_core::snapshot::{
    Completeness, ContentSummary, Evidence, FORMAT_VERSION, FileDigest, ReadBackReport,
};
use xvault_core::{Identity, JobId, Manifest, ReadBack, SnapshotKey, WorkerId, seal};

/// The manifest of snapshot `key`, which `worker_id` made for `job_id`.
pub(crate) fn of(key: SnapshotKey, job_id: JobId, worker_id: WorkerId) -> Manifest {
    let recipient = Identity::generate().recipient();
    let digest = || FileDigest { size_bytes: 301_989_888, sha256: "5f".repeat(32) };
    let now = xvault_core::clock::now();
    Manifest {
        format_version: FORMAT_VERSION,
        tenant_id: key.tenant_id,
        source_id: key.source_id,
        snapshot_id: key.snapshot_id,
        job_id,
        worker_id,
        source_type: "sftp".to_owned(),
        started_at: now,
        finished_at: now,
        duration_ms: 0,
        size_bytes: digest().size_bytes,
        sha256: digest().sha256,
        encryption_algorithm: seal::ALGORITHM.to_owned(),
        encryption_key_id: recipient.key_id(),
        encryption_recipient: recipient.clone(),
        encryption_recipients: vec![recipient.clone()],
        index_recipients: vec![recipient],
        artifact: digest(),
        index: digest(),
        tar_size_bytes: 760_000_000,
        compressed_size_bytes: 301_000_000,
        completeness: Completeness::Whole,
        tags: Vec::new(),
        content_summary: ContentSummary { files: 48_211, bytes: 734_003_200, ..ContentSummary::default() },
        evidence: Evidence::Walk { directories: 3_120, files: 48_211 },
        read_back: ReadBackReport { mode: ReadBack::Full, entries: 48_211, frames: 730, bytes: 760_000_000 },
        xvault_version: env!("CARGO_PKG_VERSION").to_owned(),
        checksum: format!("sha256:{}", "0".repeat(64)),
    }
}

/// The text of one, as it stands in every row.
pub(crate) fn example() -> anyhow::Result<String> {
    let key = SnapshotKey {
        tenant_id: "tenant".parse()?,
        source_id: "source".parse()?,
        snapshot_id: "snapshot".parse()?,
    };
    Ok(serde_json::to_string(&of(key, "job".parse()?, "storage-0".parse()?))?)
}
