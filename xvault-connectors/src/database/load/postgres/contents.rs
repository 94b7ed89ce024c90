//! The beginning of a table of contents in `pg_dump`'s custom format: the entries that are about the database itself come first.

use crate::source::custom::{Field, HEAD, Layout, number};

/// The kinds of the first entries, for all that is loaded.
const FOR_ALL: [&str; 3] = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];

/// Kinds that other things have, too: where they are about a database, their name begins so.
const OF_ANYTHING: [&str; 3] = ["COMMENT", "SECURITY LABEL", "ACL"];
const OF_DATABASE: &[u8] = b"DATABASE ";

/// An entry, as far as it matters here. Bytes are in the encoding of the dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) kind: String,
    pub(super) statement: Vec<u8>,
    pub(super) owner: Vec<u8>,
}

/// What `head`, the first bytes of a dump, tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Everything about the database.
    Items(Vec<Item>),
    /// More than these bytes are needed.
    Cut,
    /// The format is not known.
    Unknown,
}

impl Beginning {
    pub(super) fn of(head: &[u8]) -> Self {
        let Some((own, rest)) = head.split_at_checked(HEAD) else { return Self::Cut };
        match Layout::of(own) {
            Ok(Some(layout)) => Fields { rest, layout, entries: 0 }.items().map_or(Self::Cut, Self::Items),
            _ => Self::Unknown,
        }
    }
}

fn is_first(kind: &str, name: &[u8]) -> bool {
    let of_anything = OF_ANYTHING.contains(&kind) && name.starts_with(OF_DATABASE);
    of_anything || kind.starts_with("DATABASE") || FOR_ALL.contains(&kind)
}

/// Reads field by field.
struct Fields<'a> {
    rest: &'a [u8],
    layout: Layout,
    entries: i64,
}

impl<'a> Fields<'a> {
    /// None: they are cut.
    fn items(mut self) -> Option<Vec<Item>> {
        self.texts(self.layout.header())?;
        let mut items = Vec::new();
        for _ in 0..self.entries {
            let texts = self.texts(self.layout.entry())?;
            // Two object ids come before, and between them others.
            let text = |place: usize| texts.get(place).copied().unwrap_or_default();
            let owner = if self.layout.minor >= 14 { 10 } else { 9 };
            let (name, kind) = (text(2), String::from_utf8_lossy(text(3)).into_owned());
            if !is_first(&kind, name) {
                break;
            }
            let [statement, owner] = [4, owner].map(|place| text(place).to_vec());
            items.push(Item { kind, statement, owner });
        }
        Some(items)
    }

    /// The texts among these fields, the last of which comes first. One that is none is empty.
    fn texts(&mut self, mut fields: Vec<Field>) -> Option<Vec<&'a [u8]>> {
        let mut texts = Vec::new();
        while let Some(field) = fields.pop() {
            let value = number(self.take(self.layout.width(field))?);
            match field {
                Field::Entries => self.entries = value,
                Field::Text => texts.push(self.take(usize::try_from(value).unwrap_or_default())?),
                Field::Texts => {
                    if let Ok(length) = usize::try_from(value) {
                        self.take(length)?;
                        fields.push(Field::Texts);
                    }
                }
                Field::Byte | Field::Int | Field::Offset | Field::HasData => {}
            }
        }
        Some(texts)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}
