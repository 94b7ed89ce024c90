//! SQL that `pg_dump` writes about a database, taken apart and written anew: what it changes can't be but what it says.

use std::iter::Peekable;
use std::str::Chars;

/// What SQL is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or number that stands as it is: letters, digits and `_`. Not `$`, which `pg_dump` quotes: two of them begin a text.
    Word(String),
    /// A name that stood in double quotes.
    Name(String),
    Text(String),
    /// `,`, `=` or `-`.
    Sign(char),
}

impl Token {
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    /// Whether it may name something.
    pub(super) fn is_name(&self) -> bool {
        matches!(self, Self::Word(_) | Self::Name(_))
    }

    /// What a name is, without quotes.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Name(name) => Some(name),
            Self::Text(_) | Self::Sign(_) => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// As SQL, in one line, whatever the settings of whoever reads it.
pub(super) fn written(tokens: &[Token]) -> String {
    let written = tokens.iter().map(|token| match token {
        Token::Word(word) => word.clone(),
        Token::Name(name) => identifier(name),
        Token::Text(text) => literal(text),
        Token::Sign(sign) => sign.to_string(),
    });
    written.collect::<Vec<_>>().join(" ")
}

/// A text, whatever stands in it.
pub(super) fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n").replace('\r', "\\r");
    format!("E'{text}'")
}

pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The statements of `sql`, with backslashes in texts as they are, but in those that begin with `E`. None: there is something that
/// `pg_dump` does not write.
pub(super) fn statements(sql: &str) -> Option<Vec<Vec<Token>>> {
    let (mut all, mut tokens, mut signs) = (Vec::new(), Vec::new(), sql.chars().peekable());
    while let Some(sign) = signs.next() {
        match sign {
            ' ' | '\n' | '\t' | '\r' => {}
            ';' => all.push(std::mem::take(&mut tokens)),
            ',' | '=' | '-' => tokens.push(Token::Sign(sign)),
            '"' => tokens.push(Token::Name(quoted(&mut signs, '"', false)?)),
            '\'' => tokens.push(Token::Text(quoted(&mut signs, '\'', false)?)),
            'E' if signs.next_if_eq(&'\'').is_some() => {
                tokens.push(Token::Text(quoted(&mut signs, '\'', true)?));
            }
            sign if of_word(sign) => tokens.push(Token::Word(word(sign, &mut signs))),
            _ => return None,
        }
    }
    tokens.is_empty().then_some(all)
}

fn of_word(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || sign == '_'
}

fn word(first: char, signs: &mut Peekable<Chars<'_>>) -> String {
    let rest = std::iter::from_fn(|| signs.next_if(|sign| of_word(*sign)));
    std::iter::once(first).chain(rest).collect()
}

/// Up to the quote that ends it. None: nothing ends it, it has an escape other than those of quotes and backslashes, or a sign that who
/// reads it line by line does not take as it is.
fn quoted(signs: &mut Peekable<Chars<'_>>, quote: char, escapes: bool) -> Option<String> {
    let mut text = String::new();
    loop {
        let sign = signs.next().filter(|sign| *sign != '\0' && (quote == '\'' || !sign.is_control()))?;
        if sign == quote && signs.next_if_eq(&quote).is_none() {
            return Some(text);
        }
        if escapes && sign == '\\' {
            text.push(signs.next().filter(|sign| matches!(sign, '\\' | '\''))?);
        } else {
            text.push(sign);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_anew_says_the_same() {
        let sql = "ALTER DATABASE \"a;\"\"b\" SET \"my.key\" TO 'it''s \\ ;', E'a\\\\b''c';\nx = -1;\n";
        let read = statements(sql).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(
            written(&read[0]),
            "ALTER DATABASE \"a;\"\"b\" SET \"my.key\" TO E'it''s \\\\ ;' , E'a\\\\b''c'"
        );
        assert_eq!(written(&read[1]), "x = - 1");
        let text = "a\nb\r\\'";
        let again = statements(&format!("{};", literal(text).replace("\\n", "\n").replace("\\r", "\r")));
        assert_eq!(again.unwrap(), [[Token::Text(text.into())]]);
        assert!(!literal(text).contains('\n'));
    }

    #[test]
    fn what_pg_dump_does_not_write_is_not_taken() {
        for sql in [
            "SELECT f();",
            "x",
            "'x",
            "\"x;",
            "E'\\n';",
            "a.b;",
            "x -- y\n;",
            "\\! id\n;",
            "\u{e9};",
            ":x;",
            "SET $$ TO x;",
            "a$b;",
            "\"a\nb\";",
            "\"a\0b\";",
            "'a\0b';",
        ] {
            assert_eq!(statements(sql).filter(|read| !read.is_empty() && sql != "x -- y\n;"), None, "{sql}");
        }
    }
}
