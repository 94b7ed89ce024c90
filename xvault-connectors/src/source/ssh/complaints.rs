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
    /// Something could not be read whole. The name is as tar has it. `unread` is whether nothing of it was read.
    About { name: Vec<u8>, code: WarningCode, message: String, unread: bool },
    /// It was read while somebody wrote to it.
    Changed { name: Vec<u8> },
    /// A socket was left out.
    Socket,
    /// tar complains of something, but not in words that we know.
    Other(String),
    /// Nothing is wrong with any entry: tar's farewell, or a line that is not tar's (a shell that misses its locale).
    Noise(String),
}

/// The last line after all others. It says that there were some.
const FAREWELL: &[u8] = b"Exiting with failure status due to previous errors";

/// How much of a line that is not understood is kept.
const MAX_SHOWN_LEN: usize = 500;

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
    let shown = || display_name(line.get(..line.len().min(MAX_SHOWN_LEN)).unwrap_or_default());
    let Some(said) = said_by_tar(line).filter(|said| *said != FAREWELL) else {
        return Complaint::Noise(shown());
    };
    let Some((name, text)) = said.strip_prefix(b"\"").and_then(unquote) else {
        return Complaint::Other(shown());
    };
    let Some(text) = text.strip_prefix(b": ") else { return Complaint::Other(shown()) };
    let text = display_name(text);
    let text = text.strip_prefix("Warning: ").unwrap_or(&text);
    about(name, text)
}

/// What tar says, without its own name, which a wrapper may have made `/opt/bin/gtar`.
fn said_by_tar(line: &[u8]) -> Option<&[u8]> {
    let at = line.windows(2).position(|pair| pair == b": ")?;
    let (program, said) = line.split_at_checked(at)?;
    let is_tar = program.ends_with(b"tar") && !program.contains(&b' ');
    is_tar.then(|| said.strip_prefix(b": "))?
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
    let unread = matches!(code, Vanished | Unreadable) && !text.starts_with("Read error");
    Complaint::About { name, code, message, unread }
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
/opt/gnu/bin/gtar: "srv/bad": Read error at byte 0, while reading 512 bytes: Input/output error
tar: "srv/cut
tar: "srv/odd" is odd
tar: Something new
bash: warning: setlocale: LC_ALL: cannot change locale (xx)
Starting tar: ok
tar: Exiting with failure status due to previous errors
"#;
        let about = |name: &[u8], code, message: &str| Complaint::About {
            name: name.to_vec(),
            code,
            message: message.to_owned(),
            unread: matches!(code, WarningCode::Vanished | WarningCode::Unreadable),
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
            Complaint::About {
                name: b"srv/bad".to_vec(),
                code: WarningCode::Unreadable,
                message:
                    "could not be read: Read error at byte 0, while reading 512 bytes: Input/output error"
                        .into(),
                unread: false,
            },
            Complaint::Other("tar: \"srv/cut".into()),
            Complaint::Other("tar: \"srv/odd\" is odd".into()),
            Complaint::Other("tar: Something new".into()),
            Complaint::Noise("bash: warning: setlocale: LC_ALL: cannot change locale (xx)".into()),
            Complaint::Noise("Starting tar: ok".into()),
            Complaint::Noise("tar: Exiting with failure status due to previous errors".into()),
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
            // Whatever came before: the next line stands alone, and a name that does not end is no name.
            reader.push(b"\ntar: \"cut\\");
            prop_assert_eq!(reader.flush(), Some(Complaint::Other("tar: \"cut\\".into())));
            prop_assert_eq!(reader.flush(), None);
        }
    }
}
