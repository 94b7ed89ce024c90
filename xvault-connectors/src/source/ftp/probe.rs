//! What a user needs to know before saving a source.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use xvault_core::source::FtpTls;

use super::scope::{absolute, look_at};
use crate::Error;
use crate::ftp::{Begun, FtpTimeouts, Kind, Session, Shared};
use crate::source::sftp::scope::remote_path;
use crate::source::{Probe, ProbedPath, look, probe_in_time};

/// How long connections may take within the time of a probe.
const CONNECT: Duration = Duration::from_secs(6);

/// Logs in and looks at the configured paths; data connections are tried, too.
pub(super) async fn probe(shared: &Arc<Shared>, paths: &[String]) -> Result<Probe, Error> {
    let mut options = shared.options.clone();
    let FtpTimeouts { connect, idle, .. } = options.timeouts;
    (options.timeouts.connect, options.timeouts.idle) = (connect.min(CONNECT), idle.min(CONNECT));
    let shared = Arc::new(Shared::new(options));
    probe_in_time(shared.options.server(), look(&shared, paths)).await
}

async fn look(shared: &Arc<Shared>, paths: &[String]) -> Result<Probe, Error> {
    let mut session = Session::connect(shared).await?;
    session.home().await?;
    let mut probed = Vec::new();
    for path in paths {
        let (found, again) = probe_path(session, path).await?;
        probed.push(found);
        session = match again {
            Some(session) => session,
            None => Session::connect(shared).await?,
        };
    }
    let probe = Probe {
        server: Some(session.greeting().to_owned()).filter(|greeting| !greeting.is_empty()),
        host_key: session.fingerprint(),
        paths: probed,
        notes: notes(&session),
    };
    session.close().await;
    Ok(probe)
}

/// The session comes back when it can go on.
async fn probe_path(mut session: Session, configured: &str) -> Result<(ProbedPath, Option<Session>), Error> {
    let probed = |kind, error| ProbedPath { path: configured.to_owned(), kind, error };
    let path = match absolute(&mut session, configured).await {
        Ok(path) => remote_path(path.as_ref()),
        Err(error @ Error::Settings(_)) => return Ok((probed(None, Some(error.to_string())), Some(session))),
        Err(error) => return Err(error),
    };
    let found = match look_at(&mut session, &path).await? {
        Ok(found) => found,
        Err(reply) => {
            let error = format!("does not exist, or can't be entered: {}", reply.shown());
            return Ok((probed(None, Some(error)), Some(session)));
        }
    };
    let (kind, begun) = match found.kind {
        Kind::File => ("file", session.begin("RETR", Some(&path), 0).await?),
        _ => ("directory", list(&mut session, &path).await?),
    };
    match begun {
        Begun::Refused(reply) | Begun::NoRestart(reply) => {
            let error = format!("can't be read: {}", reply.shown());
            Ok((probed(None, Some(error)), Some(session)))
        }
        Begun::Data(mut data) => {
            let mut first = BytesMut::with_capacity(64 << 10);
            let at_end = data.read(&mut first).await? == 0;
            if !at_end {
                // A directory of a million entries is not listed to its end.
                return Ok((probed(Some(kind), None), None));
            }
            data.close().await;
            let reply = session.finish().await?;
            let failed = !reply.is_done() || reply.says(&["failed to open"]);
            let error = failed.then(|| format!("can't be read: {}", reply.shown()));
            Ok((probed(Some(kind).filter(|_| !failed), error), Some(session)))
        }
    }
}

async fn list(session: &mut Session, path: &[u8]) -> Result<Begun, Error> {
    if session.features.mlst {
        match session.begin("MLSD", Some(path), 0).await? {
            Begun::Refused(reply) if reply.is_unknown_command() => {}
            begun => return Ok(begun),
        }
    }
    let entered = session.enter(path).await?;
    if !entered.is_done() {
        return Ok(Begun::Refused(entered));
    }
    session.begin("LIST", None, 0).await
}

fn notes(session: &Session) -> Vec<String> {
    let options = &session.shared().options;
    let mut notes = vec![session.features.shown(), look::unknown("FTP")];
    if options.tls == FtpTls::Disable {
        notes.push(
            "nothing is encrypted: whoever is in between reads the password and all files, and may change them".to_owned(),
        );
    } else if options.fingerprint.is_none() {
        notes.push("the certificate is believed for who signed it, or as it was given".to_owned());
    }
    if !session.features.mlst {
        notes.push("without MLSD, directories have times to the minute or the day, and links are known only where LIST shows them".to_owned());
    }
    if !session.features.rest {
        notes.push("without REST, a file that breaks off is read again from its beginning".to_owned());
    }
    if session.greeting().contains("vsFTPd") {
        notes.push(
            "vsftpd tells times in its machine's own zone where it says use_localtime=YES, as Debian's does: set NO, or they are off by that"
                .to_owned(),
        );
    }
    if session.shared().uses_old_passive() {
        notes
            .push("data connections are made by PASV; the address that it names is not looked at".to_owned());
    }
    notes
}
