//! Logging in: password, private key, agent.

use std::path::Path;
use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Interactive};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Error as KeyError, HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use russh::{MethodKind, MethodSet};
use xvault_core::secret::{ExposeSecret, SecretString};

use super::session::{Client, Watch};
use super::{SshCredential, SshOptions};
use crate::{Door, Error};

/// Servers end a login after some attempts (OpenSSH after 6); more keys of an agent than this are never offered.
const MAX_AGENT_KEYS: usize = 20;

/// A server may ask again and again; a person would have given up.
const MAX_PROMPT_ROUNDS: usize = 4;

/// Logs in on `handle`, or says why not.
pub(super) async fn log_in(
    handle: &mut Handle<Client>,
    options: &SshOptions,
    watch: &Watch,
) -> Result<(), Error> {
    let mut login = Login { handle, options, watch };
    match &options.credential {
        SshCredential::Password(password) => login.with_password(password).await,
        SshCredential::PrivateKey { pem, passphrase } => login.with_key(pem, passphrase.as_ref()).await,
        SshCredential::Agent { socket } => login.with_agent(socket).await,
    }
}

struct Login<'a> {
    handle: &'a mut Handle<Client>,
    options: &'a SshOptions,
    watch: &'a Watch,
}

impl Login<'_> {
    async fn with_password(&mut self, password: &SecretString) -> Result<(), Error> {
        let user = self.options.username.clone();
        let answer = self.handle.authenticate_password(user, password.expose_secret().to_owned()).await;
        match self.answered(answer)? {
            None => Ok(()),
            Some(methods) if only_interactive(&methods) => self.with_prompts(password).await,
            Some(methods) if methods.contains(&MethodKind::Password) => {
                Err(self.refused("the password was refused", &methods))
            }
            Some(methods) => Err(self.refused("the server takes no password", &methods)),
        }
    }

    /// Answers what is asked with the password: PAM's way to ask for one.
    async fn with_prompts(&mut self, password: &SecretString) -> Result<(), Error> {
        let user = self.options.username.clone();
        let mut reply = self.handle.authenticate_keyboard_interactive_start(user, None).await;
        for _ in 0..MAX_PROMPT_ROUNDS {
            match reply.map_err(|error| self.watch.lost_by(error))? {
                Interactive::Success => return Ok(()),
                Interactive::Failure { remaining_methods, .. } => {
                    return Err(self.refused("the password was refused", &remaining_methods));
                }
                Interactive::InfoRequest { prompts, .. } if prompts.len() > 1 => {
                    return Err(self.refused("the server asks for more than a password", &MethodSet::empty()));
                }
                Interactive::InfoRequest { prompts, .. } => {
                    let answers = prompts.iter().map(|_| password.expose_secret().to_owned()).collect();
                    reply = self.handle.authenticate_keyboard_interactive_respond(answers).await;
                }
            }
        }
        Err(self.refused("the server keeps asking", &MethodSet::empty()))
    }

    async fn with_key(&mut self, pem: &SecretString, passphrase: Option<&SecretString>) -> Result<(), Error> {
        let key = open_key(pem.clone(), passphrase.cloned()).await?;
        let hash = if key.algorithm().is_rsa() { self.rsa_hash().await? } else { None };
        let user = self.options.username.clone();
        let answer =
            self.handle.authenticate_publickey(user, PrivateKeyWithHashAlg::new(Arc::new(key), hash)).await;
        match self.answered(answer)? {
            None => Ok(()),
            Some(methods) => Err(self.refused("the private key was refused", &methods)),
        }
    }

    async fn with_agent(&mut self, socket: &Path) -> Result<(), Error> {
        let trouble =
            |reason: String| Error::Credential(format!("ssh-agent at {}: {reason}", socket.display()));
        let mut agent = AgentClient::connect_uds(socket).await.map_err(|e| trouble(e.to_string()))?;
        let keys = agent.request_identities().await.map_err(|e| trouble(e.to_string()))?;
        let mut methods = MethodSet::empty();
        let mut tried = 0;
        for identity in keys.into_iter().take(MAX_AGENT_KEYS) {
            let AgentIdentity::PublicKey { key, .. } = identity else { continue };
            tried += 1;
            let hash = if key.algorithm().is_rsa() { self.rsa_hash().await? } else { None };
            let user = self.options.username.clone();
            match self.handle.authenticate_publickey_with(user, key, hash, &mut agent).await {
                Ok(AuthResult::Success) => return Ok(()),
                Ok(AuthResult::Failure { remaining_methods, .. }) => methods = remaining_methods,
                // A key the agent won't use (it asks a person, or a token is gone) is as good as none.
                Err(_) => {}
            }
            if self.handle.is_closed() {
                return Err(
                    self.refused(&format!("the server hung up after {tried} keys of the agent"), &methods)
                );
            }
        }
        match tried {
            0 => Err(trouble("it holds no keys".into())),
            _ => Err(self.refused(&format!("none of the agent's {tried} keys was accepted"), &methods)),
        }
    }

    /// SHA-2 for RSA keys: SHA-1 signatures are forged by now.
    async fn rsa_hash(&mut self) -> Result<Option<HashAlg>, Error> {
        match self.handle.best_supported_rsa_hash().await.map_err(|error| self.watch.lost_by(error))? {
            Some(Some(hash)) => Ok(Some(hash)),
            // Servers that name no algorithms have known SHA-256 since 2016.
            None => Ok(Some(HashAlg::Sha256)),
            Some(None) => {
                Err(self.refused("the server takes RSA keys only with SHA-1 signatures", &MethodSet::empty()))
            }
        }
    }

    /// `None` is success; otherwise the methods that may go on.
    fn answered(&self, answer: Result<AuthResult, russh::Error>) -> Result<Option<MethodSet>, Error> {
        match answer.map_err(|error| self.watch.lost_by(error))? {
            AuthResult::Success => Ok(None),
            // russh reports a connection that ended as a refusal without methods.
            AuthResult::Failure { remaining_methods, .. }
                if remaining_methods.is_empty() && self.handle.is_closed() =>
            {
                Err(self.watch.lost())
            }
            AuthResult::Failure { remaining_methods, partial_success: true } => {
                Err(self
                    .refused("the server wants a second proof, and there is only one", &remaining_methods))
            }
            AuthResult::Failure { remaining_methods, .. } => Ok(Some(remaining_methods)),
        }
    }

    fn refused(&self, what: &str, methods: &MethodSet) -> Error {
        let names: Vec<&str> = methods.iter().map(<&'static str>::from).collect();
        let reason = match names.as_slice() {
            [] => what.to_owned(),
            names => format!("{what}; the server offers {}", names.join(", ")),
        };
        Error::Auth { account: self.options.account(), reason, door: Door::Ssh }
    }
}

fn only_interactive(methods: &MethodSet) -> bool {
    methods.contains(&MethodKind::KeyboardInteractive) && !methods.contains(&MethodKind::Password)
}

/// Opens a private key. Key derivation is slow on purpose, so it runs off the runtime's threads.
async fn open_key(pem: SecretString, passphrase: Option<SecretString>) -> Result<PrivateKey, Error> {
    let opened = tokio::task::spawn_blocking(move || decode_key(&pem, passphrase.as_ref())).await;
    opened.unwrap_or_else(|_| Err(Error::Credential("the private key could not be opened".into())))
}

fn decode_key(pem: &SecretString, passphrase: Option<&SecretString>) -> Result<PrivateKey, Error> {
    let text = pem.expose_secret();
    let decoded = russh::keys::decode_secret_key(text, passphrase.map(ExposeSecret::expose_secret));
    decoded.map_err(|error| Error::Credential(key_trouble(&error, text, passphrase.is_some()).into()))
}

fn key_trouble(error: &KeyError, text: &str, with_passphrase: bool) -> &'static str {
    let encrypted = matches!(error, KeyError::KeyIsEncrypted) || text.contains("ENCRYPTED");
    match (with_passphrase, encrypted) {
        (true, _) => "the passphrase does not open the private key",
        (false, true) => "the private key is encrypted and no passphrase was given",
        (false, false) => "this is no private key in OpenSSH, PKCS#1 or PKCS#8 format",
    }
}
