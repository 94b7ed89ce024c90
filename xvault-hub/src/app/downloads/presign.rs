//! Links straight into a bucket, for encrypted files: signed by the store's credential, without which nobody can make or alter one.

use std::time::Duration;

use reqsign_aws_v4::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use sqlx::AnyConnection;
use xvault_core::protocol::StoredFile;
use xvault_core::secret::ExposeSecret as _;
use xvault_core::snapshot::{ARTIFACT_NAME, INDEX_NAME};
use xvault_core::store::Addressing;
use xvault_core::{S3Credential, S3Settings, SnapshotKey, StoreId};

use super::create::escaped;
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::db::Scope;
use crate::db::downloads::Download;
use crate::db::snapshots::Snapshot;
use crate::db::stores;

/// The link to an encrypted file of a snapshot that lies in a bucket. None: the snapshot lies elsewhere, or the file is decrypted.
pub(super) async fn url(
    hub: &Hub,
    conn: &mut AnyConnection,
    snapshot: &Snapshot,
    download: &Download,
) -> Result<Option<String>> {
    let (Some(store), Some(file)) = (&snapshot.store_id, download.content.stored()) else { return Ok(None) };
    let (settings, credential) = opened(hub, conn, snapshot, store).await?;
    let key = SnapshotKey {
        tenant_id: snapshot.tenant_id.clone(),
        source_id: snapshot.source_id.clone(),
        snapshot_id: snapshot.id.clone(),
    };
    let name = match file {
        StoredFile::Artifact => ARTIFACT_NAME,
        StoredFile::Index => INDEX_NAME,
    };
    let object = settings.object_key(&format!("{}/{name}", key.prefix()));
    let span = download.expires_at.duration_since(hub.clock().now()).unsigned_abs();
    let address = address(&settings, &object, &download.file_name);
    Ok(Some(signed(&settings, &credential, &address, Duration::from_secs(span.as_secs())).await?))
}

async fn opened(
    hub: &Hub,
    conn: &mut AnyConnection,
    snapshot: &Snapshot,
    id: &StoreId,
) -> Result<(S3Settings, S3Credential)> {
    let own = Scope::Tenant(snapshot.tenant_id.clone());
    let store = stores::get(conn, &own, id).await.map_err(Error::of("store"))?;
    let secret = stores::secret(conn, id).await.map_err(Error::of("store"))?;
    let plain = hub.keys().open(&secret.ciphertext, &secret.kek_id)?;
    let credential =
        S3Credential::from_json(plain.expose_secret()).map_err(|error| Error::internal(&error))?;
    Ok((store.settings, credential))
}

/// The object's address, which asks the store to call the file by its name. Keys hold nothing that must be escaped.
fn address(settings: &S3Settings, object: &str, file_name: &str) -> String {
    let amazon = || format!("https://s3.{}.amazonaws.com", settings.region);
    let endpoint = settings.endpoint.clone().unwrap_or_else(amazon);
    let endpoint = endpoint.trim_end_matches('/');
    let place = match (settings.addressing, endpoint.split_once("://")) {
        (Addressing::VirtualHost, Some((scheme, host))) => format!("{scheme}://{}.{host}", settings.bucket),
        _ => format!("{endpoint}/{}", settings.bucket),
    };
    let named = escaped(&format!("attachment; filename*=UTF-8''{}", escaped(file_name)));
    format!("{place}/{object}?response-content-disposition={named}")
}

/// The address with a signature that is good for `span`.
async fn signed(
    settings: &S3Settings,
    credential: &S3Credential,
    address: &str,
    span: Duration,
) -> Result<String> {
    let request = axum::http::Request::get(address).body(()).map_err(|error| Error::internal(&error))?;
    let (mut head, ()) = request.into_parts();
    let secret = credential.secret_access_key.expose_secret();
    let mut provider = StaticCredentialProvider::new(&credential.access_key_id, secret);
    if let Some(token) = &credential.session_token {
        provider = provider.with_session_token(token.expose_secret());
    }
    let signer: Signer<Credential> =
        Signer::new(Context::new(), provider, RequestSigner::new("s3", &settings.region));
    signer.sign(&mut head, Some(span)).await.map_err(|error| Error::internal(&error))?;
    Ok(head.uri.to_string())
}
