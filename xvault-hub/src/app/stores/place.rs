//! Which stores are the same place: a copy there is none.

use sqlx::AnyConnection;
use xvault_core::TenantId;

use crate::api::error::{Error, Result};
use crate::db::Scope;
use crate::db::stores::{self, Store};

/// The same objects, by whatever name: of this tenant, or of any.
pub(crate) fn is_same_place(a: &Store, b: &Store, tenant: Option<&TenantId>) -> bool {
    let place = |store: &Store| {
        let settings = tenant.map_or_else(|| store.settings.clone(), |tenant| store.place(tenant));
        (server(settings.endpoint.as_deref()), settings.bucket, settings.prefix)
    };
    place(a) == place(b)
}

/// A server by one of its names. Amazon's are one: the name of a bucket there is nobody else's.
fn server(endpoint: Option<&str>) -> String {
    let text = endpoint.unwrap_or("https://s3.amazonaws.com").to_ascii_lowercase();
    let text = text.trim_end_matches('/');
    let text = match text.split_once("://") {
        Some(("https", host)) => host.strip_suffix(":443").unwrap_or(host),
        Some((_, host)) => host.strip_suffix(":80").unwrap_or(host),
        None => text,
    };
    if text.ends_with(".amazonaws.com") { "amazonaws.com".to_owned() } else { text.to_owned() }
}

/// No two stores of which one holds the copies of the other may become the same place by this change.
pub(super) async fn check_apart(conn: &mut AnyConnection, store: &Store) -> Result<()> {
    for stores::Paired { store_id, tenant_id } in stores::paired(conn, &store.id).await? {
        let other = stores::get(conn, &Scope::All, &store_id).await?;
        let tenant = tenant_id.as_ref().or(store.tenant_id.as_ref()).or(other.tenant_id.as_ref());
        if is_same_place(store, &other, tenant) {
            let reason = format!(
                "store {store_id} lies there, and one holds the copies of the other: a copy there is none"
            );
            return Err(Error::invalid_field("config", reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::server;

    #[test]
    fn a_server_has_several_names() {
        let one = |names: &[Option<&str>]| names.iter().all(|name| server(*name) == server(names[0]));
        assert!(one(&[
            Some("https://S3.example"),
            Some("https://s3.example/"),
            Some("https://s3.example:443"),
            Some("https://s3.example:443/"),
        ]));
        assert!(one(&[Some("http://[::1]:80"), Some("http://[::1]/")]));
        assert!(one(&[None, Some("https://s3.eu-central-1.amazonaws.com")]));
        for (a, b) in [
            (Some("https://s3.example"), Some("https://s3.example:80")),
            (Some("https://s3.example"), Some("https://s4.example")),
            (Some("http://h:9000"), Some("http://h:9001")),
            (None, Some("https://notamazonaws.com")),
        ] {
            assert_ne!(server(a), server(b));
        }
    }
}
