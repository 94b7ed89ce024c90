//! How long the parts of an upload are, whose length nobody knows beforehand.

const MIB: u64 = 1 << 20;

/// The most parts that S3 makes an object of.
pub(super) const MAX_PARTS: u32 = 10_000;
/// How many are of the shortest length.
const SHORT_PARTS: u32 = 5_000;

/// The length of part `number`, counted from 1: 8 MiB while an object is below 39 GiB, then twice as much every thousand
/// parts. An upload holds three of them in memory; 10,000 of them are 523 GiB.
pub(super) fn part_len(number: u32) -> u64 {
    let doubled = number.saturating_sub(1).saturating_sub(SHORT_PARTS - 1000) / 1000;
    (8 * MIB) << doubled.min(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_short_at_first_and_reach_far() {
        assert_eq!([1, 5000].map(part_len), [8 * MIB; 2]);
        assert_eq!([5001, 6000, 6001, 10_000].map(|number| part_len(number) / MIB), [16, 16, 32, 256]);
        let reach: u64 = (1..=MAX_PARTS).map(part_len).sum();
        assert_eq!(reach >> 30, 523);
    }
}
