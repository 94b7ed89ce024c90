//! From a source's settings and its sealed credential to something that can be pulled.

use std::path::PathBuf;

use xvault::connectors::tool::ToolOptions;
use xvault::connectors::{
    DatabaseLogin, FtpOptions, FtpSource, Hooked, LocalSource, MysqlSource, Network, PostgresSource,
    SftpSource, Source, SshCredential, SshOptions, SshSource, WordpressSource,
};
use xvault::core::protocol::Sealed;
use xvault::core::secret::{ExposeSecret, SecretString, from_file_bytes};
use xvault::core::source::{DatabaseCredential, DatabaseServer, UnfitCredential};
use xvault::core::{FtpSettings, Identity, LocalSettings, S3Credential, SourceSettings, SshSettings, seal};

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
    pub(crate) fn open(
        &self,
        settings: &SourceSettings,
        credential: Option<&Sealed>,
    ) -> Result<Box<dyn Source>, Fault> {
        settings.validate().map_err(|error| Fault::permanent("invalid_settings", error.to_string()))?;
        Ok(match settings {
            SourceSettings::Local(local) => Box::new(self.local(local)?),
            SourceSettings::Sftp(ssh) => {
                let options = self.ssh(ssh, credential)?;
                let source = SftpSource::new(ssh, options.clone()).map_err(fault)?;
                Hooked::around(Box::new(source), &ssh.hooks, Some(&options))
            }
            SourceSettings::Ssh(ssh) => {
                let options = self.ssh(ssh, credential)?;
                let source = SshSource::new(ssh, options.clone()).map_err(fault)?;
                Hooked::around(Box::new(source), &ssh.hooks, Some(&options))
            }
            SourceSettings::Ftp(settings) => {
                Box::new(FtpSource::new(settings, self.ftp(settings, credential)?).map_err(fault)?)
            }
            SourceSettings::Postgres(settings) => {
                let login = self.database(&settings.server(), credential)?;
                let ssh = login.ssh.clone();
                let source = PostgresSource::new(settings, login).map_err(fault)?;
                Hooked::around(Box::new(source), &settings.hooks, ssh.as_ref())
            }
            SourceSettings::Mysql(settings) => {
                let login = self.database(&settings.server(), credential)?;
                let ssh = login.ssh.clone();
                let source = MysqlSource::new(settings, login).map_err(fault)?;
                Hooked::around(Box::new(source), &settings.hooks, ssh.as_ref())
            }
            SourceSettings::Wordpress(site) => {
                let options = self.ssh(&site.files(), credential)?;
                let tools = self.database_tools.clone();
                let source = WordpressSource::new(site, options.clone(), tools).map_err(fault)?;
                Hooked::around(Box::new(source), &site.hooks, Some(&options))
            }
            other => {
                let message = format!("this worker can't read sources of type {}", other.kind());
                return Err(Fault::permanent("unknown_source_type", message));
            }
        })
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

    /// A local source stays below the allowed directories, whatever links are put in its way.
    fn local(&self, settings: &LocalSettings) -> Result<LocalSource, Fault> {
        if self.local_roots.is_empty() {
            let message = "this worker reads no local directories: none is allowed by WORKER_ALLOW_LOCAL";
            return Err(Fault::permanent("path_not_allowed", message));
        }
        let source = LocalSource::new(settings).map_err(fault)?;
        Ok(source.only_below(self.local_roots.clone()).leaving_out(&self.storage_base))
    }

    /// Only a pinned host key is believed: there is nobody to ask, and no file that could vouch.
    pub(crate) fn ssh(
        &self,
        settings: &SshSettings,
        credential: Option<&Sealed>,
    ) -> Result<SshOptions, Fault> {
        let credential = match (credential, &settings.host_key) {
            (Some(sealed), _) => self.credential(settings, sealed)?,
            // The server will be refused before anybody logs in, and its fingerprint told.
            (None, None) => SshCredential::Password(SecretString::default()),
            (None, Some(_)) => {
                let message = "the source has no credential: a password or a private key is needed";
                return Err(Fault::permanent("no_credential", message));
            }
        };
        Ok(SshOptions { network: self.network.clone(), ..SshOptions::new(settings, credential) })
    }

    /// A certificate that is neither pinned nor signed by a known authority is refused before anybody logs in, and its fingerprint told.
    fn ftp(&self, settings: &FtpSettings, credential: Option<&Sealed>) -> Result<FtpOptions, Fault> {
        let password = match credential {
            Some(sealed) if settings.use_password => Some(self.secret(sealed)?),
            None if settings.use_password => {
                let message = "the source has no credential: the account's password is needed";
                return Err(Fault::permanent("no_credential", message));
            }
            _ => None,
        };
        Ok(FtpOptions { network: self.network.clone(), ..FtpOptions::new(settings, password) })
    }

    /// How to log in at a database, and at the SSH server in between.
    pub(crate) fn database(
        &self,
        server: &DatabaseServer,
        credential: Option<&Sealed>,
    ) -> Result<DatabaseLogin, Fault> {
        let bad = |error: UnfitCredential| Fault::permanent("bad_credential", error.to_string());
        let only_asks = server.ssh.as_ref().is_some_and(|ssh| ssh.host_key.is_none());
        let needs_none = server.ssh.is_none() && !server.use_password;
        let credential = match credential {
            Some(sealed) => DatabaseCredential::parse(server, self.secret(sealed)?).map_err(bad)?,
            None if only_asks || needs_none => DatabaseCredential::default(),
            None => {
                let message = "the source has no credential: the database's password, or the SSH account's key, is needed";
                return Err(Fault::permanent("no_credential", message));
            }
        };
        let mut login = DatabaseLogin::new(server, credential).within(&self.network);
        login.tools = self.database_tools.clone();
        Ok(login)
    }

    fn secret(&self, sealed: &Sealed) -> Result<SecretString, Fault> {
        let secret = sealed.open(&self.identity).map_err(|error| unsealable(&error))?;
        from_file_bytes(secret.expose_secret().to_vec())
            .map_err(|error| Fault::permanent("bad_credential", error.to_string()))
    }

    fn credential(&self, settings: &SshSettings, sealed: &Sealed) -> Result<SshCredential, Fault> {
        Ok(SshCredential::saved(settings.use_password, self.secret(sealed)?))
    }
}

/// The hub sealed it to the key that this worker registered: after a restart with another key the next attempt is fine.
fn unsealable(error: &seal::Error) -> Fault {
    Fault::transient(
        "credential_unreadable",
        format!("the credential can't be opened by this worker: {error}"),
    )
}

fn fault(error: xvault::connectors::Error) -> Fault {
    let code = source_code(&error);
    Fault { code, ..Fault::from(xvault::Error::Source(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault::connectors::HostKeyPolicy;
    use xvault::core::{Disposition, PostgresSettings};

    fn doors(local_roots: Vec<PathBuf>) -> Doors {
        let (database_tools, network) = (ToolOptions::default(), Network::default());
        let storage_base = "/nowhere".into();
        Doors { identity: Identity::generate(), local_roots, storage_base, database_tools, network }
    }

    fn server(host_key: Option<&str>) -> SshSettings {
        SshSettings {
            host: "web.example".into(),
            port: 22,
            username: "web".into(),
            paths: vec!["/srv".into()],
            use_password: true,
            excludes: Vec::new(),
            host_key: host_key.map(str::to_owned),
            hooks: Default::default(),
        }
    }

    fn ssh(host_key: Option<&str>) -> SourceSettings {
        SourceSettings::Sftp(server(host_key))
    }

    /// That a server is logged in at with, and how it must prove itself.
    fn login(options: &SshOptions) -> (&str, &HostKeyPolicy) {
        let SshCredential::Password(password) = &options.credential else { panic!("{options:?}") };
        (password.expose_secret(), &options.host_key)
    }

    fn refusal(doors: &Doors, settings: &SourceSettings, credential: Option<&Sealed>) -> Fault {
        doors.open(settings, credential).err().unwrap()
    }

    #[test]
    fn local_is_offered_only_where_it_is_allowed() {
        let files = |roots| {
            let all = doors(roots).capabilities();
            all.into_iter().filter(|kind| kind != "postgres" && kind != "mysql").collect::<Vec<_>>()
        };
        assert_eq!(files(vec![]), ["sftp", "ssh", "ftp", "wordpress", "s3"]);
        assert_eq!(files(vec!["/srv".into()]), ["sftp", "ssh", "ftp", "wordpress", "local", "s3"]);
        let local = SourceSettings::Local(LocalSettings { paths: vec!["/etc".into()], excludes: vec![] });
        assert_eq!(refusal(&doors(vec![]), &local, None).code, "path_not_allowed");
    }

    #[test]
    fn a_credential_for_another_worker_is_refused_without_a_word_of_it() {
        let doors = doors(vec![]);
        let sealed = Sealed::to(&Identity::generate().recipient(), b"hunter2").unwrap();
        let fault = refusal(&doors, &ssh(None), Some(&sealed));
        assert_eq!((fault.code, fault.disposition), ("credential_unreadable", Disposition::Transient));
        let own = Sealed::to(&doors.identity.recipient(), b"hunter2\n").unwrap();
        let options = doors.ssh(&server(None), Some(&own)).unwrap();
        assert!(matches!(login(&options), ("hunter2", HostKeyPolicy::Refuse)), "{options:?}");
    }

    #[test]
    fn databases_are_offered_where_their_tools_are() {
        let mut doors = doors(vec![]);
        let all = doors.capabilities();
        assert!(all.contains(&"postgres".to_owned()) && all.contains(&"mysql".to_owned()), "{all:?}");
        let server = PostgresSettings::new("h", "u").server();
        assert_eq!(doors.database(&server, None).unwrap_err().code, "no_credential");
        let sealed = Sealed::to(&doors.identity.recipient(), b"hunter2\n").unwrap();
        doors.database_tools.allow_outdated = true;
        let inside = doors.database(&server, Some(&sealed)).unwrap();
        assert!(inside.tools.allow_outdated && inside.ssh.is_none());
        assert_eq!(inside.password.as_ref().map(ExposeSecret::expose_secret), Some("hunter2"));
        let hop = PostgresSettings { use_ssh: true, ..PostgresSettings::new("h", "u") }.server();
        let asks = doors.database(&hop, None).unwrap();
        let SshCredential::PrivateKey { pem, .. } = &asks.ssh.as_ref().unwrap().credential else {
            panic!("{asks:?}")
        };
        assert_eq!(pem.expose_secret(), "", "the server is refused before anybody logs in");
        let unfit = doors.database(&hop, Some(&sealed)).unwrap_err();
        assert_eq!(unfit.code, "bad_credential");
        assert!(!format!("{unfit:?}").contains("hunter2"));
    }

    #[test]
    fn ftp_takes_the_password_or_none_where_none_is_asked_for() {
        let doors = doors(vec![]);
        let settings = |use_password| {
            let settings = FtpSettings::new("files.example", "web", vec!["/srv".into()]);
            SourceSettings::Ftp(FtpSettings { use_password, ..settings })
        };
        assert_eq!(refusal(&doors, &settings(true), None).code, "no_credential");
        let sealed = Sealed::to(&doors.identity.recipient(), b"hunter2\n").unwrap();
        let ftp = |use_password, sealed: Option<&Sealed>| {
            let SourceSettings::Ftp(settings) = settings(use_password) else { unreachable!() };
            let password = doors.ftp(&settings, sealed).unwrap().password;
            password.map(|password| password.expose_secret().to_owned())
        };
        assert_eq!(ftp(true, Some(&sealed)).as_deref(), Some("hunter2"));
        assert_eq!((ftp(false, Some(&sealed)), ftp(false, None)), (None, None));
        let opened = |use_password, sealed| doors.open(&settings(use_password), sealed).unwrap().kind();
        assert_eq!((opened(true, Some(&sealed)), opened(false, None)), ("ftp", "ftp"));
    }

    #[test]
    fn without_a_credential_only_the_host_key_can_be_asked_for() {
        let doors = doors(vec![]);
        let options = doors.ssh(&server(None), None).unwrap();
        assert!(matches!(login(&options), ("", HostKeyPolicy::Refuse)), "{options:?}");
        let pin = format!("SHA256:{}", "a".repeat(43));
        assert_eq!(refusal(&doors, &ssh(Some(&pin)), None).code, "no_credential");
    }
}
