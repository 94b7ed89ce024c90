//! The programs of PostgreSQL that fit a server, and a dump.

use std::path::PathBuf;

use super::Postgres;
use crate::Error;
use crate::database::{ALLOW, Reach};
use crate::tool::{Version, found};

/// The first version of each major one without the holes that a hostile server can use against `pg_dump` and `psql`
/// (CVE-2026-6477, CVE-2026-19385). Older majors have no mended version.
const MENDED: [(u32, u32); 5] = [(14, 24), (15, 19), (16, 15), (17, 11), (18, 5)];

/// By the minor version of the custom format (the major one is 1 since ever): the first `pg_restore` that reads it. One of a newer
/// version is read by none that is known.
const READERS: [(u8, u32); 3] = [(14, 12), (15, 16), (16, 17)];
const NEXT_READER: u32 = 19;

/// The major version of the first `pg_restore` that reads a dump of the custom format which begins like this. 0: any may.
pub(crate) fn dump_reader(head: &[u8]) -> u32 {
    let Some([_, minor, ..]) = head.strip_prefix(b"PGDMP") else { return 0 };
    match READERS.iter().find(|(of, _)| of == minor) {
        Some((_, reader)) => *reader,
        None if READERS.iter().all(|(of, _)| of < minor) => NEXT_READER,
        None => 0,
    }
}

impl Postgres {
    /// The tool of that name that fits the server: of its major version, or the next newer one.
    pub(crate) async fn tool(&self, name: &str) -> Result<(PathBuf, Version), Error> {
        self.pick(name, 0).await
    }

    /// As [`Postgres::tool`], a `pg_restore` of the major version `dump` or newer: see [`dump_reader`].
    pub(crate) async fn restorer(&self, dump: u32) -> Result<(PathBuf, Version), Error> {
        self.pick("pg_restore", dump).await
    }

    async fn pick(&self, name: &str, dump: u32) -> Result<(PathBuf, Version), Error> {
        let (versions, refusal) = versions(&self.reach, name).await?;
        let check = Check { name, server: self.version, dump, any: takes_any(&self.reach) };
        match refusal {
            Some(refusal) if versions.is_empty() => Err(refusal),
            _ => check.choose(versions),
        }
    }
}

/// All programs of that name that tell their version; and why one of the others does not. Debian's scripts, which choose among
/// versions, may have none to choose.
async fn versions(reach: &Reach, name: &str) -> Result<(Vec<(PathBuf, Version)>, Option<Error>), Error> {
    let (mut versions, mut refusal) = (Vec::new(), None);
    for path in candidates(reach, name) {
        match version_of(reach, path).await {
            Ok(version) => versions.extend(version),
            Err(error @ (Error::Tool { .. } | Error::OutdatedTool { .. })) => refusal = Some(error),
            Err(error) => return Err(error),
        }
    }
    Ok((versions, refusal))
}

async fn version_of(reach: &Reach, path: PathBuf) -> Result<Option<(PathBuf, Version)>, Error> {
    let text = reach.version_text(&path).await?;
    Ok(Version::find(&text).map(|version| (path, version)))
}

/// Whether tools with known holes will do.
fn takes_any(reach: &Reach) -> bool {
    reach.is_remote() || reach.login.tools.allow_outdated
}

/// What a tool must be like.
struct Check<'a> {
    name: &'a str,
    server: Version,
    /// Of this major version or newer, for a dump.
    dump: u32,
    /// Tools with known holes, too.
    any: bool,
}

impl Check<'_> {
    fn choose(&self, mut versions: Vec<(PathBuf, Version)>) -> Result<(PathBuf, Version), Error> {
        versions.sort_by_key(|(_, version)| (version.major, std::cmp::Reverse(version.minor)));
        let newest = versions.last().map(|(_, version)| *version);
        let least = self.server.major.max(self.dump);
        let fitting: Vec<_> = versions.into_iter().filter(|(_, version)| version.major >= least).collect();
        let mended = fitting.iter().find(|(_, version)| self.any || is_mended(*version)).cloned();
        mended.ok_or_else(|| match (fitting.first(), newest) {
            (Some((_, version)), _) => self.outdated(*version),
            (None, Some(newest)) if newest.major >= self.server.major => self.too_old_for_the_dump(newest),
            (None, Some(newest)) => self.older(newest),
            (None, None) => self.missing(),
        })
    }

    fn refused(&self, reason: String) -> Error {
        Error::Tool { tool: self.name.to_owned(), reason }
    }

    fn missing(&self) -> Error {
        let major = self.server.major.max(self.dump);
        self.refused(format!("it is not there: install postgresql-client-{major} or newer"))
    }

    fn older(&self, tool: Version) -> Error {
        let (name, server) = (self.name, self.server);
        let major = server.major.max(self.dump);
        self.refused(format!(
            "{name} {tool} is older than the server, PostgreSQL {server}, and can't read it: install postgresql-client-{major}"
        ))
    }

    fn too_old_for_the_dump(&self, tool: Version) -> Error {
        let (name, dump) = (self.name, self.dump);
        self.refused(format!(
            "{name} {tool} can't read this dump, which a pg_dump of version {dump} or newer wrote: install postgresql-client-{dump} \
             or newer beside it"
        ))
    }

    fn outdated(&self, tool: Version) -> Error {
        let mended = MENDED.iter().find(|(major, _)| *major == tool.major);
        let install = match mended {
            Some((major, minor)) => format!("update it to {major}.{minor} or newer"),
            None => "install a version that is still mended".to_owned(),
        };
        let reason = format!(
            "version {tool} has holes that a hostile server can use against this machine (CVE-2026-6477, \
             CVE-2026-19385): {install}, or allow outdated tools ({ALLOW})"
        );
        Error::OutdatedTool { tool: self.name.to_owned(), reason }
    }
}

fn is_mended(version: Version) -> bool {
    let newest = MENDED.last().map_or(0, |(major, _)| *major);
    version.major > newest
        || MENDED.iter().any(|(major, minor)| version.major == *major && version.minor >= *minor)
}

fn candidates(reach: &Reach, name: &str) -> Vec<PathBuf> {
    if reach.is_remote() {
        return vec![PathBuf::from(name)];
    }
    found(name, &reach.login.tools)
}

/// The client: the newest, of those without known holes.
pub(super) async fn client(reach: &Reach) -> Result<PathBuf, Error> {
    let check = Check { name: "psql", server: Version::default(), dump: 0, any: takes_any(reach) };
    let places = candidates(reach, check.name);
    if let (true, [only]) = (check.any, places.as_slice()) {
        return Ok(only.clone());
    }
    let (mut outdated, mut broken) = (None, None);
    for path in places {
        match version_of(reach, path).await {
            Ok(Some((path, version))) if check.any || is_mended(version) => return Ok(path),
            Ok(Some((_, version))) => outdated = Some(check.outdated(version)),
            Ok(None) => {}
            Err(error @ (Error::Tool { .. } | Error::OutdatedTool { .. })) => broken = Some(error),
            Err(error) => return Err(error),
        }
    }
    let missing = || check.refused("it is not there: install postgresql-client".to_owned());
    Err(outdated.or(broken).unwrap_or_else(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(server: &str, tools: &[&str], any: bool) -> Result<String, String> {
        choose_for(0, server, tools, any)
    }

    fn choose_for(dump: u32, server: &str, tools: &[&str], any: bool) -> Result<String, String> {
        let check = Check { name: "pg_dump", server: Version::parse(server).unwrap(), dump, any };
        let tools = tools.iter().map(|v| (PathBuf::from(v), Version::parse(v).unwrap())).collect();
        check.choose(tools).map(|(_, v)| v.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_tool_is_of_the_servers_version_or_the_next_newer_one() {
        assert_eq!(choose("15.2", &["18.6", "15.20", "16.15", "14.24"], false).unwrap(), "15.20");
        assert_eq!(choose("15.2", &["18.6", "14.24"], false).unwrap(), "18.6");
        assert_eq!(choose("15.2", &["15.18", "16.15"], false).unwrap(), "16.15");
        assert_eq!(choose("15.2", &["15.18", "16.15"], true).unwrap(), "15.18");
        assert_eq!(choose("15.2", &["19.0"], false).unwrap(), "19.0");
    }

    #[test]
    fn a_restorer_reads_the_dump_too() {
        let tools = ["18.6", "15.20", "17.11", "16.15"];
        for (minor, expected) in [(13, "15.20"), (14, "15.20"), (15, "16.15"), (16, "17.11")] {
            let reader = dump_reader(&[b'P', b'G', b'D', b'M', b'P', 1, minor, 0]);
            assert_eq!(choose_for(reader, "15.2", &tools, false).unwrap(), expected, "{minor}");
        }
        assert_eq!((dump_reader(b"PGDMP\x01"), dump_reader(b"--\n")), (0, 0));
        let refused = choose_for(17, "15.2", &["15.20", "16.15"], false).unwrap_err();
        assert!(
            refused.contains("16.15 can't read this dump") && refused.contains("-client-17"),
            "{refused}"
        );
        let newer = choose_for(dump_reader(b"PGDMP\x01\x11\x00"), "15.2", &tools, false).unwrap_err();
        assert!(newer.contains("18.6 can't read this dump") && newer.contains("-client-19"), "{newer}");
        assert!(choose_for(17, "18.2", &["17.11"], false).unwrap_err().contains("older than the server"));
    }

    #[test]
    fn a_refusal_names_both_versions_and_what_to_do() {
        let older = choose("18.4", &["14.24", "15.20"], true).unwrap_err();
        assert!(older.contains("pg_dump 15.20 is older than the server, PostgreSQL 18.4"), "{older}");
        assert!(older.contains("postgresql-client-18"), "{older}");
        let outdated = choose("15.2", &["15.18"], false).unwrap_err();
        assert!(outdated.contains("15.18") && outdated.contains("15.19 or newer"), "{outdated}");
        assert!(choose("9.6", &["13.99"], false).unwrap_err().contains("still mended"));
        assert!(choose("15.2", &[], false).unwrap_err().contains("postgresql-client-15"));
    }
}
