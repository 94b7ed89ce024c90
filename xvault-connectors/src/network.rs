//! The way to other machines: the one place of this crate that looks names up and connects.
//!
//! A name is looked up once, all that it leads to is checked, and one of these very addresses is connected to: nobody can answer
//! one thing to whoever checks and another to whoever connects.

mod resolve;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use xvault_core::EgressPolicy;
use xvault_core::egress::Denied;

use crate::Error;

pub use resolve::{Resolve, SystemResolver};

/// How long one address of a host has the line for itself: what RFC 8305 recommends (section 5).
const DELAY: Duration = Duration::from_millis(250);

/// What may be connected to, and how names are looked up. Clones are cheap. By default everything, by the system's resolver.
#[derive(Clone)]
pub struct Network {
    policy: Arc<EgressPolicy>,
    resolver: Arc<dyn Resolve>,
}

impl Default for Network {
    fn default() -> Self {
        Self::new(EgressPolicy::default())
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Why a host is not reached.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// It is not to be connected to.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Its name leads nowhere.
    #[error("its name can't be looked up")]
    Unknown(#[source] io::Error),
    /// Nobody answers.
    #[error("it can't be reached")]
    Silent(#[source] io::Error),
}

impl Unreachable {
    /// With the server that was meant: `host:port`.
    #[must_use]
    pub fn into_error(self, server: impl Into<String>) -> Error {
        let (reason, source) = match self {
            Self::Denied(denied) => return denied.into(),
            Self::Unknown(source) => ("its name can't be looked up", source),
            Self::Silent(source) => ("it can't be reached", source),
        };
        Error::Connection { server: server.into(), reason: reason.to_owned(), source: Some(source) }
    }
}

impl Network {
    /// All that `policy` lets through.
    #[must_use]
    pub fn new(policy: EgressPolicy) -> Self {
        Self { policy: Arc::new(policy), resolver: Arc::new(SystemResolver) }
    }

    /// Looks names up by `resolver`.
    #[must_use]
    pub fn resolving_by(self, resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, ..self }
    }

    /// Whether there is anything that may not be connected to.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        *self.policy != EgressPolicy::default()
    }

    /// All addresses of a host, each of which may be connected to.
    ///
    /// # Errors
    /// When there is none, or one of them may not be connected to.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unreachable> {
        let found = self.resolver.resolve(host).await.map_err(Unreachable::Unknown)?;
        if found.is_empty() {
            return Err(Unreachable::Unknown(io::ErrorKind::NotFound.into()));
        }
        for address in &found {
            self.policy.check(host, *address)?;
        }
        Ok(found)
    }

    /// Connects to the address of a host that answers first.
    ///
    /// # Errors
    /// When none does, there is none, or one of them may not be connected to.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Unreachable> {
        race(&self.addresses(host).await?, port).await.map_err(Unreachable::Silent)
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// When it does not answer, or may not be connected to.
    pub async fn connect_to(&self, address: SocketAddr) -> Result<TcpStream, Unreachable> {
        self.check(&address.ip().to_string(), address.ip())?;
        TcpStream::connect(address).await.map_err(Unreachable::Silent)
    }

    /// The one address of a host that programs of others are to connect to: where there are several, one that answers.
    ///
    /// # Errors
    /// As [`Network::connect`].
    pub(crate) async fn address(&self, host: &str, port: u16) -> Result<IpAddr, Unreachable> {
        match *self.addresses(host).await? {
            [only] => Ok(only),
            ref several => {
                let answering = race(several, port).await.and_then(|stream| stream.peer_addr());
                Ok(answering.map_err(Unreachable::Silent)?.ip())
            }
        }
    }

    /// Checks an address that somebody else has looked up and is about to connect to.
    ///
    /// # Errors
    /// When it may not be connected to.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Denied> {
        self.policy.check(host, address)
    }
}

/// Connects to one of several addresses: begins with the first, and with a further one each time that one is refused or has said
/// nothing for [`DELAY`]. Whichever answers first is taken, as by RFC 8305: many a host has an IPv6 address that leads nowhere.
async fn race(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut left = alternating(addresses).into_iter();
    let mut begun = FuturesUnordered::new();
    let mut last = io::ErrorKind::NotFound.into();
    loop {
        begun.extend(left.next().map(|address| TcpStream::connect((address, port))));
        tokio::select! {
            Some(connected) = begun.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = tokio::time::sleep(DELAY), if left.len() > 0 => {}
            else => return Err(last),
        }
    }
}

/// One of each family in turn, in the resolver's order.
fn alternating(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (same, other): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv4() == first);
    let mut other = other.into_iter();
    let mut turns = Vec::with_capacity(addresses.len());
    for address in same {
        turns.push(address);
        turns.extend(other.next());
    }
    turns.extend(other);
    turns
}

#[cfg(test)]
mod tests;
