//! `Range` of a request, as far as it is served: one range of bytes.

use axum::http::{HeaderMap, header};

/// What of a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it; also when the range is not understood, as RFC 9110 has it.
    Whole,
    /// From first to last byte, both of them in the file.
    Part { first: u64, last: u64 },
    /// Nothing that there is.
    OutOfRange,
}

/// What is wanted of a file of this length, which is known by `tag`.
pub(super) fn wanted(headers: &HeaderMap, length: u64, tag: &str) -> Wanted {
    let still = headers.get(header::IF_RANGE).is_none_or(|known| known.as_bytes() == tag.as_bytes());
    match text(headers).filter(|_| still).and_then(parse) {
        Some(range) => range.within(length),
        None => Wanted::Whole,
    }
}

/// Whether the range is the whole file, or none that is understood.
pub(super) fn is_all(headers: &HeaderMap) -> bool {
    matches!(text(headers).and_then(parse), None | Some(Range { first: Some(0), last: None }))
}

fn text(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::RANGE)?.to_str().ok()
}

/// As it stands in the header: without `first`, the last `last` bytes.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: Option<u64>,
    last: Option<u64>,
}

fn parse(text: &str) -> Option<Range> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let range = Range { first: number(first)?, last: number(last)? };
    match (range.first, range.last) {
        (None, None) => None,
        (Some(first), Some(last)) if first > last => None,
        _ => Some(range),
    }
}

impl Range {
    fn within(self, length: u64) -> Wanted {
        let end = length.saturating_sub(1);
        match (self.first, self.last) {
            (Some(first), _) if first >= length => Wanted::OutOfRange,
            (Some(first), last) => Wanted::Part { first, last: last.unwrap_or(end).min(end) },
            (None, Some(0) | None) => Wanted::OutOfRange,
            (None, Some(_)) if length == 0 => Wanted::OutOfRange,
            (None, Some(count)) => Wanted::Part { first: length.saturating_sub(count), last: end },
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn ask(range: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(range).unwrap())])
    }

    #[test]
    fn each_form_of_a_range_means_what_it_should() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, meant) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=5-", part(5, 9)),
            ("bytes=5-99", part(5, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=10-", Wanted::OutOfRange),
            ("bytes=-0", Wanted::OutOfRange),
            ("bytes=7-5", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
        ] {
            assert_eq!(wanted(&ask(range), 10, "t"), meant, "{range}");
        }
        assert_eq!(wanted(&HeaderMap::new(), 10, "t"), Wanted::Whole);
        assert_eq!(wanted(&ask("bytes=-1"), 0, "t"), Wanted::OutOfRange);
    }

    #[test]
    fn a_range_of_another_file_is_not_served() {
        let mut headers = ask("bytes=5-");
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"a\""));
        assert_eq!(wanted(&headers, 10, "\"a\""), Wanted::Part { first: 5, last: 9 });
        assert_eq!(wanted(&headers, 10, "\"b\""), Wanted::Whole);
    }

    #[test]
    fn only_what_skips_something_is_no_whole() {
        assert!(is_all(&ask("bytes=0-")) && is_all(&HeaderMap::new()));
        assert!(!is_all(&ask("bytes=1-")) && !is_all(&ask("bytes=0-5")) && !is_all(&ask("bytes=-5")));
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_file(first in any::<Option<u64>>(), last in any::<Option<u64>>(), length in any::<u64>()) {
            let text = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
            if let Wanted::Part { first, last } = wanted(&ask(&format!("bytes={}-{}", text(first), text(last))), length, "t") {
                prop_assert!(first <= last && last < length);
            }
        }
    }
}
