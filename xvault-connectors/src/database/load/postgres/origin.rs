//! What a dump tells of the database that it was made of.

use std::collections::BTreeMap;

use super::contents::{Beginning, Item};
use super::locale::Locale;
use super::property::Property;
use super::statement::{Token, statements, written};
use crate::Error;
use crate::database::load::channel::PREAMBLE;
use crate::database::load::{DumpReader, Format, goes_elsewhere, unfit};
use crate::database::postgres::dump_reader;

/// How much of a dump says what it is, and mostly all about its database.
const HEAD: usize = 16 << 10;

/// The most that is looked at.
const LONGEST: usize = 1 << 20;

/// How the first statement of a plain dump by `--create` begins, which goes into a database of its own choice.
const CHOOSES: [&[u8]; 3] = [b"CREATE DATABASE ", b"DROP DATABASE ", b"\\connect "];

/// More than a database has of its own.
const PROPERTIES: usize = 5000;

/// A database that a dump was made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) format: Option<Format>,
    /// The major version of the first `pg_restore` that reads it.
    pub(super) reader: u32,
    /// The statement by which it goes into another database than the one at hand.
    pub(super) chooses: Option<Vec<u8>>,
    pub(super) locale: Locale,
    pub(super) owner: Option<Property>,
    pub(super) properties: Vec<Property>,
    /// What of its own can't be made for another one, and how many statements that is.
    pub(super) left_out: BTreeMap<String, u64>,
}

impl Origin {
    /// By the beginning of `dump`, which will be given again.
    pub(super) async fn of(dump: &mut DumpReader) -> Result<Self, Error> {
        let mut length = HEAD;
        loop {
            let head = dump.head(length).await?;
            let format = Format::of(head);
            if format != Some(Format::PostgresCustom) {
                let locale = Locale::of_encoding(encoding(head));
                let chooses = format.and_then(|_| chooses(head));
                return Ok(Self { format, locale, chooses, ..Self::default() });
            }
            match Beginning::of(head) {
                Beginning::Items(items) => {
                    return Ok(Self { reader: dump_reader(head), ..Self::of_items(&items) });
                }
                Beginning::Cut if head.len() >= length && length < LONGEST => length *= 4,
                Beginning::Cut | Beginning::Unknown => {
                    return Ok(Self { format, reader: dump_reader(head), ..Self::default() });
                }
            }
        }
    }

    /// # Errors
    /// When it is none that goes into one database of PostgreSQL, whichever is at hand.
    pub(super) fn check(&self) -> Result<(), Error> {
        match (self.format, &self.chooses) {
            (None | Some(Format::Mysql), _) => Err(unfit("PostgreSQL")),
            (_, Some(statement)) => Err(goes_elsewhere(statement)),
            (_, None) => Ok(()),
        }
    }

    fn of_items(items: &[Item]) -> Self {
        let mut origin = Self { format: Some(Format::PostgresCustom), ..Self::default() };
        let says = |kind: &str, part: &[u8]| {
            items.iter().any(|item| item.kind == kind && holds(&item.statement, part))
        };
        let (is_utf8, escapes) = (says("ENCODING", b"'UTF8'"), says("STDSTRINGS", b"'off'"));
        for item in items {
            let sql = str::from_utf8(&item.statement).ok();
            let sql = sql.filter(|sql| (is_utf8 || sql.is_ascii()) && !(escapes && sql.contains('\\')));
            origin.take(item, sql.and_then(statements));
        }
        origin
    }

    /// `statements` are those of `item`, where they are understood.
    fn take(&mut self, item: &Item, statements: Option<Vec<Vec<Token>>>) {
        match (item.kind.as_str(), statements) {
            ("STDSTRINGS" | "SEARCHPATH", _) => {}
            ("ENCODING", _) if self.locale.is_told() => {}
            ("ENCODING", _) => self.locale = Locale::of_encoding(encoding(&item.statement)),
            ("DATABASE", statements) => self.take_database(item, statements),
            (_, Some(statements)) => {
                statements.iter().for_each(|tokens| self.take_property(&item.kind, tokens));
            }
            (kind, None) => self.leave_out(kind.to_owned()),
        }
    }

    fn take_database(&mut self, item: &Item, statements: Option<Vec<Vec<Token>>>) {
        let tokens = statements.into_iter().flatten().next().unwrap_or_default();
        if let Some([tablespace, _, name]) =
            tokens.windows(3).find(|three| three.first().is_some_and(|token| token.is("TABLESPACE")))
        {
            self.leave_out(written(&[tablespace.clone(), name.clone()]));
        }
        let locale = Locale::of_statement(&tokens);
        self.locale = locale.unwrap_or_else(|| std::mem::take(&mut self.locale));
        self.owner = str::from_utf8(&item.owner).ok().filter(|name| !name.is_empty()).map(Property::owner);
    }

    fn take_property(&mut self, kind: &str, tokens: &[Token]) {
        // Who granted what is not kept: everything is granted by whoever restores.
        let is_session = tokens.iter().any(|token| token.is("SESSION"));
        match Property::of(tokens).filter(|_| self.properties.len() < PROPERTIES) {
            Some(property) => self.properties.push(property),
            None if is_session => {}
            None => self.leave_out(kind.to_owned()),
        }
    }

    fn leave_out(&mut self, what: String) {
        let count = self.left_out.entry(what).or_default();
        *count = count.saturating_add(1);
    }
}

/// By the first statement of a plain dump that does something.
fn chooses(head: &[u8]) -> Option<Vec<u8>> {
    let is_before = |line: &&[u8]| PREAMBLE.iter().any(|word| line.starts_with(word));
    let line = head.split_inclusive(|byte| *byte == b'\n').find(|line| !is_before(line))?;
    CHOOSES.iter().any(|words| line.starts_with(words)).then(|| line.to_vec())
}

/// By the line that sets it.
fn encoding(sql: &[u8]) -> Option<String> {
    let line = sql.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"SET client_encoding = "))?;
    let tokens = statements(str::from_utf8(line).ok()?)?.into_iter().next()?;
    tokens.last()?.text().map(str::to_owned)
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
