//! MySQL and MariaDB databases, as `mysqldump` or `mariadb-dump` writes them.

mod gaps;
mod site;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use xvault_core::snapshot::Evidence;
use xvault_core::source::MysqlSettings;
use xvault_core::{EntrySink, SourceSettings, WarningCode};

use super::dump::{self, Shape};
use super::in_time::{all_too_late, before, each_before, end_of_looks, silent, unseen, unseen_note};
use super::postgres::{size_note, tool_note};
use super::{Emitter, Probe, ProbedPath, PullSummary, Source, probe_in_time};
use crate::database::mysql::{Flavor, Mysql, Rights, Tool, UnsafeTable};
use crate::database::{DatabaseLogin, some_of};
use crate::tool::Call;
use crate::{Control, Error};

use gaps::Gaps;
pub(super) use site::Required;

/// What every dump is made with: one moment of all InnoDB tables without locking them, everything that belongs to a
/// database, and bytes that survive any client.
const OPTIONS: [&str; 7] = [
    "--single-transaction",
    "--quick",
    "--triggers",
    "--hex-blob",
    // Its statements need a privilege that reading does not.
    "--no-tablespaces",
    // Between its locks MariaDB takes no rows of a table that draws from a sequence.
    "--skip-add-locks",
    "--max-allowed-packet=1G",
];

/// A server with many tables is not counted to its end.
const SIZE_PATIENCE: Duration = Duration::from_secs(3);

/// The databases of a MySQL or MariaDB server: an entry for each.
///
/// Each database is read as it was at one moment, but for tables of engines that know no transactions, which are named in
/// a warning; two databases are not of the same moment.
pub struct MysqlSource {
    settings: MysqlSettings,
    login: DatabaseLogin,
    required: Vec<Required>,
}

impl MysqlSource {
    /// From saved settings and how to log in.
    ///
    /// # Errors
    /// When the settings can't work.
    pub fn new(settings: &MysqlSettings, login: DatabaseLogin) -> Result<Self, Error> {
        SourceSettings::Mysql(settings.clone()).validate()?;
        Ok(Self { settings: settings.clone(), login, required: Vec::new() })
    }

    async fn connect(&self) -> Result<Mysql, Error> {
        Mysql::connect(&self.settings.server(), &self.login).await
    }

    /// Those that are asked for. One that is named and not seen is an error.
    async fn databases(&self, mysql: &Mysql) -> Result<Vec<String>, Error> {
        let all = mysql.databases().await?;
        let names = self.settings.names();
        if names.is_empty() {
            let none = "a database that this user sees";
            return if all.is_empty() { Err(Error::NotFound(none.into())) } else { Ok(all) };
        }
        let is_strange = |name: &&str| !all.iter().any(|database| database == name);
        let any_case = names.iter().any(is_strange) && mysql.ignores_case().await?;
        let find = |name: &&str| {
            let is_it = |database: &&String| {
                database == name || any_case && database.to_lowercase() == name.to_lowercase()
            };
            all.iter().find(is_it).cloned().ok_or_else(|| {
                Error::NotFound(format!("database `{}`, as far as this user sees,", name.escape_debug()))
            })
        };
        let found = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        self.check_required(mysql, &found).await?;
        Ok(found)
    }

    fn dump_call(&self, mysql: &Mysql, tool: &Tool, database: &str, gaps: &Gaps) -> Call {
        let mut call = mysql.call(tool);
        for option in OPTIONS {
            call.arg(option);
        }
        for (option, is_hidden) in [("--events", gaps.hides_events), ("--routines", gaps.hides_routines)] {
            if !is_hidden {
                call.arg(option);
            }
        }
        if tool.flavor == Flavor::Mysql {
            // `loose`: 5.7 has no such option.
            call.arg("--set-gtid-purged=OFF").arg("--loose-column-statistics=0");
        }
        for table in self.settings.exclude_tables.iter().chain(&gaps.broken_views) {
            call.arg(format!("--ignore-table={database}.{table}"));
        }
        call.arg("--").arg(database);
        for table in &self.settings.tables {
            call.arg(table);
        }
        call
    }

    /// Tables that are dumped and may be of several moments.
    fn concerned<'a>(&self, tables: &'a [UnsafeTable], database: &str) -> Vec<&'a UnsafeTable> {
        let dumped = |table: &&UnsafeTable| table.database == database && self.is_dumped(&table.table);
        tables.iter().filter(dumped).collect()
    }

    fn is_dumped(&self, table: &String) -> bool {
        let MysqlSettings { tables, exclude_tables, .. } = &self.settings;
        (tables.is_empty() || tables.contains(table)) && !exclude_tables.contains(table)
    }

    async fn warn(
        &self,
        tables: &[UnsafeTable],
        database: &str,
        emitter: &mut Emitter<'_>,
    ) -> Result<(), Error> {
        let tables = self.concerned(tables, database);
        if tables.is_empty() {
            return Ok(());
        }
        emitter.warn(dump::place(database, "sql")?, WarningCode::Other, unsafe_note(&tables)).await
    }

    /// Refuses what would be no backup of `database`; else gives what its dump deserves.
    async fn fit(
        &self,
        mysql: &Mysql,
        tool: &Tool,
        rights: &Rights,
        database: &str,
        control: &Control,
    ) -> Result<Gaps, Error> {
        let gaps = self.gaps(mysql, tool, rights, database).await?;
        if let Some(reason) = gaps.refusal {
            return Err(Error::Tool { tool: tool.to_string(), reason });
        }
        gaps.notes.iter().for_each(|note| control.progress().note(note));
        Ok(gaps)
    }

    /// Whether `database` was dropped since all were asked for, or is hidden, which is warned of. One that was named is asked for whatever
    /// became of it.
    async fn is_gone(&self, mysql: &Mysql, database: &str, emitter: &mut Emitter<'_>) -> Result<bool, Error> {
        let control = emitter.control().clone();
        if !self.settings.names().is_empty() || control.run(mysql.has_database(database)).await? {
            return Ok(false);
        }
        let shown = database.escape_debug();
        let warning = format!("database `{shown}` is not there any more, as far as this user sees");
        emitter.warn(dump::place(database, "sql")?, WarningCode::Unreadable, warning).await?;
        Ok(true)
    }

    /// Dumps what is asked for, into the folder that is there already.
    pub(super) async fn dump_all(&self, emitter: &mut Emitter<'_>) -> Result<Evidence, Error> {
        let control = emitter.control().clone();
        let mysql = &control.run(self.connect()).await?;
        if let Some(note) = mysql.reach.weakness() {
            control.progress().note(&note);
        }
        let databases = control.run(self.databases(mysql)).await?;
        let tool = control.run(mysql.dump_tool()).await?;
        let rights = control.run(mysql.rights()).await?;
        self.doubts(mysql, &tool, &rights).iter().for_each(|doubt| control.progress().note(doubt));
        let unsafe_tables = control.run(mysql.unsafe_tables()).await?;
        let mut dumps = 0;
        for database in &databases {
            if self.is_gone(mysql, database, emitter).await? {
                continue;
            }
            dumps += 1;
            let gaps = control.run(self.fit(mysql, &tool, &rights, database, &control)).await?;
            let call = self.dump_call(mysql, &tool, database, &gaps);
            let path = dump::place(database, "sql")?;
            dump::dump(&mysql.reach, call, Shape::Mysql, path.clone(), emitter).await?;
            self.warn(&unsafe_tables, database, emitter).await?;
            for warning in gaps.warnings {
                emitter.warn(path.clone(), WarningCode::Unreadable, warning).await?;
            }
        }
        if dumps == 0 {
            return Err(Error::NotFound("a database".into()));
        }
        let (tool, server) = (tool.to_string(), mysql.product.to_string());
        Ok(Evidence::Dump { dumps, tool, server })
    }

    /// What there is to know before `end`, as far as a server that has let us in tells it.
    pub(super) async fn look(&self, end: Instant) -> Result<Probe, Error> {
        let place = self.settings.server().place();
        let mysql = before(end, self.connect()).await.unwrap_or_else(|| Err(silent(place)))?;
        let host_key = mysql.reach.host_key();
        let mut probe =
            Probe { server: Some(mysql.product.to_string()), host_key, paths: Vec::new(), notes: Vec::new() };
        probe.notes.extend(mysql.reach.weakness());
        match before(end, self.survey(&mysql)).await {
            Some(survey) => self.look_closer(&mysql, &survey?, end, &mut probe).await?,
            None => probe.paths = all_too_late(&self.settings.names()),
        }
        Ok(probe)
    }

    async fn survey(&self, mysql: &Mysql) -> Result<Survey, Error> {
        let (databases, tool, rights, unsafe_tables) =
            tokio::join!(self.databases(mysql), mysql.dump_tool(), mysql.rights(), mysql.unsafe_tables());
        let (tool, databases) = (tool?, databases?);
        Ok(Survey { databases, tool, rights: rights?, unsafe_tables: unsafe_tables? })
    }

    /// What of each database a dump would lack, and how much there is.
    async fn look_closer(
        &self,
        mysql: &Mysql,
        survey: &Survey,
        end: Instant,
        probe: &mut Probe,
    ) -> Result<(), Error> {
        let Survey { databases, tool, rights, unsafe_tables } = survey;
        let Probe { paths, notes, .. } = probe;
        notes.insert(0, tool_note(&tool.to_string(), &mysql.reach));
        for database in databases {
            let tables = self.concerned(unsafe_tables, database);
            if !tables.is_empty() {
                notes.push(format!("`{}`: {}", database.escape_debug(), unsafe_note(&tables)));
            }
        }
        notes.extend(self.doubts(mysql, tool, rights));
        let looks = databases.iter().map(|name| self.gaps(mysql, tool, rights, name)).collect();
        let (all, size) = tokio::join!(each_before(end, looks), size_of(mysql, databases, end));
        for (name, gaps) in databases.iter().zip(all) {
            let gaps = gaps?;
            notes.extend(gaps.notes.into_iter().chain(gaps.warnings));
            paths.push(ProbedPath { path: name.clone(), kind: Some("database"), error: gaps.refusal });
        }
        let unseen_ones = databases.get(paths.len()..).unwrap_or_default();
        notes.extend(unseen_note(unseen_ones.len()));
        paths.extend(unseen_ones.iter().map(|name| unseen(name)));
        notes.push(size);
        Ok(())
    }
}

/// What is known of a server before its databases are looked at.
struct Survey {
    databases: Vec<String>,
    tool: Tool,
    rights: Rights,
    unsafe_tables: Vec<UnsafeTable>,
}

/// How much there is, as far as there is time to count. Trouble here is none of the backup's.
async fn size_of(mysql: &Mysql, databases: &[String], end: Instant) -> String {
    match before(end.min(Instant::now() + SIZE_PATIENCE), mysql.size_of(databases)).await {
        Some(Ok(size)) => size_note(size, "of tables and indexes"),
        _ => "how much there is could not be counted in time".to_owned(),
    }
}

/// What may be wrong with them, and what helps.
fn unsafe_note(tables: &[&UnsafeTable]) -> String {
    let named = |table: &&UnsafeTable| format!("{} ({})", table.table, table.engine);
    let names: Vec<String> = tables.iter().map(named).collect();
    format!(
        "tables of engines without transactions may have changed while they were read, and not be of the same moment as \
         the others: {}; ALTER TABLE … ENGINE=InnoDB helps, or leave them out",
        some_of(&names)
    )
}

#[async_trait]
impl Source for MysqlSource {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        probe_in_time(self.settings.server().place(), self.look(end_of_looks())).await
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let mut emitter = Emitter::new(sink, control);
        dump::folder(&mut emitter).await?;
        let evidence = self.dump_all(&mut emitter).await?;
        Ok(emitter.finish(evidence))
    }
}
