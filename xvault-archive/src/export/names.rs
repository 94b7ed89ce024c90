//! Names that every system can have, for a zip that is unpacked anywhere.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

use unicode_normalization::UnicodeNormalization as _;
use xvault_core::EntryPath;

use crate::error::Error;
use crate::seen::PassThrough;

/// The longest component that common file systems take, in bytes.
const MAX_COMPONENT: usize = 255;
/// What is kept of a longer one, before its hash.
const KEPT: usize = 200;

/// Names that are devices in every directory of Windows, whatever their extension.
const DEVICES: [&str; 7] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];

/// What an entry is to the names below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    /// A file or link: nothing may lie below it.
    Leaf,
}

/// What stands at a name so far. The two lowest bits of a path's hash are left for it.
const NAMED: u64 = 0;
const PARENT: u64 = 1;
const DIRECTORY: u64 = 2;
const LEAF: u64 = 3;
const STATE: u64 = 3;

/// Gives each path of a snapshot a name of its own that is safe everywhere. See [`super::export`] for the rules.
///
/// Memory: 17 to 39 bytes for each path and each directory on the way to one, more for those that some system takes for one.
#[derive(Default)]
pub(super) struct SafeNames {
    key: RandomState,
    /// By the hash of the folded name: the hash of the path that has it, and what stands there.
    taken: HashMap<u64, u64, PassThrough>,
    /// By the hash of the path: its number among those that some system takes for one.
    numbers: HashMap<u64, u32, PassThrough>,
    /// By the hash of the folded name: the last number given.
    last_number: HashMap<u64, u32, PassThrough>,
    last_parent: Option<(EntryPath, String)>,
}

impl SafeNames {
    /// The name of an entry that comes for the first time.
    pub(super) fn claim(&mut self, path: &EntryPath, node: Node) -> Result<String, Error> {
        let name = self.of(path)?;
        let refuse = |reason| Err(Error::Hostile { path: path.to_string(), reason });
        let Some(taken) = self.taken_at(&name) else { return Err(Error::Failed) };
        match (*taken & STATE, node) {
            (NAMED | PARENT, Node::Directory) => *taken = *taken & !STATE | DIRECTORY,
            (NAMED, Node::Leaf) => *taken |= LEAF,
            (PARENT, Node::Leaf) => return refuse("is no directory, but others lie below it"),
            _ => return refuse("appears twice"),
        }
        Ok(name)
    }

    fn taken_at(&mut self, name: &str) -> Option<&mut u64> {
        let folded = self.hash(fold(name).as_bytes());
        self.taken.get_mut(&folded)
    }

    /// The name of a path; the same each time.
    pub(super) fn of(&mut self, path: &EntryPath) -> Result<String, Error> {
        let mut name = match path.parent() {
            Some(parent) => self.directory(&parent, path)?,
            None => String::new(),
        };
        self.append(&mut name, path);
        Ok(name)
    }

    /// A name at the top for a file that is not in the snapshot, whatever names that has.
    pub(super) fn extra(&mut self, path: &EntryPath) -> String {
        let (mut name, mut number) = (path.to_string(), 0);
        while self.taken_at(&name).is_some() {
            number += 1;
            name = numbered(path.to_string(), path.name(), number);
        }
        name
    }

    /// The name of a directory that `below` lies in, with its slash.
    fn directory(&mut self, directory: &EntryPath, below: &EntryPath) -> Result<String, Error> {
        if let Some((last, name)) = &self.last_parent
            && last == directory
        {
            return Ok(name.clone());
        }
        let mut name = self.of(directory)?;
        match self.taken_at(&name) {
            Some(taken) if *taken & STATE == LEAF => {
                let reason = "lies below something that is no directory";
                return Err(Error::Hostile { path: below.to_string(), reason });
            }
            Some(taken) if *taken & STATE == NAMED => *taken |= PARENT,
            _ => {}
        }
        name.push('/');
        self.last_parent = Some((directory.clone(), name.clone()));
        Ok(name)
    }

    /// Appends the last component of `path`, made safe and, among those that some system takes for one, unique.
    fn append(&mut self, name: &mut String, path: &EntryPath) {
        let id = self.hash(path.as_bytes()) & !STATE;
        let component = fit(safe(path.name()), path.name(), MAX_COMPONENT);
        if let Some(number) = self.numbers.get(&id) {
            name.push_str(&numbered(component, path.name(), *number));
            return;
        }
        let parent_len = name.len();
        name.push_str(&component);
        let folded = self.hash(fold(name).as_bytes());
        match self.taken.get(&folded) {
            None => drop(self.taken.insert(folded, id | NAMED)),
            Some(taken) if taken & !STATE == id => {}
            Some(_) => {
                name.truncate(parent_len);
                let number = self.number(folded, id);
                name.push_str(&numbered(component, path.name(), number));
                let folded = self.hash(fold(name).as_bytes());
                self.taken.insert(folded, id | NAMED);
            }
        }
    }

    fn number(&mut self, folded: u64, id: u64) -> u32 {
        let last = self.last_number.entry(folded).or_default();
        *last += 1;
        self.numbers.insert(id, *last);
        *last
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        self.key.hash_one(bytes)
    }
}

/// As file systems compare names that mind no case (NTFS), nor how accents are written (APFS), nor what nobody sees (HFS+, ext4
/// with `casefold`). More may be equal here than there.
fn fold(name: &str) -> String {
    let seen = name.chars().filter(|c| !is_ignorable(*c)).nfd();
    // Small first, else a capital `ẞ` were never the two letters that a small one is.
    let small = seen.flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    small.nfd().collect()
}

/// Unicode's `Default_Ignorable_Code_Point`.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}' | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// One component with everything escaped that some system can't have.
fn safe(name: &[u8]) -> String {
    let mut safe = String::with_capacity(name.len());
    let last = name.len().saturating_sub(1);
    let device = is_device(name);
    let mut at = 0;
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let rest = name.get(at + c.len_utf8()..).unwrap_or_default();
            let escape = match c {
                '<' | '>' | ':' | '"' | '\\' | '|' | '?' | '*' => true,
                '.' | ' ' => at == last,
                '%' => looks_escaped(rest),
                c => c.is_control() || (at == 0 && device),
            };
            if escape {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape_byte(&mut safe, byte));
            } else {
                safe.push(c);
            }
            at += c.len_utf8();
        }
        chunk.invalid().iter().for_each(|byte| escape_byte(&mut safe, *byte));
        at += chunk.invalid().len();
    }
    safe
}

fn escape_byte(out: &mut String, byte: u8) {
    // Writing to a string can't fail.
    let _ = write!(out, "%{byte:02X}");
}

/// Whether a `%` before `rest` could be taken for one of ours.
fn looks_escaped(rest: &[u8]) -> bool {
    match rest {
        [b'~', ..] => true,
        [high, low, ..] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    }
}

fn is_device(name: &[u8]) -> bool {
    let stem = name.split(|b| *b == b'.').next().unwrap_or_default().trim_ascii_end();
    let Ok(stem) = std::str::from_utf8(stem) else { return false };
    let stem = stem.to_ascii_uppercase();
    let port = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    DEVICES.contains(&stem.as_str())
        || port.is_some_and(|number| {
            let mut number = number.chars();
            matches!(number.next(), Some('0'..='9' | '¹' | '²' | '³')) && number.next().is_none()
        })
}

/// Cuts a component that escapes have made longer than `limit`, and puts a hash of the original there.
fn fit(mut component: String, original: &[u8], limit: usize) -> String {
    if component.len() <= limit {
        return component;
    }
    let border = (0..=KEPT).rev().find(|at| component.is_char_boundary(*at)).unwrap_or_default();
    component.truncate(border);
    let hash = blake3::hash(original).to_hex();
    component.push_str("%~~");
    component.push_str(hash.get(..16).unwrap_or_default());
    component
}

/// With a number before the extension.
fn numbered(component: String, original: &[u8], number: u32) -> String {
    let mark = format!("%~{number}");
    let mut component = fit(component, original, MAX_COMPONENT - mark.len());
    let at = component.rfind('.').filter(|at| *at > 0).unwrap_or(component.len());
    component.insert_str(at, &mark);
    component
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn path(path: impl AsRef<[u8]>) -> EntryPath {
        EntryPath::new(path.as_ref()).unwrap()
    }

    /// What somebody reads who knows the rules.
    fn original(safe: &str) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), safe.as_bytes());
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            match (byte, after) {
                (b'%', [b'~', digits @ ..]) => {
                    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
                    rest = &digits[count..];
                }
                (b'%', [high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    let hex = std::str::from_utf8(&after[..2]).unwrap();
                    out.push(u8::from_str_radix(hex, 16).unwrap());
                    rest = &after[2..];
                }
                _ => out.push(*byte),
            }
        }
        out
    }

    #[test]
    fn what_windows_forbids_is_escaped_and_nothing_else() {
        let cases: [(&[u8], &str); 17] = [
            (b"plain name (1).txt", "plain name (1).txt"),
            (b"100% sure", "100% sure"),
            (b"100%25", "100%2525"),
            (b"50%~1", "50%25~1"),
            (b"a:b\\c", "a%3Ab%5Cc"),
            (b"C:", "C%3A"),
            (b"what?*<>|\"", "what%3F%2A%3C%3E%7C%22"),
            (b"dot.", "dot%2E"),
            (b"dots.. ", "dots.. ".trim_end_matches(' ')),
            (b"NUL", "%4EUL"),
            (b"nul.tar.gz", "%6Eul.tar.gz"),
            (b"Com1 .txt", "%43om1 .txt"),
            ("LPT³".as_bytes(), "%4CPT³"),
            (b"console", "console"),
            (b"COM10", "COM10"),
            (b"tab\there\x7f", "tab%09here%7F"),
            (b"caf\xe9", "caf%E9"),
        ];
        for (name, expected) in cases {
            let expected = if name == b"dots.. " { "dots..%20" } else { expected };
            assert_eq!(safe(name), expected);
            assert_eq!(original(expected), name);
        }
    }

    #[test]
    fn names_that_differ_by_case_only_are_numbered_also_as_directories() {
        let mut names = SafeNames::default();
        let mut claim = |of: &str, node| names.claim(&path(of), node).unwrap();
        assert_eq!(claim("Readme.TXT", Node::Leaf), "Readme.TXT");
        assert_eq!(claim("README.txt", Node::Leaf), "README%~1.txt");
        assert_eq!(claim("readme.txt", Node::Leaf), "readme%~2.txt");
        assert_eq!(claim("a", Node::Directory), "a");
        assert_eq!(claim("A/x", Node::Leaf), "A%~1/x");
        assert_eq!(claim("a/x", Node::Leaf), "a/x");
        assert_eq!(claim("A", Node::Directory), "A%~1");
        assert_eq!(claim("Ä/1", Node::Leaf), "Ä/1");
        assert_eq!(claim("ä/1", Node::Leaf), "ä%~1/1");
        assert_eq!(names.of(&path("A/x")).unwrap(), "A%~1/x");
    }

    #[test]
    fn names_that_differ_by_how_accents_are_written_or_by_what_nobody_sees_are_numbered() {
        for (one, other, named) in [
            ("caf\u{e9}.txt", "cafe\u{301}.txt", "cafe\u{301}%~1.txt"),
            ("CAFE\u{301}", "caf\u{e9}", "caf\u{e9}%~1"),
            ("\u{212b}", "\u{e5}", "\u{e5}%~1"),
            ("a\u{323}\u{302}", "a\u{302}\u{323}", "a\u{302}\u{323}%~1"),
            (".git", ".g\u{200c}it", ".g\u{200c}it%~1"),
            ("stra\u{df}e", "STRA\u{1e9e}E", "STRA\u{1e9e}E%~1"),
        ] {
            let mut names = SafeNames::default();
            assert_eq!(names.claim(&path(one), Node::Leaf).unwrap(), one);
            assert_eq!(names.claim(&path(other), Node::Leaf).unwrap(), named);
        }
    }

    #[test]
    fn every_letter_is_folded_as_its_capital_its_small_form_and_its_parts_are() {
        for c in '\0'..'\u{20000}' {
            let folded = fold(&c.to_string());
            let forms: [String; 4] = [
                c.to_lowercase().collect(),
                c.to_uppercase().collect(),
                std::iter::once(c).nfc().collect(),
                std::iter::once(c).nfd().collect(),
            ];
            for form in forms {
                assert_eq!(fold(&form), folded, "{c:?} and {form:?}");
            }
        }
    }

    #[test]
    fn nothing_comes_twice_or_lies_below_a_link() {
        let refused = |tree: &[(&str, Node)]| {
            let mut names = SafeNames::default();
            let mut claim = |(of, node): &(&str, Node)| names.claim(&path(of), *node);
            let (last, before) = tree.split_last().unwrap();
            before.iter().for_each(|one| drop(claim(one).unwrap()));
            claim(last).unwrap_err().to_string()
        };
        let twice = refused(&[("a", Node::Leaf), ("a", Node::Leaf)]);
        assert!(twice.contains("`a` appears twice"), "{twice}");
        let below = refused(&[("l", Node::Leaf), ("l/evil", Node::Leaf)]);
        assert!(below.contains("`l/evil` lies below"), "{below}");
        let above = refused(&[("l/evil", Node::Leaf), ("l", Node::Leaf)]);
        assert!(above.contains("`l` is no directory"), "{above}");
        let later = refused(&[("l/m/evil", Node::Leaf), ("x/y", Node::Leaf), ("l", Node::Leaf)]);
        assert!(later.contains("`l`"), "{later}");
    }

    #[test]
    fn a_name_that_grew_too_long_is_cut_and_stays_unique() {
        let (one, two) = (vec![0xffu8; 200], [vec![0xffu8; 199], vec![0xfe]].concat());
        let (one_safe, two_safe) = (fit(safe(&one), &one, 255), fit(safe(&two), &two, 255));
        assert!(one_safe.len() <= MAX_COMPONENT && one_safe != two_safe, "{one_safe} {two_safe}");
    }

    /// Unpacked in its order, such a zip would write through a link that it has just made.
    #[test]
    fn nothing_lies_below_what_is_no_directory() {
        for (first, second, reason) in [
            ("a", "a/b", "lies below something that is no directory"),
            ("a", "a/b/c", "lies below something that is no directory"),
            ("a/b", "a", "is no directory, but others lie below it"),
            ("a", "a", "appears twice"),
        ] {
            let mut names = SafeNames::default();
            names.claim(&path(first), Node::Leaf).unwrap();
            let error = names.claim(&path(second), Node::Leaf).unwrap_err();
            assert!(error.to_string().contains(reason), "{first}, {second}: {error}");
        }
        let mut names = SafeNames::default();
        names.claim(&path("a"), Node::Directory).unwrap();
        names.claim(&path("a/b"), Node::Leaf).unwrap();
        names.claim(&path("a"), Node::Leaf).expect_err("it is a directory already");
    }

    proptest! {
        #[test]
        fn any_names_become_safe_unique_and_readable(
            all in proptest::collection::hash_set(
                proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'A'), Just(b'%'), Just(b'.'), Just(b':'), 1u8..=255], 1..8),
                1..40)
        ) {
            let (mut names, mut seen) = (SafeNames::default(), HashSet::new());
            for raw in all {
                let Ok(path) = EntryPath::new(raw.clone()) else { continue };
                if path.as_bytes().contains(&b'/') { continue }
                let name = names.claim(&path, Node::Leaf).unwrap();
                prop_assert!(seen.insert(fold(&name)), "{} comes twice", name);
                prop_assert!(!name.contains(['<', '>', ':', '"', '\\', '|', '?', '*', '/']) && !name.contains(char::is_control));
                prop_assert!(!name.ends_with(['.', ' ']) && !is_device(name.as_bytes()));
                prop_assert_eq!(original(&name), raw);
                prop_assert_eq!(names.of(&path).unwrap(), name);
            }
        }
    }
}
