//! Looks into the index of a snapshot, or of two, for somebody who waits for the answer.

use xvault::Snapshot;
use xvault::archive::browse::{Change, Item, Listed, Page, Pattern, Range};
use xvault::connectors::Control;
use xvault::core::protocol::{
    Browse, BrowseQuery, BrowseTask, Browsed, BrowsedChange, BrowsedEntry, ChangeKind, Cursor, Facts, Name,
    StoredIndex, TaskResult, asked_path,
};
use xvault::core::{EntryPath, Identity};

use super::Tools;
use super::fault::Fault;

/// Reads the index, and nothing else. A directory that is not there is an answer.
pub(super) async fn run(tools: &Tools, task: &BrowseTask, control: &Control) -> Result<TaskResult, Fault> {
    let identities = tools.doors.identities(&task.identities)?;
    let found = look(tools, task, &identities, control).await?;
    Ok(TaskResult::Browse { found })
}

async fn look(
    tools: &Tools,
    task: &BrowseTask,
    identities: &[Identity],
    control: &Control,
) -> Result<Browsed, Fault> {
    let query = &task.query;
    let directory = asked_path(query.directory.as_ref()).map_err(|reason| unclear(&reason))?;
    let (directory, range) = (directory.as_ref(), range(query));
    let StoredIndex { snapshot, store } = &task.snapshot;
    let store = tools.open_store(store)?;
    let snapshot = Snapshot::open(&*store, snapshot, identities.to_vec()).await?;
    match &query.what {
        Browse::List => Ok(listed(snapshot.list(directory, &range, control).await?)),
        Browse::Search { name } => {
            let pattern = Pattern::new(name.as_bytes()).ok_or_else(|| unclear("no name is like that"))?;
            Ok(entries(snapshot.search(directory, &pattern, &range, control).await?))
        }
        Browse::Diff => {
            let other =
                task.other.as_ref().ok_or_else(|| unclear("a difference is between two snapshots"))?;
            diff(tools, (&snapshot, other, identities), directory, &range, control).await
        }
    }
}

async fn diff(
    tools: &Tools,
    (earlier, later, identities): (&Snapshot<'_>, &StoredIndex, &[Identity]),
    directory: Option<&EntryPath>,
    range: &Range,
    control: &Control,
) -> Result<Browsed, Fault> {
    let store = tools.open_store(&later.store)?;
    let later = Snapshot::open(&*store, &later.snapshot, identities.to_vec()).await?;
    let Page { items, next } = earlier.diff(&later, directory, range, control).await?;
    let changes = items.iter().map(change).collect();
    Ok(Browsed::Changes { changes, next_cursor: next.map(Cursor::of) })
}

fn unclear(reason: &str) -> Fault {
    Fault::permanent("bad_query", reason)
}

fn range(query: &BrowseQuery) -> Range {
    let from = query.cursor.as_ref().map(|cursor| cursor.place().to_vec()).unwrap_or_default();
    Range { from, limit: usize::try_from(query.limit).unwrap_or(usize::MAX) }
}

fn listed(listed: Listed) -> Browsed {
    match listed {
        Listed::Page(page) => entries(page),
        Listed::Absent => Browsed::Absent,
        Listed::NotADirectory => Browsed::NotADirectory,
    }
}

fn entries(page: Page<Item>) -> Browsed {
    let entries = page.items.iter().map(entry).collect();
    Browsed::Entries { entries, next_cursor: page.next.map(Cursor::of) }
}

fn entry(item: &Item) -> BrowsedEntry {
    BrowsedEntry {
        path: Name::of(item.path.as_bytes()),
        implied: item.entry.is_none(),
        facts: item.entry.as_ref().map_or_else(Facts::of_implied, facts),
    }
}

fn facts(entry: &xvault::ArchiveEntry) -> Facts {
    Facts::of(&entry.entry.kind, &entry.entry.metadata, entry.blake3)
}

fn change(change: &Change) -> BrowsedChange {
    let path = Name::of(change.path().as_bytes());
    let (kind, before, after) = match change {
        Change::Added(after) => (ChangeKind::Added, None, Some(facts(after))),
        Change::Removed(before) => (ChangeKind::Removed, Some(facts(before)), None),
        Change::Changed { before, after } => (ChangeKind::Changed, Some(facts(before)), Some(facts(after))),
    };
    BrowsedChange { path, change: kind, before, after }
}
