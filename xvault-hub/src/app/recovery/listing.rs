//! What lies in a store, as `xvault snapshots --json` tells it.
//!
//! The hub has no code that reads stores, on purpose: it never touches backup data. The command that does is installed beside it, knows every kind
//! of store, and tells manifests, which hold no file names and no secrets.

use std::ffi::OsStr;
use std::io::BufRead;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use serde::Deserialize;
use xvault_core::snapshot::Locator;
use xvault_core::{Manifest, SnapshotId, SnapshotKey, SourceId, StoreId, TenantId, WorkerId};

/// The longest line: a manifest has at most 1 MiB.
const MAX_LINE: u64 = 4 << 20;

/// One snapshot of a listing.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Sound, as far as its manifest goes.
    Sound {
        /// What it says.
        manifest: Box<Manifest>,
        /// Until when the store lets nobody delete it, as far as the store tells.
        locked_until: Option<Timestamp>,
    },
    /// Something lies there, and its manifest is missing or damaged.
    Damaged {
        /// Which one.
        snapshot_id: SnapshotId,
        /// Whose, where the listing says so.
        owner: Option<(TenantId, SourceId)>,
        /// What is wrong.
        reason: String,
    },
}

/// What lies in a store, as it was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// The snapshots.
    pub found: Vec<Found>,
    /// When somebody began to look. What has come or gone since then may be told wrongly.
    pub begun_at: Timestamp,
}

/// Where the listed snapshots lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a directory of a worker's machine.
    Directory {
        /// Absolute.
        path: String,
        /// Whose disk it is. None: of the worker that made the snapshot.
        worker_id: Option<WorkerId>,
    },
    /// In a bucket.
    Bucket {
        /// Its name.
        bucket: String,
        /// What all keys begin with, without a `/` at either end.
        prefix: String,
        /// The hub's name for it, where several of its stores look the same.
        store_id: Option<StoreId>,
    },
}

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// The command can't be run.
    #[error("run `{command}`: is xvault installed? Else name it with --xvault")]
    Run {
        /// What was run.
        command: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The command failed, and said why on standard error.
    #[error("`{command}` failed: {status}")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A line is no snapshot.
    #[error("line {line} of the listing is no snapshot of `xvault snapshots --json`: {reason}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It can't be read.
    #[error("read the listing")]
    Read(#[source] std::io::Error),
}

impl Place {
    /// A directory or `s3://BUCKET/PREFIX`, as `--store` names it.
    #[must_use]
    pub fn of_store(store: &str, worker_id: Option<WorkerId>) -> Self {
        match store.strip_prefix("s3://") {
            Some(place) => {
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                let (bucket, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
                Self::Bucket { bucket, prefix, store_id: None }
            }
            None => {
                let path = std::path::absolute(store).unwrap_or_else(|_| store.into());
                Self::Directory { path: path.display().to_string(), worker_id }
            }
        }
    }

    /// The same, which the hub knows by this id.
    #[must_use]
    pub fn known_as(self, id: Option<StoreId>) -> Self {
        match self {
            Self::Bucket { bucket, prefix, .. } => Self::Bucket { bucket, prefix, store_id: id },
            directory => directory,
        }
    }

    /// Where a snapshot of it lies.
    pub(super) fn locator(&self, key: &SnapshotKey, made_by: &WorkerId) -> Locator {
        match self {
            Self::Directory { path, worker_id } => Locator::LocalFs {
                worker_id: worker_id.as_ref().unwrap_or(made_by).clone(),
                local_path: format!("{}/{}", path.trim_end_matches('/'), key.prefix()),
            },
            Self::Bucket { bucket, prefix, .. } => {
                let object_key = match prefix.as_str() {
                    "" => key.prefix(),
                    prefix => format!("{prefix}/{}", key.prefix()),
                };
                Locator::S3 { bucket: bucket.clone(), object_key, etag: None }
            }
        }
    }
}

/// Runs `xvault snapshots --json --store STORE MORE…`, without the hub's own secrets in its environment.
///
/// # Errors
/// When it can't be run, fails, or says something else. Damaged snapshots are no error.
pub(crate) fn list(xvault: &OsStr, store: &str, more: &[String]) -> Result<Vec<Found>, ListingError> {
    let mut command = Command::new(xvault);
    command.args(["snapshots", "--json", "--store", store]).args(more).stdout(Stdio::piped());
    without_own_secrets(&mut command);
    let shown = || format!("{} snapshots --json --store {store}", xvault.to_string_lossy());
    let mut child = command.spawn().map_err(|source| ListingError::Run { command: shown(), source })?;
    let listed = match child.stdout.take() {
        Some(output) => read(std::io::BufReader::new(output)),
        None => Ok(Vec::new()),
    };
    let status = child.wait().map_err(ListingError::Read)?;
    // 3: some are damaged, which the listing says.
    match status.code() {
        Some(0 | 3) => listed,
        _ => Err(ListingError::Failed { command: shown(), status }),
    }
}

/// A program that needs the hub's secrets for nothing is not given them.
pub(crate) fn without_own_secrets(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let own = name.to_string_lossy().into_owned();
        if ["HUB_", "DATABASE_URL", "REDIS_URL"].iter().any(|start| own.starts_with(start)) {
            command.env_remove(name);
        }
    }
}

/// Reads a listing, line by line.
///
/// # Errors
/// At the first line that is none of it.
pub(crate) fn read(mut lines: impl BufRead) -> Result<Vec<Found>, ListingError> {
    let (mut found, mut text) = (Vec::new(), String::new());
    for line in 1.. {
        text.clear();
        let read = std::io::Read::take(&mut lines, MAX_LINE).read_line(&mut text);
        if read.map_err(ListingError::Read)? == 0 {
            break;
        }
        if !text.trim().is_empty() {
            found.push(parse(&text).map_err(|reason| ListingError::Line { line, reason })?);
        }
    }
    Ok(found)
}

/// A line about a damaged one.
#[derive(Deserialize)]
struct DamagedLine {
    snapshot_id: SnapshotId,
    tenant_id: Option<TenantId>,
    source_id: Option<SourceId>,
    error: String,
}

/// What a line of a sound one tells besides its manifest.
#[derive(Deserialize)]
struct LockLine {
    #[serde(default)]
    locked_until: Option<Timestamp>,
}

fn parse(line: &str) -> Result<Found, String> {
    if let Ok(DamagedLine { snapshot_id, tenant_id, source_id, error }) = serde_json::from_str(line) {
        return Ok(Found::Damaged { snapshot_id, owner: tenant_id.zip(source_id), reason: error });
    }
    match serde_json::from_str(line) {
        Ok(manifest) => {
            let LockLine { locked_until } = serde_json::from_str(line).map_err(|error| error.to_string())?;
            Ok(Found::Sound { manifest: Box::new(manifest), locked_until })
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use xvault_testkit::samples;

    use super::*;

    #[test]
    fn a_listing_is_manifests_and_what_is_damaged() {
        let manifest = samples::manifest(&samples::key());
        let mut locked = serde_json::json!(manifest);
        locked["locked_until"] = "2030-01-01T00:00:00Z".into();
        let lines = format!(
            "{}\n\n{locked}\n{{\"snapshot_id\":\"x\",\"error\":\"cut\"}}\n",
            serde_json::json!(manifest)
        );
        let sound = |until: Option<&str>| Found::Sound {
            manifest: Box::new(manifest.clone()),
            locked_until: until.map(|until| until.parse().unwrap()),
        };
        let damaged = Found::Damaged { snapshot_id: "x".parse().unwrap(), owner: None, reason: "cut".into() };
        let all = [sound(None), sound(Some("2030-01-01T00:00:00Z")), damaged];
        assert_eq!(read(lines.as_bytes()).unwrap(), all);
        let error = read(&b"\n{}\n"[..]).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_place_says_where_each_snapshot_lies() {
        let (key, worker) = (samples::key(), "w1".parse().unwrap());
        let place = Place::of_store("s3://bucket/some/prefix/", None);
        let Locator::S3 { bucket, object_key, .. } = place.locator(&key, &worker) else { panic!() };
        assert_eq!((bucket.as_str(), object_key), ("bucket", format!("some/prefix/{}", key.prefix())));
        let Locator::S3 { object_key, .. } = Place::of_store("s3://bucket", None).locator(&key, &worker)
        else {
            panic!()
        };
        assert_eq!(object_key, key.prefix());
        let place = Place::of_store("/srv/backups/", Some("w2".parse().unwrap()));
        let Locator::LocalFs { worker_id, local_path } = place.locator(&key, &worker) else { panic!() };
        assert_eq!((worker_id.as_str(), local_path), ("w2", format!("/srv/backups/{}", key.prefix())));
    }
}
