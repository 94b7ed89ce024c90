//! The lines of a job's log on their way to the hub: bounded, in order, each one once.

use std::collections::VecDeque;

use jiff::Timestamp;
use xvault::core::protocol::{LogLevel, LogLine, MAX_LOG_LINES, MAX_LOG_MESSAGE};

/// Lines that wait at most: some megabytes when each is as long as can be.
const MAX_WAITING: usize = 1000;
/// Bytes of messages in one call.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Lines that wait, and those being sent.
///
/// Numbers are given when a line is first sent, so there are no gaps where lines had to be left out.
#[derive(Debug, Default)]
pub(crate) struct LogBuffer {
    waiting: VecDeque<Waiting>,
    sending: Vec<LogLine>,
    next_seq: u64,
    left_out: u64,
}

#[derive(Debug)]
struct Waiting {
    at: Timestamp,
    level: LogLevel,
    message: String,
}

impl LogBuffer {
    /// Adds a line. When too many wait, the oldest that matters least is left out.
    pub(crate) fn push(&mut self, at: Timestamp, level: LogLevel, message: &str) {
        if self.waiting.len() >= MAX_WAITING {
            let least = self
                .waiting
                .iter()
                .position(|line| matches!(line.level, LogLevel::Debug | LogLevel::Info))
                .unwrap_or(0);
            self.waiting.remove(least);
            self.left_out += 1;
        }
        self.waiting.push_back(Waiting { at, level, message: shorten(message, MAX_LOG_MESSAGE) });
    }

    /// The lines to send now: those of the last call until [`LogBuffer::sent`], then the next ones. Empty when there are none.
    pub(crate) fn batch(&mut self, now: Timestamp) -> &[LogLine] {
        if self.sending.is_empty() {
            self.fill(now);
        }
        &self.sending
    }

    fn fill(&mut self, now: Timestamp) {
        if self.left_out > 0 {
            let count = std::mem::take(&mut self.left_out);
            self.number(now, LogLevel::Warn, format!("{count} lines of this log were left out here"));
        }
        let mut bytes = 0;
        while self.sending.len() < MAX_LOG_LINES
            && let Some(line) = self.waiting.front()
            && (self.sending.is_empty() || bytes + line.message.len() <= MAX_BATCH_BYTES)
            && let Some(line) = self.waiting.pop_front()
        {
            bytes += line.message.len();
            self.number(line.at, line.level, line.message);
        }
    }

    fn number(&mut self, at: Timestamp, level: LogLevel, message: String) {
        self.sending.push(LogLine { seq: self.next_seq, at, level, message });
        self.next_seq += 1;
    }

    /// The hub has the lines of the last [`LogBuffer::batch`].
    pub(crate) fn sent(&mut self) {
        self.sending.clear();
    }
}

/// The beginning of `text`, at most `limit` bytes with the mark that something is missing.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(buffer: &mut LogBuffer) -> Vec<LogLine> {
        let mut all = Vec::new();
        loop {
            let batch = buffer.batch(Timestamp::UNIX_EPOCH).to_vec();
            if batch.is_empty() {
                return all;
            }
            assert!(batch.len() <= MAX_LOG_LINES);
            all.extend(batch);
            buffer.sent();
        }
    }

    #[test]
    fn what_matters_outlives_what_does_not() {
        let mut buffer = LogBuffer::default();
        buffer.push(Timestamp::UNIX_EPOCH, LogLevel::Warn, "mind this");
        for number in 0..MAX_WAITING * 2 {
            buffer.push(Timestamp::UNIX_EPOCH, LogLevel::Info, &format!("line {number}"));
        }
        let lines = drain(&mut buffer);
        assert_eq!(lines[0].message, format!("{} lines of this log were left out here", MAX_WAITING + 1));
        assert_eq!(lines[1].message, "mind this");
        assert_eq!(lines.last().unwrap().message, format!("line {}", MAX_WAITING * 2 - 1));
    }

    proptest! {
        #[test]
        fn shortened_text_is_a_beginning(text in "\\PC{0,60}", limit in 3usize..80) {
            let short = shorten(&text, limit);
            prop_assert!(short.len() <= limit);
            prop_assert!(short == text || text.starts_with(short.strip_suffix('…').unwrap()));
        }

        #[test]
        fn every_line_comes_once_in_order_or_is_counted(
            steps in proptest::collection::vec((0u8..4, 0usize..700, any::<bool>()), 1..12),
        ) {
            let (mut buffer, mut got, mut pushed) = (LogBuffer::default(), Vec::<LogLine>::new(), 0u64);
            for (kind, count, arrives) in steps {
                for _ in 0..count {
                    let level = if kind == 0 { LogLevel::Warn } else { LogLevel::Info };
                    buffer.push(Timestamp::UNIX_EPOCH, level, &format!("{pushed}"));
                    pushed += 1;
                }
                let first = buffer.batch(Timestamp::UNIX_EPOCH).to_vec();
                // Sent again unless it arrived: the same lines under the same numbers.
                prop_assert_eq!(&first[..], buffer.batch(Timestamp::UNIX_EPOCH));
                if arrives {
                    got.extend(first);
                    buffer.sent();
                }
            }
            got.extend(drain(&mut buffer));
            prop_assert!(got.iter().map(|line| line.seq).eq(0..got.len() as u64));
            let left_out: u64 = got.iter()
                .filter_map(|line| line.message.strip_suffix(" lines of this log were left out here"))
                .map(|count| count.parse::<u64>().unwrap()).sum();
            let numbers: Vec<u64> = got.iter().filter_map(|line| line.message.parse().ok()).collect();
            prop_assert!(numbers.is_sorted());
            prop_assert_eq!(numbers.len() as u64 + left_out, pushed);
        }
    }
}
