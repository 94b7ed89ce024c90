//! The tools that load a dump: `psql` for SQL; `pg_restore` for the custom format, alone or in front of `psql`.

use std::path::Path;
use std::sync::Arc;

use xvault_core::source::PostgresTarget;
use xvault_core::{EntryPath, Phase, Progress, Warning};

use super::origin::Origin;
use super::rows::without_rows;
use crate::database::Reach;
use crate::database::load::feed::{Frame, Told, feed, feed_through};
use crate::database::load::{DumpReader, DumpWriter, Format, dump_channel, unfit};
use crate::database::postgres::Postgres;
use crate::source::dump::Lines;
use crate::tool::Call;
use crate::{Control, Error};

/// How much of a dump is looked at for what it begins with.
const HEAD: usize = 4096;

/// The first servers that know a setting which all `pg_restore` since then make, unasked, and end where it is refused. Dumps by
/// `pg_dump` of these versions have it, too.
const KNOWS_TRANSACTION_TIMEOUT: u32 = 17;
const TRANSACTION_TIMEOUT: &[u8] = b"SET transaction_timeout = 0;";

/// Tablespaces that somebody made: a fresh server has none.
const TABLESPACES: &str = "SELECT 1 FROM pg_catalog.pg_tablespace WHERE spcname !~ '^pg_' LIMIT 1";

/// Loads `dump` into the database, which is new when it was `created`; returns its length.
pub(super) async fn run(
    postgres: &Postgres,
    target: &PostgresTarget,
    created: bool,
    origin: &Origin,
    dump: &mut DumpReader,
    control: &Control,
) -> Result<u64, Error> {
    match origin.format {
        Some(Format::PostgresCustom) => {
            by_pg_restore(postgres, target, (created, origin.reader), dump, control).await
        }
        Some(Format::PostgresPlain) => by_psql(postgres, target, !created, dump, control).await,
        Some(Format::Mysql) | None => Err(unfit("PostgreSQL")),
    }
}

async fn by_pg_restore(
    postgres: &Postgres,
    target: &PostgresTarget,
    (created, reader): (bool, u32),
    dump: &mut DumpReader,
    control: &Control,
) -> Result<u64, Error> {
    let (tool, version) = control.run(postgres.restorer(reader)).await?;
    let knows = |major: u32| major >= KNOWS_TRANSACTION_TIMEOUT;
    if knows(version.major) && !knows(postgres.version.major) {
        return as_a_script(postgres, target, (&tool, created), dump, control).await;
    }
    let mut call = postgres.call(&tool, &target.database);
    control.run(restore_options(&mut call, postgres, target, created)).await?;
    feed(&postgres.reach, call, &Frame::default(), dump, control).await
}

/// `pg_restore` writes what it would do as SQL, and `psql` does that, but for what this server does not know.
async fn as_a_script(
    postgres: &Postgres,
    target: &PostgresTarget,
    (tool, created): (&Path, bool),
    dump: &mut DumpReader,
    control: &Control,
) -> Result<u64, Error> {
    let mut call = Call::new(tool);
    control.run(restore_options(&mut call, postgres, target, created)).await?;
    call.arg("--file=-");
    // Over one connection they could wait for each other: what one writes is in the way of the word that the other takes more.
    let reach = &postgres.reach;
    let own = if reach.is_remote() {
        Some(control.run(Reach::connect(&reach.server, &reach.login, None)).await?)
    } else {
        None
    };
    let (writer, mut script) = dump_channel();
    let loading = async move {
        let control = uncounted(control);
        // It begins and ends its transaction by itself.
        by_psql(postgres, target, false, &mut script, &control).await
    };
    match tokio::join!(written(own.as_ref().unwrap_or(reach), call, dump, writer, control), loading) {
        (Ok(bytes), Ok(_)) => Ok(bytes),
        // Each ends when the other does: then that one has the reason.
        (Err(error), Err(Error::Incomplete(_)) | Ok(_)) | (_, Err(error)) => Err(error),
    }
}

/// The script of a whole dump goes to `writer`; returns the dump's length.
async fn written(
    reach: &Reach,
    call: Call,
    dump: &mut DumpReader,
    writer: DumpWriter,
    control: &Control,
) -> Result<u64, Error> {
    let hear = |line: &str| control.progress().note(&format!("pg_restore: {line}"));
    let told = Told { hear, lines: Lines::default(), output: Some(&writer) };
    let bytes = feed_through(reach, call, &Frame::default(), dump, control, told).await?;
    writer.finished().await;
    Ok(bytes)
}

/// `in_transaction`: all of it or nothing.
async fn by_psql(
    postgres: &Postgres,
    target: &PostgresTarget,
    in_transaction: bool,
    dump: &mut DumpReader,
    control: &Control,
) -> Result<u64, Error> {
    let mut call = postgres.psql(&target.database);
    call.words = Some(without_rows());
    for arg in ["-X", "-w", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", "-"] {
        call.arg(arg);
    }
    control.run(dump.head(HEAD)).await.map(drop)?;
    dump.drop_restriction();
    dump.must_end_with(b"\n-- PostgreSQL database dump complete");
    if postgres.version.major < KNOWS_TRANSACTION_TIMEOUT {
        dump.drop_setting(TRANSACTION_TIMEOUT);
    }
    feed(&postgres.reach, call, &frame(in_transaction), dump, control).await
}

/// One transaction, but for a database that is dropped when it fails: ten thousand tables take more locks than servers have.
async fn restore_options(
    call: &mut Call,
    postgres: &Postgres,
    target: &PostgresTarget,
    created: bool,
) -> Result<(), Error> {
    call.words = Some(without_rows());
    call.arg("--exit-on-error").arg("--no-password");
    if !created {
        call.arg("--single-transaction");
    }
    if !target.keep_owner {
        call.arg("--no-owner").arg("--no-privileges");
    }
    if target.overwrite && !created {
        call.arg("--clean").arg("--if-exists");
    }
    if postgres.query(postgres.home(), TABLESPACES).await?.is_empty() {
        call.arg("--no-tablespaces");
    }
    Ok(())
}

/// `psql` must not run commands of this machine that stand in a dump: they are forbidden by a word that is made now, so
/// nobody who made the dump can know it and allow them again.
fn frame(in_transaction: bool) -> Frame {
    let restrict = restriction();
    if !in_transaction {
        return Frame { before: restrict.into(), after: b"" };
    }
    Frame { before: format!("BEGIN;\n{restrict}").into(), after: b"\nCOMMIT;\n" }
}

/// A line for `psql`, after which it runs no command of its own.
pub(super) fn restriction() -> String {
    format!("\\restrict {}\n", xvault_core::clock::new_id().replace('-', ""))
}

/// For what was counted already, and held to the bandwidth.
fn uncounted(control: &Control) -> Control {
    let progress = Arc::new(Uncounted(Arc::clone(control.progress())));
    Control::default().with_cancel(control.cancel_token().clone()).with_progress(progress)
}

struct Uncounted(Arc<dyn Progress>);

impl Progress for Uncounted {
    fn phase(&self, phase: Phase, total_bytes: Option<u64>) {
        self.0.phase(phase, total_bytes);
    }

    fn entry(&self, path: &EntryPath) {
        self.0.entry(path);
    }

    fn bytes(&self, _: u64) {}

    fn warning(&self, warning: &Warning) {
        self.0.warning(warning);
    }

    fn note(&self, message: &str) {
        self.0.note(message);
    }

    fn caution(&self, message: &str) {
        self.0.caution(message);
    }
}
