//! PostgreSQL databases, as `pg_dump` writes them.

mod patterns;
mod shortage;

use std::path::Path;

use async_trait::async_trait;
use futures::future::try_join;
use xvault_core::snapshot::Evidence;
use xvault_core::source::{DumpFormat, PostgresSettings};
use xvault_core::{EntrySink, SourceSettings, WarningCode};

use super::dump::{self, Shape};
use super::in_time::{all_too_late, before, each_before, end_of_looks, unseen, unseen_note};
use super::{Emitter, Probe, ProbedPath, PullSummary, Source, probe_in_time};
use crate::database::postgres::{Database, Postgres, is_closed};
use crate::database::{DatabaseLogin, Reach};
use crate::tool::{Call, Version};
use crate::{Control, Error};
use shortage::Shortage;

/// Where roles and tablespaces lie.
const GLOBALS: &str = "globals.sql";

/// The databases of a PostgreSQL server: an entry for each, and one for roles and tablespaces when they are asked for.
///
/// `pg_dump` reads each database as it was at one moment; two databases are not of the same moment.
pub struct PostgresSource {
    settings: PostgresSettings,
    login: DatabaseLogin,
}

impl PostgresSource {
    /// From saved settings and how to log in.
    ///
    /// # Errors
    /// When the settings can't work.
    pub fn new(settings: &PostgresSettings, login: DatabaseLogin) -> Result<Self, Error> {
        SourceSettings::Postgres(settings.clone()).validate()?;
        Ok(Self { settings: settings.clone(), login })
    }

    async fn connect(&self) -> Result<Postgres, Error> {
        let named = self.settings.names().into_iter().next();
        Postgres::connect(&self.settings.server(), &self.login, named).await
    }

    /// Those that are asked for, and notes of those that nobody can read. One that is named and not there is an error.
    async fn databases(
        &self,
        postgres: &Postgres,
        sized: bool,
    ) -> Result<(Vec<Database>, Vec<String>), Error> {
        let names = self.settings.names();
        let all = postgres.databases(!names.is_empty(), sized).await?;
        if names.is_empty() {
            let (invalid, valid): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|database| database.is_invalid);
            let none = || Error::NotFound("a database".into());
            let notes = invalid.iter().map(|database| invalid_note(&database.name)).collect();
            return if valid.is_empty() { Err(none()) } else { Ok((valid, notes)) };
        }
        let find = |name: &&str| {
            let found = all.iter().find(|database| database.name == *name).cloned();
            found.ok_or_else(|| Error::NotFound(format!("database `{}`", name.escape_debug())))
        };
        Ok((names.iter().map(find).collect::<Result<_, _>>()?, Vec::new()))
    }

    /// What `pg_dump` leaves out of a dump of all of `database`.
    fn left_out(&self, database: &Database) -> Option<String> {
        let is_whole = self.settings.schemas.is_empty() && self.settings.tables.is_empty();
        (is_whole && database.subscriptions > 0).then(|| subscriptions_text(database))
    }

    /// Whether `database` can be dumped. Where all were asked for, one that is closed to the user, or gone meanwhile, is warned of.
    async fn is_open(
        &self,
        postgres: &Postgres,
        database: &Database,
        emitter: &mut Emitter<'_>,
    ) -> Result<bool, Error> {
        if !self.settings.names().is_empty() {
            return Ok(true);
        }
        let control = emitter.control().clone();
        let Some(reason) = control.run(postgres.closed(database)).await? else { return Ok(true) };
        let path = dump::place(&database.name, self.shape().1)?;
        emitter.warn(path, WarningCode::Unreadable, closed(&database.name, &reason)).await?;
        Ok(false)
    }

    fn dump_call(&self, postgres: &Postgres, tool: &Path, database: &Database) -> Call {
        let settings = &self.settings;
        let mut call = postgres.call(tool, &database.name);
        // The role may have another one, which does not hold every sign of the database.
        call.arg("--no-password").arg(format!("--encoding={}", database.encoding));
        call.arg(format!("--lock-wait-timeout={}s", settings.lock_timeout().as_secs()));
        match settings.format {
            // Compression is the archive's: it does better, and finds what two dumps have in common.
            DumpFormat::Custom => call.arg("--format=custom").arg("--compress=0"),
            // Nothing takes them out of it again, and no other server has them.
            DumpFormat::Plain => call.arg("--format=plain").arg("--no-tablespaces"),
        };
        if !(settings.schemas.is_empty() && settings.tables.is_empty()) {
            call.arg("--strict-names");
        }
        let patterns = [
            ("schema", &settings.schemas),
            ("exclude-schema", &settings.exclude_schemas),
            ("table", &settings.tables),
            ("exclude-table", &settings.exclude_tables),
        ];
        for (option, patterns) in patterns {
            for pattern in patterns {
                call.arg(format!("--{option}={pattern}"));
            }
        }
        call
    }

    fn shape(&self) -> (Shape, &'static str) {
        match self.settings.format {
            DumpFormat::Custom => (Shape::PostgresCustom, "dump"),
            DumpFormat::Plain => (Shape::PostgresPlain, "sql"),
        }
    }

    async fn pull_globals(
        &self,
        postgres: &Postgres,
        home: &str,
        emitter: &mut Emitter<'_>,
    ) -> Result<(), Error> {
        let control = emitter.control().clone();
        let (tool, _) = control.run(postgres.tool("pg_dumpall")).await?;
        let mut call = postgres.call(&tool, home);
        call.arg("--globals-only").arg("--no-password");
        if !postgres.is_superuser {
            call.arg("--no-role-passwords");
            control.progress().note("the roles' passwords are left out: only superusers may read them");
        }
        dump::dump(&postgres.reach, call, Shape::PostgresGlobals, dump::path(GLOBALS)?, emitter).await
    }

    async fn pull_all(
        &self,
        postgres: &Postgres,
        emitter: &mut Emitter<'_>,
    ) -> Result<(u64, Version), Error> {
        let control = emitter.control().clone();
        // Side by side: a tool is asked for its version in as long a time as the server for its databases.
        let asked = try_join(self.databases(postgres, false), postgres.tool("pg_dump"));
        let ((databases, notes), (tool, version)) = control.run(asked).await?;
        notes.iter().for_each(|note| control.progress().note(note));
        dump::folder(emitter).await?;
        let mut open = Vec::new();
        let (shape, extension) = self.shape();
        for database in &databases {
            if !self.is_open(postgres, database, emitter).await? {
                continue;
            }
            open.push(&database.name);
            let call = self.dump_call(postgres, &tool, database);
            let path = dump::place(&database.name, extension)?;
            dump::dump(&postgres.reach, call, shape, path.clone(), emitter).await?;
            if let Some(reason) = self.left_out(database) {
                emitter.warn(path, WarningCode::Unreadable, reason).await?;
            }
        }
        let Some(home) = open.first() else {
            return Err(Error::NotFound("a database that is open to this user".into()));
        };
        let mut dumps = open.len() as u64;
        if self.settings.globals {
            self.pull_globals(postgres, home, emitter).await?;
            dumps += 1;
        }
        Ok((dumps, version))
    }

    async fn look(&self) -> Result<Probe, Error> {
        let end = end_of_looks();
        let postgres = &self.connect().await?;
        let (server, host_key) = (Some(postgres.name.clone()), postgres.reach.host_key());
        let mut notes: Vec<String> = postgres.reach.weakness().into_iter().collect();
        let survey = async { tokio::join!(postgres.tool("pg_dump"), self.databases(postgres, true)) };
        let Some((tool, databases)) = before(end, survey).await else {
            return Ok(Probe { server, host_key, paths: all_too_late(&self.settings.names()), notes });
        };
        let ((_, version), (databases, invalid)) = (tool?, databases?);
        notes.insert(0, tool_note(&format!("pg_dump {version}"), &postgres.reach));
        notes.extend(invalid);
        notes.extend(databases.iter().filter_map(|database| self.left_out(database)));
        let sizes = databases.iter().filter_map(|database| database.size);
        let size = sizes.fold(0, u64::saturating_add);
        notes.push(size_note(size, "on the server's disk"));
        let looks = databases.iter().map(|database| self.look_at(postgres, database)).collect();
        let (mut paths, more): (Vec<_>, Vec<_>) = each_before(end, looks).await.into_iter().unzip();
        notes.extend(more.into_iter().flatten());
        let unseen_ones = databases.get(paths.len()..).unwrap_or_default();
        notes.extend(unseen_note(unseen_ones.len()));
        paths.extend(unseen_ones.iter().map(|database| unseen(&database.name)));
        Ok(Probe { server, host_key, paths, notes })
    }

    async fn look_at(&self, postgres: &Postgres, database: &Database) -> (ProbedPath, Vec<String>) {
        let path = database.name.clone();
        match Shortage::of(&self.settings, postgres, &database.name).await {
            Ok(shortage) => {
                let notes = shortage.notes(&database.name).collect();
                (ProbedPath { path, kind: Some("database"), error: shortage.error() }, notes)
            }
            Err(error) => {
                let reason = xvault_core::error::chain(&error);
                let is_closed =
                    self.settings.names().is_empty() && (!database.is_granted || is_closed(&error));
                let note = is_closed.then(|| closed(&path, &reason));
                (ProbedPath { path, kind: None, error: Some(reason) }, note.into_iter().collect())
            }
        }
    }
}

/// A database that is left out where all are asked for.
fn closed(database: &str, reason: &str) -> String {
    format!(
        "database `{}` is closed to this user, so a backup of all is one without it: GRANT CONNECT ON DATABASE … (and a line of \
         pg_hba.conf, and a CONNECTION LIMIT with room), or name those to dump ({reason})",
        database.escape_debug()
    )
}

/// Of a database that is left out where all are asked for.
fn invalid_note(database: &str) -> String {
    let database = database.escape_debug();
    format!(
        "database `{database}` is left out: an interrupted DROP DATABASE left nothing but its name, which DROP DATABASE removes"
    )
}

fn subscriptions_text(database: &Database) -> String {
    let count = database.subscriptions;
    let subscriptions =
        if count == 1 { "the subscription".to_owned() } else { format!("the {count} subscriptions") };
    format!(
        "{subscriptions} of database `{}` can't be backed up by this user: pg_dump gives them to superusers alone",
        database.name.escape_debug()
    )
}

/// `12 MiB`, for notes.
pub(super) fn size_note(bytes: u64, place: &str) -> String {
    let mib = bytes.div_ceil(1 << 20);
    format!("about {mib} MiB {place}")
}

/// What runs, and where.
pub(super) fn tool_note(tool: &str, reach: &Reach) -> String {
    if reach.is_remote() { format!("{tool} of the SSH server") } else { format!("{tool} of this machine") }
}

#[async_trait]
impl Source for PostgresSource {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        probe_in_time(self.settings.server().place(), self.look()).await
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let mut emitter = Emitter::new(sink, control);
        let postgres = control.run(self.connect()).await?;
        if let Some(note) = postgres.reach.weakness() {
            control.progress().note(&note);
        }
        let (dumps, version) = self.pull_all(&postgres, &mut emitter).await?;
        let tool = format!("pg_dump {version}");
        Ok(emitter.finish(Evidence::Dump { dumps, tool, server: postgres.name }))
    }
}
