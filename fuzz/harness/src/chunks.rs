//! Ways to cut a stream.

use bytes::Bytes;

use crate::mutate::Rng;

/// Lengths up to which a cut falls, so that borders of 512-byte blocks are hit and missed.
const LONGEST: [usize; 4] = [3, 40, 513, 5000];

/// The same bytes in pieces whose lengths depend on the bytes alone; some pieces are empty.
pub(crate) fn cut(data: &[u8]) -> Vec<Bytes> {
    let mut rng = Rng::of(data);
    let longest = LONGEST.get(rng.below(LONGEST.len())).copied().unwrap_or(1);
    let mut whole = Bytes::copy_from_slice(data);
    let mut pieces = Vec::new();
    while !whole.is_empty() {
        let len = rng.below(longest + 1).min(whole.len());
        pieces.push(whole.split_to(len));
    }
    pieces
}
