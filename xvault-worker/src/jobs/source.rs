//! From a source's settings and its sealed credential to something that can be pulled.

use std::path::PathBuf;

use xvault::connectors::tool::ToolOptions;
use xvault::connectors::{
    DatabaseLogin, Error as ConnectorError, FtpOptions, LocalSource, Logins, Network, Saved, Source,
    SshOptions, source,
};
use xvault::core::protocol::Sealed;
use xvault::core::secret::{ExposeSecret, SecretString, from_file_bytes};
use xvault::core::source::{DatabaseServer, SshAccount};
use xvault::core::{FtpSettings, Identity, S3Credential, SourceSettings, SshSettings, seal};

use super::fault::{Fault, source_code};

/// The word for stores in buckets: a hub asks no worker that does not say it.
const BUCKETS: &str = "s3";

/// What this worker may open, and with what.
#[derive(Debug)]
pub(crate) struct Doors {
    /// Opens credentials.
    pub(crate) identity: Identity,
    /// Real paths of directories below which local sources may lie.
    pub(crate) local_roots: Vec<PathBuf>,
    /// The store, which is never backed up into itself.
    pub(crate) storage_base: PathBuf,
    /// What databases are dumped and loaded with.
    pub(crate) database_tools: ToolOptions,
    /// What tenants may have it connect to.
    pub(crate) network: Network,
}

impl Doors {
    /// The types of sources that this worker takes, and that it reaches stores in buckets.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let local = (!self.local_roots.is_empty()).then_some("local");
        let databases = self.database_tools.kinds();
        let all =
            ["sftp", "ssh", "ftp", "wordpress"].into_iter().chain(local).chain(databases).chain([BUCKETS]);
        all.map(str::to_owned).collect()
    }

    /// The source, ready to connect.
    pub(crate) async fn open(
        &self,
        settings: &SourceSettings,
        credential: Option<&Sealed>,
    ) -> Result<Box<dyn Source>, Fault> {
        if matches!(settings, SourceSettings::Local(_)) && self.local_roots.is_empty() {
            let message = "this worker reads no local directories: none is allowed by WORKER_ALLOW_LOCAL";
            return Err(Fault::permanent("path_not_allowed", message));
        }
        let inside = Inside { doors: self, saved: self.saved(credential)? };
        source::open(settings, &inside).await.map_err(fault)
    }

    /// What requests to a bucket are signed with.
    pub(super) fn bucket_key(&self, sealed: &Sealed) -> Result<S3Credential, Fault> {
        let opened = sealed.open(&self.identity).map_err(|error| unsealable(&error))?;
        S3Credential::from_json(opened.expose_secret())
            .map_err(|error| Fault::permanent("bad_credential", format!("the store's credential: {error}")))
    }

    /// The identities of a tenant, one per line.
    pub(crate) fn identities(&self, sealed: &Sealed) -> Result<Vec<Identity>, Fault> {
        let opened = sealed.open(&self.identity).map_err(|error| unsealable(&error))?;
        let text = std::str::from_utf8(opened.expose_secret()).unwrap_or_default();
        let identities: Result<Vec<_>, _> = text.lines().map(str::parse).collect();
        identities.map_err(|_| Fault::permanent("identity_unreadable", "what the hub gave is no identity"))
    }

    /// Only a pinned host key is believed: there is nobody to ask, and no file that could vouch.
    pub(crate) fn ssh(
        &self,
        settings: &SshSettings,
        credential: Option<&Sealed>,
    ) -> Result<SshOptions, Fault> {
        self.saved(credential)?.ssh(settings).map_err(fault)
    }

    /// How to log in at a database, and at the SSH server in between.
    pub(crate) fn database(
        &self,
        server: &DatabaseServer,
        credential: Option<&Sealed>,
    ) -> Result<DatabaseLogin, Fault> {
        self.saved(credential)?.database(server).map_err(fault)
    }

    fn saved(&self, credential: Option<&Sealed>) -> Result<Saved, Fault> {
        let credential = credential.map(|sealed| self.secret(sealed)).transpose()?;
        Ok(Saved {
            credential,
            tools: self.database_tools.clone(),
            network: self.network.clone(),
            local_roots: self.local_roots.clone(),
        })
    }

    fn secret(&self, sealed: &Sealed) -> Result<SecretString, Fault> {
        let secret = sealed.open(&self.identity).map_err(|error| unsealable(&error))?;
        from_file_bytes(secret.expose_secret().to_vec())
            .map_err(|error| Fault::permanent("bad_credential", error.to_string()))
    }
}

/// The credential of one job, and what of this machine it may read.
struct Inside<'a> {
    doors: &'a Doors,
    saved: Saved,
}

impl Logins for Inside<'_> {
    type Error = ConnectorError;

    async fn ssh(&self, account: SshAccount) -> Result<SshOptions, ConnectorError> {
        self.saved.ssh(account)
    }

    async fn ftp(&self, settings: &FtpSettings) -> Result<FtpOptions, ConnectorError> {
        self.saved.ftp(settings)
    }

    async fn database(&self, server: &DatabaseServer) -> Result<DatabaseLogin, ConnectorError> {
        self.saved.database(server)
    }

    fn tools(&self) -> ToolOptions {
        self.saved.tools.clone()
    }

    /// It stays below the allowed directories, whatever links are put in its way.
    fn local(&self, source: LocalSource) -> Result<LocalSource, ConnectorError> {
        Ok(self.saved.local(source)?.leaving_out(&self.doors.storage_base))
    }
}

/// The hub sealed it to the key that this worker registered: after a restart with another key the next attempt is fine.
fn unsealable(error: &seal::Error) -> Fault {
    Fault::transient(
        "credential_unreadable",
        format!("the credential can't be opened by this worker: {error}"),
    )
}

fn fault(error: ConnectorError) -> Fault {
    let code = source_code(&error);
    Fault { code, ..Fault::from(xvault::Error::Source(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault::connectors::{HostKeyPolicy, SshCredential};
    use xvault::core::{Disposition, LocalSettings, PostgresSettings};

    fn doors(local_roots: Vec<PathBuf>) -> Doors {
        let (database_tools, network) = (ToolOptions::default(), Network::default());
        let storage_base = "/nowhere".into();
        Doors { identity: Identity::generate(), local_roots, storage_base, database_tools, network }
    }

    fn server() -> SshSettings {
        let paths = vec!["/srv".into()];
        SshSettings { use_password: true, ..SshSettings::new("web.example", "web", paths) }
    }

    async fn refusal(doors: &Doors, settings: &SourceSettings, credential: Option<&Sealed>) -> Fault {
        doors.open(settings, credential).await.err().unwrap()
    }

    #[tokio::test]
    async fn local_is_offered_only_where_it_is_allowed() {
        let files = |roots| {
            let all = doors(roots).capabilities();
            all.into_iter().filter(|kind| kind != "postgres" && kind != "mysql").collect::<Vec<_>>()
        };
        assert_eq!(files(vec![]), ["sftp", "ssh", "ftp", "wordpress", "s3"]);
        assert_eq!(files(vec!["/srv".into()]), ["sftp", "ssh", "ftp", "wordpress", "local", "s3"]);
        let local = SourceSettings::Local(LocalSettings { paths: vec!["/etc".into()], excludes: vec![] });
        assert_eq!(refusal(&doors(vec![]), &local, None).await.code, "path_not_allowed");
        let mut elsewhere = doors(vec!["/srv".into()]).open(&local, None).await.unwrap();
        let seen = elsewhere.probe().await.map(|probe| probe.paths);
        assert!(!matches!(&seen, Ok(paths) if paths.iter().all(|path| path.error.is_none())), "{seen:?}");
    }

    #[tokio::test]
    async fn a_credential_for_another_worker_is_refused_without_a_word_of_it() {
        let doors = doors(vec![]);
        let sealed = Sealed::to(&Identity::generate().recipient(), b"hunter2").unwrap();
        let fault = refusal(&doors, &SourceSettings::Sftp(server()), Some(&sealed)).await;
        assert_eq!((fault.code, fault.disposition), ("credential_unreadable", Disposition::Transient));
        let own = Sealed::to(&doors.identity.recipient(), b"hunter2\n").unwrap();
        let options = doors.ssh(&server(), Some(&own)).unwrap();
        let SshCredential::Password(password) = &options.credential else { panic!("{options:?}") };
        assert!(password.expose_secret() == "hunter2" && matches!(options.host_key, HostKeyPolicy::Refuse));
    }

    #[test]
    fn databases_are_offered_where_their_tools_are() {
        let mut doors = doors(vec![]);
        let all = doors.capabilities();
        assert!(all.contains(&"postgres".to_owned()) && all.contains(&"mysql".to_owned()), "{all:?}");
        doors.database_tools.allow_outdated = true;
        let server = PostgresSettings::new("h", "u").server();
        let sealed = Sealed::to(&doors.identity.recipient(), b"hunter2\n").unwrap();
        assert!(doors.database(&server, Some(&sealed)).unwrap().tools.allow_outdated);
    }

    #[tokio::test]
    async fn a_missing_or_unfit_credential_has_its_word() {
        let doors = doors(vec![]);
        let pinned = SshSettings { host_key: Some(format!("SHA256:{}", "a".repeat(43))), ..server() };
        assert_eq!(refusal(&doors, &SourceSettings::Sftp(pinned), None).await.code, "no_credential");
        let hop = PostgresSettings { use_ssh: true, ..PostgresSettings::new("h", "u") }.server();
        let sealed = Sealed::to(&doors.identity.recipient(), b"hunter2\n").unwrap();
        let unfit = doors.database(&hop, Some(&sealed)).unwrap_err();
        assert!(unfit.code == "bad_credential" && !format!("{unfit:?}").contains("hunter2"), "{unfit:?}");
    }
}
