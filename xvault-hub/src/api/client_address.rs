//! Where a request comes from: the connection's address, or what a proxy that is trusted says of it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use ipnet::IpNet;

use crate::Hub;

/// Each proxy adds the address that it was called from, at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a request comes from. None when the server was not told to remember.
///
/// Anybody can write the header. So the connection's address counts, unless a trusted proxy stands there: then the one that it
/// was called from, and so on, up to the first that is not trusted.
pub(crate) fn client_address(parts: &Parts, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip().to_canonical();
    Some(behind(peer, &parts.headers, trusted))
}

fn behind(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut nearest = peer;
    for hop in hops(headers) {
        let is_trusted = trusted.iter().any(|network| network.contains(&nearest));
        match hop {
            Some(ip) if is_trusted => nearest = ip,
            _ => break,
        }
    }
    nearest
}

/// What proxies say, the nearest first. None is none that can be read: what lies behind it is unknown.
fn hops(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> + '_ {
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')).map(address)
}

/// Some proxies add the port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    ip.or_else(bracketed).map(|ip: IpAddr| ip.to_canonical())
}

/// The address that a request comes from, for handlers that need no login.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) Option<IpAddr>);

impl FromRequestParts<Hub> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> std::result::Result<Self, Self::Rejection> {
        Ok(Self(client_address(parts, &hub.settings().trusted_proxies)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn seen(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        behind(peer.parse::<IpAddr>().unwrap().to_canonical(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_header_counts_only_behind_a_trusted_proxy() {
        let (proxy, other) = ("10.0.0.1", "192.0.2.9");
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        for (peer, lines, client) in [
            (other, &["198.51.100.7"][..], other),
            (proxy, &[], proxy),
            (proxy, &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            // What the client itself wrote stands further left.
            (proxy, &["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            (proxy, &["1.2.3.4", "198.51.100.7"], "198.51.100.7"),
            (proxy, &["1.2.3.4, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            (proxy, &["1.2.3.4,198.51.100.7", "fd00::1 ,10.9.9.9"], "198.51.100.7"),
            (proxy, &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (proxy, &["198.51.100.7:4711"], "198.51.100.7"),
            (proxy, &["[2001:db8::1]:80"], "2001:db8::1"),
            (proxy, &["[2001:db8::1]"], "2001:db8::1"),
            (proxy, &["::ffff:198.51.100.7"], "198.51.100.7"),
            // Nobody knows what lies behind that.
            (proxy, &["198.51.100.7, unknown"], proxy),
            (proxy, &["198.51.100.7, "], proxy),
            (proxy, &["198.51.100.7, junk, 10.0.0.2"], "10.0.0.2"),
            (proxy, &[""], proxy),
        ] {
            assert_eq!(seen(peer, lines, &trusted), client, "{peer} {lines:?}");
            assert_eq!(seen(peer, lines, &[]), peer.parse::<IpAddr>().unwrap().to_canonical().to_string());
        }
    }
}
