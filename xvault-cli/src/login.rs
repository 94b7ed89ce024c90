//! From flags, environment and terminal to a credential and a host-key rule.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use xvault::connectors::tool::ToolOptions;
use xvault::connectors::{
    DatabaseLogin, FtpOptions, HostKeyPolicy, LocalSource, Logins, SshCredential, SshOptions,
};
use xvault::core::secret::{ExposeSecret, SecretString};
use xvault::core::source::{DatabaseServer, SshAccount, SshHop};
use xvault::core::{FtpSettings, SshSettings};

use crate::args::{LoginArgs, SourceArgs, StoreArgs};
use crate::output::Output;
use crate::{database, ftp, keys};

/// The keys that `ssh` tries by itself.
const DEFAULT_KEYS: [&str; 3] = [".ssh/id_ed25519", ".ssh/id_ecdsa", ".ssh/id_rsa"];

/// How to connect to the SSH server in front of a database. The password that was given is the database's.
pub(crate) fn hop(args: &LoginArgs, hop: &SshHop) -> anyhow::Result<SshOptions> {
    let own = LoginArgs { password_file: args.ssh_password_file.clone(), ..args.clone() };
    let given = own.password_file.as_deref().map(keys::read_secret).transpose()?;
    of_account(&own, hop.into(), given)
}

/// What the flags say of logging in.
pub(crate) struct Flags<'a> {
    pub(crate) args: &'a SourceArgs,
    /// Where the backup goes.
    pub(crate) store: Option<&'a StoreArgs>,
    pub(crate) output: &'a Output,
}

impl Logins for Flags<'_> {
    type Error = anyhow::Error;

    async fn ssh(&self, account: SshAccount) -> anyhow::Result<SshOptions> {
        of_account(&self.args.login, account, given_password(&self.args.login)?)
    }

    async fn ftp(&self, settings: &FtpSettings) -> anyhow::Result<FtpOptions> {
        ftp::options(self.args, settings, self.output).await
    }

    async fn database(&self, server: &DatabaseServer) -> anyhow::Result<DatabaseLogin> {
        database::login(server, &self.args.database, &self.args.login)
    }

    fn tools(&self) -> ToolOptions {
        self.args.database.tools()
    }

    fn local(&self, source: LocalSource) -> anyhow::Result<LocalSource> {
        Ok(match self.store {
            Some(store) if !store.is_bucket() => source.leaving_out(&store.store),
            _ => source,
        })
    }
}

/// How to connect to the server of `settings`.
pub(crate) fn options(args: &LoginArgs, settings: &SshSettings) -> anyhow::Result<SshOptions> {
    of_account(args, settings.into(), given_password(args)?)
}

fn of_account(
    args: &LoginArgs,
    account: SshAccount,
    given: Option<SecretString>,
) -> anyhow::Result<SshOptions> {
    let credential = credential(args, &account.username, &account.host, given)?;
    Ok(SshOptions { host_key: host_key_policy(args)?, ..SshOptions::new(account, credential) })
}

/// How to log in: `--ssh-key`, else a password that was given, else the agent, else the user's own
/// keys, else a password that is asked for.
fn credential(
    args: &LoginArgs,
    username: &str,
    host: &str,
    given: Option<SecretString>,
) -> anyhow::Result<SshCredential> {
    if let Some(path) = &args.ssh_key {
        return private_key(path, given);
    }
    if let Some(password) = given {
        return Ok(SshCredential::Password(password));
    }
    if let Some(socket) = std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).filter(|path| path.exists()) {
        return Ok(SshCredential::Agent { socket });
    }
    if let Some(path) = default_key() {
        return private_key(&path, None);
    }
    let account = format!("{username}@{host}");
    match ask(&format!("password of {account}: "))? {
        Some(password) => Ok(SshCredential::Password(password)),
        None => bail!(
            "no way to log in as {account}: give --ssh-key, --password-file or XVAULT_PASSWORD, or start an ssh-agent"
        ),
    }
}

pub(crate) fn given_password(args: &LoginArgs) -> anyhow::Result<Option<SecretString>> {
    if let Some(path) = &args.password_file {
        return keys::read_secret(path).map(Some);
    }
    match std::env::var("XVAULT_PASSWORD") {
        Ok(password) if !password.is_empty() => Ok(Some(password.into())),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("XVAULT_PASSWORD is not UTF-8 text"),
    }
}

fn private_key(path: &Path, passphrase: Option<SecretString>) -> anyhow::Result<SshCredential> {
    let pem = keys::read_secret(path)?;
    let passphrase = match passphrase {
        None if SshCredential::is_encrypted(&pem) => ask(&format!("passphrase of {}: ", path.display()))?,
        given => given,
    };
    Ok(SshCredential::PrivateKey { pem, passphrase })
}

fn default_key() -> Option<PathBuf> {
    let home = keys::home().ok()?;
    DEFAULT_KEYS.iter().map(|key| home.join(key)).find(|path| path.exists())
}

/// `None` when there is nobody to ask.
pub(crate) fn ask(prompt: &str) -> anyhow::Result<Option<SecretString>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let answer = rpassword::prompt_password(prompt).context("ask for the password")?;
    let answer = SecretString::from(answer);
    Ok(Some(answer).filter(|answer| !answer.expose_secret().is_empty()))
}

/// How the server proves itself.
fn host_key_policy(args: &LoginArgs) -> anyhow::Result<HostKeyPolicy> {
    if let Some(fingerprint) = &args.host_key {
        return Ok(HostKeyPolicy::Pinned(fingerprint.clone()));
    }
    let path = match &args.known_hosts {
        Some(path) => path.clone(),
        None => keys::home()?.join(".ssh/known_hosts"),
    };
    Ok(HostKeyPolicy::KnownHosts { path, accept_new: args.accept_new_host_key })
}
