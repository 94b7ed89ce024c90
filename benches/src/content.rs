//! Seeded content: the same bytes in every run, on every machine.

/// What the bytes are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Lines like those of source code: zstd -3 leaves about three tenths.
    Text,
    /// Nothing to compress: photos, archives, encrypted files.
    Random,
    /// Nothing but zeros: the best case, and the one that shows fixed costs.
    Zeros,
}

impl Content {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Text, Self::Random, Self::Zeros];

    /// The word in a benchmark's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Random => "random",
            Self::Zeros => "zeros",
        }
    }

    /// `len` bytes; another `seed` gives others, but for zeros.
    #[must_use]
    pub fn bytes(self, len: usize, seed: u64) -> Vec<u8> {
        match self {
            Self::Text => text(len, seed),
            Self::Random => random(len, seed),
            Self::Zeros => vec![0; len],
        }
    }
}

/// xorshift64*: no crate, no ambient randomness.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let len = u64::try_from(from.len()).unwrap_or(u64::MAX).max(1);
        from.get(usize::try_from((self.next() >> 16) % len).unwrap_or(0))
    }
}

fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

const SYLLABLES: [&str; 24] = [
    "read", "write", "buf", "len", "index", "entry", "path", "frame", "node", "list", "map", "state", "next",
    "size", "hash", "key", "name", "file", "open", "err", "ctx", "id", "get", "set",
];

/// Lines with holes for identifiers.
const TEMPLATES: [&str; 16] = [
    "let @ = @.@(@)?;",
    "if @ == @ {",
    "}",
    "",
    "return @;",
    "/// The @ of the @, before the @ is known.",
    "pub fn @(@: @, @: @) -> @ {",
    "match @ {",
    "@ => @::@(@),",
    "for @ in @.@() {",
    "@: @,",
    "assert_eq!(@.@(), @);",
    "self.@ += @;",
    "use @::@::@;",
    "// @ and @ must not be zero",
    "Err(@) => return Err(@::@(\"@ @\", @)),",
];

fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let words = vocabulary(&mut rng);
    let mut text = String::with_capacity(len + 200);
    // As in a real file, a few names come again and again for some lines.
    let mut local: Vec<&String> = Vec::new();
    let mut lines = 0u32;
    while text.len() < len {
        if lines.is_multiple_of(30) {
            local = (0..12).filter_map(|_| rng.pick(&words)).collect();
        }
        line(&mut text, &mut rng, &words, &local);
        lines += 1;
    }
    text.truncate(len);
    text.into_bytes()
}

fn vocabulary(rng: &mut Rng) -> Vec<String> {
    let word = |rng: &mut Rng| {
        let parts = 1 + (rng.next() >> 40) % 3;
        let parts: Vec<&str> = (0..parts).filter_map(|_| rng.pick(&SYLLABLES).copied()).collect();
        format!("{}{}", parts.join("_"), if rng.next() >> 61 == 0 { rng.next() >> 52 } else { 0 })
    };
    (0..4000).map(|_| word(rng)).collect()
}

fn line(text: &mut String, rng: &mut Rng, words: &[String], local: &[&String]) {
    let template = rng.pick(&TEMPLATES).copied().unwrap_or_default();
    text.push_str(if rng.next() >> 62 == 0 { "    " } else { "        " });
    for char in template.chars() {
        if char == '@' {
            let known = rng.next() >> 62 != 0;
            let word = if known { rng.pick(local).copied() } else { rng.pick(words) };
            text.push_str(word.map_or("x", String::as_str));
        } else {
            text.push(char);
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(content: Content) -> f64 {
        let bytes = content.bytes(4 << 20, 1);
        let compressed = zstd::bulk::compress(&bytes, 3).unwrap();
        f64::from(u32::try_from(compressed.len()).unwrap()) / f64::from(u32::try_from(bytes.len()).unwrap())
    }

    #[test]
    fn content_compresses_as_its_name_says() {
        assert!((0.22..0.34).contains(&ratio(Content::Text)), "{}", ratio(Content::Text));
        assert!(ratio(Content::Random) > 0.999);
        assert!(ratio(Content::Zeros) < 0.001);
    }

    #[test]
    fn content_is_the_same_every_time_and_depends_on_the_seed() {
        for content in [Content::Text, Content::Random] {
            assert_eq!(content.bytes(10_000, 7), content.bytes(10_000, 7));
            assert_ne!(content.bytes(10_000, 7), content.bytes(10_000, 8));
            assert_eq!(content.bytes(10_001, 7).len(), 10_001);
        }
    }
}
