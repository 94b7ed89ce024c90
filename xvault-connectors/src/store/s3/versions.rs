//! Objects with all of their versions: in a bucket that keeps versions, whatever is deleted without naming one stays there, hidden.

use http::Method;
use serde::Deserialize;

use super::answer;
use super::body::Body;
use super::client::{Call, Client};
use super::multipart::{Marker, goes_on, parsed};
use crate::Error;

/// Deletes all versions of an object, and the marks of its deletions.
///
/// # Errors
/// When a version stays: it is locked, or the credential may not. [`is_unsupported`] when the server knows no versions.
pub(super) async fn delete(client: &Client, key: &str) -> Result<(), Error> {
    delete_where(client, key, |found| found == key).await
}

/// As [`delete`], for every object below `prefix`.
pub(super) async fn delete_all(client: &Client, prefix: &str) -> Result<(), Error> {
    delete_where(client, &format!("{}/", prefix.trim_end_matches('/')), |_| true).await
}

/// Whether a server has no such thing as versions.
pub(super) fn is_unsupported(error: &Error) -> bool {
    answer::is(error, "NotImplemented") || answer::is(error, "HTTP 501")
}

async fn delete_where(client: &Client, prefix: &str, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
    let mut marker = None;
    for _ in 0..MAX_PAGES {
        let page = page(client, prefix, marker.as_ref()).await?;
        for (key, id) in &page.versions {
            if wanted(key) {
                delete_version(client, key, id).await?;
            }
        }
        marker = page.next;
        if marker.is_none() {
            return Ok(());
        }
    }
    // Those that were deleted are gone: the next try goes on with the rest.
    Err(Error::Protocol {
        server: "the S3 server".to_owned(),
        detail: format!("list versions of {prefix}: there are more than a snapshot can have"),
    })
}

/// One version of an object; one that is gone is fine.
async fn delete_version(client: &Client, key: &str, id: &str) -> Result<(), Error> {
    let body = Body::empty();
    let query = vec![("versionId", id.to_owned())];
    match client.ask(&Call::new("delete", Method::DELETE, Some(key), &body).query(query)).await {
        Err(Error::NotFound(_)) => Ok(()),
        Err(error) if answer::is(&error, "NoSuchVersion") => Ok(()),
        deleted => deleted.map(drop),
    }
}

/// A page has 1000 versions; a snapshot has some objects.
const MAX_PAGES: u32 = 1000;

#[derive(Debug, Default)]
struct Page {
    /// Keys as the store knows them, each with an id.
    versions: Vec<(String, String)>,
    /// Behind this version of this key.
    next: Option<Marker>,
}

async fn page(client: &Client, prefix: &str, marker: Option<&Marker>) -> Result<Page, Error> {
    let body = Body::empty();
    let mut query = vec![("prefix", client.full_key(prefix)), ("versions", String::new())];
    if let Some((key, id)) = marker {
        query.insert(0, ("key-marker", key.clone()));
        query.insert(2, ("version-id-marker", id.clone()));
    }
    let call = Call::new("list versions of", Method::GET, None, &body).query(query);
    let listed: ListVersions = parsed(&call, &client.ask(&call).await?)?;
    let page = listed.page(client);
    goes_on(&call, marker, page.next.as_ref())?;
    Ok(page)
}

#[derive(Debug, Deserialize)]
struct ListVersions {
    #[serde(rename = "$value", default)]
    elements: Vec<Element>,
}

/// Versions and marks come mixed, in the order of their keys.
#[derive(Debug, Deserialize)]
enum Element {
    Version(VersionXml),
    DeleteMarker(VersionXml),
    IsTruncated(bool),
    NextKeyMarker(String),
    NextVersionIdMarker(String),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionXml {
    key: String,
    version_id: String,
}

impl ListVersions {
    fn page(self, client: &Client) -> Page {
        let (mut page, mut truncated, mut key, mut id) = (Page::default(), false, None, None);
        for element in self.elements {
            match element {
                Element::Version(one) | Element::DeleteMarker(one) => {
                    page.versions
                        .extend(client.own_key(&one.key).map(|key| (key.to_owned(), one.version_id)));
                }
                Element::IsTruncated(yes) => truncated = yes,
                Element::NextKeyMarker(next) => key = Some(next),
                Element::NextVersionIdMarker(next) => id = Some(next),
                Element::Other => {}
            }
        }
        page.next = key.map(|key| (key, id.unwrap_or_default())).filter(|_| truncated);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_in_any_order() {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
            <ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix>p/</Prefix>
            <KeyMarker></KeyMarker><NextKeyMarker>p/b</NextKeyMarker><NextVersionIdMarker>v9</NextVersionIdMarker>
            <MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>
            <Version><Key>p/a</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest><Owner><ID>x</ID></Owner></Version>
            <DeleteMarker><Key>p/a</Key><VersionId>v2</VersionId><IsLatest>false</IsLatest></DeleteMarker>
            <Version><Key>p/b</Key><VersionId>v3</VersionId></Version>
            <CommonPrefixes><Prefix>p/c/</Prefix></CommonPrefixes></ListVersionsResult>";
        let listed: ListVersions = quick_xml::de::from_str(xml).unwrap();
        let ids: Vec<_> = listed
            .elements
            .iter()
            .filter_map(|element| match element {
                Element::Version(one) | Element::DeleteMarker(one) => {
                    Some((one.key.as_str(), one.version_id.as_str()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(ids, [("p/a", "v1"), ("p/a", "v2"), ("p/b", "v3")]);
        let goes_on = |element: &Element| matches!(element, Element::IsTruncated(true));
        assert!(listed.elements.iter().any(goes_on), "{listed:?}");
    }
}
