//! Objects that nobody may delete or write over for a while: what requests say that make them.

use http::Method;
use jiff::Timestamp;
use xvault_core::store::{LockMode, ObjectLock};

use super::body::Body;
use super::client::{Call, Client};
use super::http::Answer;
use crate::Error;

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";

/// Of the request that makes an object, or begins its upload.
pub(super) fn headers(lock: Option<&ObjectLock>) -> Vec<(&'static str, String)> {
    let Some(lock) = lock else { return Vec::new() };
    vec![(MODE, lock.mode.as_s3().to_owned()), (UNTIL, instant(lock))]
}

/// Of the request that makes an object at once. Amazon takes no locked one without a checksum.
pub(super) fn whole(lock: Option<&ObjectLock>, body: &Body) -> Vec<(&'static str, String)> {
    let mut headers = headers(lock);
    if lock.is_some() {
        headers.push(checksum(body));
    }
    headers
}

/// Of the request that begins an upload in parts, each of which will have a checksum.
pub(super) fn upload(lock: Option<&ObjectLock>) -> Vec<(&'static str, String)> {
    let mut headers = headers(lock);
    if lock.is_some() {
        headers.push(("x-amz-checksum-algorithm", "SHA256".to_owned()));
    }
    headers
}

pub(super) fn checksum(body: &Body) -> (&'static str, String) {
    ("x-amz-checksum-sha256", body.checksum())
}

/// Until when the object is locked that an answer is about.
pub(super) fn end(answer: &Answer) -> Result<Option<Timestamp>, Error> {
    let Some(text) = answer.header(UNTIL) else { return Ok(None) };
    match text.parse() {
        Ok(until) => Ok(Some(until)),
        Err(_) => {
            Err(Error::Incomplete(format!("the server says `{}` of a lock's end", text.escape_debug())))
        }
    }
}

/// The lock of the object that an answer is about. One of a mode that S3 does not have counts as the weaker one.
pub(super) fn found(answer: &Answer) -> Result<Option<ObjectLock>, Error> {
    let is_strict = answer.header(MODE) == Some(LockMode::Compliance.as_s3());
    let mode = if is_strict { LockMode::Compliance } else { LockMode::Governance };
    Ok(end(answer)?.map(|until| ObjectLock { mode, until }))
}

/// S3 knows whole seconds.
fn instant(lock: &ObjectLock) -> String {
    lock.until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Gives an object that is there a lock, or another one: a version of it, or else the newest.
///
/// # Errors
/// When it has a longer lock, or the credential may not.
pub(super) async fn retain(
    client: &Client,
    key: &str,
    version: Option<&str>,
    lock: &ObjectLock,
) -> Result<Answer, Error> {
    let (mode, until) = (lock.mode.as_s3(), instant(lock));
    let xml = format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
         <RetainUntilDate>{until}</RetainUntilDate></Retention>"
    );
    let body = Body::of(xml.into());
    let mut query = vec![("retention", String::new())];
    query.extend(version.map(|version| ("versionId", version.to_owned())));
    let call = Call::new("change the lock of", Method::PUT, Some(key), &body).query(query);
    client.ask(&call.headers(vec![checksum(&body)])).await
}
