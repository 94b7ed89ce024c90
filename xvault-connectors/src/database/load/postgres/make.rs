//! A database as the dump's was: its encoding and locale when it is made, and when it is loaded what belongs to itself.

use bytes::Bytes;
use xvault_core::entry::display_name;
use xvault_core::source::PostgresTarget;

use super::locale::Locale;
use super::origin::Origin;
use super::property::Property;
use super::rows::without_setting;
use super::run::restriction;
use super::statement::{identifier, literal};
use crate::database::load::dump_channel;
use crate::database::load::feed::{Frame, Told, feed_through};
use crate::database::postgres::Postgres;
use crate::source::dump::Lines;
use crate::tool::Words;
use crate::{Control, Error};

/// What psql is told first: not to stop, to say an error in one line, and nothing else.
const BEFORE: &str =
    "SET client_encoding = 'UTF8'; SET client_min_messages = error; SET standard_conforming_strings = on;\n";

/// So many things that could not be made are told one by one.
const MOST_TOLD: usize = 50;

/// How psql begins what it says of a statement: with the number of its line.
const SAID: &str = "psql:<stdin>:";

/// As what a database could not be made, and why not.
pub(super) struct Refusal {
    options: String,
    reason: String,
}

/// Makes a database, as like the dump's as the server can. What it refused is for [`tell`].
///
/// Not to be dropped half-way: nobody would know whether the database is there.
pub(super) async fn database(
    postgres: &Postgres,
    name: &str,
    locale: &Locale,
) -> Result<Option<Refusal>, Error> {
    let mut refusal = None;
    for options in locale.options(postgres.version.major) {
        let sql = format!("CREATE DATABASE {} TEMPLATE template0{options}", identifier(name));
        match postgres.query(postgres.home(), &sql).await {
            Ok(_) => return Ok(refusal),
            Err(Error::Tool { reason, .. }) if !is_final(&reason) => {
                refusal.get_or_insert(Refusal { options, reason });
            }
            Err(error) => return Err(error),
        }
    }
    let reason = refusal.map(|refusal| refusal.reason).unwrap_or_default();
    Err(Error::Target(format!("database `{}` could not be made: {reason}", name.escape_debug())))
}

/// Whether other options would not help.
fn is_final(reason: &str) -> bool {
    ["permission denied", "already exists", "being accessed by other users"]
        .iter()
        .any(|words| reason.contains(words))
}

/// Where a database that was made is not as the dump's was, or may not be, notes say what differs.
pub(super) async fn tell(
    postgres: &Postgres,
    name: &str,
    locale: &Locale,
    refusal: Option<Refusal>,
    control: &Control,
) -> Result<(), Error> {
    if refusal.is_none() && locale.is_told() {
        return Ok(());
    }
    let (name, made) = (name.escape_debug(), made(postgres, name).await?);
    if let Some(Refusal { options, reason }) = refusal {
        let options = display_name(options.as_bytes());
        control.progress().note(&format!(
            "database `{name}` could not be made as the dump's was, with{options} ({reason}): it has {made}, so texts may sort, \
             compare or be stored otherwise"
        ));
    }
    if !locale.is_told() {
        control.progress().note(&format!(
            "the dump does not tell what belongs to its database itself: locale (`{name}` has {made}), settings, comment, privileges"
        ));
    }
    Ok(())
}

/// For a database that was made, could not be [looked at](tell), and was dropped again.
pub(super) fn unseen(error: Error, name: &str) -> Error {
    let name = name.escape_debug();
    let told = |said: String| {
        format!("{said}; database `{name}` had just been made for this restore, and was dropped again")
    };
    match error {
        Error::Connection { server, reason, source } => {
            Error::Connection { server, reason: told(reason), source }
        }
        Error::Tool { tool, reason } => Error::Tool { tool, reason: told(reason) },
        Error::Protocol { server, detail } => Error::Protocol { server, detail: told(detail) },
        other => other,
    }
}

/// The encoding and locale of a database that is there.
async fn made(postgres: &Postgres, name: &str) -> Result<String, Error> {
    // Which columns there are depends on the version.
    let sql = format!(
        "SELECT concat_ws(' ', 'ENCODING', pg_catalog.pg_encoding_to_char(encoding), 'LC_COLLATE', datcollate, 'LC_CTYPE', datctype, \
         CASE to_jsonb(d)->>'datlocprovider' WHEN 'i' THEN 'ICU_LOCALE' WHEN 'b' THEN 'BUILTIN_LOCALE' END, \
         coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale')) FROM pg_catalog.pg_database d WHERE datname = {}",
        literal(name)
    );
    let rows = postgres.query(postgres.home(), &sql).await?;
    let made = rows.into_iter().next().map(|row| row.join("|"));
    made.ok_or_else(|| postgres.nonsense("a database that was made is not there"))
}

/// Notes it when a database that is there takes bytes for texts which they are not.
pub(super) async fn check(
    postgres: &Postgres,
    name: &str,
    locale: &Locale,
    control: &Control,
) -> Result<(), Error> {
    if !locale.is_of_no_encoding() {
        return Ok(());
    }
    let rows = postgres.query(name, "SHOW server_encoding").await?;
    let encoding = rows.first().and_then(|row| row.first()).cloned().unwrap_or_default();
    if encoding != "SQL_ASCII" {
        control.progress().note(&format!(
            "the dump is of a database without an encoding (SQL_ASCII), and `{}` is in {}: texts that are not can't be read there, nor \
             dumped and restored again; make it with ENCODING 'SQL_ASCII' TEMPLATE template0, or let this restore make it",
            name.escape_debug(),
            encoding.escape_debug()
        ));
    }
    Ok(())
}

/// Makes what belongs to a database itself: settings, the comment; with `keep_owner` the owner and privileges. What the server
/// refuses is noted, and the rest made.
///
/// Whoever wrote a dump wins nothing by that: all of it is about the new database, and the dump itself runs as the same user.
pub(super) async fn properties(
    postgres: &Postgres,
    target: &PostgresTarget,
    origin: &Origin,
    control: &Control,
) -> Result<(), Error> {
    let all = origin.owner.iter().chain(&origin.properties);
    let wanted: Vec<&Property> = all.filter(|property| target.keep_owner || !property.is_privilege).collect();
    let mut missing = Missing::default();
    origin.left_out.iter().for_each(|(kind, count)| missing.push(counted(kind, *count)));
    refused(postgres, &target.database, &wanted, &mut missing, control).await?;
    if let Some(missing) = missing.shown() {
        control.progress().note(&format!(
            "database `{}` was made without what belongs to the dump's own: {missing}",
            target.database.escape_debug()
        ));
    }
    Ok(())
}

fn counted(kind: &str, count: u64) -> String {
    if count == 1 { kind.to_owned() } else { format!("{kind} ({count} statements)") }
}

/// What a database lacks: the first things by name, the others by number.
#[derive(Debug, Default)]
struct Missing {
    first: Vec<String>,
    more: u64,
}

impl Missing {
    fn push(&mut self, one: String) {
        if self.first.len() < MOST_TOLD { self.first.push(one) } else { self.more += 1 }
    }

    /// Names in it are a dump's. None: it lacks nothing.
    fn shown(&self) -> Option<String> {
        let more = if self.more > 0 { format!("; and {} more", self.more) } else { String::new() };
        let first = self.first.join("; ");
        (!first.is_empty()).then(|| format!("{}{more}", display_name(first.as_bytes())))
    }
}

/// Makes `properties`; what could not be made of them is `missing` then.
async fn refused(
    postgres: &Postgres,
    name: &str,
    properties: &[&Property],
    missing: &mut Missing,
    control: &Control,
) -> Result<(), Error> {
    if properties.is_empty() {
        return Ok(());
    }
    let mut call = postgres.psql(postgres.home());
    call.words = Some(Words::new(|line| Some(without_setting(line))));
    for arg in ["-X", "-w", "-q", "-v", "VERBOSITY=terse", "-o", "/dev/null", "-f", "-"] {
        call.arg(arg);
    }
    // Values of settings may be secrets, so they are on no command line.
    let lines = properties.iter().map(|property| format!("{}\n", property.statement(name)));
    let frame = Frame {
        before: Bytes::from(format!("{}{BEFORE}{}", restriction(), lines.collect::<String>())),
        after: b"",
    };
    let (writer, mut nothing) = dump_channel();
    writer.finished().await;
    let hear = |line: &str| complaint(line, properties).into_iter().for_each(|one| missing.push(one));
    let told = Told { hear, lines: Lines::all(), output: None };
    let fed = feed_through(&postgres.reach, call, &frame, &mut nothing, control, told).await;
    match fed {
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        // The database is loaded, and worth more than its settings.
        Err(error) => missing.push(format!("anything that follows ({})", xvault_core::error::chain(&error))),
        Ok(_) => {}
    }
    Ok(())
}

/// `psql:<stdin>:3: ERROR:  role "bk" does not exist`, with what that was about.
fn complaint(line: &str, properties: &[&Property]) -> Option<String> {
    let (number, reason) = line.strip_prefix(SAID)?.split_once(": ")?;
    // The first two lines are ours.
    let place = number.parse::<usize>().ok()?.checked_sub(3);
    // What follows is the value, which may be a secret.
    let reason = without_setting(reason);
    let about = place.and_then(|place| properties.get(place)).map_or("a setting", |property| &property.about);
    Some(format!("{about} ({reason})"))
}
