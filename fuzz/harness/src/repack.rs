//! The tar re-packer: of a remote stream only what was asked for, each thing once, in order, whole.

mod case;
mod recorder;

use std::collections::{HashMap, HashSet};

use xvault_core::tar::TarKind;
use xvault_core::{EntryKind, EntryPath};

use crate::Verdict;
use crate::chunks::cut;
use crate::mutate::Rng;
use crate::tar_parser::with_checksums;
use case::{Case, Header};
use recorder::{Kept, Story};

/// Re-packs the streams that `data` holds, as they are and with the checksum of every block made right.
///
/// The bytes are a line of configured paths, a line of globs, and what the remote tar sends: its
/// archive, and behind it those with which hard links are fetched by themselves.
///
/// # Panics
/// When something is handed on that was not asked for, is not in the streams, comes twice or in disorder,
/// or when a stream that was cut is taken for a whole one.
pub fn repack(data: &[u8]) -> Verdict {
    let case = Case::of(data);
    let raw = check(&case);
    let repaired = check(&Case { tar: with_checksums(&case.tar), ..case });
    if raw == Verdict::Accepted { raw } else { repaired }
}

fn check(case: &Case) -> Verdict {
    let streams = case.streams();
    let whole = recorder::run(case, &streams, |stream| vec![bytes::Bytes::copy_from_slice(stream)]);
    assert_eq!(whole, recorder::run(case, &streams, cut), "what is handed on depends on the chunks");
    let headers: Vec<_> = streams.iter().map(|stream| case::headers(stream)).collect();
    assert_was_asked_for(case, &whole);
    assert_is_in_the_streams(&streams, &headers, &whole);
    assert_is_in_order(case, &headers, &whole);
    assert_links_lead_back(case, &headers, &whole);
    if whole.end.is_ok() {
        assert_nothing_is_missing(case, &headers, &whole);
        assert_a_cut_stream_is_refused(case, &streams);
    }
    Verdict::of(&whole.end)
}

fn assert_was_asked_for(case: &Case, story: &Story) {
    for Kept { entry, .. } in &story.kept {
        let root = case.root_of(&entry.path);
        assert!(root.is_some(), "{:?} was not asked for", entry.path);
        let is_dir = entry.kind == EntryKind::Directory;
        assert!(!case.is_left_out(&entry.path, is_dir), "{:?} is excluded", entry.path);
    }
}

/// The body too; so what is handed on is never more than what came.
fn assert_is_in_the_streams(streams: &[&[u8]], headers: &[Vec<Header>], story: &Story) {
    for (number, kept) in story.kept.iter().enumerate() {
        let (header, _) = header_of(headers, kept);
        let start = usize::try_from(header.tar.data_offset).unwrap_or(usize::MAX);
        let sent = streams.get(kept.stream).and_then(|sent| sent.get(start..start + kept.body.len()));
        assert_eq!(sent, Some(&kept.body[..]), "{:?} has another body", kept.entry);
        let may_be_open = number + 1 == story.kept.len() && story.end.is_err();
        assert!(kept.is_whole || may_be_open, "{:?} was left open", kept.entry);
        if let (EntryKind::File { size }, true) = (&kept.entry.kind, kept.is_whole) {
            assert_eq!(*size, kept.body.len() as u64, "{:?}", kept.entry);
        }
        assert_eq!(kept.entry.metadata, header.tar.metadata);
    }
}

/// The header that an entry was made of, and how many came before it in its stream.
#[expect(clippy::expect_used, reason = "an entry that nobody sent is what this looks for")]
fn header_of<'a>(headers: &'a [Vec<Header>], kept: &Kept) -> (&'a Header, usize) {
    let sent = headers.get(kept.stream).map(Vec::as_slice).unwrap_or_default();
    let found = sent.iter().position(|header| header.is_of(&kept.entry));
    let found = found.and_then(|at| Some((sent.get(at)?, at)));
    found.expect("something is handed on that was not sent")
}

/// Parents come before children and siblings in the order of their names; a hard link that is fetched by
/// itself comes out of this order, and only after its stream refused to be a file of its own.
fn assert_is_in_order(case: &Case, headers: &[Vec<Header>], story: &Story) {
    let mut seen = HashSet::new();
    let mut last = None;
    for kept in &story.kept {
        let path = &kept.entry.path;
        assert!(seen.insert(path), "{path:?} comes twice");
        if let Some(before) = kept.stream.checked_sub(1) {
            let orphan = |header: &Header| header.is_link() && header.path.as_ref() == Some(path);
            let was_orphan = headers.get(before).is_some_and(|headers| headers.iter().any(orphan));
            assert!(was_orphan, "{path:?} was not asked for by itself");
            continue;
        }
        let place = (case.root_of(path), path.components().map(<[u8]>::to_vec).collect::<Vec<_>>());
        assert!(last.as_ref().is_none_or(|last| *last < place), "{path:?} comes too late");
        last = Some(place);
    }
}

/// To a file that was handed on. A name that no stream held goes unnoticed here: nobody remembers all files.
fn assert_links_lead_back(case: &Case, headers: &[Vec<Header>], story: &Story) {
    let mut before: HashMap<&EntryPath, &EntryKind> = HashMap::new();
    for kept in &story.kept {
        if let EntryKind::Hardlink { target } = &kept.entry.kind {
            assert!(case.root_of(target).is_some(), "a link leads out, to {target:?}");
            assert!(!case.is_left_out(target, false), "a link leads to what is excluded, {target:?}");
            let is_file = before
                .get(target)
                .map(|kind| matches!(kind, EntryKind::File { .. } | EntryKind::Hardlink { .. }));
            assert!(
                is_file.unwrap_or(!was_sent(headers, kept, target)),
                "a link leads to no file, {target:?}"
            );
        }
        before.insert(&kept.entry.path, &kept.entry.kind);
    }
}

/// Whether `target` came before the entry, in its stream or an earlier one.
fn was_sent(headers: &[Vec<Header>], kept: &Kept, target: &EntryPath) -> bool {
    let (_, at) = header_of(headers, kept);
    let earlier = headers.iter().take(kept.stream).flatten();
    let own = headers.get(kept.stream).into_iter().flatten().take(at);
    earlier.chain(own).any(|header| header.path.as_ref() == Some(target))
}

fn assert_nothing_is_missing(case: &Case, headers: &[Vec<Header>], story: &Story) {
    let kept: HashSet<_> = story.kept.iter().map(|kept| &kept.entry.path).collect();
    for header in headers.first().into_iter().flatten() {
        let Some(path) = &header.path else { continue };
        if case.is_left_out(path, header.tar.kind == TarKind::Directory) {
            continue;
        }
        match &header.tar.kind {
            TarKind::File | TarKind::Directory | TarKind::Symlink { .. } => {
                assert!(kept.contains(path), "{path:?} was lost");
            }
            TarKind::Hardlink { .. } | TarKind::Special(_) => {}
            _ => assert!(story.warned.contains(path), "{path:?} was lost without a word"),
        }
    }
}

fn assert_a_cut_stream_is_refused(case: &Case, streams: &[&[u8]]) {
    let Some(first) = streams.first() else { return };
    let end = Rng::of(first).below(first.len());
    let cut_off = first.get(..end).unwrap_or_default();
    let story = recorder::run(case, &[cut_off], cut);
    assert!(story.end.is_err(), "a stream that was cut at {end} of {} is accepted", first.len());
}
