//! Which addresses a tenant may have workers connect to: none that only the workers' own networks reach.
//!
//! The text of an address is looked at, not what a name resolves to: that may change between now and then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    let host = url.host_str().ok_or(Private)?.trim_end_matches('.').to_ascii_lowercase();
    let public = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => is_public_v4(address),
        Ok(IpAddr::V6(address)) => is_public_v6(address),
        Err(_) => is_public_name(&host),
    };
    if public { Ok(()) } else { Err(Private) }
}

fn is_public_name(host: &str) -> bool {
    let private = ["localhost", "local", "internal", "intranet", "lan", "home", "corp", "localdomain"];
    match host.rsplit_once('.') {
        Some((_, top)) => !private.contains(&top) && !host.ends_with(".home.arpa"),
        None => false,
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let private = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b));
    !private
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = embedded(address) {
        return is_public_v4(v4);
    }
    // All that the internet routes so far is in 2000::/3.
    address.segments().first().is_some_and(|first| first & 0xe000 == 0x2000)
}

/// The IPv4 address that an IPv6 address stands for: mapped, of a translator (64:ff9b::/96), or 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (first, second) {
        (0x64, 0xff9b) if [third, fourth, fifth, sixth] == [0; 4] => Some(v4(seventh, eighth)),
        (0x2002, _) => Some(v4(second, third)),
        _ => address.to_ipv4_mapped(),
    }
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
