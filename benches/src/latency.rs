//! How long many trials took.

use std::time::Duration;

/// Times of trials, in no order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Adds all of another's.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest time that so many of a hundred trials did not exceed (nearest rank); `None` without trials.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Latencies = (1..=200).rev().map(Duration::from_millis).collect();
        for (percent, millis) in [(0, 1), (50, 100), (99, 198), (100, 200)] {
            assert_eq!(times.percentile(percent), Some(Duration::from_millis(millis)), "{percent}");
        }
    }

    #[test]
    fn few_trials_have_percentiles_and_none_have_none() {
        let mut times = Latencies::default();
        assert_eq!(times.percentile(50), None);
        times.push(Duration::from_secs(1));
        times.append([Duration::from_secs(3)].into_iter().collect());
        assert_eq!(times.percentile(50), Some(Duration::from_secs(1)));
        assert_eq!(times.percentile(99), Some(Duration::from_secs(3)));
        assert_eq!(times.count(), 2);
    }
}
