//! Finding what dead runs left in a bucket, and removing it: uploads that nobody finished, and objects without a manifest.
//!
//! No lock tells the dead from the living here: what was written to within the time given is left alone, and what the caller knows
//! to be alive.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use xvault_core::SnapshotKey;
use xvault_core::snapshot::MANIFEST_NAME;

use super::S3Store;
use super::multipart::{self, Unfinished, UploadsPage};
use crate::Error;
use crate::snapshot::{self, snapshot_of};
use crate::store::Swept;

/// Nothing else in the bucket is ours to look into.
pub(super) const TENANTS: &str = "tenants";

/// The snapshots without a manifest that one sweep deals with.
const ENOUGH: usize = 10_000;

pub(super) async fn sweep(
    store: &S3Store,
    prefix: &str,
    older_than: Duration,
    running: &BTreeSet<SnapshotKey>,
) -> Result<Swept, Error> {
    let prefix = format!("{}/", prefix.trim_end_matches('/'));
    let first = multipart::list(&store.client, &prefix, None).await?;
    let newest_dead = first.now - SignedDuration::try_from(older_than).unwrap_or(SignedDuration::MAX);
    let mut sweep = Sweep {
        store,
        newest_dead,
        running,
        swept: Swept::default(),
        alive: BTreeSet::new(),
        dead: BTreeSet::new(),
    };
    sweep.uploads(&prefix, first).await?;
    sweep.objects(&prefix).await?;
    sweep.swept.in_use = sweep.alive.len() as u64;
    sweep.swept.removed = sweep.dead.difference(&sweep.alive).count() as u64;
    Ok(sweep.swept)
}

struct Sweep<'a> {
    store: &'a S3Store,
    newest_dead: Timestamp,
    running: &'a BTreeSet<SnapshotKey>,
    swept: Swept,
    alive: BTreeSet<SnapshotKey>,
    /// Of which something was removed.
    dead: BTreeSet<SnapshotKey>,
}

impl Sweep<'_> {
    /// Page by page, so that it does not matter how many the server says there are.
    async fn uploads(&mut self, prefix: &str, first: UploadsPage) -> Result<(), Error> {
        let mut page = first;
        loop {
            for upload in &page.uploads {
                if self.is_full() {
                    return Ok(());
                }
                self.upload(upload).await?;
            }
            let Some(next) = page.next else { return Ok(()) };
            page = multipart::list(&self.store.client, prefix, Some(&next)).await?;
        }
    }

    /// Whether this is enough for once: what is remembered of a server's words has an end. The next sweep finds the rest.
    fn is_full(&self) -> bool {
        self.alive.len() + self.dead.len() >= ENOUGH
    }

    async fn upload(&mut self, upload: &Unfinished) -> Result<(), Error> {
        let Some((key, _)) = snapshot_of(&upload.key) else { return Ok(()) };
        if self.running.contains(&key)
            || upload.begun > self.newest_dead
            || multipart::last_written(&self.store.client, upload).await? > self.newest_dead
        {
            self.alive.insert(key);
            return Ok(());
        }
        match multipart::end(&self.store.client, &upload.key, &upload.id).await {
            Ok(()) => drop(self.dead.insert(key)),
            Err(_) => self.swept.failed += 1,
        }
        Ok(())
    }

    /// A listing is in order, so that a snapshot's objects come one after the other.
    async fn objects(&mut self, prefix: &str) -> Result<(), Error> {
        let mut entries = self.store.reader.entries(prefix);
        let mut group: Option<Group> = None;
        while !self.is_full()
            && let Some((object, written)) = entries.try_next().await?
        {
            let Some((key, name)) = snapshot_of(&object) else { continue };
            if let Some(done) = group.take_if(|group| group.key != key) {
                self.group(done).await;
            }
            let group = group.get_or_insert(Group { key, exists: false, newest: None });
            group.exists |= name == MANIFEST_NAME;
            // Something without a time is as new as can be.
            group.newest = group.newest.max(Some(written.unwrap_or(Timestamp::MAX)));
        }
        // Of the last one before enough was enough not all may have been seen.
        if let Some(last) = group.filter(|_| !self.is_full()) {
            self.group(last).await;
        }
        Ok(())
    }

    async fn group(&mut self, group: Group) {
        if group.exists || self.alive.contains(&group.key) {
            return;
        }
        if self.running.contains(&group.key) || group.newest > Some(self.newest_dead) {
            self.alive.insert(group.key);
            return;
        }
        match snapshot::delete(self.store, &group.key).await {
            Ok(()) => drop(self.dead.insert(group.key)),
            Err(_) => self.swept.failed += 1,
        }
    }
}

/// The objects of one snapshot.
struct Group {
    key: SnapshotKey,
    exists: bool,
    newest: Option<Timestamp>,
}
