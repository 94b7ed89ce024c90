//! How many streams are open, and whose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::error::{Error, Result};
use crate::api::principal::Principal;

/// When another may have ended, in seconds.
const RETRY_SECS: u64 = 10;
/// The name of everybody.
const ALL: &str = "";

/// Streams that one hub holds open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimit {
    /// Of one user or API key.
    pub per_caller: u32,
    /// Of all users and keys of a tenant: nobody's dashboards take everybody's places.
    pub per_tenant: u32,
    /// Of everybody.
    pub total: u32,
}

impl Default for StreamLimit {
    fn default() -> Self {
        Self { per_caller: 20, per_tenant: 200, total: 1000 }
    }
}

/// Counts open streams. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    limit: StreamLimit,
    open: Arc<Mutex<HashMap<String, u32>>>,
}

/// The place of one open stream, free again on drop.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Streams,
    names: Vec<String>,
}

impl Streams {
    pub(crate) fn new(limit: StreamLimit) -> Self {
        Self { limit, open: Arc::default() }
    }

    /// A place for one more of `who`. 429 when there is none.
    pub(crate) fn open(&self, who: &Principal) -> Result<Place> {
        let tenant = who.tenant_id.as_ref().map(|id| (id.as_str(), self.limit.per_tenant, "your tenant has"));
        let wanted =
            [(who.actor.id(), self.limit.per_caller, "you have"), (ALL, self.limit.total, "all have")];
        let mut open = self.lock();
        for (name, most, whose) in wanted.into_iter().chain(tenant) {
            if open.get(name).is_some_and(|&count| count >= most) || most == 0 {
                let message =
                    format!("{whose} {most} streams open, and no more are held at once: close one, or wait");
                return Err(Error::too_many(message, RETRY_SECS));
            }
        }
        let names: Vec<_> = wanted.into_iter().chain(tenant).map(|(name, ..)| name.to_owned()).collect();
        for name in &names {
            *open.entry(name.clone()).or_default() += 1;
        }
        drop(open);
        Ok(Place { streams: self.clone(), names })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        for name in &self.names {
            if let Some(count) = open.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    open.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use xvault_core::{TenantId, UserId};

    use super::*;
    use crate::api::principal::{Actor, Role};

    fn user_of(tenant: Option<&TenantId>) -> Principal {
        let actor = Actor::User(UserId::generate());
        Principal { actor, tenant_id: tenant.cloned(), role: Role::Member, ip: None }
    }

    #[test]
    fn everybody_has_so_many_and_gets_them_back() {
        let streams = Streams::new(StreamLimit { per_caller: 2, per_tenant: 3, total: 4 });
        let refusal = |who| streams.open(who).map(drop).unwrap_err().message().to_owned();
        let (acme, other) = (TenantId::generate(), TenantId::generate());
        let (first, second, third) = (user_of(Some(&acme)), user_of(Some(&acme)), user_of(Some(&other)));
        let places = [streams.open(&first).unwrap(), streams.open(&first).unwrap()];
        assert!(refusal(&first).starts_with("you have 2"));
        let last = streams.open(&second).unwrap();
        assert!(refusal(&second).starts_with("your tenant has 3"));
        let operators = streams.open(&user_of(None)).unwrap();
        assert!(refusal(&third).starts_with("all have 4"));
        drop(places);
        let _third = streams.open(&third).unwrap();
        drop((last, operators));
        assert_eq!(streams.lock().len(), 3, "who has none open is forgotten");
    }
}
