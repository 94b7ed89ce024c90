//! When a hub may end leases that have run out.

use std::time::Duration;

use jiff::Timestamp;

/// How long a hub has been well. While it, its database or its whole machine was away, no worker could renew; so it ends no lease
/// before it has been well for as long as a lease lasts.
#[derive(Debug, Default)]
pub(super) struct Grace(Option<Well>);

#[derive(Debug, Clone, Copy)]
struct Well {
    since: Timestamp,
    seen: Timestamp,
}

impl Grace {
    /// The hub is well at `now`. Whether that has been so for a whole `lease`: a longer time without a call counts as an outage.
    pub(super) fn is_over(&mut self, now: Timestamp, lease: Duration) -> bool {
        let lasting = self.0.filter(|well| span(well.seen, now) <= lease);
        let since = lasting.map_or(now, |well| well.since);
        self.0 = Some(Well { since, seen: now });
        span(since, now) >= lease
    }

    /// The hub is not well.
    pub(super) fn interrupt(&mut self) {
        self.0 = None;
    }
}

/// Clocks may be set back: that is no time at all.
fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    /// What a hub that is well at these seconds may do.
    fn judges(grace: &mut Grace, seconds: &[i64]) -> Vec<bool> {
        let at = |second: &i64| Timestamp::from_second(1_900_000_000 + second).unwrap();
        seconds.iter().map(|second| grace.is_over(at(second), LEASE)).collect()
    }

    #[test]
    fn a_lease_must_pass_after_the_start() {
        assert_eq!(judges(&mut Grace::default(), &[0, 15, 59, 60, 75]), [false, false, false, true, true]);
    }

    #[test]
    fn and_after_an_outage() {
        let mut grace = Grace::default();
        assert_eq!(judges(&mut grace, &[0, 60]), [false, true]);
        grace.interrupt();
        assert_eq!(judges(&mut grace, &[75, 90, 134, 135]), [false, false, false, true]);
    }

    #[test]
    fn and_after_a_sleep_of_the_machine() {
        let mut grace = Grace::default();
        assert_eq!(judges(&mut grace, &[0, 60, 3600, 3615, 3660]), [false, true, false, false, true]);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_no_lease_early() {
        assert_eq!(judges(&mut Grace::default(), &[0, 50, 10, 59, 60]), [false, false, false, false, true]);
    }
}
