//! What only looks: reads, sizes, listings and links, through opendal.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::Method;
use jiff::Timestamp;
use opendal::{HttpTransporter, OperationContext, Operator, services};
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::store::{Addressing, ObjectLock, S3Credential, S3Settings};

use super::answer;
use super::body::Body;
use super::client::{Call, Client, endpoint, odd};
use super::http::{Answer, Http};
use super::lock;
use super::patience::Patience;
use super::transport::Transport;
use crate::Error;
use crate::store::objects::{Objects, failed};

/// One bucket, for one credential.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    objects: Objects,
    client: Client,
    patience: Patience,
}

impl Reader {
    pub(super) fn new(
        settings: &S3Settings,
        credential: &S3Credential,
        http: &Http,
        patience: Patience,
    ) -> Result<Self, Error> {
        let operator = Operator::new(service(settings, credential));
        let operator = operator.map_err(|error| failed("open the store", &settings.bucket, error))?;
        let transport = HttpTransporter::new(Transport(http.clone()));
        let operator = operator.with_context(OperationContext::new().with_http_transport(transport));
        let client = Client::new(settings, credential, http.clone(), patience.clone());
        Ok(Self { objects: Objects::of_server(operator, http.server().clone()), client, patience })
    }

    /// What there is of `range`, in one request: opendal needs three where the object ends before the range does, as all
    /// small files do that are read whole.
    pub(super) async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let body = Body::empty();
        let mut call = Call::new("read", Method::GET, Some(key), &body);
        call.range = Some(range.clone());
        match self.client.ask(&call).await {
            Ok(answer) => part(&answer, &range).ok_or_else(|| no_range(&call)),
            Err(error) if answer::is(&error, "InvalidRange") || answer::is(&error, "HTTP 416") => {
                Ok(Bytes::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Length and tag of an object.
    pub(super) async fn look_at(&self, key: &str) -> Result<Option<(u64, Option<String>)>, Error> {
        self.patience.retrying(|_| self.objects.look_at(key)).await
    }

    /// An object's lock, if the server tells of one: it need not tell who may not know.
    pub(super) async fn lock_of(&self, key: &str) -> Result<Option<ObjectLock>, Error> {
        let body = Body::empty();
        lock::found(&self.client.ask(&Call::new("look at", Method::HEAD, Some(key), &body)).await?)
    }

    /// Whether there is anything below `prefix`.
    pub(super) async fn is_taken(&self, prefix: &str) -> Result<bool, Error> {
        self.patience
            .retrying(|_| {
                let first = async { Ok(self.objects.list(prefix).await?.try_next().await?.is_some()) };
                self.patience.awaiting(prefix, first)
            })
            .await
    }

    /// The keys below `prefix` with their times, in order. A listing that breaks off goes on behind the last key.
    pub(super) fn entries(
        &self,
        prefix: &str,
    ) -> BoxStream<'static, Result<(String, Option<Timestamp>), Error>> {
        let listing = Listing { reader: self.clone(), prefix: prefix.to_owned(), page: None, last: None };
        stream::try_unfold(listing, |mut listing| async move {
            let entry = listing.next().await?;
            Ok(entry.map(|entry| (entry, listing)))
        })
        .boxed()
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Error> {
        self.patience.retrying(|_| self.objects.delete(key)).await
    }

    pub(super) async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        self.patience.retrying(|_| self.objects.delete_all(prefix)).await
    }

    pub(super) async fn presign(&self, key: &str, expires_in: Duration) -> Result<SecretString, Error> {
        self.objects.presign_read(key, expires_in).await
    }
}

/// A server may answer with all of it, which will do when it is asked for from the start.
fn part(answer: &Answer, range: &Range<u64>) -> Option<Bytes> {
    let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(answer.body.len());
    (answer.status == 206 || range.start == 0).then(|| answer.body.slice(..wanted))
}

fn no_range(call: &Call<'_>) -> Error {
    odd(call, "it does not read in ranges")
}

type Entry = (String, Option<Timestamp>);

struct Listing {
    reader: Reader,
    prefix: String,
    page: Option<BoxStream<'static, Result<Entry, Error>>>,
    last: Option<String>,
}

impl Listing {
    async fn next(&mut self) -> Result<Option<Entry>, Error> {
        if let Some(page) = &mut self.page
            && let Ok(entry) = self.reader.patience.awaiting(&self.prefix, page.try_next()).await
        {
            return Ok(self.passed(entry));
        }
        let (Reader { objects, patience, .. }, prefix, last) =
            (&self.reader, &self.prefix, self.last.as_deref());
        let begun = |_| patience.awaiting(prefix, begin(objects, prefix, last));
        let (page, entry) = patience.retrying(begun).await?;
        self.page = Some(page);
        Ok(self.passed(entry))
    }

    fn passed(&mut self, entry: Option<Entry>) -> Option<Entry> {
        if let Some((key, _)) = &entry {
            self.last = Some(key.clone());
        }
        entry
    }
}

async fn begin(
    objects: &Objects,
    prefix: &str,
    last: Option<&str>,
) -> Result<(BoxStream<'static, Result<Entry, Error>>, Option<Entry>), Error> {
    let mut page = objects.entries(prefix, last).await?;
    let first = page.try_next().await?;
    Ok((page, first))
}

fn service(settings: &S3Settings, credential: &S3Credential) -> services::S3 {
    let service = services::S3::default()
        .bucket(&settings.bucket)
        .root(&settings.prefix)
        .region(&settings.region)
        .endpoint(&endpoint(settings))
        .access_key_id(&credential.access_key_id)
        .secret_access_key(credential.secret_access_key.expose_secret())
        .disable_config_load()
        .disable_ec2_metadata();
    let service = match &credential.session_token {
        Some(token) => service.session_token(token.expose_secret()),
        None => service,
    };
    match settings.addressing {
        Addressing::Path => service,
        Addressing::VirtualHost => service.enable_virtual_host_style(),
    }
}
