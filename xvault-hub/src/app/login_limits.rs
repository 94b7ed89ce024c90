//! How often somebody may try to log in: per address and per account.
//!
//! The address is the connection's: headers that proxies add can be written by anybody. The limits are this process's own,
//! so a fleet of hubs allows as many times more.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use super::email::Email;
use crate::api::error::{Error, Result};

/// With more keys than this, those that are full again are forgotten.
const MANY_KEYS: usize = 10_000;

/// Attempts allowed in a minute. As many may come at once; then one comes free after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginLimit {
    /// From one address, whatever the account.
    pub per_address: NonZeroU32,
    /// For one account, from wherever.
    pub per_account: NonZeroU32,
}

impl Default for LoginLimit {
    fn default() -> Self {
        Self {
            per_address: NonZeroU32::new(30).unwrap_or(NonZeroU32::MIN),
            per_account: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// Counts attempts.
#[derive(Debug)]
pub(crate) struct LoginLimits {
    addresses: DefaultKeyedRateLimiter<Option<IpAddr>>,
    accounts: DefaultKeyedRateLimiter<Email>,
}

impl LoginLimits {
    pub(crate) fn new(limit: LoginLimit) -> Self {
        Self {
            addresses: DefaultKeyedRateLimiter::keyed(Quota::per_minute(limit.per_address)),
            accounts: DefaultKeyedRateLimiter::keyed(Quota::per_minute(limit.per_account)),
        }
    }

    /// Counts an attempt from an address. 429 when there were too many.
    pub(crate) fn by_address(&self, ip: Option<IpAddr>) -> Result<()> {
        check(&self.addresses, &ip.map(network))
    }

    /// Counts an attempt at an account. 429 when there were too many.
    pub(crate) fn at_account(&self, account: &Email) -> Result<()> {
        check(&self.accounts, account)
    }
}

fn check<K: std::hash::Hash + Eq + Clone>(limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> Result<()> {
    if limiter.len() > MANY_KEYS {
        limiter.retain_recent();
    }
    limiter
        .check_key(key)
        .map_err(|wait| Error::rate_limited(whole_secs(wait.wait_time_from(DefaultClock::default().now()))))
}

/// Rounded up: who waits so long is let in.
fn whole_secs(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(1)
}

/// A household gets a /64 of IPv6 addresses: they count as one.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_address: u32, per_account: u32) -> LoginLimits {
        let number = |n| NonZeroU32::new(n).unwrap();
        LoginLimits::new(LoginLimit { per_address: number(per_address), per_account: number(per_account) })
    }

    #[test]
    fn addresses_and_accounts_are_counted_apart() {
        let limits = limits(2, 1);
        let (here, there) = ("127.0.0.1".parse().ok(), "127.0.0.2".parse().ok());
        assert!(limits.by_address(here).is_ok() && limits.by_address(here).is_ok());
        assert!(limits.by_address(here).is_err());
        assert!(limits.by_address(there).is_ok());
        let (ada, bob) = ("ada@x".parse().unwrap(), "bob@x".parse().unwrap());
        assert!(limits.at_account(&ada).is_ok() && limits.at_account(&bob).is_ok());
        assert!(limits.at_account(&ada).is_err());
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let limits = limits(1, 1);
        assert!(limits.by_address("2001:db8:0:1::1".parse().ok()).is_ok());
        assert!(limits.by_address("2001:db8:0:1:ffff::2".parse().ok()).is_err());
        assert!(limits.by_address("2001:db8:0:2::1".parse().ok()).is_ok());
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1".parse::<IpAddr>().unwrap());
    }
}
