//! Which addresses a tenant may save for a store: none that only the workers' own networks reach.
//!
//! The text of an address is looked at here; what a name leads to, by the worker that connects, at the moment it does.

use std::net::IpAddr;

use xvault_core::egress::{is_public, is_public_name};

use crate::Hub;
use crate::db::stores::Store;
use crate::settings::PrivateStores;

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an address in a private network is for operators to allow: a public one is needed (HUB_PRIVATE_STORES)"
)]
pub(crate) struct Private;

/// Refuses addresses of this machine, of private and link-local networks (a cloud's metadata among them), and names that
/// mean something only in one network.
pub(crate) fn check_public(endpoint: &str) -> Result<(), Private> {
    // The parser knows all spellings of an address: 127.1, 0x7f000001, 2130706433.
    let url = reqwest::Url::parse(endpoint).map_err(|_| Private)?;
    let host = url.host_str().ok_or(Private)?;
    let public = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => is_public(address),
        Err(_) => is_public_name(host),
    };
    if public { Ok(()) } else { Err(Private) }
}

/// Whether workers connect to this store whatever their rules for tenants are: operators have vouched for its address. It is one of
/// theirs, or it has an address that no tenant could have saved.
pub(crate) fn is_vouched_for(hub: &Hub, store: &Store) -> bool {
    let private = |endpoint: &String| check_public(endpoint).is_err();
    store.tenant_id.is_none()
        || hub.settings().private_stores == PrivateStores::Everybody
        || store.settings.endpoint.as_ref().is_some_and(private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_worker_can_reach_is_refused_however_it_is_spelt() {
        for host in [
            "127.0.0.1:9000",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0.0.0.0",
            "10.0.0.5",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "[::1]:9000",
            "[::]",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "localhost",
            "LOCALHOST.",
            "s3.localhost",
            "garage",
            "metadata.google.internal",
            "nas.local",
            "nas.home.arpa",
            "255.255.255.255",
            "224.0.0.1",
        ] {
            assert_eq!(check_public(&format!("http://{host}")), Err(Private), "{host}");
        }
        assert_eq!(check_public("nonsense"), Err(Private));
    }

    #[test]
    fn public_addresses_pass() {
        for host in
            ["s3.eu-central-1.amazonaws.com", "8.8.8.8:443", "[2606:4700::1111]", "s3.example", "172.32.0.1"]
        {
            assert_eq!(check_public(&format!("https://{host}")), Ok(()), "{host}");
        }
    }
}
