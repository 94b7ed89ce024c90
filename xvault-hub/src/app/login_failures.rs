//! Failed logins at each account, from wherever: how many there may be, and which are written down.
//!
//! Only failures spend, so that a stranger who can't get in takes nothing from the owner who can, until there are so many that
//! somebody guesses with many machines.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::audit::{Deed, record_stranger};
use super::email::Email;
use super::login_limits::{MANY_KEYS, whole_secs};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::db;
use crate::db::users::User;

const MINUTE: Duration = Duration::from_secs(60);

/// A budget of failures for each account: as many a minute as are allowed, and as many at once.
#[derive(Debug)]
pub(crate) struct Failures {
    /// In what time one comes back.
    each: Duration,
    /// When the budget of an account is whole again; those that are whole may be absent.
    whole_at: Mutex<HashMap<Email, Instant>>,
}

impl Failures {
    pub(crate) fn new(per_minute: NonZeroU32) -> Self {
        Self { each: MINUTE / per_minute.get(), whole_at: Mutex::default() }
    }

    /// 429 when there were too many. Takes nothing from the budget.
    pub(crate) fn check(&self, account: &Email, now: Instant) -> Result<()> {
        let whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = whole_at.get(account).map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        match (missing + self.each).checked_sub(MINUTE) {
            Some(wait) if !wait.is_zero() => Err(Error::rate_limited(whole_secs(wait))),
            _ => Ok(()),
        }
    }

    /// Takes one from the budget.
    pub(crate) fn spend(&self, account: &Email, now: Instant) {
        let mut whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        if whole_at.len() >= MANY_KEYS {
            whole_at.retain(|_, at| *at > now);
        }
        let at = whole_at.entry(account.clone()).or_insert(now);
        *at = now.max(*at) + self.each;
    }
}

/// Writes down that a login at an account failed, unless enough of them were of late. Beside the answer, whose time must not tell
/// whether there is such an account.
pub(crate) fn note(hub: &Hub, user: &User, ip: Option<IpAddr>, reason: &'static str) {
    if !hub.limits().may_note_failure(&user.id) {
        return;
    }
    let (hub, user) = (hub.clone(), user.clone());
    tokio::spawn(async move {
        if let Err(error) = write(&hub, &user, ip, reason).await {
            tracing::warn!(user_id = %user.id, cause = %xvault_core::error::chain(&error), "failed login not written down");
        }
    });
}

async fn write(hub: &Hub, user: &User, ip: Option<IpAddr>, reason: &str) -> db::Result<()> {
    let deed = Deed {
        action: "auth.login_failed",
        target_type: "user",
        target_id: user.id.as_str(),
        tenant_id: user.tenant_id.as_ref(),
        details: json!({ "reason": reason }),
    };
    record_stranger(&mut *hub.db().conn().await?, deed, ip, hub.clock().now()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_alone_spend_and_come_back_one_by_one() {
        let failures = Failures::new(NonZeroU32::new(3).unwrap());
        let (ada, bob): (Email, Email) = ("ada@x".parse().unwrap(), "bob@x".parse().unwrap());
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        for _ in 0..100 {
            failures.check(&ada, start).unwrap();
        }
        for _ in 0..3 {
            failures.check(&ada, start).unwrap();
            failures.spend(&ada, start);
        }
        assert!(failures.check(&ada, start).is_err());
        assert!(failures.check(&ada, after(19)).is_err());
        failures.check(&bob, start).unwrap();
        failures.check(&ada, after(20)).unwrap();
        failures.spend(&ada, after(20));
        assert!(failures.check(&ada, after(20)).is_err());
        failures.check(&ada, after(40)).unwrap();
    }

    #[test]
    fn accounts_that_are_whole_again_are_forgotten() {
        let failures = Failures::new(NonZeroU32::new(60).unwrap());
        let start = Instant::now();
        for number in 0..MANY_KEYS {
            failures.spend(&format!("a{number}@x").parse().unwrap(), start);
        }
        failures.spend(&"last@x".parse().unwrap(), start + Duration::from_secs(2));
        assert_eq!(failures.whole_at.lock().unwrap().len(), 1);
    }
}
