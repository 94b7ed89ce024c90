//! TLS with one server, and whose certificate is believed.
//!
//! Common FTP servers take a connection for data only when it resumes the TLS session of the control connection that asked
//! for it. So each control connection has a memory of sessions of its own, which its data connections share.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring as backend};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Error;
use crate::tool::authorities;

/// Sessions kept for one control connection. A server may send two with each connection.
const SESSIONS: usize = 8;

/// How the reason begins when something else than TLS came.
pub(crate) const NO_TLS: &str = "what it says is no TLS";

/// Whom to believe.
#[derive(Debug)]
pub(crate) struct Trust<'a> {
    /// The name that a certificate must be of.
    pub(crate) host: &'a str,
    /// `host:port`, for errors.
    pub(crate) server: String,
    /// Certificates in PEM that are trusted instead of the machine's: of authorities, or of the server itself.
    pub(crate) ca: Option<&'a str>,
    /// The certificate that alone is believed.
    pub(crate) fingerprint: Option<&'a str>,
    /// Whether the name counts even for a certificate that is among `ca` itself.
    pub(crate) named: bool,
}

/// TLS with one server: for a control connection, and for the data connections that belong to it.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    belief: Arc<Belief>,
    server: String,
}

impl Tls {
    /// For one control connection.
    ///
    /// # Errors
    /// When the settings name no certificate, or no host that could be in one.
    pub(crate) fn new(trust: &Trust<'_>) -> Result<Self, Error> {
        let refused = |reason: String| Error::Tls { server: trust.server.clone(), reason };
        let name = ServerName::try_from(trust.host.to_owned());
        let name = name.map_err(|_| refused(format!("`{}` can't be in a certificate", trust.host)))?;
        let provider = Arc::new(backend::default_provider());
        let belief = Arc::new(Belief::new(trust, &provider).map_err(refused)?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(error.to_string()))?;
        let mut config = config
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&belief) as _)
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { connector, name, belief, server: trust.server.clone() })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// [`Error::UnknownCertificate`] or [`Error::ChangedCertificate`] when the server is not believed.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<TlsStream<S>, Error> {
        self.connector.connect(self.name.clone(), stream).await.map_err(|error| self.fault(error))
    }

    /// The fingerprint of the certificate that the server showed.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        self.belief.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fault(&self, error: io::Error) -> Error {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        let server = self.server.clone();
        match cause {
            Some(rustls::Error::InvalidCertificate(refusal)) => self.unbelieved(server, refusal),
            Some(cause @ rustls::Error::InvalidMessage(_)) => {
                Error::Tls { server, reason: format!("{NO_TLS} ({cause})") }
            }
            Some(cause) if is_refusal(cause) => Error::Tls { server, reason: cause.to_string() },
            _ => {
                let reason = "it was lost while TLS was agreed on".to_owned();
                Error::Connection { server, reason, source: Some(error) }
            }
        }
    }

    fn unbelieved(&self, server: String, refusal: &CertificateError) -> Error {
        let found = self.fingerprint().unwrap_or_default();
        match &self.belief.pinned {
            Some(expected) => Error::ChangedCertificate { server, expected: expected.clone(), found },
            None => Error::UnknownCertificate { server, fingerprint: found, reason: reason(refusal) },
        }
    }
}

/// Whether the two can't agree, so that trying again changes nothing.
fn is_refusal(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::PeerIncompatible(_)
            | rustls::Error::PeerMisbehaved(_)
            | rustls::Error::AlertReceived(_)
    )
}

fn reason(refusal: &CertificateError) -> String {
    match refusal {
        CertificateError::UnknownIssuer => "no authority that is trusted here has signed it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is of another name".to_owned()
        }
        // A certificate that says it were an authority is what `openssl req -x509` makes.
        CertificateError::Other(_) => "no authority that is trusted here has signed it".to_owned(),
        other => other.to_string(),
    }
}

/// SHA-256 as `openssl x509 -fingerprint -sha256` prints it.
fn fingerprint(certificate: &[u8]) -> String {
    let digest = digest(&SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Whose certificate is believed, and which one was shown.
#[derive(Debug)]
struct Belief {
    pinned: Option<String>,
    /// Certificates that were given: the server's own may be among them.
    given: Vec<CertificateDer<'static>>,
    named: bool,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<String>>,
}

impl Belief {
    fn new(trust: &Trust<'_>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let given = match trust.ca {
            Some(pem) => certificates(pem.as_bytes())?,
            None => Vec::new(),
        };
        let authorities = match (trust.fingerprint, trust.ca) {
            (Some(_), _) => None,
            (None, Some(_)) => verifier(&given, provider),
            (None, None) => verifier(&of_the_machine()?, provider),
        };
        Ok(Self {
            pinned: trust.fingerprint.map(str::to_ascii_uppercase),
            given,
            named: trust.named,
            authorities,
            provider: Arc::clone(provider),
            seen: Mutex::default(),
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        Ok(_) => Err("`tls_ca` holds no certificate".to_owned()),
        Err(error) => Err(format!("`tls_ca` can't be read: {error}")),
    }
}

/// The authorities that this machine trusts. None is no error: a pinned certificate needs none.
fn of_the_machine() -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(path) = authorities() else { return Ok(Vec::new()) };
    let pem = std::fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    Ok(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect())
}

fn verifier(
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<WebPkiServerVerifier>> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build().ok()
}

impl ServerCertVerifier for Belief {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = fingerprint(end_entity);
        let is_pinned = self.pinned.as_ref().map(|pinned| *pinned == found);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        match (is_pinned, &self.authorities) {
            (Some(true), _) => return Ok(ServerCertVerified::assertion()),
            (None, _) if self.given.iter().any(|given| given == end_entity) => {
                if self.named {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                return Ok(ServerCertVerified::assertion());
            }
            (None, Some(authorities)) => {
                return authorities.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                );
            }
            _ => {}
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
