//! The one way from an argv to a remote shell's command line.

/// What shells do not agree on, in single quotes: csh ends a line there and looks `!` up in its history, fish takes `\` for an escape.
const DISPUTED: [u8; 3] = *b"\n!\\";

/// What the server's `sh` runs where words hold any of these: its `$1` is a command line of its own, as `printf %b` takes it.
const DECODER: &str = r#"eval "exec $(printf %b "$1")""#;

/// Quotes `argv` for the account's login shell, be it a POSIX shell, csh or fish, so that the command receives exactly these bytes.
///
/// Every argument stands in single quotes, inside which a shell interprets nothing; a single quote itself closes them, is escaped,
/// and opens them again. What not all shells take literally there is handed to the server's `sh` as octal numbers. Arguments must not
/// contain NUL, which no argv can carry; what follows one is cut off by the system.
///
/// ```
/// use xvault_connectors::ssh::quote::command_line;
/// assert_eq!(command_line(&["tar", "it's $HOME"]), br"'tar' 'it'\''s $HOME'");
/// ```
#[must_use]
pub fn command_line<A: AsRef<[u8]>>(argv: &[A]) -> Vec<u8> {
    let line = for_sh(argv);
    if !argv.iter().any(|argument| argument.as_ref().iter().any(is_disputed)) {
        return line;
    }
    let line = octal(&line);
    for_sh(&[b"sh", b"-c", DECODER.as_bytes(), b"sh", line.as_slice()])
}

fn is_disputed(byte: &u8) -> bool {
    DISPUTED.contains(byte)
}

fn for_sh<A: AsRef<[u8]>>(argv: &[A]) -> Vec<u8> {
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

/// For `printf %b`: a backslash in single quotes in front of a digit is literal to all shells.
fn octal(line: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in line {
        match byte {
            b'\'' => text.extend_from_slice(br"\0047"),
            byte if is_disputed(byte) => text.extend_from_slice(format!("\\0{byte:03o}").as_bytes()),
            other => text.push(*other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use proptest::prelude::*;
    use xvault_testkit::tools::{command, run};

    const SHELLS: [&str; 4] = ["sh", "bash", "tcsh", "fish"];

    /// What `printf` gets when an account with this login shell is told to run it, as `sshd` does that.
    fn seen_by(shell: &str, arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut argv: Vec<&[u8]> = vec![b"printf", b"%s\\0"];
        argv.extend(arguments.iter().map(Vec::as_slice));
        // fish keeps things in its home.
        let home = tempfile::tempdir().unwrap();
        run(command(shell, ["-c"]).arg(OsStr::from_bytes(&command_line(&argv))).env("HOME", home.path()))
    }

    fn as_they_are(arguments: &[Vec<u8>]) -> Vec<u8> {
        arguments.iter().flat_map(|a| [a.as_slice(), b"\0"].concat()).collect()
    }

    fn argument() -> impl Strategy<Value = Vec<u8>> {
        let nasty =
            proptest::sample::select(b"'\"\\`$(){}[]<>|&;*?~#!%^=-\n\r\t\x01\x7f\xff\xc3 ab0".to_vec());
        proptest::collection::vec(prop_oneof![nasty, 1u8..], 0..24)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn every_shell_hands_on_exactly_the_bytes(arguments in proptest::collection::vec(argument(), 1..5)) {
            for shell in SHELLS {
                prop_assert_eq!(seen_by(shell, &arguments), as_they_are(&arguments), "{}", shell);
            }
        }
    }

    #[test]
    fn every_byte_survives_also_by_itself() {
        let all: Vec<u8> = (1..=255).collect();
        let alone: Vec<Vec<u8>> = all
            .iter()
            .map(|byte| vec![*byte])
            .chain([all.clone(), Vec::new(), b"!! it's".to_vec()])
            .collect();
        for shell in SHELLS {
            assert_eq!(seen_by(shell, &alone), as_they_are(&alone), "{shell}");
        }
    }

    #[test]
    fn long_words_fit() {
        let long = vec![vec![b'x'; 60_000], b"\xd0\x96\n".repeat(7_000)];
        for shell in SHELLS {
            assert_eq!(seen_by(shell, &long), as_they_are(&long), "{shell}");
        }
    }
}
