//! The one way from an argv to a remote shell's command line.

/// Quotes `argv` for a POSIX shell so that the command receives exactly these bytes.
///
/// Every argument stands in single quotes, inside which a shell interprets nothing; a single quote
/// itself closes them, is escaped, and opens them again. Arguments must not contain NUL, which no
/// argv can carry; what follows one is cut off by the system.
///
/// ```
/// use xvault_connectors::ssh::quote::command_line;
/// assert_eq!(command_line(&["tar", "it's $HOME"]), br"'tar' 'it'\''s $HOME'");
/// ```
#[must_use]
pub fn command_line<A: AsRef<[u8]>>(argv: &[A]) -> Vec<u8> {
    let mut line = Vec::new();
    for argument in argv {
        if !line.is_empty() {
            line.push(b' ');
        }
        push_quoted(&mut line, argument.as_ref());
    }
    line
}

fn push_quoted(line: &mut Vec<u8>, argument: &[u8]) {
    line.push(b'\'');
    for byte in argument {
        match byte {
            b'\'' => line.extend_from_slice(br"'\''"),
            other => line.push(*other),
        }
    }
    line.push(b'\'');
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use proptest::prelude::*;

    /// What a real `sh` makes of the quoted arguments.
    fn seen_by_sh(arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut argv: Vec<&[u8]> = vec![b"printf", b"%s\\0"];
        argv.extend(arguments.iter().map(Vec::as_slice));
        // On standard input, because a command line of the test's own would need quoting again.
        let mut sh = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        sh.stdin.take().unwrap().write_all(&command_line(&argv)).unwrap();
        sh.wait_with_output().unwrap().stdout
    }

    fn argument() -> impl Strategy<Value = Vec<u8>> {
        let nasty =
            proptest::sample::select(b"'\"\\`$(){}[]<>|&;*?~#!%^=-\n\r\t\x01\x7f\xff\xc3 ab".to_vec());
        proptest::collection::vec(prop_oneof![nasty, 1u8..], 0..24)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn sh_receives_exactly_the_bytes(arguments in proptest::collection::vec(argument(), 1..5)) {
            let expected: Vec<u8> = arguments.iter().flat_map(|a| [a.as_slice(), b"\0"].concat()).collect();
            prop_assert_eq!(seen_by_sh(&arguments), expected);
        }
    }

    #[test]
    fn every_byte_survives() {
        let all: Vec<u8> = (1..=255).collect();
        assert_eq!(seen_by_sh(std::slice::from_ref(&all)), [&all[..], b"\0"].concat());
    }
}
