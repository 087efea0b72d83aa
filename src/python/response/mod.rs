//! The response as scripts see it: aiohttp's `ClientResponse`, natively.
//!
//! What most scripts use is here. Rarely used attributes are functions in `molotov._response`, reached
//! through [`super::cold`]. The head is kept as it came and parsed again when headers are asked for.
//!
//! Here are its parts and its attributes, which for Python are one block per class. Its body is read in `reading`,
//! its `Content-Type` in `media`, and the headers of its request are put together in `sent`.

mod media;
mod reading;
mod sent;

pub(crate) use reading::{BodyRead, Then};
pub(crate) use sent::sent_headers;

use self::media::{charset, latin1, text};
use crate::http::codec::{self, Span};
use crate::http::error::Error;
use crate::python::arguments::Method;
use crate::python::awaitable::Ready;
use crate::python::body::{Available, Body};
use crate::python::connection::{Arrived, Content, Upgraded};
use crate::python::errors;
use crate::python::event_loop::Engine;
use crate::python::ffi::GilCell;
use crate::python::request::Added;
use crate::python::session::Session;
use crate::python::urls::UrlEntry;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
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
            .filter(|charset| !charset.is_empty())
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
