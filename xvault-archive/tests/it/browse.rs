//! Browsing agrees with a naive look at all entries, page by page, whatever the order of the index.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use proptest::prelude::*;
use proptest::sample::Index;
use xvault_archive::browse::{self, Change, Item, Listed, Page, Pattern, Range};
use xvault_archive::{ArchiveEntry, ArchiveIndex, Error};
use xvault_core::{EntryKind, EntryPath};

use crate::support::{
    Archive, Item as Written, dir, file, hardlink, noise, oddities, path, stream, symlink, trees, write,
};

type Opened = ArchiveIndex<Cursor<Vec<u8>>>;

fn index(archive: &Archive) -> Opened {
    let identities = std::slice::from_ref(&archive.identity);
    ArchiveIndex::open(Cursor::new(archive.index.clone()), identities).unwrap()
}

/// All entries by their paths, read and checked one by one.
fn entries(archive: &Archive) -> BTreeMap<Vec<u8>, ArchiveEntry> {
    let mut index = index(archive);
    let entries = index.entries().unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.entry.path.as_bytes().to_vec(), entry)).collect()
}

/// Walks through all pages.
fn pages<T>(limit: usize, mut page: impl FnMut(&Range) -> Page<T>) -> Vec<T> {
    let (mut all, mut range) = (Vec::new(), Range::first(limit));
    loop {
        let Page { items, next } = page(&range);
        assert!(items.len() <= limit);
        all.extend(items);
        match next {
            Some(next) => {
                assert!(next > range.from, "a page after which it does not go on");
                range.from = next;
            }
            None => return all,
        }
    }
}

fn listed(archive: &Archive, directory: Option<&EntryPath>, limit: usize) -> Vec<Item> {
    let mut index = index(archive);
    pages(limit, |range| match browse::list(&mut index, directory, range).unwrap() {
        Listed::Page(page) => page,
        other => panic!("{other:?}"),
    })
}

/// The children of a directory, from all paths.
fn children(all: &BTreeMap<Vec<u8>, ArchiveEntry>, directory: Option<&EntryPath>) -> Vec<Item> {
    let start = directory.map(|d| [d.as_bytes(), b"/"].concat()).unwrap_or_default();
    let below = all.keys().filter_map(|path| path.strip_prefix(start.as_slice()));
    let names: BTreeSet<_> = below.map(|rest| rest.split(|b| *b == b'/').next().unwrap()).collect();
    let item = |name: &[u8]| {
        let whole = [start.as_slice(), name].concat();
        Item { entry: all.get(&whole).cloned(), path: path(whole) }
    };
    names.into_iter().map(item).collect()
}

/// Every directory, with an entry or without.
fn directories(all: &BTreeMap<Vec<u8>, ArchiveEntry>) -> Vec<Option<EntryPath>> {
    let mut found = BTreeSet::new();
    for entry in all.values() {
        let mut at = entry.entry.path.parent();
        while let Some(directory) = at {
            at = directory.parent();
            found.insert(directory);
        }
        if entry.entry.kind == EntryKind::Directory {
            found.insert(entry.entry.path.clone());
        }
    }
    std::iter::once(None).chain(found.into_iter().map(Some)).collect()
}

/// `after` as a change of `before`: what the naive way makes of two maps.
fn changes(before: &BTreeMap<Vec<u8>, ArchiveEntry>, after: &BTreeMap<Vec<u8>, ArchiveEntry>) -> Vec<Change> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let change = |path: &Vec<u8>| match (before.get(path).cloned(), after.get(path).cloned()) {
        (None, Some(entry)) => Some(Change::Added(Box::new(entry))),
        (Some(entry), None) => Some(Change::Removed(Box::new(entry))),
        (Some(a), Some(b)) if a.entry != b.entry || a.blake3 != b.blake3 => {
            Some(Change::Changed { before: Box::new(a), after: Box::new(b) })
        }
        _ => None,
    };
    paths.into_iter().filter_map(change).collect()
}

/// Trees whose entries come in any order, and not all with their directories.
fn shuffled() -> impl Strategy<Value = Vec<Written>> {
    let hard = |item: &Written| matches!(item.0.kind, EntryKind::Hardlink { .. });
    trees()
        .prop_map(move |tree| tree.into_iter().filter(|item| !hard(item)).collect::<Vec<_>>())
        .prop_shuffle()
}

/// Another edition of a tree: some gone, some new, some changed in one respect.
fn edited(tree: &[Written], edits: &[(Index, u8)]) -> Vec<Written> {
    let mut tree = tree.to_vec();
    for (at, edit) in edits {
        if tree.is_empty() {
            break;
        }
        let at = at.index(tree.len());
        let (entry, body) = &mut tree[at];
        match (edit % 6, &mut entry.kind) {
            (0, _) => drop(tree.remove(at)),
            (1, _) => entry.metadata.mode ^= 0o100,
            (2, _) => entry.metadata.mtime.nanos ^= 1,
            (3, EntryKind::File { size }) if *size > 0 => body[0] ^= 1,
            (4, EntryKind::File { size }) => {
                body.push(7);
                *size += 1;
            }
            (5, kind) => {
                *kind = EntryKind::Symlink { target: b"elsewhere".to_vec() };
                body.clear();
            }
            _ => entry.metadata.uid ^= 1,
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_directory_lists_as_the_naive_way(tree in shuffled(), limit in 1usize..5) {
        let archive = write(&tree);
        let all = entries(&archive);
        for directory in directories(&all) {
            let found = listed(&archive, directory.as_ref(), limit);
            prop_assert_eq!(found, children(&all, directory.as_ref()));
        }
    }

    #[test]
    fn every_search_finds_as_the_naive_way(tree in shuffled(), limit in 1usize..5, part in "[a-cA-C]{1,2}") {
        let archive = write(&tree);
        let (all, mut index) = (entries(&archive), index(&archive));
        let pattern = Pattern::new(part.as_bytes()).unwrap();
        let found = pages(limit, |range| browse::search(&mut index, None, &pattern, range).unwrap());
        let wanted = part.to_ascii_lowercase().into_bytes();
        let fits = |entry: &&ArchiveEntry| {
            let name = entry.entry.path.name().to_ascii_lowercase();
            name.windows(wanted.len()).any(|part| part == wanted)
        };
        let expected: Vec<_> = all.values().filter(fits).cloned().collect();
        prop_assert_eq!(found.into_iter().map(|item| item.entry.unwrap()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn differences_are_those_of_the_naive_way(
        tree in shuffled(),
        edits in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        limit in 1usize..5,
    ) {
        let (before, after) = (write(&tree), write(&edited(&tree, &edits)));
        let (mut a, mut b) = (index(&before), index(&after));
        let found = pages(limit, |range| browse::diff(&mut a, &mut b, None, range).unwrap());
        prop_assert_eq!(found, changes(&entries(&before), &entries(&after)));
        // And of a snapshot to itself there is none.
        let page = browse::diff(&mut index(&before), &mut a, None, &Range::first(10)).unwrap();
        prop_assert_eq!(page, Page { items: vec![], next: None });
    }
}

#[test]
fn names_that_hurt_are_listed_once_and_whole() {
    let archive = write(&oddities());
    let all = entries(&archive);
    for directory in directories(&all) {
        assert_eq!(listed(&archive, directory.as_ref(), 7), children(&all, directory.as_ref()));
    }
    let parts = all.get(b"srv/long.sql".as_slice()).unwrap();
    assert_eq!((parts.parts, parts.size()), (3, 50_001));
}

#[test]
fn a_dump_in_parts_is_found_and_compared_as_one_file() {
    let before = write(&[stream("db/shop.sql", noise(50_001, 1)), file("db/x.part-00001", "a user's own")]);
    let after = write(&[stream("db/shop.sql", noise(50_001, 2)), file("db/x.part-00001", "a user's own")]);
    let names = |pattern: &str| {
        let pattern = Pattern::new(pattern.as_bytes()).unwrap();
        let page = browse::search(&mut index(&before), None, &pattern, &Range::first(10)).unwrap();
        page.items.iter().map(|item| item.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("*.sql"), ["db/shop.sql"]);
    assert_eq!(names(".part-"), ["db/x.part-00001"]);
    let page = browse::diff(&mut index(&before), &mut index(&after), None, &Range::first(10)).unwrap();
    let [Change::Changed { before, after }] = page.items.as_slice() else { panic!("{page:?}") };
    assert_eq!((before.entry.path.to_string().as_str(), before.parts, after.parts), ("db/shop.sql", 3, 3));
    assert_ne!(before.blake3, after.blake3);
}

#[test]
fn a_path_that_is_no_directory_is_told_from_one_that_is_not_there() {
    let archive = write(&[file("a/b", "x"), symlink("l", "a"), dir("empty"), hardlink("h", "a/b")]);
    let list = |directory: &str| {
        browse::list(&mut index(&archive), Some(&path(directory)), &Range::first(9)).unwrap()
    };
    assert_eq!(list("nowhere"), Listed::Absent);
    assert_eq!(list("a/b/c"), Listed::Absent);
    assert_eq!(list("aa"), Listed::Absent);
    for other in ["a/b", "l", "h"] {
        assert_eq!(list(other), Listed::NotADirectory, "{other}");
    }
    assert_eq!(list("empty"), Listed::Page(Page { items: vec![], next: None }));
    let Listed::Page(implied) = list("a") else { panic!("a directory without an entry is one") };
    assert_eq!(implied.items.len(), 1);
}

#[test]
fn what_lies_below_a_path_only_begins_with_it_by_components() {
    let archive = write(&[file("ab/x", ""), file("a/x", ""), file("a-/x", "")]);
    let names: Vec<_> = listed(&archive, None, 1).iter().map(|item| item.path.to_string()).collect();
    assert_eq!(names, ["a", "a-", "ab"]);
    let pattern = Pattern::new(b"x").unwrap();
    let below = browse::search(&mut index(&archive), Some(&path("a")), &pattern, &Range::first(9)).unwrap();
    assert_eq!(below.items.iter().map(|item| item.path.to_string()).collect::<Vec<_>>(), ["a/x"]);
}

#[test]
fn a_difference_can_be_asked_for_below_a_directory() {
    let before = write(&[file("a/x", "1"), file("b/x", "1"), dir("a/y")]);
    let after = write(&[file("a/x", "2"), file("b/x", "2"), file("a/z", "")]);
    let page =
        browse::diff(&mut index(&before), &mut index(&after), Some(&path("a")), &Range::first(9)).unwrap();
    let told: Vec<_> = page.items.iter().map(|change| change.path().to_string()).collect();
    assert_eq!(told, ["a/x", "a/y", "a/z"]);
}

#[test]
fn a_page_of_long_names_is_cut_before_it_is_large() {
    let items: Vec<_> = (0..400).map(|n| symlink(format!("l{n:03}"), "t".repeat(4000))).collect();
    let archive = write(&items);
    let Listed::Page(page) = browse::list(&mut index(&archive), None, &Range::first(1000)).unwrap() else {
        panic!("no page")
    };
    assert!((100..140).contains(&page.items.len()), "{} items", page.items.len());
    assert_eq!(listed(&archive, None, 1000).len(), 400);
}

#[test]
fn an_index_that_is_cut_gives_no_page() {
    let archive = write(&(0..50).map(|n| file(format!("f{n}"), "x")).collect::<Vec<_>>());
    let whole = archive.index.len();
    for cut in [1, 20, whole / 2] {
        let identities = std::slice::from_ref(&archive.identity);
        let short = Cursor::new(archive.index[..whole - cut].to_vec());
        let Ok(mut index) = ArchiveIndex::open(short, identities) else { continue };
        let refused = browse::list(&mut index, None, &Range::first(9)).unwrap_err();
        assert!(matches!(refused, Error::Truncated { .. } | Error::Damaged { .. }), "{refused}");
    }
}
