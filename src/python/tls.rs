//! TLS settings as the Python half of the session passes them.

use crate::http::tls::{Identity, TlsSettings, Verify, Versions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How TLS is spoken. `verify` is "none", "system", or "ca" for the authorities in `ca_pem` alone, which
/// otherwise come on top of the system's.
///
/// `leaf_pem` holds certificates of servers that are trusted as they are: self-signed ones, and with
/// `partial_chain` others too. `fingerprint` is the SHA-256 of the certificate. `minimum_version` and `maximum_version` are `None`,
/// "1.2" or "1.3". `protocols` are those to offer by ALPN; `None` are the session's own. `identity` is a
/// client certificate and its unencrypted key, both in PEM.
#[pyclass(frozen, module = "molotov._core")]
pub(crate) struct SslConfig(TlsSettings);

impl SslConfig {
    pub(crate) fn settings(&self) -> &TlsSettings {
        &self.0
    }
}

#[pymethods]
impl SslConfig {
    #[new]
    #[pyo3(signature = (*, verify="system", ca_pem=None, leaf_pem=None, partial_chain=false, fingerprint=None, check_hostname=true, minimum_version=None, maximum_version=None, protocols=None, identity=None, server_hostname=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only in Python")]
    fn new(
        verify: &str,
        ca_pem: Option<Vec<u8>>,
        leaf_pem: Option<Vec<u8>>,
        partial_chain: bool,
        fingerprint: Option<Vec<u8>>,
        check_hostname: bool,
        minimum_version: Option<&str>,
        maximum_version: Option<&str>,
        protocols: Option<Vec<Vec<u8>>>,
        identity: Option<(Vec<u8>, Vec<u8>)>,
        server_hostname: Option<String>,
    ) -> PyResult<Self> {
        let verify = match (verify, ca_pem) {
            ("system", None) => Verify::System,
            ("system", Some(pem)) => Verify::SystemAndPem(pem),
            ("none", None) => Verify::None,
            ("ca", Some(pem)) => Verify::CaPem(pem),
            _ => {
                return Err(PyValueError::new_err(
                    "verify is \"system\", \"none\" or, with ca_pem, \"ca\"",
                ));
            }
        };
        let versions = match (minimum_version, maximum_version) {
            (None | Some("1.2"), None | Some("1.3")) => Versions::Both,
            (None | Some("1.2"), Some("1.2")) => Versions::Tls12,
            (Some("1.3"), None | Some("1.3")) => Versions::Tls13,
            (minimum, maximum) => {
                return Err(PyValueError::new_err(format!(
                    "no TLS versions from {minimum:?} to {maximum:?}"
                )));
            }
        };
        let identity = identity.map(|(certificates_pem, key_pem)| Identity {
            certificates_pem,
            key_pem,
        });
        if let Some(identity) = &identity {
            identity.check().map_err(PyValueError::new_err)?;
        }
        Ok(Self(TlsSettings {
            verify,
            leaf_pem: leaf_pem.unwrap_or_default(),
            partial_chain,
            check_hostname,
            versions,
            protocols,
            identity,
            fingerprint,
            server_hostname,
        }))
    }
}
