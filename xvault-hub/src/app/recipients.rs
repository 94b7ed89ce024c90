//! Whom a tenant's snapshots are encrypted to: keys of the platform, or keys that the tenant brings and alone can open.
//!
//! Nobody backs up to a key they can't use: a tenant's own key is taken only after a word that was encrypted to it came back.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use sqlx::{Any, AnyConnection, Transaction};
use xvault_core::seal;
use xvault_core::secret::ExposeSecret as _;
use xvault_core::{Recipient, TenantId};

use super::{tenants as app_tenants, tokens};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::tenant_keys::TenantKey;
use crate::db::{recipient_challenges as challenges, tenant_keys, tenants};
use crate::{DbError, Hub, KeyError};

/// How long a challenge can be answered.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Which keys a tenant wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// For artifacts.
    pub(crate) data: Vec<Recipient>,
    /// For indexes; none: the platform's.
    pub(crate) index: Vec<Recipient>,
}

impl Wanted {
    /// Each key once.
    fn all(&self) -> Vec<&Recipient> {
        let mut seen = HashSet::new();
        self.data.iter().chain(&self.index).filter(|key| seen.insert(key.to_string())).collect()
    }
}

/// Something to decrypt.
#[derive(Debug)]
pub(crate) struct Challenge {
    pub(crate) recipient: Recipient,
    /// An armored age file with one word in it.
    pub(crate) file: String,
}

/// A key that new snapshots are encrypted to.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) recipient: Recipient,
    /// `all`, `data` or `index`.
    pub(crate) purpose: String,
    /// Whether the platform has its identity.
    pub(crate) is_here: bool,
}

/// The keys of today.
pub(crate) async fn get(hub: &Hub, who: &Principal, id: &TenantId) -> Result<Vec<Key>> {
    let mut conn = hub.db().conn().await?;
    tenants::get(&mut conn, &who.scope(None)?, id).await.map_err(Error::of("tenant"))?;
    keys(&mut conn, id).await
}

async fn keys(conn: &mut AnyConnection, id: &TenantId) -> Result<Vec<Key>> {
    let key = |key: TenantKey| Key {
        is_here: key.encrypted_private_key.is_some(),
        recipient: key.public_key,
        purpose: key.purpose,
    };
    Ok(tenant_keys::active(conn, id).await?.into_iter().map(key).collect())
}

/// Encrypts a word to each of the keys; [`set`] wants them back.
pub(crate) async fn challenge(
    hub: &Hub,
    who: &Principal,
    id: &TenantId,
    wanted: &Wanted,
) -> Result<(Vec<Challenge>, Timestamp)> {
    let now = hub.clock().now();
    let expires_at = now.checked_add(LIFETIME).unwrap_or(Timestamp::MAX);
    let mut tx = begin(hub, who, id).await?;
    refuse_ours(&mut tx, id, wanted).await?;
    challenges::delete_expired(&mut tx, now).await?;
    let mut made = Vec::new();
    for recipient in wanted.all() {
        let word = tokens::make(tokens::Kind::Challenge)?;
        challenges::put(&mut tx, (id, recipient), &word.hash, (now, expires_at)).await?;
        let sealed = seal::seal(std::slice::from_ref(recipient), word.secret.expose_secret().as_bytes());
        let file = armored(&sealed.map_err(KeyError::Seal)?);
        made.push(Challenge { recipient: recipient.clone(), file });
    }
    let details = json!({ "key_ids": key_ids(&wanted.all()) });
    app_tenants::audit(&mut tx, hub, who, id, "tenant.recipients.challenge", details).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok((made, expires_at))
}

/// Encrypts from now on to these keys. Those of before stay for old snapshots. 409 `challenge_failed` names the first key whose
/// word did not come back.
pub(crate) async fn set(
    hub: &Hub,
    who: &Principal,
    id: &TenantId,
    wanted: &Wanted,
    answers: &BTreeMap<String, String>,
) -> Result<Vec<Key>> {
    let now = hub.clock().now();
    let mut tx = begin(hub, who, id).await?;
    refuse_ours(&mut tx, id, wanted).await?;
    for recipient in wanted.all() {
        check(&mut tx, id, recipient, answers, now).await?;
    }
    tenant_keys::rotate(&mut tx, id, now).await?;
    for (purpose, recipients) in [("data", &wanted.data), ("index", &wanted.index)] {
        for recipient in recipients {
            tenant_keys::insert(&mut tx, &brought(id, recipient, purpose), now).await?;
        }
    }
    if wanted.index.is_empty() {
        let key = TenantKey { purpose: "index".to_owned(), ..app_tenants::new_key(hub.keys(), id)? };
        tenant_keys::insert(&mut tx, &key, now).await?;
    }
    finish(tx, hub, who, id, "tenant.recipients.set").await
}

/// Encrypts from now on to a new key of the platform.
pub(crate) async fn give_back(hub: &Hub, who: &Principal, id: &TenantId) -> Result<Vec<Key>> {
    let now = hub.clock().now();
    let mut tx = begin(hub, who, id).await?;
    tenant_keys::rotate(&mut tx, id, now).await?;
    tenant_keys::insert(&mut tx, &app_tenants::new_key(hub.keys(), id)?, now).await?;
    finish(tx, hub, who, id, "tenant.recipients.give_back").await
}

/// A transaction in which nobody else changes the tenant.
async fn begin(hub: &Hub, who: &Principal, id: &TenantId) -> Result<Transaction<'static, Any>> {
    let mut tx = hub.db().begin().await?;
    tenants::get(&mut tx, &who.scope(None)?, id).await.map_err(Error::of("tenant"))?;
    tenants::hold(&mut tx, id).await.map_err(Error::of("tenant"))?;
    Ok(tx)
}

async fn finish(
    mut tx: Transaction<'static, Any>,
    hub: &Hub,
    who: &Principal,
    id: &TenantId,
    action: &str,
) -> Result<Vec<Key>> {
    let keys = keys(&mut tx, id).await?;
    let told = |key: &Key| json!({ "key_id": key.recipient.key_id(), "purpose": key.purpose, "platform": key.is_here });
    let details = json!({ "keys": keys.iter().map(told).collect::<Vec<_>>() });
    app_tenants::audit(&mut tx, hub, who, id, action, details).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(keys)
}

/// A key whose identity is here is none that only the tenant can open.
async fn refuse_ours(conn: &mut AnyConnection, id: &TenantId, wanted: &Wanted) -> Result<()> {
    let ours = tenant_keys::all(conn, id).await?;
    for key in ours.iter().filter(|key| key.encrypted_private_key.is_some()) {
        let fields = [("data", &wanted.data), ("index", &wanted.index)];
        if let Some((field, _)) = fields.iter().find(|(_, keys)| keys.contains(&key.public_key)) {
            let reason = format!("{} is a key of the platform: bring one of your own", key.public_key);
            return Err(Error::invalid_field(field, reason));
        }
    }
    Ok(())
}

async fn check(
    conn: &mut AnyConnection,
    id: &TenantId,
    recipient: &Recipient,
    answers: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<()> {
    let Some(answer) = answers.get(&recipient.to_string()) else {
        return Err(failed(recipient, "its answer is missing"));
    };
    if challenges::take(conn, (id, recipient), &tokens::hash(answer.trim()), now).await? {
        return Ok(());
    }
    Err(failed(recipient, "the answer is wrong, was used before, or came too late: ask for a new challenge"))
}

fn failed(recipient: &Recipient, reason: &str) -> Error {
    Error::conflict("challenge_failed", format!("{recipient}: {reason}"))
        .details(json!({ "recipient": recipient }))
}

fn brought(tenant_id: &TenantId, recipient: &Recipient, purpose: &str) -> TenantKey {
    TenantKey {
        id: xvault_core::clock::new_id(),
        tenant_id: tenant_id.clone(),
        public_key: recipient.clone(),
        encrypted_private_key: None,
        kek_id: None,
        purpose: purpose.to_owned(),
    }
}

fn key_ids(keys: &[&Recipient]) -> Vec<String> {
    keys.iter().map(|key| key.key_id()).collect()
}

/// As `age -a` writes it.
fn armored(file: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(file);
    let mut armored = String::from("-----BEGIN AGE ENCRYPTED FILE-----\n");
    for (at, letter) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            armored.push('\n');
        }
        armored.push(letter);
    }
    armored.push_str("\n-----END AGE ENCRYPTED FILE-----\n");
    armored
}
