//! Where a transfer goes on behind what an earlier one brought: what both have tells whether it is the same.

/// So much of what was handed on is fetched again, to be compared.
const KEPT: usize = 4 << 10;

/// The end of what was handed on.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// These bytes were handed on.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes.get(bytes.len().saturating_sub(KEPT)..).unwrap_or(bytes));
        self.0.drain(..self.0.len().saturating_sub(KEPT));
    }

    /// Whether `bytes` are what they were, of which the first one is the `before`th byte before the end of what was handed on.
    pub(super) fn agrees(&self, bytes: &[u8], before: u64) -> bool {
        let unknown = usize::try_from(before.saturating_sub(self.len())).unwrap_or(usize::MAX);
        let known = self.0.len().saturating_sub(usize::try_from(before).unwrap_or(usize::MAX));
        let bytes = bytes.get(unknown..).unwrap_or_default();
        self.0.get(known..).is_some_and(|known| known.starts_with(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_held_against_the_end_of_what_was_there() {
        let mut tail = Tail::default();
        tail.add(b"abc");
        tail.add(b"def");
        // From the beginning, from the middle, from before what is known.
        assert!(
            tail.agrees(b"ab", 6)
                && tail.agrees(b"ef", 2)
                && tail.agrees(b"??abc", 8)
                && tail.agrees(b"??", 9)
        );
        assert!(!tail.agrees(b"abd", 6) && !tail.agrees(b"ff", 2) && !tail.agrees(b"??b", 8));
        tail.add(&[b'x'; KEPT - 1]);
        assert_eq!(tail.len(), KEPT as u64);
        assert!(tail.agrees(b"fx", KEPT as u64) && !tail.agrees(b"xx", KEPT as u64));
    }
}
