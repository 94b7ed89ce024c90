//! Whether the key-encryption keys are this database's: asked at start, before anything is encrypted to a wrong one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::db::{sealed, settings};
use crate::{Db, DbError, KeyError, Keys, StartError};

/// Where the check value lies.
const SETTING: &str = "kek_check";
/// What it says.
const PLAINTEXT: &[u8] = b"xvault: this database belongs to this key";

/// The check value as it is stored: JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Check {
    kek_id: String,
    /// An age file, in base64.
    sealed: String,
}

/// Opens the check value, which a first start makes, and looks for secrets of keys that are not there.
pub(crate) async fn check(db: &Db, keys: &Keys, now: Timestamp) -> Result<(), StartError> {
    let mut conn = db.conn().await?;
    let text = match settings::platform(&mut conn, SETTING).await? {
        Some(text) => text,
        None => first(&mut conn, keys, now).await?,
    };
    open(&parse(&text)?, keys)?;
    for table in sealed::Table::ALL {
        for kek_id in sealed::kek_ids(&mut conn, table).await? {
            keys.require(&kek_id)?;
        }
    }
    Ok(())
}

/// Another hub may start for the first time at this moment: what is stored then holds for both.
async fn first(conn: &mut sqlx::AnyConnection, keys: &Keys, now: Timestamp) -> Result<String, StartError> {
    settings::set_platform_once(conn, SETTING, &make(keys)?, now).await?;
    Ok(settings::platform(conn, SETTING).await?.ok_or(DbError::NotFound)?)
}

fn make(keys: &Keys) -> Result<String, KeyError> {
    let check = Check { kek_id: keys.current_id(), sealed: STANDARD.encode(keys.seal(PLAINTEXT)?) };
    Ok(serde_json::json!(check).to_string())
}

fn parse(text: &str) -> Result<Check, DbError> {
    serde_json::from_str(text).map_err(|_| DbError::Corrupt { column: SETTING })
}

fn open(check: &Check, keys: &Keys) -> Result<(), StartError> {
    keys.require(&check.kek_id)?;
    let sealed = STANDARD.decode(&check.sealed).map_err(|_| DbError::Corrupt { column: SETTING })?;
    keys.open(&sealed, &check.kek_id)?;
    Ok(())
}

/// Encrypts the check value to the current key, unless it is. From then on, hubs without that key don't start.
pub(crate) async fn rekey(conn: &mut sqlx::AnyConnection, keys: &Keys) -> Result<(), StartError> {
    let old = settings::platform(conn, SETTING).await?.ok_or(DbError::NotFound)?;
    if parse(&old)?.kek_id != keys.current_id() {
        settings::swap_platform(conn, SETTING, &old, &make(keys)?).await?;
    }
    Ok(())
}
