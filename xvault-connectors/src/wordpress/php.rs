//! As much of PHP as configuration files are written in: read, never run.
//!
//! Statements are followed in their order with the values that PHP would give to constants and variables. What depends on
//! anything else (a function, another file, the environment) has a value that says so, and on which line.

mod calls;
mod cursor;
mod databases;
mod expression;
mod lexer;
mod operand;
mod quoted;
mod state;
mod statement;
mod value;

pub(crate) use databases::is_of_one_database;
pub(super) use state::State;
pub(super) use value::{Value, Why};

/// Where PHP would look a file and its site up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// The file's absolute path: `__FILE__`.
    pub(super) path: &'a [u8],
    /// Constants that are there before the file is read.
    pub(super) constants: &'a [(&'a [u8], &'a [u8])],
    /// What is guessed to be `$_SERVER['DOCUMENT_ROOT']`. With it, links are taken for what they are called: it is for places to look at.
    pub(super) document_root: Option<&'a [u8]>,
}

/// Follows `source` to its end, or to where it hands over to `last`, a file that it includes.
///
/// # Errors
/// Names the line and the construct that can't be followed at all.
pub(super) fn follow(source: &[u8], surroundings: Surroundings<'_>, last: &[u8]) -> Result<State, Why> {
    let tokens = lexer::tokens(source)?;
    cursor::Reader::new(&tokens, State::new(surroundings, last)).run()
}
