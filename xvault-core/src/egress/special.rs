//! Addresses and names that are not of the public internet, by IANA's registries of special-purpose addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Azure's metadata service: the one such service at an address that looks like any other.
const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Whether an address is one of the public internet, whatever form it has.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    network_of(address).is_none()
}

/// What an address is that is not of the public internet; `None` for one that is.
pub(super) fn network_of(address: IpAddr) -> Option<&'static str> {
    match (address, embedded_v4(address)) {
        (IpAddr::V4(address), _) | (_, Some(address)) => network_of_v4(address),
        (IpAddr::V6(address), None) => network_of_v6(address),
    }
}

fn network_of_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("is of the worker's own machine"),
        [169, 254, ..] => Some("is of the worker's own link, where clouds keep their metadata"),
        _ if address == AZURE => Some("is of a cloud's metadata"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("is in a private network"),
        [100, 64..=127, ..] => Some("is in a carrier's private network"),
        [224..=239, ..] => Some("is of many machines (multicast)"),
        [0 | 240..=255, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Some("is reserved"),
        _ => None,
    }
}

fn network_of_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("is of the worker's own machine"),
        [0xfc00..=0xfdff, ..] => Some("is in a private network"),
        [0xfe80..=0xfebf, ..] => Some("is of the worker's own link"),
        [0xff00..=0xffff, ..] => Some("is of many machines (multicast)"),
        // Protocols' own, Teredo among them, and documentation.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("is reserved"),
        // All that the internet routes so far is in 2000::/3.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("is reserved"),
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, of a translator (64:ff9b::/96), or 6to4.
pub(super) fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

/// Whether a name can be one of the public internet: those without a dot, and those below names that mean something in one
/// network alone, can't.
#[must_use]
pub fn is_public_name(name: &str) -> bool {
    const PRIVATE: [&str; 8] =
        ["localhost", "local", "internal", "intranet", "lan", "home", "corp", "localdomain"];
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match name.rsplit_once('.') {
        Some((_, top)) => !PRIVATE.contains(&top) && !name.ends_with(".home.arpa"),
        None => false,
    }
}
