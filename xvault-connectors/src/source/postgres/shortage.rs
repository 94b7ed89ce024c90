//! What a dump needs of a database and can't have: tables that may not be read, and such as are named and not there.

use xvault_core::source::PostgresSettings;

use super::patterns;
use crate::Error;
use crate::database::postgres::Postgres;
use crate::database::{some_of, unhex};

/// How many large objects the user may not read. As a server before 18 has no word for it, their rights are taken apart.
const OBJECTS: &str = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata m \
    WHERE current_setting('lo_compat_privileges') = 'off' AND NOT pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS \
    (SELECT 1 FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))";

/// The same, where the server knows, and lets those read them who read all data.
const OBJECTS_SINCE_18: &str = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata m \
    WHERE NOT has_largeobject_privilege(m.oid, 'SELECT')";

/// Whether `p`, a pattern, is of `r`, a table. One that names no schema is of those that are found without.
const FITS: &str = "(p.schema IS NULL AND pg_table_is_visible(r.oid) OR r.nspname ~ p.schema COLLATE pg_catalog.default) \
    AND r.relname ~ p.name COLLATE pg_catalog.default";

/// What of a database can't be had.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shortage {
    /// Tables and sequences.
    tables: Vec<String>,
    objects: u64,
    /// Patterns that nothing fits.
    missing: Vec<String>,
}

impl Shortage {
    /// Of what is dumped with these settings.
    pub(super) async fn of(
        settings: &PostgresSettings,
        postgres: &Postgres,
        database: &str,
    ) -> Result<Self, Error> {
        let rows = postgres.query(database, &query(settings, postgres.version.major)).await?;
        let mut shortage = Self::default();
        for row in &rows {
            let value = row.get(1).map(String::as_str).unwrap_or_default();
            let number = value.parse().ok();
            let named = |patterns: &[String]| number.and_then(|number: usize| patterns.get(number).cloned());
            match row.first().map(String::as_str) {
                Some("unreadable") => shortage.tables.extend(unhex(value)),
                Some("table") => shortage.missing.extend(named(&settings.tables)),
                Some("schema") => shortage.missing.extend(named(&settings.schemas)),
                Some("objects") => {
                    let nonsense = || postgres.nonsense("the count of its large objects is no number");
                    shortage.objects = value.parse().map_err(|_| nonsense())?;
                }
                _ => {}
            }
        }
        Ok(shortage)
    }

    /// Why a backup would fail.
    pub(super) fn error(&self) -> Option<String> {
        let tables = (!self.tables.is_empty()).then(|| some_of(&self.tables));
        let objects = (self.objects > 0).then(|| objects_text(self.objects));
        let unreadable: Vec<String> = tables.into_iter().chain(objects).collect();
        let unreadable =
            (!unreadable.is_empty()).then(|| format!("can't be read: {}", unreadable.join("; ")));
        let missing = (!self.missing.is_empty()).then(|| format!("not there: {}", some_of(&self.missing)));
        let parts: Vec<String> = unreadable.into_iter().chain(missing).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// What helps, a sentence each.
    pub(super) fn notes(&self, database: &str) -> impl Iterator<Item = String> {
        let database = database.escape_debug();
        let tables = (!self.tables.is_empty()).then(|| {
            format!(
                "{} of database `{database}` can't be read, so a backup would fail: grant SELECT (and USAGE on the schema, and BYPASSRLS \
                 where rows are guarded), as pg_read_all_data does, or exclude them",
                some_of(&self.tables)
            )
        });
        let objects = (self.objects > 0).then(|| {
            format!(
                "{} of database `{database}` can't be read, so a backup would fail: GRANT SELECT ON LARGE OBJECT … as their owner, or \
                 back up as a superuser",
                objects_text(self.objects)
            )
        });
        let missing = (!self.missing.is_empty()).then(|| {
            format!(
                "nothing in database `{database}` is called {}, so a backup would fail: take it out of `tables` or `schemas`, or write \
                 it as pg_dump wants it (schema.table, capitals in double quotes)",
                some_of(&self.missing)
            )
        });
        [tables, objects, missing].into_iter().flatten()
    }
}

/// Everything in one call of `psql`: rows of a word and a value.
///
/// `pg_dump` dumps a sequence with the table that it belongs to; where it is told what to dump it leaves large objects out.
fn query(settings: &PostgresSettings, version: u32) -> String {
    let patterns = patterns::rows(settings);
    let fits = |what: &str| format!("EXISTS (SELECT 1 FROM p WHERE p.what = '{what}' AND {FITS})");
    let of_schema = |what: &str| {
        format!(
            "EXISTS (SELECT 1 FROM p WHERE p.what = '{what}' AND r.nspname ~ p.name COLLATE pg_catalog.default)"
        )
    };
    let among = match (settings.tables.is_empty(), settings.schemas.is_empty()) {
        (false, _) => fits("table"),
        (true, false) => format!("{} AND NOT {}", of_schema("schema"), of_schema("no schema")),
        (true, true) => format!("NOT {}", of_schema("no schema")),
    };
    let objects = if !(settings.tables.is_empty() && settings.schemas.is_empty()) {
        "SELECT 0"
    } else if version >= 18 {
        OBJECTS_SINCE_18
    } else {
        OBJECTS
    };
    format!(
        "WITH p (what, number, schema, name) AS (VALUES {patterns}), \
         r AS (SELECT c.oid, c.relkind, c.relname, n.oid AS schema, n.nspname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p')), \
         d AS (SELECT r.* FROM r WHERE {among} AND NOT {excluded}), \
         u AS (SELECT r.oid FROM r WHERE r.relkind IN ('r', 'S') AND r.nspname !~ '^pg_' AND r.nspname <> 'information_schema' \
         AND NOT (has_schema_privilege(r.schema, 'USAGE') AND has_table_privilege(r.oid, 'SELECT') AND NOT row_security_active(r.oid)) \
         AND (r.oid IN (SELECT d.oid FROM d) OR r.relkind = 'S' AND r.oid IN (SELECT o.objid FROM pg_catalog.pg_depend o \
         JOIN d ON d.oid = o.refobjid WHERE o.classid = 'pg_catalog.pg_class'::regclass \
         AND o.refclassid = 'pg_catalog.pg_class'::regclass AND o.deptype IN ('a', 'i'))) LIMIT 100) \
         SELECT 'unreadable', encode(convert_to(u.oid::regclass::text, getdatabaseencoding()), 'hex') FROM u \
         UNION ALL SELECT p.what, p.number::text FROM p WHERE p.what = 'table' AND NOT EXISTS (SELECT 1 FROM r WHERE {FITS}) \
         UNION ALL SELECT p.what, p.number::text FROM p WHERE p.what = 'schema' AND NOT EXISTS \
         (SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.nspname ~ p.name COLLATE pg_catalog.default) \
         UNION ALL SELECT 'objects', ({objects})::text ORDER BY 1, 2",
        excluded = fits("no table"),
    )
}

fn objects_text(count: u64) -> String {
    if count == 1 { "1 large object".to_owned() } else { format!("{count} large objects") }
}
