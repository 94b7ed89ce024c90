//! A store that fails, or never answers, at one kind of call for one object.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use xvault::connectors::Error;
use xvault::connectors::store::hooked::{Call, Hook, HookedStore};
use xvault::{MemoryStore, Store};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is not made; a commit fails after the fact, which is the worst moment.
    Fail,
    Hang,
    /// So many of them work, and the next one hangs; those that follow it work.
    HangAfter(usize),
    /// It works, and the object is gone right after.
    Lose,
}

/// Which call of which object, whose name ends in this, meets which fate.
#[derive(Debug)]
pub(crate) struct Trap {
    call: Call,
    object: &'static str,
    fate: Fate,
    met: AtomicUsize,
    store: MemoryStore,
}

pub(crate) type Tripwire = HookedStore<Trap>;

/// A store in memory with such a trap.
pub(crate) fn tripwire(call: Call, object: &'static str, fate: Fate) -> Tripwire {
    let store = MemoryStore::new().unwrap();
    Tripwire::with_hook(store.clone(), Trap { call, object, fate, met: AtomicUsize::new(0), store })
}

impl Trap {
    /// How many such calls it has met, of those that are counted: [`Fate::HangAfter`].
    pub(crate) fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }

    fn is_set_for(&self, call: Call, object: &str) -> bool {
        self.call == call && object.ends_with(self.object)
    }

    async fn strike(&self, call: Call, object: &str) -> Result<(), Error> {
        match self.fate {
            Fate::Fail => Err(Error::Incomplete(format!("{call:?} {object} went wrong"))),
            Fate::HangAfter(count) if self.met.fetch_add(1, Ordering::Relaxed) != count => Ok(()),
            Fate::Hang | Fate::HangAfter(_) => std::future::pending().await,
            Fate::Lose => Ok(()),
        }
    }
}

#[async_trait]
impl Hook for Trap {
    async fn before(&self, call: Call, object: &str) -> Result<(), Error> {
        if call != Call::Commit && self.is_set_for(call, object) {
            self.strike(call, object).await
        } else {
            Ok(())
        }
    }

    async fn after(&self, call: Call, key: &str) -> Result<(), Error> {
        match (call, self.fate) {
            _ if !self.is_set_for(call, key) => Ok(()),
            (Call::Commit, _) => self.strike(call, self.object).await,
            (_, Fate::Lose) => self.store.delete(key).await,
            _ => Ok(()),
        }
    }
}
