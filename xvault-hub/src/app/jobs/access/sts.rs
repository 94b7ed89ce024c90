//! Credentials for one job from a store's STS: `AssumeRole` with a session policy.

use axum::http::request::Parts;
use reqsign_aws_v4::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::snapshot::hex;
use xvault_core::{Disposition, S3Credential, S3Settings};

use crate::app::stores::service::{Error, Service};

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

    fn service(&self) -> Service<'_> {
        Service {
            server: self.url(),
            ca_certificate: self.settings.ca_certificate.as_deref(),
            purpose: "for a job's credentials",
            code: "store_sts",
        }
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
    let (service, body) = (ask.service(), ask.form(policy));
    let head = signed(ask, credential, &body).await?;
    let (status, text) = service.exchange(head, body).await?;
    if status == 200 { granted(&service, &text) } else { Err(refused(&service, status, &text)) }
}

/// The head of the request, with its signature.
async fn signed(ask: &Ask<'_>, credential: &S3Credential, body: &str) -> Result<Parts, Error> {
    let broken = |error: String| {
        ask.service().error(Disposition::Permanent, format!("the request can't be signed: {error}"))
    };
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

fn granted(service: &Service<'_>, text: &str) -> Result<S3Credential, Error> {
    let read: Result<Response, _> = quick_xml::de::from_str(text);
    // What can't be read may hold the credential: none of it is repeated.
    let read = read.map_err(|_| service.error(Disposition::Permanent, "its answer is not that of an STS"))?;
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

fn refused(service: &Service<'_>, status: u16, text: &str) -> Error {
    let nested = quick_xml::de::from_str::<Refusal>(text).map(|refusal| refusal.error);
    let reason = nested.or_else(|_| quick_xml::de::from_str::<Reason>(text)).unwrap_or_default();
    service.refused(status, &format!("{} {}", reason.code, reason.message))
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
        let service = ask.service();
        assert_eq!(ask.url(), "https://sts.eu-central-1.amazonaws.com/");
        let text = "<?xml version=\"1.0\"?><AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>
            <Credentials><AccessKeyId>AK</AccessKeyId><SecretAccessKey>hunter2</SecretAccessKey><SessionToken>t0k</SessionToken>
            <Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let credential = granted(&service, text).unwrap();
        assert_eq!(
            (credential.access_key_id.as_str(), credential.secret_access_key.expose_secret()),
            ("AK", "hunter2")
        );
        let broken = granted(&service, &text.replace("AssumeRoleResult>", "Other>")).unwrap_err().to_string();
        assert!(!broken.contains("hunter2"), "{broken}");
        let text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no such role</Message></Error></ErrorResponse>";
        let error = refused(&service, 403, text);
        assert!(error.to_string().contains("HTTP 403 AccessDenied no such role"), "{error}");
        assert_eq!(error.disposition, Disposition::Permanent);
        assert_eq!(refused(&service, 503, "<html>").disposition, Disposition::Transient);
    }
}
