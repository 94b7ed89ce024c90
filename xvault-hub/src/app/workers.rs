//! What workers do themselves: prove who they are, register, and say that they live. What operators do with them is in
//! `fleet`.

use xvault_core::WorkerId;
use xvault_core::protocol::{Heartbeat, HeartbeatAnswer, Register, Registered};

use super::jobs::millis;
use super::tokens;
use crate::api::error::{Error, Result};
use crate::db::{self, workers};
use crate::{DbError, Hub};

/// Heartbeats that may be missed before a worker counts as offline.
const MISSED: u32 = 3;
/// The longest name or version, in bytes.
const MAX_NAME: usize = 200;
/// The longest path, in bytes.
const MAX_PATH: usize = 4096;
/// The longest address, in bytes.
const MAX_URL: usize = 1024;
/// The most types of sources that a worker can name.
const MAX_CAPABILITIES: usize = 64;
/// The longest name of a type of sources, in bytes.
const MAX_CAPABILITY: usize = 32;

/// Whose token this is. 401 when it is nobody's.
pub(crate) async fn authenticate(hub: &Hub, token: &str) -> Result<WorkerId> {
    let unknown = || Error::unauthorized("the token is no worker's");
    if !tokens::Kind::Worker.claims(token) {
        return Err(unknown());
    }
    match workers::id_by_token_hash(&mut *hub.db().conn().await?, &tokens::hash(token)).await {
        Err(DbError::NotFound) => Err(unknown()),
        found => Ok(found?),
    }
}

/// 403 when a body names another worker than the token.
pub(crate) fn check_named(worker: &WorkerId, named: &WorkerId) -> Result<()> {
    if worker == named {
        Ok(())
    } else {
        Err(Error::forbidden(format!("the token is that of worker {worker}")))
    }
}

/// Takes over what a worker says of itself.
pub(crate) async fn register(hub: &Hub, worker: &WorkerId, said: &Register) -> Result<Registered> {
    check_named(worker, &said.worker_id)?;
    check_text("name", said.name.as_deref().unwrap_or("-"), MAX_NAME)?;
    check_text("version", &said.version, MAX_NAME)?;
    check_text("storage_base_path", &said.storage_base_path, MAX_PATH)?;
    check_capabilities(&said.capabilities)?;
    check_download_url(said.download_url.as_deref())?;
    workers::register(&mut *hub.db().conn().await?, said, hub.clock().now()).await?;
    tracing::info!(worker_id = %worker, version = said.version, "worker registered");
    Ok(Registered { heartbeat_ms: millis(hub.settings().heartbeat) })
}

fn check_text(field: &str, text: &str, max: usize) -> Result<()> {
    if (1..=max).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Error::invalid_field(field, format!("1 to {max} bytes of printable text are needed")))
    }
}

/// Links are made of it, and shown to people.
fn check_download_url(url: Option<&str>) -> Result<()> {
    let fits = |url: &str| {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&b);
        rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(allowed))
    };
    if url.is_none_or(|url| url.len() <= MAX_URL && fits(url)) {
        Ok(())
    } else {
        Err(Error::invalid_field("download_url", "http:// or https:// with a host and a path is needed"))
    }
}

fn check_capabilities(capabilities: &[String]) -> Result<()> {
    let is_word = |word: &String| {
        (1..=MAX_CAPABILITY).contains(&word.len())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if capabilities.len() <= MAX_CAPABILITIES && capabilities.iter().all(is_word) {
        Ok(())
    } else {
        Err(Error::invalid_field("capabilities", "types of sources are needed: `sftp`, `ssh`"))
    }
}

/// A worker lives. Tells it what the hub wants of it.
pub(crate) async fn heartbeat(hub: &Hub, worker: &WorkerId, said: &Heartbeat) -> Result<HeartbeatAnswer> {
    check_named(worker, &said.worker_id)?;
    let mut conn = hub.db().conn().await?;
    workers::heartbeat(&mut conn, worker, said.draining, &said.metrics, hub.clock().now()).await?;
    let known = workers::get(&mut conn, worker).await?;
    Ok(HeartbeatAnswer { drain: known.drain, register: known.recipient.is_none() })
}

/// Workers that missed three heartbeats are offline from now on. Gives how many there are.
pub(crate) async fn mark_offline(hub: &Hub) -> db::Result<u64> {
    let now = hub.clock().now();
    let silent = hub.settings().heartbeat * MISSED;
    let before = now.checked_sub(silent).unwrap_or(jiff::Timestamp::MIN);
    workers::mark_offline(&mut *hub.db().conn().await?, before, now).await
}
