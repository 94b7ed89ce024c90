//! The way to other machines: the one place of this crate that looks names up and connects.
//!
//! A name is looked up once, all that it leads to is checked, and one of these very addresses is connected to: nobody can answer
//! one thing to whoever checks and another to whoever connects.

mod resolve;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpStream;
use xvault_core::EgressPolicy;
use xvault_core::egress::Denied;

use crate::Error;

pub use resolve::{Resolve, SystemResolver};

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

    /// Connects to the first address of a host that answers.
    ///
    /// # Errors
    /// When none does, there is none, or one of them may not be connected to.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Unreachable> {
        let mut last = io::ErrorKind::NotFound.into();
        for address in self.addresses(host).await? {
            match TcpStream::connect((address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(Unreachable::Silent(last))
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
            ref several => self.answering(several, port).await,
        }
    }

    async fn answering(&self, several: &[IpAddr], port: u16) -> Result<IpAddr, Unreachable> {
        let mut last = io::ErrorKind::NotFound.into();
        for address in several {
            match TcpStream::connect((*address, port)).await {
                Ok(_) => return Ok(*address),
                Err(error) => last = error,
            }
        }
        Err(Unreachable::Silent(last))
    }

    /// Checks an address that somebody else has looked up and is about to connect to.
    ///
    /// # Errors
    /// When it may not be connected to.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Denied> {
        self.policy.check(host, address)
    }
}

#[cfg(test)]
mod tests;
