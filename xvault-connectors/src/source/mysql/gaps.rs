//! What a dump would lack although its tool says nothing, and what would come out of it that no server takes.

use std::collections::BTreeSet;

use super::{Flavor, Mysql, MysqlSource, Tool};
use crate::Error;
use crate::database::mysql::{BrokenViews, Rights};
use crate::database::some_of;

/// What is known of a dump before it is made.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Why it would be no backup.
    pub(super) refusal: Option<String>,
    /// What may not be in it: tables, or rows.
    pub(super) warnings: Vec<String>,
    /// Views that the tool must be told to leave out: it would end with the first of them.
    pub(super) broken_views: Vec<String>,
    /// Whether the tool may not look for events, or for routines, where it would end.
    pub(super) hides_events: bool,
    pub(super) hides_routines: bool,
    /// What may not be in it: less.
    pub(super) notes: Vec<String>,
}

impl Gaps {
    /// Unless there is another reason already.
    fn refuse(&mut self, why: String) {
        self.refusal.get_or_insert(why);
    }
}

impl MysqlSource {
    /// Looks at what the user may read of `database`, and at what `tool` makes of it.
    pub(super) async fn gaps(
        &self,
        mysql: &Mysql,
        tool: &Tool,
        rights: &Rights,
        database: &str,
    ) -> Result<Gaps, Error> {
        let hides_events = !rights.reads_events_of(database);
        let mut gaps = Gaps { hides_events, ..Gaps::default() };
        for (what, text) in unseen(rights, database) {
            // A site of WordPress has none of these; and whoever names tables asks for nothing but what belongs to them.
            let is_asked_for = self.settings.tables.is_empty() || what == TRIGGERS;
            let is_missed = self.required.is_empty() && is_asked_for;
            if is_missed { &mut gaps.warnings } else { &mut gaps.notes }.push(text);
        }
        let (views, lossy, opaque, silent) = tokio::join!(
            mysql.views_of(database),
            mysql.lossy_tables(database),
            opaque_routines(mysql, rights, database),
            self.learn_upload_paths(mysql, database)
        );
        let (views, lossy, opaque) = (views?, lossy?, opaque?);
        gaps.warnings.extend(silent);
        if !views.is_empty() {
            gaps.warnings.extend(self.rows_elsewhere(mysql, database).await?);
        }
        if !rights.reads_all_of(database) {
            self.look_at_tables(mysql, rights, database, &mut gaps).await?;
        }
        if gaps.refusal.is_none() {
            gaps.refusal = self.lacks(mysql, rights, database).await?;
        }
        if gaps.refusal.is_none() {
            gaps.refusal = self.beyond(mysql, tool, database).await?;
        }
        if !opaque.is_empty() {
            gaps.hides_routines = true;
            let told = if self.settings.tables.is_empty() { &mut gaps.warnings } else { &mut gaps.notes };
            told.push(routines_denied(&opaque));
        }
        gaps.warnings.extend(self.lost_history(lossy.with_history));
        gaps.warnings.extend(self.rows_of_others(lossy.without_rows));
        self.leave_out(self.broken(mysql, database, views).await?, database, &mut gaps);
        Ok(gaps)
    }

    /// Those that are dumped of the views that the tool would end with.
    async fn broken(
        &self,
        mysql: &Mysql,
        database: &str,
        mut views: Vec<String>,
    ) -> Result<BrokenViews, Error> {
        views.retain(|name| self.is_dumped(name));
        mysql.broken_among(database, &views).await
    }

    /// What nobody can read is left out, unless it was asked for by name. What a grant mends is not.
    fn leave_out(&self, broken: BrokenViews, database: &str, gaps: &mut Gaps) {
        let BrokenViews { gone, denied } = broken;
        let why = format!(
            "nobody can read these views, as something that they are made of is gone: {}",
            some_of(&gone)
        );
        let is_named = !self.settings.tables.is_empty();
        if !denied.is_empty() {
            gaps.refuse(execute_denied(&denied, database));
        } else if !gone.is_empty() && is_named {
            gaps.refuse(format!("{why}; mend them, or take them out of `tables`"));
        }
        if !gone.is_empty() && !is_named {
            gaps.warnings.push(format!("{why}; they are not in this dump: mend them, or drop them"));
            gaps.broken_views = gone;
        }
    }

    /// Tables of which no row is dumped, as they are kept by another server or in files.
    fn rows_of_others(&self, tables: Vec<String>) -> Option<String> {
        self.dumped(tables).map(|tables| {
            format!(
                "the rows of these tables lie elsewhere (engines such as FEDERATED and CONNECT), and are not in this dump: {tables}; \
                 back them up where they lie, and leave these tables out"
            )
        })
    }

    /// What every tool fails for: views of which it is not told what they are made of, and tables that are named and not there.
    async fn lacks(&self, mysql: &Mysql, rights: &Rights, database: &str) -> Result<Option<String>, Error> {
        let shown = database.escape_debug();
        let named = &self.settings.tables;
        if rights.reads_view(database, "") && named.is_empty() {
            return Ok(None);
        }
        let mut views = mysql.views_of(database).await?;
        if let Some(missing) = self.missing(mysql, database, &views).await? {
            return Ok(Some(format!(
                "`tables` names what `{shown}` does not have, or hides from this user: {missing}"
            )));
        }
        views.retain(|view| !rights.reads_view(database, view));
        Ok(self.dumped(views).map(|views| {
            format!(
                "SHOW VIEW is denied on {views} of `{shown}`: GRANT SHOW VIEW ON `{shown}`.* TO this user, or leave these views out"
            )
        }))
    }

    /// Tables that are named and are none of the database's: their case does not matter, as it may not to the server.
    async fn missing(
        &self,
        mysql: &Mysql,
        database: &str,
        views: &[String],
    ) -> Result<Option<String>, Error> {
        if self.settings.tables.is_empty() {
            return Ok(None);
        }
        let there = mysql.tables_of(database).await?;
        let there: BTreeSet<String> = there.iter().chain(views).map(|name| name.to_lowercase()).collect();
        let missing = self.settings.tables.iter().filter(|name| !there.contains(&name.to_lowercase()));
        let missing: Vec<String> = missing.cloned().collect();
        Ok((!missing.is_empty()).then(|| some_of(&missing)))
    }

    /// What `tool` would leave out, or write so that the server does not take it back, and say nothing.
    async fn beyond(&self, mysql: &Mysql, tool: &Tool, database: &str) -> Result<Option<String>, Error> {
        if mysql.product.flavor == Flavor::Mariadb {
            let packages =
                if tool.flavor == Flavor::Mysql { mysql.packages_of(database).await? } else { Vec::new() };
            return Ok(left_out("packages", &packages, "MariaDB's own tools (mariadb-client)"));
        }
        if !tool.product().is_mysql_since(9, 2) {
            let libraries = mysql.libraries_of(database).await?;
            if let Some(refusal) =
                left_out("libraries", &libraries, "MySQL's own tools (mysql-client) of 9.2 or newer")
            {
                return Ok(Some(refusal));
            }
        }
        if !tool.product().is_mysql_since(9, 0) {
            let tables = mysql.tables_with_vectors(database).await?;
            if let Some(refusal) = self.not_taken_back("vectors", tables, " of 9.0 or newer") {
                return Ok(Some(refusal));
            }
        }
        if tool.flavor == Flavor::Mysql {
            return Ok(None);
        }
        let tables = mysql.tables_with_generated_columns(database).await?;
        Ok(self.not_taken_back("values for generated columns", tables, ""))
    }

    fn not_taken_back(&self, what: &str, tables: Vec<String>, version: &str) -> Option<String> {
        self.dumped(tables).map(|tables| {
            format!(
                "it writes {what} as MySQL does not take them back, as of {tables}: install MySQL's own tools \
                 (mysql-client){version}, or leave these tables out"
            )
        })
    }

    /// Rows of the past: a dump that holds them shows no row at all once it is in a server that ends time later (MariaDB 11.5).
    fn lost_history(&self, tables: Vec<String>) -> Option<String> {
        self.dumped(tables).map(|tables| {
            format!(
                "system-versioned tables are dumped as they are, without what their rows were before: {tables}; \
                 `mariadb-dump --dump-history` keeps that"
            )
        })
    }

    /// What is to be told whatever the database.
    pub(super) fn doubts(&self, mysql: &Mysql, tool: &Tool, rights: &Rights) -> Vec<String> {
        let hidden = self.settings.names().is_empty() && !rights.sees_all_databases();
        let hidden = hidden.then(|| {
            "this user does not see databases that it has no privilege on, so none of those is dumped: grant SHOW DATABASES, or \
             name those to dump"
                .to_owned()
        });
        tool.doubt(mysql.product).into_iter().chain(hidden).collect()
    }

    /// For a user who may not read everything.
    async fn look_at_tables(
        &self,
        mysql: &Mysql,
        rights: &Rights,
        database: &str,
        gaps: &mut Gaps,
    ) -> Result<(), Error> {
        let shown = database.escape_debug();
        let mut tables = mysql.tables_of(database).await?;
        tables.retain(|table| !rights.reads_table(database, table));
        // Of these, MariaDB's tool writes what it sees: the columns that may be read, or no row, and is content.
        gaps.refusal = self.dumped(tables).map(|tables| {
            format!("SELECT is denied on {tables} of `{shown}`: grant it on the whole database, or leave these tables out")
        });
        if self.settings.tables.is_empty() {
            gaps.warnings.push(format!(
                "this user has no SELECT on the whole of `{shown}`, but on single tables: others are not seen, and are not in \
                 this dump; grant SELECT on the database, or name the tables in `tables`"
            ));
        }
        Ok(())
    }

    /// Those of `tables` that are to be dumped, for people.
    fn dumped(&self, mut tables: Vec<String>) -> Option<String> {
        tables.retain(|table| self.is_dumped(table));
        (!tables.is_empty()).then(|| some_of(&tables))
    }
}

fn left_out(what: &str, names: &[String], cure: &str) -> Option<String> {
    (!names.is_empty())
        .then(|| format!("it leaves out {what} ({}) without a word: install {cure}", some_of(names)))
}

/// What a user is told to have for routines.
const ROUTINES: &str =
    "SHOW_ROUTINE (MySQL), SHOW CREATE ROUTINE (MariaDB since 11.3) or SELECT on mysql.proc (others)";

/// Who may run a routine sees that it is there: the tools end where they are not told what it is made of.
async fn opaque_routines(mysql: &Mysql, rights: &Rights, database: &str) -> Result<Vec<String>, Error> {
    if rights.reads_all_routines() { Ok(Vec::new()) } else { mysql.opaque_routines(database).await }
}

fn routines_denied(routines: &[String]) -> String {
    format!(
        "this user is not shown what these routines are made of, so no routine is in this dump: {}: grant {ROUTINES}",
        some_of(routines)
    )
}

fn execute_denied(views: &[String], database: &str) -> String {
    format!(
        "EXECUTE is denied on functions that these views call: {}: GRANT EXECUTE ON `{}`.* TO this user (on the database of the \
         functions), or leave these views out",
        some_of(views),
        database.escape_debug()
    )
}

/// What belongs to a table, of what a server hides.
const TRIGGERS: &str = "triggers";

/// What a server leaves out for users who may not see it, and that for people.
fn unseen(rights: &Rights, database: &str) -> Vec<(&'static str, String)> {
    let of = [
        (rights.reads_events_of(database), "events", "EVENT on the database"),
        (rights.sees_triggers_of(database), TRIGGERS, "TRIGGER on the database"),
        (rights.sees_routines_of(database), "routines", ROUTINES),
    ];
    of.into_iter()
        .filter(|(seen, ..)| !seen)
        .map(|(_, what, grant)| {
            let database = database.escape_debug();
            (what, format!("`{database}`: this user sees no {what}, so none is dumped: grant {grant}, if there are any"))
        })
        .collect()
}
