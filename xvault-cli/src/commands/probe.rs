//! `xvault probe`: can we log in, and are the paths there?

use tokio_util::sync::CancellationToken;
use xvault::connectors::Probe;
use xvault::core::Phase;

use crate::Outcome;
use crate::args::ProbeArgs;
use crate::output::Output;

pub(super) async fn run(
    args: &ProbeArgs,
    output: &Output,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let (settings, mut source) = super::source(&args.source, None, output).await?;
    output.progress().phase(Phase::Connect, None);
    let probing = super::control(output, cancel);
    let probe = probing.run(source.probe()).await.map_err(xvault::Error::Source)?;
    output.result(&probe, || describe(&settings.address(), &probe))?;
    let missing = probe.paths.iter().any(|path| path.error.is_some());
    Ok(if missing { Outcome::Warnings } else { Outcome::Done })
}

fn describe(address: &str, probe: &Probe) -> String {
    let mut lines = vec![format!("{address}: reachable, logged in")];
    lines.extend(probe.server.iter().map(|server| format!("  server    {server}")));
    let (what, flag) = match address.split("://").next() {
        Some("ftp" | "ftps") => ("certificate", "--certificate"),
        _ => ("host key", "--host-key"),
    };
    lines.extend(probe.host_key.iter().map(|key| format!("  {what:<9} {key}  (pin it with {flag})")));
    for path in &probe.paths {
        let found = path.error.as_deref().or(path.kind).unwrap_or("unknown");
        lines.push(format!("  path      {}: {found}", path.path));
    }
    lines.extend(probe.notes.iter().map(|note| format!("  note      {note}")));
    lines.join("\n")
}
