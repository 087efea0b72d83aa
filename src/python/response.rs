//! The response as scripts see it: aiohttp's `ClientResponse`, natively.
//!
//! What most scripts use is here. Rarely used attributes are functions in `molotov._response`, reached
//! through [`super::cold`]. The head is kept as it came and parsed again when headers are asked for.
//!
//! Longer than usual, as the interface is: Python's attributes are one block per class.

use super::arguments::Method;
use super::awaitable::{Awaitable, Outcome, Ready, Task};
use super::body::{Available, Body, Whole};
use super::connection::{Arrived, Content, Upgraded};
use super::errors;
use super::event_loop::Engine;
use super::ffi::GilCell;
use super::json;
use super::request::Added;
use super::session::Session;
use super::urls::UrlEntry;
use crate::http::codec::{self, Span};
use crate::http::error::{Error, TimeoutKind};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::sync::Arc;

/// Where the body is.
enum Stored {
    /// Behind the head, in `raw`.
    Inline,
    Decoded(Vec<u8>),
    /// Where it was received; what `read()` gives.
    Received(Py<PyBytes>),
    Streaming(Arc<Body>),
    Failed(Error),
    /// There is none: the connection speaks another protocol, and ends with the response.
    Upgraded(Box<Upgraded>),
    /// Given up before it was read.
    Released,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one body"
)]
struct State {
    stored: Stored,
    /// The script has read it: it stays readable after the response is released.
    read: bool,
    closed: bool,
    /// Released or closed: `read()` refuses, as aiohttp's does; text and JSON of a read body stay.
    left: bool,
    bytes: Option<Py<PyBytes>>,
    headers: Option<Py<PyAny>>,
    history: Option<Py<PyAny>>,
    real_url: Option<Py<PyAny>>,
    url: Option<Py<PyAny>>,
    /// What was taken from the stream piece by piece is gone for `read()`.
    consumed: bool,
    /// Where the wire's chunks end, of a body that nobody streams any more.
    ends: Vec<u64>,
    encoded_bytes: Option<u64>,
    /// Inside `async with`: leaving that releases it, a bad status does not.
    in_context: bool,
}

/// See the module's text.
#[pyclass(
    frozen,
    dict,
    weakref,
    name = "ClientResponse",
    module = "molotov._core"
)]
pub(crate) struct Response {
    session: Py<Session>,
    engine: Arc<Engine>,
    method: Method,
    url: Arc<UrlEntry>,
    sent_headers: Vec<(String, String)>,
    added: Added,
    fragment: Option<Box<str>>,
    hops: Vec<Py<Response>>,
    status: u16,
    version: (u8, u8),
    head_len: usize,
    /// The value of `Content-Type` in `raw`.
    content_type: Span,
    raw: Box<[u8]>,
    state: GilCell<State>,
}

/// What becomes of the bytes once they are there.
pub(crate) enum Then {
    Bytes,
    Text {
        encoding: Option<String>,
        errors: String,
    },
    Json {
        encoding: Option<String>,
        loads: Option<Py<PyAny>>,
    },
    /// The next piece only, of at most so many bytes where that is possible.
    Chunk(usize),
}

/// A wait for (the rest of) a body.
pub(crate) struct BodyRead {
    response: Py<Response>,
    then: Arc<Then>,
}

impl BodyRead {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            response: self.response.clone_ref(py),
            then: Arc::clone(&self.then),
        }
    }

    pub(crate) fn start(&self, awaitable: &Bound<'_, Awaitable>) {
        let py = awaitable.py();
        let response = self.response.bind(py);
        let this = response.get();
        let body = match &this.state.borrow(py).stored {
            Stored::Streaming(body) => Some(Arc::clone(body)),
            _ => None,
        };
        let result = match (body, &*self.then) {
            (None, then) => Response::finish(response, then),
            (Some(body), Then::Chunk(most)) => match body.take_piece(py, *most) {
                Ok(Available::NotYet) => return body.wait(awaitable),
                Ok(Available::Failed(error)) => Err(this.broke(py, error)),
                Ok(Available::Data { data, complete }) => {
                    this.took_piece(py, &body, complete);
                    Ok(data.into_any())
                }
                Err(error) => Err(error),
            },
            (Some(body), then) => match body.take(py) {
                Ok(Available::NotYet) => return body.wait(awaitable),
                Ok(Available::Failed(error)) => Err(this.broke(py, error)),
                Ok(Available::Data { data, .. }) => {
                    {
                        let mut state = this.state.borrow_mut(py);
                        state.stored = match data {
                            Whole::Data(data) => Stored::Decoded(data),
                            Whole::Bytes(bytes) => Stored::Received(bytes),
                        };
                        state.closed = true;
                    }
                    Response::finish(response, then)
                }
                Err(error) => Err(error),
            },
        };
        Awaitable::resolve(
            awaitable,
            match result {
                Ok(value) => Outcome::Value(value.unbind()),
                Err(error) => Outcome::Error(error),
            },
        );
    }

    /// More of the body has come, or its end.
    pub(crate) fn go_on(awaitable: &Bound<'_, Awaitable>) {
        if let Some(read) = awaitable.get().body_read(awaitable.py()) {
            read.start(awaitable);
        }
    }

    /// The reader has given up; the response is as it was.
    pub(crate) fn abort(&self, py: Python<'_>) {
        if let Stored::Streaming(body) = &self.response.get().state.borrow(py).stored {
            body.stop_waiting(py);
        }
    }
}

impl Response {
    #[expect(clippy::too_many_arguments, reason = "the parts of a response")]
    pub(crate) fn new(
        session: Py<Session>,
        engine: Arc<Engine>,
        method: Method,
        url: Arc<UrlEntry>,
        sent_headers: Vec<(String, String)>,
        added: Added,
        fragment: Option<Box<str>>,
        hops: Vec<Py<Self>>,
        arrived: Arrived,
    ) -> Self {
        let Arrived { head, raw, content } = arrived;
        let closed = !matches!(content, Content::Streaming(_) | Content::Upgraded(_));
        let (mut ends, mut encoded_bytes) = (Vec::new(), None);
        let stored = match content {
            Content::Inline => Stored::Inline,
            Content::Decoded(content) => {
                ends = content.ends;
                encoded_bytes = content.encoded_bytes;
                Stored::Decoded(content.data)
            }
            Content::Broken(error) => Stored::Failed(error),
            Content::Streaming(body) => Stored::Streaming(body),
            Content::Upgraded(upgraded) => Stored::Upgraded(upgraded),
        };
        let state = State {
            stored,
            read: false,
            closed,
            left: false,
            bytes: None,
            headers: None,
            history: None,
            real_url: None,
            url: None,
            consumed: false,
            ends,
            encoded_bytes,
            in_context: false,
        };
        Self {
            session,
            engine,
            method,
            url,
            sent_headers,
            added,
            fragment,
            hops,
            status: head.status,
            version: if head.http2 {
                (2, 0)
            } else {
                (1, head.minor_version)
            },
            head_len: head.head_len,
            content_type: head.content_type,
            raw,
            state: GilCell::new(state),
        }
    }

    pub(crate) fn url_text(&self) -> &str {
        &self.url.text
    }

    pub(crate) fn status_code(&self) -> u16 {
        self.status
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Takes the connection that a 101 has left to the caller. From then on the response is closed.
    pub(crate) fn take_upgraded(&self, py: Python<'_>) -> Option<Box<Upgraded>> {
        let mut state = self.state.borrow_mut(py);
        if !matches!(state.stored, Stored::Upgraded(_)) {
            return None;
        }
        match std::mem::replace(&mut state.stored, Stored::Released) {
            Stored::Upgraded(upgraded) => Some(upgraded),
            _ => None,
        }
    }

    fn head(&self) -> &[u8] {
        self.raw.get(..self.head_len).unwrap_or_default()
    }

    /// The script is inside `async with`.
    pub(crate) fn enter(&self, py: Python<'_>) {
        self.state.borrow_mut(py).in_context = true;
    }

    /// Gives the connection back, or ends it when the body is still on its way.
    pub(crate) fn leave(&self, py: Python<'_>) {
        let given_up = {
            let mut state = self.state.borrow_mut(py);
            state.closed = true;
            state.left = true;
            match std::mem::replace(&mut state.stored, Stored::Released) {
                stored @ (Stored::Streaming(_) | Stored::Upgraded(_)) => Some(stored),
                stored => {
                    // A broken body stays broken.
                    if (state.read && !state.consumed) || matches!(stored, Stored::Failed(_)) {
                        state.stored = stored;
                    }
                    None
                }
            }
        };
        if let Some(Stored::Streaming(body)) = given_up {
            body.abandon(py);
        }
    }

    /// The exception of `raise_for_status`, for statuses from 400 on.
    pub(crate) fn check_status(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().status < 400 {
            return Ok(());
        }
        Err(errors::of_response(slf, "status", None))
    }

    /// Waits for the body if need be, then does `then` with it.
    fn begin<'py>(slf: &Bound<'py, Self>, then: Then) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let streaming = matches!(slf.get().state.borrow(py).stored, Stored::Streaming(_));
        if !streaming {
            return Ready::settle(py, Self::finish(slf, &then)).map(Bound::into_any);
        }
        let read = BodyRead {
            response: slf.clone().unbind(),
            then: Arc::new(then),
        };
        Awaitable::create(py, Arc::clone(&slf.get().engine), Task::Body(read)).map(Bound::into_any)
    }

    /// The result of a read whose bytes are all there.
    fn finish<'py>(slf: &Bound<'py, Self>, then: &Then) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        this.state.borrow_mut(py).read = true;
        match then {
            Then::Bytes if this.has_left(py) => Err(errors::connection_closed(py)),
            Then::Bytes => Ok(this.bytes(py)?.into_any()),
            Then::Chunk(_) => {
                let chunk = this.bytes(py)?;
                let mut state = this.state.borrow_mut(py);
                let consumed = std::mem::replace(&mut state.consumed, true);
                Ok(if consumed {
                    PyBytes::new(py, b"")
                } else {
                    chunk
                }
                .into_any())
            }
            Then::Text { encoding, errors } => this.decode(slf, encoding.as_deref(), errors),
            Then::Json { encoding, loads } => {
                let plain = encoding.as_deref().is_none_or(is_utf8)
                    && loads.is_none()
                    && (encoding.is_some() || this.has_utf8_charset());
                if plain {
                    let parsed = this.with_body(py, |body| {
                        let body = body.trim_ascii();
                        if body.is_empty() {
                            Some(py.None().into_bound(py))
                        } else {
                            json::loads(py, body)
                        }
                    })?;
                    if let Some(value) = parsed {
                        return Ok(value);
                    }
                }
                if this.with_body(py, |body| body.trim_ascii().is_empty())? {
                    return Ok(py.None().into_bound(py));
                }
                let text = this.decode(slf, encoding.as_deref(), "strict")?;
                match loads {
                    Some(loads) => loads.bind(py).call1((text.call_method0("strip")?,)),
                    None => py
                        .import("json")?
                        .call_method1(intern!(py, "loads"), (text.call_method0("strip")?,)),
                }
            }
        }
    }

    /// A piece of the body has gone to its reader; nothing follows a `last` one.
    fn took_piece(&self, py: Python<'_>, body: &Body, last: bool) {
        let mut state = self.state.borrow_mut(py);
        state.consumed = true;
        state.read = true;
        if last {
            state.ends = body.take_ends(py);
            state.encoded_bytes = body.encoded_bytes(py);
            state.stored = Stored::Decoded(Vec::new());
            state.closed = true;
        }
    }

    /// The exception for a body that broke on its way.
    fn broke(&self, py: Python<'_>, error: Error) -> PyErr {
        // aiohttp's timer is told once; what the connection met stays with the body.
        let passing = matches!(error, Error::Timeout(TimeoutKind::Total));
        self.state.borrow_mut(py).stored = if passing {
            Stored::Released
        } else {
            Stored::Failed(error.clone())
        };
        errors::of(py, error, &self.url, &self.method, None)
    }

    fn has_left(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.left && !matches!(state.stored, Stored::Failed(_))
    }

    fn with_body<R>(&self, py: Python<'_>, use_it: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
        let failed = {
            let state = self.state.borrow(py);
            match &state.stored {
                Stored::Inline => {
                    return Ok(use_it(self.raw.get(self.head_len..).unwrap_or_default()));
                }
                Stored::Decoded(data) => return Ok(use_it(data)),
                Stored::Received(bytes) => return Ok(use_it(bytes.as_bytes(py))),
                Stored::Upgraded(_) => return Ok(use_it(&[])),
                Stored::Failed(error) => Some(error.clone()),
                Stored::Streaming(_) | Stored::Released => None,
            }
        };
        Err(match failed {
            Some(error) => errors::of(py, error, &self.url, &self.method, None),
            None => errors::connection_closed(py),
        })
    }

    fn bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        if let Some(bytes) = &self.state.borrow(py).bytes {
            return Ok(bytes.bind(py).clone());
        }
        let received = match &self.state.borrow(py).stored {
            Stored::Received(bytes) => Some(bytes.bind(py).clone()),
            _ => None,
        };
        let bytes = match received {
            Some(bytes) => bytes,
            None => self.with_body(py, |body| PyBytes::new(py, body))?,
        };
        self.state.borrow_mut(py).bytes = Some(bytes.clone().unbind());
        Ok(bytes)
    }

    fn decode<'py>(
        &self,
        slf: &Bound<'py, Self>,
        encoding: Option<&str>,
        errors: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let utf8 = encoding.map_or_else(|| self.has_utf8_charset(), is_utf8);
        if utf8 {
            let text = self.with_body(py, |body| {
                std::str::from_utf8(body)
                    .ok()
                    .map(|text| PyString::new(py, text).into_any())
            })?;
            if let Some(text) = text {
                return Ok(text);
            }
        }
        let bytes = self.bytes(py)?;
        let encoding = match encoding {
            Some(encoding) => encoding.to_owned(),
            None => slf.call_method0("get_encoding")?.extract()?,
        };
        bytes.call_method1(intern!(py, "decode"), (encoding, errors))
    }

    fn has_utf8_charset(&self) -> bool {
        let content_type = self.content_type.get(&self.raw);
        // Most have no parameters at all.
        content_type == b"application/json"
            || !content_type.contains(&b';')
            || charset(&latin1(content_type)).is_none_or(is_utf8)
    }

    /// Whether the media type is one that `json()` takes without being told.
    fn is_json(&self) -> bool {
        let value = self.content_type.get(&self.raw);
        let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii() == b"application/json" || is_json(&self.content_type_header())
    }

    /// The `Content-Type` header, in lower case; empty without one.
    fn content_type_header(&self) -> String {
        latin1(self.content_type.get(&self.raw)).to_ascii_lowercase()
    }

    fn media_type(&self) -> String {
        let header = self.content_type_header();
        let value = header.split(';').next().unwrap_or_default().trim();
        // RFC 2045's default, which aiohttp gives for a missing or nonsensical header.
        if value.matches('/').count() == 1 {
            value.to_owned()
        } else {
            "application/octet-stream".to_owned()
        }
    }
}

/// Text of a head as aiohttp decodes it: what is no UTF-8 survives as surrogates.
fn text<'py>(py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match std::str::from_utf8(value) {
        Ok(text) => Ok(PyString::new(py, text).into_any()),
        Err(_) => PyBytes::new(py, value).call_method1("decode", ("utf-8", "surrogateescape")),
    }
}

/// Header values are bytes without an encoding; aiohttp reads them as UTF-8 with surrogates, which
/// for anything that is text in practice is the same as this.
fn latin1(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => value.iter().map(|byte| char::from(*byte)).collect(),
    }
}

fn is_utf8(encoding: &str) -> bool {
    encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("utf8")
}

fn charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    })
}

/// Whether a media type is one that aiohttp's `json()` takes for JSON.
fn is_json(media_type: &str) -> bool {
    let Some(subtype) = media_type.strip_prefix("application/") else {
        return false;
    };
    // What follows does not matter to aiohttp: `application/json-seq` and parameters are fine.
    subtype.starts_with("json")
        || subtype.split_once("+json").is_some_and(|(name, _)| {
            !name.is_empty()
                && name.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'-')
                })
        })
}

/// The headers of a request in the order in which they went out.
pub(crate) fn sent_headers<'py>(
    py: Python<'py>,
    session: &Session,
    url: &UrlEntry,
    own: &[(String, String)],
    added: &Added,
) -> PyResult<Bound<'py, PyList>> {
    let headers = PyList::empty(py);
    let sent = |name: &str| {
        own.iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    let defaults = session.defaults(py);
    if !sent("host") && (added.bare || !defaults.has_host) {
        headers.append(("Host", &url.target.authority))?;
    }
    if !added.bare {
        for (name, value) in defaults.headers.iter().filter(|(name, _)| !sent(name)) {
            if !(added.elsewhere && name.eq_ignore_ascii_case("authorization")) {
                headers.append((name, value))?;
            }
        }
    }
    for (name, value) in own {
        headers.append((name, value))?;
    }
    if !added.bare {
        for (name, value) in defaults.automatic.iter().filter(|(name, _)| !sent(name)) {
            headers.append((*name, value))?;
        }
    }
    if let Some(cookies) = &added.cookies {
        headers.append(("Cookie", cookies))?;
    }
    if let Some(authorization) = &added.authorization {
        headers.append(("Authorization", authorization))?;
    }
    if let Some(length) = added.content_length {
        headers.append(("Content-Length", length.to_string()))?;
    }
    if let Some(content_type) = added.content_type {
        headers.append(("Content-Type", content_type))?;
    }
    Ok(headers)
}

#[pymethods]
impl Response {
    #[getter]
    fn status(&self) -> u16 {
        self.status
    }

    /// Libraries that check for an aiohttp response get a yes; a script without aiohttp never asks.
    #[getter(__class__)]
    fn class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let modules = py.import("sys")?.getattr("modules")?;
        match modules
            .get_item("aiohttp")
            .and_then(|aiohttp| aiohttp.getattr("ClientResponse"))
        {
            Ok(class) => Ok(class),
            Err(_) => Ok(slf.get_type().into_any()),
        }
    }

    #[getter]
    fn ok(&self) -> bool {
        self.status < 400
    }

    #[getter]
    fn method(&self) -> &str {
        self.method.as_str()
    }

    #[getter]
    fn reason<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        text(py, codec::reason(self.head()))
    }

    #[getter]
    fn version<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("aiohttp")?
            .getattr("HttpVersion")?
            .call1(self.version)
    }

    #[getter]
    fn content_type(&self) -> String {
        self.media_type()
    }

    #[getter]
    fn charset(&self) -> Option<String> {
        codec::header(self.head(), "content-type")
            .and_then(|value| charset(&latin1(value)).map(str::to_owned))
    }

    #[getter]
    fn host(&self) -> &str {
        &self.url.target.host
    }

    /// Case-insensitive, as a `CIMultiDictProxy`.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(headers) = &self.state.borrow(py).headers {
            return Ok(headers.bind(py).clone());
        }
        let multidict = py.import("multidict")?;
        let made = multidict.getattr("CIMultiDict")?.call0()?;
        let add = made.getattr("add")?;
        for (name, value) in codec::headers(self.head()) {
            add.call1((latin1(name), text(py, value)?))?;
        }
        let proxy = multidict.getattr("CIMultiDictProxy")?.call1((made,))?;
        self.state.borrow_mut(py).headers = Some(proxy.clone().unbind());
        Ok(proxy)
    }

    #[getter]
    fn raw_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let pairs: Vec<_> = codec::headers(self.head())
            .into_iter()
            .map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value)))
            .collect();
        PyTuple::new(py, pairs)
    }

    #[getter]
    fn url<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(url) = &self.state.borrow(py).url {
            return Ok(url.bind(py).clone());
        }
        let keywords = PyDict::new(py);
        keywords.set_item("encoded", true)?;
        let url = py
            .import("yarl")?
            .getattr("URL")?
            .call((&*self.url.text,), Some(&keywords))?;
        self.state.borrow_mut(py).url = Some(url.clone().unbind());
        Ok(url)
    }

    #[getter]
    fn real_url<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(url) = &self.state.borrow(py).real_url {
            return Ok(url.bind(py).clone());
        }
        match &self.fragment {
            None => self.url(py),
            Some(fragment) => {
                let keywords = PyDict::new(py);
                keywords.set_item("encoded", true)?;
                let text = format!("{}#{fragment}", self.url.text);
                py.import("yarl")?
                    .getattr("URL")?
                    .call((text,), Some(&keywords))
            }
        }
    }

    #[setter(_real_url)]
    fn set_real_url(&self, py: Python<'_>, url: Option<Py<PyAny>>) {
        self.state.borrow_mut(py).real_url = url;
    }

    #[getter]
    fn history<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(history) = &self.state.borrow(py).history {
            return Ok(history.bind(py).clone());
        }
        Ok(PyTuple::new(py, &self.hops)?.into_any())
    }

    #[getter(_history)]
    fn private_history<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.history(py)
    }

    #[setter(_history)]
    fn set_history(&self, py: Python<'_>, history: Option<Py<PyAny>>) {
        self.state.borrow_mut(py).history = history;
    }

    /// `aiohttp.RequestInfo` of the request that was answered.
    #[getter]
    fn request_info<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let headers = sent_headers(
            py,
            this.session.get(),
            &this.url,
            &this.sent_headers,
            &this.added,
        )?;
        py.import("molotov._errors")?.call_method1(
            "request_info",
            (
                slf.getattr("url")?,
                this.method.as_str(),
                headers,
                slf.getattr("real_url")?,
            ),
        )
    }

    /// Whether the response holds no connection any more.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).closed
    }

    /// Whether it was given up: by leaving `async with`, by `release()` or `close()`.
    #[getter(_released)]
    fn released(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).left
    }

    /// What `read()` gave; `None` before.
    #[getter(_body)]
    fn private_body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let read = {
            let state = self.state.borrow(py);
            state.read
                && !state.consumed
                && !matches!(state.stored, Stored::Failed(_) | Stored::Streaming(_))
        };
        if read {
            self.bytes(py).map(Some)
        } else {
            Ok(None)
        }
    }

    #[getter(_loop)]
    fn event_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.engine.event_loop(py)
    }

    #[getter(_session)]
    fn session(&self, py: Python<'_>) -> Py<Session> {
        self.session.clone_ref(py)
    }

    /// The whole body.
    fn read<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::begin(slf, Then::Bytes)
    }

    /// The body as text; the encoding is the response's own unless given.
    #[pyo3(signature = (encoding=None, errors="strict"))]
    fn text<'py>(
        slf: &Bound<'py, Self>,
        encoding: Option<String>,
        errors: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::begin(
            slf,
            Then::Text {
                encoding,
                errors: errors.to_owned(),
            },
        )
    }

    /// The body as JSON; `ContentTypeError` when the media type is another (`content_type=None` accepts any).
    #[pyo3(signature = (*, encoding=None, loads=None, content_type=Some("application/json")))]
    fn json<'py>(
        slf: &Bound<'py, Self>,
        encoding: Option<String>,
        loads: Option<Py<PyAny>>,
        content_type: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(expected) = content_type.filter(|expected| !expected.is_empty()) {
            let this = slf.get();
            let accepted = if expected == "application/json" {
                this.is_json()
            } else {
                this.content_type_header().contains(expected)
            };
            if !accepted {
                // aiohttp reads the body first: a broken one is the error then, and it stays readable.
                return slf
                    .py()
                    .import("molotov._response")?
                    .call_method1("wrong_content_type", (slf, this.content_type_header()));
            }
        }
        Self::begin(slf, Then::Json { encoding, loads })
    }

    /// The next piece of the body; empty at its end. What has to be received first has at most `most` bytes.
    fn _next_chunk<'py>(slf: &Bound<'py, Self>, most: usize) -> PyResult<Bound<'py, PyAny>> {
        Self::begin(slf, Then::Chunk(most))
    }

    /// The next piece of a body under way if it is there already; empty at its end. `None` also for whatever
    /// `_next_chunk()` has to raise, and when the time for the whole request is over.
    fn _chunk_now<'py>(
        &self,
        py: Python<'py>,
        most: usize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let body = match &self.state.borrow(py).stored {
            Stored::Streaming(body) => Arc::clone(body),
            _ => return Ok(None),
        };
        if body.is_expired(py) {
            return Ok(None);
        }
        match body.take_piece(py, most)? {
            Available::Data { data, complete } => {
                self.took_piece(py, &body, complete);
                Ok(Some(data))
            }
            Available::NotYet | Available::Failed(_) => Ok(None),
        }
    }

    /// Whether the time for the whole request ran out while the body is on its way.
    fn _expired(&self, py: Python<'_>) -> bool {
        match &self.state.borrow(py).stored {
            Stored::Streaming(body) => body.is_expired(py),
            _ => false,
        }
    }

    /// Bytes of the body before decompression as far as it has come; `None` when it is not compressed.
    fn _encoded_bytes(&self, py: Python<'_>) -> Option<u64> {
        let state = self.state.borrow(py);
        match &state.stored {
            Stored::Streaming(body) => body.encoded_bytes(py),
            _ => state.encoded_bytes,
        }
    }

    /// Where chunks of the wire end in the body, counted from its first byte: those not told before.
    fn _chunk_ends(&self, py: Python<'_>) -> Vec<u64> {
        let mut state = self.state.borrow_mut(py);
        match &state.stored {
            Stored::Streaming(body) => body.take_ends(py),
            _ => std::mem::take(&mut state.ends),
        }
    }

    /// Gives the connection back; a body that was not read is lost.
    fn release<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Ready>> {
        slf.get().leave(slf.py());
        Ready::none(slf.py())
    }

    /// Ends the response.
    fn close(&self, py: Python<'_>) {
        self.leave(py);
    }

    /// `ClientResponseError` for statuses from 400 on.
    fn raise_for_status(slf: &Bound<'_, Self>) -> PyResult<()> {
        let checked = Self::check_status(slf);
        let keep = {
            let state = slf.get().state.borrow(slf.py());
            state.read || state.in_context
        };
        if checked.is_err() && !keep {
            slf.get().leave(slf.py());
        }
        checked
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Ready>> {
        slf.get().enter(slf.py());
        Ready::settle(slf.py(), Ok(slf.clone().into_any()))
    }

    #[pyo3(signature = (kind=None, value=None, traceback=None))]
    fn __aexit__<'py>(
        &self,
        py: Python<'py>,
        kind: Option<&Bound<'py, PyAny>>,
        value: Option<&Bound<'py, PyAny>>,
        traceback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Ready>> {
        let _ = (kind, value, traceback);
        self.leave(py);
        Ready::none(py)
    }

    fn __repr__(&self) -> String {
        let reason = latin1(codec::reason(self.head()));
        format!(
            "<ClientResponse({}) [{} {reason}]>",
            self.url.text, self.status
        )
    }
}
