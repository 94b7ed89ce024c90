//! Waiting for what must come, and doing async things from tests that are not.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until there is an answer.
///
/// # Panics
/// After `secs` seconds without one.
pub(crate) fn eventually<T>(secs: u64, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(secs);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {secs} s: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// As [`eventually`], for what is either so or not.
pub(crate) fn until(secs: u64, what: &str, mut so: impl FnMut() -> bool) {
    eventually(secs, what, || so().then_some(()));
}

/// Runs a future of the tests' own clients.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        drop(rustls::crypto::ring::default_provider().install_default());
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    });
    runtime.block_on(future)
}
