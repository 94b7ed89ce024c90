//! Which snapshots hold a file of this name? Reads indexes only, whatever the size of the artifacts.
//!
//! `find_file STORE IDENTITY_FILE NAME`
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::ops::ControlFlow;

use anyhow::Context;
use xvault::core::Identity;
use xvault::{Filter, FsStore, Snapshot};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: find_file STORE IDENTITY_FILE NAME");
    let (store, identity, name) = (next()?, next()?, next()?);
    let store = FsStore::open(store)?;
    let identities = Identity::parse_file(&std::fs::read_to_string(identity)?.into())?;

    for listed in xvault::list(&store, &Filter::default()).await? {
        let manifest = listed.manifest?;
        let snapshot = Snapshot::open(&store, &manifest.key(), identities.clone()).await?;
        let (started, name) = (manifest.started_at, name.clone());
        snapshot
            .entries(move |entry| {
                if entry.entry.path.name() == name.as_bytes() {
                    println!("{started}  {:>12}  {}", entry.size(), entry.entry.path);
                }
                ControlFlow::Continue(())
            })
            .await?;
    }
    Ok(())
}
