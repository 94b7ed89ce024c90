//! The key-encryption key: recognised at start, and changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sqlx::Row as _;
use xvault_core::error::chain;
use xvault_core::secret::{ExposeSecret as _, SecretString};
use xvault_core::{Identity, Recipient};
use xvault_hub::{Keys, RekeyError, StartError, rekey};

use crate::world::{Tenant, World, text};

/// More than one batch of what `rekey` does at once.
const CREDENTIALS: usize = 120;

/// Keys of which the first encrypts.
fn keys(identities: &[&Identity]) -> Keys {
    let all: Vec<_> = identities.iter().map(|id| id.to_secret().expose_secret().to_owned()).collect();
    Keys::parse(&SecretString::from(all.join("\n"))).unwrap()
}

fn refusal(result: Result<xvault_hub::Hub, StartError>) -> String {
    chain(&result.unwrap_err())
}

async fn a_wrong_key_stops_the_start(world: World) {
    let error = refusal(world.database.hub(&Keys::generate()).await);
    assert!(error.contains("HUB_ENCRYPTION_KEK") && error.contains(&world.keys.current_id()), "{error}");
    world.database.hub(&world.keys).await.unwrap();
}

/// The check value fits, and still a secret is of a key that is gone.
async fn a_missing_key_of_a_secret_stops_the_start(world: World) {
    world.tenant("acme").await;
    let sql = world.database.sql().await;
    sqlx::query("UPDATE tenant_keys SET kek_id = 'gone'").execute(&sql).await.unwrap();
    let error = refusal(world.database.hub(&world.keys).await);
    assert!(error.contains("HUB_ENCRYPTION_KEK") && error.contains("gone"), "{error}");
    sqlx::query("UPDATE tenant_keys SET encrypted_private_key = NULL").execute(&sql).await.unwrap();
    world.database.hub(&world.keys).await.unwrap();
    sqlx::query("UPDATE settings SET value = 'junk' WHERE key = 'kek_check'").execute(&sql).await.unwrap();
    assert!(refusal(world.database.hub(&world.keys).await).contains("kek_check"));
}

async fn fill(tenant: &Tenant) {
    for number in 0..CREDENTIALS {
        let plaintext = STANDARD.encode(format!("secret {number}"));
        let body = json!({ "kind": "source", "name": number.to_string(), "plaintext": plaintext });
        tenant.admin.post("/api/v1/credentials", body).await.expect(201);
    }
}

/// All secrets open with `keys`, and each is what it was.
async fn assert_intact(world: &World, tenant: &Tenant, keys: &Keys) {
    let sql = world.database.sql().await;
    let rows = sqlx::query("SELECT name, ciphertext, key_id FROM credentials").fetch_all(&sql).await.unwrap();
    assert_eq!(rows.len(), CREDENTIALS);
    for row in rows {
        let (name, kek_id): (String, String) = (row.get("name"), row.get("key_id"));
        let opened = keys.open(&row.get::<Vec<u8>, _>("ciphertext"), &kek_id).unwrap();
        assert_eq!(opened.expose_secret(), format!("secret {name}").as_bytes());
        assert_eq!(kek_id, keys.current_id());
    }
    let row = sqlx::query("SELECT encrypted_private_key, kek_id FROM tenant_keys WHERE tenant_id = $1")
        .bind(&tenant.id)
        .fetch_one(&sql)
        .await
        .unwrap();
    let opened =
        keys.open(&row.get::<Vec<u8>, _>("encrypted_private_key"), &row.get::<String, _>("kek_id")).unwrap();
    let text = String::from_utf8(opened.expose_secret().to_vec()).unwrap();
    let identity = Identity::parse_file(&SecretString::from(text)).unwrap().remove(0);
    assert_eq!(identity.recipient(), tenant.public_key.parse::<Recipient>().unwrap());
}

async fn all_secrets_move_to_a_new_key(engine: crate::world::Dialect) {
    let (old, new) = (Identity::generate(), Identity::generate());
    let world = World::builder(engine).keys(keys(&[&old])).start().await;
    let acme = world.tenant("acme").await;
    world.tenant("other").await;
    fill(&acme).await;
    let both = keys(&[&new, &old]);

    // Without the old key nothing happens.
    let error = rekey(&world.db, &keys(&[&new])).await.unwrap_err();
    assert!(matches!(error, RekeyError::Start(_)) && chain(&error).contains("HUB_ENCRYPTION_KEK"));
    assert_intact(&world, &acme, &keys(&[&old])).await;

    // A damaged secret stops it, by name; what was done stays, and the old key is still needed.
    let sql = world.database.sql().await;
    let last = sqlx::query("SELECT id, ciphertext FROM credentials ORDER BY id DESC LIMIT 1").fetch_one(&sql);
    let last = last.await.unwrap();
    let (id, ciphertext): (String, Vec<u8>) = (last.get("id"), last.get("ciphertext"));
    let damage = async |bytes: Vec<u8>| {
        let query = sqlx::query("UPDATE credentials SET ciphertext = $1 WHERE id = $2").bind(bytes).bind(&id);
        query.execute(&sql).await.unwrap();
    };
    damage(b"junk".to_vec()).await;
    let error = chain(&rekey(&world.db, &both).await.unwrap_err());
    assert!(error.contains(&id) && error.contains("credentials"), "{error}");
    let error = refusal(world.database.hub(&keys(&[&new])).await);
    assert!(error.contains("HUB_ENCRYPTION_KEK"), "{error}");
    world.database.hub(&keys(&[&old])).await.unwrap_err();
    world.database.hub(&both).await.unwrap();

    // Again, with the cause gone: the rest.
    damage(ciphertext).await;
    let done = rekey(&world.db, &both).await.unwrap();
    assert_eq!((done.credentials, done.tenant_keys), (20, 2));
    assert_intact(&world, &acme, &keys(&[&new])).await;
    let done = rekey(&world.db, &keys(&[&new])).await.unwrap();
    assert_eq!((done.credentials, done.tenant_keys), (0, 0));
    world.database.hub(&keys(&[&new])).await.unwrap();
    let error = refusal(world.database.hub(&keys(&[&old])).await);
    assert!(error.contains(&new.recipient().key_id()), "{error}");
    let events = world.operator.get("/api/v1/audit-events?limit=2").await.expect(200);
    assert_eq!(text(&events["audit_events"][1]["action"]), "kek.rekey");
    assert_eq!(
        events["audit_events"][1]["details"],
        json!({ "credentials": 20, "tenant_keys": 2, "stores": 0 })
    );
}

on_both_engines!(a_wrong_key_stops_the_start, a_missing_key_of_a_secret_stops_the_start);

on_both_engines!(std::future::ready => all_secrets_move_to_a_new_key);
