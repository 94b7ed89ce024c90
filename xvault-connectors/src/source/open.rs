//! From saved settings to a source.

use std::path::PathBuf;

use xvault_core::secret::SecretString;
use xvault_core::source::{DatabaseCredential, DatabaseServer, InvalidSettings, SshAccount, UnfitCredential};
use xvault_core::{FtpSettings, SourceSettings};

use super::{
    FtpSource, Hooked, LocalSource, MysqlSource, PostgresSource, SftpSource, Source, SshSource,
    WordpressSource,
};
use crate::database::DatabaseLogin;
use crate::ftp::FtpOptions;
use crate::ssh::{SshCredential, SshOptions};
use crate::tool::ToolOptions;
use crate::{Error, Network};

/// The source that `settings` describe, ready to connect, with their commands around it; `logins` says how to log in.
///
/// # Errors
/// When the settings can't work, or `logins` knows no way.
pub async fn open<L: Logins>(settings: &SourceSettings, logins: &L) -> Result<Box<dyn Source>, L::Error> {
    settings.validate().map_err(Error::from)?;
    let (source, ssh): (Box<dyn Source>, _) = match settings {
        SourceSettings::Local(local) => (Box::new(logins.local(LocalSource::new(local)?)?), None),
        SourceSettings::Sftp(account) => {
            let options = logins.ssh(account.into()).await?;
            (Box::new(SftpSource::new(account, options.clone())?), Some(options))
        }
        SourceSettings::Ssh(account) => {
            let options = logins.ssh(account.into()).await?;
            (Box::new(SshSource::new(account, options.clone())?), Some(options))
        }
        SourceSettings::Ftp(account) => {
            (Box::new(FtpSource::new(account, logins.ftp(account).await?)?), None)
        }
        SourceSettings::Postgres(database) => {
            let login = logins.database(&database.server()).await?;
            let ssh = login.ssh.clone();
            (Box::new(PostgresSource::new(database, login)?), ssh)
        }
        SourceSettings::Mysql(database) => {
            let login = logins.database(&database.server()).await?;
            let ssh = login.ssh.clone();
            (Box::new(MysqlSource::new(database, login)?), ssh)
        }
        SourceSettings::Wordpress(site) => {
            let options = logins.ssh((&site.files()).into()).await?;
            (Box::new(WordpressSource::new(site, options.clone(), logins.tools())?), Some(options))
        }
        other => return Err(unknown(other).into()),
    };
    Ok(match settings.hooks() {
        Some(hooks) => Hooked::around(source, hooks, ssh.as_ref()),
        None => source,
    })
}

fn unknown(settings: &SourceSettings) -> Error {
    let reason = format!("nothing here reads sources of type {}", settings.kind());
    Error::Settings(InvalidSettings { field: "type", reason })
}

/// Who knows how to log in: what [`open`] asks, as the type of the source needs it. [`Saved`] is one.
pub trait Logins: Sync {
    /// Why there is no way.
    type Error: From<Error>;

    /// At an SSH server.
    ///
    /// # Errors
    /// When there is no way.
    fn ssh(&self, account: SshAccount) -> impl Future<Output = Result<SshOptions, Self::Error>> + Send;

    /// At an FTP server.
    ///
    /// # Errors
    /// When there is no way.
    fn ftp(&self, settings: &FtpSettings) -> impl Future<Output = Result<FtpOptions, Self::Error>> + Send;

    /// At a database, and at the SSH server in between.
    ///
    /// # Errors
    /// When there is no way.
    fn database(
        &self,
        server: &DatabaseServer,
    ) -> impl Future<Output = Result<DatabaseLogin, Self::Error>> + Send;

    /// What the databases of sites are dumped with.
    fn tools(&self) -> ToolOptions;

    /// What of this machine may be read: the source, narrowed where it must be. Settings name any path, so whoever opens those of
    /// others narrows it: [`LocalSource::only_below`].
    ///
    /// # Errors
    /// When nothing may be.
    fn local(&self, source: LocalSource) -> Result<LocalSource, Self::Error>;
}

/// The one credential that is saved beside a source's settings, as the service keeps it: a password or private key; of a database behind an
/// SSH server both, as a JSON object ([`DatabaseCredential::parse`]). Pinned host keys and certificates alone are believed, and of this
/// machine nothing is read but what [`Saved::local_roots`] allow.
#[derive(Debug, Clone, Default)]
pub struct Saved {
    /// The secret; `None` where the settings say that none is needed.
    pub credential: Option<SecretString>,
    /// What databases are dumped with.
    pub tools: ToolOptions,
    /// What may be connected to.
    pub network: Network,
    /// Directories of this machine, by their real paths, that sources of type `local` may read below; at first none.
    pub local_roots: Vec<PathBuf>,
}

impl Saved {
    /// With the tools of this machine, and connecting to everything.
    #[must_use]
    pub fn new(credential: Option<SecretString>) -> Self {
        Self { credential, ..Self::default() }
    }

    /// At an SSH server. Without a credential it can be asked for its key, where none is pinned.
    ///
    /// # Errors
    /// [`Error::NoCredential`].
    pub fn ssh(&self, account: impl Into<SshAccount>) -> Result<SshOptions, Error> {
        let account = account.into();
        let credential = match (&self.credential, &account.host_key) {
            (Some(secret), _) => SshCredential::saved(account.use_password, secret.clone()),
            // The server will be refused before anybody logs in, and its fingerprint told.
            (None, None) => SshCredential::Password(SecretString::default()),
            (None, Some(_)) => return Err(Error::NoCredential("a password or a private key")),
        };
        Ok(SshOptions { network: self.network.clone(), ..SshOptions::new(account, credential) })
    }

    /// At an FTP server.
    ///
    /// # Errors
    /// [`Error::NoCredential`] when its settings say that there is a password.
    pub fn ftp(&self, settings: &FtpSettings) -> Result<FtpOptions, Error> {
        let password = match (&self.credential, settings.use_password) {
            (Some(secret), true) => Some(secret.clone()),
            (None, true) => return Err(Error::NoCredential("the account's password")),
            (_, false) => None,
        };
        Ok(FtpOptions { network: self.network.clone(), ..FtpOptions::new(settings, password) })
    }

    /// At a database, and at the SSH server in between.
    ///
    /// # Errors
    /// [`Error::NoCredential`], or [`Error::Credential`] when it is not what the settings need.
    pub fn database(&self, server: &DatabaseServer) -> Result<DatabaseLogin, Error> {
        let bad = |error: UnfitCredential| Error::Credential(error.to_string());
        let only_asks = server.ssh.as_ref().is_some_and(|ssh| ssh.host_key.is_none());
        let needs_none = server.ssh.is_none() && !server.use_password;
        let credential = match &self.credential {
            Some(secret) => DatabaseCredential::parse(server, secret.clone()).map_err(bad)?,
            None if only_asks || needs_none => DatabaseCredential::default(),
            None => {
                return Err(Error::NoCredential("the database's password, or the SSH account's key,"));
            }
        };
        let login = DatabaseLogin::new(server, credential).within(&self.network);
        Ok(DatabaseLogin { tools: self.tools.clone(), ..login })
    }
}

impl Logins for Saved {
    type Error = Error;

    async fn ssh(&self, account: SshAccount) -> Result<SshOptions, Error> {
        Self::ssh(self, account)
    }

    async fn ftp(&self, settings: &FtpSettings) -> Result<FtpOptions, Error> {
        Self::ftp(self, settings)
    }

    async fn database(&self, server: &DatabaseServer) -> Result<DatabaseLogin, Error> {
        Self::database(self, server)
    }

    fn tools(&self) -> ToolOptions {
        self.tools.clone()
    }

    fn local(&self, source: LocalSource) -> Result<LocalSource, Error> {
        Ok(source.only_below(self.local_roots.clone()))
    }
}
