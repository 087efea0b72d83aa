//! The session's native base class: configuration, connection pool, and the fast path of a request.
//!
//! `molotov.session.ClientSession` derives from it and has aiohttp's constructor and attributes. A call
//! that the fast path cannot express goes to its coroutine `_request`.

use super::arguments::{Arguments, Body, Method, Options, Timeouts, header_pairs, seconds};
use super::awaitable::Awaitable;
use super::connector::Connector;
use super::context::slow_request;
use super::cookies::CookieJar;
use super::event_loop::{Engine, engine_of};
use super::ffi::GilCell;
use super::pool::Pool;
use super::receiving::Reading;
use super::request::{Job, Spec};
use super::reservation::{Reservation, Reserving};
use super::tls::SslConfig;
use super::urls;
use crate::http::codec::Limits;
use crate::http::connect::{Endpoint, Route};
use crate::http::content_encoding::DecodeLimits;
use crate::http::proxy::Proxy;
use crate::http::target::{self, Target};
use crate::http::tls::TlsSettings;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::Ref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What every request carries, rendered once.
#[derive(Default)]
pub(crate) struct Defaults {
    /// The script's own headers.
    pub(crate) headers: Vec<(String, String)>,
    /// What the client adds when the script does not say otherwise.
    pub(crate) automatic: Vec<(&'static str, String)>,
    /// Both, as they go out.
    pub(crate) block: Vec<u8>,
    pub(crate) has_host: bool,
    pub(crate) has_content_type: bool,
    pub(crate) has_authorization: bool,
}

impl Defaults {
    fn new(headers: Vec<(String, String)>, user_agent: &str, accept_encoding: &str) -> Self {
        let given = |name: &str| {
            headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let automatic: Vec<(&'static str, String)> = [
            ("Accept", "*/*"),
            ("Accept-Encoding", accept_encoding),
            ("User-Agent", user_agent),
        ]
        .into_iter()
        .filter(|(name, _)| !given(name))
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
        let own = headers.iter().map(|(name, value)| (name.as_str(), value));
        let added = automatic.iter().map(|(name, value)| (*name, value));
        let block = own
            .chain(added)
            .fold(Vec::new(), |mut block, (name, value)| {
                block.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                block
            });
        Self {
            has_host: given("host"),
            has_content_type: given("content-type"),
            has_authorization: given("authorization"),
            automatic,
            block,
            headers,
        }
    }
}

struct Setup {
    engine: Arc<Engine>,
    pool: Arc<Pool>,
    #[expect(dead_code, reason = "dropping the last one closes the pool")]
    connector: Py<Connector>,
    timeouts: Timeouts,
    authorization: Option<String>,
    raise_for_status: bool,
    reading: Option<Arc<Reading>>,
    accept_encoding: String,
    jar: Option<Py<CookieJar>>,
}

#[derive(Default)]
struct State {
    defaults: Defaults,
    closed: bool,
    slow: bool,
}

/// See the module's text.
#[pyclass(frozen, subclass, dict, weakref, module = "molotov._core")]
pub(crate) struct Session {
    setup: OnceLock<Setup>,
    state: GilCell<State>,
}

impl Session {
    fn setup(&self) -> PyResult<&Setup> {
        self.setup
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the session was not initialised"))
    }

    pub(crate) fn is_closed(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).closed
    }

    pub(crate) fn defaults<'a>(&'a self, py: Python<'a>) -> Ref<'a, Defaults> {
        Ref::map(self.state.borrow(py), |state| &state.defaults)
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.setup.get()?.authorization.as_deref()
    }

    pub(crate) fn default_options(&self) -> Options {
        Options {
            timeouts: self
                .setup
                .get()
                .map(|setup| setup.timeouts)
                .unwrap_or_default(),
            follow: true,
            max_redirects: 10,
            raise_for_status: self.setup.get().is_some_and(|setup| setup.raise_for_status),
            bare: false,
            unverified: false,
            reading: self.setup.get().and_then(|setup| setup.reading.clone()),
        }
    }

    pub(crate) fn cookie_header(&self, py: Python<'_>, target: &Target) -> Option<String> {
        let jar = self.setup.get()?.jar.as_ref()?;
        let path = target.path_and_query.split('?').next().unwrap_or("/");
        jar.get().header(py, &target.host, path, target.tls)
    }

    pub(crate) fn has_cookies(&self, py: Python<'_>) -> bool {
        self.setup
            .get()
            .and_then(|setup| setup.jar.as_ref())
            .is_some_and(|jar| !jar.get().is_empty(py))
    }

    pub(crate) fn take_cookies(&self, py: Python<'_>, target: &Target, head: &[u8]) {
        if let Some(jar) = self.setup.get().and_then(|setup| setup.jar.as_ref()) {
            let path = target.path_and_query.split('?').next().unwrap_or("/");
            jar.get().take(py, &target.host, path, head);
        }
    }

    /// The fast path if it can serve the call, else the Python half's coroutine.
    fn call<'py>(
        slf: &Bound<'py, Self>,
        method: Method,
        url: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let setup = this.setup()?;
        if !this.state.borrow(py).slow
            && method.is_token()
            && let Some(url) = urls::lookup_with(&setup.engine, url, keywords)?
        {
            let arguments = match keywords {
                None => Some(Arguments::plain(this)),
                Some(keywords) => Arguments::read(this, keywords)?,
            };
            if let Some(arguments) = arguments {
                let tls = match (url.target.tls, arguments.options.unverified) {
                    (false, _) => 0,
                    (true, false) => 1,
                    (true, true) => setup.pool.ways.tls_number(py, &TlsSettings::unverified()),
                };
                let spec = Spec {
                    method,
                    url,
                    headers: arguments.headers,
                    body: arguments.body,
                    content_type: arguments.content_type,
                    authorization: arguments.authorization,
                    options: arguments.options,
                    tls,
                    route: 0,
                    absolute: false,
                    expect: false,
                    decompress: true,
                    again: false,
                    reserving: Reserving::No,
                };
                return Job::create(slf, &setup.engine, &setup.pool, spec).map(Bound::into_any);
            }
        }
        slow_request(slf, method.as_str(), url, keywords)
    }
}

fn user_agent(py: Python<'_>) -> String {
    let version = py.version_info();
    format!(
        "Python/{}.{} molotov/{}",
        version.major,
        version.minor,
        env!("CARGO_PKG_VERSION")
    )
}

fn decoding((max_bytes, max_ratio): (u64, u64)) -> DecodeLimits {
    DecodeLimits {
        max_bytes,
        max_ratio,
    }
}

fn limit_in_seconds(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    let Some(value) = value else { return Ok(None) };
    seconds(value).ok_or_else(|| PyTypeError::new_err("a timeout is a number of seconds or None"))
}

fn proxy_of(url: String, headers: Vec<(String, String)>) -> PyResult<Proxy> {
    let target = target::parse_encoded(&url)
        .map_err(|error| PyValueError::new_err(format!("proxy: {error}")))?;
    Ok(Proxy {
        endpoint: Endpoint {
            host: target.host,
            port: target.port,
            tls: target.tls,
        },
        headers,
        url,
    })
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            setup: OnceLock::new(),
            state: GilCell::default(),
        }
    }

    /// Timeouts are in seconds; a limit of 0 is none.
    #[pyo3(signature = (r#loop, *, headers, connector, auth=None, total=None, connect=None, sock_connect=None, sock_read=None, jar=None, raise_for_status=false, decode_limits=None, accept_encoding="gzip, deflate", recorder=None, state=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only in Python")]
    fn __init__(
        slf: &Bound<'_, Self>,
        r#loop: &Bound<'_, PyAny>,
        headers: Vec<(String, String)>,
        connector: Py<Connector>,
        auth: Option<String>,
        total: Option<Bound<'_, PyAny>>,
        connect: Option<Bound<'_, PyAny>>,
        sock_connect: Option<Bound<'_, PyAny>>,
        sock_read: Option<Bound<'_, PyAny>>,
        jar: Option<Py<CookieJar>>,
        raise_for_status: bool,
        decode_limits: Option<(u64, u64)>,
        accept_encoding: &str,
        recorder: Option<Bound<'_, PyAny>>,
        state: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        // The run's counters are found through the loop's engine.
        let _ = (recorder, state);
        let py = slf.py();
        let setup = Setup {
            engine: engine_of(r#loop)?,
            pool: Arc::clone(connector.get().pool()),
            connector,
            timeouts: Timeouts {
                total: limit_in_seconds(total.as_ref())?,
                connect: limit_in_seconds(connect.as_ref())?,
                sock_connect: limit_in_seconds(sock_connect.as_ref())?,
                sock_read: limit_in_seconds(sock_read.as_ref())?,
            },
            authorization: auth,
            raise_for_status,
            reading: decode_limits.map(|decode_limits| {
                Arc::new(Reading {
                    decoding: decoding(decode_limits),
                    ..Reading::default()
                })
            }),
            accept_encoding: accept_encoding.to_owned(),
            jar,
        };
        slf.get()
            .setup
            .set(setup)
            .map_err(|_| PyRuntimeError::new_err("the session is initialised already"))?;
        slf.get().set_headers(py, headers)
    }

    /// Whether every call goes to the Python half.
    #[getter(_slow)]
    fn slow(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).slow
    }

    #[setter(_slow)]
    fn set_slow(&self, py: Python<'_>, value: bool) {
        self.state.borrow_mut(py).slow = value;
    }

    /// Replaces the headers that every request carries.
    #[pyo3(name = "_set_headers")]
    fn set_headers(&self, py: Python<'_>, headers: Vec<(String, String)>) -> PyResult<()> {
        let accepted = &self.setup()?.accept_encoding;
        self.state.borrow_mut(py).defaults = Defaults::new(headers, &user_agent(py), accepted);
        Ok(())
    }

    /// Lets later requests fail; ends the connections too if they are the session's own.
    fn _close_native(&self, py: Python<'_>, connections: bool) {
        self.state.borrow_mut(py).closed = true;
        if let Some(setup) = self.setup.get().filter(|_| connections) {
            setup.pool.close(py);
        }
    }

    /// Ends the connections that have become websockets.
    fn _close_websockets(&self, py: Python<'_>) {
        if let Some(setup) = self.setup.get() {
            setup.pool.close_websockets(py);
        }
    }

    #[pyo3(signature = (method, url, **keywords))]
    fn request<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        url: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, Method::parse(method), url, keywords)
    }

    #[pyo3(signature = (url, **keywords))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        url: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, Method::known("GET"), url, keywords)
    }

    #[pyo3(signature = (url, **keywords))]
    fn options<'py>(
        slf: &Bound<'py, Self>,
        url: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, Method::known("OPTIONS"), url, keywords)
    }

    /// Redirects are not followed unless asked for, as in aiohttp.
    #[pyo3(signature = (url, **keywords))]
    fn head<'py>(
        slf: &Bound<'py, Self>,
        url: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let keywords = match keywords {
            Some(keywords) => keywords.copy()?,
            None => PyDict::new(slf.py()),
        };
        if !keywords.contains("allow_redirects")? {
            keywords.set_item("allow_redirects", false)?;
        }
        Self::call(slf, Method::known("HEAD"), url, Some(&keywords))
    }

    #[pyo3(signature = (url, **keywords))]
    fn post<'py>(
        slf: &Bound<'py, Self>,
        url: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, Method::known("POST"), url, keywords)
    }

    #[pyo3(signature = (url, **keywords))]
    fn put<'py>(
        slf: &Bound<'py, Self>,
        url: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, Method::known("PUT"), url, keywords)
    }

    #[pyo3(signature = (url, **keywords))]
    fn patch<'py>(
        slf: &Bound<'py, Self>,
        url: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, Method::known("PATCH"), url, keywords)
    }

    #[pyo3(signature = (url, **keywords))]
    fn delete<'py>(
        slf: &Bound<'py, Self>,
        url: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, Method::known("DELETE"), url, keywords)
    }

    /// One exchange on the wire, with these headers only; gives the response at its head.
    ///
    /// The URL is absolute and encoded. `Host` and `Content-Length` are added when missing. `chunks` is
    /// an async iterator of bytes: framed when the headers say `Transfer-Encoding: chunked`, sent as it
    /// is otherwise. `proxy` is an encoded URL and the headers of a CONNECT request. With `expect` the body
    /// waits for an interim response. `limits` are the most bytes of the status line and of a header, and the
    /// most headers; without `until_eof` a body without a length is empty; `high_water` is how many bytes of the
    /// body may wait for its reader. `again` counts it as resent, and gives it a connection of its own.
    /// With `reserve` nothing is sent: what it gives holds the connection, for another exchange to be made `on`.
    #[pyo3(signature = (method, url, headers, body=None, *, total=None, connect=None, sock_connect=None, sock_read=None, ssl=None, chunks=None, decompress=true, proxy=None, expect=false, limits=None, until_eof=true, high_water=None, again=false, reserve=false, on=None))]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "keyword-only in Python"
    )]
    fn _exchange<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        url: &str,
        headers: &Bound<'py, PyAny>,
        body: Option<Vec<u8>>,
        total: Option<Bound<'py, PyAny>>,
        connect: Option<Bound<'py, PyAny>>,
        sock_connect: Option<Bound<'py, PyAny>>,
        sock_read: Option<Bound<'py, PyAny>>,
        ssl: Option<Bound<'py, SslConfig>>,
        chunks: Option<Bound<'py, PyAny>>,
        decompress: bool,
        proxy: Option<(String, Vec<(String, String)>)>,
        expect: bool,
        limits: Option<(usize, usize, usize)>,
        until_eof: bool,
        high_water: Option<usize>,
        again: bool,
        reserve: bool,
        on: Option<Py<Reservation>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        let py = slf.py();
        let setup = slf.get().setup()?;
        let method = Method::parse(method);
        let url = urls::encoded(py, &setup.engine, url)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let headers = header_pairs(headers)?.ok_or_else(|| {
            PyValueError::new_err("headers are pairs of strings without line breaks")
        })?;
        let timeouts = Timeouts {
            total: limit_in_seconds(total.as_ref())?,
            connect: limit_in_seconds(connect.as_ref())?,
            sock_connect: limit_in_seconds(sock_connect.as_ref())?,
            sock_read: limit_in_seconds(sock_read.as_ref())?,
        };
        let chunked = headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("transfer-encoding")
                && value.to_ascii_lowercase().contains("chunked")
        });
        let proxy = proxy
            .map(|(url, headers)| proxy_of(url, headers))
            .transpose()?;
        let secure = url.target.tls || proxy.as_ref().is_some_and(|proxy| proxy.endpoint.tls);
        let tls = match (secure, ssl) {
            (false, _) => 0,
            (true, None) => 1,
            (true, Some(config)) => setup.pool.ways.tls_number(py, config.get().settings()),
        };
        let reading = if limits.is_some() || !until_eof || high_water.is_some() {
            let mut reading = setup.reading.as_deref().copied().unwrap_or_default();
            if let Some((max_line_size, max_field_size, max_headers)) = limits {
                reading.limits = Limits {
                    max_line_size,
                    max_field_size,
                    max_headers,
                };
            }
            reading.until_eof = until_eof;
            reading.high_water = high_water.unwrap_or(reading.high_water);
            Some(Arc::new(reading))
        } else {
            setup.reading.clone()
        };
        let spec = Spec {
            method,
            headers,
            body: match (&chunks, body) {
                (Some(_), _) => Body::Streamed,
                (None, Some(bytes)) => Body::Bytes(bytes),
                (None, None) => Body::None,
            },
            content_type: None,
            authorization: None,
            options: Options {
                timeouts,
                follow: false,
                max_redirects: 0,
                raise_for_status: false,
                bare: true,
                unverified: false,
                reading,
            },
            tls,
            absolute: proxy.is_some() && !url.target.tls,
            route: proxy.map_or(0, |proxy| {
                setup.pool.ways.route_number(py, Route::Proxy(proxy))
            }),
            expect,
            url,
            decompress,
            again,
            reserving: match on {
                Some(reservation) => Reserving::Made(reservation),
                None if reserve => Reserving::Only,
                None => Reserving::No,
            },
        };
        let request = Job::create(slf, &setup.engine, &setup.pool, spec)?;
        if let Some(chunks) = chunks {
            py.import("molotov._upload")?
                .call_method1("start", (&request, chunks, chunked, expect))?;
        }
        Ok(request)
    }
}
