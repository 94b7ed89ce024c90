//! Signed requests to one bucket: what opendal has no call for.

use std::ops::Range;
use std::sync::Arc;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqsign_aws_v4::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use xvault_core::secret::ExposeSecret;
use xvault_core::store::{Addressing, S3Credential, S3Settings};

use super::answer::checked;
use super::body::Body;
use super::http::{Answer, Http};
use super::patience::Patience;
use crate::Error;

/// What is left as it is in a query, by the rules of the signature.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in a path.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// The longest answer that is not an object: a page of a listing.
const MAX_ANSWER: u64 = 16 << 20;

/// One bucket, for one credential.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: Http,
    signer: Signer<Credential>,
    /// Without a `/` at its end.
    bucket_url: Arc<str>,
    /// What all keys begin with: nothing, or something with a `/` at its end.
    root: Arc<str>,
    patience: Patience,
}

/// A request that may be made twice.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// For errors: "write".
    pub(super) verb: &'static str,
    pub(super) method: Method,
    /// Below the store's prefix; `None` is the bucket itself.
    pub(super) key: Option<&'a str>,
    pub(super) query: Vec<(&'static str, String)>,
    /// Besides those that every request has.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: &'a Body,
    /// What of the object is asked for, when it is less than all.
    pub(super) range: Option<Range<u64>>,
}

impl<'a> Call<'a> {
    /// Without a query.
    pub(super) fn new(verb: &'static str, method: Method, key: Option<&'a str>, body: &'a Body) -> Self {
        Self { verb, method, key, query: Vec::new(), headers: Vec::new(), body, range: None }
    }

    /// With a query, whose names are in order.
    pub(super) fn query(self, query: Vec<(&'static str, String)>) -> Self {
        Self { query, ..self }
    }

    /// With other headers, too.
    pub(super) fn headers(self, headers: Vec<(&'static str, String)>) -> Self {
        Self { headers, ..self }
    }

    /// More than is asked for is more than fits.
    fn longest_answer(&self) -> u64 {
        self.range.as_ref().map_or(0, |range| range.end - range.start).max(MAX_ANSWER)
    }
}

impl Client {
    pub(super) fn new(
        settings: &S3Settings,
        credential: &S3Credential,
        http: Http,
        patience: Patience,
    ) -> Self {
        let provider = provider(credential);
        let signer = Signer::new(Context::new(), provider, RequestSigner::new("s3", &settings.region));
        let (bucket_url, root) = (bucket_url(settings).into(), settings.object_key("").into());
        Self { http, signer, bucket_url, root, patience }
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// The key as the server knows it.
    pub(super) fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// A server's key as the store knows it.
    pub(super) fn own_key<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&*self.root)
    }

    /// Asks until there is an answer that says yes, or time has run out.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<Answer, Error> {
        self.patience.retrying(|_| self.ask_once(call)).await
    }

    pub(super) async fn ask_once(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let server = self.http.server();
        let key = call.key.unwrap_or("the bucket");
        let head = self.signed(call).await?;
        let answer = self.http.exchange(head, call.body, call.longest_answer()).await;
        let answer = answer.map_err(|error| error.into_error(server, &format!("{} {key}", call.verb)))?;
        checked(answer, server, call.verb, key)
    }

    async fn signed(&self, call: &Call<'_>) -> Result<http::request::Parts, Error> {
        let mut request = http::Request::builder()
            .method(call.method.clone())
            .uri(self.url(call))
            // Part of the signature, so that every server checks it: no byte is stored that we did not send.
            .header("x-amz-content-sha256", call.body.sha256());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(range) = &call.range {
            request = request.header(http::header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        let (mut head, ()) = request.body(()).map_err(unsigned)?.into_parts();
        self.signer.sign(&mut head, None).await.map_err(unsigned)?;
        // The HTTP library sets it, from the same address.
        head.headers.remove(http::header::HOST);
        Ok(head)
    }

    fn url(&self, call: &Call<'_>) -> String {
        let mut url = self.bucket_url.to_string();
        if let Some(key) = call.key {
            url.push('/');
            url.extend(utf8_percent_encode(&self.full_key(key), PATH));
        }
        for (index, (name, value)) in call.query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, QUERY));
        }
        url
    }
}

/// What a server should not answer.
pub(super) fn odd(call: &Call<'_>, detail: &str) -> Error {
    let key = call.key.unwrap_or("the bucket");
    Error::Protocol { server: "the S3 server".to_owned(), detail: format!("{} {key}: {detail}", call.verb) }
}

fn provider(credential: &S3Credential) -> StaticCredentialProvider {
    let secret = credential.secret_access_key.expose_secret();
    let provider = StaticCredentialProvider::new(&credential.access_key_id, secret);
    match &credential.session_token {
        Some(token) => provider.with_session_token(token.expose_secret()),
        None => provider,
    }
}

fn unsigned(error: impl std::error::Error) -> Error {
    Error::Credential(format!("the request can't be signed: {error}"))
}

/// The server's address, as in `https://s3.eu-central-1.amazonaws.com`.
pub(super) fn endpoint(settings: &S3Settings) -> String {
    match &settings.endpoint {
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None => format!("https://s3.{}.amazonaws.com", settings.region),
    }
}

fn bucket_url(settings: &S3Settings) -> String {
    let (endpoint, bucket) = (endpoint(settings), &settings.bucket);
    match settings.addressing {
        Addressing::Path => format!("{endpoint}/{bucket}"),
        Addressing::VirtualHost => endpoint.replacen("://", &format!("://{bucket}."), 1),
    }
}

/// `host:port`, for people.
pub(super) fn server(settings: &S3Settings) -> String {
    let endpoint = endpoint(settings);
    endpoint.split_once("://").map_or(endpoint.as_str(), |(_, host)| host).to_owned()
}
