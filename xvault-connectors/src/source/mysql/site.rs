//! A database as that of a site: the table without which it is another one, and rows that lie elsewhere.

use super::MysqlSource;
use crate::Error;
use crate::database::mysql::{Mysql, View};
use crate::database::some_of;

/// A table without which a database is not the one that is meant.
pub(in super::super) struct Required {
    pub(in super::super) table: String,
    /// The file that names the database, and why it is none of its, for people.
    pub(in super::super) file: String,
    pub(in super::super) reason: String,
}

impl MysqlSource {
    /// Takes no database that lacks this.
    pub(in super::super) fn require(&mut self, required: Required) {
        self.required.push(required);
    }

    /// Whether all tables are there, be they views: their case does not matter, as it may not to the server.
    pub(super) async fn check_required(&self, mysql: &Mysql, databases: &[String]) -> Result<(), Error> {
        if self.required.is_empty() {
            return Ok(());
        }
        for name in databases {
            let (views, tables) = tokio::try_join!(mysql.views_of(name), mysql.tables_of(name))?;
            let views = views.into_iter().map(|view| view.name);
            let there: Vec<String> = views.chain(tables).map(|it| it.to_lowercase()).collect();
            let lacks = |required: &&Required| !there.contains(&required.table.to_lowercase());
            if let Some(Required { file, reason, .. }) = self.required.iter().find(lacks) {
                return Err(Error::SiteConfig { file: file.clone(), reason: reason.clone() });
            }
        }
        Ok(())
    }

    /// What a dump lacks of a site that keeps rows in other databases.
    pub(super) async fn rows_elsewhere(
        &self,
        mysql: &Mysql,
        database: &str,
    ) -> Result<Option<String>, Error> {
        if self.required.is_empty() {
            return Ok(None);
        }
        let mut views = mysql.views_of(database).await?;
        views.retain(|view| leads_elsewhere(view, database));
        let names: Vec<String> = views.into_iter().map(|view| view.name).collect();
        Ok((!names.is_empty()).then(|| {
            format!(
                "views hold no rows of their own, and these show rows of other databases, which are not in this dump: {}; back \
                 those databases up by a source of type `mysql`",
                some_of(&names)
            )
        }))
    }
}

/// Whether it reads tables of another database. Servers write each table with its database in front, behind `from` or `join`.
fn leads_elsewhere(view: &View, database: &str) -> bool {
    // A quotation mark in a name is written twice.
    let plain = |text: &str| text.replace("``", "\0");
    let (definition, own) = (plain(&view.definition), database.replace('`', "\0"));
    let is_other = |rest: &str| {
        let rest = rest.trim_start_matches(['(', ' ']);
        let qualified = rest.strip_prefix('`').and_then(|rest| rest.split_once("`."));
        qualified.is_some_and(|(name, _)| name != own && name != "information_schema" && !name.contains('`'))
    };
    ["from ", "join "].iter().any(|word| definition.split(word).skip(1).any(is_other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_that_reads_other_databases_is_told_from_others() {
        let leads = |definition: &str, database: &str| {
            leads_elsewhere(&View { name: "v".into(), definition: definition.into() }, database)
        };
        for own in [
            "select `d`.`t`.`a` AS `a` from `d`.`t`",
            "select `x`.`a` AS `a` from (`d`.`t` `x` join `d`.`u` `y` on(`x`.`a` = `y`.`a`))",
            "with c as (select 1 AS `1`)select `c`.`1` AS `1` from `c`",
            "select `i`.`TABLE_NAME` AS `n` from `information_schema`.`tables` `i`",
            "select 1 AS `1`",
            "",
        ] {
            assert!(!leads(own, "d"), "{own}");
        }
        for other in [
            "select `o`.`t`.`a` AS `a` from `o`.`t`",
            "select `x`.`a` AS `a` from ((`d`.`t` `x` join `o`.`u` `y`) left join `d`.`z` on(1))",
            "select `x`.`a` AS `a` from ((select 1 AS `1`) `x` join (select `o`.`t`.`a` AS `a` from `o`.`t`) `y`)",
        ] {
            assert!(leads(other, "d"), "{other}");
        }
        assert!(
            !leads("select 1 AS `1` from `d``e`.`t`", "d`e") && leads("select 1 AS `1` from `d``e`.`t`", "d")
        );
    }
}
