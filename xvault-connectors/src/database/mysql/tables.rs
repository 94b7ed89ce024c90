//! Which tables of a server there are that a dump has trouble with.

use super::{ENGLISH, Mysql, identifier};
use crate::Error;
use crate::database::unhex;

/// A table of an engine that knows no transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnsafeTable {
    pub(crate) database: String,
    pub(crate) table: String,
    pub(crate) engine: String,
}

/// A view, as far as the user may see how it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) name: String,
    /// A SELECT, in which each table has its database in front.
    pub(crate) definition: String,
}

/// Tables of which tools write less than all, by what they leave out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LossyTables {
    /// They keep what their rows were before, which is left out.
    pub(crate) with_history: Vec<String>,
    /// Their rows lie elsewhere, and are left out (`--no-data-med` of mariadb-dump, which is its default).
    pub(crate) without_rows: Vec<String>,
}

/// Views that the tools end with, by what ails them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BrokenViews {
    /// Nobody can read them any more: what they are made of is gone.
    pub(crate) gone: Vec<String>,
    /// They call functions that this user may not run.
    pub(crate) denied: Vec<String>,
}

/// What the server says of a view that calls a function which the user may not run.
const DENIED: &str = "execute command denied%";

/// So many databases are asked of at once: a statement is a word of a command line.
const AT_ONCE: usize = 200;

/// Databases that are the server's own.
const OWN: &str = "('information_schema', 'performance_schema', 'mysql', 'sys')";

impl Mysql {
    /// All databases that we see, without those of the system.
    pub(crate) async fn databases(&self) -> Result<Vec<String>, Error> {
        self.names(&format!(
            "SELECT HEX(SCHEMA_NAME) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {OWN} ORDER BY SCHEMA_NAME"
        ))
        .await
    }

    /// Whether there is `database`, as far as the user sees.
    pub(crate) async fn has_database(&self, database: &str) -> Result<bool, Error> {
        let sql =
            format!("SELECT 1 FROM information_schema.SCHEMATA WHERE HEX(SCHEMA_NAME) = '{}'", hex(database));
        Ok(!self.query(&sql).await?.is_empty())
    }

    /// Whether names of databases and tables are the same in any case: on Windows and macOS, and where a cloud sets it so.
    pub(crate) async fn ignores_case(&self) -> Result<bool, Error> {
        let rows = self.query("SELECT @@lower_case_table_names <> 0").await?;
        Ok(rows.first().and_then(|row| row.first()).is_some_and(|answer| answer == "1"))
    }

    /// Bytes of tables and indexes in these databases, as far as the server knows. MariaDB opens every one of their tables for it, and
    /// those of others, too, where they are not named in this very way.
    pub(crate) async fn size_of(&self, databases: &[String]) -> Result<u64, Error> {
        let mut size = 0_u64;
        for databases in databases.chunks(AT_ONCE) {
            let names: Vec<String> = databases.iter().map(|name| text(name)).collect();
            let sql = format!(
                "SELECT COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({})",
                names.join(", ")
            );
            let rows = self.query(&sql).await?;
            let bytes = rows.first().and_then(|row| row.first()?.parse().ok());
            size = size.saturating_add(bytes.unwrap_or_default());
        }
        Ok(size)
    }

    /// Tables that a transaction does not hold still, by database.
    pub(crate) async fn unsafe_tables(&self) -> Result<Vec<UnsafeTable>, Error> {
        let sql = format!(
            "SELECT HEX(t.TABLE_SCHEMA), HEX(t.TABLE_NAME), HEX(t.ENGINE) FROM information_schema.TABLES t \
             JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE WHERE t.TABLE_TYPE = 'BASE TABLE' \
             AND COALESCE(e.TRANSACTIONS, 'NO') <> 'YES' AND t.TABLE_SCHEMA NOT IN {OWN} ORDER BY 1, 2"
        );
        let rows = self.query(&sql).await?;
        let table = |row: &Vec<String>| {
            let mut fields = row.iter().map(|field| unhex(field));
            let mut next = || fields.next().flatten();
            Some(UnsafeTable { database: next()?, table: next()?, engine: next()? })
        };
        Ok(rows.iter().filter_map(table).collect())
    }

    /// What has rows in `database`, as far as the user sees.
    pub(crate) async fn tables_of(&self, database: &str) -> Result<Vec<String>, Error> {
        self.names(&format!(
            "SELECT HEX(TABLE_NAME) FROM information_schema.TABLES WHERE HEX(TABLE_SCHEMA) = '{}' AND TABLE_TYPE <> 'VIEW' \
             ORDER BY 1",
            hex(database)
        ))
        .await
    }

    /// The views of `database`, as far as the user sees: their names.
    pub(crate) async fn views_of(&self, database: &str) -> Result<Vec<String>, Error> {
        self.names(&format!(
            "SELECT HEX(TABLE_NAME) FROM information_schema.VIEWS WHERE HEX(TABLE_SCHEMA) = '{}' ORDER BY 1",
            hex(database)
        ))
        .await
    }

    /// The views of `database` with what they are made of, as far as the user sees: as much as an answer holds.
    pub(crate) async fn definitions_of(&self, database: &str) -> Result<Vec<View>, Error> {
        let sql = format!(
            "SELECT HEX(TABLE_NAME), HEX(VIEW_DEFINITION) FROM information_schema.VIEWS WHERE HEX(TABLE_SCHEMA) = '{}' ORDER BY 1",
            hex(database)
        );
        let rows = self.query(&sql).await?;
        let field = |row: &Vec<String>, at: usize| row.get(at).and_then(|text| unhex(text));
        let view = |row: &Vec<String>| {
            Some(View { name: field(row, 0)?, definition: field(row, 1).unwrap_or_default() })
        };
        let views: Option<Vec<View>> = rows.iter().map(view).collect();
        views.ok_or_else(|| self.nonsense("the name of a view is not UTF-8"))
    }

    /// Those of `views` of which a server does not tell the columns. Whether their definer may still read what they are made of is no
    /// matter for that.
    pub(crate) async fn broken_among(&self, database: &str, views: &[String]) -> Result<BrokenViews, Error> {
        let mut broken = BrokenViews::default();
        for views in views.chunks(AT_ONCE) {
            let names: Vec<String> = views.iter().map(|name| text(name)).collect();
            // A server opens these alone, as they are named in this very way; and MariaDB opens a view only where its rows are asked for.
            let sql = format!(
                "SELECT TABLE_COMMENT LIKE '{DENIED}', HEX(TABLE_NAME) FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA IN ({}) AND TABLE_NAME IN ({}) AND TABLE_ROWS IS NULL AND \
                 (TABLE_COMMENT LIKE '{DENIED}' OR TABLE_COMMENT LIKE '%references invalid%')",
                text(database),
                names.join(", ")
            );
            // What is wrong with one is told in the language of the session.
            let marked = match self.marked_names(&format!("{ENGLISH} {sql}")).await {
                Err(Error::Tool { .. }) => self.marked_names(&sql).await?,
                marked => marked?,
            };
            for (is_denied, name) in marked {
                if is_denied { &mut broken.denied } else { &mut broken.gone }.push(name);
            }
        }
        Ok(broken)
    }

    /// The tables of `database` that have generated columns.
    pub(crate) async fn tables_with_generated_columns(&self, database: &str) -> Result<Vec<String>, Error> {
        // DEFAULT_GENERATED is another thing.
        self.names(&format!(
            "SELECT DISTINCT HEX(TABLE_NAME) FROM information_schema.COLUMNS WHERE HEX(TABLE_SCHEMA) = '{}' AND (EXTRA \
             LIKE '%VIRTUAL GENERATED%' OR EXTRA LIKE '%STORED GENERATED%') ORDER BY 1",
            hex(database)
        ))
        .await
    }

    /// The tables of `database` of which a dump holds less than all.
    pub(crate) async fn lossy_tables(&self, database: &str) -> Result<LossyTables, Error> {
        let sql = format!(
            "SELECT TABLE_TYPE = 'SYSTEM VERSIONED', HEX(TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({}) AND \
             (TABLE_TYPE = 'SYSTEM VERSIONED' OR ENGINE IN ('FEDERATED', 'CONNECT', 'SPIDER', 'OQGRAPH', 'VP')) ORDER BY 2",
            text(database)
        );
        let mut tables = LossyTables::default();
        for (has_history, name) in self.marked_names(&sql).await? {
            if has_history { &mut tables.with_history } else { &mut tables.without_rows }.push(name);
        }
        Ok(tables)
    }

    /// The tables of `database` that have vectors.
    pub(crate) async fn tables_with_vectors(&self, database: &str) -> Result<Vec<String>, Error> {
        self.names(&format!(
            "SELECT DISTINCT HEX(TABLE_NAME) FROM information_schema.COLUMNS WHERE HEX(TABLE_SCHEMA) = '{}' AND DATA_TYPE \
             = 'vector' ORDER BY 1",
            hex(database)
        ))
        .await
    }

    /// Packages of routines, which MariaDB has.
    pub(crate) async fn packages_of(&self, database: &str) -> Result<Vec<String>, Error> {
        self.names(&format!(
            "SELECT DISTINCT HEX(ROUTINE_NAME) FROM information_schema.ROUTINES WHERE HEX(ROUTINE_SCHEMA) = '{}' AND \
             ROUTINE_TYPE LIKE 'PACKAGE%' ORDER BY 1",
            hex(database)
        ))
        .await
    }

    /// Routines of `database` that the user sees, but not what they are made of.
    pub(crate) async fn opaque_routines(&self, database: &str) -> Result<Vec<String>, Error> {
        self.names(&format!(
            "SELECT DISTINCT HEX(ROUTINE_NAME) FROM information_schema.ROUTINES WHERE HEX(ROUTINE_SCHEMA) = '{}' AND \
             ROUTINE_DEFINITION IS NULL ORDER BY 1",
            hex(database)
        ))
        .await
    }

    /// Libraries of routines, which MySQL has since 9.2.
    pub(crate) async fn libraries_of(&self, database: &str) -> Result<Vec<String>, Error> {
        if !self.product.is_mysql_since(9, 2) {
            return Ok(Vec::new());
        }
        self.names(&format!(
            "SELECT HEX(LIBRARY_NAME) FROM information_schema.LIBRARIES WHERE HEX(LIBRARY_SCHEMA) = '{}' ORDER BY 1",
            hex(database)
        ))
        .await
    }

    /// What the tables of options of a site of WordPress say of where uploads lie, where they say something.
    pub(crate) async fn upload_paths(&self, database: &str, tables: &[String]) -> Result<Vec<String>, Error> {
        let mut paths = Vec::new();
        for tables in tables.chunks(AT_ONCE) {
            let of = |table: &String| {
                format!(
                    "SELECT HEX(TRIM(option_value)) FROM {}.{} WHERE option_name = 'upload_path' AND TRIM(option_value) <> ''",
                    identifier(database),
                    identifier(table)
                )
            };
            let all: Vec<String> = tables.iter().map(of).collect();
            paths.extend(self.names(&all.join(" UNION ")).await?);
        }
        Ok(paths)
    }

    /// Yes or no, and a name, in each row.
    async fn marked_names(&self, sql: &str) -> Result<Vec<(bool, String)>, Error> {
        let rows = self.query(sql).await?;
        let marked = |row: &Vec<String>| Some((row.first()? == "1", unhex(row.get(1)?)?));
        let marked: Option<Vec<(bool, String)>> = rows.iter().map(marked).collect();
        marked.ok_or_else(|| self.nonsense("a name in it is not UTF-8"))
    }

    /// A name in each row.
    async fn names(&self, sql: &str) -> Result<Vec<String>, Error> {
        let rows = self.query(sql).await?;
        let name = |row: &Vec<String>| row.first().and_then(|name| unhex(name));
        let names: Option<Vec<String>> = rows.iter().map(name).collect();
        names.ok_or_else(|| self.nonsense("a name in it is not UTF-8"))
    }
}

/// As the server's `HEX` writes it.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

/// A text whatever the server takes for an escape.
pub(crate) fn text(text: &str) -> String {
    format!("CONVERT(X'{}' USING utf8mb4)", hex(text))
}
