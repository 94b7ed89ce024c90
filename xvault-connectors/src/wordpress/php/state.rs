//! What is known at a place of the file: constants, variables, and what was met that is not followed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Surroundings;
use super::value::{Value, Why};

/// More text than this, of all expressions together, is made by none of a configuration.
const MAX_TEXT: usize = 16 << 20;

/// A constant.
#[derive(Clone)]
pub(in super::super) struct Constant {
    pub(in super::super) value: Value,
    /// Whether it is there for sure.
    pub(in super::super) is_sure: bool,
    /// Why PHP may have another value for it all the same.
    pub(in super::super) doubt: Option<Why>,
}

/// Whether a statement is run.
#[derive(Clone)]
pub(super) enum Mode {
    Sure,
    /// It depends.
    Maybe(Why),
    Never,
}

impl Mode {
    /// That of what is run when also `condition` holds.
    pub(super) fn when(&self, condition: &Result<bool, Why>) -> Self {
        match (self, condition) {
            (Self::Never, _) | (_, Ok(false)) => Self::Never,
            (mode, Ok(true)) => mode.clone(),
            (Self::Maybe(why), Err(_)) | (Self::Sure, Err(why)) => Self::Maybe(why.clone()),
        }
    }

    /// That of what may not be run at all.
    pub(super) fn perhaps(&self, line: u32, what: &str) -> Self {
        self.when(&Err(Why::new(line, what)))
    }
}

/// What is known.
pub(in super::super) struct State {
    constants: BTreeMap<Vec<u8>, Constant>,
    variables: BTreeMap<Vec<u8>, Value>,
    /// The first file that is included and not followed.
    pub(in super::super) included: Option<Why>,
    /// Variables of the environment that were taken for unset, because the file has something else for that.
    pub(in super::super) assumed: Vec<Why>,
    /// The first of these that a variable has its value from.
    guessed: Option<Why>,
    /// A constant was made whose name is not known.
    nameless: Option<Why>,
    /// The environment was changed by the file itself.
    pub(super) environment: Option<Why>,
    /// Nothing that follows is run.
    pub(super) is_over: bool,
    path: Vec<u8>,
    document_root: Option<Vec<u8>>,
    last: Vec<u8>,
    text: usize,
}

impl State {
    pub(super) fn new(surroundings: Surroundings<'_>, last: &[u8]) -> Self {
        let there = |(name, text): &(&[u8], &[u8])| {
            (name.to_vec(), Constant { value: Value::text(text), is_sure: true, doubt: None })
        };
        Self {
            constants: surroundings.constants.iter().map(there).collect(),
            variables: BTreeMap::new(),
            included: None,
            assumed: Vec::new(),
            guessed: None,
            nameless: None,
            environment: None,
            is_over: false,
            path: surroundings.path.to_vec(),
            document_root: surroundings.document_root.map(<[u8]>::to_vec),
            last: last.to_vec(),
            text: 0,
        }
    }

    /// A constant, if it is there or may be.
    pub(in super::super) fn constant(&self, name: &str) -> Option<&Constant> {
        self.constants.get(name.as_bytes())
    }

    /// A variable that was or may have been set.
    pub(in super::super) fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.get(name.as_bytes())
    }

    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// What is guessed to be the document root.
    pub(super) fn document_root(&self) -> Option<&[u8]> {
        self.document_root.as_deref()
    }

    /// Counts text that was made.
    pub(super) fn spend(&mut self, line: u32, length: usize) -> Result<(), Why> {
        self.text = self.text.saturating_add(length);
        if self.text > MAX_TEXT { Err(Why::new(line, "more text than a configuration has")) } else { Ok(()) }
    }

    /// The first definition counts. Its value was read when so many variables of the environment were `assumed` before.
    pub(super) fn define(&mut self, name: &[u8], value: Value, mode: &Mode, assumed: usize) {
        let doubt = self.assumed.get(assumed).or(self.included.as_ref()).or(self.guessed.as_ref()).cloned();
        let before = self.constants.get(name);
        let constant = match (before, mode) {
            (_, Mode::Never) | (Some(Constant { is_sure: true, .. }), _) => return,
            // The first reason is the one to be told.
            (Some(_), Mode::Maybe(_)) => return,
            (None, Mode::Maybe(why)) => {
                Constant { value: Value::Unknown(why.clone()), is_sure: false, doubt }
            }
            (Some(before), Mode::Sure) => Constant { is_sure: true, ..before.clone() },
            (None, Mode::Sure) => {
                let value = self.nameless.clone().map_or(value, Value::Unknown);
                Constant { value, is_sure: true, doubt }
            }
        };
        self.constants.insert(name.to_vec(), constant);
    }

    /// A definition whose name is not known.
    pub(super) fn define_something(&mut self, why: Why, mode: &Mode) {
        if !matches!(mode, Mode::Never) {
            self.nameless.get_or_insert(why);
        }
    }

    pub(super) fn is_defined(&self, name: &[u8], line: u32) -> Value {
        match self.constants.get(name) {
            Some(Constant { is_sure: true, .. }) => Value::Bool(true),
            Some(Constant { value: Value::Unknown(why), .. }) => Value::Unknown(why.clone()),
            Some(_) => Value::unknown(line, "whether a constant is defined"),
            None => match self.nameless.as_ref().or(self.included.as_ref()) {
                Some(why) => Value::Unknown(why.clone()),
                None if name.starts_with(b"PHP_") || name.starts_with(b"E_") => {
                    Value::unknown(line, "a constant of PHP itself")
                }
                None => Value::Bool(false),
            },
        }
    }

    /// The value of a constant. Its name is not told: it may be a password that lacks its quotes.
    pub(super) fn read_constant(&self, name: &[u8], line: u32) -> Value {
        match self.constants.get(name) {
            Some(constant) => constant.value.clone(),
            None => Value::unknown(line, "a constant that this file does not define"),
        }
    }

    /// The value of a variable. Its name is not told: it may be a part of a password with a `$` in it.
    pub(super) fn read_variable(&self, name: &[u8], line: u32) -> Value {
        match self.variables.get(name) {
            Some(value) => value.clone(),
            None if self.included.is_some() => Value::unknown(line, "a variable that this file does not set"),
            None => Value::Unset(Why::new(line, "a variable that this file does not set")),
        }
    }

    /// As for [`State::define`]: whatever is made of variables from here on may be a guess.
    pub(super) fn guess(&mut self, assumed: usize) {
        if let (None, Some(why)) = (&self.guessed, self.assumed.get(assumed)) {
            self.guessed = Some(why.clone());
        }
    }

    pub(super) fn assign(&mut self, name: &[u8], value: Value, mode: &Mode) {
        let value = match mode {
            Mode::Never => return,
            Mode::Maybe(why) => Value::Unknown(why.clone()),
            Mode::Sure => value,
        };
        self.variables.insert(name.to_vec(), value);
    }

    /// What an `include` does: hands over to the last file, or brings what is not followed.
    pub(super) fn include(&mut self, file: &Value, line: u32, mode: &Mode) {
        let is_last = file.to_text().is_ok_and(|file| file.ends_with(&self.last));
        match mode {
            Mode::Never => {}
            Mode::Sure if is_last => self.is_over = true,
            _ if is_last => {}
            _ => drop(
                self.included
                    .get_or_insert(Why::new(line, "another file is included, which is not followed")),
            ),
        }
    }

    pub(super) fn assume_unset(&mut self, why: &Why, mode: &Mode) {
        if !matches!(mode, Mode::Never) {
            self.assumed.push(why.clone());
        }
    }
}

/// `dirname()`.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    let trimmed = |path: &[u8]| path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let path = path.get(..trimmed(path)).unwrap_or_default();
    match path.iter().rposition(|byte| *byte == b'/') {
        None if path.is_empty() => b"/",
        None => b".",
        Some(cut) => match path.get(..cut).map(|parent| parent.get(..trimmed(parent)).unwrap_or_default()) {
            Some(parent) if !parent.is_empty() => parent,
            _ => b"/",
        },
    }
}

/// Parts of a text as one.
pub(super) fn joined(one: &[u8], other: &[u8]) -> Arc<[u8]> {
    Arc::from([one, other].concat())
}
