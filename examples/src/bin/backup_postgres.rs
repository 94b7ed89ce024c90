//! Dumps a PostgreSQL database, and loads the dump into a new one on the same server: a backup that was proven by a restore.
//!
//! `backup_postgres HOST PORT USER PASSWORD_FILE DATABASE STORE COPY`
#![expect(clippy::print_stdout, reason = "a program for people")]

use anyhow::Context;
use xvault::connectors::{Control, DatabaseLoad, DatabaseLogin, PostgresSource};
use xvault::core::source::{DatabaseCredential, DatabaseServer, PostgresTarget};
use xvault::core::{
    DatabaseTarget, Identity, PostgresSettings, SourceId, SourceSettings, secret, secret::SecretString,
};
use xvault::{BackupOptions, FsStore, Snapshot};

/// How this program logs in. The tools are those of this machine; ones with known holes are taken, too: see docs/sources/postgres.md.
fn login(server: &DatabaseServer, password: &SecretString) -> DatabaseLogin {
    let credential = DatabaseCredential { password: Some(password.clone()), ssh: None };
    let mut login = DatabaseLogin::new(server, credential);
    login.tools.allow_outdated = true;
    login
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: backup_postgres HOST PORT USER PASSWORD_FILE DATABASE STORE COPY";
    let mut next = || args.next().context(usage);
    let (host, port, user) = (next()?, next()?.parse()?, next()?);
    let password = secret::from_file_bytes(std::fs::read(next()?)?)?;
    let mut settings = PostgresSettings::new(host.clone(), user.clone());
    (settings.port, settings.database) = (port, Some(next()?));
    let store = FsStore::open(next()?)?;
    let mut target = PostgresTarget::new(host, user);
    (target.port, target.database, target.create) = (port, next()?, true);

    let mut source = PostgresSource::new(&settings, login(&settings.server(), &password))?;
    let identity = Identity::generate();
    let id = SourceId::derive(&SourceSettings::Postgres(settings).address());
    let options = BackupOptions::to(vec![identity.recipient()], id)?;
    let manifest = xvault::backup(&mut source, &store, &options).await?;
    println!("{} bytes of dump, {:?}", manifest.content_summary.bytes, manifest.completeness);

    // What was stored is what is loaded. The end of the dump is held back until its content is proven.
    let snapshot = Snapshot::open(&store, &manifest.key(), vec![identity]).await?;
    let [dump] = &*snapshot.dumps(2).await? else { anyhow::bail!("not one dump") };
    let target = DatabaseTarget::Postgres(target);
    let load = DatabaseLoad::new(&target, login(&target.server(), &password))?;
    let loaded = snapshot.load(dump, &load, &Control::default()).await?;
    println!("{dump} went into {}", loaded.database);
    Ok(())
}
