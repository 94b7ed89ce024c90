//! `xvault-hub` as a program: flags, commands, exit code.

mod commands;
mod recovery;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xvault_core::WorkerId;
use xvault_core::service::{Environment, init_logs};

use crate::config::{self, LogArgs, ServeArgs};

const AFTER_HELP: &str = "\
Secrets come from the environment, or from files (add _FILE to the name), never from arguments:
  DATABASE_URL            postgres://user:password@host/database, or sqlite:/path/to/hub.db
  REDIS_URL               redis://:password@host:6379/0
  HUB_ENCRYPTION_KEK      the age identity that stored secrets are encrypted to; several, separated by commas, to rotate
  HUB_JWT_SECRET          what access tokens are signed with, 32 bytes or more
  HUB_OPERATOR_PASSWORD   the first operator's password";

/// The control plane of xVault: tenants, sources, jobs and snapshots over HTTP.
#[derive(Debug, Parser)]
#[command(name = "xvault-hub", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    logs: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API, and run the loops beside it
    Serve(Box<ServeArgs>),
    /// Bring the database's schema up to date
    Migrate {
        /// Only say which migrations are applied and which are not
        #[arg(long)]
        status: bool,
    },
    /// Make a worker known, or give a known one a new token; prints it once
    Token {
        /// The worker's id, as its WORKER_ID will say
        worker: WorkerId,
    },
    /// Make an operator, or give one a new password, which is printed once
    ///
    /// A disabled one is active again, and sessions end. Change the password after the login.
    Operator {
        /// The operator's e-mail address
        email: String,
    },
    /// Encrypt every stored secret to the first key of `HUB_ENCRYPTION_KEK`
    Rekey,
    /// Take the identities of all tenants out of the hub, or bring them back
    #[command(subcommand)]
    Keys(recovery::KeysCommand),
    /// Put sources and snapshots on record from the manifests in a store, after the database was lost
    ///
    /// What is on record stays as it is. Sources come back disabled and without their settings. Bring the tenants' identities back
    /// first: `xvault-hub keys import`.
    Rebuild(recovery::RebuildArgs),
    /// Compare a store with the records: snapshots without a record, records without a snapshot
    ///
    /// Nothing is deleted but what --delete names.
    Reconcile(recovery::ReconcileArgs),
    /// Print the API's description, OpenAPI 3.1
    Openapi,
}

/// Reads the command line, does what it says, and gives the exit code: 0 done, 1 failed, 2 wrong usage.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            commands::say(&format!("xvault-hub: {}", xvault_core::error::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    let environment = Environment::of_process();
    config::check_names(&environment)?;
    init_logs(cli.logs.format, &cli.logs.filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => commands::serve(&args, &environment).await,
            Command::Migrate { status } => commands::migrate(status, &environment).await,
            Command::Token { worker } => commands::token(&worker, &environment).await,
            Command::Operator { email } => commands::operator(&email, &environment).await,
            Command::Rekey => commands::rekey(&environment).await,
            Command::Keys(command) => recovery::keys(&command, &environment).await,
            Command::Rebuild(args) => recovery::rebuild(&args, &environment).await,
            Command::Reconcile(args) => recovery::reconcile(&args, &environment).await,
            Command::Openapi => commands::openapi(),
        }
    })
}
