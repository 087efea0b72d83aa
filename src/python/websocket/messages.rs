//! What a websocket's reader gets, as plain data and as aiohttp's own objects.
//!
//! The objects' classes come from `molotov._websocket`, which knows the differences between aiohttp's
//! versions; they are looked up once.

use crate::http::websocket::{Failure, Message};
use crate::python::awaitable::Outcome;
use crate::python::{ffi, json};
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyType};

/// Why a websocket failed; becomes an exception only when somebody looks at it.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The server broke the protocol, or its compression did.
    Frame(Failure),
    /// The server closed the connection.
    Eof,
    /// The connection is closed on this side.
    Gone,
    /// The connection broke while something was to be sent.
    Lost,
    /// It took too long.
    Timeout,
    /// Nothing came for as long as the session's `sock_read`.
    Silence,
    /// A ping was not answered within this many seconds.
    NoPong(f64),
}

impl Trouble {
    pub(super) fn exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let make = |kind: &str, detail: Bound<'py, PyAny>| {
            py.import(intern!(py, "molotov._websocket"))?
                .call_method1(intern!(py, "trouble"), (kind, detail))
        };
        let none = || py.None().into_bound(py);
        match self {
            Self::Frame(Failure::Protocol { code, message }) => make(
                "protocol",
                (*code, message.as_str()).into_pyobject(py)?.into_any(),
            ),
            Self::Frame(Failure::Corrupt(data)) => {
                make("corrupt", PyBytes::new(py, data).into_any())
            }
            Self::Eof => make("eof", none()),
            Self::Gone => make("gone", none()),
            Self::Lost => make("lost", none()),
            Self::Timeout => make("timeout", none()),
            Self::Silence => make("silence", none()),
            Self::NoPong(seconds) => make("no_pong", seconds.into_pyobject(py)?.into_any()),
        }
    }

    pub(super) fn into_error(self, py: Python<'_>) -> PyErr {
        self.exception(py)
            .map_or_else(|error| error, PyErr::from_value)
    }
}

/// A message, aiohttp's own ones included.
///
/// What is long is an object of Python's already, so that it is copied once; making one runs no other code.
pub(super) enum Item {
    Text(Py<PyString>),
    RawText(Py<PyBytes>),
    Binary(Py<PyBytes>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close {
        code: u16,
        reason: String,
    },
    /// `close()` was called by another task.
    Closing,
    Closed,
    /// The reader is to be told of a failure. `kept`: it is what `exception()` gives, too.
    Error {
        trouble: Trouble,
        kept: bool,
    },
}

impl Item {
    /// The item for a message, and the bytes that it counts for in the queue.
    pub(super) fn new(py: Python<'_>, message: Message<'_>) -> (Self, usize) {
        let bytes = |data: &[u8]| (PyBytes::new(py, data).unbind(), data.len());
        match message {
            Message::Text(text) => {
                let made = PyString::new(py, &text).unbind();
                (Self::Text(made), text.len())
            }
            Message::RawText(data) => {
                let (made, size) = bytes(&data);
                (Self::RawText(made), size)
            }
            Message::Binary(data) => {
                let (made, size) = bytes(&data);
                (Self::Binary(made), size)
            }
            Message::Ping(data) => {
                let size = data.len();
                (Self::Ping(data.into_owned()), size)
            }
            Message::Pong(data) => {
                let size = data.len();
                (Self::Pong(data.into_owned()), size)
            }
            Message::Close { code, reason } => (Self::Close { code, reason }, 0),
        }
    }
}

/// aiohttp's classes and constants.
struct Types {
    message: Py<PyType>,
    raw_text_message: Py<PyType>,
    text: Py<PyAny>,
    binary: Py<PyAny>,
    ping: Py<PyAny>,
    pong: Py<PyAny>,
    close: Py<PyAny>,
    closing: Py<PyAny>,
    closed: Py<PyAny>,
    error: Py<PyAny>,
}

impl Types {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static TYPES: PyOnceLock<Types> = PyOnceLock::new();
        TYPES.get_or_try_init(py, || {
            let module = py.import("molotov._websocket")?;
            let kinds = module.getattr("WSMsgType")?;
            let kind = |name: &str| kinds.getattr(name).map(Bound::unbind);
            Ok(Self {
                message: module.getattr("WSMessage")?.cast_into()?.unbind(),
                raw_text_message: module.getattr("WSMessageTextBytes")?.cast_into()?.unbind(),
                text: kind("TEXT")?,
                binary: kind("BINARY")?,
                ping: kind("PING")?,
                pong: kind("PONG")?,
                close: kind("CLOSE")?,
                closing: kind("CLOSING")?,
                closed: kind("CLOSED")?,
                error: kind("ERROR")?,
            })
        })
    }
}

/// The `WSMessage` for an item; `error` is the exception of [`Item::Error`].
fn message<'py>(
    py: Python<'py>,
    item: Item,
    error: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let types = Types::get(py)?;
    let none = || py.None().into_bound(py);
    let empty = || intern!(py, "").clone().into_any();
    let bytes = |data: &[u8]| PyBytes::new(py, data).into_any();
    let (kind, data, extra) = match item {
        Item::Text(text) => (&types.text, text.into_bound(py).into_any(), empty()),
        Item::RawText(data) => {
            let data = data.into_bound(py).into_any();
            let parts = [types.text.bind(py).clone(), data, empty()];
            return ffi::named_tuple(types.raw_text_message.bind(py), parts);
        }
        Item::Binary(data) => (&types.binary, data.into_bound(py).into_any(), empty()),
        Item::Ping(data) => (&types.ping, bytes(&data), empty()),
        Item::Pong(data) => (&types.pong, bytes(&data), empty()),
        Item::Close { code, reason } => (
            &types.close,
            code.into_pyobject(py)?.into_any(),
            PyString::new(py, &reason).into_any(),
        ),
        Item::Closing => (&types.closing, none(), none()),
        Item::Closed => (&types.closed, none(), none()),
        Item::Error { .. } => (&types.error, error.cloned().unwrap_or_else(none), none()),
    };
    let parts = [kind.bind(py).clone(), data, extra];
    ffi::named_tuple(types.message.bind(py), parts)
}

/// What is made of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Message,
    Text,
    Bytes,
    Json,
    /// The next turn of `async for`.
    Next,
    /// Whether this call closed the websocket.
    Flag,
    Nothing,
}

/// What an operation came to.
pub(super) enum End {
    Item(Item),
    Failed(Trouble),
    Closed(bool),
}

/// The outcome of an operation. `error` is the exception of [`Item::Error`].
pub(super) fn outcome(
    py: Python<'_>,
    then: Then,
    end: End,
    error: Option<&Bound<'_, PyAny>>,
) -> Outcome {
    let item = match end {
        _ if then == Then::Nothing && !matches!(end, End::Failed(_)) => {
            return Outcome::Value(py.None());
        }
        End::Item(item) => item,
        End::Failed(trouble) => return Outcome::Error(trouble.into_error(py)),
        End::Closed(did) => {
            let did = did.into_pyobject(py).map(|did| did.to_owned().into_any());
            return settled(did.map_err(PyErr::from));
        }
    };
    settled(match (then, item) {
        (Then::Text, Item::Text(text)) => Ok(text.into_bound(py).into_any()),
        (Then::Text, Item::RawText(data)) | (Then::Bytes, Item::Binary(data)) => {
            Ok(data.into_bound(py).into_any())
        }
        (Then::Json, Item::Text(text)) => {
            let text = text.bind(py);
            // What was decoded from UTF-8 is encoded again without fail.
            let data = text.to_str().map(str::as_bytes).unwrap_or_default();
            parsed(py, data, text)
        }
        (Then::Json, Item::RawText(data)) => parsed(py, data.as_bytes(py), data.bind(py)),
        (Then::Text | Then::Json, item) => Err(unexpected(py, item, error, "TEXT")),
        (Then::Bytes, item) => Err(unexpected(py, item, error, "BINARY")),
        (Then::Next, Item::Close { .. } | Item::Closing | Item::Closed) => {
            Err(PyStopAsyncIteration::new_err(()))
        }
        (_, item) => message(py, item, error),
    })
}

fn settled(result: PyResult<Bound<'_, PyAny>>) -> Outcome {
    match result {
        Ok(value) => Outcome::Value(value.unbind()),
        Err(error) => Outcome::Error(error),
    }
}

/// `json.loads`, whose errors and oddities are its own.
fn parsed<'py>(
    py: Python<'py>,
    data: &[u8],
    original: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    match json::loads(py, data) {
        Some(value) => Ok(value),
        None => py
            .import(intern!(py, "json"))?
            .call_method1(intern!(py, "loads"), (original,)),
    }
}

fn unexpected(py: Python<'_>, item: Item, error: Option<&Bound<'_, PyAny>>, wanted: &str) -> PyErr {
    let made = message(py, item, error).and_then(|message| {
        py.import("molotov._websocket")?
            .call_method1("unexpected", (message, wanted))
    });
    made.map_or_else(|error| error, PyErr::from_value)
}
