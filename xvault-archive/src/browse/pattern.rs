//! What a name is searched by.

use std::fmt;

/// A part of a name, or, when it has a `*` or `?`, a glob of a whole name. Upper and lower case of ASCII are the same.
///
/// `*` stands for any run of bytes, `?` for one character; nothing else has a meaning of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Vec<u8>,
    is_glob: bool,
}

impl Pattern {
    /// The longest text, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// `None`: the text is empty, too long, or has a `/`, which no name has.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > Self::MAX_LEN || text.contains(&b'/') {
            return None;
        }
        let is_glob = text.iter().any(|byte| matches!(byte, b'*' | b'?'));
        Some(Self { text: text.to_ascii_lowercase(), is_glob })
    }

    /// Whether a name fits.
    #[must_use]
    pub fn fits(&self, name: &[u8]) -> bool {
        if self.is_glob {
            return is_glob_of(&self.text, name);
        }
        name.windows(self.text.len()).any(|part| part.eq_ignore_ascii_case(&self.text))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", xvault_core::entry::display_name(&self.text))
    }
}

/// Goes back to the last `*` only: never more than the product of both lengths.
fn is_glob_of(mut glob: &[u8], mut name: &[u8]) -> bool {
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (glob.split_first(), name.split_first()) {
            (Some((b'*', rest)), _) => {
                glob = rest;
                star = Some((rest, name));
                continue;
            }
            (None, None) => return true,
            (Some((b'?', rest)), Some((_, left))) => {
                (glob, name) = (rest, after_character(left));
                continue;
            }
            (Some((wanted, rest)), Some((byte, left))) if byte.eq_ignore_ascii_case(wanted) => {
                (glob, name) = (rest, left);
                continue;
            }
            _ => {}
        }
        let Some((after_star, [_, left @ ..])) = star else { return false };
        (glob, name, star) = (after_star, left, Some((after_star, left)));
    }
}

/// What follows the first byte's character in UTF-8.
fn after_character(left: &[u8]) -> &[u8] {
    let end = left.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or(left.len());
    left.get(end..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern.as_bytes()).unwrap().fits(name.as_bytes())
    }

    #[test]
    fn a_part_of_a_name_fits_whatever_its_case() {
        assert!(fits("rep", "Annual-REPORT.pdf") && fits("Report.PDF", "report.pdf"));
        assert!(!fits("report.pdf", "report.pd") && !fits("x", ""));
    }

    #[test]
    fn a_glob_fits_whole_names() {
        assert!(
            fits("*.pdf", "a.PDF") && fits("*", "x") && fits("a*b*c", "a__b_c") && fits("a?c", "a\u{e4}c")
        );
        assert!(!fits("*.pdf", "a.pdf.gz") && !fits("a?c", "ac") && !fits("a*", "ba") && !fits("?", ""));
    }

    #[test]
    fn what_no_name_can_hold_is_no_pattern() {
        assert_eq!(Pattern::new(b""), None);
        assert_eq!(Pattern::new(b"a/b"), None);
        assert_eq!(Pattern::new(&[b'a'; Pattern::MAX_LEN + 1]), None);
    }

    fn naive(glob: &[u8], name: &[u8]) -> bool {
        match (glob.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), Some((_, left))) => naive(rest, name) || naive(glob, left),
            (Some((b'*', rest)), None) => naive(rest, name),
            (Some((b'?', rest)), Some((_, left))) => naive(rest, left),
            (Some((wanted, rest)), Some((byte, left))) => wanted == byte && naive(rest, left),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globs_fit_as_a_simple_matcher_says(glob in "[ab*?]{1,8}", name in "[ab]{0,10}") {
            let pattern = Pattern { text: glob.clone().into_bytes(), is_glob: true };
            prop_assert_eq!(pattern.fits(name.as_bytes()), naive(glob.as_bytes(), name.as_bytes()));
        }
    }
}
