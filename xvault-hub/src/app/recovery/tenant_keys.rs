//! Tenants' identities on their way out of a hub, and into another one.
//!
//! The form is an age identity file, so that `age` and `xvault` read it as it is. Each key has a comment before it that says whose it
//! is, in JSON after `# xvault-key: `; a key that only the tenant can use has no identity after it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::secret::{ExposeSecret as _, SecretString};
use xvault_core::{Identity, Recipient, TenantId};
use zeroize::Zeroizing;

use super::RecoveryError;
use crate::app::audit::{Deed, record_by_system};
use crate::app::kek;
use crate::db::status::Status;
use crate::db::tenant_keys::{self, TenantKey};
use crate::db::{Scope, tenants};
use crate::{Db, DbError, Keys};

/// What the comment before a key begins with.
const MARK: &str = "# xvault-key: ";

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    tenant_id: TenantId,
    tenant_name: String,
    key_id: String,
    public_key: Recipient,
    /// `all`, `data` or `index`.
    purpose: String,
    /// `active` or `rotated`.
    status: String,
}

/// How many keys came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportedKeys {
    /// Tenants that were not there, and are now.
    pub tenants: u64,
    /// Keys that were not there, or without their identity.
    pub keys: u64,
    /// Keys that were there already, which stay as they are.
    pub known: u64,
}

/// The identities of all tenants as an age identity file: what opens every backup that the platform can open. Audited.
///
/// # Errors
/// When a key is missing, or a secret can't be opened.
pub async fn export_keys(db: &Db, keys: &Keys) -> Result<SecretString, RecoveryError> {
    let now = xvault_core::clock::now();
    kek::check(db, keys, now).await?;
    let mut file = Zeroizing::new(String::from(
        "# The identities of the tenants of an xVault hub. Whoever has this file can read their backups.\n",
    ));
    let mut tx = db.begin().await?;
    let mut count = 0;
    for (key, status) in tenant_keys::of_all(&mut tx).await? {
        let tenant = tenants::get(&mut tx, &Scope::All, &key.tenant_id).await?;
        append(&mut file, keys, &key, &About::of(&key, tenant.name, status))?;
        count += 1;
    }
    record_by_system(&mut tx, deed("keys.export", json!({ "keys": count })), now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(SecretString::from(file.as_str()))
}

impl About {
    fn of(key: &TenantKey, tenant_name: String, status: String) -> Self {
        Self {
            tenant_id: key.tenant_id.clone(),
            tenant_name,
            key_id: key.id.clone(),
            public_key: key.public_key.clone(),
            purpose: key.purpose.clone(),
            status,
        }
    }
}

fn append(file: &mut String, keys: &Keys, key: &TenantKey, about: &About) -> Result<(), RecoveryError> {
    let _infallible = writeln!(file, "\n{MARK}{}", json!(about));
    if let (Some(sealed), Some(kek_id)) = (&key.encrypted_private_key, &key.kek_id) {
        let opened = keys.open(sealed, kek_id)?;
        let text = std::str::from_utf8(opened.expose_secret());
        let text = text.map_err(|_| DbError::Corrupt { column: "encrypted_private_key" })?;
        let _infallible = writeln!(file, "{}", text.trim());
    }
    Ok(())
}

/// Brings the keys of an export into this database, encrypted to its KEK, with the tenants that are not there. What is there
/// stays as it is. Audited.
///
/// # Errors
/// When `file` is no export: then nothing has changed.
pub async fn import_keys(db: &Db, keys: &Keys, file: &SecretString) -> Result<ImportedKeys, RecoveryError> {
    let now = xvault_core::clock::now();
    let all = parse(file)?;
    kek::check(db, keys, now).await?;
    let (mut tx, mut done) = (db.begin().await?, ImportedKeys::default());
    for (about, identity) in &all {
        done.tenants += u64::from(ensure_tenant(&mut tx, &about.tenant_id, &about.tenant_name).await?);
        if add(&mut tx, keys, about, identity.as_ref()).await? {
            done.keys += 1;
        } else {
            done.known += 1;
        }
    }
    let details = json!({ "tenants": done.tenants, "keys": done.keys, "known": done.known });
    record_by_system(&mut tx, deed("keys.import", details), now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(done)
}

fn parse(file: &SecretString) -> Result<Vec<(About, Option<Identity>)>, RecoveryError> {
    let mut all: Vec<(About, Option<Identity>)> = Vec::new();
    for (number, line) in file.expose_secret().lines().enumerate() {
        let wrong = |what: &str| RecoveryError::Export(format!("line {}: {what}", number + 1));
        if let Some(about) = line.strip_prefix(MARK) {
            let about =
                serde_json::from_str(about).map_err(|_| wrong("it does not say whose key follows"))?;
            all.push((about, None));
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            let identity: Identity = line.parse().map_err(|_| wrong("it is no age identity"))?;
            let last = all.last_mut().filter(|(_, there)| there.is_none());
            let (about, place) = last.ok_or_else(|| wrong("nothing says whose identity it is"))?;
            if identity.recipient() != about.public_key {
                return Err(wrong("the identity is another one than the line before it says"));
            }
            *place = Some(identity);
        }
    }
    if all.is_empty() { Err(RecoveryError::Export("no key is in it".to_owned())) } else { Ok(all) }
}

/// True when the tenant was not there.
pub(super) async fn ensure_tenant(
    conn: &mut AnyConnection,
    id: &TenantId,
    name: &str,
) -> Result<bool, DbError> {
    let now = xvault_core::clock::now();
    match tenants::get(conn, &Scope::All, id).await {
        Err(DbError::NotFound) => {}
        found => return found.map(|_| false),
    }
    let tenant = tenants::Tenant {
        id: id.clone(),
        name: name.to_owned(),
        plan: "free".to_owned(),
        status: Status::Active,
        created_at: now,
        updated_at: now,
    };
    tenants::insert(conn, &tenant).await?;
    Ok(true)
}

/// False when it is there already.
async fn add(
    conn: &mut AnyConnection,
    keys: &Keys,
    about: &About,
    identity: Option<&Identity>,
) -> Result<bool, RecoveryError> {
    let sealed = identity.map(|identity| keys.seal(identity.to_secret().expose_secret().as_bytes()));
    let key = TenantKey {
        id: about.key_id.clone(),
        tenant_id: about.tenant_id.clone(),
        public_key: about.public_key.clone(),
        kek_id: sealed.as_ref().map(|_| keys.current_id()),
        encrypted_private_key: sealed.transpose()?,
        purpose: about.purpose.clone(),
    };
    let added = tenant_keys::add_missing(conn, &key, &about.status, xvault_core::clock::now()).await;
    added.map_err(|error| match error {
        DbError::Duplicate => RecoveryError::Export(format!("another key has the id {} here", about.key_id)),
        error => error.into(),
    })
}

fn deed(action: &str, details: serde_json::Value) -> Deed<'_> {
    Deed { action, target_type: "tenant_keys", target_id: "all", tenant_id: None, details }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(identity: &Identity) -> About {
        About {
            tenant_id: "t1".parse().unwrap(),
            tenant_name: "acme\nAGE-SECRET-KEY-1".to_owned(),
            key_id: "k1".to_owned(),
            public_key: identity.recipient(),
            purpose: "all".to_owned(),
            status: "active".to_owned(),
        }
    }

    fn file(lines: &[String]) -> SecretString {
        SecretString::from(lines.join("\n"))
    }

    #[test]
    fn a_name_can_not_pretend_to_be_a_key() {
        let identity = Identity::generate();
        let mark = format!("{MARK}{}", json!(about(&identity)));
        let parsed = parse(&file(&[mark.clone(), identity.to_secret().expose_secret().to_owned()])).unwrap();
        assert_eq!(parsed[0].0, about(&identity));
        assert_eq!(parsed[0].1.as_ref().unwrap().recipient(), identity.recipient());
        assert!(parse(&file(&[mark])).unwrap()[0].1.is_none(), "only the tenant can use it");
    }

    #[test]
    fn what_is_no_export_is_refused_with_its_line_and_without_its_secrets() {
        let (one, other) = (Identity::generate(), Identity::generate());
        let mark = format!("{MARK}{}", json!(about(&one)));
        let secret = |identity: &Identity| identity.to_secret().expose_secret().to_owned();
        for (lines, told) in [
            (vec!["# nothing".to_owned()], "no key"),
            (vec![secret(&one)], "line 1: nothing says"),
            (vec![mark.clone(), secret(&other)], "line 2: the identity is another one"),
            (vec![mark.clone(), secret(&one), secret(&one)], "line 3: nothing says"),
            (vec![mark, "hunter2".to_owned()], "line 2: it is no age identity"),
            (vec![format!("{MARK}{{}}")], "line 1: it does not say"),
        ] {
            let error = parse(&file(&lines)).unwrap_err().to_string();
            assert!(
                error.contains(told) && !error.contains("SECRET") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
