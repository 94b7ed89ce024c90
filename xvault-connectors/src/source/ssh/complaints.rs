//! What GNU tar says on standard error, as warnings.
//!
//! tar is run with `LC_ALL=C` and `--quoting-style=c`, so a name stands in quotes with all that is
//! unusual escaped, and the text after it is one of a known few.

use xvault_core::WarningCode;
use xvault_core::entry::display_name;

/// A longer line is cut: no path makes one.
const MAX_LINE_LEN: usize = 32 << 10;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Complaint {
    /// Something could not be read whole. The name is as tar has it.
    About { name: Vec<u8>, code: WarningCode, message: String },
    /// It was read while somebody wrote to it.
    Changed { name: Vec<u8> },
    /// A socket was left out.
    Socket,
    /// A line about nothing in particular.
    Other(String),
}

/// Puts the pieces of standard error together to lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// The complaints that are whole with `data`.
    pub(super) fn push(&mut self, data: &[u8]) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        for piece in data.split_inclusive(|b| *b == b'\n') {
            let room = MAX_LINE_LEN.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(piece.get(..piece.len().min(room)).unwrap_or_default());
            if piece.ends_with(b"\n") {
                complaints.extend(self.flush());
            }
        }
        complaints
    }

    /// What is left at the end.
    pub(super) fn flush(&mut self) -> Option<Complaint> {
        let line = std::mem::take(&mut self.partial);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        if line.is_empty() { None } else { Some(complaint(line)) }
    }
}

fn complaint(line: &[u8]) -> Complaint {
    let other = || Complaint::Other(display_name(line.get(..line.len().min(500)).unwrap_or_default()));
    let Some((name, text)) = line.strip_prefix(b"tar: \"").and_then(unquote) else { return other() };
    let Some(text) = text.strip_prefix(b": ") else { return other() };
    let text = display_name(text);
    let text = text.strip_prefix("Warning: ").unwrap_or(&text);
    about(name, text)
}

fn about(name: Vec<u8>, text: &str) -> Complaint {
    use WarningCode::{Other, Shrunk, Unreadable, Vanished};
    let (code, message) = if text == "socket ignored" {
        return Complaint::Socket;
    } else if text == "file changed as we read it" {
        return Complaint::Changed { name };
    } else if text.starts_with("File shrank") {
        (Shrunk, "became shorter while it was read; the end is padded with zeros".to_owned())
    } else if text.starts_with("File removed") || text.ends_with("No such file or directory") {
        (Vanished, "is gone since its directory was listed".to_owned())
    } else if text.ends_with("Permission denied") {
        (Unreadable, "could not be read: permission denied".to_owned())
    } else if text.starts_with("Cannot") || text.starts_with("Read error") {
        (Unreadable, format!("could not be read: {text}"))
    } else {
        (Other, text.to_owned())
    };
    Complaint::About { name, code, message }
}

/// Reads a C string up to its closing quote; returns it and what follows.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut name = Vec::new();
    let mut rest = text;
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'"' => return Some((name, rest)),
            b'\\' => {
                let (byte, after) = escaped(rest)?;
                name.push(byte);
                rest = after;
            }
            plain => name.push(*plain),
        }
    }
}

fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = text.split_first()?;
    let byte = match first {
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        b'0'..=b'7' => return octal(text),
        other => *other,
    };
    Some((byte, rest))
}

fn octal(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.split_at_checked(3)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u8::from_str_radix(digits, 8).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_gnu_tar_are_understood() {
        let lines = br#"tar: "srv/d/no\: \"q\" \303\251\nnl": Cannot open: Permission denied
tar: "srv/gone": File removed before we read it
tar: "srv/gone2": Warning: Cannot stat: No such file or directory
tar: "srv/s": socket ignored
tar: "big": File shrank by 2928832 bytes; padding with zeros
tar: "busy": file changed as we read it
tar: Exiting with failure status due to previous errors
"#;
        let about = |name: &[u8], code, message: &str| Complaint::About {
            name: name.to_vec(),
            code,
            message: message.to_owned(),
        };
        let gone = "is gone since its directory was listed";
        let expected = [
            about(
                "srv/d/no: \"q\" é\nnl".as_bytes(),
                WarningCode::Unreadable,
                "could not be read: permission denied",
            ),
            about(b"srv/gone", WarningCode::Vanished, gone),
            about(b"srv/gone2", WarningCode::Vanished, gone),
            Complaint::Socket,
            about(
                b"big",
                WarningCode::Shrunk,
                "became shorter while it was read; the end is padded with zeros",
            ),
            Complaint::Changed { name: b"busy".to_vec() },
            Complaint::Other("tar: Exiting with failure status due to previous errors".into()),
        ];
        // In pieces, as they come.
        let mut reader = Lines::default();
        let seen: Vec<_> = lines.chunks(7).flat_map(|piece| reader.push(piece)).collect();
        assert_eq!(seen, expected);
        assert_eq!(reader.flush(), None);
    }

    proptest! {
        #[test]
        fn no_line_panics_or_grows(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Lines::default();
            reader.push(&data);
            reader.push(b"tar: \"\\");
            prop_assert!(reader.flush().is_some());
        }
    }
}
