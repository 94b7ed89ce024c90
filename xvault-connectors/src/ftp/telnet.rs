//! Telnet's commands: FTP's control connection is a Telnet connection by its rules, which some servers keep and some do not.

use std::borrow::Cow;

/// Begins a command; doubled, it is the byte itself.
const IAC: u8 = 255;

/// A command that changes nothing: no echo, please.
pub(super) const NOTHING: &[u8] = &[IAC, 254, 1];

/// How many bytes the command takes that `bytes` begin with.
pub(super) fn command(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [IAC, 251..=254, ..] => Some(3),
        [IAC, 240..=250, ..] | [IAC] => Some(2),
        _ => None,
    }
}

/// Whether Telnet reads an argument otherwise than it is.
pub(super) fn concerns(arg: &[u8]) -> bool {
    arg.contains(&IAC)
}

/// An argument for a server that takes commands out.
pub(super) fn doubled(arg: &[u8]) -> Cow<'_, [u8]> {
    arg.iter().flat_map(|byte| std::iter::repeat_n(*byte, if *byte == IAC { 2 } else { 1 })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_their_lengths_and_the_byte_itself_is_none() {
        let cases: [(&[u8], _); 5] = [
            (NOTHING, Some(3)),
            (b"\xff\xf4x", Some(2)),
            (b"\xff", Some(2)),
            (b"\xff\xff", None),
            (b"", None),
        ];
        assert_eq!(cases.map(|(bytes, _)| command(bytes)), cases.map(|(_, len)| len));
        assert_eq!(&*doubled(b"a\xff\xfe"), b"a\xff\xff\xfe");
    }
}
