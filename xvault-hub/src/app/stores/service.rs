//! What the hub itself asks of services beside a store, whose addresses operators gave: little, and of nobody else.

use std::time::Duration;

use axum::http::request::Parts;
use xvault_core::Disposition;
use xvault_core::error::chain;

/// How long a service may take: a worker waits for its assignment.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer.
const MAX_ANSWER: usize = 64 << 10;
/// The longest text of a server that is repeated, in characters.
const MAX_SHOWN: usize = 300;

/// Why a service did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("ask {server} {purpose}: {reason}")]
pub(crate) struct Error {
    server: String,
    purpose: &'static str,
    reason: String,
    /// Whether another try may help.
    pub(crate) disposition: Disposition,
    /// A word for programs.
    pub(crate) code: &'static str,
}

impl Error {
    /// As anybody may read it: without the service's address.
    pub(crate) fn unaddressed(&self) -> String {
        let place = self.server.split_once("://").map_or(self.server.as_str(), |(_, place)| place);
        let place = place.split('/').next().unwrap_or_default();
        let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
        let hidden = [self.server.as_str(), place, host].into_iter().filter(|part| !part.is_empty());
        let reason = hidden.fold(self.reason.clone(), |text, part| text.replace(part, "the service"));
        format!("ask the store's service {}: {reason}", self.purpose)
    }
}

/// A service, and what it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Service<'a> {
    /// Its address.
    pub(crate) server: String,
    /// PEM of the only authorities that its certificate may be of; the system's when absent.
    pub(crate) ca_certificate: Option<&'a str>,
    /// For people: "for a job's credentials".
    pub(crate) purpose: &'static str,
    pub(crate) code: &'static str,
}

impl Service<'_> {
    pub(crate) fn error(&self, disposition: Disposition, reason: impl Into<String>) -> Error {
        let (server, purpose, code) = (self.server.clone(), self.purpose, self.code);
        Error { server, purpose, reason: reason.into(), disposition, code }
    }

    /// What a refusal means: `said` is what the service said about it.
    pub(crate) fn refused(&self, status: u16, said: &str) -> Error {
        let passing = matches!(status, 408 | 429 | 500..=599);
        let disposition = if passing { Disposition::Transient } else { Disposition::Permanent };
        let said: String = said.trim().chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
        self.error(disposition, format!("HTTP {status} {said}").trim_end())
    }

    /// Status and text of the answer.
    pub(crate) async fn exchange(&self, head: Parts, body: String) -> Result<(u16, String), Error> {
        match tokio::time::timeout(PATIENCE, self.answer(head, body)).await {
            Ok(answered) => answered,
            Err(_) => Err(self.error(Disposition::Transient, format!("no answer within {PATIENCE:?}"))),
        }
    }

    async fn answer(&self, head: Parts, body: String) -> Result<(u16, String), Error> {
        let unanswered =
            |error: reqwest::Error| self.error(Disposition::Transient, chain(&error.without_url()));
        let request = self.client()?.request(head.method, head.uri.to_string());
        let mut response = request.headers(head.headers).body(body).send().await.map_err(unanswered)?;
        let (status, mut text) = (response.status().as_u16(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
            if text.len() + chunk.len() > MAX_ANSWER {
                return Err(self.error(Disposition::Permanent, "its answer is too long"));
            }
            text.extend_from_slice(&chunk);
        }
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    fn client(&self) -> Result<reqwest::Client, Error> {
        let unfit = |error: reqwest::Error| self.error(Disposition::Permanent, chain(&error));
        // Somebody else may have chosen a provider for the whole program: that one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        // What is shown to one address is for no other; and what the answer leads to is none of ours.
        let mut client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        if let Some(pem) = self.ca_certificate {
            client =
                client.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(unfit)?);
        }
        client.build().map_err(unfit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is signed for one server, or shown to it, is for no other; and where an answer leads is for nobody to say.
    #[tokio::test]
    async fn nobody_is_led_elsewhere() {
        let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}/", elsewhere.local_addr().unwrap());
        for status in [301, 302, 303, 307, 308] {
            let answer =
                format!("HTTP/1.1 {status} Moved\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
            let (server, asked) = answering(answer).await;
            let service = Service {
                server: server.clone(),
                ca_certificate: None,
                purpose: "for a job's credentials",
                code: "store_sts",
            };
            let request = axum::http::Request::post(server).header("authorization", "AWS4-HMAC-SHA256 x");
            let (head, ()) = request.body(()).unwrap().into_parts();
            let (answered, _) = service.exchange(head, "Action=AssumeRole".to_owned()).await.unwrap();
            assert_eq!((answered, asked.await.unwrap()), (status, true));
            let refused = service.refused(answered, "");
            assert_eq!(refused.disposition, Disposition::Permanent, "{refused}");
        }
        let led = tokio::time::timeout(Duration::from_millis(100), elsewhere.accept()).await;
        assert!(led.is_err(), "somebody else was asked: {led:?}");
    }

    /// A server that gives one answer, and whether its request was signed.
    async fn answering(answer: String) -> (String, tokio::task::JoinHandle<bool>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}/", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut line, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = line.read(&mut head).await.unwrap();
            line.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&head[..read]).contains("authorization: AWS4-HMAC-SHA256")
        });
        (server, asked)
    }

    #[test]
    fn what_anybody_may_read_has_no_address() {
        let (server, purpose) = ("https://sts.internal:8333/".to_owned(), "for a job's credentials");
        let service = Service { server, ca_certificate: None, purpose, code: "store_sts" };
        let reason = "certificate not valid for name sts.internal; see https://sts.internal:8333/help";
        let text = service.error(Disposition::Permanent, reason).unaddressed();
        assert_eq!(
            text,
            "ask the store's service for a job's credentials: certificate not valid for name the service; see the servicehelp"
        );
    }

    #[test]
    fn a_refusal_names_the_server_and_passes_or_does_not() {
        let service = Service {
            server: "http://s/".into(),
            ca_certificate: None,
            purpose: "for a job's credentials",
            code: "store_sts",
        };
        let error = service.refused(403, "AccessDenied no\nsuch role ");
        assert_eq!(
            error.to_string(),
            "ask http://s/ for a job's credentials: HTTP 403 AccessDenied nosuch role"
        );
        assert_eq!(error.disposition, Disposition::Permanent);
        assert_eq!(service.refused(503, "").disposition, Disposition::Transient);
        assert!(service.refused(400, &"x".repeat(1000)).to_string().len() < 400);
    }
}
