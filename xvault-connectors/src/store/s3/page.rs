//! Pages of listings as servers give them, before opendal reads them: it takes for granted that a key lies below what was asked for,
//! and cuts the store's prefix off whatever it is given.

use http::Uri;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

/// What the keys of a listing begin with that is asked for; `None`: no listing is.
pub(super) fn asked(uri: &Uri) -> Option<String> {
    let query = uri.query()?;
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value("list-type")?;
    Some(percent_decode_str(value("prefix").unwrap_or_default()).decode_utf8_lossy().into_owned())
}

/// A key of the page that does not begin with `prefix`, if there is one. What is no page is for opendal to refuse.
pub(super) fn astray(page: &[u8], prefix: &str) -> Option<String> {
    let page: Page = quick_xml::de::from_reader(page).ok()?;
    let keys = page.contents.into_iter().map(|object| object.key);
    let mut keys = keys.chain(page.common_prefixes.into_iter().map(|folder| folder.prefix));
    keys.find(|key| !key.starts_with(prefix))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Page {
    contents: Vec<Object>,
    common_prefixes: Vec<Folder>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    key: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Folder {
    prefix: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_told_from_other_requests_by_its_query() {
        let asked = |uri: &str| asked(&uri.parse().unwrap());
        let listing = "http://s3/bucket?list-type=2&prefix=a%20b/tenants/&start-after=x&max-keys=1";
        assert_eq!(asked(listing).as_deref(), Some("a b/tenants/"));
        assert_eq!(asked("http://s3/bucket?list-type=2").as_deref(), Some(""));
        assert_eq!(asked("http://s3/bucket/list-type?prefix=a"), None);
        assert_eq!(asked("http://s3/bucket"), None);
    }

    #[test]
    fn keys_and_folders_that_nobody_asked_for_are_found() {
        let page = |inner: &str| format!("<ListBucketResult><Name>b</Name>{inner}</ListBucketResult>");
        let key = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let astray = |inner: &str| astray(page(inner).as_bytes(), "p/&");
        assert_eq!(astray(&(key("p/&amp;a") + &key("p/&amp;"))), None);
        for other in ["p/", "", "/p/&amp;a", "other"] {
            let found = astray(&(key("p/&amp;a") + &key(other)));
            assert_eq!(found.as_deref(), Some(other.replace("&amp;", "&").as_str()));
        }
        let folder = "<CommonPrefixes><Prefix>q/</Prefix></CommonPrefixes>";
        assert_eq!(astray(folder).as_deref(), Some("q/"));
        assert_eq!(super::astray(b"no XML", "p"), None);
    }
}
