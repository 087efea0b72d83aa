//! TLS settings as the Python half of the session passes them.

use crate::http::tls::{MinimumVersion, TlsSettings, Verify};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How servers are verified. `verify` is "system", "none" or "ca" (then `ca_pem` holds the authorities).
///
/// `fingerprint` is the SHA-256 of the certificate; `minimum_version` is `None` (TLS 1.2) or "1.3".
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
    #[pyo3(signature = (*, verify="system", ca_pem=None, fingerprint=None, check_hostname=true, minimum_version=None, server_hostname=None))]
    fn new(
        verify: &str,
        ca_pem: Option<Vec<u8>>,
        fingerprint: Option<Vec<u8>>,
        check_hostname: bool,
        minimum_version: Option<&str>,
        server_hostname: Option<String>,
    ) -> PyResult<Self> {
        let verify = match (verify, ca_pem) {
            ("system", None) => Verify::System,
            ("none", None) => Verify::None,
            ("ca", Some(pem)) => Verify::CaPem(pem),
            _ => {
                return Err(PyValueError::new_err(
                    "verify is \"system\", \"none\" or, with ca_pem, \"ca\"",
                ));
            }
        };
        let minimum_version = match minimum_version {
            None | Some("1.2") => MinimumVersion::Tls12,
            Some("1.3") => MinimumVersion::Tls13,
            Some(other) => {
                return Err(PyValueError::new_err(format!(
                    "unknown TLS version {other:?}"
                )));
            }
        };
        Ok(Self(TlsSettings {
            verify,
            check_hostname,
            minimum_version,
            fingerprint,
            server_hostname,
        }))
    }
}
