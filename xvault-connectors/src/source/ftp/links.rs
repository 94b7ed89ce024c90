//! Which entry a line of LIST is about, where the line does not say: an arrow may stand in the name of a link and in what it leads to, and what
//! follows a line break in a name makes a line of its own. Whoever may write in a directory can make such names.

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use xvault_core::entry::display_name;

use super::list::{Dir, Listing};
use crate::ftp::{Kind, Listed};

const ARROW: &[u8] = b" -> ";

/// A name of 255 bytes, which is the longest one of common systems, has no more arrows in it.
const MOST_SPLITS: usize = 64;

/// The names that LIST gives to files and directories: no link has one of them. Only hashes are kept, under a key that nobody knows.
#[derive(Debug, Default)]
pub(super) struct PlainNames {
    hashes: HashSet<u64>,
    keys: RandomState,
}

impl PlainNames {
    /// Memory that one takes, in bytes.
    pub(super) const WEIGHT: usize = 2 * size_of::<u64>();

    pub(super) fn add(&mut self, name: &[u8]) {
        self.hashes.insert(self.keys.hash_one(name));
    }

    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.hashes.contains(&self.keys.hash_one(name))
    }
}

/// A way to read the line of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split<'t> {
    name: &'t [u8],
    target: &'t [u8],
}

/// What the line of a link says.
#[derive(Debug, PartialEq, Eq)]
enum Reading<'t> {
    Link(Split<'t>),
    /// It does not tell where the link leads.
    Blind,
    /// One of several links, this one for instance.
    Unsure(Split<'t>),
    /// It is about what LIST tells to be no link.
    Contradiction,
}

/// Reads the line of a link, `text` and the `length` that it gives to the target.
fn read(text: &[u8], length: Option<u64>, may_be: impl Fn(&[u8]) -> bool) -> Reading<'_> {
    let open: Vec<Split<'_>> = splits(text).filter(|split| may_be(split.name)).collect();
    // Common servers tell how long the target is.
    let exact = open.iter().find(|split| length == Some(split.target.len() as u64));
    match (exact, open.as_slice()) {
        (Some(exact), _) => Reading::Link(*exact),
        (None, [only]) => Reading::Link(*only),
        (None, [first, ..]) => Reading::Unsure(*first),
        (None, []) if may_be(text) => Reading::Blind,
        (None, []) => Reading::Contradiction,
    }
}

fn splits(text: &[u8]) -> impl Iterator<Item = Split<'_>> {
    let arrows = text.windows(ARROW.len()).enumerate().filter(|(_, part)| *part == ARROW);
    let split = |(at, _)| Some(Split { name: text.get(..at)?, target: text.get(at + ARROW.len()..)? });
    let splits = arrows.filter_map(split).take(MOST_SPLITS);
    splits.filter(|split| !split.name.is_empty() && !split.target.is_empty())
}

/// Parts the names of links from what they lead to, and leaves out what contradicts other lines. A link that could be one of several is left
/// out, too, where `is_known` has one of them: what it is, something better has told.
pub(super) fn settle(dir: &Dir, listing: &mut Listing, is_known: impl Fn(&[u8]) -> bool) {
    let Listing { children, plain, suspects, has_nonsense, .. } = listing;
    children.retain_mut(|child| match child.kind {
        Kind::Symlink => {
            let may_be = |name: &[u8]| !plain.has(name) && dir.unfit(name).is_none();
            let text = std::mem::take(&mut child.name);
            let split = match read(&text, child.size, may_be) {
                Reading::Link(split) => {
                    if *has_nonsense && child.size.is_some_and(|size| size > split.target.len() as u64) {
                        suspects.add(|| cut(&text));
                    }
                    split
                }
                Reading::Blind => Split { name: &text, target: b"" },
                Reading::Unsure(split) => {
                    suspects.add(|| ambiguous(&text));
                    if splits(&text).any(|split| may_be(split.name) && is_known(split.name)) {
                        return false;
                    }
                    split
                }
                Reading::Contradiction => {
                    suspects.add(|| dir.unfit(&text).unwrap_or_else(|| contradiction(&text)));
                    return false;
                }
            };
            child.target = Some(split.target).filter(|target| !target.is_empty()).map(Into::into);
            child.name = split.name.into();
            true
        }
        Kind::Special if plain.has(&child.name) => {
            suspects.add(|| contradiction(&child.name));
            false
        }
        _ => true,
    });
}

fn ambiguous(text: &[u8]) -> String {
    let text = display_name(text);
    format!(
        "a link of its listing can be read in more than one way, as names and targets may have arrows: `{text}`"
    )
}

fn cut(text: &[u8]) -> String {
    let text = display_name(text);
    format!(
        "what a link leads to is longer than its line tells: `{text}`; it may have a line break, which FTP can't say"
    )
}

fn contradiction(text: &[u8]) -> String {
    let text = display_name(text);
    format!(
        "a line of its listing contradicts another one, and is not believed: `{text}`; a name with a line break may have made it"
    )
}

/// What MLSD of common servers gets wrong: links that lead nowhere are left out, others are shown as what they lead to, or without
/// that, and pipes as files, which nobody comes back from reading. LIST shows them as they are.
pub(super) fn correct(dir: &Dir, listing: &mut Listing, mut told: Listing) {
    let children = &listing.children;
    let known: LazyCell<HashSet<&[u8]>, _> =
        LazyCell::new(|| children.iter().map(|child| &*child.name).collect());
    settle(dir, &mut told, |name| known.contains(name));
    listing.suspects = told.suspects;
    let mut odd: HashMap<Box<[u8]>, Listed> = HashMap::new();
    for child in told.children {
        let name = display_name(&child.name);
        if odd.insert(child.name.clone(), child).is_some() {
            listing.suspects.add(|| format!("`{name}` is listed twice"));
        }
    }
    for child in &mut listing.children {
        if let Some(told) = odd.remove(&child.name) {
            child.kind = told.kind;
            child.target = told.target.or(child.target.take());
        }
    }
    for mut alone in odd.into_values() {
        // LIST tells owners by name, MLSD by number too.
        if let Some(itself) = &listing.itself {
            alone.uid =
                alone.uid.or(itself.uid.filter(|_| alone.user.is_some() && alone.user == itself.user));
            alone.gid =
                alone.gid.or(itself.gid.filter(|_| alone.group.is_some() && alone.group == itself.group));
        }
        listing.children.push(alone);
    }
    listing.weight.join(told.weight);
    let itself = listing.itself.as_ref().and_then(|itself| itself.unique.as_deref());
    for link in
        listing.children.iter_mut().filter(|child| child.kind == Kind::Symlink && child.target.is_none())
    {
        link.target = own_target(link, itself, listing.above.as_deref());
    }
}

/// ProFTPD leaves links to `.` and `..` out of LIST. MLSD tells the length of what they say, and that it is this directory, or the one above.
fn own_target(link: &Listed, itself: Option<&[u8]>, above: Option<&[u8]>) -> Option<Box<[u8]>> {
    let unique = link.unique.as_deref()?;
    match link.size? {
        1 if itself == Some(unique) => Some((*b".").into()),
        2 if above == Some(unique) => Some((*b"..").into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'t>(text: &'t str, length: Option<u64>, plain: &[&str]) -> Reading<'t> {
        read(text.as_bytes(), length, |name| !plain.iter().any(|plain| plain.as_bytes() == name))
    }

    fn link<'t>(name: &'t str, target: &'t str) -> Split<'t> {
        Split { name: name.as_bytes(), target: target.as_bytes() }
    }

    #[test]
    fn a_link_is_told_by_its_length_and_by_names_that_are_taken() {
        assert_eq!(of("a -> b", Some(1), &[]), Reading::Link(link("a", "b")));
        // Some servers write targets otherwise than they count them.
        assert_eq!(of("a -> b", Some(7), &[]), Reading::Link(link("a", "b")));
        assert_eq!(of("a -> b -> c", Some(6), &[]), Reading::Link(link("a", "b -> c")));
        assert_eq!(of("a -> b -> c", Some(1), &[]), Reading::Link(link("a -> b", "c")));
        assert_eq!(of("a -> b -> c", Some(6), &["a"]), Reading::Link(link("a -> b", "c")));
        assert_eq!(of("a -> b -> c", None, &["a -> b"]), Reading::Link(link("a", "b -> c")));
        assert_eq!(of("a -> b -> c", Some(9), &[]), Reading::Unsure(link("a", "b -> c")));
        assert_eq!(of(" ->  -> ", None, &[]), Reading::Blind);
    }

    #[test]
    fn a_link_without_a_target_and_one_that_can_be_none_are_told() {
        assert_eq!(of("ab", Some(3), &[]), Reading::Blind);
        assert_eq!(of("a -> b", Some(1), &["a"]), Reading::Blind);
        assert_eq!(of("a -> b", Some(1), &["a", "a -> b"]), Reading::Contradiction);
        assert_eq!(of("ab", None, &["ab"]), Reading::Contradiction);
    }

    #[test]
    fn a_line_of_arrows_alone_costs_no_more_than_any_other() {
        let text = "a -> ".repeat(3000);
        let asked = std::cell::Cell::new(0);
        let _ = read(text.as_bytes(), None, |_| {
            asked.set(asked.get() + 1);
            false
        });
        assert_eq!(asked.get(), MOST_SPLITS + 1);
    }
}
