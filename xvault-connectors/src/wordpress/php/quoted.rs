//! Strings: single and double quotes, heredoc and nowdoc.

use std::borrow::Cow;

use super::lexer::{Lexer, begins_name, is_of_name};
use super::value::Why;

/// A part of a string.
pub(super) enum Part<'s> {
    /// As it is.
    Bytes(Cow<'s, [u8]>),
    /// The value of a variable.
    Variable(&'s [u8]),
    /// The value of something that is not followed.
    Unknown,
}

const UNCLOSED: &str = "a string without an end";

/// `'…'`: only the quote and the backslash are escaped.
pub(super) fn single<'s>(lexer: &mut Lexer<'s>) -> Result<Cow<'s, [u8]>, Why> {
    let unclosed = Why::new(lexer.line(), UNCLOSED);
    lexer.take(1);
    let mut text = Vec::new();
    loop {
        text.extend_from_slice(lexer.take_while(|byte| byte != b'\'' && byte != b'\\'));
        match lexer.rest() {
            [b'\'', ..] => {
                lexer.take(1);
                return Ok(Cow::Owned(text));
            }
            [b'\\', b'\'' | b'\\', ..] => text.extend(lexer.take(2).last()),
            [b'\\', ..] => text.extend_from_slice(lexer.take(1)),
            _ => return Err(unclosed),
        }
    }
}

/// `"…"`; or, between backticks, what a shell prints.
pub(super) fn double<'s>(lexer: &mut Lexer<'s>, quote: u8) -> Result<Vec<Part<'s>>, Why> {
    let unclosed = Why::new(lexer.line(), UNCLOSED);
    lexer.take(1);
    let parts = parts(lexer, Some(quote))?;
    if lexer.take(1).is_empty() {
        return Err(unclosed);
    }
    Ok(if quote == b'`' { vec![Part::Unknown] } else { parts })
}

/// What stands before `quote`, or before the end.
fn parts<'s>(lexer: &mut Lexer<'s>, quote: Option<u8>) -> Result<Vec<Part<'s>>, Why> {
    let (mut parts, mut text) = (Vec::new(), Vec::new());
    loop {
        let plain = |byte| Some(byte) != quote && byte != b'\\' && byte != b'$' && byte != b'{';
        text.extend_from_slice(lexer.take_while(plain));
        let part = match lexer.rest() {
            [b'\\', ..] => {
                escape(lexer, quote, &mut text)?;
                continue;
            }
            [b'$', next, ..] if begins_name(*next) => variable(lexer),
            [b'{', b'$', ..] | [b'$', b'{', ..] => in_braces(lexer)?,
            [b'$' | b'{', ..] => {
                text.extend_from_slice(lexer.take(1));
                continue;
            }
            _ => break,
        };
        parts.push(Part::Bytes(Cow::Owned(std::mem::take(&mut text))));
        parts.push(part);
    }
    parts.push(Part::Bytes(Cow::Owned(text)));
    Ok(parts)
}

/// `$name`, and what is not followed: `$name[…]` and `$name->…`.
fn variable<'s>(lexer: &mut Lexer<'s>) -> Part<'s> {
    lexer.take(1);
    let name = lexer.take_while(is_of_name);
    match lexer.rest() {
        [b'[', ..] => {
            lexer.take_while(|byte| byte != b']');
            lexer.take(1);
            Part::Unknown
        }
        [b'-', b'>', next, ..] if begins_name(*next) => {
            lexer.take(2);
            lexer.take_while(is_of_name);
            Part::Unknown
        }
        [b'?', b'-', b'>', next, ..] if begins_name(*next) => {
            lexer.take(3);
            lexer.take_while(is_of_name);
            Part::Unknown
        }
        _ => Part::Variable(name),
    }
}

/// `{$name}`, `${name}`, and what is not followed.
fn in_braces<'s>(lexer: &mut Lexer<'s>) -> Result<Part<'s>, Why> {
    let inner = lexer.rest().get(2..).unwrap_or_default();
    let length = inner.iter().position(|byte| !is_of_name(*byte)).unwrap_or_default();
    if let Some((name, [b'}', ..])) = inner.split_at_checked(length)
        && name.first().is_some_and(|first| begins_name(*first))
    {
        lexer.take(length + 3);
        return Ok(Part::Variable(name));
    }
    // `{$a['}']}` has strings of its own: its tokens are read, and dropped.
    let is_dollar_first = lexer.rest().starts_with(b"$");
    lexer.take(if is_dollar_first { 2 } else { 1 });
    lexer.skip_braces()?;
    Ok(Part::Unknown)
}

/// The backslash and what it stands for. Where it stands for nothing, it stands for itself.
fn escape(lexer: &mut Lexer<'_>, quote: Option<u8>, text: &mut Vec<u8>) -> Result<(), Why> {
    let Some(&byte) = lexer.rest().get(1) else {
        text.extend_from_slice(lexer.take(1));
        return Ok(());
    };
    let simple = match byte {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'v' => 0x0b,
        b'e' => 0x1b,
        b'f' => 0x0c,
        b'\\' | b'$' => byte,
        byte if Some(byte) == quote => byte,
        b'0'..=b'7' => return octal(lexer, text),
        b'x' | b'X' => return hexadecimal(lexer, text),
        b'u' if lexer.rest().get(2) == Some(&b'{') => return unicode(lexer, text),
        _ => {
            text.extend_from_slice(lexer.take(2));
            return Ok(());
        }
    };
    lexer.take(2);
    text.push(simple);
    Ok(())
}

/// Up to three digits; what is more than a byte is cut.
fn octal(lexer: &mut Lexer<'_>, text: &mut Vec<u8>) -> Result<(), Why> {
    let digits = lexer.rest().iter().skip(1).take(3).take_while(|byte| matches!(byte, b'0'..=b'7'));
    let (count, number) =
        digits.fold((1, 0_u32), |(count, number), digit| (count + 1, number << 3 | u32::from(digit - b'0')));
    lexer.take(count);
    text.extend(number.to_le_bytes().first());
    Ok(())
}

fn hexadecimal(lexer: &mut Lexer<'_>, text: &mut Vec<u8>) -> Result<(), Why> {
    let digits = lexer.rest().iter().skip(2).take(2).map_while(|byte| char::from(*byte).to_digit(16));
    let (count, number) = digits.fold((0, 0_u32), |(count, number), digit| (count + 1, number << 4 | digit));
    let taken = lexer.take(2 + count);
    match count {
        0 => text.extend_from_slice(taken),
        _ => text.extend(number.to_le_bytes().first()),
    }
    Ok(())
}

/// `\u{1f600}`.
fn unicode(lexer: &mut Lexer<'_>, text: &mut Vec<u8>) -> Result<(), Why> {
    let line = lexer.line();
    let bad = || Why::new(line, "an escape of Unicode that PHP does not take");
    lexer.take(3);
    let digits = lexer.take_while(|byte| byte.is_ascii_hexdigit());
    let digits = std::str::from_utf8(digits).unwrap_or_default();
    let number = u32::from_str_radix(digits, 16).map_err(|_| bad())?;
    if !lexer.eat(b"}") {
        return Err(bad());
    }
    push_utf8(number, text).ok_or_else(bad)
}

/// PHP encodes halves of surrogate pairs, too.
fn push_utf8(number: u32, text: &mut Vec<u8>) -> Option<()> {
    let byte = |number: u32| u8::try_from(number).ok();
    match char::from_u32(number) {
        Some(c) => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None if number > 0xffff => return None,
        None => {
            text.push(byte(0xe0 | number >> 12)?);
            text.push(byte(0x80 | number >> 6 & 0x3f)?);
            text.push(byte(0x80 | number & 0x3f)?);
        }
    }
    Some(())
}

/// `<<<LABEL`, `<<<"LABEL"` and `<<<'LABEL'`.
pub(super) fn here_document<'s>(lexer: &mut Lexer<'s>) -> Result<Vec<Part<'s>>, Why> {
    let line = lexer.line();
    let bad = |what| Why::new(line, what);
    lexer.take(3);
    lexer.take_while(|byte| byte == b' ' || byte == b'\t');
    let quote: &[u8] = match lexer.rest() {
        [b'\'', ..] => lexer.take(1),
        [b'"', ..] => lexer.take(1),
        _ => b"",
    };
    let label = lexer.take_while(is_of_name);
    let is_label = label.first().is_some_and(|first| begins_name(*first));
    if !is_label || !lexer.eat(quote) || !(lexer.eat(b"\r\n") || lexer.eat(b"\n")) {
        return Err(bad("a here-document that does not begin as one"));
    }
    let (length, indent) = closing(lexer.rest(), label).ok_or_else(|| bad(UNCLOSED))?;
    let first_line = lexer.line();
    let body = lexer.take(length);
    lexer.take(indent + label.len());
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let body = body.strip_suffix(b"\r").unwrap_or(body);
    if quote == b"'" {
        let body =
            outdented(body, indent).ok_or_else(|| bad("a here-document with too little indentation"))?;
        return Ok(vec![Part::Bytes(Cow::Owned(body))]);
    }
    if indent == 0 {
        return parts(&mut lexer.inside(body, first_line), None);
    }
    let body = outdented(body, indent).ok_or_else(|| bad("a here-document with too little indentation"))?;
    plain(&body)
        .map(|text| vec![text])
        .ok_or_else(|| bad("an indented here-document with more than text in it"))
}

/// Where the line with the closing label begins, and how far that is indented.
fn closing(body: &[u8], label: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let indent = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let after = line.get(indent..).and_then(|line| line.strip_prefix(label));
        if after.is_some_and(|after| after.first().is_none_or(|next| !is_of_name(*next))) {
            return Some((at, indent));
        }
        at += line.len();
    }
    None
}

/// Every line without its first `indent` blanks. None: a line has fewer.
fn outdented(body: &[u8], indent: usize) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let blanks = line.iter().take(indent).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let is_empty = line.get(blanks..).is_some_and(|rest| matches!(rest, b"" | b"\n" | b"\r\n"));
        if blanks < indent && !is_empty {
            return None;
        }
        text.extend_from_slice(line.get(blanks..).unwrap_or_default());
    }
    Some(text)
}

/// Text with escapes and without variables.
fn plain<'s>(body: &[u8]) -> Option<Part<'s>> {
    let mut text = Vec::new();
    for part in parts(&mut Lexer::new(body), None).ok()? {
        match part {
            Part::Bytes(bytes) => text.extend_from_slice(&bytes),
            _ => return None,
        }
    }
    Some(Part::Bytes(Cow::Owned(text)))
}
