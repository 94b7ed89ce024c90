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

    /// Takes over the database's time, which `ask` finds out. A manual clock stays as it is.
    ///
    /// The answer is the time of some instant while it was asked for. When the clock may be right by that, it is left alone, else it is moved
    /// as little as can be: an answer that comes late, from a busy machine, must not set it back.
    ///
    /// # Errors
    /// Those of `ask`; the clock goes on as before.
    pub async fn correct<E>(&self, ask: impl Future<Output = Result<i64, E>>) -> Result<(), E> {
        let asked = local_millis();
        let database = ask.await?;
        self.fit(database.saturating_sub(local_millis()), database.saturating_sub(asked));
        Ok(())
    }

    /// Lets the clock be off the machine's by `least` to `most` milliseconds, or one more: times are whole milliseconds.
    fn fit(&self, least: i64, most: i64) {
        if let Kind::Corrected(offset) = &self.0 {
            let is = offset.load(Ordering::Relaxed);
            let fits = is.max(least.saturating_sub(1)).min(most.saturating_add(1));
            offset.store(fits, Ordering::Relaxed);
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

    async fn corrected(clock: &Clock, database: impl Future<Output = i64>) {
        clock.correct(async { Ok::<_, std::convert::Infallible>(database.await) }).await.unwrap();
    }

    #[tokio::test]
    async fn a_corrected_clock_follows_the_database() {
        let clock = Clock::system();
        for off in [60_000, -60_000, 0] {
            corrected(&clock, async { local_millis() + off }).await;
            let ahead = clock.millis() - local_millis() - off;
            assert!((-1_000..1_000).contains(&ahead), "{ahead}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_sets_no_clock_back() {
        let clock = Clock::system();
        let late = async {
            let then = local_millis();
            std::thread::sleep(Duration::from_millis(300));
            then
        };
        corrected(&clock, late).await;
        let behind = local_millis() - clock.millis();
        assert!(behind < 150, "{behind}");
    }

    #[test]
    fn each_answer_narrows_down_what_the_clock_may_be_off_by() {
        let clock = Clock::system();
        let Kind::Corrected(offset) = &clock.0 else { panic!() };
        // The database is 5,000 ms ahead; the answers take 400, 2,000 and 0 ms, and the second says nothing new.
        for (least, most, off) in [(4_700, 5_100, 4_699), (3_500, 5_500, 4_699), (5_000, 5_000, 4_999)] {
            clock.fit(least, most);
            assert_eq!(offset.load(Ordering::Relaxed), off);
        }
        clock.fit(-70, -20);
        assert_eq!(offset.load(Ordering::Relaxed), -19);
        // The machine's clock was set back while it was asked.
        clock.fit(100, 10);
        assert_eq!(offset.load(Ordering::Relaxed), 11);
    }

    #[tokio::test]
    async fn a_manual_clock_moves_by_hand_only() {
        let clock = Clock::manual(from_millis(1_000));
        corrected(&clock, async { 5_000 }).await;
        assert_eq!(clock.millis(), 1_000);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now(), from_millis(3_000));
    }
}
