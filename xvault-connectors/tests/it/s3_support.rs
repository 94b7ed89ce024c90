//! Stores in buckets of real servers, for the tests of S3.

use std::time::Duration;

use xvault_connectors::{S3Options, S3Store, Store};
use xvault_core::store::{Addressing, S3Credential, S3Settings};
use xvault_testkit::S3Access;

/// A snapshot's place.
pub(crate) const SNAPSHOT: &str = "tenants/t/sources/s/snapshots/x";

pub(crate) fn settings(access: &S3Access) -> S3Settings {
    S3Settings {
        bucket: access.bucket.clone(),
        prefix: "some/place".into(),
        region: access.region.clone(),
        endpoint: Some(access.endpoint.clone()),
        addressing: Addressing::Path,
        ca_certificate: None,
    }
}

pub(crate) fn credential(access: &S3Access) -> S3Credential {
    S3Credential {
        access_key_id: access.access_key.clone(),
        secret_access_key: access.secret_key.clone().into(),
        session_token: access.session_token.clone().map(Into::into),
    }
}

/// Not as patient as it is by default.
pub(crate) fn options() -> S3Options {
    S3Options::default().retry_for(Duration::from_secs(30)).stall(Duration::from_secs(4))
}

pub(crate) fn store(access: &S3Access) -> S3Store {
    S3Store::new(&settings(access), &credential(access), options()).unwrap()
}

/// The same bucket through a proxy at `port`.
pub(crate) fn through(port: u16, access: &S3Access) -> S3Access {
    S3Access { endpoint: format!("http://127.0.0.1:{port}"), ..access.clone() }
}

/// Stages an object of `chunks`, and gives the error of the first step that fails.
pub(crate) async fn stage(
    store: &dyn Store,
    name: &str,
    chunks: impl IntoIterator<Item = bytes::Bytes>,
) -> Result<Box<dyn xvault_connectors::Staging>, xvault_connectors::Error> {
    let staging = store.stage(SNAPSHOT).await?;
    let mut writer = staging.writer(name).await?;
    for chunk in chunks {
        if let Err(error) = writer.write(chunk).await {
            drop(writer.abort().await);
            drop(staging.abandon().await);
            return Err(error);
        }
    }
    match writer.close().await {
        Ok(()) => Ok(staging),
        Err(error) => {
            drop(staging.abandon().await);
            Err(error)
        }
    }
}
