//! Secrets that are encrypted to a key-encryption key, in whatever table they lie.

use sqlx::{AnyConnection, Row as _};

use super::Result;

/// Where such secrets lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Credentials,
    TenantKeys,
    Stores,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) id: String,
    /// An age file.
    pub(crate) ciphertext: Vec<u8>,
    /// Which KEK it is encrypted to.
    pub(crate) kek_id: String,
}

impl Table {
    pub(crate) const ALL: [Self; 3] = [Self::Credentials, Self::TenantKeys, Self::Stores];

    /// As it is named in the database.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::TenantKeys => "tenant_keys",
            Self::Stores => "stores",
        }
    }
}

/// Which KEKs the secrets of a table are encrypted to.
pub(crate) async fn kek_ids(conn: &mut AnyConnection, table: Table) -> Result<Vec<String>> {
    let sql = match table {
        Table::Credentials => "SELECT DISTINCT key_id AS kek_id FROM credentials",
        Table::TenantKeys => {
            "SELECT DISTINCT kek_id FROM tenant_keys WHERE encrypted_private_key IS NOT NULL AND kek_id IS NOT NULL"
        }
        Table::Stores => {
            "SELECT DISTINCT kek_id FROM stores WHERE ciphertext IS NOT NULL AND kek_id IS NOT NULL"
        }
    };
    let rows = sqlx::query(sql).fetch_all(conn).await?;
    rows.iter().map(|row| Ok(row.try_get("kek_id")?)).collect()
}

/// Up to `limit` secrets that are encrypted to another KEK than `kek_id`.
pub(crate) async fn others(
    conn: &mut AnyConnection,
    table: Table,
    kek_id: &str,
    limit: i64,
) -> Result<Vec<Sealed>> {
    let sql = match table {
        Table::Credentials => {
            "SELECT id, ciphertext, key_id AS kek_id FROM credentials WHERE key_id <> $1 ORDER BY id LIMIT $2"
        }
        Table::TenantKeys => {
            "SELECT id, encrypted_private_key AS ciphertext, kek_id FROM tenant_keys
             WHERE encrypted_private_key IS NOT NULL AND kek_id <> $1 ORDER BY id LIMIT $2"
        }
        Table::Stores => {
            "SELECT id, ciphertext, kek_id FROM stores WHERE ciphertext IS NOT NULL AND kek_id <> $1
             ORDER BY id LIMIT $2"
        }
    };
    let rows = sqlx::query(sql).bind(kek_id).bind(limit).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(Sealed {
                id: row.try_get("id")?,
                ciphertext: row.try_get("ciphertext")?,
                kek_id: row.try_get("kek_id")?,
            })
        })
        .collect()
}

/// Puts `new` in the place of `old`. False when the secret is another by now: somebody has rotated it.
pub(crate) async fn replace(
    conn: &mut AnyConnection,
    table: Table,
    old: &Sealed,
    new: &[u8],
    kek_id: &str,
) -> Result<bool> {
    let sql = match table {
        Table::Credentials => {
            "UPDATE credentials SET ciphertext = $4, key_id = $5 WHERE id = $1 AND key_id = $2 AND ciphertext = $3"
        }
        Table::TenantKeys => {
            "UPDATE tenant_keys SET encrypted_private_key = $4, kek_id = $5
             WHERE id = $1 AND kek_id = $2 AND encrypted_private_key = $3"
        }
        Table::Stores => {
            "UPDATE stores SET ciphertext = $4, kek_id = $5 WHERE id = $1 AND kek_id = $2 AND ciphertext = $3"
        }
    };
    let result = sqlx::query(sql)
        .bind(&old.id)
        .bind(&old.kek_id)
        .bind(old.ciphertext.clone())
        .bind(new.to_vec())
        .bind(kek_id)
        .execute(conn)
        .await?;
    Ok(result.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;

    /// Whoever rotates a credential while it is re-encrypted must not get the old one back.
    #[tokio::test]
    async fn a_secret_that_was_rotated_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::connect(&format!("sqlite:{}", dir.path().join("hub.db").display()), 1).await.unwrap();
        db.migrate().await.unwrap();
        let mut conn = db.conn().await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO tenants (id, name, created_at, updated_at) VALUES ('t', 't', 0, 0);
             INSERT INTO credentials (id, tenant_id, kind, ciphertext, key_id, created_at, updated_at)
             VALUES ('c', 't', 'source', CAST('old' AS BLOB), 'k1', 0, 0)",
        )
        .execute(&mut *conn)
        .await
        .unwrap();
        let read = others(&mut conn, Table::Credentials, "k2", 10).await.unwrap().remove(0);
        assert_eq!((read.ciphertext.as_slice(), read.kek_id.as_str()), (&b"old"[..], "k1"));
        let rotated = "UPDATE credentials SET ciphertext = CAST('rotated' AS BLOB)";
        sqlx::query(rotated).execute(&mut *conn).await.unwrap();
        assert!(!replace(&mut conn, Table::Credentials, &read, b"new", "k2").await.unwrap());
        let again = others(&mut conn, Table::Credentials, "k2", 10).await.unwrap().remove(0);
        assert_eq!(again.ciphertext, b"rotated");
        assert!(replace(&mut conn, Table::Credentials, &again, b"new", "k2").await.unwrap());
        assert!(others(&mut conn, Table::Credentials, "k2", 10).await.unwrap().is_empty());
        assert_eq!(kek_ids(&mut conn, Table::Credentials).await.unwrap(), ["k2"]);
    }
}
