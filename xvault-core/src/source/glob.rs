//! Whether a text is a glob in gitignore syntax: asked when a source is saved, so that no backup fails on it later.
//!
//! The matcher itself is the connectors' (the crate `ignore`). What passes here passes there, which a property test of the
//! connectors holds on to; a few slips that the matcher takes literally are refused.

use std::iter::Peekable;
use std::str::Chars;

/// Groups `{a,{b,c}}` within each other.
const MAX_DEPTH: u32 = 20;
/// The classes that may stand in brackets, as in `[[:digit:]]`.
const CLASSES: [&str; 12] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
    "xdigit",
];

/// Checks the syntax of a gitignore line.
///
/// # Errors
/// Says what is wrong, for people.
pub fn check_glob(line: &str) -> Result<(), &'static str> {
    let mut depth = 0;
    let mut chars = pattern(line).chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => _ = chars.next().ok_or("it ends in a backslash")?,
            '[' => check_brackets(&mut chars)?,
            '{' if depth == MAX_DEPTH => return Err("its `{` are nested too deeply"),
            '{' => depth += 1,
            '}' if depth == 0 => return Err("a `}` closes nothing; write `\\}` for the character itself"),
            '}' => depth -= 1,
            _ => {}
        }
    }
    if depth == 0 { Ok(()) } else { Err("a `{` is not closed; write `\\{` for the character itself") }
}

/// What is left of a line for the matcher: without what a first or last character says by itself.
fn pattern(line: &str) -> &str {
    if line.starts_with('#') {
        return "";
    }
    let line = without_trailing_spaces(line);
    let line = if line.starts_with("\\!") || line.starts_with("\\#") {
        line.get(1..).unwrap_or_default()
    } else {
        let line = line.strip_prefix('!').unwrap_or(line);
        line.strip_prefix('/').unwrap_or(line)
    };
    match line.strip_suffix('/') {
        Some(directory) => directory.strip_suffix('\\').unwrap_or(directory),
        None => line,
    }
}

/// A space behind a backslash stays.
fn without_trailing_spaces(line: &str) -> &str {
    let (mut end, mut escaped) = (0, false);
    for (at, c) in line.char_indices() {
        if c != ' ' || escaped {
            end = at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    line.get(..end).unwrap_or_default()
}

/// What stands between `[` and `]`. A `]` or a `-` in the first place stands for itself, and a backslash always does.
fn check_brackets(chars: &mut Peekable<Chars<'_>>) -> Result<(), &'static str> {
    chars.next_if(|c| matches!(c, '!' | '^'));
    let (mut first, mut range, mut low) = (true, false, char::MAX);
    loop {
        let c = chars.next().ok_or("a `[` is not closed; write `\\[` for the character itself")?;
        match c {
            ']' if !first => return Ok(()),
            '-' if !first && !range => range = true,
            _ if range && c < low => return Err("a range in brackets goes backwards"),
            '[' if !range && chars.peek() == Some(&':') => low = class(chars)?,
            _ => {
                low = if range { low } else { c };
                range = false;
            }
        }
        first = false;
    }
}

/// Passes over `:digit:]` if that is what follows. Gives what a range would begin with: nothing goes on from a class.
fn class(chars: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    let rest: String = chars.clone().skip(1).take(16).collect();
    match rest.split_once(":]") {
        Some((name, _)) if CLASSES.contains(&name) => {
            let _passed = chars.by_ref().take(name.len() + 3).count();
            Ok(char::MAX)
        }
        Some((name, _)) if name.bytes().all(|b| b.is_ascii_lowercase()) => {
            Err("there is no such class of characters")
        }
        _ => Ok('['),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write_passes() {
        for glob in [
            "*.log",
            "/a/**/z",
            "cache/",
            "!keep",
            r"\!x",
            r"\#x",
            "# a note [",
            "",
            "  ",
            "a[0-9]",
            "a[]]",
            "a[!]-x]",
            "[a-]",
            "[-a]",
            "[[:digit:]a-f]",
            "[[:]",
            r"a\[",
            "{a,b{c,d}}",
            r"\{",
            "a,b",
            "caf\u{e9}[\u{e9}-\u{4e2d}]",
            r"x\ ",
            "[a-c-e]",
            r"foo\/",
            "/",
            "!",
        ] {
            assert_eq!(check_glob(glob), Ok(()), "{glob}");
        }
        assert_eq!(check_glob(&format!("{}{}", "{".repeat(20), "}".repeat(20))), Ok(()));
    }

    #[test]
    fn slips_are_told() {
        for (glob, told) in [
            ("[", "not closed"),
            ("a[", "not closed"),
            ("[!", "not closed"),
            ("x[]y", "not closed"),
            (r"\\[", "not closed"),
            ("[z-a]", "backwards"),
            ("[[:digit:]-9]", "backwards"),
            ("[[:digits:]]", "no such class"),
            ("a\\", "backslash"),
            (r"foo\\/", "backslash"),
            ("{a", "not closed"),
            ("a}", "closes nothing"),
            ("{a}}", "closes nothing"),
        ] {
            let reason = check_glob(glob).unwrap_err();
            assert!(reason.contains(told), "{glob}: {reason}");
        }
        assert!(check_glob(&"{".repeat(21)).unwrap_err().contains("deeply"));
    }
}
