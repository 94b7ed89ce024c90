//! Backs up a WordPress site over SSH: its database, which `wp-config.php` leads to, and its files.
//!
//! `backup_wordpress HOST PORT USER KEY_FILE HOST_KEY DOCUMENT_ROOT STORE` — HOST_KEY as `ssh-keygen -l` prints it, `SHA256:…`
#![expect(clippy::print_stdout, reason = "a program for people")]

use anyhow::Context;
use xvault::connectors::tool::ToolOptions;
use xvault::connectors::{Source, SshCredential, SshOptions, WordpressSource};
use xvault::core::{Identity, SourceId, SourceSettings, WordpressSettings, secret};
use xvault::{BackupOptions, FsStore};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: backup_wordpress HOST PORT USER KEY_FILE HOST_KEY DOCUMENT_ROOT STORE";
    let mut next = || args.next().context(usage);
    let (host, port, username, key_file, host_key) = (next()?, next()?, next()?, next()?, next()?);
    let mut settings = WordpressSettings::new(host, username, vec![next()?]);
    settings.port = port.parse()?;
    settings.host_key = Some(host_key);
    let store = FsStore::open(next()?)?;

    let pem = secret::from_file_bytes(std::fs::read(key_file)?)?;
    let options = SshOptions::new(&settings.files(), SshCredential::PrivateKey { pem, passphrase: None });
    let mut source = WordpressSource::new(&settings, options, ToolOptions::default())?;
    for note in source.probe().await?.notes {
        println!("{note}");
    }
    let id = SourceId::derive(&SourceSettings::Wordpress(settings).address());
    let options = BackupOptions::to(vec![Identity::generate().recipient()], id)?;
    let manifest = xvault::backup(&mut source, &store, &options).await?;
    let content = manifest.content_summary;
    println!("{} files, {} bytes, {} warnings", content.files, content.bytes, content.warnings);
    Ok(())
}
