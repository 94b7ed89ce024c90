//! A private certificate authority, and a door that speaks TLS before a server that does not.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use xvault_testkit::tools;

use crate::wait::block_on;

/// What `openssl req` makes a certificate with: a new key without a password, good for two days.
const NEW: [&str; 9] =
    ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];

/// An authority that no system knows.
#[derive(Debug)]
pub(crate) struct Authority {
    dir: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().unwrap() };
        authority.make("ca", &["-subj", "/CN=an authority of the tests"]);
        authority
    }

    /// Its certificate, in PEM form.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn make(&self, name: &str, more: &[&str]) {
        let mut command = tools::command("openssl", NEW);
        command.args(more).arg("-out").arg(self.path(&format!("{name}.pem")));
        let made = command.arg("-keyout").arg(self.path(&format!("{name}.key"))).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// How a server at 127.0.0.1 proves who it is.
    fn server(&self) -> ServerConfig {
        let (ca, key) = (self.file(), self.path("ca.key"));
        let of_authority = ["-CA", ca.to_str().unwrap(), "-CAkey", key.to_str().unwrap()];
        let leaf =
            ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
        self.make("server", &[&["-subj", "/CN=hub"], &of_authority[..], &leaf].concat());
        let chain = CertificateDer::pem_file_iter(self.path("server.pem")).unwrap();
        let chain = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap()
    }
}

/// Takes TLS at a port of its own and passes on what it hears. Closed on drop.
#[derive(Debug)]
pub(crate) struct TlsDoor {
    pub(crate) port: u16,
    serving: JoinHandle<()>,
}

impl TlsDoor {
    /// Before `target` on 127.0.0.1, with a certificate of `authority`.
    pub(crate) fn start(authority: &Authority, target: u16) -> Self {
        block_on(async {
            let acceptor = TlsAcceptor::from(Arc::new(authority.server()));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            Self { port, serving: tokio::spawn(serve(listener, acceptor, target)) }
        })
    }
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, target: u16) {
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Whoever does not trust the certificate hangs up, and whoever breaks off is no concern of the door's.
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
            drop(copy_bidirectional(&mut client, &mut server).await);
        });
    }
}
