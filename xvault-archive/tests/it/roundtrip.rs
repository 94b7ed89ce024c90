//! What is written is read back the same, as a list and entry by entry.

use std::io::Read;

use proptest::prelude::*;
use xvault_core::EntryKind;

use crate::support::{Archive, Item, oddities, trees, write};

/// Lists the archive and reads every content.
pub(crate) fn read_all(archive: &Archive) -> Vec<Item> {
    let mut reader = archive.reader();
    let entries: Vec<_> = reader.entries().unwrap().collect::<Result<_, _>>().unwrap();
    let mut items = Vec::new();
    for entry in entries {
        let mut body = Vec::new();
        if entry.entry.has_body() {
            reader.read_entry(entry.clone()).unwrap().read_to_end(&mut body).unwrap();
            assert_eq!(entry.blake3, Some(*blake3::hash(&body).as_bytes()));
        }
        items.push((entry.entry, body));
    }
    items
}

/// What reading should give: a stream has become a file.
fn expected(items: &[Item]) -> Vec<Item> {
    let joined = |(entry, body): &Item| {
        let (mut entry, body) = (entry.clone(), body.clone());
        if entry.kind == EntryKind::Stream {
            entry.kind = EntryKind::File { size: body.len() as u64 };
        }
        (entry, body)
    };
    items.iter().map(joined).collect()
}

#[test]
fn every_oddity_comes_back() {
    let items = oddities();
    let archive = write(&items);
    assert_eq!(read_all(&archive), expected(&items));
    let content = archive.stats.content;
    let bytes: usize = items.iter().map(|(_, body)| body.len()).sum();
    assert_eq!(content.bytes, bytes as u64);
    let files = items.iter().filter(|(entry, _)| entry.has_body()).count();
    assert_eq!(content.files, files as u64);
    assert_eq!((content.directories, content.symlinks, content.hardlinks), (3, 4, 1));
    // Three parts and their closing entry stand for one file.
    assert_eq!(archive.stats.entries, items.len() as u64 + 3);
    let mut reader = archive.reader();
    assert_eq!(reader.totals().unwrap().content, content);
    assert_eq!(reader.header().key, archive.key);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn random_trees_come_back(items in trees()) {
        prop_assert_eq!(read_all(&write(&items)), expected(&items));
    }
}
