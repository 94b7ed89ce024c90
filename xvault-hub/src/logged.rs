//! What is logged, for tests.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

use tracing::subscriber::DefaultGuard;

/// The log lines of one thread. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    /// Takes what this thread logs while the guard lives.
    pub(crate) fn listen(&self) -> DefaultGuard {
        deaf();
        let lines = self.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Every thread has a subscriber from now on. While a single one exists, a place that logs for the first time asks the
/// subscriber of its own thread only, and is switched off for all threads where that has none.
fn deaf() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let deaf = tracing_subscriber::fmt().with_writer(io::sink).finish();
        tracing::subscriber::set_global_default(deaf).expect("no test sets a subscriber for all threads");
    });
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
