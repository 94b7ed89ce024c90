//! Whom backups are encrypted to after keys went out of a hub and into another one: to the same keys as before.

use serde_json::{Value, json};
use xvault_core::Identity;
use xvault_core::secret::SecretString;
use xvault_hub::recovery::{ImportedKeys, export_keys, import_keys};

use crate::recipients::{answers, path};
use crate::recovery::{directory, of_tenant, rebuild, sound};
use crate::world::{Tenant, World};

/// The tenant has its snapshots encrypted to these keys of its own.
async fn bring(tenant: &Tenant, data: &[&Identity], index: &[&Identity]) {
    let recipients = |keys: &[&Identity]| keys.iter().map(|key| key.recipient()).collect::<Vec<_>>();
    let mut wanted = json!({ "data": recipients(data), "index": recipients(index) });
    let mut keys = [data, index].concat();
    keys.sort_by_key(|key| key.recipient().to_string());
    keys.dedup_by_key(|key| key.recipient().to_string());
    wanted["answers"] = answers(tenant, &wanted, &keys).await;
    tenant.owner.put(&path(tenant), wanted).await.expect(200);
}

/// Whom new snapshots of the tenant are encrypted to, in any order.
async fn recipients(world: &World, tenant: &Tenant) -> Value {
    let mut all = world.operator.get(&path(tenant)).await.expect(200);
    for purpose in ["data", "index"] {
        all[purpose].as_array_mut().unwrap().sort_by_key(|key| key["public_key"].to_string());
    }
    all
}

async fn exported(world: &World) -> SecretString {
    export_keys(&world.db, &world.keys).await.unwrap()
}

async fn imported(world: &World, file: &SecretString) -> ImportedKeys {
    import_keys(&world.db, &world.keys, file).await.unwrap()
}

/// Brings the keys of a hub into a new one, twice, and rebuilds there: backups are encrypted to whom they were encrypted to.
async fn survives(world: &World, tenant: &Tenant) {
    let new = World::builder(world.db.dialect()).start().await;
    let file = exported(world).await;
    let done = imported(&new, &file).await;
    assert_eq!(done.known, 0, "{done:?}");
    assert_eq!(recipients(&new, tenant).await, recipients(world, tenant).await);
    let again = imported(&new, &file).await;
    assert_eq!(again, ImportedKeys { tenants: 0, keys: 0, known: done.keys });
    let found = [sound(&of_tenant(&tenant.id))];
    let rebuilt = rebuild(&new.db, &new.keys, &found, &directory()).await.unwrap();
    assert_eq!((rebuilt.snapshots, rebuilt.without_identity), (1, Vec::new()));
    assert_eq!(recipients(&new, tenant).await, recipients(world, tenant).await);
}

async fn one_key_for_both_purposes(world: World) {
    let (acme, own) = (world.tenant("acme").await, Identity::generate());
    bring(&acme, &[&own], &[&own]).await;
    survives(&world, &acme).await;
}

async fn a_key_that_was_kept_when_another_came(world: World) {
    let acme = world.tenant("acme").await;
    let (one, two) = (Identity::generate(), Identity::generate());
    bring(&acme, &[&one], &[]).await;
    bring(&acme, &[&one, &two], &[]).await;
    survives(&world, &acme).await;
}

async fn a_key_that_was_given_back_and_brought_again(world: World) {
    let (acme, own) = (world.tenant("acme").await, Identity::generate());
    bring(&acme, &[&own], &[&own]).await;
    acme.owner.delete(&path(&acme)).await.expect(200);
    bring(&acme, &[&own], &[&own]).await;
    survives(&world, &acme).await;
}

/// A key that was stolen, say, is not encrypted to again because somebody brings in what was exported before.
async fn an_old_export_takes_back_no_rotation(world: World) {
    let (acme, own) = (world.tenant("acme").await, Identity::generate());
    let old = exported(&world).await;
    bring(&acme, &[&own], &[]).await;
    let before = recipients(&world, &acme).await;
    assert_eq!(imported(&world, &old).await, ImportedKeys { tenants: 0, keys: 0, known: 1 });
    assert_eq!(recipients(&world, &acme).await, before);
}

/// Where an old copy of the database was put back, the platform's key does not come back beside the tenant's own.
async fn a_newer_export_brings_its_rotations(world: World) {
    let (acme, own) = (world.tenant("acme").await, Identity::generate());
    let old = World::builder(world.db.dialect()).start().await;
    imported(&old, &exported(&world).await).await;
    bring(&acme, &[&own], &[&own]).await;
    let done = imported(&old, &exported(&world).await).await;
    assert_eq!(done, ImportedKeys { tenants: 0, keys: 3, known: 0 });
    assert_eq!(recipients(&old, &acme).await, recipients(&world, &acme).await);
}

/// What an import of earlier has left out comes in.
async fn an_import_that_lacked_an_active_key_is_completed(world: World) {
    let acme = world.tenant("acme").await;
    let (one, two) = (Identity::generate(), Identity::generate());
    bring(&acme, &[&one], &[]).await;
    bring(&acme, &[&one, &two], &[]).await;
    let (file, whole) = (exported(&world).await, recipients(&world, &acme).await);
    sqlx::query("DELETE FROM tenant_keys WHERE public_key = $1 AND key_status = 'active'")
        .bind(one.recipient().to_string())
        .execute(&world.database.sql().await)
        .await
        .unwrap();
    assert_ne!(recipients(&world, &acme).await, whole);
    assert_eq!(imported(&world, &file).await.keys, 1);
    assert_eq!(recipients(&world, &acme).await, whole);
}

on_both_engines!(
    one_key_for_both_purposes,
    a_key_that_was_kept_when_another_came,
    a_key_that_was_given_back_and_brought_again,
    an_old_export_takes_back_no_rotation,
    a_newer_export_brings_its_rotations,
    an_import_that_lacked_an_active_key_is_completed,
);
