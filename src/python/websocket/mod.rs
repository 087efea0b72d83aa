//! A websocket as scripts see it: aiohttp's `ClientWebSocketResponse`, natively.
//!
//! The handshake is an ordinary request, made and checked by `molotov._websocket`; its 101 answer hands the
//! connection over. From there on:
//!
//! | file | owns |
//! |---|---|
//! | `channel` | the socket and flow control |
//! | `clock` | time limits and heartbeats |
//! | `dialogue` | what a message means: receiving, answering, closing |
//! | `operation` | a script's `receive()`, `send_str()`, `close()` |
//! | `messages` | aiohttp's message objects and exceptions |

mod channel;
mod clock;
mod dialogue;
mod messages;
mod operation;

pub(crate) use channel::Channel;
pub(crate) use operation::{Begun, Operation, Waiting};

use super::awaitable::{Awaitable, Ready, Task};
use super::response::Response;
use channel::Settings;
use dialogue::{Dialogue, Kept};
use messages::Then;
use operation::{Action, Payload, limit};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// See the module's text.
#[pyclass(
    frozen,
    dict,
    weakref,
    name = "ClientWebSocketResponse",
    module = "molotov._core"
)]
pub(crate) struct WebSocket {
    response: Py<Response>,
    channel: Arc<Channel>,
    protocol: Option<String>,
    compress: u8,
    client_notakeover: bool,
}

impl WebSocket {
    fn operation<'py>(slf: &Bound<'py, Self>, action: Action) -> PyResult<Bound<'py, Awaitable>> {
        let operation = Operation {
            socket: slf.clone().unbind(),
            action,
        };
        let engine = Arc::clone(&slf.get().channel.engine);
        Awaitable::create(slf.py(), engine, Task::WebSocket(operation))
    }

    fn receiving<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<Py<PyAny>>,
        then: Then,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::operation(slf, Action::Receive { timeout, then })
    }

    fn sending<'py>(
        slf: &Bound<'py, Self>,
        payload: Payload,
        code: Option<Py<PyAny>>,
        compress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        let code = code.unwrap_or_else(|| slf.py().None());
        let action = Action::Send {
            payload,
            code,
            compress,
        };
        Self::operation(slf, action)
    }

    fn control<'py>(
        slf: &Bound<'py, Self>,
        message: Option<Py<PyAny>>,
        code: u8,
    ) -> PyResult<Bound<'py, Awaitable>> {
        let py = slf.py();
        let message = match message {
            Some(message) => message,
            None => intern_bytes(py),
        };
        let code = code.into_pyobject(py)?.into_any().unbind();
        Self::sending(slf, Payload::Frame(message), Some(code), None)
    }
}

fn intern_bytes(py: Python<'_>) -> Py<PyAny> {
    pyo3::types::PyBytes::new(py, b"").into_any().unbind()
}

/// An address as Python's socket module has it.
fn address<'py>(py: Python<'py>, address: &SocketAddr) -> PyResult<Bound<'py, PyTuple>> {
    let host = address.ip().to_string();
    match address {
        SocketAddr::V4(address) => (host, address.port()).into_pyobject(py),
        SocketAddr::V6(address) => {
            (host, address.port(), address.flowinfo(), address.scope_id()).into_pyobject(py)
        }
    }
}

#[pymethods]
impl WebSocket {
    /// Takes over the connection of a 101 `response`. Times are in seconds; a limit of 0 bytes is none.
    #[new]
    #[pyo3(signature = (response, *, protocol=None, receive_timeout=None, close_timeout=None, read_timeout=None, autoclose=true, autoping=true, heartbeat=None, compress=0, client_notakeover=false, max_msg_size=4_194_304, decode_text=true))]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "keyword-only in Python"
    )]
    fn new(
        response: &Bound<'_, Response>,
        protocol: Option<String>,
        receive_timeout: Option<f64>,
        close_timeout: Option<f64>,
        read_timeout: Option<f64>,
        autoclose: bool,
        autoping: bool,
        heartbeat: Option<f64>,
        compress: u8,
        client_notakeover: bool,
        max_msg_size: usize,
        decode_text: bool,
    ) -> PyResult<Self> {
        let py = response.py();
        let upgraded = response.get().take_upgraded(py).ok_or_else(|| {
            PyRuntimeError::new_err("the response has no connection to take over")
        })?;
        let settings = Settings {
            max_message_bytes: max_msg_size,
            decode_text,
            compress,
            no_takeover: client_notakeover,
            silence: limit(read_timeout),
            heartbeat,
        };
        let close_timeout = close_timeout
            .map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
        let dialogue = Dialogue {
            reader: None,
            closed: false,
            closing: false,
            close_sent: false,
            close_code: None,
            exception: None,
            receive_timeout: limit(receive_timeout),
            close_timeout,
            autoclose,
            autoping,
        };
        let engine = response.get().engine();
        Ok(Self {
            response: response.clone().unbind(),
            channel: Channel::open(py, engine, *upgraded, &settings, dialogue),
            protocol,
            compress,
            client_notakeover,
        })
    }

    /// Whether the conversation is over.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        self.channel.state.borrow(py).dialogue.closed
    }

    /// The server's close code, or the one that stands for what went wrong; `None` before the end.
    #[getter]
    fn close_code<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(code) = self.channel.state.borrow(py).dialogue.close_code else {
            return Ok(None);
        };
        if !code.named {
            return Ok(Some(code.number.into_pyobject(py)?.into_any()));
        }
        let module = py.import(intern!(py, "molotov._websocket"))?;
        let named = module.getattr("WSCloseCode")?.call1((code.number,))?;
        Ok(Some(named))
    }

    /// The subprotocol that was agreed on.
    #[getter]
    fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Bits of the compression window; 0 is no compression.
    #[getter]
    fn compress(&self) -> u8 {
        self.compress
    }

    /// Whether each message is compressed by itself.
    #[getter]
    fn client_notakeover(&self) -> bool {
        self.client_notakeover
    }

    /// The answer to the handshake.
    #[getter(_response)]
    fn handshake(&self, py: Python<'_>) -> Py<Response> {
        self.response.clone_ref(py)
    }

    /// Libraries that check for aiohttp's class get a yes.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import(intern!(py, "aiohttp"))?
            .getattr(intern!(py, "ClientWebSocketResponse"))
    }

    /// Of what asyncio's transports tell, `peername` and `sockname`.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let addresses = self.channel.addresses(py);
        match (name, addresses) {
            ("sockname", Some((own, _))) => Ok(Some(address(py, &own)?.into_any())),
            ("peername", Some((_, peer))) => Ok(Some(address(py, &peer)?.into_any())),
            _ => Ok(default),
        }
    }

    /// What ended the conversation, if it was no close frame.
    fn exception<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let trouble = match &self.channel.state.borrow(py).dialogue.exception {
            None => return Ok(None),
            Some(Kept::Exception(exception)) => return Ok(Some(exception.bind(py).clone())),
            Some(Kept::Trouble(trouble)) => trouble.clone(),
        };
        let exception = trouble.exception(py)?;
        self.channel.state.borrow_mut(py).dialogue.keep(&exception);
        Ok(Some(exception))
    }

    /// Sends a ping.
    #[pyo3(signature = (message=None))]
    fn ping<'py>(
        slf: &Bound<'py, Self>,
        message: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::control(slf, message, crate::http::websocket::opcode::PING)
    }

    /// Sends a pong, asked for or not.
    #[pyo3(signature = (message=None))]
    fn pong<'py>(
        slf: &Bound<'py, Self>,
        message: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::control(slf, message, crate::http::websocket::opcode::PONG)
    }

    /// Sends one whole frame.
    #[pyo3(signature = (message, opcode, compress=None))]
    fn send_frame<'py>(
        slf: &Bound<'py, Self>,
        message: Py<PyAny>,
        opcode: Py<PyAny>,
        compress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::sending(slf, Payload::Frame(message), Some(opcode), compress)
    }

    /// Sends text.
    #[pyo3(signature = (data, compress=None))]
    fn send_str<'py>(
        slf: &Bound<'py, Self>,
        data: Py<PyAny>,
        compress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::sending(slf, Payload::Text(data), None, compress)
    }

    /// Sends bytes.
    #[pyo3(signature = (data, compress=None))]
    fn send_bytes<'py>(
        slf: &Bound<'py, Self>,
        data: Py<PyAny>,
        compress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::sending(slf, Payload::Bytes(data), None, compress)
    }

    /// Sends a value as JSON text.
    #[pyo3(signature = (data, compress=None, *, dumps=None))]
    fn send_json<'py>(
        slf: &Bound<'py, Self>,
        data: Py<PyAny>,
        compress: Option<Py<PyAny>>,
        dumps: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        let dumps = own_function(slf.py(), dumps, "dumps")?;
        Self::sending(slf, Payload::Json(data, dumps), None, compress)
    }

    /// Sends a value as JSON that `dumps` has made bytes of.
    #[pyo3(signature = (data, compress=None, *, dumps))]
    fn send_json_bytes<'py>(
        slf: &Bound<'py, Self>,
        data: Py<PyAny>,
        compress: Option<Py<PyAny>>,
        dumps: Py<PyAny>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::sending(slf, Payload::JsonBytes(data, dumps), None, compress)
    }

    /// Waits for a message, at most `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn receive<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::receiving(slf, timeout, Then::Message)
    }

    /// Waits for text; anything else is a `TypeError`.
    #[pyo3(signature = (*, timeout=None))]
    fn receive_str<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::receiving(slf, timeout, Then::Text)
    }

    /// Waits for bytes; anything else is a `TypeError`.
    #[pyo3(signature = (*, timeout=None))]
    fn receive_bytes<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        Self::receiving(slf, timeout, Then::Bytes)
    }

    /// Waits for text and parses it.
    #[pyo3(signature = (*, loads=None, timeout=None))]
    fn receive_json<'py>(
        slf: &Bound<'py, Self>,
        loads: Option<Bound<'py, PyAny>>,
        timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        match own_function(py, loads, "loads")? {
            None => Self::receiving(slf, timeout, Then::Json).map(Bound::into_any),
            // The script's function runs where the script does, not where the socket is read.
            Some(loads) => py
                .import("molotov._websocket")?
                .call_method1("receive_json", (slf, loads, timeout)),
        }
    }

    /// Closes the conversation, and waits for the server to agree. False: it was closed already.
    #[pyo3(signature = (*, code=None, message=None))]
    fn close<'py>(
        slf: &Bound<'py, Self>,
        code: Option<Py<PyAny>>,
        message: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        let then = Then::Flag;
        let action = Action::Close {
            code,
            message,
            then,
        };
        Self::operation(slf, action)
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Awaitable>> {
        Self::receiving(slf, None, Then::Next)
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Ready>> {
        Ready::settle(slf.py(), Ok(slf.clone().into_any()))
    }

    #[pyo3(signature = (kind=None, value=None, traceback=None))]
    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        kind: Option<&Bound<'py, PyAny>>,
        value: Option<&Bound<'py, PyAny>>,
        traceback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Awaitable>> {
        let _ = (kind, value, traceback);
        let action = Action::Close {
            code: None,
            message: None,
            then: Then::Nothing,
        };
        Self::operation(slf, action)
    }
}

/// `None` for the standard library's own function, which has a native twin.
fn own_function(
    py: Python<'_>,
    function: Option<Bound<'_, PyAny>>,
    name: &str,
) -> PyResult<Option<Py<PyAny>>> {
    let Some(function) = function else {
        return Ok(None);
    };
    let standard = py.import(intern!(py, "json"))?.getattr(name)?;
    Ok((!function.is(&standard)).then(|| function.unbind()))
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        Python::attach(|py| self.channel.shut(py));
    }
}
