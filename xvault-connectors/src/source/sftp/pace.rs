//! How many small files are fetched at once: as many as the round-trip time asks for.

use std::time::Duration;

/// Enough to keep a server on the same machine busy.
const MIN_WINDOW: usize = 32;

/// More than this has no use: with 8 KiB files it is 8 MiB in flight.
const MAX_WINDOW: usize = 1024;

/// Delays below this are noise of two busy machines, not of the way between them.
const NOISE: Duration = Duration::from_millis(2);

/// Grows while more in flight does not make single files slower, and shrinks when files queue up.
///
/// On a long way a file takes its two round trips however many are in flight, so the window grows
/// by one with every file: it doubles every round trip. On a short way files soon wait for the
/// server, not for the way, and more in flight would only be more memory.
#[derive(Debug)]
pub(super) struct Pace {
    window: usize,
    fastest: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { window: MIN_WINDOW, fastest: None }
    }
}

impl Pace {
    /// How many may be in flight.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// One was fetched in `took`.
    pub(super) fn fetched(&mut self, took: Duration) {
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        if took <= fastest * 2 + NOISE {
            self.window = (self.window + 1).min(MAX_WINDOW);
        } else if took > fastest * 4 + NOISE * 4 {
            self.window = (self.window - 1).max(MIN_WINDOW);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(files: usize, took: impl Fn(usize) -> Duration) -> usize {
        let mut pace = Pace::default();
        for _ in 0..files {
            let took = took(pace.window());
            pace.fetched(took);
        }
        pace.window()
    }

    #[test]
    fn a_long_way_opens_the_window() {
        assert!(after(500, |_| Duration::from_millis(100)) > 500);
        assert_eq!(after(5000, |_| Duration::from_millis(100)), MAX_WINDOW);
    }

    #[test]
    fn a_busy_server_keeps_it_small() {
        // 100 us of work for each file, and nothing else: what is in flight waits in a queue.
        let took = |window: usize| Duration::from_micros(100) * u32::try_from(window).unwrap();
        assert!(after(50_000, took) < 200, "{}", after(50_000, took));
    }
}
