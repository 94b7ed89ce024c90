//! The last part of a restore test: the dumps of a snapshot, loaded into scratch databases.

use xvault::Snapshot;
use xvault::connectors::{Control, Error as ConnectorError, Scratch};
use xvault::core::EntryPath;
use xvault::core::error::chain;
use xvault::core::protocol::DatabasesTried;
use xvault::core::snapshot::ARTIFACT_NAME;

use super::super::Tools;
use super::super::fault::Fault;

/// More dumps than a server has databases.
const MOST: usize = 10_000;

/// Where roles and tablespaces of PostgreSQL lie: they are of a whole server, and no database can be made of them.
const GLOBALS: &[u8] = b"globals.sql";

/// Why there is no answer, or what the answer is.
pub(super) enum Stop {
    /// The snapshot is at fault: one sentence.
    Damaged(String),
    /// It can't be read.
    Snapshot(xvault::Error),
    /// The scratch server is at fault, so nothing is known.
    Server(Fault),
}

impl From<xvault::Error> for Stop {
    fn from(error: xvault::Error) -> Self {
        Self::Snapshot(error)
    }
}

/// Loads every dump. None: it is no snapshot of databases.
pub(super) async fn load_all(
    tools: &Tools,
    snapshot: &Snapshot<'_>,
    control: &Control,
) -> Result<Option<DatabasesTried>, Stop> {
    let manifest = snapshot.manifest();
    let Some(promised) = manifest.evidence.dumps() else { return Ok(None) };
    let dumps = snapshot.dumps(MOST).await?;
    check_count(snapshot, dumps.len() as u64, promised).await?;
    let mut tried = DatabasesTried::default();
    let Some(scratch) = tools.scratch.for_source(&manifest.source_type) else {
        let kind = &manifest.source_type;
        control.progress().note(&format!(
            "the dumps were unpacked and not loaded: no scratch server for {kind} is set on this worker"
        ));
        return Ok(Some(DatabasesTried { not_loaded: dumps.len() as u64, ..tried }));
    };
    let turn = async { Ok::<_, ConnectorError>(tools.scratch.turn().await) };
    let _turn = control.run(turn).await.map_err(xvault::Error::Target)?;
    for path in &dumps {
        load(snapshot, path, scratch, &mut tried, control).await?;
    }
    Ok(Some(tried))
}

/// As many dumps as its source saw to their end, that of roles and tablespaces among them.
async fn check_count(snapshot: &Snapshot<'_>, found: u64, promised: u64) -> Result<(), Stop> {
    let globals = EntryPath::new(GLOBALS).map_err(|error| Stop::Damaged(error.to_string()))?;
    let found = found + u64::from(snapshot.holds(&globals).await?);
    if found == promised {
        return Ok(());
    }
    let place = artifact(snapshot);
    Err(Stop::Damaged(format!("{place}: it holds {found} dumps, and its manifest promises {promised}")))
}

async fn load(
    snapshot: &Snapshot<'_>,
    path: &EntryPath,
    scratch: &Scratch,
    tried: &mut DatabasesTried,
    control: &Control,
) -> Result<(), Stop> {
    let trial = match snapshot.try_load(path, scratch, control).await {
        Err(xvault::Error::Target(error)) => return Err(refused(snapshot, path, scratch, error)),
        trial => trial?,
    };
    tried.loaded += 1;
    tried.tables += trial.tables;
    tried.rows += trial.rows;
    tried.bytes += trial.database_bytes;
    control.progress().note(&format!(
        "loaded `{path}` ({} bytes) into a scratch database: {} tables with {} rows",
        trial.dump_bytes, trial.tables, trial.rows
    ));
    Ok(())
}

/// Whose fault it is that a dump was not loaded.
fn refused(snapshot: &Snapshot<'_>, path: &EntryPath, scratch: &Scratch, error: ConnectorError) -> Stop {
    let words = chain(&error);
    match error {
        ConnectorError::DumpRefused { .. } => {
            let place = artifact(snapshot);
            Stop::Damaged(format!("{place}: the dump `{path}` can't be loaded into a database: {words}"))
        }
        ConnectorError::Cancelled => Stop::Snapshot(xvault::Error::Target(error)),
        error => {
            let address = scratch.address();
            tracing::warn!(server = address, reason = words, "a dump could not be tried on a scratch server");
            let message = format!("the scratch server: {}", unaddressed(&words, &address));
            let fault = Fault::from(xvault::Error::Target(error));
            Stop::Server(Fault { code: "scratch_server", message, ..fault })
        }
    }
}

/// What the server says without where it is, which is of no interest to whoever the snapshot belongs to.
fn unaddressed(words: &str, address: &str) -> String {
    let place = address.split_once('@').map_or(address, |(_, place)| place);
    let place = place.split_once('/').map_or(place, |(place, _)| place);
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host).trim_matches(['[', ']']);
    let words = words.replace(place, "it");
    // A name of one word may be part of others.
    let quoted = ["\"", "'", "`"].map(|mark| format!("{mark}{host}{mark}"));
    let words = quoted.iter().fold(words, |words, host| words.replace(host, "it"));
    if host.contains(['.', ':']) { words.replace(host, "it") } else { words }
}

fn artifact(snapshot: &Snapshot<'_>) -> String {
    format!("{}/{ARTIFACT_NAME}", snapshot.manifest().key().prefix())
}

#[cfg(test)]
mod tests {
    use super::unaddressed;

    #[test]
    fn a_server_is_not_named_in_what_it_says() {
        for (address, words, told) in [
            ("postgres://u@10.0.0.7:5432/", "connect to 10.0.0.7:5432: refused", "connect to it: refused"),
            (
                "postgres://u@db:5432/",
                "server at \"db\", port 5432: feedback",
                "server at it, port 5432: feedback",
            ),
            ("mysql://u@[::1]:3306/", "Can't connect to 'db' (::1)", "Can't connect to 'db' (it)"),
            ("mysql://u@db.example:3306/", "Unknown host 'db.example'", "Unknown host it"),
        ] {
            assert_eq!(unaddressed(words, address), told);
        }
    }
}
