//! Logs in at a source and looks at its paths.

use xvault::connectors::{Control, Error, Probe};
use xvault::core::protocol::{ProbeReport, ProbedPath, Sealed, TaskResult};
use xvault::core::{Phase, SourceSettings};

use super::Tools;
use super::fault::Fault;

/// Does it. A server that nobody has vouched for yet is an answer, with the fingerprint to compare and pin.
pub(super) async fn run(
    tools: &Tools,
    settings: &SourceSettings,
    credential: Option<&Sealed>,
    control: &Control,
) -> Result<TaskResult, Fault> {
    let mut source = tools.doors.open(settings, credential).await?;
    control.progress().phase(Phase::Connect, None);
    let probe = match control.run(source.probe()).await {
        Ok(probe) => logged_in(probe),
        Err(Error::UnknownHostKey { server, fingerprint }) => {
            let field = if settings.database_server().is_some() { "ssh_host_key" } else { "host_key" };
            unpinned(&server, fingerprint, field)
        }
        Err(Error::UnknownCertificate { server, fingerprint, reason }) => {
            untrusted(&server, fingerprint, &reason)
        }
        Err(error) => return Err(xvault::Error::Source(error).into()),
    };
    Ok(TaskResult::Probe { probe })
}

fn logged_in(probe: Probe) -> ProbeReport {
    let Probe { server, host_key, paths, notes } = probe;
    let paths = paths.into_iter().map(|found| ProbedPath {
        path: found.path,
        kind: found.kind.map(str::to_owned),
        error: found.error,
    });
    ProbeReport { server, host_key, logged_in: true, paths: paths.collect(), notes }
}

fn unpinned(server: &str, fingerprint: String, field: &str) -> ProbeReport {
    refused(
        fingerprint,
        format!(
            "the host key of {server} is not pinned: compare the fingerprint with `ssh-keygen -lf` on the server, then save it as `{field}`"
        ),
    )
}

fn untrusted(server: &str, fingerprint: String, reason: &str) -> ProbeReport {
    refused(
        fingerprint,
        format!(
            "the certificate of {server} is not to be trusted: {reason}; compare the fingerprint with `openssl x509 -noout -fingerprint -sha256` on the server, then save it as `tls_fingerprint`, or save the certificate of its authority as `tls_ca`"
        ),
    )
}

/// The server was refused, before anybody logged in.
fn refused(fingerprint: String, note: String) -> ProbeReport {
    ProbeReport {
        server: None,
        host_key: Some(fingerprint),
        logged_in: false,
        paths: Vec::new(),
        notes: vec![note],
    }
}
