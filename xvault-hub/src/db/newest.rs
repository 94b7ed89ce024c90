//! Pages of long tables, newest first, by index whatever is asked for.
//!
//! The text of a statement holds only the comparisons that are wanted, and states as words rather than as parameters: a
//! planner that can't see what is compared guesses, and reads 100,000 rows to show 50 of them.

use jiff::Timestamp;
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
    /// Columns that must hold something, or nothing.
    pub(crate) marks: &'a [(&'static str, Option<bool>)],
    /// Columns that must hold a value.
    pub(crate) values: &'a [(&'static str, Option<&'a str>)],
    /// A column that must not hold a word.
    pub(crate) except: Option<(&'static str, &'static str)>,
    /// Only those that were made then or later.
    pub(crate) since: Option<Timestamp>,
    /// Only those that were made before.
    pub(crate) until: Option<Timestamp>,
}

impl<'a> Newest<'a> {
    /// All that are in scope.
    pub(crate) fn all(select: &'static str, scope: &'a Scope, page: &'a Page) -> Self {
        Self {
            select,
            scope,
            page,
            source_id: None,
            words: &[],
            marks: &[],
            values: &[],
            except: None,
            since: None,
            until: None,
        }
    }

    /// The rows, one more than the page holds.
    pub(crate) async fn fetch(&self, conn: &mut AnyConnection) -> Result<Vec<AnyRow>> {
        self.run(conn, self.text()).await
    }

    /// The rows of a statement that takes the values of this list.
    async fn run(&self, conn: &mut AnyConnection, text: String) -> Result<Vec<AnyRow>> {
        let tenant = match self.scope {
            Scope::Tenant(tenant) => Some(tenant.as_str()),
            Scope::All => None,
        };
        let query = sqlx::query(AssertSqlSafe(text)).bind(self.page.before()).bind(self.page.probe_limit());
        let values = self.values.iter().map(|(_, value)| *value);
        let values = [tenant, self.source_id].into_iter().chain(values).flatten();
        let query = values.fold(query, sqlx::query::Query::bind);
        let instants = [self.since, self.until].into_iter().flatten().map(Timestamp::as_millisecond);
        Ok(instants.fold(query, sqlx::query::Query::bind).fetch_all(conn).await?)
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
        let mut places = 3..;
        let mut compare = |text: &mut String, column: &str, how: &str| {
            if let Some(place) = places.next() {
                text.push_str(&format!(" AND {column} {how} ${place}"));
            }
        };
        if of_tenant {
            compare(&mut text, &shown("tenant_id"), "=");
        }
        if self.source_id.is_some() {
            compare(&mut text, "source_id", "=");
        }
        for (column, _) in self.values.iter().filter(|(_, value)| value.is_some()) {
            compare(&mut text, &shown(column), "=");
        }
        if self.since.is_some() {
            compare(&mut text, "created_at", ">=");
        }
        if self.until.is_some() {
            compare(&mut text, "created_at", "<");
        }
        for (column, word) in self.words {
            if let Some(word) = word {
                text.push_str(&format!(" AND {} = '{word}'", shown(column)));
            }
        }
        for (column, marked) in self.marks {
            match marked {
                Some(true) => text.push_str(&format!(" AND {column} IS NOT NULL")),
                Some(false) => text.push_str(&format!(" AND {column} IS NULL")),
                None => {}
            }
        }
        if let Some((column, word)) = self.except {
            text.push_str(&format!(" AND {} <> '{word}'", shown(column)));
        }
        text.push_str(" ORDER BY id DESC LIMIT $2");
        text
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;
    use crate::Dialect;
    use crate::app::bench::Bench;

    fn text(scope: &Scope, source_id: Option<&str>, status: Option<&'static str>) -> String {
        let page = Page { limit: 50, before: None };
        let all = Newest::all("SELECT * FROM jobs", scope, &page);
        Newest { source_id, words: &[("status", status)], ..all }.text()
    }

    /// What to select `n` from.
    fn numbers(last: u32) -> String {
        format!(
            "FROM (WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})
                 SELECT n FROM numbers) AS all_numbers"
        )
    }

    /// Backups and tests of many tenants; of one only backups, besides a test and a check. The worker `rare` has done one of that
    /// tenant's, `busy` all others.
    async fn many_jobs(bench: &Bench, conn: &mut AnyConnection) {
        for name in ["rare", "busy"] {
            bench.worker(name).await;
        }
        let tenants = "INSERT INTO tenants (id, name, plan, status, created_at, updated_at)
             SELECT 't' || n, 'tenant', 'standard', 'active', 0, 0";
        let tenants = AssertSqlSafe(format!("{tenants} {}", numbers(49)));
        sqlx::query(tenants).execute(&mut *conn).await.unwrap();
        let jobs =
            "INSERT INTO jobs (id, tenant_id, type, status, worker_id, not_before, push_at, created_at, updated_at)
             SELECT 'j' || n, CASE WHEN n % 50 = 0 THEN $1 ELSE 't' || (n % 50) END,
                 CASE WHEN n = 50 THEN 'verify' WHEN n = 100 OR n % 2 = 1 THEN 'probe' ELSE 'backup' END,
                 CASE n WHEN 100 THEN 'failed' ELSE 'completed' END, CASE n WHEN 150 THEN 'rare' ELSE 'busy' END, 0, 0, 0, 0";
        let jobs = AssertSqlSafe(format!("{jobs} {}", numbers(20_000)));
        sqlx::query(jobs).bind(bench.tenant.as_str()).execute(&mut *conn).await.unwrap();
        sqlx::raw_sql("ANALYZE").execute(conn).await.unwrap();
    }

    /// Logins to many tenants; one has, once, what another does always, and another something that nobody else has.
    async fn many_events(bench: &Bench, conn: &mut AnyConnection) {
        let events = "INSERT INTO audit_events (id, tenant_id, actor_type, action, target_type, created_at)
             SELECT 'e' || n, CASE WHEN n % 50 = 0 THEN $1 ELSE 't' || (n % 50) END, 'user',
                 CASE WHEN n = 51 THEN 'key.rotate' WHEN n = 50 OR n % 50 = 1 THEN 'source.create' ELSE 'auth.login' END,
                 'x', 0";
        let events = AssertSqlSafe(format!("{events} {}", numbers(20_000)));
        sqlx::query(events).bind(bench.tenant.as_str()).execute(&mut *conn).await.unwrap();
        sqlx::raw_sql("ANALYZE").execute(conn).await.unwrap();
    }

    /// How the engine finds the rows of a list.
    async fn plan(list: &Newest<'_>, conn: &mut AnyConnection, dialect: Dialect) -> String {
        let (explain, column) = match dialect {
            Dialect::Sqlite => ("EXPLAIN QUERY PLAN", "detail"),
            Dialect::Postgres => ("EXPLAIN", "QUERY PLAN"),
        };
        let rows = list.run(conn, format!("{explain} {}", list.text())).await.unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.try_get(column).unwrap()).collect();
        lines.join("\n")
    }

    async fn a_rare_type_is_found_by_index(bench: Bench) {
        let dialect = bench.hub.db().dialect();
        let mut conn = bench.hub.db().conn().await.unwrap();
        many_jobs(&bench, &mut conn).await;
        let (own, page) = (Scope::Tenant(bench.tenant.clone()), Page { limit: 50, before: None });
        let cases = [
            (&Scope::All, "verify", None, "jobs_by_type"),
            (&Scope::All, "restore", None, "jobs_by_type"),
            (&own, "probe", None, "jobs_by_tenant_and_type"),
            // Either index will do.
            (&own, "probe", Some("failed"), "jobs_by_"),
            (&Scope::All, "verify", Some("completed"), "jobs_by_"),
        ];
        for (scope, kind, status, index) in cases {
            let words = [("status", status), ("type", Some(kind))];
            let list = Newest { words: &words, ..Newest::all("SELECT * FROM jobs", scope, &page) };
            assert_by_index(&list, index, &mut conn, dialect).await;
            assert_eq!(list.fetch(&mut conn).await.unwrap().len(), usize::from(kind != "restore"));
        }
    }

    /// Without a sort, and without reading all.
    async fn assert_by_index(list: &Newest<'_>, index: &str, conn: &mut AnyConnection, dialect: Dialect) {
        let (text, plan) = (list.text(), plan(list, conn, dialect).await);
        assert!(plan.contains(index), "{text}: {plan}");
        let slow = ["Seq Scan", "SCAN", "TEMP B-TREE"];
        assert!(!slow.iter().any(|slow| plan.contains(slow)), "{text}: {plan}");
    }

    async fn a_workers_jobs_are_found_by_index(bench: Bench) {
        let dialect = bench.hub.db().dialect();
        let mut conn = bench.hub.db().conn().await.unwrap();
        many_jobs(&bench, &mut conn).await;
        let (own, page) = (Scope::Tenant(bench.tenant.clone()), Page { limit: 50, before: None });
        let cases = [
            (&Scope::All, "rare", 1, "jobs_by_worker"),
            (&Scope::All, "nobody", 0, "jobs_by_worker"),
            // Either index will do.
            (&own, "rare", 1, "jobs_by_"),
            (&own, "busy", 51, "jobs_by_"),
        ];
        for (scope, worker, rows, index) in cases {
            let values = [("worker_id", Some(worker))];
            let list = Newest { values: &values, ..Newest::all("SELECT * FROM jobs", scope, &page) };
            assert_by_index(&list, index, &mut conn, dialect).await;
            assert_eq!(list.fetch(&mut conn).await.unwrap().len(), rows, "{worker}");
        }
    }

    async fn a_rare_action_is_found_by_index(bench: Bench) {
        let dialect = bench.hub.db().dialect();
        let mut conn = bench.hub.db().conn().await.unwrap();
        many_events(&bench, &mut conn).await;
        let (own, page) = (Scope::Tenant(bench.tenant.clone()), Page { limit: 50, before: None });
        let cases = [
            (&Scope::All, "key.rotate", 1, "audit_events_by_action"),
            (&own, "source.create", 1, "audit_events_by_tenant_and_action"),
            (&own, "key.rotate", 0, "audit_events_by_"),
        ];
        for (scope, action, rows, index) in cases {
            let values = [("action", Some(action))];
            let list = Newest { values: &values, ..Newest::all("SELECT * FROM audit_events", scope, &page) };
            assert_by_index(&list, index, &mut conn, dialect).await;
            assert_eq!(list.fetch(&mut conn).await.unwrap().len(), rows, "{action}");
        }
    }

    crate::app::bench::on_both_engines!(
        a_rare_type_is_found_by_index,
        a_workers_jobs_are_found_by_index,
        a_rare_action_is_found_by_index,
    );

    #[test]
    fn values_and_times_are_parameters() {
        let (scope, page) = (Scope::All, Page { limit: 50, before: None });
        let values = [("a", Some("x")), ("b", None), ("c", Some("y"))];
        let (since, until) = (Some(Timestamp::UNIX_EPOCH), Some(Timestamp::MAX));
        let all = Newest::all("SELECT * FROM jobs", &scope, &page);
        assert_eq!(
            Newest { values: &values, since, until, ..all }.text(),
            "SELECT * FROM jobs WHERE id < $1 AND a = $3 AND c = $4 AND created_at >= $5 AND created_at < $6 \
             ORDER BY id DESC LIMIT $2"
        );
    }

    #[test]
    fn marks_are_there_or_not() {
        let (scope, page) = (Scope::All, Page { limit: 50, before: None });
        let marks = [("a", Some(true)), ("b", None), ("c", Some(false))];
        assert_eq!(
            Newest { marks: &marks, ..Newest::all("SELECT * FROM jobs", &scope, &page) }.text(),
            "SELECT * FROM jobs WHERE id < $1 AND a IS NOT NULL AND c IS NULL ORDER BY id DESC LIMIT $2"
        );
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
