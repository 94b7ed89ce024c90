//! A database as that of a site: the table without which it is another one, and rows that lie elsewhere.

use std::sync::OnceLock;

use super::MysqlSource;
use crate::Error;
use crate::database::mysql::{Mysql, View};
use crate::database::some_of;

/// A table without which a database is not the one that is meant.
pub(in super::super) struct Required {
    table: String,
    /// The file that names the database, and why it is none of its, for people.
    file: String,
    reason: String,
    /// That of a network of sites, each of which has a table of options: what such tables begin with.
    prefix: Option<String>,
    /// Whether they decide where uploads lie.
    decides_uploads: bool,
    /// What they say of that, once they have told.
    upload_paths: OnceLock<Vec<String>>,
}

impl Required {
    /// `table` of the site whose configuration is `file`; `prefix` if it may be a network.
    pub(in super::super) fn new(table: String, prefix: Option<String>, file: String, reason: String) -> Self {
        Self { table, file, reason, prefix, decides_uploads: true, upload_paths: OnceLock::new() }
    }

    /// Where its uploads lie is known without it.
    pub(in super::super) fn with_known_uploads(mut self) -> Self {
        self.decides_uploads = false;
        self
    }
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
            let there: Vec<String> = views.into_iter().chain(tables).map(|it| it.to_lowercase()).collect();
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
        let views = mysql.definitions_of(database).await?;
        let elsewhere = views.iter().filter(|view| leads_elsewhere(view, database));
        let names: Vec<String> = elsewhere.map(|view| view.name.clone()).collect();
        Ok((!names.is_empty()).then(|| {
            format!(
                "views hold no rows of their own, and these show rows of other databases, which are not in this dump: {}; back \
                 those databases up by a source of type `mysql`",
                some_of(&names)
            )
        }))
    }
}

impl MysqlSource {
    /// What the options of the site of `file` say of where uploads lie, as of the last look at what a dump would lack.
    pub(in super::super) fn upload_paths(&self, file: &str) -> Vec<String> {
        let of_site = self.required.iter().filter(|required| required.file == file);
        of_site.filter_map(|required| required.upload_paths.get()).flatten().cloned().collect()
    }

    /// Asks the options where uploads lie, and tells which did not say.
    pub(super) async fn learn_upload_paths(&self, mysql: &Mysql, database: &str) -> Vec<String> {
        let mut silent = Vec::new();
        for required in self.required.iter().filter(|required| required.decides_uploads) {
            match required.ask_upload_paths(mysql, database).await {
                // The first look tells what later ones do.
                Ok(paths) => drop(required.upload_paths.set(paths)),
                Err(error) => silent.push(format!(
                    "where uploads lie by the option `upload_path` of the site of {} is not known, so what lies there may not be in the \
                     backup: {}; define UPLOADS in that file as plain text, or mend the table",
                    required.file,
                    xvault_core::error::chain(&error)
                )),
            }
        }
        silent
    }
}

impl Required {
    async fn ask_upload_paths(&self, mysql: &Mysql, database: &str) -> Result<Vec<String>, Error> {
        let tables = match &self.prefix {
            None => vec![self.table.clone()],
            Some(prefix) => options_of(mysql.tables_of(database).await?, prefix),
        };
        mysql.upload_paths(database, &tables).await
    }
}

/// `wp_options`, `wp_2_options`… in any case, as a server may keep them.
fn options_of(mut tables: Vec<String>, prefix: &str) -> Vec<String> {
    let prefix = prefix.to_lowercase();
    tables.retain(|table| {
        let table = table.to_lowercase();
        let number = table.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix("options"));
        number.is_some_and(|number| {
            let digits = number.strip_suffix('_').unwrap_or(number);
            digits.bytes().all(|byte| byte.is_ascii_digit()) && (number.is_empty() || !digits.is_empty())
        })
    });
    tables
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
    fn the_tables_of_options_are_those_of_the_sites_of_a_network() {
        let all = [
            "wp_options",
            "wp_2_options",
            "WP_31_Options",
            "wp__options",
            "wp_x_options",
            "other_options",
            "wp_2options_",
        ];
        let all = all.map(str::to_owned).to_vec();
        assert_eq!(options_of(all, "Wp_"), ["wp_options", "wp_2_options", "WP_31_Options"]);
    }

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
