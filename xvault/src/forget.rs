//! Which snapshots of a store a policy keeps, and the removal of the others.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use xvault_connectors::snapshot::{self, Filter};
use xvault_connectors::{Control, Error as ConnectorError, Store};
use xvault_core::snapshot::{ARTIFACT_NAME, INDEX_NAME};
use xvault_core::{Dispose, Disposition, Manifest, SnapshotId, SnapshotKey, SourceId, TenantId};
use xvault_retention::{Decision, Plan, Policy, Snapshot, evaluate};

use crate::Error;
use crate::objects::Stored;

/// What a policy means for the snapshots of one source.
#[derive(Debug)]
pub struct SourcePlan {
    /// The owner.
    pub tenant_id: TenantId,
    /// The source.
    pub source_id: SourceId,
    /// What happens to each of its sound snapshots, and why.
    pub plan: Plan,
    /// Those with a damaged or missing file, and what is wrong. They count for nothing and are never among those to
    /// delete: somebody may still get something out of them.
    pub damaged: Vec<(SnapshotKey, Error)>,
    manifests: HashMap<SnapshotId, Manifest>,
}

impl SourcePlan {
    /// The manifest of the snapshot that was decided on.
    #[must_use]
    pub fn manifest(&self, decision: &Decision) -> Option<&Manifest> {
        self.manifests.get(&decision.id)
    }

    /// The snapshots to delete, oldest first.
    pub fn to_delete(&self) -> impl Iterator<Item = &Manifest> {
        self.plan.to_delete().filter_map(|decision| self.manifest(decision))
    }

    /// One that nothing is known of yet.
    fn empty(policy: &Policy, key: &SnapshotKey, now: Timestamp, zone: &TimeZone) -> Self {
        let (tenant_id, source_id) = (key.tenant_id.clone(), key.source_id.clone());
        let plan = evaluate(policy, &[], now, zone);
        Self { tenant_id, source_id, plan, damaged: Vec::new(), manifests: HashMap::new() }
    }

    fn decide(&mut self, policy: &Policy, now: Timestamp, zone: &TimeZone) {
        let snapshots: Vec<Snapshot> = self.manifests.values().map(Snapshot::from).collect();
        self.plan = evaluate(policy, &snapshots, now, zone);
    }
}

/// What `policy` means for the snapshots in `store`, source by source. Nothing is deleted by this.
///
/// A snapshot counts only when its artifact and index are there with the lengths that its manifest tells, so none is
/// given up for one that has lost its content.
///
/// # Errors
/// When the store can't be listed, or can't tell just now whether a snapshot is sound.
pub async fn plan(
    store: &dyn Store,
    filter: &Filter,
    policy: &Policy,
    (now, zone): (Timestamp, &TimeZone),
    control: &Control,
) -> Result<Vec<SourcePlan>, Error> {
    let listed = control.run(snapshot::list(store, filter)).await.map_err(Error::Store)?;
    let mut sources = BTreeMap::new();
    for one in listed {
        let source = (one.key.tenant_id.clone(), one.key.source_id.clone());
        let plan = sources.entry(source).or_insert_with(|| SourcePlan::empty(policy, &one.key, now, zone));
        match sound(store, one.manifest, control).await {
            Ok(manifest) => {
                plan.manifests.insert(one.key.snapshot_id, manifest);
            }
            Err(error) if error.disposition() == Disposition::Permanent => {
                plan.damaged.push((one.key, error));
            }
            Err(error) => return Err(error),
        }
    }
    let mut plans: Vec<SourcePlan> = sources.into_values().collect();
    plans.iter_mut().for_each(|plan| plan.decide(policy, now, zone));
    Ok(plans)
}

/// The manifest, when what it speaks of is there.
async fn sound(
    store: &dyn Store,
    manifest: Result<Manifest, ConnectorError>,
    control: &Control,
) -> Result<Manifest, Error> {
    let manifest = manifest.map_err(Error::Store)?;
    let key = manifest.key();
    for (name, digest) in [(ARTIFACT_NAME, &manifest.artifact), (INDEX_NAME, &manifest.index)] {
        Stored::open(store, &key, name, digest, control).await?;
    }
    Ok(manifest)
}

/// Deletes a snapshot, or the remains of one. Its manifest goes first: whatever stops it, what is left is no snapshot.
/// Deleting twice is fine.
///
/// Who restores from it meanwhile gets an error, never wrong content.
///
/// # Errors
/// When something may be left; deleting again removes it.
pub async fn delete(store: &dyn Store, key: &SnapshotKey) -> Result<(), Error> {
    snapshot::delete(store, key).await.map_err(Error::Store)
}
