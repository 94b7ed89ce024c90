//! The hub's time: the machine's clock, corrected to the database's.
//!
//! Several hubs share one database and decide about the same leases. Their own clocks may differ by a minute; the
//! database's is the one they agree on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time. Clones share it.
#[derive(Debug, Clone)]
pub struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// The machine's clock plus so many milliseconds.
    Corrected(Arc<AtomicI64>),
    /// Milliseconds since 1970, moved by hand.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock, until [`Clock::correct`] knows better.
    #[must_use]
    pub fn system() -> Self {
        Self(Kind::Corrected(Arc::default()))
    }

    /// A clock that stands still, for tests.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Kind::Manual(Arc::new(AtomicI64::new(start.as_millisecond()))))
    }

    /// Now, with whole milliseconds, as the database keeps them.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        from_millis(self.millis())
    }

    /// Now, in milliseconds since 1970.
    #[must_use]
    pub fn millis(&self) -> i64 {
        match &self.0 {
            Kind::Corrected(offset) => local_millis().saturating_add(offset.load(Ordering::Relaxed)),
            Kind::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Takes over the database's time. A manual clock stays as it is.
    pub fn correct(&self, database_millis: i64) {
        if let Kind::Corrected(offset) = &self.0 {
            offset.store(database_millis.saturating_sub(local_millis()), Ordering::Relaxed);
        }
    }

    /// Moves a manual clock on. Others go by themselves.
    pub fn advance(&self, span: Duration) {
        if let Kind::Manual(now) = &self.0 {
            now.fetch_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}

fn local_millis() -> i64 {
    xvault_core::clock::now().as_millisecond()
}

/// An instant as the database keeps it. Out of range (which no row of ours is) gives the nearest one.
#[must_use]
pub(crate) fn from_millis(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(if millis < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corrected_clock_follows_the_database() {
        let clock = Clock::system();
        clock.correct(local_millis() + 60_000);
        let ahead = clock.millis() - local_millis();
        assert!((59_000..61_000).contains(&ahead), "{ahead}");
    }

    #[test]
    fn a_manual_clock_moves_by_hand_only() {
        let clock = Clock::manual(from_millis(1_000));
        clock.correct(5_000);
        assert_eq!(clock.millis(), 1_000);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now(), from_millis(3_000));
    }
}
