//! From a name to addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;

/// Looks names up.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of a host, in the order they are to be tried. An address in whatever spelling leads to itself.
    ///
    /// # Errors
    /// When the name is not known, or nobody can be asked.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver, but for `*.localhost`, which is this machine (RFC 6761) and which not every system knows: buckets as
/// host names of a server beside us.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if host.trim_end_matches('.').to_ascii_lowercase().ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for found in tokio::net::lookup_host((host, 0)).await? {
            if !addresses.contains(&found.ip()) {
                addresses.push(found.ip());
            }
        }
        Ok(addresses)
    }
}
