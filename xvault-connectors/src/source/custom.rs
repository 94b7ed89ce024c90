//! `pg_dump`'s custom format as it passes: its table of contents promises blocks of data, and each must come whole.
//!
//! The format is that of PostgreSQL's `pg_backup_archiver.c` and `pg_backup_custom.c`, versions 1.12 (PostgreSQL 9.6) to 1.16
//! (17 and 18). Of a newer one only the beginning is looked at; then its tool's exit is all the evidence there is.

/// The magic, three bytes of version, the sizes of numbers and offsets, and the format.
pub(crate) const HEAD: usize = 11;

/// The format's number.
const CUSTOM: u8 = 1;

/// What comes before data: that of a table, or large objects.
const DATA: u8 = 1;
const OBJECTS: u8 = 3;

/// Follows the format byte by byte; keeps less than one number of it.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    rest: Vec<u8>,
    /// Bytes of no interest that are still to pass.
    skip: u64,
    step: Step,
    layout: Layout,
    /// What is still to come of the header, or of the entry at hand: the last first.
    fields: Vec<Field>,
    entries: i64,
    /// Blocks that the table of contents promises, and those that came whole.
    promised: u64,
    came: u64,
}

/// What comes next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Step {
    #[default]
    Head,
    Fields,
    Block,
    BlockId(u8),
    /// A part of data, by its length; 0 ends it.
    Part {
        of_object: bool,
    },
    /// A large object, by its number; 0 ends the block.
    Object,
    /// Nothing that is understood.
    Unknown,
    /// What no pg_dump writes.
    Broken(&'static str),
}

/// The order of fields, and how many bytes they have.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) minor: u8,
    int: usize,
    offset: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Byte,
    Int,
    Text,
    /// Texts up to one that is none.
    Texts,
    Offset,
    /// How many entries the table of contents has.
    Entries,
    /// Whether an entry has data.
    HasData,
}

impl Blocks {
    /// The next piece of the file.
    pub(crate) fn push(&mut self, mut data: &[u8]) {
        loop {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
            self.skip -= skipped as u64;
            data = data.get(skipped..).unwrap_or_default();
            let Some(missing) = self.need().map(|need| need - self.rest.len()) else { return };
            let Some((taken, behind)) = data.split_at_checked(missing) else {
                self.rest.extend_from_slice(data);
                return;
            };
            if self.skip > 0 {
                return;
            }
            self.rest.extend_from_slice(taken);
            data = behind;
            let mut bytes = std::mem::take(&mut self.rest);
            self.take(&bytes);
            bytes.clear();
            self.rest = bytes;
        }
    }

    /// Why the file is not whole; `None` when it is.
    pub(crate) fn fault(&self) -> Option<String> {
        match self.step {
            Step::Unknown => None,
            Step::Broken(reason) => Some(reason.to_owned()),
            Step::Block if self.rest.is_empty() && self.came == self.promised => None,
            Step::Head | Step::Fields => Some("its table of contents is cut".to_owned()),
            _ => Some(format!("only {} of the {} blocks of data came whole", self.came, self.promised)),
        }
    }

    /// How many bytes the next step takes.
    fn need(&self) -> Option<usize> {
        match self.step {
            Step::Head => Some(HEAD),
            Step::Fields => Some(self.layout.width(*self.fields.last().unwrap_or(&Field::Int))),
            Step::Block => Some(1),
            Step::BlockId(_) | Step::Part { .. } | Step::Object => Some(self.layout.width(Field::Int)),
            Step::Unknown | Step::Broken(_) => None,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.step = match self.step {
            Step::Head => self.head(bytes),
            Step::Fields => self.field(bytes),
            Step::Block => match bytes.first() {
                Some(kind @ (&DATA | &OBJECTS)) => Step::BlockId(*kind),
                _ => Step::Broken("a block is of no known kind"),
            },
            Step::BlockId(DATA) => Step::Part { of_object: false },
            Step::BlockId(_) => Step::Object,
            Step::Part { of_object } => self.part(bytes, of_object),
            Step::Object if number(bytes) == 0 => self.whole_block(),
            Step::Object => Step::Part { of_object: true },
            end @ (Step::Unknown | Step::Broken(_)) => end,
        };
    }

    fn head(&mut self, bytes: &[u8]) -> Step {
        match Layout::of(bytes) {
            Ok(Some(layout)) => {
                self.fields = layout.header();
                self.layout = layout;
                Step::Fields
            }
            Ok(None) => Step::Unknown,
            Err(reason) => Step::Broken(reason),
        }
    }

    fn field(&mut self, bytes: &[u8]) -> Step {
        match self.fields.pop() {
            Some(Field::Entries) => self.entries = number(bytes),
            Some(Field::HasData) => self.promised += u64::from(number(bytes) != 0),
            Some(Field::Text) => self.skip = u64::try_from(number(bytes)).unwrap_or_default(),
            Some(Field::Texts) => {
                if let Ok(length) = u64::try_from(number(bytes)) {
                    self.skip = length;
                    self.fields.push(Field::Texts);
                }
            }
            Some(Field::Byte | Field::Int | Field::Offset) | None => {}
        }
        if !self.fields.is_empty() {
            return Step::Fields;
        }
        if self.entries <= 0 {
            return Step::Block;
        }
        self.entries -= 1;
        self.fields = self.layout.entry();
        Step::Fields
    }

    fn part(&mut self, bytes: &[u8], of_object: bool) -> Step {
        match (number(bytes), of_object) {
            (0, true) => Step::Object,
            (0, false) => self.whole_block(),
            (length, _) => {
                self.skip = u64::try_from(length).unwrap_or_default();
                Step::Part { of_object }
            }
        }
    }

    fn whole_block(&mut self) -> Step {
        self.came += 1;
        Step::Block
    }
}

impl Layout {
    /// By the first [`HEAD`] bytes. None: of a version that is not known.
    pub(crate) fn of(head: &[u8]) -> Result<Option<Self>, &'static str> {
        let [b'P', b'G', b'D', b'M', b'P', major, minor, _, int, offset, format] = *head else {
            return Err("it does not begin as its tool begins dumps");
        };
        if format != CUSTOM {
            return Err("it is not in the custom format");
        }
        let is_known =
            major == 1 && (12..=16).contains(&minor) && (1..=8).contains(&int) && (1..=8).contains(&offset);
        Ok(is_known.then_some(Self { minor, int: int.into(), offset: offset.into() }))
    }

    /// What follows the head, the last first: how many entries; versions and name; seven numbers of a date; compression.
    pub(crate) fn header(self) -> Vec<Field> {
        let compression = if self.minor >= 15 { Field::Byte } else { Field::Int };
        let mut fields = vec![Field::Entries, Field::Text, Field::Text, Field::Text];
        fields.extend([Field::Int; 7]);
        fields.push(compression);
        fields
    }

    /// The fields of an entry, the last first.
    pub(crate) fn entry(self) -> Vec<Field> {
        use Field::{HasData, Int, Offset, Text, Texts};
        let mut fields = vec![Offset, Texts, Text, Text];
        if self.minor >= 16 {
            fields.push(Int);
        }
        if self.minor >= 14 {
            fields.push(Text);
        }
        // Tablespace, schema, the three statements; section; description, name, and two object ids.
        fields.extend([Text; 5]);
        fields.push(Int);
        fields.extend([Text; 4]);
        fields.extend([HasData, Int]);
        fields
    }

    /// How many bytes `field` has; of a text its length.
    pub(crate) fn width(self, field: Field) -> usize {
        match field {
            Field::Byte => 1,
            Field::Offset => 1 + self.offset,
            _ => 1 + self.int,
        }
    }
}

/// A sign and the digits, the lowest first.
pub(crate) fn number(bytes: &[u8]) -> i64 {
    let (sign, digits) = bytes.split_first().unwrap_or((&0, &[]));
    let value = digits.iter().rev().fold(0_u64, |value, digit| value << 8 | u64::from(*digit));
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    if *sign == 0 { value } else { -value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: i64) -> Vec<u8> {
        let digits = u32::try_from(value.unsigned_abs()).unwrap().to_le_bytes();
        [&[u8::from(value < 0)], &digits[..]].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        [int(text.len().try_into().unwrap()), text.as_bytes().to_vec()].concat()
    }

    /// Two tables and a function, written as version 1.14.
    fn sample() -> Vec<u8> {
        let mut file = b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec();
        file.extend(vec![int(0); 8].concat());
        file.extend([text("shop"), text("15.18"), text("15.18"), int(3)].concat());
        for (id, has_data) in [(1, 1), (2, 0), (3, 1)] {
            file.extend(
                [int(id), int(has_data), text("1259"), text("16384"), text("name"), text("TABLE DATA")]
                    .concat(),
            );
            file.extend(
                [int(3), text("CREATE"), text(""), int(-1), text("public"), text(""), text("heap")].concat(),
            );
            file.extend([text("me"), text("false"), text("1"), text("2"), int(-1)].concat());
            file.push(if has_data == 1 { 1 } else { 3 });
            file.extend([0; 8]);
        }
        [file, data()].concat()
    }

    fn first_block() -> Vec<u8> {
        [vec![DATA], int(1), text("row one\n"), text("row two\n"), int(0)].concat()
    }

    fn data() -> Vec<u8> {
        let objects = [int(3), int(777), text("blob"), int(0), int(778), int(0), int(0)].concat();
        [first_block(), vec![OBJECTS], objects].concat()
    }

    fn fault(pieces: &[&[u8]]) -> Option<String> {
        let mut blocks = Blocks::default();
        pieces.iter().for_each(|piece| blocks.push(piece));
        blocks.fault()
    }

    #[test]
    fn a_whole_file_is_whole_in_any_pieces() {
        let file = sample();
        assert_eq!(fault(&[&file]), None);
        for size in 1..20 {
            assert_eq!(fault(&file.chunks(size).collect::<Vec<_>>()), None, "{size}");
        }
    }

    #[test]
    fn a_cut_anywhere_is_seen() {
        let file = sample();
        let data = file.len() - data().len();
        for end in 0..file.len() {
            let told = fault(&[&file[..end]]).unwrap_or_else(|| panic!("{end} of {}", file.len()));
            let whole = u8::from(end >= data + first_block().len());
            let blocks = format!("only {whole} of the 2 blocks of data came whole");
            assert_eq!(told, if end < data { "its table of contents is cut" } else { &blocks }, "{end}");
        }
        let more = [&file[..], &[DATA]].concat();
        assert_eq!(fault(&[&more]).unwrap(), "only 2 of the 2 blocks of data came whole");
        let mut odd = file.clone();
        odd.push(9);
        assert!(fault(&[&odd]).unwrap().contains("no known kind"));
    }

    #[test]
    fn what_is_not_understood_is_not_judged() {
        let mut newer = sample();
        newer[6] = 99;
        assert_eq!(fault(&[&newer]), None);
        let mut tar = sample();
        tar[10] = 3;
        assert!(fault(&[&tar]).unwrap().contains("custom"));
        assert!(fault(&[b"--\n-- PostgreSQL"]).unwrap().contains("begin"));
    }
}
