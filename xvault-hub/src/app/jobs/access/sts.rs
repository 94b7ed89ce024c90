//! Credentials for one job from a store's STS: `AssumeRole` with a session policy.

use std::time::Duration;

use reqsign_aws_v4::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use xvault_core::error::chain;
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::snapshot::hex;
use xvault_core::{Disposition, S3Credential, S3Settings};

/// How long the service may take: a worker waits for its assignment.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer.
const MAX_ANSWER: usize = 64 << 10;
/// The longest text of a server that is repeated, in characters.
const MAX_SHOWN: usize = 300;

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
#[error("ask {server} for a job's credentials: {reason}")]
pub(in crate::app::jobs) struct Error {
    server: String,
    reason: String,
    /// Whether another try may help.
    pub(in crate::app::jobs) disposition: Disposition,
}

/// What is asked for.
pub(super) struct Ask<'a> {
    /// Of the store: its region and its certificates are the service's, too.
    pub(super) settings: &'a S3Settings,
    /// Address of the service; the store's when absent.
    pub(super) endpoint: Option<&'a str>,
    pub(super) role_arn: &'a str,
    pub(super) seconds: u32,
    /// Shows in the service's own records.
    pub(super) session: &'a str,
}

impl Ask<'_> {
    fn url(&self) -> String {
        match self.endpoint.or(self.settings.endpoint.as_deref()) {
            Some(endpoint) => format!("{}/", endpoint.trim_end_matches('/')),
            None => format!("https://sts.{}.amazonaws.com/", self.settings.region),
        }
    }

    fn error(&self, disposition: Disposition, reason: impl Into<String>) -> Error {
        Error { server: self.url(), reason: reason.into(), disposition }
    }

    fn form(&self, policy: &Value) -> String {
        let mut url = Url::parse("http://form/").ok();
        if let Some(url) = &mut url {
            url.query_pairs_mut()
                .append_pair("Action", "AssumeRole")
                .append_pair("Version", "2011-06-15")
                .append_pair("RoleArn", self.role_arn)
                .append_pair("RoleSessionName", self.session)
                .append_pair("DurationSeconds", &self.seconds.to_string())
                .append_pair("Policy", &policy.to_string());
        }
        url.and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
    }
}

/// A credential that may do what `policy` says, for as long as is asked for.
pub(super) async fn assume_role(
    ask: &Ask<'_>,
    credential: &S3Credential,
    policy: &Value,
) -> Result<S3Credential, Error> {
    let body = ask.form(policy);
    let request = signed(ask, credential, &body).await?;
    let (status, text) = match tokio::time::timeout(PATIENCE, exchange(ask, request, body)).await {
        Ok(answered) => answered?,
        Err(_) => return Err(ask.error(Disposition::Transient, format!("no answer within {PATIENCE:?}"))),
    };
    if status == 200 { granted(ask, &text) } else { Err(refused(ask, status, &text)) }
}

/// The head of the request, with its signature.
async fn signed(
    ask: &Ask<'_>,
    credential: &S3Credential,
    body: &str,
) -> Result<axum::http::request::Parts, Error> {
    let broken =
        |error: String| ask.error(Disposition::Permanent, format!("the request can't be signed: {error}"));
    let request = axum::http::Request::post(ask.url())
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-amz-content-sha256", hex(&Sha256::digest(body.as_bytes())))
        .body(())
        .map_err(|error| broken(error.to_string()))?;
    let (mut head, ()) = request.into_parts();
    let mut provider = StaticCredentialProvider::new(
        &credential.access_key_id,
        credential.secret_access_key.expose_secret(),
    );
    if let Some(token) = &credential.session_token {
        provider = provider.with_session_token(token.expose_secret());
    }
    let signer: Signer<Credential> =
        Signer::new(Context::new(), provider, RequestSigner::new("sts", &ask.settings.region));
    signer.sign(&mut head, None).await.map_err(|error| broken(error.to_string()))?;
    // The HTTP library sets it, from the same address.
    head.headers.remove(axum::http::header::HOST);
    Ok(head)
}

async fn exchange(
    ask: &Ask<'_>,
    head: axum::http::request::Parts,
    body: String,
) -> Result<(u16, String), Error> {
    let unanswered = |error: reqwest::Error| ask.error(Disposition::Transient, chain(&error.without_url()));
    let request = client(ask)?.post(head.uri.to_string()).headers(head.headers).body(body);
    let mut response = request.send().await.map_err(unanswered)?;
    let (status, mut text) = (response.status().as_u16(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        if text.len() + chunk.len() > MAX_ANSWER {
            return Err(ask.error(Disposition::Permanent, "its answer is too long for an STS"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

fn client(ask: &Ask<'_>) -> Result<reqwest::Client, Error> {
    let unfit = |error: reqwest::Error| ask.error(Disposition::Permanent, chain(&error));
    // Somebody else may have chosen a provider for the whole program: that one is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    // A signature is good for one address; and what the answer leads to is none of ours.
    let mut client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    if let Some(pem) = &ask.settings.ca_certificate {
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(unfit)?);
    }
    client.build().map_err(unfit)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    assume_role_result: Assumed,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    credentials: Keys,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Keys {
    access_key_id: String,
    secret_access_key: SecretString,
    session_token: SecretString,
}

fn granted(ask: &Ask<'_>, text: &str) -> Result<S3Credential, Error> {
    let read: Result<Response, _> = quick_xml::de::from_str(text);
    // What can't be read may hold the credential: none of it is repeated.
    let read = read.map_err(|_| ask.error(Disposition::Permanent, "its answer is not that of an STS"))?;
    let Keys { access_key_id, secret_access_key, session_token } = read.assume_role_result.credentials;
    Ok(S3Credential { access_key_id, secret_access_key, session_token: Some(session_token) })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    error: Reason,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Reason {
    code: String,
    message: String,
}

fn refused(ask: &Ask<'_>, status: u16, text: &str) -> Error {
    let nested = quick_xml::de::from_str::<Refusal>(text).map(|refusal| refusal.error);
    let reason = nested.or_else(|_| quick_xml::de::from_str::<Reason>(text)).unwrap_or_default();
    let said: String = format!("{} {}", reason.code, reason.message).chars().take(MAX_SHOWN).collect();
    let passing = matches!(status, 408 | 429 | 500..=599);
    let disposition = if passing { Disposition::Transient } else { Disposition::Permanent };
    ask.error(disposition, format!("HTTP {status} {}", said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> S3Settings {
        serde_json::from_value(json!({ "bucket": "backups", "region": "eu-central-1" })).unwrap()
    }

    fn ask(settings: &S3Settings) -> Ask<'_> {
        Ask { settings, endpoint: None, role_arn: "arn:aws:iam::1:role/x", seconds: 900, session: "xvault" }
    }

    #[test]
    fn an_answer_is_read_and_a_refusal_told() {
        let settings = settings();
        let ask = ask(&settings);
        assert_eq!(ask.url(), "https://sts.eu-central-1.amazonaws.com/");
        let text = "<?xml version=\"1.0\"?><AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>
            <Credentials><AccessKeyId>AK</AccessKeyId><SecretAccessKey>hunter2</SecretAccessKey><SessionToken>t0k</SessionToken>
            <Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let credential = granted(&ask, text).unwrap();
        assert_eq!(
            (credential.access_key_id.as_str(), credential.secret_access_key.expose_secret()),
            ("AK", "hunter2")
        );
        let broken = granted(&ask, &text.replace("AssumeRoleResult>", "Other>")).unwrap_err().to_string();
        assert!(!broken.contains("hunter2"), "{broken}");
        let text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no such role</Message></Error></ErrorResponse>";
        let error = refused(&ask, 403, text);
        assert!(error.to_string().contains("HTTP 403 AccessDenied no such role"), "{error}");
        assert_eq!(error.disposition, Disposition::Permanent);
        assert_eq!(refused(&ask, 503, "<html>").disposition, Disposition::Transient);
    }
}
