//! From manifests to tenants, sources and snapshots. What is on record stays as it is, so it can be done again and again, store
//! by store.

use jiff::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::snapshot::Locator;
use xvault_core::{Manifest, ReadBack, SnapshotId};

use super::listing::{Found, Listing, Place};
use super::placeholder::placeholder;
use super::stores::{KnownStore, store_of};
use super::{RecoveryError, tenant_keys::ensure_tenant};
use crate::app::audit::{Deed, record_by_system};
use crate::app::jobs::sweep_from_now_on;
use crate::app::kek;
use crate::app::tenants::new_key;
use crate::db::snapshot_copies::CopyStatus;
use crate::db::snapshots::{self, Snapshot, SnapshotStatus};
use crate::db::sources::{self, Source, SourceStatus};
use crate::db::{Scope, copy_attempts, recovery, snapshot_copies, tenant_keys};
use crate::{Db, DbError, Keys};

/// What a rebuild did, in lines for a person, and in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Tenants that were not there.
    pub tenants: u64,
    /// Tenants whose identity has not come back: what was backed up before can't be opened here.
    pub without_identity: Vec<String>,
    /// Sources that were not there: disabled, without their settings.
    pub sources: u64,
    /// Snapshots that were not there.
    pub snapshots: u64,
    /// Snapshots that were on record as lying elsewhere, and have a second place now.
    pub copies: u64,
    /// Snapshots that were on record already, as lying there.
    pub known: u64,
    /// Snapshots were added in a store whose credential may not delete: they stay for as long as that is so.
    pub undeletable: bool,
    /// What is not on record now, and why.
    pub left_out: Vec<(SnapshotId, String)>,
}

/// Puts on record what was found in a store. What a job has made that is under way is left out: its worker tells of it, or removes it.
/// Audited.
///
/// # Errors
/// When the database refuses, or a bucket is of no store that the hub knows. What was put on record until then stays so.
pub async fn rebuild(
    db: &Db,
    keys: &Keys,
    listing: &Listing,
    place: &Place,
) -> Result<Rebuilt, RecoveryError> {
    let now = xvault_core::clock::now();
    kek::check(db, keys, now).await?;
    let store = store_of(&mut *db.conn().await?, place).await?;
    let mut done = Rebuilt::default();
    for one in &listing.found {
        match one {
            Found::Sound { manifest, locked_until } => {
                let mut tx = db.begin().await?;
                let (store, locked_until, done) = (store.as_ref(), *locked_until, &mut done);
                let listed_at = listing.begun_at;
                let mut adding =
                    Adding { conn: &mut tx, keys, now, listed_at, place, store, locked_until, done };
                if let Err(reason) = adding.snapshot(manifest).await? {
                    adding.done.left_out.push((manifest.snapshot_id.clone(), reason));
                }
                tx.commit().await.map_err(DbError::from)?;
            }
            Found::Damaged { snapshot_id, reason, .. } => {
                done.left_out.push((snapshot_id.clone(), reason.clone()));
            }
        }
    }
    note(&mut *db.conn().await?, &done, now).await?;
    Ok(done)
}

/// One snapshot on its way into the tables.
struct Adding<'a> {
    conn: &'a mut AnyConnection,
    keys: &'a Keys,
    now: Timestamp,
    /// When the listing was begun that it is of.
    listed_at: Timestamp,
    place: &'a Place,
    store: Option<&'a KnownStore>,
    /// Until when the store lets nobody delete what is added, as far as the store tells.
    locked_until: Option<Timestamp>,
    done: &'a mut Rebuilt,
}

/// Whether something is on record now, or why not.
type Added = Result<(), String>;

impl Adding<'_> {
    /// What is on record then lies in a part of the store that is swept, as any that was written to.
    async fn swept(&mut self, manifest: &Manifest) -> Result<(), RecoveryError> {
        let Some(store) = self.store else { return Ok(()) };
        copy_attempts::done(self.conn, &manifest.snapshot_id, &store.id).await?;
        Ok(sweep_from_now_on(self.conn, &store.id, &manifest.tenant_id, self.now).await?)
    }

    async fn snapshot(&mut self, manifest: &Manifest) -> Result<Added, RecoveryError> {
        // Whoever can write into a tenant's own store could put there what pretends to be another tenant's.
        if let Some(owner) = self.store.and_then(|store| store.tenant_id.as_ref())
            && *owner != manifest.tenant_id
        {
            return Ok(Err(format!("the store belongs to tenant {owner}, and it says to be of another one")));
        }
        // Asked first: what its worker tells of in between is on record then.
        let is_under_way = recovery::is_under_way(self.conn, &manifest.job_id).await?;
        match snapshots::get(self.conn, &Scope::All, &manifest.snapshot_id).await {
            Ok(record) => self.place_of(&record, manifest).await,
            Err(DbError::NotFound) if is_under_way => Ok(Err(still_made(manifest))),
            Err(DbError::NotFound) => match self.is_going(manifest).await? {
                Some(reason) => Ok(Err(reason)),
                None => self.new_snapshot(manifest).await,
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn new_snapshot(&mut self, manifest: &Manifest) -> Result<Added, RecoveryError> {
        if self.was_kept(manifest).await? {
            self.done.known += 1;
            return Ok(Ok(()));
        }
        self.tenant(manifest).await?;
        if let Err(reason) = self.source(manifest).await? {
            return Ok(Err(reason));
        }
        let locator = self.place.locator(&manifest.key(), &manifest.worker_id);
        self.worker(manifest, &locator).await?;
        recovery::add_job(self.conn, manifest, self.now).await?;
        let store_id = self.store.map(|store| &store.id);
        snapshots::insert(self.conn, manifest, (&locator, store_id), self.now).await?;
        self.swept(manifest).await?;
        if let Some(until) = self.locked_until {
            snapshots::lock_place(self.conn, &manifest.snapshot_id, until).await?;
        }
        self.done.snapshots += 1;
        self.done.undeletable |= self.store.is_some_and(|store| store.may_delete == Some(false));
        Ok(Ok(()))
    }

    /// Why its bytes may be gone by now, although they were listed.
    async fn is_going(&mut self, manifest: &Manifest) -> Result<Option<String>, RecoveryError> {
        let (id, since) = (&manifest.snapshot_id, self.listed_at);
        if recovery::was_deleted_since(self.conn, id, since).await? {
            return Ok(Some("it was deleted since it was listed".to_owned()));
        }
        let is_swept = match self.store {
            Some(store) => recovery::was_swept_since(self.conn, (id, &store.id), since).await?,
            None => false,
        };
        Ok(is_swept.then(|| "a sweep of the store may remove it: run `rebuild` again afterwards".to_owned()))
    }

    /// Whether it was deleted, and this is the copy that its store kept, or one that a sweep removes. A row of a copy whose snapshot was lost says nothing: it goes.
    async fn was_kept(&mut self, manifest: &Manifest) -> Result<bool, RecoveryError> {
        let (Some(store), id) = (self.store, &manifest.snapshot_id) else { return Ok(false) };
        if copy_attempts::is_to_go(self.conn, id, &store.id).await? {
            return Ok(true);
        }
        let copies = snapshot_copies::of(self.conn, id).await?;
        let Some(copy) = copies.iter().find(|copy| copy.store_id == store.id) else { return Ok(false) };
        if copy.status == CopyStatus::Copied {
            snapshot_copies::forget(self.conn, id, &store.id).await?;
        }
        Ok(copy.status == CopyStatus::Kept)
    }

    /// It is on record. Where that says that it lies elsewhere, this is its copy.
    async fn place_of(&mut self, record: &Snapshot, manifest: &Manifest) -> Result<Added, RecoveryError> {
        if (&record.tenant_id, &record.source_id) != (&manifest.tenant_id, &manifest.source_id) {
            return Ok(Err("a snapshot of that id is on record for another source".to_owned()));
        }
        let locator = self.place.locator(&manifest.key(), &manifest.worker_id);
        let lies_here = match (self.store, &locator) {
            (Some(store), _) => record.store_id.as_ref() == Some(&store.id),
            // Its path may be another one on the machine where it was listed.
            (None, Locator::LocalFs { worker_id, .. }) => record.worker_id.as_ref() == Some(worker_id),
            (None, _) => false,
        };
        let copies = snapshot_copies::of(self.conn, &record.id).await?;
        let is_copy = |store: &KnownStore| copies.iter().any(|copy| copy.store_id == store.id);
        if lies_here || record.status == SnapshotStatus::Deleting || self.store.is_some_and(is_copy) {
            self.done.known += 1;
            return Ok(Ok(()));
        }
        let (Some(store), Locator::S3 { bucket, object_key, .. }) = (self.store, &locator) else {
            let reason =
                "it is on record as lying elsewhere, and only what lies in a bucket can be a second place";
            return Ok(Err(reason.to_owned()));
        };
        let copy = snapshot_copies::Place {
            store_id: &store.id,
            bucket,
            object_key,
            etag: None,
            locked_until: self.locked_until,
        };
        snapshot_copies::insert(self.conn, &manifest.key(), copy, &manifest.job_id, manifest.finished_at)
            .await?;
        self.swept(manifest).await?;
        if let Some(until) = self.locked_until {
            snapshots::lock_copy(self.conn, &record.id, until).await?;
        }
        self.done.copies += 1;
        Ok(Ok(()))
    }

    /// A tenant that was not there, and that no import has brought a key, gets a new one: its backups go on.
    async fn tenant(&mut self, manifest: &Manifest) -> Result<(), RecoveryError> {
        let (id, keys) = (&manifest.tenant_id, self.keys);
        if ensure_tenant(self.conn, id, &format!("rebuilt {id}")).await? {
            self.done.tenants += 1;
        }
        if tenant_keys::active(self.conn, id).await?.is_empty() {
            tenant_keys::insert(self.conn, &new_key(keys, id)?, self.now).await?;
            self.done.without_identity.push(id.to_string());
        }
        Ok(())
    }

    /// Whether there is a source for it now, or why not.
    async fn source(&mut self, manifest: &Manifest) -> Result<Added, RecoveryError> {
        match sources::get(self.conn, &Scope::All, &manifest.source_id).await {
            Ok(source) if source.tenant_id == manifest.tenant_id => return Ok(Ok(())),
            Ok(source) => return Ok(Err(format!("its source belongs to tenant {} here", source.tenant_id))),
            Err(DbError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(settings) = placeholder(&manifest.source_type) else {
            return Ok(Err(format!("this hub knows no sources of type `{}`", manifest.source_type)));
        };
        let source = Source {
            id: manifest.source_id.clone(),
            tenant_id: manifest.tenant_id.clone(),
            name: format!("rebuilt {} {}", manifest.source_type, manifest.source_id),
            status: SourceStatus::Disabled,
            settings,
            credential_id: None,
            store_id: self.store.map(|store| store.id.clone()),
            replica_store_id: None,
            read_back: ReadBack::Full,
            created_at: self.now,
            updated_at: self.now,
        };
        sources::insert(self.conn, &source).await?;
        self.done.sources += 1;
        Ok(Ok(()))
    }

    /// Who made it, and whose disk it lies on.
    async fn worker(&mut self, manifest: &Manifest, locator: &Locator) -> Result<(), RecoveryError> {
        recovery::add_worker(self.conn, &manifest.worker_id, self.now).await?;
        if let Locator::LocalFs { worker_id, .. } = locator {
            recovery::add_worker(self.conn, worker_id, self.now).await?;
        }
        Ok(())
    }
}

fn still_made(manifest: &Manifest) -> String {
    format!("its job {} is under way: run `rebuild` again once that has ended", manifest.job_id)
}

async fn note(conn: &mut AnyConnection, done: &Rebuilt, now: Timestamp) -> Result<(), RecoveryError> {
    let details = json!({
        "tenants": done.tenants, "sources": done.sources, "snapshots": done.snapshots, "copies": done.copies,
        "known": done.known, "left_out": done.left_out.len(),
    });
    let deed = Deed { action: "hub.rebuild", target_type: "hub", target_id: "hub", tenant_id: None, details };
    Ok(record_by_system(conn, deed, now).await?)
}
