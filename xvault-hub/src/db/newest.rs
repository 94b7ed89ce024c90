//! Pages of long tables, newest first, by index whatever is asked for.
//!
//! The text of a statement holds only the comparisons that are wanted, and states as words rather than as parameters: a
//! planner that can't see what is compared guesses, and reads 100,000 rows to show 50 of them.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::{Page, Result, Scope};

/// Which rows of a table are listed.
pub(crate) struct Newest<'a> {
    /// `SELECT … FROM …`
    pub(crate) select: &'static str,
    pub(crate) scope: &'a Scope,
    pub(crate) page: &'a Page,
    /// Only those of this source.
    pub(crate) source_id: Option<&'a str>,
    /// Columns that must hold a word, which is one of ours.
    pub(crate) words: &'a [(&'static str, Option<&'static str>)],
}

impl Newest<'_> {
    /// The rows, one more than the page holds.
    pub(crate) async fn fetch(&self, conn: &mut AnyConnection) -> Result<Vec<AnyRow>> {
        let tenant = match self.scope {
            Scope::Tenant(tenant) => Some(tenant.as_str()),
            Scope::All => None,
        };
        let mut query =
            sqlx::query(AssertSqlSafe(self.text())).bind(self.page.before()).bind(self.page.probe_limit());
        for value in [tenant, self.source_id].into_iter().flatten() {
            query = query.bind(value);
        }
        Ok(query.fetch_all(conn).await?)
    }

    /// Made of this program's own words: values are parameters.
    fn text(&self) -> String {
        let mut text = format!("{} WHERE id < $1", self.select);
        let of_tenant = matches!(self.scope, Scope::Tenant(_));
        // A source's rows are few, and SQLite would rather take an index with two other columns: these are hidden from it.
        let shown = |column: &str| match self.source_id {
            Some(_) => format!("COALESCE({column}, '')"),
            None => column.to_owned(),
        };
        if of_tenant {
            text.push_str(&format!(" AND {} = $3", shown("tenant_id")));
        }
        if self.source_id.is_some() {
            text.push_str(&format!(" AND source_id = ${}", 3 + usize::from(of_tenant)));
        }
        for (column, word) in self.words {
            if let Some(word) = word {
                text.push_str(&format!(" AND {} = '{word}'", shown(column)));
            }
        }
        text.push_str(" ORDER BY id DESC LIMIT $2");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(scope: &Scope, source_id: Option<&str>, status: Option<&'static str>) -> String {
        let page = Page { limit: 50, before: None };
        Newest { select: "SELECT * FROM jobs", scope, page: &page, source_id, words: &[("status", status)] }
            .text()
    }

    #[test]
    fn only_what_is_asked_for_is_compared() {
        let own = Scope::Tenant("t1".parse().unwrap());
        let cases = [
            (text(&Scope::All, None, None), ""),
            (text(&own, None, None), " AND tenant_id = $3"),
            (text(&own, None, Some("failed")), " AND tenant_id = $3 AND status = 'failed'"),
            (text(&Scope::All, Some("s1"), None), " AND source_id = $3"),
            (
                text(&own, Some("s1"), Some("failed")),
                " AND COALESCE(tenant_id, '') = $3 AND source_id = $4 AND COALESCE(status, '') = 'failed'",
            ),
        ];
        for (text, conditions) in cases {
            assert_eq!(
                text,
                format!("SELECT * FROM jobs WHERE id < $1{conditions} ORDER BY id DESC LIMIT $2")
            );
        }
    }
}
