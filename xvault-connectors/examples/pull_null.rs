//! Pulls over SSH into nothing, to measure a connector alone.
//!
//! `cargo run --release -p xvault-connectors --example pull_null -- sftp|ssh HOST PORT USER KEYFILE PATH…`
//!
//! With `DELAY_MS=25` it goes through a proxy that delivers every byte 25 ms later, either way, to a server on loopback.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use xvault_connectors::source::{SftpSource, Source, SshSource};
use xvault_connectors::ssh::{HostKeyPolicy, SshCredential, SshOptions};
use xvault_connectors::{Control, PullSummary};
use xvault_core::{Entry, EntrySink, SinkError, SshSettings, Warning, secret};
use xvault_testkit::FaultProxy;

struct Nothing;

#[async_trait]
impl EntrySink for Nothing {
    async fn begin(&mut self, _: Entry) -> Result<(), SinkError> {
        Ok(())
    }
    async fn data(&mut self, _: Bytes) -> Result<(), SinkError> {
        Ok(())
    }
    async fn end(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    async fn warning(&mut self, warning: Warning) -> Result<(), SinkError> {
        eprintln!("{}: {}", warning.path, warning.message);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, host, port, username, key, paths @ ..] = arguments.as_slice() else {
        return Err("sftp|ssh HOST PORT USER KEYFILE PATH… are needed".into());
    };
    let settings = SshSettings {
        host: host.clone(),
        port: port.parse()?,
        username: username.clone(),
        paths: paths.to_vec(),
        use_password: false,
        excludes: Vec::new(),
        host_key: None,
        hooks: Default::default(),
    };
    let pem = secret::from_file_bytes(std::fs::read(key)?)?;
    let mut options = SshOptions::new(&settings, SshCredential::PrivateKey { pem, passphrase: None });
    options.host_key = HostKeyPolicy::AcceptNew;
    let proxy = delay()?.map(|delay| (FaultProxy::start(options.port), delay));
    if let Some((proxy, delay)) = &proxy {
        proxy.set_delay(*delay);
        options.port = proxy.port;
    }
    let started = Instant::now();
    let summary = pull(kind, &settings, options).await?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{seconds:.3} s {summary:?}");
    Ok(())
}

fn delay() -> Result<Option<Duration>, Box<dyn Error>> {
    let Ok(millis) = std::env::var("DELAY_MS") else { return Ok(None) };
    Ok(Some(Duration::from_millis(millis.parse()?)))
}

async fn pull(
    kind: &str,
    settings: &SshSettings,
    options: SshOptions,
) -> Result<PullSummary, Box<dyn Error>> {
    let mut source: Box<dyn Source> = match kind {
        "sftp" => Box::new(SftpSource::new(settings, options)?),
        _ => Box::new(SshSource::new(settings, options)?),
    };
    Ok(source.pull(&mut Nothing, &Control::default()).await?)
}
