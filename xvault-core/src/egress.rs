//! Which addresses may be connected to on behalf of tenants.
//!
//! Pure decisions: nothing is looked up here. Whoever connects looks a name up once, has every address of it checked, and
//! connects to one of those.

mod special;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub use ipnet::IpNet;

use special::{embedded_v4, network_of};
pub use special::{is_public, is_public_name};

/// What becomes of addresses that neither list names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Egress {
    /// They may be connected to: for a program that works for one owner.
    #[default]
    Any,
    /// Those of the public internet may be connected to: for workers that strangers give addresses to.
    Public,
    /// They may not.
    Listed,
}

impl Egress {
    const WORDS: [(&str, Self); 3] = [("any", Self::Any), ("public", Self::Public), ("listed", Self::Listed)];
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(_, egress)| egress == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

impl FromStr for Egress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, egress)| *egress);
        found.ok_or_else(|| format!("`{text}` is none of any, public and listed"))
    }
}

/// What may be connected to. By default everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// What is in neither list.
    pub others: Egress,
    /// These may be connected to, whatever `others` says.
    pub allow: Vec<IpNet>,
    /// These may not, whatever `allow` says.
    pub deny: Vec<IpNet>,
}

/// An address that may not be connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is not connected to: its address {address} {reason} (`EgressPolicy::{list}`)")]
pub struct Denied {
    /// The name or address that was asked for.
    pub host: String,
    /// What it leads to.
    pub address: IpAddr,
    /// The field of [`EgressPolicy`] that would change that: `allow`, or `deny`.
    pub list: &'static str,
    reason: &'static str,
}

impl EgressPolicy {
    /// The public internet, and nothing else.
    #[must_use]
    pub fn public() -> Self {
        Self { others: Egress::Public, ..Self::default() }
    }

    /// Checks one address of `host`. An IPv6 address that leads to an IPv4 one (mapped, or through a translator) is that one.
    ///
    /// # Errors
    /// When it may not be connected to.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Denied> {
        let address = address.to_canonical();
        let denied = |reason, list| Err(Denied { host: host.to_owned(), address, reason, list });
        if names(&self.deny, address) {
            return denied("is on the list of those that are never connected to", "deny");
        }
        if names(&self.allow, address) {
            return Ok(());
        }
        match (self.others, network_of(address)) {
            (Egress::Any, _) | (Egress::Public, None) => Ok(()),
            (Egress::Public, Some(network)) => denied(network, "allow"),
            (Egress::Listed, _) => denied("is not on the list of those that are connected to", "allow"),
        }
    }
}

/// Whether one of `networks` has the address, or the IPv4 address that it leads to.
fn names(networks: &[IpNet], address: IpAddr) -> bool {
    let leads_to = embedded_v4(address).map(IpAddr::V4);
    networks.iter().any(|network| {
        network.contains(&address) || leads_to.is_some_and(|address| network.contains(&address))
    })
}

/// Reads a network or a single address: `10.0.0.0/8`, `fd00::1`.
///
/// # Errors
/// With a sentence: when it is neither, when bits are set behind the prefix, or when it is a way to write IPv4 networks that
/// nothing is ever compared with.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    let network: IpNet = text
        .parse()
        .or_else(|_| one())
        .map_err(|_| format!("`{text}` is no network: write 10.0.0.0/8, fd00::/8 or an address"))?;
    if network.trunc() != network {
        return Err(format!(
            "`{text}` names one address and many: write {} or {}",
            network.trunc(),
            network.addr()
        ));
    }
    match network {
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 && mapped.addr().to_ipv4_mapped().is_some() => {
            Err(format!("`{text}` is IPv4 in IPv6's clothes: write the IPv4 network"))
        }
        network => Ok(network),
    }
}

/// Networks as a setting names them, separated by commas; none when it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(parse_network).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests;
