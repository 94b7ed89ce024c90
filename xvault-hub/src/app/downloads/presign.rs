//! Links straight into a bucket, for encrypted files: signed, so that nobody else can make or alter one.

use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use reqsign_aws_v4::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use sqlx::AnyConnection;
use xvault_core::error::chain;
use xvault_core::protocol::StoredFile;
use xvault_core::secret::{ExposeSecret as _, SecretBytes};
use xvault_core::snapshot::{ARTIFACT_NAME, INDEX_NAME};
use xvault_core::store::Addressing;
use xvault_core::{S3Credential, S3Settings, SnapshotKey};

use super::create::escaped;
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::app::jobs::ReadingByLink;
use crate::app::stores::garage::Reach;
use crate::app::stores::keys::{self, KeysError};
use crate::app::stores::service;
use crate::db::Scope;
use crate::db::downloads::Download;
use crate::db::snapshots::Snapshot;
use crate::db::stores::{self, Scoping, Store};

/// After how long whoever wants a link may ask again.
const RETRY_SECONDS: u64 = 10;
/// No STS gives a shorter session, in seconds.
const SHORTEST_SESSION: u32 = 900;

/// An object in a bucket, with what links to it are signed with.
pub(super) struct Direct {
    store: Store,
    secret: SecretBytes,
    object: String,
}

/// The encrypted file of a snapshot that lies in a bucket. None: the snapshot lies elsewhere, or the file is decrypted.
pub(super) async fn direct(
    hub: &Hub,
    conn: &mut AnyConnection,
    snapshot: &Snapshot,
    download: &Download,
) -> Result<Option<Direct>> {
    let (Some(id), Some(file)) = (&snapshot.store_id, download.content.stored()) else { return Ok(None) };
    let own = Scope::Tenant(snapshot.tenant_id.clone());
    let store = stores::get(conn, &own, id).await.map_err(Error::of("store"))?;
    let sealed = stores::secret(conn, id).await.map_err(Error::of("store"))?;
    let secret = hub.keys().open(&sealed.ciphertext, &sealed.kek_id)?;
    let key = SnapshotKey {
        tenant_id: snapshot.tenant_id.clone(),
        source_id: snapshot.source_id.clone(),
        snapshot_id: snapshot.id.clone(),
    };
    let name = match file {
        StoredFile::Artifact => ARTIFACT_NAME,
        StoredFile::Index => INDEX_NAME,
    };
    let store = store.for_tenant(&snapshot.tenant_id);
    let object = store.settings.object_key(&format!("{}/{name}", key.prefix()));
    Ok(Some(Direct { store, secret, object }))
}

impl Direct {
    /// The link. No connection to the database may be held: the store's service may be asked for a key.
    pub(super) async fn url(&self, hub: &Hub, download: &Download) -> Result<String> {
        let (settings, credential) = (&self.store.settings, self.credential(hub, download).await?);
        let span = download.expires_at.duration_since(hub.clock().now()).unsigned_abs();
        let address = address(settings, &self.object, &download.file_name);
        signed(settings, &credential, &address, Duration::from_secs(span.as_secs())).await
    }

    /// The link ends with what it is signed with.
    pub(super) fn bounded(&self, hub: &Hub, download: Download) -> Download {
        let Some(scoping @ Scoping::Sts { .. }) = &self.store.scoping else { return download };
        let end = hub.clock().now().saturating_add(scoping.lifetime()).unwrap_or(Timestamp::MAX);
        let end = Timestamp::from_second(end.as_second()).unwrap_or(end);
        Download { expires_at: download.expires_at.min(end), ..download }
    }

    /// What reads the object and no more, where the store has a service for that: its own credential need not be allowed to read
    /// there, and may be a token that signs nothing.
    async fn credential(&self, hub: &Hub, download: &Download) -> Result<S3Credential> {
        let granted = match &self.store.scoping {
            None => Ok(self.own()?),
            Some(Scoping::Sts { role_arn, endpoint, session_seconds }) => {
                let role = (role_arn.as_str(), endpoint.as_deref(), *session_seconds);
                self.by_sts(hub, download, role).await?.map_err(KeysError::Service)
            }
            Some(Scoping::Garage { admin_endpoint, .. }) => {
                self.by_garage(hub, download, admin_endpoint).await?
            }
        };
        granted.map_err(|error| match error {
            KeysError::Service(error) => self.no_key(&error),
            KeysError::Db(error) => error.into(),
        })
    }

    fn own(&self) -> Result<S3Credential> {
        S3Credential::from_json(self.secret.expose_secret()).map_err(|error| Error::internal(&error))
    }

    async fn by_sts(
        &self,
        hub: &Hub,
        download: &Download,
        (role_arn, endpoint, longest): (&str, Option<&str>, u32),
    ) -> Result<std::result::Result<S3Credential, service::Error>> {
        let life = download.expires_at.duration_since(hub.clock().now()).as_secs();
        let reading = ReadingByLink {
            settings: &self.store.settings,
            role_arn,
            endpoint,
            object: &self.object,
            seconds: u32::try_from(life + 1).unwrap_or(longest).clamp(SHORTEST_SESSION.min(longest), longest),
            session: &format!("xvault-link-{}", download.id),
        };
        Ok(reading.granted(&self.own()?).await)
    }

    async fn by_garage(
        &self,
        hub: &Hub,
        download: &Download,
        endpoint: &str,
    ) -> Result<std::result::Result<S3Credential, KeysError>> {
        let wanted = keys::Wanted {
            store: &self.store,
            name: &format!("xvault link {}", download.id),
            reach: Reach::Read,
            makes_bucket: false,
            run: None,
            expires_at: download.expires_at,
        };
        let token = keys::token(&self.secret).ok_or_else(|| no_key("store_garage"))?;
        Ok(keys::issue(hub, endpoint, &token, wanted).await)
    }

    fn no_key(&self, error: &service::Error) -> Error {
        // Where the platform's stores are is none of a tenant's business.
        tracing::warn!(store_id = %self.store.id, error = %chain(error), "there is no key for a link");
        no_key(error.code)
    }
}

/// Nothing is wrong with the request, nor with the hub.
fn no_key(code: &'static str) -> Error {
    let message = "the snapshot's store gives no key for a link now; try again, or ask the operator";
    Error::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(RETRY_SECONDS)
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
