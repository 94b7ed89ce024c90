//! How many connections each address has open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// How many of an IPv6 address's bits are one subscriber's as a rule.
const SUBSCRIBER: u32 = 64;

/// Counts connections by address, as long as they are open. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    limit: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, open: Arc::default() }
    }

    /// None: the address has as many as it may.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Counted> {
        let address = subscriber(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&address).copied().unwrap_or_default();
        if count >= self.limit {
            return None;
        }
        open.insert(address, count + 1);
        Some(Counted { crowd: self.clone(), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.crowd.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.address)),
        }
    }
}

/// Whom an address is of: of one of version 6 the network, within which anybody has as many addresses as he likes.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let kept = u128::MAX << (u128::BITS - SUBSCRIBER);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & kept))
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_places_and_gives_them_back() {
        let crowd = Crowd::new(2);
        let held = [crowd.admit(address("192.0.2.1")), crowd.admit(address("::ffff:192.0.2.1"))];
        assert!(held.iter().all(Option::is_some));
        assert!(crowd.admit(address("192.0.2.1")).is_none());
        assert!(crowd.admit(address("192.0.2.2")).is_some());
        drop(held);
        assert!(crowd.admit(address("192.0.2.1")).is_some());
        assert!(crowd.open.lock().unwrap().is_empty(), "who is gone is forgotten");
    }

    #[test]
    fn a_network_of_version_6_counts_as_one() {
        let crowd = Crowd::new(1);
        let _held = crowd.admit(address("2001:db8:1:2::1")).unwrap();
        assert!(crowd.admit(address("2001:db8:1:2:ffff::9")).is_none());
        assert!(crowd.admit(address("2001:db8:1:3::1")).is_some());
    }
}
