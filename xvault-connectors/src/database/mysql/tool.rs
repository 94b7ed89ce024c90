//! The programs of MySQL and MariaDB: what one is, and which fits a server.

use std::fmt;
use std::path::PathBuf;

use futures::future::try_join_all;

use crate::Error;
use crate::database::{ALLOW, Reach};
use crate::tool::{Version, found};

/// The first MariaDB and MySQL of each series whose tools guard against statements that a hostile server hides in a dump
/// (CVE-2024-21096: MySQL up to 8.0.36 and 8.3.0 does not). Later series all do.
const MENDED_MARIADB: [(u32, u32, u32); 4] = [(10, 5, 25), (10, 6, 18), (10, 11, 8), (11, 4, 2)];
const MENDED_MYSQL: [(u32, u32, u32); 2] = [(8, 0, 37), (8, 4, 0)];

/// MariaDB's tools of 10 write of a server of 11 what its own do: everything that 11.8 has and 10.11 has not (vectors, dates
/// after 2038, packages of the usual mode) came out of both alike.
const READ_BY_10: u32 = 11;

/// Two lines of descent, with options of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    Mysql,
    Mariadb,
}

impl Flavor {
    pub(super) fn of(text: &str) -> Self {
        if text.contains("MariaDB") { Self::Mariadb } else { Self::Mysql }
    }

    /// The release that a program of this line says it is of: `Ver 10.19 Distrib 10.11.19-MariaDB`,
    /// `from 11.4.2-MariaDB, client 10.19`, `Ver 10.13 Distrib 5.7.44`, `Ver 9.7.4`.
    fn version(self, text: &str) -> Option<Version> {
        match self {
            Self::Mariadb => {
                text.split_whitespace().find(|word| word.contains("-MariaDB")).and_then(Version::parse)
            }
            Self::Mysql => Version::find(text.split_once("Distrib ").map_or(text, |(_, release)| release)),
        }
    }

    /// What brings its programs.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Mysql => "mysql-client",
            Self::Mariadb => "mariadb-client",
        }
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mysql => "MySQL",
            Self::Mariadb => "MariaDB",
        })
    }
}

/// What a server is: `MariaDB 10.11.19`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) flavor: Flavor,
    pub(crate) version: Version,
}

impl Product {
    /// Whether it is MySQL's, of this series or a later one.
    pub(crate) fn is_mysql_since(self, major: u32, minor: u32) -> bool {
        self.flavor == Flavor::Mysql && series(self.version) >= (major, minor)
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavor, self.version)
    }
}

/// A program, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) path: PathBuf,
    pub(crate) flavor: Flavor,
    pub(crate) version: Version,
}

impl Tool {
    /// Whether it can be told to take no commands from its input: MariaDB's clients since they are mended.
    pub(crate) fn knows_sandbox(&self) -> bool {
        self.flavor == Flavor::Mariadb && is_mended(self)
    }

    /// What it is of.
    pub(crate) fn product(&self) -> Product {
        Product { flavor: self.flavor, version: self.version }
    }

    /// What is to be told of a tool that was not made for `server`, though it is used.
    pub(crate) fn doubt(&self, server: Product) -> Option<String> {
        let package = server.flavor.package();
        match age(self, server) {
            _ if self.flavor != server.flavor => Some(format!(
                "{self} is not of the server's kind, {server}: what it would leave out without a word is refused as far as \
                 that is known; {package} is better"
            )),
            Age::AsNew => None,
            Age::Older | Age::TooOld => Some(format!(
                "{self} is older than the server, {server}: {package} of {} or newer is better",
                shown(server.version)
            )),
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "{name} {} ({})", self.version, self.flavor)
    }
}

/// How a tool stands to a server of its own line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    AsNew,
    /// Of an older series, and known to read the server's.
    Older,
    /// What it does not know of the server it leaves out without a word.
    TooOld,
}

fn age(tool: &Tool, server: Product) -> Age {
    let known =
        tool.flavor == Flavor::Mariadb && tool.version.major >= 10 && server.version.major <= READ_BY_10;
    if tool.flavor != server.flavor || series(tool.version) >= series(server.version) {
        Age::AsNew
    } else if tool.version.major == server.version.major || known {
        Age::Older
    } else {
        Age::TooOld
    }
}

fn series(version: Version) -> (u32, u32) {
    (version.major, version.minor)
}

fn shown(version: Version) -> String {
    format!("{}.{}", version.major, version.minor)
}

/// What is looked for.
pub(super) struct Wanted {
    pub(super) names: [&'static str; 2],
    /// Of this line of descent, if there is one.
    pub(super) flavor: Flavor,
    /// What it must not be too old for.
    pub(super) server: Option<Product>,
}

impl Wanted {
    /// The tool that fits best; of several that fit alike the first.
    pub(super) async fn pick(&self, reach: &Reach) -> Result<Tool, Error> {
        let places = self.names.iter().flat_map(|name| {
            if reach.is_remote() { vec![PathBuf::from(name)] } else { found(name, &reach.login.tools) }
        });
        let tools = try_join_all(places.map(|path| look_at(reach, path))).await?;
        let tools: Vec<Tool> = tools.into_iter().flatten().collect();
        let allowed = reach.login.tools.allow_outdated;
        self.choose(&tools, reach.is_remote() || allowed, allowed)
    }

    /// `holes`: those with known holes will do; `old`: those that are too old for the server.
    fn choose(&self, tools: &[Tool], holes: bool, old: bool) -> Result<Tool, Error> {
        let age_of = |tool: &Tool| self.server.map_or(Age::AsNew, |server| age(tool, server));
        let fitting = tools.iter().filter(|tool| holes || is_mended(tool));
        // The first of those that are alike.
        let best = fitting.min_by_key(|tool| (tool.flavor != self.flavor, age_of(tool)));
        match (best, self.server) {
            (None, _) => Err(self.refusal(tools.first())),
            (Some(tool), Some(server)) if !old && age_of(tool) == Age::TooOld => Err(older(tool, server)),
            (Some(tool), _) => Ok(tool.clone()),
        }
    }

    fn refusal(&self, outdated: Option<&Tool>) -> Error {
        let tool = self.names.join(" or ");
        let Some(outdated) = outdated else {
            let reason = "none of them is there: install mariadb-client or mysql-client".to_owned();
            return Error::Tool { tool, reason };
        };
        let reason = format!(
            "version {} of {} does not guard against what a hostile server hides in a dump (CVE-2024-21096): update it, or \
             allow outdated tools ({ALLOW})",
            outdated.version, outdated.flavor
        );
        Error::OutdatedTool { tool, reason }
    }
}

fn older(tool: &Tool, server: Product) -> Error {
    let reason = format!(
        "it is older than the server, {server}, and leaves out what it does not know without a word: install {} of {} or \
         newer, or allow outdated tools ({ALLOW})",
        server.flavor.package(),
        shown(server.version)
    );
    Error::OutdatedTool { tool: tool.to_string(), reason }
}

/// On an SSH server a program may be missing, which is no failure while there is another.
async fn look_at(reach: &Reach, path: PathBuf) -> Result<Option<Tool>, Error> {
    let text = match reach.version_text(&path).await {
        Ok(text) => text,
        Err(Error::Tool { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let flavor = Flavor::of(&text);
    let version = flavor.version(&text);
    Ok(version.map(|version| Tool { path, flavor, version }))
}

fn is_mended(tool: &Tool) -> bool {
    let Version { major, minor, patch } = tool.version;
    let series: &[_] = match tool.flavor {
        Flavor::Mysql => &MENDED_MYSQL,
        Flavor::Mariadb => &MENDED_MARIADB,
    };
    let newest = series.last().map_or((0, 0), |(major, minor, _)| (*major, *minor));
    let mended = |first: &(u32, u32, u32)| (first.0, first.1) == (major, minor) && patch >= first.2;
    (major, minor) > newest || series.iter().any(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMPS: [&str; 2] = ["mysqldump", "mariadb-dump"];

    fn tool(flavor: Flavor, version: &str) -> Tool {
        Tool { path: "x".into(), flavor, version: Version::parse(version).unwrap() }
    }

    #[test]
    fn tools_with_known_holes_are_told() {
        for good in ["10.11.8", "10.11.19", "10.6.18", "11.4.2", "11.8.1", "12.0.1"] {
            assert!(is_mended(&tool(Flavor::Mariadb, good)), "{good}");
        }
        for bad in ["10.11.7", "10.4.34", "11.3.2", "10.6.17", "5.5.68"] {
            assert!(!is_mended(&tool(Flavor::Mariadb, bad)), "{bad}");
        }
        for good in ["8.0.37", "8.0.44", "8.4.0", "9.7.4"] {
            assert!(is_mended(&tool(Flavor::Mysql, good)), "{good}");
        }
        for bad in ["5.7.44", "8.0.36", "8.1.0", "8.3.0"] {
            assert!(!is_mended(&tool(Flavor::Mysql, bad)), "{bad}");
        }
        let wanted = Wanted { names: DUMPS, flavor: Flavor::Mariadb, server: None };
        let old = wanted.choose(&[tool(Flavor::Mariadb, "10.11.7")], false, false).unwrap_err();
        assert!(old.to_string().contains("10.11.7 of MariaDB"), "{old}");
        assert!(wanted.choose(&[tool(Flavor::Mariadb, "10.11.7")], true, false).is_ok());
    }

    /// Which of these is taken for that server, and what is said of it.
    fn chosen(server: (Flavor, &str), tools: &[(Flavor, &str)], old: bool) -> (String, Option<String>) {
        let server = Product { flavor: server.0, version: Version::parse(server.1).unwrap() };
        let wanted = Wanted { names: DUMPS, flavor: server.flavor, server: Some(server) };
        let tools: Vec<Tool> = tools.iter().map(|(flavor, version)| tool(*flavor, version)).collect();
        match wanted.choose(&tools, false, old) {
            Ok(tool) => (tool.to_string(), tool.doubt(server)),
            Err(error) => (error.to_string(), None),
        }
    }

    #[test]
    fn of_the_servers_line_and_of_those_the_one_that_is_new_enough_is_taken() {
        use Flavor::{Mariadb, Mysql};
        let all = [(Mariadb, "10.11.19"), (Mysql, "8.0.44"), (Mysql, "8.4.1"), (Mysql, "9.7.4")];
        for (server, expected) in [
            ((Mysql, "9.7.4"), "x 9.7.4 (MySQL)"),
            ((Mysql, "8.4.9"), "x 8.4.1 (MySQL)"),
            ((Mysql, "5.7.44"), "x 8.0.44 (MySQL)"),
            ((Mariadb, "10.6.1"), "x 10.11.19 (MariaDB)"),
        ] {
            assert_eq!(chosen(server, &all, false), (expected.to_owned(), None), "{server:?}");
        }
    }

    #[test]
    fn a_tool_of_an_older_series_is_told_of_with_both_versions() {
        use Flavor::{Mariadb, Mysql};
        for (server, tool) in [
            ((Mariadb, "11.8.9"), (Mariadb, "10.11.19")),
            ((Mariadb, "10.11.19"), (Mariadb, "10.6.18")),
            ((Mysql, "8.4.3"), (Mysql, "8.0.44")),
            ((Mysql, "9.7.4"), (Mariadb, "10.11.19")),
            ((Mariadb, "12.3.1"), (Mysql, "8.0.44")),
        ] {
            let (chosen, doubt) = chosen(server, &[tool], false);
            assert!(chosen.starts_with(&format!("x {}", tool.1)), "{chosen}");
            let doubt = doubt.expect("nothing is said");
            for part in [tool.1, server.1, server.0.package()] {
                assert!(doubt.contains(part), "{part}: {doubt}");
            }
        }
    }

    #[test]
    fn a_tool_that_is_too_old_is_refused_with_both_versions_unless_that_is_allowed() {
        use Flavor::{Mariadb, Mysql};
        for (server, tool, series) in [
            ((Mysql, "9.7.4"), (Mysql, "8.4.9"), "9.7"),
            ((Mysql, "26.10.1"), (Mysql, "9.7.4"), "26.10"),
            ((Mariadb, "12.3.1"), (Mariadb, "10.11.19"), "12.3"),
            ((Mariadb, "12.3.1"), (Mariadb, "11.8.9"), "12.3"),
        ] {
            // One of the other line is no way round it.
            let other = if tool.0 == Mysql { (Mariadb, "11.8.9") } else { (Mysql, "9.7.4") };
            let (refused, _) = chosen(server, &[other, tool], false);
            for part in [
                tool.1,
                server.1,
                series,
                server.0.package(),
                "older than the server",
                "`ToolOptions::allow_outdated`",
            ] {
                assert!(refused.contains(part), "{part}: {refused}");
            }
            let (taken, doubt) = chosen(server, &[other, tool], true);
            assert!(taken.contains(tool.1) && doubt.is_some_and(|doubt| doubt.contains(server.1)), "{taken}");
        }
    }

    #[test]
    fn the_version_is_that_of_the_release_and_not_of_the_program() {
        for (text, flavor, expected) in [
            (
                "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu",
                Flavor::Mariadb,
                "10.11.19",
            ),
            ("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux", Flavor::Mariadb, "11.4.2"),
            ("mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)", Flavor::Mysql, "5.7.44"),
            (
                "mysql  Ver 14.14 Distrib 5.6.51, for Linux (x86_64) using  EditLine wrapper",
                Flavor::Mysql,
                "5.6.51",
            ),
            (
                "mysqldump  Ver 9.7.4 for Linux on x86_64 (MySQL Community Server - GPL)",
                Flavor::Mysql,
                "9.7.4",
            ),
        ] {
            assert_eq!(Flavor::of(text), flavor, "{text}");
            assert_eq!(flavor.version(text), Version::parse(expected), "{text}");
        }
    }
}
