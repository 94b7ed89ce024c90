//! A port of the loopback interface that leads to a database: through SSH, or past a look at its certificate.
//!
//! Everybody on this machine can reach such a port; so each connection is asked whose it is, and only those of the user that
//! our tools run as go through. Another process of that same user could still use the tunnel; it would have to log in.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::in_time;
use super::notary::Notary;
use crate::ssh::Session;
use crate::{Error, Network};

/// Linux's list of connections.
const CONNECTIONS: &str = "/proc/net/tcp";

/// The list is read in pieces while others come and go, so that one of it can be missed: it is read this often.
const LOOKS: u32 = 5;

/// How long a port that could not take a connection rests.
const AFTER_TROUBLE: Duration = Duration::from_millis(50);

/// What leads to a database.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How a database is reached.
#[derive(Clone)]
pub(super) enum Way {
    /// By an SSH server, which looks `host` up itself.
    Ssh { session: Arc<Session>, host: String, port: u16 },
    /// Directly, at an address that was checked.
    Direct { network: Network, address: SocketAddr },
}

impl Way {
    async fn open(&self) -> Result<Box<dyn Stream>, Error> {
        match self {
            Self::Ssh { session, host, port } => {
                Ok(Box::new(session.forward(host, *port).await?.into_stream()))
            }
            Self::Direct { network, address } => {
                let connected = network.connect_to(*address).await;
                let stream = connected.map_err(|error| error.into_error(address.to_string()))?;
                // What can't be set is no reason to do without a backup.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
        }
    }
}

/// Listens until it is dropped.
pub(super) struct Tunnel {
    pub(super) port: u16,
    _tasks: JoinSet<()>,
}

impl Tunnel {
    /// Opens the first way through at once, so that a server that forbids it says so, and one that is not who it should be is told.
    pub(super) async fn open(way: Way, notary: Option<Notary>, owner: u32) -> Result<Self, Error> {
        let mut first = Some(way.open().await?);
        if let Some(notary) = &notary
            && let Some(first) = first.take()
        {
            notary.try_out(first).await?;
        }
        let failed = || Error::io("open a port on the loopback interface");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed())?;
        let port = listener.local_addr().map_err(failed())?.port();
        let far = Far { way, notary: notary.map(Arc::new) };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, far, first, owner));
        Ok(Self { port, _tasks: tasks })
    }
}

#[derive(Clone)]
struct Far {
    way: Way,
    notary: Option<Arc<Notary>>,
}

impl Far {
    /// The client of one that comes too late sees its connection end.
    async fn again(&self) -> Result<Box<dyn Stream>, Error> {
        in_time("a connection through the tunnel", self.way.open()).await
    }
}

async fn serve(listener: TcpListener, far: Far, mut first: Option<Box<dyn Stream>>, owner: u32) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, peer)) = listener.accept().await else {
            // One that broke off before it was taken, or no file left for it: the next may fare better.
            tokio::time::sleep(AFTER_TROUBLE).await;
            continue;
        };
        // Finished ones are forgotten.
        while connections.try_join_next().is_some() {}
        if socket.local_addr().ok().and_then(|own| owner_of(peer, own)) != Some(owner) {
            continue;
        }
        let (stream, far) = (first.take(), far.clone());
        connections.spawn(async move {
            let stream = match stream {
                Some(stream) => Ok(stream),
                None => far.again().await,
            };
            if let Ok(stream) = stream {
                pass(socket, stream, far.notary).await;
            }
        });
    }
}

/// Either end tells its user when the other broke: the connection is simply gone.
async fn pass(mut socket: TcpStream, mut stream: Box<dyn Stream>, notary: Option<Arc<Notary>>) {
    let _ = socket.set_nodelay(true);
    let _ = match notary {
        Some(notary) => notary.pass(socket, stream).await.map_err(drop),
        None => {
            let passed = copy_bidirectional_with_sizes(&mut socket, &mut stream, 32 << 10, 256 << 10).await;
            passed.map(drop).map_err(drop)
        }
    };
}

/// The user whose process made the connection from `peer` to `own`.
fn owner_of(peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    (0..LOOKS).find_map(|_| owner_in(&std::fs::read_to_string(CONNECTIONS).ok()?, peer, own))
}

/// Both ends count: one port may have connections to several others, ended ones (which are root's) among them.
fn owner_in(table: &str, peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    let ends = [in_table(peer)?, in_table(own)?];
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1..3).is_some_and(|row| row == ends))?;
    row.get(7)?.parse().ok()
}

fn in_table(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use xvault_core::source::SshAccount;
    use xvault_testkit::Sshd;

    use super::*;
    use crate::{SshCredential, SshOptions};

    /// A port that greets everybody.
    fn greeter() -> u16 {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            // There may be no file for one at times.
            listener.incoming().flatten().for_each(|mut one| drop(one.write_all(b"hello")));
        });
        port
    }

    /// What we hear at the end of the tunnel that is there for `owner`.
    async fn heard(session: &Arc<Session>, far: u16, owner: u32) -> String {
        let way = Way::Ssh { session: Arc::clone(session), host: "127.0.0.1".to_owned(), port: far };
        let tunnel = Tunnel::open(way, None, owner).await.unwrap();
        let port = tunnel.port;
        let read = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            let mut socket = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            // A connection that is not let in may end with a reset.
            let _ = socket.read_to_end(&mut text);
            String::from_utf8(text).unwrap()
        });
        read.await.unwrap()
    }

    #[tokio::test]
    async fn only_the_user_of_our_tools_gets_through() {
        let (sshd, far) = (Sshd::builder().start(), greeter());
        let account = SshAccount {
            host: "127.0.0.1".to_owned(),
            port: sshd.port,
            username: sshd.user.clone(),
            use_password: true,
            host_key: Some(sshd.host_key.fingerprint.clone()),
        };
        let options = SshOptions::new(account, SshCredential::saved(true, sshd.password.clone().into()));
        let session = Arc::new(Session::connect(&options).await.unwrap());
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(heard(&session, far, own).await, "hello");
        assert_eq!(heard(&session, far, own + 1).await, "", "somebody else's connection went through");
    }

    /// Run by itself: it takes all files from its process.
    #[tokio::test]
    #[ignore = "takes all files from its process; the next one runs it"]
    async fn a_tunnel_without_a_file_for_a_connection() {
        use rustix::process::{Resource, getrlimit, setrlimit};

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, greeter()));
        let way = Way::Direct { network: Network::default(), address };
        let tunnel = Tunnel::open(way, None, rustix::process::geteuid().as_raw()).await.unwrap();
        let before = getrlimit(Resource::Nofile);
        let mut socket = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port)).unwrap();
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(1), ..before }).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        setrlimit(Resource::Nofile, before).unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(read.await.unwrap().unwrap(), "hello");
    }

    #[test]
    fn a_tunnel_goes_on_after_a_connection_that_there_was_no_file_for() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args([
            "--ignored",
            "--exact",
            "database::tunnel::tests::a_tunnel_without_a_file_for_a_connection",
        ]);
        let output = alone.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[tokio::test]
    async fn a_connection_says_whose_it_is() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let _socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let own = accepted.local_addr().unwrap();
        assert_eq!(owner_of(peer, own), Some(rustix::process::geteuid().as_raw()));
        let gone = SocketAddr::from((Ipv4Addr::new(127, 9, 9, 9), 1));
        assert_eq!(owner_of(gone, own), None);
    }

    #[test]
    fn another_connection_of_the_same_port_says_nothing() {
        // The first is one that ended, to another port.
        let table =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   1: 0100007F:9C40 0100007F:1F91 06 00000000:00000000 03:00000AF7 00000000     0        0 0 3 0
   2: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 7 1 0";
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let owners = [8080, 8081, 8082].map(|own| owner_in(table, at(40_000), at(own)));
        assert_eq!(owners, [Some(1001), Some(0), None]);
    }
}
