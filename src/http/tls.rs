//! What is accepted as a server certificate, and the rustls configuration for it.
//!
//! Owns [`TlsSettings`], the few things of Python's `ssl.SSLContext` that matter to a client, the verifier
//! that behaves like OpenSSL where webpki is stricter, and the words OpenSSL has for refusals. The handshake
//! itself is `connect`'s. Configurations are shared between sessions: reading the system's certificates takes
//! longer than a request. Sessions are never resumed, as asyncio does not, so each connection costs the server
//! a full handshake.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};

use super::certificate;

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Verify {
    /// The system's certificate authorities; `SSL_CERT_FILE` and `SSL_CERT_DIR` are respected.
    #[default]
    System,
    /// Anybody.
    None,
    /// These authorities only, in PEM; one may serve itself. Without any, nobody.
    CaPem(Vec<u8>),
    /// The system's authorities and these.
    SystemAndPem(Vec<u8>),
}

/// The protocol versions to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Versions {
    /// TLS 1.2, the oldest there is here, and TLS 1.3.
    #[default]
    Both,
    /// TLS 1.2 only.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// What to show a server that asks who we are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The certificate and those between it and the authority, in PEM.
    pub certificates_pem: Vec<u8>,
    /// Its private key in PEM, not encrypted.
    pub key_pem: Vec<u8>,
}

/// How to speak TLS with a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// Whom to trust.
    pub verify: Verify,
    /// Certificates of servers, in PEM, that are accepted as they are but vouch for no others.
    pub leaf_pem: Vec<u8>,
    /// Whether those need not be self-signed (OpenSSL's `X509_V_FLAG_PARTIAL_CHAIN`).
    pub partial_chain: bool,
    /// Whether the certificate has to name the host. Means nothing when nobody is verified.
    pub check_hostname: bool,
    /// The protocol versions to speak.
    pub versions: Versions,
    /// The application protocols to offer; `None`: those that the session speaks.
    pub protocols: Option<Vec<Vec<u8>>>,
    /// What to show a server that asks who we are.
    pub identity: Option<Identity>,
    /// The SHA-256 digest that the server's certificate must have.
    pub fingerprint: Option<Vec<u8>>,
    /// The name to ask for and to check instead of the URL's host.
    pub server_hostname: Option<String>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            verify: Verify::System,
            leaf_pem: Vec::new(),
            partial_chain: false,
            check_hostname: true,
            versions: Versions::Both,
            protocols: None,
            identity: None,
            fingerprint: None,
            server_hostname: None,
        }
    }
}

/// What a configuration depends on: the settings without the parts of single connections, and the protocols.
type ConfigKey = (TlsSettings, Vec<Vec<u8>>);

static CONFIGS: OnceLock<Mutex<HashMap<ConfigKey, Arc<ClientConfig>>>> = OnceLock::new();

impl TlsSettings {
    /// Settings that accept any certificate, as `ssl=False` does.
    pub fn unverified() -> Self {
        Self {
            verify: Verify::None,
            check_hostname: false,
            ..Self::default()
        }
    }

    /// The rustls configuration, made once per process for equal settings.
    ///
    /// # Errors
    /// What is wrong with the certificates to trust or the identity to show.
    pub fn client_config(&self, http2: bool) -> Result<Arc<ClientConfig>, String> {
        let protocols = match &self.protocols {
            Some(protocols) => protocols.clone(),
            None if http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            None => vec![b"http/1.1".to_vec()],
        };
        let shared = Self {
            fingerprint: None,
            server_hostname: None,
            ..self.clone()
        };
        let key = (shared, protocols);
        // A poisoned lock still guards a usable map: entries are complete when they are inserted.
        let mut configs = CONFIGS
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.build(key.1.clone())?);
        configs.insert(key, Arc::clone(&config));
        Ok(config)
    }

    fn build(&self, protocols: Vec<Vec<u8>>) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = match self.versions {
            Versions::Both => &[&rustls::version::TLS13, &rustls::version::TLS12],
            Versions::Tls12 => &[&rustls::version::TLS12],
            Versions::Tls13 => &[&rustls::version::TLS13],
        };
        let verifier: Arc<dyn ServerCertVerifier> = match &self.verify {
            Verify::None => Arc::new(Anybody {
                provider: Arc::clone(&provider),
            }),
            Verify::System => self.trusting(Vec::new(), true, &provider)?,
            Verify::CaPem(pem) => self.trusting(certificates(pem)?, false, &provider)?,
            Verify::SystemAndPem(pem) => self.trusting(certificates(pem)?, true, &provider)?,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(certificates(&identity.certificates_pem)?, identity.key()?)
                .map_err(|error| format!("client certificate: {error}"))?,
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = protocols;
        Ok(config)
    }

    fn trusting(
        &self,
        mut authorities: Vec<CertificateDer<'static>>,
        system: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, String> {
        if system {
            authorities.extend(rustls_native_certs::load_native_certs().certs);
        }
        let mut leaves = certificates(&self.leaf_pem)?;
        leaves.retain(|leaf| self.partial_chain || certificate::is_self_signed(leaf));
        Ok(Arc::new(Trusted {
            by_authorities: webpki(&authorities, provider)?,
            by_themselves: webpki(&leaves, provider)?,
            authorities,
            leaves,
            check_hostname: self.check_hostname,
            provider: Arc::clone(provider),
        }))
    }

    /// The digest of `certificate` when it is not the pinned one.
    pub(super) fn wrong_fingerprint(&self, certificate: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let expected = self.fingerprint.as_ref()?;
        let got = Sha256::digest(certificate).to_vec();
        (*expected != got).then(|| (expected.clone(), got))
    }
}

impl Identity {
    /// Whether rustls can use it: `Err` tells why not.
    ///
    /// # Errors
    /// What is wrong with the certificate or the key.
    pub fn check(&self) -> Result<(), String> {
        let settings = TlsSettings {
            identity: Some(self.clone()),
            ..TlsSettings::unverified()
        };
        settings.client_config(false).map(|_| ())
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(&self.key_pem)
            .map_err(|error| format!("client certificate: its key: {error}"))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("certificates to trust: {error}"))
}

/// Whether a certificate without alternative names is for this host by its common name.
fn is_named(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    matches!(name, ServerName::DnsName(host) if certificate::is_commonly_named(certificate, host.as_ref()))
}

/// webpki with these certificates as its roots; `None` without any.
fn webpki(
    certificates: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    if roots.is_empty() {
        return Ok(None);
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map(Some)
        .map_err(|error| format!("certificates to trust: {error}"))
}

/// The refusal of a certificate that no trusted authority vouches for, as OpenSSL tells them apart.
fn unknown(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> rustls::Error {
    if intermediates.is_empty() && certificate::is_self_signed(certificate) {
        let cause = rustls::OtherError(Arc::new(SelfSigned));
        return CertificateError::Other(cause).into();
    }
    CertificateError::UnknownIssuer.into()
}

/// Accepts every certificate without a look, even one that cannot be parsed.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A certificate that nobody but itself vouches for.
#[derive(Debug, thiserror::Error)]
#[error("self-signed certificate")]
struct SelfSigned;

/// webpki's verdict, but for three things OpenSSL allows: a server certificate that is itself among the trusted
/// ones (self-signed test servers), common names, and names that do not matter.
#[derive(Debug)]
struct Trusted {
    by_authorities: Option<Arc<WebPkiServerVerifier>>,
    /// For `leaves` only: a certificate that vouches for itself must not vouch for others.
    by_themselves: Option<Arc<WebPkiServerVerifier>>,
    authorities: Vec<CertificateDer<'static>>,
    leaves: Vec<CertificateDer<'static>>,
    check_hostname: bool,
    provider: Arc<CryptoProvider>,
}

impl Trusted {
    /// The verdict at a time.
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_leaf = self.leaves.iter().any(|leaf| leaf == certificate);
        let verdict = |verifier: &Option<Arc<WebPkiServerVerifier>>| match verifier {
            None => Err(unknown(certificate, intermediates)),
            Some(verifier) => {
                verifier.verify_server_cert(certificate, intermediates, name, stapled, now)
            }
        };
        let verified = match verdict(&self.by_authorities) {
            Err(_) if is_leaf => verdict(&self.by_themselves),
            verdict => verdict,
        };
        let Err(error) = verified else {
            return verified;
        };
        let rustls::Error::InvalidCertificate(cause) = &error else {
            return Err(error);
        };
        match cause {
            // webpki looks at names last: the chain is fine.
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                if self.check_hostname && !is_named(certificate, name) {
                    return Err(error);
                }
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::BadEncoding => return Err(error),
            _ => {
                if !is_leaf && !self.authorities.iter().any(|known| known == certificate) {
                    // The usual cause in a test environment, and OpenSSL names it.
                    if intermediates.is_empty() && certificate::is_self_signed(certificate) {
                        return Err(unknown(certificate, intermediates));
                    }
                    return Err(error);
                }
                if self.check_hostname && !is_named(certificate, name) {
                    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = |at| self.judge(certificate, intermediates, name, stapled, at);
        let error = match judge(now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        // OpenSSL asks for the issuer and the name before it looks at the clock.
        let then = match &error {
            rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after,
                ..
            }) => *not_after,
            rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            }) => *not_before,
            _ => return Err(error),
        };
        match judge(then) {
            Err(rustls::Error::InvalidCertificate(
                cause @ (CertificateError::UnknownIssuer
                | CertificateError::Other(_)
                | CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. }),
            )) => Err(cause.into()),
            _ => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Why a handshake failed, in OpenSSL's words, and whether the certificate is the cause.
pub(super) fn describe(error: &rustls::Error, host: &str) -> (String, bool) {
    let rustls::Error::InvalidCertificate(cause) = error else {
        let message = match error {
            // What a server that speaks plain HTTP on this port looks like.
            rustls::Error::InvalidMessage(_) => {
                "[SSL: WRONG_VERSION_NUMBER] wrong version number".into()
            }
            rustls::Error::AlertReceived(alert) => format!("[SSL] alert received: {alert:?}"),
            other => format!("[SSL] {other}"),
        };
        return (message, false);
    };
    let reason = match cause {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate is not yet valid".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let what = if super::target::is_ip(host) {
                "IP address"
            } else {
                "Hostname"
            };
            format!("{what} mismatch, certificate is not valid for '{host}'.")
        }
        CertificateError::Revoked => "certificate revoked".to_owned(),
        CertificateError::UnknownIssuer => "unable to get local issuer certificate".to_owned(),
        CertificateError::BadSignature => "certificate signature failure".to_owned(),
        CertificateError::Other(cause) => cause.0.to_string(),
        other => other.to_string(),
    };
    (
        format!("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {reason}"),
        true,
    )
}
