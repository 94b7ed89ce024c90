//! What was measured, as Markdown for benches/RESULTS.md.

use std::fmt;
use std::time::Duration;

use xvault_benches::Latencies;

/// A case: its table, its targets, its notes.
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) head: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) notes: Vec<String>,
}

/// A target, and whether it was met.
pub(crate) struct Verdict {
    pub(crate) met: bool,
    pub(crate) text: String,
    pub(crate) measured: String,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n\n| {} |", self.title, self.head.join(" | "))?;
        let columns: Vec<_> =
            self.head.iter().enumerate().map(|(n, _)| if n == 0 { "---" } else { "---:" }).collect();
        writeln!(f, "|{}|", columns.join("|"))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        writeln!(f)?;
        for Verdict { met, text, measured } in &self.verdicts {
            let word = if *met { "met" } else { "**missed**" };
            writeln!(f, "- {word}: {text}; measured {measured}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

/// `3.1 / 17.2`: those percentiles, in milliseconds.
pub(crate) fn percentiles(times: &Latencies, percents: &[usize]) -> String {
    let texts = percents.iter().map(|percent| times.percentile(*percent).map_or("none".to_owned(), millis));
    texts.collect::<Vec<_>>().join(" / ")
}

/// `3.1`
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// Bytes in MiB.
pub(crate) fn mebibytes(bytes: u64) -> String {
    const TENTHS: u64 = (1 << 20) / 10;
    format!("{}.{}", bytes / TENTHS / 10, bytes / TENTHS % 10)
}
