//! Keys of Garage for one job or one link each: they reach one tenant's bucket, and go when what they are for is over.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use xvault_core::secret::{ExposeSecret, SecretBytes, SecretString};
use xvault_core::{Disposition, JobId, S3Credential, StoreId};

use super::garage::{Garage, Reach};
use super::service::{Error, Service};
use crate::db::Scope;
use crate::db::store_keys::{self, StoreKey};
use crate::db::stores::{self, Scoping, Store};
use crate::{DbError, Hub};

/// A worker whose job is over may still have to remove what nobody wants.
const CLEANING_UP: SignedDuration = SignedDuration::from_mins(5);
/// The longest token, in bytes.
const MAX_TOKEN: usize = 1024;
/// For so long keys that ended by themselves are tried to be removed.
const ENDED: SignedDuration = SignedDuration::from_hours(24);

/// What a key is wanted for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// With the tenant's bucket in its settings: see [`Store::for_tenant`].
    pub(crate) store: &'a Store,
    /// As Garage shows it: "xvault job …".
    pub(crate) name: &'a str,
    pub(crate) reach: Reach,
    /// Whether the tenant's first use of the store may be this.
    pub(crate) makes_bucket: bool,
    /// The run of a job; none: a link.
    pub(crate) run: Option<(&'a JobId, u32)>,
    pub(crate) expires_at: Timestamp,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    #[error(transparent)]
    Service(#[from] Error),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The administration of a store that is in Garage; `token` is its secret.
fn garage<'a>(
    store: &'a Store,
    endpoint: &str,
    token: &'a SecretString,
    purpose: &'static str,
) -> Garage<'a> {
    let service = Service {
        server: endpoint.to_owned(),
        ca_certificate: store.settings.ca_certificate.as_deref(),
        purpose,
        code: "store_garage",
    };
    Garage { service, token }
}

/// A key that reaches the bucket in `wanted.store` alone. It is on record before it reaches anything. No connection to the database
/// may be held.
pub(crate) async fn issue(
    hub: &Hub,
    endpoint: &str,
    token: &SecretString,
    wanted: Wanted<'_>,
) -> Result<S3Credential, KeysError> {
    let garage = garage(wanted.store, endpoint, token, "for a key of its own");
    let bucket_id = bucket(&garage, &wanted).await?;
    let key = garage.new_key(wanted.name, wanted.expires_at).await?;
    let row = StoreKey { store_id: wanted.store.id.clone(), access_key_id: key.access_key_id.clone() };
    store_keys::insert(&mut *hub.db().conn().await?, &row, wanted.run, wanted.expires_at).await?;
    garage.allow(&bucket_id, &key.access_key_id, wanted.reach).await?;
    Ok(key)
}

async fn bucket(garage: &Garage<'_>, wanted: &Wanted<'_>) -> Result<String, Error> {
    let name = &wanted.store.settings.bucket;
    if wanted.makes_bucket {
        return garage.made_bucket(name).await;
    }
    garage.bucket(name).await?.ok_or_else(|| {
        let reason = format!("bucket {name} of the tenant is not there: was it renamed or removed?");
        garage.service.error(Disposition::Permanent, reason)
    })
}

/// Removes the keys that nobody needs any more, and gives how many were tried. The first error is given once all were tried.
pub(crate) async fn remove_useless(hub: &Hub, limit: u32) -> Result<u32, KeysError> {
    let now = hub.clock().now();
    let long_ago = |span| now.saturating_sub(span).unwrap_or(Timestamp::MIN);
    let mut conn = hub.db().conn().await?;
    store_keys::mark_over(&mut conn, now).await?;
    store_keys::forget_ended(&mut conn, long_ago(ENDED)).await?;
    let keys = store_keys::useless(&mut conn, (long_ago(CLEANING_UP), now), limit).await?;
    drop(conn);
    let (mut away, mut first) = (BTreeSet::new(), Ok(()));
    for key in &keys {
        // A server that does not answer for one key makes nobody wait for all of them.
        if away.contains(&key.store_id) {
            continue;
        }
        if let Err(error) = remove(hub, key).await {
            away.insert(key.store_id.clone());
            first = first.and(Err(error));
        }
    }
    first.map(|()| u32::try_from(keys.len()).unwrap_or(u32::MAX))
}

async fn remove(hub: &Hub, key: &StoreKey) -> Result<(), KeysError> {
    if let Some((store, endpoint, token)) = administration(hub, &key.store_id).await? {
        garage(&store, &endpoint, &token, "to delete a key").delete_key(&key.access_key_id).await?;
    }
    Ok(store_keys::delete(&mut *hub.db().conn().await?, key).await?)
}

/// None: the store is Garage's no more, and its token is not known.
async fn administration(hub: &Hub, id: &StoreId) -> Result<Option<(Store, String, SecretString)>, DbError> {
    let mut conn = hub.db().conn().await?;
    let store = match stores::get(&mut conn, &Scope::All, id).await {
        Err(DbError::NotFound) => return Ok(None),
        store => store?,
    };
    let Some(Scoping::Garage { admin_endpoint, .. }) = &store.scoping else { return Ok(None) };
    let endpoint = admin_endpoint.clone();
    let secret = stores::secret(&mut conn, id).await?;
    let plain = hub.keys().open(&secret.ciphertext, &secret.kek_id).ok();
    Ok(plain.and_then(|plain| token(&plain)).map(|token| (store, endpoint, token)))
}

/// The administration token, as a store keeps it. None: it is none.
pub(crate) fn token(secret: &SecretBytes) -> Option<SecretString> {
    let text = std::str::from_utf8(secret.expose_secret()).ok()?;
    is_token(text).then(|| text.into())
}

/// Whether it can be one.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// When a key ends that is made now for so many seconds.
pub(crate) fn end(hub: &Hub, seconds: u32) -> Timestamp {
    let span = SignedDuration::from_secs(i64::from(seconds));
    hub.clock().now().saturating_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::{StatusCode, Uri};
    use serde_json::json;

    use super::*;
    use crate::app::bench::{Bench, on_both_engines};

    /// Garage's administration on a free port, which answers everything with this status, and the keys it was asked about.
    async fn administration(status: StatusCode) -> (String, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = asked.clone();
        let answer = async move |uri: Uri| {
            noted
                .lock()
                .unwrap()
                .extend(uri.query().and_then(|text| text.strip_prefix("id=")).map(str::to_owned));
            (status, axum::Json(json!(null)))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        (address, asked)
    }

    /// A store in such a Garage, with keys of links that are over.
    async fn store(bench: &Bench, name: &str, admin_endpoint: String, keys: &[&str]) {
        let (id, hub, now) = (bench.store(name).await, &bench.hub, bench.hub.clock().now());
        let scoping = serde_json::to_string(&Scoping::Garage { admin_endpoint, key_seconds: 3600 }).unwrap();
        let mut conn = hub.db().conn().await.unwrap();
        sqlx::query("UPDATE stores SET scoping = $2, ciphertext = $3 WHERE id = $1")
            .bind(id.as_str())
            .bind(scoping)
            .bind(hub.keys().seal(b"token").unwrap())
            .execute(&mut *conn)
            .await
            .unwrap();
        for key in keys {
            let row = StoreKey { store_id: id.clone(), access_key_id: (*key).to_owned() };
            store_keys::insert(&mut conn, &row, None, now - SignedDuration::from_secs(1)).await.unwrap();
        }
    }

    async fn a_server_that_does_not_answer_is_asked_once_and_holds_up_no_other(bench: Bench) {
        let (down, asked_in_vain) = administration(StatusCode::SERVICE_UNAVAILABLE).await;
        let (up, asked) = administration(StatusCode::OK).await;
        store(&bench, "down", down, &["a", "b"]).await;
        store(&bench, "well", up, &["c"]).await;
        remove_useless(&bench.hub, 10).await.unwrap_err();
        assert_eq!(*asked_in_vain.lock().unwrap(), ["a"]);
        assert_eq!(*asked.lock().unwrap(), ["c"]);
        let (now, mut conn) = (bench.hub.clock().now(), bench.hub.db().conn().await.unwrap());
        let left = store_keys::useless(&mut conn, (now, now), 10).await.unwrap();
        assert_eq!(left.into_iter().map(|key| key.access_key_id).collect::<Vec<_>>(), ["a", "b"]);
    }

    on_both_engines!(a_server_that_does_not_answer_is_asked_once_and_holds_up_no_other);
}
