//! How often somebody may try to log in, and set passwords.
//!
//! The address is the client's as [`crate::Settings::trusted_proxies`] makes it known. The limits are this process's own, so a fleet
//! of hubs allows as many times more.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use xvault_core::UserId;

use super::email::Email;
use super::login_failures::Failures;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;

/// With more keys than this, those that are full again are forgotten.
pub(crate) const MANY_KEYS: usize = 10_000;
/// Failed logins at an account that are written down in an hour.
const NOTED_PER_HOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);

/// Attempts allowed in a minute. As many may come at once; then one comes free after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginLimit {
    /// From one address, whatever the account.
    pub per_address: NonZeroU32,
    /// For one account, from one address: nobody else's attempts lock its owner out.
    pub per_account: NonZeroU32,
    /// Failures at one account, from all addresses together: what somebody has who guesses with many machines.
    pub failures_per_account: NonZeroU32,
    /// Passwords that the people of one tenant, or one operator, may set.
    pub passwords: NonZeroU32,
}

impl Default for LoginLimit {
    fn default() -> Self {
        let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            per_address: number(30),
            per_account: number(10),
            failures_per_account: number(100),
            passwords: number(30),
        }
    }
}

/// Counts attempts.
#[derive(Debug)]
pub(crate) struct LoginLimits {
    addresses: DefaultKeyedRateLimiter<Option<IpAddr>>,
    accounts: DefaultKeyedRateLimiter<(Option<IpAddr>, Email)>,
    failures: Failures,
    noted: DefaultKeyedRateLimiter<UserId>,
    passwords: DefaultKeyedRateLimiter<String>,
}

impl LoginLimits {
    pub(crate) fn new(limit: LoginLimit) -> Self {
        Self {
            addresses: DefaultKeyedRateLimiter::keyed(Quota::per_minute(limit.per_address)),
            accounts: DefaultKeyedRateLimiter::keyed(Quota::per_minute(limit.per_account)),
            failures: Failures::new(limit.failures_per_account),
            noted: DefaultKeyedRateLimiter::keyed(Quota::per_hour(NOTED_PER_HOUR)),
            passwords: DefaultKeyedRateLimiter::keyed(Quota::per_minute(limit.passwords)),
        }
    }

    /// Counts an attempt from an address. 429 when there were too many.
    pub(crate) fn by_address(&self, ip: Option<IpAddr>) -> Result<()> {
        check(&self.addresses, &ip.map(network))
    }

    /// Counts an attempt at an account. 429 when there were too many from this address, or too many failures from anywhere.
    pub(crate) fn at_account(&self, ip: Option<IpAddr>, account: &Email) -> Result<()> {
        check(&self.accounts, &(ip.map(network), account.clone()))?;
        self.failures.check(account, Instant::now())
    }

    /// Counts a failure at an account, be there one of this name or not: else 429 would tell.
    pub(crate) fn failed(&self, account: &Email) {
        self.failures.spend(account, Instant::now());
    }

    /// Whether one more failure at this account is to be written down.
    pub(crate) fn may_note_failure(&self, user: &UserId) -> bool {
        check(&self.noted, user).is_ok()
    }

    /// Counts a password that somebody sets: hashing it is dear. 429 when there were too many by the same tenant, or operator.
    pub(crate) fn sets_password(&self, who: &Principal) -> Result<()> {
        let key = who.tenant_id.as_ref().map_or_else(|| who.actor.id(), |tenant| tenant.as_str());
        check(&self.passwords, &key.to_owned())
    }
}

fn check<K: Hash + Eq + Clone>(limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> Result<()> {
    if limiter.len() > MANY_KEYS {
        limiter.retain_recent();
    }
    limiter
        .check_key(key)
        .map_err(|wait| Error::rate_limited(whole_secs(wait.wait_time_from(DefaultClock::default().now()))))
}

/// Rounded up: who waits so long is let in.
pub(crate) fn whole_secs(wait: Duration) -> u64 {
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
        LoginLimits::new(LoginLimit {
            per_address: number(per_address),
            per_account: number(per_account),
            failures_per_account: number(1000),
            passwords: number(1),
        })
    }

    #[test]
    fn addresses_and_accounts_are_counted_apart() {
        let limits = limits(2, 1);
        let (here, there) = ("127.0.0.1".parse().ok(), "127.0.0.2".parse().ok());
        assert!(limits.by_address(here).is_ok() && limits.by_address(here).is_ok());
        assert!(limits.by_address(here).is_err());
        assert!(limits.by_address(there).is_ok());
        let (ada, bob) = ("ada@x".parse().unwrap(), "bob@x".parse().unwrap());
        assert!(limits.at_account(here, &ada).is_ok() && limits.at_account(here, &bob).is_ok());
        assert!(limits.at_account(here, &ada).is_err());
        assert!(limits.at_account(there, &ada).is_ok(), "a stranger's attempts are the stranger's own");
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let limits = limits(1, 1);
        assert!(limits.by_address("2001:db8:0:1::1".parse().ok()).is_ok());
        assert!(limits.by_address("2001:db8:0:1:ffff::2".parse().ok()).is_err());
        assert!(limits.by_address("2001:db8:0:2::1".parse().ok()).is_ok());
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn passwords_are_counted_by_tenant_whoever_sets_them() {
        use crate::api::principal::{Actor, Role};
        use xvault_core::{ApiKeyId, TenantId, UserId};
        let limits = limits(1, 1);
        let by = |actor, tenant: Option<&str>| {
            let tenant_id = tenant.map(|id| id.parse::<TenantId>().unwrap());
            limits.sets_password(&Principal { actor, tenant_id, role: Role::Owner, ip: None })
        };
        assert!(by(Actor::User(UserId::generate()), Some("t1")).is_ok());
        assert!(by(Actor::ApiKey(ApiKeyId::generate()), Some("t1")).is_err());
        assert!(by(Actor::User(UserId::generate()), Some("t2")).is_ok());
        assert!(by(Actor::User(UserId::generate()), None).is_ok());
        assert!(by(Actor::User(UserId::generate()), None).is_ok());
    }
}
