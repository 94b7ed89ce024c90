//! Backs up the files below a web server's directory listing, by a connector of one's own: `src/http_directory.rs`.
//!
//! `backup_website URL STORE`
#![expect(clippy::print_stdout, reason = "a program for people")]

use anyhow::Context;
use xvault::core::{Identity, SourceId};
use xvault::{BackupOptions, FsStore};
use xvault_examples::http_directory::HttpDirectory;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(store)) = (args.next(), args.next()) else {
        anyhow::bail!("usage: backup_website URL STORE");
    };
    // The HTTP library is built without a TLS backend of its own; here it is the one that xVault uses.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().read_timeout(std::time::Duration::from_secs(60)).build()?;
    let root = reqwest::Url::parse(&url).context("an address is needed: http://files.example/pub/")?;
    let mut source = HttpDirectory(root, client);
    let options = BackupOptions::to(vec![Identity::generate().recipient()], SourceId::derive(&url))?;
    let manifest = xvault::backup(&mut source, &FsStore::open(store)?, &options).await?;
    let content = manifest.content_summary;
    println!("{} files, {} bytes, {} warnings", content.files, content.bytes, content.warnings);
    Ok(())
}
