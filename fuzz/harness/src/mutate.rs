//! Seeded, cheap mutations: what a fuzzer does blindly, the same in every run.

/// Bytes that parsers trip over: borders of signedness, digits, separators, line ends.
const INTERESTING: &[u8] = b"\x00\x01\x7f\x80\xff\n\r \"./0179{}[],:\\";

/// A small random number generator (xorshift64*), because runs must repeat on every machine and version.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Any seed will do.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A generator that depends on `data` alone.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        Self::new(
            data.iter()
                .fold(data.len() as u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte))),
        )
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    /// A byte, half of them troublesome ones.
    fn byte(&mut self) -> u8 {
        let any = self.next().to_le_bytes()[0];
        if any & 1 == 0 {
            any
        } else {
            INTERESTING.get(self.below(INTERESTING.len())).copied().unwrap_or(any)
        }
    }
}

/// `seed` with one to four changes; `other` lends pieces.
#[must_use]
pub fn mutated(rng: &mut Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut data = seed.to_vec();
    // Mostly one: many changes end at the first check.
    let most = rng.below(4);
    for _ in 0..=rng.below(most + 1) {
        change(rng, &mut data, other);
    }
    data
}

fn change(rng: &mut Rng, data: &mut Vec<u8>, other: &[u8]) {
    match rng.below(8) {
        0 => flip_bit(rng, data),
        7 => change_alike(rng, data),
        1 => set_byte(rng, data),
        2 => insert_bytes(rng, data),
        3 => drop(data.drain(range(rng, data.len(), 64))),
        4 => repeat_part(rng, data),
        5 => borrow_part(rng, data, other),
        _ => data.truncate(rng.below(data.len() + 1)),
    }
}

/// A range of at most `longest` within `len`.
fn range(rng: &mut Rng, len: usize, longest: usize) -> std::ops::Range<usize> {
    let start = rng.below(len + 1);
    start..start + rng.below(longest.min(len - start) + 1)
}

fn flip_bit(rng: &mut Rng, data: &mut [u8]) {
    let (at, bit) = (rng.below(data.len()), rng.below(8));
    if let Some(byte) = data.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

fn set_byte(rng: &mut Rng, data: &mut [u8]) {
    let (at, value) = (rng.below(data.len()), rng.byte());
    if let Some(byte) = data.get_mut(at) {
        *byte = value;
    }
}

/// A digit for a digit, a letter for a letter: text stays well-formed and says something else.
fn change_alike(rng: &mut Rng, data: &mut [u8]) {
    let (at, value) = (rng.below(data.len()), rng.below(26));
    let (digit, letter) = (value % 10, value);
    match data.get_mut(at) {
        Some(byte @ b'0'..=b'9') => *byte = b"0123456789"[digit],
        Some(byte @ b'a'..=b'z') => *byte = b"abcdefghijklmnopqrstuvwxyz"[letter],
        _ => {}
    }
}

fn insert_bytes(rng: &mut Rng, data: &mut Vec<u8>) {
    let at = rng.below(data.len() + 1);
    let inserted: Vec<u8> = (0..=rng.below(8)).map(|_| rng.byte()).collect();
    data.splice(at..at, inserted);
}

fn repeat_part(rng: &mut Rng, data: &mut Vec<u8>) {
    let part = data.get(range(rng, data.len(), 512)).unwrap_or_default().to_vec();
    let at = rng.below(data.len() + 1);
    data.splice(at..at, part);
}

fn borrow_part(rng: &mut Rng, data: &mut Vec<u8>, other: &[u8]) {
    let part = other.get(range(rng, other.len(), 512)).unwrap_or_default().to_vec();
    let replaced = range(rng, data.len(), 512);
    data.splice(replaced, part);
}
