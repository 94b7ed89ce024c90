//! What a tool says on standard error, line by line, as far as it may be told on.

/// The longest line that is looked at, in bytes. Of a longer one there is no more.
const LONGEST: usize = 4096;

/// What becomes of a line.
type Tell = dyn FnMut(&str) -> Option<String> + Send + Sync;

/// Takes what a tool says, and gives what may be told of it.
pub(crate) struct Words {
    tell: Box<Tell>,
    line: Vec<u8>,
}

impl Words {
    /// `tell` is asked of each line, in their order, what may be told of it.
    pub(crate) fn new(tell: impl FnMut(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { tell: Box::new(tell), line: Vec::new() }
    }

    /// What may be told, now that `data` came: whole lines.
    pub(crate) fn push(&mut self, data: &[u8]) -> Vec<u8> {
        let mut told = Vec::new();
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST.saturating_sub(self.line.len());
            self.line.extend_from_slice(part.get(..room).unwrap_or(part));
            if part.ends_with(b"\n") {
                told.extend(self.rest());
            }
        }
        told
    }

    /// What may be told of a last line without an end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        let told = if line.is_empty() { None } else { (self.tell)(line) };
        told.map(|line| format!("{line}\n").into_bytes()).unwrap_or_default()
    }
}

/// `text` as far as the first value, by what begins one.
pub(crate) fn before(text: &str, values: &[&str]) -> String {
    let found = values.iter().filter_map(|value| Some((text.find(value)?, value)));
    let first = found.min_by_key(|(place, _)| *place);
    match first.and_then(|(place, value)| Some((text.get(..place)?, value))) {
        Some((kept, value)) => {
            format!("{kept}{}\u{2026}", value.trim_end_matches(['"', '\'', '\u{bb}', '\u{201e}', '\u{ab}']))
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_whole_however_they_come() {
        let said = format!("one\n\ntwo {}\nnot this\r\nthree", "x".repeat(2 * LONGEST));
        for size in [1, 7, 100_000] {
            let mut words =
                Words::new(|line| (!line.starts_with("not")).then(|| line.get(..3).unwrap().to_owned()));
            let mut told: Vec<u8> = said.as_bytes().chunks(size).flat_map(|part| words.push(part)).collect();
            assert_eq!(told, b"one\ntwo\n", "{size}");
            told.extend(words.rest());
            assert_eq!(told, b"one\ntwo\nthr\n");
            assert!(words.rest().is_empty());
        }
    }
}
