//! A snapshot whose first place is lost lies where its copy is.

use jiff::Timestamp;
use sqlx::AnyConnection;

use super::place;
use super::soundness::set_soundness;
use crate::db::Result;
use crate::db::snapshot_copies::{self, Copy};

/// The copy is the snapshot from now on, and no copy any more. Nothing is deleted before the copy's lock is over. What is known
/// of its bytes, damage and proofs, is what was known of the copy.
pub(crate) async fn move_to(conn: &mut AnyConnection, copy: &Copy, now: Timestamp) -> Result<()> {
    let to = place(&copy.locator)?;
    sqlx::query(
        "UPDATE snapshots SET storage_backend = $2, store_id = $3, worker_id = NULL, local_path = NULL, bucket = $4,
             object_key = $5, etag = $6, place_locked_until = $7, updated_at = $8, check_asked_at = NULL,
             locked_until = CASE WHEN locked_until > $7 OR $7 IS NULL THEN locked_until ELSE $7 END
         WHERE id = $1",
    )
    .bind(copy.snapshot_id.as_str())
    .bind(to.backend)
    .bind(copy.store_id.as_str())
    .bind(to.bucket)
    .bind(to.object_key)
    .bind(to.etag)
    .bind(copy.locked_until.map(Timestamp::as_millisecond))
    .bind(now.as_millisecond())
    .execute(&mut *conn)
    .await?;
    set_soundness(conn, &copy.snapshot_id, &copy.soundness, now).await?;
    snapshot_copies::forget(conn, &copy.snapshot_id, &copy.store_id).await?;
    Ok(())
}
