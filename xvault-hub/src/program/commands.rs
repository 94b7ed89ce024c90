//! What the program does.

use std::io::Write as _;

use anyhow::Context as _;
use tokio::net::TcpListener;
use xvault_core::WorkerId;
use xvault_core::secret::ExposeSecret;
use xvault_core::service::Environment;

use crate::config::{self, ServeArgs};
use crate::{Hub, raise_open_files, stop_on_signals};

/// Connections of commands that do one thing.
pub(super) const FEW: u32 = 2;

pub(crate) async fn serve(args: &ServeArgs, environment: &Environment) -> anyhow::Result<()> {
    raise_open_files();
    let parts = config::parts(args, environment).await?;
    if args.auto_migrate {
        parts.db.migrate().await?;
    }
    parts.db.check_schema().await?;
    let hub = Hub::new(parts).await?;
    let email = args.behaviour.operator_email.as_deref();
    if let Some(made) = hub.ensure_first_operator(email, config::operator_password(environment)?).await? {
        say("first login, shown this once; change the password after it:");
        say(made.to_lines().expose_secret().trim_end());
    }
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("HUB_LISTEN_ADDR: listen on {}", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    crate::serve(&hub, listener, stop_on_signals()?).await?;
    tracing::info!("stopped");
    Ok(())
}

pub(crate) async fn migrate(status_only: bool, environment: &Environment) -> anyhow::Result<()> {
    let db = config::database(environment, FEW).await?;
    if !status_only {
        db.migrate().await?;
    }
    for migration in db.migrations().await? {
        let state = if migration.applied { "applied" } else { "pending" };
        print(&format!("{:04} {state} {}", migration.version, migration.description))?;
    }
    Ok(())
}

pub(crate) async fn token(worker: &WorkerId, environment: &Environment) -> anyhow::Result<()> {
    let db = config::database(environment, FEW).await?;
    let token = crate::issue_worker_token(&db, worker).await?;
    print(token.expose_secret())
}

pub(crate) async fn operator(email: &str, environment: &Environment) -> anyhow::Result<()> {
    let db = config::database(environment, FEW).await?;
    db.check_schema().await?;
    // Shown before it is good: a password that nobody has read is worth another call, not a lost account.
    crate::reset_operator(&db, Some(email), |login| {
        print(login.password.expose_secret()).map_err(Into::into)
    })
    .await?;
    say("this is the operator's password now; change it after the login");
    Ok(())
}

pub(crate) async fn rekey(environment: &Environment) -> anyhow::Result<()> {
    let (keys, db) = (config::keys(environment)?, config::database(environment, FEW).await?);
    let done = crate::rekey(&db, &keys).await?;
    print(&format!(
        "{} credentials and {} tenant keys are now encrypted to key {}",
        done.credentials + done.stores,
        done.tenant_keys,
        keys.current_id()
    ))
}

pub(crate) fn openapi() -> anyhow::Result<()> {
    print(&crate::api::openapi().to_pretty_json()?)
}

/// A result, to standard output.
pub(super) fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// A message for a person, to standard error.
pub(crate) fn say(line: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{line}");
}
