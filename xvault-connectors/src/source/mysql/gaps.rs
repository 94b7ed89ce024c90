//! What a dump would lack although its tool says nothing, and what would come out of it that no server takes.

use super::{Flavor, Mysql, MysqlSource, Tool};
use crate::Error;
use crate::database::mysql::Rights;
use crate::database::some_of;

/// What is known of a dump before it is made.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Why it would be no backup.
    pub(super) refusal: Option<String>,
    /// What may not be in it: tables, or rows.
    pub(super) warnings: Vec<String>,
    /// What may not be in it: less.
    pub(super) notes: Vec<String>,
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
        let mut gaps = Gaps { notes: unseen(rights, database), ..Gaps::default() };
        gaps.warnings.extend(self.rows_elsewhere(mysql, database).await?);
        if !rights.reads_all_of(database) {
            self.look_at_tables(mysql, rights, database, &mut gaps).await?;
        }
        if (tool.flavor, mysql.flavor) == (Flavor::Mariadb, Flavor::Mysql) && gaps.refusal.is_none() {
            let tables = mysql.tables_with_generated_columns(database).await?;
            gaps.refusal = self.dumped(tables).map(|tables| {
                format!(
                    "it writes values for generated columns, which MySQL does not take back, as of {tables}: install MySQL's \
                     own tools (mysql-client), or leave these tables out"
                )
            });
        }
        Ok(gaps)
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

/// What a server leaves out for users who may not see it.
fn unseen(rights: &Rights, database: &str) -> Vec<String> {
    let of = [
        (rights.sees_triggers_of(database), "triggers", "TRIGGER on the database"),
        (
            rights.sees_routines_of(database),
            "routines",
            "SHOW_ROUTINE (MySQL), SHOW CREATE ROUTINE (MariaDB since 11.3) or SELECT on mysql.proc (others)",
        ),
    ];
    let note = |(_, what, grant)| {
        format!(
            "`{}`: this user sees no {what}, so none is dumped: grant {grant}, if there are any",
            database.escape_debug()
        )
    };
    of.into_iter().filter(|(seen, ..)| !seen).map(note).collect()
}
