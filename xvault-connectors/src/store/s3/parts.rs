//! How long the parts of an upload are, whose length nobody knows beforehand.

const MIB: u64 = 1 << 20;

/// The most parts that S3 makes an object of.
pub(super) const MAX_PARTS: u32 = 10_000;
/// The shortest: three of them are held in memory.
pub(super) const SHORT: u64 = 8 * MIB;
/// The longest that S3 takes.
const LONGEST: u64 = 5 << 30;
/// In how many an object is sent whose length is known.
const HOPED_PARTS: u64 = 9_500;
/// How many have the length of the first one.
const EVEN_PARTS: u64 = 5_000;
/// Beyond these, a part grows by one byte for so many that were sent.
const SENT_PER_BYTE: u64 = 200;

/// How long the parts of one object are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    first: u64,
}

impl Plan {
    /// For an object of about so many bytes. Zero when nobody knows: it may have 19 TiB then, and 48 TiB otherwise.
    pub(super) fn expecting(bytes: u64) -> Self {
        Self { first: bytes.div_ceil(HOPED_PARTS).clamp(SHORT, LONGEST) }
    }

    /// The length of the part that follows `sent` bytes: that of the first one for 5,000 parts (39 GiB of 8 MiB each), then half
    /// a percent more of what was sent beyond them, up to the 5 GiB that S3 takes.
    pub(super) fn part_len(self, sent: u64) -> u64 {
        (self.first + sent.saturating_sub(EVEN_PARTS * self.first) / SENT_PER_BYTE).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;
    /// What all 10,000 parts hold when nobody said how much it would be.
    const REACH: u64 = 19 * TIB;

    /// The lengths of the parts that an object of `size` bytes is sent in.
    fn parts(plan: Plan, size: u64) -> Vec<u64> {
        let (mut parts, mut sent) = (Vec::new(), 0);
        while sent < size {
            let part = plan.part_len(sent).min(size - sent);
            parts.push(part);
            sent += part;
        }
        parts
    }

    #[test]
    fn parts_are_short_at_first_and_reach_far() {
        let plan = Plan::expecting(0);
        assert_eq!([0, 39 * GIB].map(|sent| plan.part_len(sent)), [SHORT; 2]);
        assert_eq!([100 * GIB, 500 * GIB].map(|sent| plan.part_len(sent) / MIB), [320, 2368]);
        assert_eq!(plan.part_len(2 * TIB), LONGEST);
        assert!(parts(plan, REACH + TIB).len() > MAX_PARTS as usize, "it reaches farther than is said");
        assert_eq!([70 * GIB, TIB].map(|size| Plan::expecting(size).part_len(0) / MIB), [8, 110]);
    }

    fn check(plan: Plan, size: u64) -> Result<(), TestCaseError> {
        let parts = parts(plan, size);
        prop_assert!(parts.len() <= MAX_PARTS as usize, "{} parts", parts.len());
        prop_assert_eq!(parts.iter().sum::<u64>(), size);
        prop_assert!(parts.iter().all(|part| *part <= LONGEST));
        // S3 takes nothing shorter, but for the last one.
        prop_assert!(parts.split_last().is_none_or(|(_, others)| others.iter().all(|part| *part >= 5 * MIB)));
        // Whatever waits on the disk is little beside what was sent.
        prop_assert!(parts.iter().all(|part| *part <= SHORT.max(size / SENT_PER_BYTE)));
        Ok(())
    }

    /// Of every order of magnitude alike.
    fn size(longest: u64) -> impl Strategy<Value = u64> {
        (0..u64::BITS - longest.leading_zeros(), any::<u64>())
            .prop_map(move |(bits, random)| (random & ((2_u64 << bits) - 1)).clamp(1, longest))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_size_up_to_19_tib_fits_into_the_parts_that_s3_allows(size in size(REACH)) {
            check(Plan::expecting(0), size)?;
        }

        #[test]
        fn every_size_up_to_48_tib_fits_when_it_is_known(size in size(48 * TIB), less in 0..10_u64) {
            check(Plan::expecting(size), size)?;
            // It is a guess: a tenth less or more does not matter.
            let about = Plan::expecting(size - size / 100 * less);
            check(about, size.min(43 * TIB))?;
        }
    }
}
