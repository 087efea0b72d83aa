//! Reading a response's body: all of it as bytes, text or JSON, or piece by piece.
//!
//! Owns the wait for what is still on its way, and what is made of the bytes once they are there. Where they wait is
//! [`Body`]'s business, and how text is told from bytes that of [`super::media`].

use super::media::is_utf8;
use super::{Response, Stored};
use crate::http::error::{Error, TimeoutKind};
use crate::python::awaitable::{Awaitable, Outcome, Ready, Task};
use crate::python::body::{Available, Body, Whole};
use crate::python::errors;
use crate::python::json;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::sync::Arc;

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
    /// Waits for the body if need be, then does `then` with it.
    pub(super) fn begin<'py>(slf: &Bound<'py, Self>, then: Then) -> PyResult<Bound<'py, PyAny>> {
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
    pub(super) fn finish<'py>(slf: &Bound<'py, Self>, then: &Then) -> PyResult<Bound<'py, PyAny>> {
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
    pub(super) fn took_piece(&self, py: Python<'_>, body: &Body, last: bool) {
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
    pub(super) fn broke(&self, py: Python<'_>, error: Error) -> PyErr {
        // aiohttp's timer is told once; what the connection met stays with the body.
        let passing = matches!(error, Error::Timeout(TimeoutKind::Total));
        self.state.borrow_mut(py).stored = if passing {
            Stored::Released
        } else {
            Stored::Failed(error.clone())
        };
        errors::of(py, error, &self.url, &self.method, None)
    }

    pub(super) fn has_left(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.left && !matches!(state.stored, Stored::Failed(_))
    }

    pub(super) fn with_body<R>(
        &self,
        py: Python<'_>,
        use_it: impl FnOnce(&[u8]) -> R,
    ) -> PyResult<R> {
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

    pub(super) fn bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
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

    pub(super) fn decode<'py>(
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
}
