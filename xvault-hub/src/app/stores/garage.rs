//! Keys and buckets of Garage, by its administration API (version 2).

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::{Disposition, S3Credential};

use super::service::{Error, Service};

/// Garage, as somebody who has its administration token sees it.
#[derive(Debug)]
pub(crate) struct Garage<'a> {
    pub(crate) service: Service<'a>,
    pub(crate) token: &'a SecretString,
}

/// What a key may do with the objects of a bucket. None may change the bucket itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Read,
    /// To write is to delete, too: Garage makes no difference.
    ReadAndWrite,
}

#[derive(Deserialize)]
struct Bucket {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    access_key_id: String,
    secret_access_key: SecretString,
}

/// A refusal.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    #[serde(skip)]
    status: u16,
    code: String,
    message: String,
}

impl Garage<'_> {
    /// The id of the bucket of that name.
    pub(crate) async fn bucket(&self, name: &str) -> Result<Option<String>, Error> {
        match self.ask::<Bucket>(Method::GET, "GetBucketInfo", &[("globalAlias", name)], None).await? {
            Ok(bucket) => Ok(Some(bucket.id)),
            Err(refusal) if refusal.code == "NoSuchBucket" => Ok(None),
            Err(refusal) => Err(self.refused(&refusal)),
        }
    }

    /// The same, made if there is none.
    pub(crate) async fn made_bucket(&self, name: &str) -> Result<String, Error> {
        if let Some(id) = self.bucket(name).await? {
            return Ok(id);
        }
        match self
            .ask::<Bucket>(Method::POST, "CreateBucket", &[], Some(json!({ "globalAlias": name })))
            .await?
        {
            Ok(bucket) => Ok(bucket.id),
            // Somebody was faster.
            Err(refusal) => self.bucket(name).await?.ok_or_else(|| self.refused(&refusal)),
        }
    }

    /// A new key, which reaches nothing yet.
    pub(crate) async fn new_key(&self, name: &str, expires_at: Timestamp) -> Result<S3Credential, Error> {
        let body = json!({ "name": name, "expiration": expires_at.to_string() });
        let key: Key = self.done(self.ask(Method::POST, "CreateKey", &[], Some(body)).await?)?;
        Ok(S3Credential {
            access_key_id: key.access_key_id,
            secret_access_key: key.secret_access_key,
            session_token: None,
        })
    }

    /// Lets the key do this in the bucket.
    pub(crate) async fn allow(&self, bucket_id: &str, key_id: &str, reach: Reach) -> Result<(), Error> {
        let permissions = json!({ "read": true, "write": reach == Reach::ReadAndWrite, "owner": false });
        let body = json!({ "bucketId": bucket_id, "accessKeyId": key_id, "permissions": permissions });
        self.done(self.ask::<Value>(Method::POST, "AllowBucketKey", &[], Some(body)).await?).map(drop)
    }

    /// From now on nobody gets in with it. One that is gone is fine.
    pub(crate) async fn delete_key(&self, key_id: &str) -> Result<(), Error> {
        match self.ask::<Value>(Method::POST, "DeleteKey", &[("id", key_id)], None).await? {
            Err(refusal) if refusal.code == "NoSuchAccessKey" => Ok(()),
            said => self.done(said).map(drop),
        }
    }

    fn done<T>(&self, said: Result<T, Refusal>) -> Result<T, Error> {
        said.map_err(|refusal| self.refused(&refusal))
    }

    fn refused(&self, refusal: &Refusal) -> Error {
        let Refusal { status, code, message } = refusal;
        let remedy = match status {
            401 | 403 => "; is `admin_token` right, and allowed to do this?",
            404 if code.is_empty() => "; is `admin_endpoint` the administration API of Garage 2 or later?",
            _ => "",
        };
        self.service.refused(*status, &format!("{code} {message}{remedy}"))
    }

    /// What it answers, or how it refuses.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        call: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Result<T, Refusal>, Error> {
        let head = self.head(method, call, query)?;
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let (status, text) = self.service.exchange(head, body).await?;
        if status != 200 {
            let refusal: Refusal = serde_json::from_str(&text).unwrap_or_default();
            return Ok(Err(Refusal { status, ..refusal }));
        }
        // What can't be read may hold a secret: none of it is repeated.
        let odd =
            |_| self.service.error(Disposition::Permanent, format!("its answer to {call} is not Garage's"));
        serde_json::from_str(&text).map(Ok).map_err(odd)
    }

    fn head(&self, method: Method, call: &str, query: &[(&str, &str)]) -> Result<Parts, Error> {
        let broken = || self.service.error(Disposition::Permanent, "its address or the token is none");
        let address = format!("{}/v2/{call}", self.service.server.trim_end_matches('/'));
        let mut url = Url::parse(&address).map_err(|_| broken())?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let bearer = HeaderValue::try_from(format!("Bearer {}", self.token.expose_secret()));
        let mut bearer = bearer.map_err(|_| broken())?;
        bearer.set_sensitive(true);
        let request = axum::http::Request::builder().method(method).uri(url.as_str());
        let request = request.header(header::AUTHORIZATION, bearer).body(()).map_err(|_| broken())?;
        Ok(request.into_parts().0)
    }
}
