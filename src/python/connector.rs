//! The native counterpart of an aiohttp connector: what its connections have in common.
//!
//! Owns the settings that a script's connector was read into, and the numbering of the TLS settings and
//! routes of single requests. All sessions of one connector share one of these, and so its limits and its
//! idle connections, which are [`super::pool`]'s.

use super::event_loop::engine_of;
use super::ffi::GilCell;
use super::pool::Pool;
use super::tls::SslConfig;
use crate::http::connect::{Network, Route};
use crate::http::resolve::{Family, Memory};
use crate::http::tls::TlsSettings;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Default)]
struct Tables {
    tls: Vec<TlsSettings>,
    routes: Vec<Arc<Route>>,
    route_numbers: FxHashMap<Arc<Route>, u32>,
}

/// When HTTP/2 is spoken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http2 {
    Never,
    /// When a TLS server chooses it.
    Negotiated,
    /// That, and always without TLS (RFC 9113 section 3.3).
    PriorKnowledge,
}

/// How the connections of a connector are made.
pub(crate) struct Ways {
    pub(crate) network: Network,
    pub(crate) http2: Http2,
    own_route: Arc<Route>,
    own_tls: TlsSettings,
    tables: GilCell<Tables>,
}

impl Ways {
    /// Whether requests for an origin may share an HTTP/2 connection.
    #[inline]
    pub(crate) fn may_multiplex(&self, tls: bool) -> bool {
        match self.http2 {
            Http2::Never => false,
            Http2::Negotiated => tls,
            Http2::PriorKnowledge => true,
        }
    }

    /// The TLS settings behind a pool key's number: 0 (none) and 1 are the connector's own.
    pub(crate) fn tls(&self, py: Python<'_>, number: u32) -> TlsSettings {
        let tables = self.tables.borrow(py);
        number
            .checked_sub(2)
            .and_then(|index| tables.tls.get(index as usize))
            .unwrap_or(&self.own_tls)
            .clone()
    }

    /// The number of TLS settings.
    pub(crate) fn tls_number(&self, py: Python<'_>, settings: &TlsSettings) -> u32 {
        if self.own_tls == *settings {
            return 1;
        }
        let mut tables = self.tables.borrow_mut(py);
        let index = tables
            .tls
            .iter()
            .position(|known| known == settings)
            .unwrap_or_else(|| {
                tables.tls.push(settings.clone());
                tables.tls.len() - 1
            });
        u32::try_from(index).unwrap_or(u32::MAX - 2) + 2
    }

    /// The route behind a pool key's number; 0 is the connector's own.
    pub(crate) fn route(&self, py: Python<'_>, number: u32) -> Arc<Route> {
        let tables = self.tables.borrow(py);
        let found = number
            .checked_sub(1)
            .and_then(|index| tables.routes.get(index as usize));
        Arc::clone(found.unwrap_or(&self.own_route))
    }

    /// The number of a route.
    pub(crate) fn route_number(&self, py: Python<'_>, route: Route) -> u32 {
        let mut tables = self.tables.borrow_mut(py);
        if let Some(number) = tables.route_numbers.get(&route) {
            return *number;
        }
        let route = Arc::new(route);
        tables.routes.push(Arc::clone(&route));
        let number = u32::try_from(tables.routes.len()).unwrap_or(u32::MAX);
        tables.route_numbers.insert(route, number);
        number
    }
}

/// Connections with common settings and limits; a limit of 0 is none. Times are in seconds.
///
/// `family` is 0, 4 or 6. `local` are addresses to connect from. Addresses of hosts are remembered for
/// `dns_memory` (`None`: for ever, 0: not at all). `head_start` and `first_family` are RFC 8305's
/// connection attempt delay and first address family count. `unix` is the path of a local socket that
/// every connection goes to. `http2` is `None`, "alpn" or "prior-knowledge".
#[pyclass(frozen, module = "molotov._core")]
pub(crate) struct Connector(Arc<Pool>);

impl Connector {
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.0
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX)
}

#[pymethods]
impl Connector {
    #[new]
    #[pyo3(signature = (*, local, dns_memory, head_start, limit=0, limit_per_host=0, keepalive_timeout=15.0, ssl=None, family=0, first_family=1, unix=None, http2=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only in Python")]
    fn new(
        local: Vec<String>,
        dns_memory: Option<f64>,
        head_start: Option<f64>,
        limit: usize,
        limit_per_host: usize,
        keepalive_timeout: f64,
        ssl: Option<Bound<'_, SslConfig>>,
        family: u8,
        first_family: usize,
        unix: Option<PathBuf>,
        http2: Option<&str>,
    ) -> PyResult<Self> {
        let http2 = match http2 {
            None => Http2::Never,
            Some("alpn") => Http2::Negotiated,
            Some("prior-knowledge") => Http2::PriorKnowledge,
            Some(other) => {
                let message = format!("http2 is None, alpn or prior-knowledge, not {other}");
                return Err(PyValueError::new_err(message));
            }
        };
        let local = local
            .iter()
            .map(|address| address.parse::<SocketAddr>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PyValueError::new_err(format!("local: {error}")))?;
        let family = match family {
            0 => Family::Any,
            4 => Family::V4,
            6 => Family::V6,
            other => {
                let message = format!("family is 0, 4 or 6, not {other}");
                return Err(PyValueError::new_err(message));
            }
        };
        let memory = match dns_memory {
            None => Memory::Forever,
            Some(time) if time > 0.0 => Memory::For(seconds(time)),
            Some(_) => Memory::Off,
        };
        let ways = Ways {
            http2,
            network: Network {
                family,
                memory,
                local,
                head_start: head_start.map(seconds),
                first_family,
            },
            own_route: Arc::new(unix.map_or(Route::Direct, Route::Unix)),
            own_tls: ssl
                .map(|config| config.get().settings().clone())
                .unwrap_or_default(),
            tables: GilCell::default(),
        };
        let keepalive = seconds(keepalive_timeout);
        Ok(Self(Pool::new(limit, limit_per_host, keepalive, ways)))
    }

    /// Forgets the addresses of `host`, or of all hosts. They are remembered once for all connectors of a loop.
    fn forget_addresses(&self, r#loop: &Bound<'_, PyAny>, host: Option<&str>) -> PyResult<()> {
        engine_of(r#loop)?.resolver.forget(host);
        Ok(())
    }

    /// Ends the idle connections and every wait for one; requests made later fail.
    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        Python::attach(|py| self.0.close(py));
    }
}
