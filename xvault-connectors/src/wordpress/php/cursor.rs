//! A place among the tokens of a file, and what is known there.

use super::lexer::{Kind, Token};
use super::state::{Mode, State};
use super::value::{Value, Why};

/// Blocks and parentheses inside each other: no configuration has more.
const MAX_DEPTH: u32 = 64;

/// What follows the tokens of a file.
pub(super) struct Reader<'t, 's> {
    tokens: &'t [Token<'s>],
    at: usize,
    depth: u32,
    pub(super) state: State,
}

impl<'t, 's> Reader<'t, 's> {
    pub(super) fn new(tokens: &'t [Token<'s>], state: State) -> Self {
        Self { tokens, at: 0, depth: 0, state }
    }

    pub(super) fn peek(&self) -> Option<&'t Kind<'s>> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    pub(super) fn peek_second(&self) -> Option<&'t Kind<'s>> {
        self.peek_at(1)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<&'t Kind<'s>> {
        self.tokens.get(self.at + ahead).map(|token| &token.kind)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn advance_to_end(&mut self) {
        self.at = self.tokens.len();
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Kind::Op(found)) if *found == op)
    }

    pub(super) fn eat(&mut self, op: &str) -> bool {
        let is = self.is_op(op);
        if is {
            self.at += 1;
        }
        is
    }

    pub(super) fn expect(&mut self, op: &str) -> Result<(), Why> {
        if self.eat(op) { Ok(()) } else { Err(self.fault(&format!("`{op}` is missing"))) }
    }

    pub(super) fn fault(&self, what: &str) -> Why {
        Why::new(self.line(), what)
    }

    /// The next token, if it is a word: in small letters.
    pub(super) fn word(&self) -> Option<String> {
        match self.peek() {
            Some(Kind::Name(name)) => Some(String::from_utf8_lossy(name).to_ascii_lowercase()),
            _ => None,
        }
    }

    pub(super) fn eat_word(&mut self, words: &[&str]) -> bool {
        let is = self.word().is_some_and(|word| words.contains(&word.as_str()));
        if is {
            self.at += 1;
        }
        is
    }

    pub(super) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Why>) -> Result<T, Why> {
        if self.depth == MAX_DEPTH {
            return Err(self.fault("blocks or parentheses inside each other, too deeply"));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// Behind the bracket that closes the next one; the variables in between.
    pub(super) fn skip_group(&mut self) -> Result<Vec<&'s [u8]>, Why> {
        let (mut open, mut variables) = (0_u32, Vec::new());
        loop {
            match self.peek() {
                Some(Kind::Op("(" | "[" | "{" | "#[")) => open += 1,
                Some(Kind::Op(")" | "]" | "}")) => open = open.saturating_sub(1),
                Some(Kind::Variable(name)) => variables.push(*name),
                Some(_) => {}
                None => return Err(self.fault("a bracket that is not closed")),
            }
            self.at += 1;
            if open == 0 {
                return Ok(variables);
            }
        }
    }

    pub(super) fn skip_statement(&mut self) -> Result<(), Why> {
        while self.peek().is_some() && !self.eat(";") {
            if matches!(self.peek(), Some(Kind::Op("(" | "[" | "{"))) {
                self.skip_group()?;
            } else {
                self.at += 1;
            }
        }
        Ok(())
    }

    /// To the body in braces, and behind it.
    pub(super) fn skip_body(&mut self) -> Result<(), Why> {
        while !self.is_op("{") {
            match self.peek() {
                None | Some(Kind::Op(";" | "}")) => return Err(self.fault("a body in braces is missing")),
                Some(Kind::Op("(" | "[" | "#[")) => drop(self.skip_group()?),
                Some(_) => self.at += 1,
            }
        }
        self.skip_group().map(drop)
    }

    pub(super) fn forget(&mut self, variables: &[&[u8]], line: u32, what: &str, mode: &Mode) {
        for name in variables {
            self.state.assign(name, Value::unknown(line, what), mode);
        }
    }
}
