//! Dumps a MySQL or MariaDB database that only its own machine reaches, with the tools of that machine, over SSH.
//!
//! `backup_mysql SSH_HOST SSH_PORT SSH_USER KEY_FILE HOST_KEY DB_PORT DB_USER PASSWORD_FILE DATABASE STORE`
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::sync::Arc;

use anyhow::Context;
use xvault::connectors::{Control, DatabaseLogin, MysqlSource, Source};
use xvault::core::monitor::Recorder;
use xvault::core::source::{DatabaseCredential, SshMode};
use xvault::core::{Identity, MysqlSettings, SourceId, SourceSettings, secret};
use xvault::{BackupOptions, FsStore};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: backup_mysql SSH_HOST SSH_PORT SSH_USER KEY_FILE HOST_KEY DB_PORT DB_USER PASSWORD_FILE DATABASE STORE";
    let mut next = || args.next().context(usage);
    // As the SSH server sees the database.
    let mut settings = MysqlSettings::new("127.0.0.1", "");
    (settings.use_ssh, settings.ssh_mode) = (true, SshMode::Remote);
    (settings.ssh_host, settings.ssh_port) = (Some(next()?), next()?.parse()?);
    settings.ssh_username = Some(next()?);
    let key = secret::from_file_bytes(std::fs::read(next()?)?)?;
    settings.ssh_host_key = Some(next()?);
    (settings.port, settings.username) = (next()?.parse()?, next()?);
    let password = secret::from_file_bytes(std::fs::read(next()?)?)?;
    settings.database = Some(next()?);
    let store = FsStore::open(next()?)?;

    let credential = DatabaseCredential { password: Some(password), ssh: Some(key) };
    let login = DatabaseLogin::new(&settings.server(), credential);
    let mut source = MysqlSource::new(&settings, login)?;
    let probe = source.probe().await?;
    println!("{}: {}", probe.server.unwrap_or_default(), probe.notes.join("; "));

    let progress = Arc::new(Recorder::default());
    let id = SourceId::derive(&SourceSettings::Mysql(settings).address());
    let options = BackupOptions::to(vec![Identity::generate().recipient()], id)?
        .control(Control::default().with_progress(progress.clone()));
    let manifest = xvault::backup(&mut source, &store, &options).await?;
    // Tables that no transaction holds still are named here.
    for warning in progress.warnings() {
        println!("{}: {}", warning.path, warning.message);
    }
    println!("{} bytes of dump, {:?}", manifest.content_summary.bytes, manifest.completeness);
    Ok(())
}
