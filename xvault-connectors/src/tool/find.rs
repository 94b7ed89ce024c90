//! Where the tools of this machine are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::ToolOptions;
use crate::Error;

/// Where systems keep their programs.
const SYSTEM: [&str; 6] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where PostgreSQL's own programs lie, a folder for each major version: Debian's and Red Hat's places.
const POSTGRES: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// Where systems keep the certificates of the authorities that they trust.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The machine's authorities.
pub(crate) fn authorities() -> Option<PathBuf> {
    AUTHORITIES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Debian's script that stands for PostgreSQL's programs and chooses among them.
const WRAPPER: &str = "pg_wrapper";

/// All programs of that name, those of `options` first, then the newest PostgreSQL's. One that has several names is there once, and Debian's
/// script that chooses among PostgreSQL's only where no other is found: each that is asked for its version delays a backup.
pub(crate) fn found(name: &str, options: &ToolOptions) -> Vec<PathBuf> {
    let usual = || postgres_folders().into_iter().chain(SYSTEM.iter().map(PathBuf::from));
    let usual = options.usual_places.then(usual).into_iter().flatten();
    let folders = options.folders.iter().cloned().chain(usual);
    let (mut found, mut files) = (Vec::new(), Vec::new());
    for path in folders.map(|folder| folder.join(name)).filter(|path| path.is_file()) {
        let file = path.canonicalize().unwrap_or_else(|_| path.clone());
        let is_superfluous = file.ends_with(WRAPPER) && !found.is_empty();
        if !is_superfluous && !files.contains(&file) {
            files.push(file);
            found.push(path);
        }
    }
    found
}

fn postgres_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (parent, prefix) in POSTGRES {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        folders.extend(entries.filter_map(|entry| {
            let major: u32 = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        }));
    }
    folders.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    folders.into_iter().map(|(_, folder)| folder).collect()
}

/// A program of the system that a tool is run by, where there is one.
fn helper_if_any(name: &str) -> Option<PathBuf> {
    let mut places = SYSTEM.iter().map(|folder| Path::new(folder).join(name));
    places.find(|path| path.is_file())
}

/// What `stdbuf` is nothing without.
const LIBSTDBUF: [&str; 2] = ["/usr/libexec/coreutils/libstdbuf.so", "/usr/lib/coreutils/libstdbuf.so"];

/// The program that makes another one write in larger pieces, where it is whole: without its library no tool would run.
pub(super) fn stdbuf() -> Option<PathBuf> {
    with_library("stdbuf", &LIBSTDBUF)
}

/// A program of the system, where one of these files is there, too.
fn with_library(name: &str, libraries: &[&str]) -> Option<PathBuf> {
    libraries.iter().any(|path| Path::new(path).is_file()).then(|| helper_if_any(name)).flatten()
}

/// A program of util-linux that takes rights away from the tools.
pub(super) fn helper(name: &str) -> Result<PathBuf, Error> {
    helper_if_any(name).ok_or_else(|| Error::Tool {
        tool: name.to_owned(),
        reason: "it is not there, and database tools are not run without it: install util-linux".to_owned(),
    })
}

/// The `PATH` of tools.
pub(super) fn path_variable() -> OsString {
    SYSTEM.join(":").into()
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, write};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_program_without_its_library_is_none() {
        let there = "/etc/passwd";
        assert!(with_library("sh", &["/nonexistent", there]).is_some());
        assert_eq!(with_library("sh", &["/nonexistent", "/etc"]), None);
        assert_eq!(with_library("nonexistent", &[there]), None);
    }

    #[test]
    fn a_program_of_several_names_is_found_once_and_debians_script_only_where_nothing_else_is() {
        let place = tempfile::tempdir().unwrap();
        let [real, link, debian] = ["real", "link", "debian"].map(|name| place.path().join(name));
        create_dir(&real).unwrap();
        write(real.join("pg_dump"), "").unwrap();
        symlink(&real, &link).unwrap();
        create_dir(&debian).unwrap();
        write(debian.join(WRAPPER), "").unwrap();
        symlink(WRAPPER, debian.join("pg_dump")).unwrap();

        let in_folders = |folders: &[&PathBuf]| {
            let folders = folders.iter().map(|folder| (*folder).clone()).collect();
            found("pg_dump", &ToolOptions { folders, usual_places: false, ..ToolOptions::default() })
        };
        assert_eq!(in_folders(&[&link, &real, &debian]), [link.join("pg_dump")]);
        assert_eq!(in_folders(&[&debian]), [debian.join("pg_dump")]);
    }
}
