//! Which snapshot is meant: order, beginnings of ids, `latest`, filters; and damage that hides nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use xvault::connectors::store::unreliable::{Call, UnreliableStore};
use xvault::core::snapshot::MANIFEST_NAME;
use xvault::core::{Dispose, Disposition, Identity, SnapshotId, SnapshotKey, SourceId, TenantId};
use xvault::{BackupOptions, Error, Filter, FsStore, LATEST, MemoryStore, ReadBack, Store};

use crate::support::{backup, files, random};

fn options(id: &str) -> BackupOptions {
    let recipients = vec![Identity::generate().recipient()];
    let options = BackupOptions::to(recipients, "source-1".parse().unwrap()).unwrap();
    options.snapshot(id.parse().unwrap()).read_back(ReadBack::Off)
}

async fn store_one(store: &dyn Store, options: &BackupOptions) -> SnapshotKey {
    backup(&mut files(&[("a", random(5, 1))]), store, options).await.unwrap().key()
}

async fn ids(store: &dyn Store, filter: &Filter) -> Vec<String> {
    let listed = xvault::list(store, filter).await.unwrap();
    listed.iter().map(|listed| listed.key.snapshot_id.to_string()).collect()
}

async fn found(store: &dyn Store, selector: &str) -> Result<SnapshotId, Error> {
    xvault::find(store, selector, &Filter::default()).await.map(|manifest| manifest.snapshot_id)
}

#[tokio::test]
async fn a_beginning_names_a_snapshot_when_it_fits_one_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    assert!(matches!(found(&store, LATEST).await, Err(Error::NoSnapshot { .. })));
    for id in ["zeta", "alpha", "alpha-2", "beta"] {
        store_one(&store, &options(id)).await;
    }
    // In the order of their making, not of their names.
    assert_eq!(ids(&store, &Filter::default()).await, ["zeta", "alpha", "alpha-2", "beta"]);
    assert_eq!(found(&store, LATEST).await.unwrap().as_str(), "beta");
    assert_eq!(found(&store, "z").await.unwrap().as_str(), "zeta");
    assert_eq!(found(&store, "alpha-").await.unwrap().as_str(), "alpha-2");
    assert_eq!(found(&store, "alpha").await.unwrap().as_str(), "alpha", "a whole id");
    let error = found(&store, "alp").await.unwrap_err();
    assert_eq!(error.to_string(), "`alp` fits 2 snapshots: write more of the id");
    for nothing in ["", "gamma", "zetas"] {
        let error = found(&store, nothing).await.unwrap_err();
        let store = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(error.to_string(), format!("no snapshot `{nothing}` in {}", store.display()));
    }
}

fn manifest_file(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("tenants/local/sources/source-1/snapshots/{id}")).join(MANIFEST_NAME)
}

fn damage(dir: &Path, id: &str) {
    let file = manifest_file(dir, id);
    let text = fs::read_to_string(&file).unwrap().replace("\"files\": 1", "\"files\": 2");
    fs::write(&file, text).unwrap();
}

/// An older snapshot in the place of the newest would be restored without a word.
#[tokio::test]
async fn a_damaged_manifest_is_shown_last_and_may_be_the_latest() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let made: Vec<_> = (0..4).map(|_| SnapshotId::generate()).collect();
    for id in &made {
        store_one(&store, &options(id.as_str())).await;
    }
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|at: usize| made[at].as_str());
    damage(dir.path(), first);
    assert_eq!(ids(&store, &Filter::default()).await, [second, third, fourth, first]);
    assert_eq!(found(&store, LATEST).await.unwrap().as_str(), fourth, "what is older is no matter");
    let error = found(&store, first).await.unwrap_err().to_string();
    assert!(
        error.ends_with("manifest.json: manifest.json is damaged: its checksum does not match its text"),
        "{error}"
    );

    damage(dir.path(), fourth);
    assert_refuses_latest(&store, fourth, "is damaged").await;
    fs::remove_file(manifest_file(dir.path(), fourth)).unwrap();
    assert_refuses_latest(&store, fourth, "it is missing").await;
    assert_eq!(found(&store, third).await.unwrap().as_str(), third, "by its id it is found");

    fs::remove_dir_all(manifest_file(dir.path(), fourth).parent().unwrap()).unwrap();
    assert_eq!(found(&store, LATEST).await.unwrap().as_str(), third);
    for id in [second, third] {
        damage(dir.path(), id);
    }
    assert_refuses_latest(&store, first, "is damaged").await;
}

async fn assert_refuses_latest(store: &FsStore, id: &str, why: &str) {
    let error = found(store, LATEST).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Permanent);
    let told = error.to_string();
    assert!(told.contains(id) && told.contains(why), "{told}");
    assert!(told.ends_with("it may be the newest: name the snapshot you mean by its id"), "{told}");
}

/// An older snapshot in the place of the newest would be restored without a word.
#[tokio::test]
async fn a_manifest_that_cannot_be_read_just_now_may_be_the_latest() {
    let store = UnreliableStore::new(MemoryStore::new().unwrap());
    for id in ["one", "two"] {
        store_one(&store, &options(id)).await;
    }
    for failures in [1, 2] {
        let store = store.clone().failing(Call::Read, failures);
        let error = found(&store, LATEST).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Transient, "{error:?}");
        assert_eq!(found(&store, LATEST).await.unwrap().as_str(), "two");
    }
}

#[tokio::test]
async fn a_filter_keeps_tenants_and_sources_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let tenant: TenantId = "acme".parse().unwrap();
    store_one(&store, &options("ours")).await;
    store_one(&store, &options("theirs").tenant(tenant.clone())).await;
    let other: SourceId = "source-2".parse().unwrap();
    let elsewhere = BackupOptions::to(vec![Identity::generate().recipient()], other.clone()).unwrap();
    store_one(&store, &elsewhere.snapshot("elsewhere".parse().unwrap())).await;

    let of_tenant = Filter { tenant_id: Some(tenant), source_id: None };
    assert_eq!(ids(&store, &of_tenant).await, ["theirs"]);
    let of_source = Filter { tenant_id: None, source_id: Some(other) };
    assert_eq!(ids(&store, &of_source).await, ["elsewhere"]);
    let of_both = Filter { tenant_id: Some(TenantId::local()), source_id: Some("source-1".parse().unwrap()) };
    assert_eq!(ids(&store, &of_both).await, ["ours"]);
    let manifest = xvault::find(&store, LATEST, &of_tenant).await.unwrap();
    assert_eq!(manifest.snapshot_id.as_str(), "theirs");
    assert!(matches!(xvault::find(&store, "ours", &of_tenant).await, Err(Error::NoSnapshot { .. })));
}
