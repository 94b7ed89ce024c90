//! Which commands run on the other side.

use xvault_core::EntryPath;

/// GNU tar has `--sort` since this version.
const MIN_TAR: (u32, u32) = (1, 28);

/// Arguments of one command line together; Linux takes 128 KiB of it.
const MAX_NAMES_LEN: usize = 64 << 10;

/// What the first line of our look around says, so that output of login scripts is noticed.
const MARK: &[u8] = b"xvault looks around\n";

/// The command that finds out what there is: our mark, and what tar says it is.
pub(super) const LOOK_AROUND: [&[u8]; 3] = [
    b"sh",
    b"-c",
    b"printf 'xvault looks around\\n'; TAR_OPTIONS= LC_ALL=C tar --version 2>/dev/null | head -n 1",
];

/// Why the remote tar can't be used.
pub(super) fn refusal(output: &[u8]) -> Option<String> {
    let Some(version) = output.strip_prefix(MARK) else {
        return Some("there is no plain shell".into());
    };
    let version = xvault_core::entry::display_name(version.trim_ascii_end());
    match gnu_version(&version) {
        Some(found) if found >= MIN_TAR => None,
        _ if version.is_empty() => Some("there is no tar that tells its version".into()),
        _ => Some(format!("its tar is no GNU tar 1.28 or newer but `{version}`")),
    }
}

fn gnu_version(line: &str) -> Option<(u32, u32)> {
    let (major, minor) = line.strip_prefix("tar (GNU tar) ")?.split_once('.')?;
    let digits = minor.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, digits.parse().ok()?))
}

/// A configured path as tar is to take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operand {
    /// `None` is the file system's root.
    pub(super) path: Option<EntryPath>,
    pub(super) is_dir: bool,
    /// Whether the path itself is a symbolic link, which is followed.
    pub(super) is_link: bool,
}

impl Operand {
    fn name(&self) -> Vec<u8> {
        match &self.path {
            None => b".".to_vec(),
            // tar does not follow the link `x` or `x/`, but it lists `x/.`.
            Some(path) if self.is_link && self.is_dir => [path.as_bytes(), b"/."].concat(),
            Some(path) => path.as_bytes().to_vec(),
        }
    }

    /// A link to a file is only followed where all links are; there are no others below a file.
    fn dereferences(&self) -> bool {
        self.is_link && !self.is_dir
    }
}

/// Cuts the paths into runs that one command can take. Each is a range of `operands`.
pub(super) fn runs(operands: &[Operand]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    let mut len = 0;
    for (number, operand) in operands.iter().enumerate() {
        len += operand.name().len() + 16;
        let same_kind =
            number.checked_sub(1).and_then(|before| operands.get(before)).map(Operand::dereferences)
                == Some(operand.dereferences());
        match runs.last_mut() {
            Some(run) if same_kind && len <= MAX_NAMES_LEN => run.end = number + 1,
            _ => {
                runs.push(number..number + 1);
                len = operand.name().len() + 16;
            }
        }
    }
    runs
}

/// The argv of tar for one run.
pub(super) fn tar(operands: &[Operand], excludes: &[String]) -> Vec<Vec<u8>> {
    let mut argv: Vec<Vec<u8>> = [
        // Not `LC_ALL=C tar`: the account's shell need not be a POSIX one.
        "env",
        // Options of the account's own (an `--exclude`, a `--one-file-system`) would drop files and tell nobody.
        // Empty they are none; POSIX's env knows no `-u`. All else that GNU tar takes from its surroundings is
        // overridden: TAPE by `--file`, LANGUAGE by LC_ALL, POSIXLY_CORRECT by names coming last.
        "TAR_OPTIONS=",
        "LC_ALL=C",
        "tar",
        "--create",
        "--file=-",
        "--format=posix",
        // Times of access and change would make two backups of the same tree differ.
        "--pax-option=delete=atime,delete=ctime",
        "--sort=name",
        "--quoting-style=c",
        // Fewer and larger writes on the other side.
        "--blocking-factor=128",
        "--no-unquote",
        "--directory=/",
    ]
    .map(|argument| argument.as_bytes().to_vec())
    .to_vec();
    if operands.iter().any(Operand::dereferences) {
        argv.push(b"--dereference".to_vec());
    }
    argv.extend(remote_excludes(operands, excludes));
    argv.push(b"--".to_vec());
    argv.extend(operands.iter().map(Operand::name));
    argv
}

/// The excludes that tar can apply just as we do, to save their way over the network.
///
/// These are names without a slash, in which only `*` stands for something. What we leave to
/// ourselves: everything when a `!` takes something back, and names that a configured path contains.
fn remote_excludes(operands: &[Operand], excludes: &[String]) -> Vec<Vec<u8>> {
    if excludes.iter().any(|glob| glob.starts_with('!')) {
        return Vec::new();
    }
    let simple = excludes.iter().filter(|glob| is_simple(glob) && !touches(glob, operands));
    let mut argv: Vec<Vec<u8>> = simple.map(|glob| format!("--exclude={glob}").into_bytes()).collect();
    if !argv.is_empty() {
        argv.insert(0, b"--no-anchored".to_vec());
        argv.insert(1, b"--wildcards".to_vec());
        argv.insert(2, b"--no-wildcards-match-slash".to_vec());
    }
    argv
}

fn is_simple(glob: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+=@~*".contains(c);
    // `**` is something else in gitignore.
    !glob.is_empty() && glob.chars().all(plain) && !glob.contains("**")
}

/// Whether a configured path could itself be hit. Rather too often than too rarely.
fn touches(glob: &str, operands: &[Operand]) -> bool {
    let literal: Vec<&str> = glob.split('*').filter(|part| !part.is_empty()).collect();
    operands.iter().filter_map(|operand| operand.path.as_ref()).any(|path| {
        path.components().any(|name| {
            let name = String::from_utf8_lossy(name);
            literal.iter().all(|part| name.contains(part))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operand(path: &str, is_dir: bool, is_link: bool) -> Operand {
        Operand { path: Some(EntryPath::new(path).unwrap()), is_dir, is_link }
    }

    fn refused(text: &str) -> Option<String> {
        refusal(format!("xvault looks around\n{text}\n").as_bytes())
    }

    #[test]
    fn only_gnu_tar_that_sorts_is_used() {
        assert_eq!(refused("tar (GNU tar) 1.34"), None);
        assert_eq!(refused("tar (GNU tar) 1.28.90-dirty"), None);
        assert!(refused("tar (GNU tar) 1.27").unwrap().contains("`tar (GNU tar) 1.27`"));
        assert!(refused("bsdtar 3.6.2 - libarchive").unwrap().contains("bsdtar"));
        assert!(refused("tar (busybox) 1.35.0").unwrap().contains("busybox"));
        assert!(refused("").unwrap().contains("no tar"));
        assert!(
            refusal(b"Welcome!\nxvault looks around\ntar (GNU tar) 1.34").unwrap().contains("no plain shell")
        );
        assert!(refusal(b"").unwrap().contains("no plain shell"));
    }

    #[test]
    fn runs_part_links_to_files_and_long_lines() {
        let mixed = [
            operand("a", true, false),
            operand("b", true, true),
            operand("c", false, true),
            operand("d", false, false),
        ];
        assert_eq!(runs(&mixed), [0..2, 2..3, 3..4]);
        let many: Vec<_> =
            (0..100).map(|n| operand(&format!("{n}{}", "x".repeat(1000)), true, false)).collect();
        let cut = runs(&many);
        assert!(cut.len() == 2 && cut[0].end == cut[1].start && cut[1].end == 100, "{cut:?}");
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn only_exact_excludes_are_passed_on() {
        let passed = |globs: &[&str]| {
            let globs: Vec<String> = globs.iter().map(|g| (*g).to_owned()).collect();
            let argv = remote_excludes(&[operand("srv/cache/web", true, false)], &globs);
            argv.iter()
                .filter_map(|a| Some(String::from_utf8(a.strip_prefix(b"--exclude=")?.to_vec()).unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            passed(&["node_modules", "*.log", "/x", "a/b", "dir/", "[ab]", "**", "a?b"]),
            ["node_modules", "*.log"]
        );
        assert_eq!(passed(&["cache", "ca*", "*"]), Vec::<String>::new());
        assert_eq!(passed(&["*.log", "!keep.log"]), Vec::<String>::new());
    }
}
