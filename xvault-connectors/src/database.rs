//! Database servers, and the three ways to them: directly, through an SSH tunnel, or with tools that run on the SSH server.

pub(crate) mod complaint;
mod load;
pub(crate) mod mysql;
mod notary;
pub(crate) mod postgres;
mod tunnel;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use xvault_core::secret::SecretString;
use xvault_core::source::{DatabaseCredential, DatabaseServer, SshHop, SshMode, TlsMode, UnfitCredential};

use crate::ssh::{Session, SshCredential, SshOptions};
use crate::tool::{Call, Place, Running, ToolOptions, weakness};
use crate::{Error, Network};
use notary::Notary;
use tunnel::{Tunnel, Way};

pub use load::{DatabaseLoad, DumpReader, DumpWriter, Loaded, Scratch, Trial, dump_channel};

/// How long a database may take to answer a login, in seconds. A test of a source has ten.
pub(crate) const CONNECT_TIMEOUT: u32 = 8;

/// The same, where we wait ourselves.
const PATIENCE: Duration = Duration::from_secs(CONNECT_TIMEOUT as u64);

/// A name for our sessions in the server's lists.
pub(crate) const APPLICATION: &str = "xvault";

/// The most that a query of ours may answer, in bytes: some 100,000 names.
pub(crate) const MAX_ANSWER: usize = 16 << 20;

/// How whoever runs tools with known holes says that they may.
pub(crate) const ALLOW: &str = "`ToolOptions::allow_outdated`";

/// How to log in at a database server, and at the SSH server in between.
#[derive(Debug, Clone, Default)]
pub struct DatabaseLogin {
    /// The database's password.
    pub password: Option<SecretString>,
    /// The SSH server, where the settings name one.
    pub ssh: Option<SshOptions>,
    /// The tools of this machine. Versions with known holes, which distributions ship, are refused unless
    /// [`ToolOptions::allow_outdated`] is set.
    pub tools: ToolOptions,
    /// What may be connected to from this machine. What lies behind the SSH server is for that to say.
    pub network: Network,
}

impl DatabaseLogin {
    /// From saved settings: the SSH server's pinned key is demanded; without one every key is refused, and named.
    #[must_use]
    pub fn new(server: &DatabaseServer, credential: DatabaseCredential) -> Self {
        let DatabaseCredential { password, ssh: secret } = credential;
        let login = |hop: &SshHop| SshCredential::saved(hop.use_password, secret.unwrap_or_default());
        Self {
            password,
            ssh: server.ssh.as_ref().map(|hop| SshOptions::new(hop, login(hop))),
            tools: ToolOptions::default(),
            network: Network::default(),
        }
    }

    /// Connects to nothing but what `network` lets through: to the database, or to the SSH server in between.
    #[must_use]
    pub fn within(self, network: &Network) -> Self {
        let ssh = self.ssh.map(|ssh| SshOptions { network: network.clone(), ..ssh });
        Self { ssh, network: network.clone(), ..self }
    }
}

/// The way to a database server, as far as SSH goes.
pub(crate) struct Reach {
    pub(crate) server: DatabaseServer,
    pub(crate) login: DatabaseLogin,
    session: Option<Arc<Session>>,
    tunnel: Option<Tunnel>,
    /// Where tools of this machine connect to, when it is to the database itself.
    address: Option<IpAddr>,
    vouched: bool,
}

impl Reach {
    /// Where there is a notary, tools of this machine get through to nobody whose certificate it does not take.
    pub(crate) async fn connect(
        server: &DatabaseServer,
        login: &DatabaseLogin,
        notary: Option<Notary>,
    ) -> Result<Self, Error> {
        if login.password.as_ref().is_some_and(DatabaseCredential::is_unfit) {
            return Err(Error::Credential(UnfitCredential::BadPassword.to_string()));
        }
        let (vouched, ssh) = (notary.is_some(), server.ssh.as_ref());
        let (server, login) = (server.clone(), login.clone());
        let reach = Self { server, login, session: None, tunnel: None, address: None, vouched };
        match ssh {
            None => reach.directly(notary).await,
            Some(hop) => reach.through(hop, notary).await,
        }
    }

    async fn directly(mut self, notary: Option<Notary>) -> Result<Self, Error> {
        let address = address(&self.server, &self.login).await?;
        self.address = Some(address);
        if notary.is_some() {
            let address = SocketAddr::new(address, self.server.port);
            let way = Way::Direct { network: self.login.network.clone(), address };
            self.tunnel = Some(self.opened(way, notary).await?);
        }
        Ok(self)
    }

    /// A server that takes a connection and says nothing is given up as one that can't be reached.
    async fn opened(&self, way: Way, notary: Option<Notary>) -> Result<Tunnel, Error> {
        let opening = Tunnel::open(way, notary, self.login.tools.owner());
        in_time(&self.server.place(), opening).await
    }

    async fn through(mut self, hop: &SshHop, notary: Option<Notary>) -> Result<Self, Error> {
        let options = self.login.ssh.as_ref().ok_or_else(|| {
            Error::Credential("the database is reached through SSH, and there is no login for that".into())
        })?;
        let session = Arc::new(Session::connect(options).await?);
        if hop.mode == SshMode::Tunnel {
            let (session, host) = (Arc::clone(&session), self.server.host.clone());
            let way = Way::Ssh { session, host, port: self.server.port };
            self.tunnel = Some(self.opened(way, notary).await?);
        }
        self.session = Some(session);
        Ok(self)
    }

    /// Where the tools run.
    pub(crate) fn place(&self) -> Place<'_> {
        match &self.session {
            Some(session) if self.tunnel.is_none() => Place::There(session, &self.login.tools),
            _ => Place::Here(&self.login.tools),
        }
    }

    /// Whether the tools run on the SSH server.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self.place(), Place::There(..))
    }

    /// Whether the server's certificate is looked at in the tools' place.
    pub(crate) fn is_vouched_for(&self) -> bool {
        self.vouched
    }

    /// Whether tools of this machine that compare a certificate with the name they are given may look that name up again: where
    /// nothing is forbidden.
    pub(crate) fn knows_by_name(&self) -> bool {
        let direct = self.session.is_none() && !self.login.network.is_limited();
        direct && self.server.tls == TlsMode::VerifyFull
    }

    /// Whether nobody is on the way to the server but who runs SSH, or this machine.
    pub(crate) fn is_private(&self) -> bool {
        self.session.is_some() || self.endpoint().is_some_and(|(address, _)| address.is_loopback())
    }

    /// Where tools of this machine connect to. None: they run elsewhere. The name is not theirs to look up again: it may lead to
    /// somewhere else by then.
    pub(crate) fn endpoint(&self) -> Option<(IpAddr, u16)> {
        match (&self.tunnel, self.address) {
            (Some(tunnel), _) => Some((Ipv4Addr::LOCALHOST.into(), tunnel.port)),
            (None, address) => Some((address?, self.server.port)),
        }
    }

    /// The port that tools of this machine connect to.
    pub(crate) fn port(&self) -> u16 {
        self.endpoint().map_or(self.server.port, |(_, port)| port)
    }

    /// What is to be told of how the tools are held here; nothing of those on the SSH server.
    pub(crate) fn weakness(&self) -> Option<String> {
        if self.is_remote() { None } else { weakness(&self.login.tools) }
    }

    /// The fingerprint of the SSH server in between.
    pub(crate) fn host_key(&self) -> Option<String> {
        self.session.as_ref().map(|session| session.fingerprint())
    }

    /// `user@host:port`, for messages.
    pub(crate) fn account(&self) -> String {
        format!("{}@{}", self.server.username, self.server.place())
    }

    pub(crate) async fn run(&self, call: Call) -> Result<Running, Error> {
        Running::start(call, self.place()).await
    }

    /// What `tool --version` prints.
    pub(crate) async fn version_text(&self, program: &std::path::Path) -> Result<String, Error> {
        let mut call = Call::new(program);
        call.arg("--version");
        let text = self.run(call).await?.output(64 << 10).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Looks the database's server up, in no more time than a tool of its own would take.
async fn address(server: &DatabaseServer, login: &DatabaseLogin) -> Result<IpAddr, Error> {
    let found = async {
        let found = login.network.address(&server.host, server.port).await;
        found.map_err(|error| error.into_error(server.place()))
    };
    in_time(&server.place(), found).await
}

/// What comes before a login, in no more time than a tool of its own would take.
async fn in_time<T>(server: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Timeout { what: server.to_owned(), after: PATIENCE };
    timeout(PATIENCE, work).await.map_err(late)?
}

/// Fields in hexadecimal are names that may hold anything.
pub(crate) fn unhex(text: &str) -> Option<String> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    if rest.is_empty() { String::from_utf8(bytes).ok() } else { None }
}

/// Names for people: the first few, and how many more.
pub(crate) fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", name.escape_debug()))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_names_are_read_back() {
        assert_eq!(unhex("616222270AF09F9880"), Some("ab\"'\n\u{1f600}".into()));
        assert_eq!(unhex(""), Some(String::new()));
        for bad in ["6", "6g", "ff", "日本"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
        assert!(some_of(&names).ends_with("`t9` and 2 more"));
    }
}
