//! The hub's HTTP API, as a program sees it that keeps its connections.

use anyhow::{Context as _, bail};
use reqwest::{Client, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The hub, as seen by one who shows one token.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    base: String,
    token: Option<String>,
}

impl Api {
    /// The hub at `base` (`http://127.0.0.1:8080`), for one who is not logged in.
    pub(crate) fn new(base: String) -> anyhow::Result<Self> {
        drop(rustls::crypto::ring::default_provider().install_default());
        Ok(Self { client: Client::builder().no_proxy().build()?, base, token: None })
    }

    /// The same with another token, and with connections of its own.
    pub(crate) fn with_token(&self, token: &str) -> anyhow::Result<Self> {
        Ok(Self { token: Some(token.to_owned()), ..Self::new(self.base.clone())? })
    }

    /// Logs in.
    pub(crate) async fn login(&self, email: &str, password: &str) -> anyhow::Result<Self> {
        let body = json!({"email": email, "password": password});
        let session: Value = self.post("/api/v1/auth/login", &body).await?;
        self.with_token(text(&session, "access_token")?)
    }

    /// The bytes of an answer, which must say that all is well.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<Vec<u8>> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.with_context(|| path.to_owned())?;
        let status = answer.status();
        let bytes = answer.bytes().await.with_context(|| path.to_owned())?;
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&bytes));
        }
        Ok(bytes.into())
    }

    /// `GET`
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let bytes = self.send(Method::GET, path, None).await?;
        serde_json::from_slice(&bytes).with_context(|| path.to_owned())
    }

    /// `POST`
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let bytes = self.send(Method::POST, path, Some(serde_json::to_vec(body)?)).await?;
        serde_json::from_slice(&bytes).with_context(|| path.to_owned())
    }
}

/// A field of an answer that holds text.
pub(crate) fn text<'a>(answer: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    let found = answer.get(field).and_then(Value::as_str);
    found.with_context(|| format!("an answer without `{field}`"))
}
