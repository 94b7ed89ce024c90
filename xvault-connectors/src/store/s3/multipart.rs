//! The requests of a multipart upload.

use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use xvault_core::store::ObjectLock;

use super::answer;
use super::body::Body;
use super::client::{Call, Client, odd};
use super::http::Answer;
use super::lock;
use super::reader::Reader;
use crate::Error;

/// An upload has 10,000 parts at most, and a page 1000 of them unless the server likes smaller ones.
const MAX_PAGES_OF_PARTS: u32 = 200;

/// A part that the server has.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) number: u32,
    etag: String,
    /// Of a locked object's parts.
    checksum: Option<String>,
}

/// An upload that nobody has finished.
#[derive(Debug, Clone)]
pub(super) struct Unfinished {
    /// As the store knows it.
    pub(super) key: String,
    pub(super) id: String,
    pub(super) begun: Timestamp,
}

/// Begins an upload and gives its id.
pub(super) async fn create(client: &Client, key: &str, lock: Option<&ObjectLock>) -> Result<String, Error> {
    let body = Body::empty();
    let query = vec![("uploads", String::new())];
    let call = Call::new("begin to write", Method::POST, Some(key), &body).query(query);
    let call = call.headers(lock::upload(lock));
    let created: Created = parsed(&call, &client.ask(&call).await?)?;
    Ok(created.upload_id)
}

/// Uploads one part, of an object that will be locked with its checksum; again and again, while that may help.
pub(super) async fn put_part(
    client: &Client,
    (key, locked): (&str, bool),
    id: &str,
    number: u32,
    body: Body,
) -> Result<Part, Error> {
    let query = vec![("partNumber", number.to_string()), ("uploadId", id.to_owned())];
    let checksum = locked.then(|| body.checksum());
    let headers = locked.then(|| lock::checksum(&body)).into_iter().collect();
    let call = Call::new("write a part of", Method::PUT, Some(key), &body).query(query).headers(headers);
    let answer = client.ask(&call).await?;
    let etag = answer.header("etag").ok_or_else(|| odd(&call, "it gives no ETag for a part"))?;
    Ok(Part { number, etag: etag.to_owned(), checksum })
}

/// Makes the object of `parts`, which has `size` bytes then; gives its tag.
///
/// When an answer is lost, the next one is that there is no such upload: then the object tells whether it was finished.
pub(super) async fn complete(
    client: &Client,
    reader: &Reader,
    key: &str,
    (id, size): (&str, u64),
    parts: &[Part],
) -> Result<Option<String>, Error> {
    let body = Body::of(complete_xml(parts)?.into());
    let query = vec![("uploadId", id.to_owned())];
    let call = Call::new("finish", Method::POST, Some(key), &body).query(query);
    let completed = client.patience().retrying(|count| {
        let call = &call;
        async move {
            match client.ask_once(call).await {
                Err(error) if count > 0 && answer::is(&error, "NoSuchUpload") => {
                    finished(reader, key, size, error).await
                }
                answer => Ok(etag_of(&answer?)),
            }
        }
    });
    completed.await
}

async fn finished(reader: &Reader, key: &str, size: u64, error: Error) -> Result<Option<String>, Error> {
    match reader.look_at(key).await? {
        Some((found, etag)) if found == size => Ok(etag),
        _ => Err(error),
    }
}

/// Ends an upload and frees what it holds. One that is gone is fine.
pub(super) async fn end(client: &Client, key: &str, id: &str) -> Result<(), Error> {
    let body = Body::empty();
    let query = vec![("uploadId", id.to_owned())];
    let call = Call::new("give up writing", Method::DELETE, Some(key), &body).query(query);
    match client.ask(&call).await {
        Err(error) if answer::is(&error, "NoSuchUpload") || matches!(error, Error::NotFound(_)) => Ok(()),
        answer => answer.map(drop),
    }
}

/// A page of the unfinished uploads of keys that begin with `prefix`.
#[derive(Debug)]
pub(super) struct UploadsPage {
    pub(super) uploads: Vec<Unfinished>,
    /// What the server's clock showed.
    pub(super) now: Timestamp,
    /// Where the next one begins.
    pub(super) next: Option<Marker>,
}

/// Behind this upload of this key.
pub(super) type Marker = (String, String);

/// The page behind `marker`. That the server goes on is checked: one that gives the same page for ever is odd.
pub(super) async fn list(
    client: &Client,
    prefix: &str,
    marker: Option<&Marker>,
) -> Result<UploadsPage, Error> {
    let body = Body::empty();
    let mut query = vec![("prefix", client.full_key(prefix)), ("uploads", String::new())];
    if let Some((key, id)) = marker {
        query.insert(0, ("key-marker", key.clone()));
        query.push(("upload-id-marker", id.clone()));
    }
    let call = Call::new("list uploads of", Method::GET, None, &body).query(query);
    let answer = client.ask(&call).await?;
    let page: Uploads = parsed(&call, &answer)?;
    let next = page.next_key_marker.zip(page.next_upload_id_marker).filter(|_| page.is_truncated);
    goes_on(&call, marker, next.as_ref())?;
    let uploads = page.upload.into_iter().filter_map(|upload| upload.unfinished(client)).collect();
    Ok(UploadsPage { uploads, now: server_time(&answer), next })
}

/// A listing that does not get on would never end.
pub(super) fn goes_on<T: PartialEq>(
    call: &Call<'_>,
    marker: Option<&T>,
    next: Option<&T>,
) -> Result<(), Error> {
    if next.is_some() && next == marker {
        return Err(odd(call, "its listing does not get on"));
    }
    Ok(())
}

/// When something was last written to an upload.
pub(super) async fn last_written(client: &Client, upload: &Unfinished) -> Result<Timestamp, Error> {
    let (mut newest, mut marker) = (upload.begun, None::<String>);
    for _ in 0..MAX_PAGES_OF_PARTS {
        let body = Body::empty();
        let mut query = vec![("uploadId", upload.id.clone())];
        if let Some(marker) = &marker {
            query.insert(0, ("part-number-marker", marker.clone()));
        }
        let call = Call::new("look at parts of", Method::GET, Some(&upload.key), &body).query(query);
        let page: Parts = parsed(&call, &client.ask(&call).await?)?;
        let times = page.part.iter().filter_map(|part| part.last_modified.parse().ok());
        newest = times.fold(newest, Timestamp::max);
        marker = page.next_part_number_marker.filter(|_| page.is_truncated);
        if marker.is_none() {
            return Ok(newest);
        }
    }
    let body = Body::empty();
    Err(odd(
        &Call::new("look at parts of", Method::GET, Some(&upload.key), &body),
        "it has more parts than there can be",
    ))
}

/// Ages are told by the clock that the times are of.
pub(super) fn server_time(answer: &Answer) -> Timestamp {
    let date = answer.header("date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    date.map_or_else(xvault_core::clock::now, |date| date.timestamp())
}

fn etag_of(answer: &Answer) -> Option<String> {
    let text = std::str::from_utf8(&answer.body).ok()?;
    quick_xml::de::from_str::<Completed>(text).ok()?.e_tag
}

pub(super) fn complete_xml(parts: &[Part]) -> Result<String, Error> {
    let part = parts
        .iter()
        .map(|part| CompletePart {
            part_number: part.number,
            e_tag: part.etag.clone(),
            checksum: part.checksum.clone(),
        })
        .collect();
    let xml = quick_xml::se::to_string(&CompleteUpload { part });
    xml.map_err(|error| Error::io("make a request")(std::io::Error::other(error)))
}

pub(super) fn parsed<T: for<'de> Deserialize<'de>>(call: &Call<'_>, answer: &Answer) -> Result<T, Error> {
    let text = std::str::from_utf8(&answer.body).map_err(|error| odd(call, &error.to_string()))?;
    quick_xml::de::from_str(text).map_err(|error| odd(call, &error.to_string()))
}

#[derive(Debug, Deserialize)]
struct Created {
    #[serde(rename = "UploadId")]
    upload_id: String,
}

#[derive(Debug, Deserialize)]
struct Completed {
    #[serde(rename = "ETag", default)]
    e_tag: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename = "CompleteMultipartUpload")]
struct CompleteUpload {
    #[serde(rename = "Part")]
    part: Vec<CompletePart>,
}

#[derive(Debug, Serialize)]
struct CompletePart {
    #[serde(rename = "PartNumber")]
    part_number: u32,
    #[serde(rename = "ETag")]
    e_tag: String,
    #[serde(rename = "ChecksumSHA256", skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Uploads {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: Option<String>,
    #[serde(default)]
    next_upload_id_marker: Option<String>,
    #[serde(default)]
    upload: Vec<UploadXml>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadXml {
    key: String,
    upload_id: String,
    #[serde(default)]
    initiated: String,
}

impl UploadXml {
    /// Without a time it can't be told from one that was just begun.
    fn unfinished(self, client: &Client) -> Option<Unfinished> {
        let key = client.own_key(&self.key)?.to_owned();
        Some(Unfinished { key, id: self.upload_id, begun: self.initiated.parse().ok()? })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parts {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_part_number_marker: Option<String>,
    #[serde(default)]
    part: Vec<PartXml>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PartXml {
    #[serde(default)]
    last_modified: String,
}
