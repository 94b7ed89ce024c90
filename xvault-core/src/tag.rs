//! Words that a user puts on a snapshot, for retention to look at.

use crate::error::{Dispose, Disposition};

/// The most tags that a snapshot has, or a policy names.
pub const MAX_TAGS: usize = 100;
/// The longest tag, in bytes.
pub const MAX_TAG_LEN: usize = 256;

/// Why texts are no tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tags are up to {MAX_TAGS} texts of 1 to {MAX_TAG_LEN} bytes, without control characters")]
pub struct InvalidTags;

impl Dispose for InvalidTags {
    fn disposition(&self) -> Disposition {
        Disposition::Permanent
    }
}

/// # Errors
/// When there are too many, or one is empty, too long, or could drive a terminal.
pub fn check(tags: &[String]) -> Result<(), InvalidTags> {
    let fits = |tag: &String| (1..=MAX_TAG_LEN).contains(&tag.len()) && !tag.contains(char::is_control);
    if tags.len() <= MAX_TAGS && tags.iter().all(fits) { Ok(()) } else { Err(InvalidTags) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_short_texts_and_not_too_many() {
        let texts = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        check(&[]).unwrap();
        check(&texts(&["release", "before the move", "größer", &"x".repeat(MAX_TAG_LEN)])).unwrap();
        check(&vec!["same".to_owned(); MAX_TAGS]).unwrap();
        for bad in ["", "a\nb", "\u{1b}[2J", "\u{9b}2J", &"x".repeat(MAX_TAG_LEN + 1)] {
            assert_eq!(check(&texts(&["good", bad])), Err(InvalidTags), "{bad:?}");
        }
        assert_eq!(check(&vec!["many".to_owned(); MAX_TAGS + 1]), Err(InvalidTags));
    }
}
