//! From bytes to PHP's tokens.

use super::quoted::{self, Part};
use super::value::Why;

/// More strings inside strings than this are none of a configuration.
const MAX_NESTING: u32 = 16;

/// Longest first.
const OPERATORS: [&str; 63] = [
    "<<=", ">>=", "===", "!==", "<=>", "**=", "...", "??=", "?->", "==", "!=", "<>", "<=", ">=", "&&", "||",
    "??", "->", "=>", "::", "+=", "-=", "*=", "/=", ".=", "%=", "&=", "|=", "^=", "++", "--", "<<", ">>",
    "**", "#[", ";", ",", ".", "(", ")", "[", "]", "{", "}", "=", "?", ":", "!", "@", "&", "|", "^", "~",
    "+", "-", "*", "/", "%", "<", ">", "$", "\\", "`",
];

/// A token and its line.
pub(super) struct Token<'s> {
    pub(super) line: u32,
    pub(super) kind: Kind<'s>,
}

/// What a token is.
pub(super) enum Kind<'s> {
    /// A word, with the backslashes of namespaces.
    Name(&'s [u8]),
    /// `$name`, without the `$`.
    Variable(&'s [u8]),
    /// A string.
    Text(Vec<Part<'s>>),
    /// A number; `None` for one that is no whole number of 64 bits.
    Number(Option<i64>),
    /// Anything else.
    Op(&'static str),
}

/// All tokens of a file. The end of a part in PHP stands as `;`.
pub(super) fn tokens(source: &[u8]) -> Result<Vec<Token<'_>>, Why> {
    let mut lexer = Lexer::new(source);
    let mut tokens = Vec::new();
    lexer.skip_html();
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

pub(super) fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

pub(super) fn is_of_name(byte: u8) -> bool {
    begins_name(byte) || byte.is_ascii_digit()
}

/// A place in a file.
pub(super) struct Lexer<'s> {
    rest: &'s [u8],
    line: u32,
    nesting: u32,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(source: &'s [u8]) -> Self {
        Self { rest: source, line: 1, nesting: 0 }
    }

    /// One that goes on in a part of the file that was cut out of it.
    pub(super) fn inside(&self, part: &'s [u8], line: u32) -> Self {
        Self { rest: part, line, nesting: self.nesting }
    }

    pub(super) fn line(&self) -> u32 {
        self.line
    }

    pub(super) fn rest(&self) -> &'s [u8] {
        self.rest
    }

    /// Goes on by `count` bytes, and returns them.
    pub(super) fn take(&mut self, count: usize) -> &'s [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        let lines = taken.iter().filter(|byte| **byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.rest = rest;
        taken
    }

    pub(super) fn take_while(&mut self, is: impl Fn(u8) -> bool) -> &'s [u8] {
        let count = self.rest.iter().position(|byte| !is(*byte)).unwrap_or(self.rest.len());
        self.take(count)
    }

    /// Goes on behind `word`, if that comes next.
    pub(super) fn eat(&mut self, word: &[u8]) -> bool {
        let is = self.rest.starts_with(word);
        if is {
            self.take(word.len());
        }
        is
    }

    fn fault(&self, what: &str) -> Why {
        Why::new(self.line, what)
    }

    /// To the next `<?php` or `<?=`.
    fn skip_html(&mut self) {
        while !self.rest.is_empty() {
            self.take_while(|byte| byte != b'<');
            let is_long = self.rest.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"<?php"));
            let is_open = self.rest.get(5).is_none_or(u8::is_ascii_whitespace);
            if is_long && is_open {
                self.take(5);
                return;
            }
            if self.eat(b"<?=") {
                return;
            }
            self.take(1);
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Token<'s>>, Why> {
        self.skip_blank()?;
        let line = self.line;
        let Some(&byte) = self.rest.first() else { return Ok(None) };
        let kind = match byte {
            b'?' if self.eat(b"?>") => {
                self.skip_html();
                Kind::Op(";")
            }
            b'\'' => Kind::Text(vec![Part::Bytes(quoted::single(self)?)]),
            b'"' | b'`' => self.nested(|lexer| quoted::double(lexer, byte))?,
            b'b' | b'B' if matches!(self.rest.get(1), Some(b'\'' | b'"')) => {
                self.take(1);
                return self.next();
            }
            b'<' if self.rest.starts_with(b"<<<") => self.nested(quoted::here_document)?,
            b'$' if self.rest.get(1).is_some_and(|byte| begins_name(*byte)) => {
                self.take(1);
                Kind::Variable(self.take_while(is_of_name))
            }
            b'0'..=b'9' => Kind::Number(self.number()),
            b'.' if self.rest.get(1).is_some_and(u8::is_ascii_digit) => Kind::Number(self.number()),
            byte if begins_name(byte) || self.begins_path() => {
                Kind::Name(self.take_while(|byte| is_of_name(byte) || byte == b'\\'))
            }
            _ => Kind::Op(self.operator()?),
        };
        Ok(Some(Token { line, kind }))
    }

    /// `\name`.
    fn begins_path(&self) -> bool {
        matches!(self.rest, [b'\\', next, ..] if begins_name(*next))
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Vec<Part<'s>>, Why>,
    ) -> Result<Kind<'s>, Why> {
        if self.nesting == MAX_NESTING {
            return Err(self.fault("strings inside strings, too deeply"));
        }
        self.nesting += 1;
        let parts = read(self)?;
        self.nesting -= 1;
        Ok(Kind::Text(parts))
    }

    fn operator(&mut self) -> Result<&'static str, Why> {
        let found = OPERATORS.into_iter().find(|word| self.rest.starts_with(word.as_bytes()));
        let word = found.ok_or_else(|| self.fault("a character that PHP does not know"))?;
        self.take(word.len());
        Ok(word)
    }

    /// Blanks and the three kinds of comments.
    fn skip_blank(&mut self) -> Result<(), Why> {
        loop {
            self.take_while(|byte| byte.is_ascii_whitespace() || byte == 0x0b);
            let is_attribute = self.rest.starts_with(b"#[");
            if self.rest.starts_with(b"//") || self.rest.starts_with(b"#") && !is_attribute {
                self.skip_line();
            } else if self.rest.starts_with(b"/*") {
                self.take(2);
                let end = self.rest.windows(2).position(|two| two == b"*/");
                let end = end.ok_or_else(|| self.fault("a comment without an end"))?;
                self.take(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    /// To the end of the line, or of the part in PHP.
    fn skip_line(&mut self) {
        let ends = |at: &usize| match self.rest.get(*at) {
            Some(b'\n' | b'\r') => true,
            Some(b'?') => self.rest.get(at + 1) == Some(&b'>'),
            _ => false,
        };
        let end = (0..self.rest.len()).find(ends).unwrap_or(self.rest.len());
        self.take(end);
    }

    fn number(&mut self) -> Option<i64> {
        let word = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let digits: String =
            word.iter().filter(|byte| **byte != b'_').map(|byte| char::from(*byte)).collect();
        let digits = digits.to_ascii_lowercase();
        let radix = |prefix: &str, radix| {
            digits.strip_prefix(prefix).map(|digits| i64::from_str_radix(digits, radix).ok())
        };
        let based = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8));
        if self.rest.first() == Some(&b'.') && based.is_none() && self.rest.get(1) != Some(&b'.') {
            // A fraction.
            self.take(1);
            self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return None;
        }
        match based {
            Some(number) => number,
            None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(&digits, 8).ok(),
            None => digits.parse().ok(),
        }
    }

    /// To the brace that closes the one that was taken.
    pub(super) fn skip_braces(&mut self) -> Result<(), Why> {
        let mut open = 1_u32;
        while open > 0 {
            match self.next()?.map(|token| token.kind) {
                Some(Kind::Op("{")) => open += 1,
                Some(Kind::Op("}")) => open -= 1,
                Some(_) => {}
                None => return Err(self.fault("a brace that is not closed")),
            }
        }
        Ok(())
    }
}
