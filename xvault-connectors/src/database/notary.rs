//! Looks at the certificate of a MySQL server in the client's place.
//!
//! MySQL's clients compare the name in a certificate with the host that they connect to. Where that is an address (the one that was
//! checked, or our end of a tunnel), they can't; and they must not be given the name, which they would look up again. So the
//! client connects to a port of ours, over TLS that proves nothing and need not: the connection does not leave this machine, and
//! is only taken from our tools' user. What leaves it goes over TLS with a server whose certificate is of its name.

mod certificate;

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring as backend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, client, server};
use xvault_core::source::DatabaseServer;

use super::in_time;
use super::tunnel::Stream;
use crate::Error;
use crate::tls::{Tls, Trust};

/// The longest packet before a login; common ones have a hundred bytes.
const MAX_PACKET: usize = 64 << 10;

/// How a packet begins: its length in three bytes, and its number.
const HEADER: usize = 4;

/// What client and server can, in the protocol's bits.
const SPEAKS_4_1: u32 = 0x0200;
const SPEAKS_TLS: u32 = 0x0800;
const SPEAKS_PLUGINS: u32 = 0x8000;

/// The bytes of a request for TLS, without its header.
const REQUEST: usize = 32;

/// A client and a server that were brought together.
type Ends = (server::TlsStream<TcpStream>, client::TlsStream<Box<dyn Stream>>);

/// Checks one server's certificate.
pub(crate) struct Notary {
    /// What the server must show.
    tls: Tls,
    /// What our own client is shown.
    own: TlsAcceptor,
    server: String,
}

impl Notary {
    /// For a server whose certificate must be of its name, and of an authority that is trusted.
    ///
    /// # Errors
    /// When the certificates to trust can't be read, or the host is no name that could be in one.
    pub(super) fn new(server: &DatabaseServer) -> Result<Self, Error> {
        let trust = Trust {
            host: &server.host,
            server: server.place(),
            ca: server.tls_ca.as_deref(),
            fingerprint: None,
            named: true,
        };
        let own = own_side().map_err(|reason| Error::Tls { server: server.place(), reason })?;
        Ok(Self { tls: Tls::new(&trust)?, own, server: server.place() })
    }

    /// Greets the server once, to say what is wrong with its certificate: a client could only say that its connection was lost.
    ///
    /// # Errors
    /// When the server offers no encryption, or is not believed.
    pub(super) async fn try_out(&self, mut far: Box<dyn Stream>) -> Result<(), Error> {
        let greeting = self.read(&mut far).await?;
        if is_refusal(&greeting) {
            // The client will be told the same, and knows what it means.
            return Ok(());
        }
        if !offers_tls(&greeting) {
            return Err(self.refused("the server offers no encryption"));
        }
        far.write_all(&request()).await.map_err(|error| self.lost(error))?;
        match self.tls.connect(far).await {
            Ok(_) => Ok(()),
            Err(Error::UnknownCertificate { reason, .. }) => Err(self.refused(&reason)),
            Err(error) => Err(error),
        }
    }

    /// Joins a client to a server.
    ///
    /// # Errors
    /// When either breaks off, does not ask for TLS, or takes too long to. The client's password has not been sent then.
    pub(super) async fn pass(&self, near: TcpStream, far: Box<dyn Stream>) -> Result<(), Error> {
        let Some((mut near, mut far)) = in_time(&self.server, self.meet(near, far)).await? else {
            return Ok(());
        };
        let passed = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, 32 << 10, 256 << 10).await;
        passed.map(drop).map_err(|error| self.lost(error))
    }

    /// Both ends behind TLS, before the login. None: the server takes no login, and the client was told why.
    async fn meet(&self, mut near: TcpStream, mut far: Box<dyn Stream>) -> Result<Option<Ends>, Error> {
        let lost = |error| self.lost(error);
        let greeting = self.read(&mut far).await?;
        if !is_refusal(&greeting) && !offers_tls(&greeting) {
            return Err(self.refused("the server offers no encryption"));
        }
        near.write_all(&greeting).await.map_err(lost)?;
        if is_refusal(&greeting) {
            return near.shutdown().await.map(|()| None).map_err(lost);
        }
        let request = self.read(&mut near).await?;
        if !asks_for_tls(&request) {
            return Err(self.refused("the client asks for no encryption"));
        }
        far.write_all(&request).await.map_err(lost)?;
        let far = self.tls.connect(far).await?;
        let near = self.own.accept(near).await.map_err(lost)?;
        Ok(Some((near, far)))
    }

    async fn read(&self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Error> {
        packet(stream).await.map_err(|error| self.lost(error))
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Tls { server: self.server.clone(), reason: reason.to_owned() }
    }

    fn lost(&self, source: io::Error) -> Error {
        let reason = "it was lost before the login".to_owned();
        Error::Connection { server: self.server.clone(), reason, source: Some(source) }
    }
}

fn own_side() -> Result<TlsAcceptor, String> {
    let (certificate, key) = certificate::make()?;
    let config = ServerConfig::builder_with_provider(Arc::new(backend::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key);
    Ok(TlsAcceptor::from(Arc::new(config.map_err(|error| error.to_string())?)))
}

/// A packet with its header.
async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; HEADER];
    stream.read_exact(&mut packet).await?;
    let [low, middle, high, _] = *packet.as_slice() else { return Err(io::ErrorKind::InvalidData.into()) };
    let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
    if length > MAX_PACKET {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no MySQL server"));
    }
    packet.resize(HEADER + length, 0);
    stream.read_exact(packet.get_mut(HEADER..).unwrap_or_default()).await?;
    Ok(packet)
}

/// Whether a server says why it takes no login, in place of its greeting.
fn is_refusal(packet: &[u8]) -> bool {
    packet.get(HEADER) == Some(&0xff)
}

/// Whether a server's greeting says that it speaks TLS: behind its version, a number, and eight bytes of a challenge.
fn offers_tls(packet: &[u8]) -> bool {
    const BETWEEN: usize = 4 + 8 + 1;
    let told = packet.get(HEADER + 1..).and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == 0)?;
        rest.get(end + 1 + BETWEEN..)?.first_chunk::<2>()
    });
    told.is_some_and(|bits| u32::from(u16::from_le_bytes(*bits)) & SPEAKS_TLS != 0)
}

fn asks_for_tls(packet: &[u8]) -> bool {
    let bits = packet.get(HEADER..).and_then(|body| body.first_chunk::<4>());
    packet.len() == HEADER + REQUEST && bits.is_some_and(|bits| u32::from_le_bytes(*bits) & SPEAKS_TLS != 0)
}

/// A request for TLS: what we can, how long packets may be, the character set, and nothing.
fn request() -> [u8; HEADER + REQUEST] {
    const UTF8MB4: u8 = 45;
    let mut packet = [0; HEADER + REQUEST];
    let told = (SPEAKS_4_1 | SPEAKS_TLS | SPEAKS_PLUGINS).to_le_bytes();
    let longest = (1_u32 << 24).to_le_bytes();
    let head = [32, 0, 0, 1].into_iter().chain(told).chain(longest).chain([UTF8MB4]);
    packet.iter_mut().zip(head).for_each(|(byte, value)| *byte = value);
    packet
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;
    use xvault_core::source::MysqlSettings;

    use super::*;
    use crate::database::CONNECT_TIMEOUT;

    /// The greeting of a server of this version that can so much.
    fn greeting(version: &str, told: u32) -> Vec<u8> {
        let low = u16::try_from(told & 0xffff).unwrap().to_le_bytes();
        let body =
            [&[10][..], version.as_bytes(), &[0], &[7; 12], &[0], &low, &[45, 2, 0], &[0; 13]].concat();
        [&[u8::try_from(body.len()).unwrap(), 0, 0, 0][..], &body].concat()
    }

    #[test]
    fn a_greeting_tells_whether_there_is_tls() {
        assert!(offers_tls(&greeting("10.11.19-MariaDB", SPEAKS_TLS | SPEAKS_4_1)));
        assert!(!offers_tls(&greeting("8.4.0", !SPEAKS_TLS)));
        let whole = greeting("8.4.0", SPEAKS_TLS);
        for end in 0..whole.len() {
            let _ = offers_tls(&whole[..end]);
        }
        assert!(!offers_tls(&[0; 3]) && !offers_tls(&[9; 40]));
    }

    #[test]
    fn a_request_for_tls_is_told_from_a_login() {
        assert!(asks_for_tls(&request()));
        let mut plain = request();
        plain[5] &= 0xf7;
        assert!(!asks_for_tls(&plain));
        assert!(!asks_for_tls(&[&request()[..], b"root\0"].concat()) && !asks_for_tls(&[]));
    }

    /// A client on this machine, what a server heard, and what the notary said of joining them.
    async fn joined(greeting: &[u8], request: &[u8]) -> (Vec<u8>, Vec<u8>, Result<(), Error>) {
        let (settings, listener) =
            (MysqlSettings::new("db.example", "u"), TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let (mut server, far) = tokio::io::duplex(1 << 10);
        server.write_all(greeting).await.unwrap();
        client.write_all(request).await.unwrap();
        let passed = Notary::new(&settings.server()).unwrap().pass(near, Box::new(far)).await;
        let (mut shown, mut heard) = (Vec::new(), Vec::new());
        let _ = client.read_to_end(&mut shown).await;
        server.read_to_end(&mut heard).await.unwrap();
        (shown, heard, passed)
    }

    #[tokio::test]
    async fn who_does_without_tls_is_joined_to_nobody() {
        let login = [&[20, 0, 0, 1][..], &SPEAKS_4_1.to_le_bytes(), b"root\0a hashed passw"].concat();
        let plain = greeting("8.4.0", SPEAKS_4_1);
        let (shown, heard, passed) = joined(&plain, &login).await;
        assert!(passed.unwrap_err().to_string().contains("the server offers no encryption"));
        assert_eq!((shown.len(), heard.len()), (0, 0), "the client would log in");
        let tls = greeting("8.4.0", SPEAKS_4_1 | SPEAKS_TLS);
        let (shown, heard, passed) = joined(&tls, &login).await;
        assert!(passed.unwrap_err().to_string().contains("the client asks for no encryption"));
        assert_eq!((shown, heard.len()), (tls, 0), "the login goes nowhere");
    }

    #[tokio::test]
    async fn a_packet_is_read_whole_and_no_longer_than_it_may_be() {
        let whole = request();
        assert_eq!(packet(&mut &whole[..]).await.unwrap(), whole);
        assert!(packet(&mut &whole[..20]).await.is_err());
        let error = packet(&mut &b"HTTP/1.1 400 Bad Request\r\n"[..]).await.unwrap_err();
        assert!(error.to_string().contains("no MySQL server"), "{error}");
    }

    #[tokio::test]
    async fn neither_end_is_waited_for_for_long_before_the_login() {
        let notary = Notary::new(&MysqlSettings::new("db.example", "u").server()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let (_server, far) = tokio::io::duplex(1 << 10);
        let passed =
            timeout(2 * Duration::from_secs(CONNECT_TIMEOUT.into()), notary.pass(near, Box::new(far))).await;
        let error = passed.expect("it waits for good").unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    }
}
