//! What a script does with a websocket: receive, send, close, each begun when it is awaited.

use super::WebSocket;
use super::channel::State;
use super::dialogue::{CloseCode, Reader, Stage};
use super::messages::{End, Item, Then, Trouble};
use crate::http::websocket::opcode;
use crate::python::awaitable::{Awaitable, Outcome};
use crate::python::json;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};
use std::sync::Arc;
use std::time::Duration;

/// What to send.
pub(super) enum Payload {
    Text(Py<PyAny>),
    Bytes(Py<PyAny>),
    /// Bytes of any kind, as `send_frame` and the pings take them.
    Frame(Py<PyAny>),
    /// To be turned into text by this function, or by `json.dumps`.
    Json(Py<PyAny>, Option<Py<PyAny>>),
    /// To be turned into bytes by this function.
    JsonBytes(Py<PyAny>, Py<PyAny>),
}

pub(super) enum Action {
    Receive {
        timeout: Option<Py<PyAny>>,
        then: Then,
    },
    Send {
        payload: Payload,
        code: Py<PyAny>,
        compress: Option<Py<PyAny>>,
    },
    Close {
        code: Option<Py<PyAny>>,
        message: Option<Py<PyAny>>,
        then: Then,
    },
}

/// An action on a websocket that has not begun.
pub(crate) struct Operation {
    pub(super) socket: Py<WebSocket>,
    pub(super) action: Action,
}

/// How far an operation came without waiting.
pub(crate) enum Begun {
    Done(Outcome),
    Waiting(Waiting),
}

/// What a begun operation waits for.
#[derive(Clone)]
enum For {
    /// A message, or the answer to a close frame.
    Server,
    /// Room in the socket.
    Socket,
    /// That another task's `receive()` has heard of the end; then this close frame goes out.
    OtherReader(Arc<(PyResult<Vec<u8>>, Then)>),
}

/// An operation that waits.
pub(crate) struct Waiting {
    socket: Py<WebSocket>,
    cause: For,
}

impl Operation {
    /// Does what can be done at once.
    pub(crate) fn begin(self, awaitable: &Bound<'_, Awaitable>) -> Begun {
        let py = awaitable.py();
        let socket = self.socket.bind(py);
        match self.action {
            Action::Receive { timeout, then } => receive(socket, awaitable, timeout, then),
            Action::Send {
                payload,
                code,
                compress,
            } => match send(socket, &payload, &code, compress.as_ref()) {
                Ok(true) => {
                    socket.get().channel.add_drain(awaitable);
                    waiting(socket, For::Socket)
                }
                Ok(false) => Begun::Done(Outcome::Value(py.None())),
                Err(error) => Begun::Done(Outcome::Error(error)),
            },
            Action::Close {
                code,
                message,
                then,
            } => {
                let payload = close_payload(py, code.as_ref(), message.as_ref());
                close(socket, awaitable, payload, then)
            }
        }
    }
}

fn waiting(socket: &Bound<'_, WebSocket>, cause: For) -> Begun {
    Begun::Waiting(Waiting {
        socket: socket.clone().unbind(),
        cause,
    })
}

/// A timeout in seconds: none and zero are no limit, as for aiohttp's `receive`.
pub(super) fn limit(seconds: Option<f64>) -> Option<Duration> {
    let seconds = seconds.filter(|seconds| *seconds != 0.0)?;
    Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

fn receive(
    socket: &Bound<'_, WebSocket>,
    awaitable: &Bound<'_, Awaitable>,
    timeout: Option<Py<PyAny>>,
    then: Then,
) -> Begun {
    let py = socket.py();
    let timeout = match timeout.map(|timeout| timeout.extract::<Option<f64>>(py)) {
        None => None,
        Some(Ok(seconds)) => limit(seconds),
        Some(Err(error)) => return Begun::Done(Outcome::Error(error)),
    };
    let channel = &socket.get().channel;
    let end = {
        let mut guard = channel.state.borrow_mut(py);
        let state = &mut *guard;
        if let Some(Reader {
            stage: Stage::Message { .. },
            ..
        }) = state.dialogue.reader
        {
            drop(guard);
            let message = "Concurrent call to receive() is not allowed";
            return Begun::Done(Outcome::Error(PyRuntimeError::new_err(message)));
        }
        let mut stage = Stage::message(timeout.or(state.dialogue.receive_timeout));
        let end = if state.dialogue.closed {
            Some(End::Item(Item::Closed))
        } else if state.dialogue.closing {
            state.close_with(
                &mut stage,
                &1000_u16.to_be_bytes(),
                Some(End::Item(Item::Closed)),
            )
        } else {
            state.advance(&mut stage)
        };
        if end.is_none() {
            wait_for_server(state, awaitable, stage, then);
        }
        end
    };
    match end {
        Some(end) => Begun::Done(channel.conclude(py, then, end)),
        None => waiting(socket, For::Server),
    }
}

fn wait_for_server(state: &mut State, awaitable: &Bound<'_, Awaitable>, stage: Stage, then: Then) {
    let awaitable = awaitable.clone().unbind();
    state.dialogue.reader = Some(Reader {
        awaitable,
        stage,
        then,
    });
    if let Some(due) = state.dialogue.deadline() {
        state.arm(due);
    }
}

/// The payload of a close frame.
fn close_payload(
    py: Python<'_>,
    code: Option<&Py<PyAny>>,
    message: Option<&Py<PyAny>>,
) -> PyResult<Vec<u8>> {
    let plain = code.map_or(Some(1000), |code| code.extract::<u16>(py).ok());
    match (plain, message) {
        (Some(code), None) => Ok(code.to_be_bytes().to_vec()),
        _ => py
            .import("molotov._websocket")?
            .call_method1("close_payload", (code, message))?
            .extract(),
    }
}

fn close(
    socket: &Bound<'_, WebSocket>,
    awaitable: &Bound<'_, Awaitable>,
    payload: PyResult<Vec<u8>>,
    then: Then,
) -> Begun {
    let py = socket.py();
    let channel = &socket.get().channel;
    let other = {
        let mut state = channel.state.borrow_mut(py);
        let receiving = matches!(
            state.dialogue.reader,
            Some(Reader {
                stage: Stage::Message { .. },
                ..
            })
        );
        if receiving && !state.dialogue.closing {
            state.set_closing();
            state.dialogue.reader.take()
        } else {
            None
        }
    };
    let Some(reader) = other else {
        return finish_close(socket, awaitable, payload, then);
    };
    // The other task hears of it first: both are resumed by the loop, in this order.
    let outcome = channel.conclude(py, reader.then, End::Item(Item::Closing));
    Awaitable::resolve_soon(reader.awaitable.bind(py), outcome);
    let scheduled = awaitable
        .get_type()
        .getattr(intern!(py, "_go_on"))
        .and_then(|go_on| channel.engine.call_soon(&go_on, awaitable));
    match scheduled {
        Ok(()) => waiting(socket, For::OtherReader(Arc::new((payload, then)))),
        Err(error) => Begun::Done(Outcome::Error(error)),
    }
}

fn finish_close(
    socket: &Bound<'_, WebSocket>,
    awaitable: &Bound<'_, Awaitable>,
    payload: PyResult<Vec<u8>>,
    then: Then,
) -> Begun {
    let py = socket.py();
    let channel = &socket.get().channel;
    let payload = match payload {
        Ok(payload) => payload,
        Err(error) => {
            let did = {
                let mut state = channel.state.borrow_mut(py);
                let did = !state.dialogue.closed;
                if did {
                    state.dialogue.close_sent = true;
                    state.close_failed(Trouble::Gone);
                }
                did
            };
            if did {
                let error = error.into_value(py).into_bound(py).into_any();
                channel.state.borrow_mut(py).dialogue.keep(&error);
            }
            return Begun::Done(channel.conclude(py, then, End::Closed(did)));
        }
    };
    let end = {
        let mut state = channel.state.borrow_mut(py);
        let mut stage = Stage::message(None);
        let end = state.close_with(&mut stage, &payload, None);
        if end.is_none() {
            wait_for_server(&mut state, awaitable, stage, then);
        }
        end
    };
    match end {
        Some(end) => Begun::Done(channel.conclude(py, then, end)),
        None => waiting(socket, For::Server),
    }
}

/// Sends one frame. True when the sender should wait for the socket.
fn send(
    socket: &Bound<'_, WebSocket>,
    payload: &Payload,
    code: &Py<PyAny>,
    compress: Option<&Py<PyAny>>,
) -> PyResult<bool> {
    let py = socket.py();
    match payload {
        Payload::Text(data) => send_text(socket, data.bind(py), opcode::TEXT, compress),
        Payload::Bytes(data) => {
            let data = data.bind(py);
            if let Ok(data) = data.cast::<PyBytes>() {
                return transmit(socket, opcode::BINARY, data.as_bytes(), compress);
            }
            if data.is_instance_of::<PyByteArray>() || data.is_instance_of::<PyMemoryView>() {
                return transmit(socket, opcode::BINARY, &as_bytes(data)?, compress);
            }
            Err(wrong_type("byte-ish", data))
        }
        Payload::Frame(data) => {
            let code = match code.extract::<u8>(py) {
                Ok(code) => code,
                Err(error) => return Err(unpackable(py, code).unwrap_or(error)),
            };
            let data = data.bind(py);
            if data.is_instance_of::<PyString>() {
                let message = "string argument without an encoding";
                return Err(PyTypeError::new_err(message));
            }
            transmit(socket, code, &as_bytes(data)?, compress)
        }
        Payload::Json(data, None) => {
            let text = json::dumps(data.bind(py))?;
            transmit(socket, opcode::TEXT, &text, compress)
        }
        Payload::Json(data, Some(dumps)) => {
            let text = dumps.bind(py).call1((data,))?;
            send_text(socket, &text, opcode::TEXT, compress)
        }
        Payload::JsonBytes(data, dumps) => {
            let data = dumps.bind(py).call1((data,))?.unbind();
            send(socket, &Payload::Bytes(data), code, compress)
        }
    }
}

fn send_text(
    socket: &Bound<'_, WebSocket>,
    text: &Bound<'_, PyAny>,
    code: u8,
    compress: Option<&Py<PyAny>>,
) -> PyResult<bool> {
    match text.cast::<PyString>() {
        Ok(text) => transmit(socket, code, text.to_str()?.as_bytes(), compress),
        Err(_) => Err(wrong_type("str", text)),
    }
}

fn wrong_type(wanted: &str, data: &Bound<'_, PyAny>) -> PyErr {
    match data.get_type().repr() {
        Ok(kind) => PyTypeError::new_err(format!("data argument must be {wanted} ({kind})")),
        Err(error) => error,
    }
}

fn as_bytes(data: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(data) = data.cast::<PyBytes>() {
        return Ok(data.as_bytes().to_vec());
    }
    PyMemoryView::from(data)?
        .call_method0(intern!(data.py(), "tobytes"))?
        .extract()
}

/// The error of an opcode that is no byte.
fn unpackable(py: Python<'_>, code: &Py<PyAny>) -> Option<PyErr> {
    let packed = py.import("struct").ok()?.call_method1("pack", ("!B", code));
    packed.err()
}

fn transmit(
    socket: &Bound<'_, WebSocket>,
    code: u8,
    payload: &[u8],
    compress: Option<&Py<PyAny>>,
) -> PyResult<bool> {
    let py = socket.py();
    let bits = match compress {
        None => None,
        Some(compress) => {
            let bits = compress.bind(py);
            if bits.is_truthy()? {
                let bits = bits
                    .extract::<u8>()
                    .ok()
                    .filter(|bits| (9..=15).contains(bits));
                let invalid = || PyValueError::new_err("Invalid initialization option");
                // Control frames are never compressed, whatever was asked for.
                if code >= opcode::FIRST_CONTROL {
                    None
                } else {
                    Some(bits.ok_or_else(invalid)?)
                }
            } else {
                None
            }
        }
    };
    let channel = &socket.get().channel;
    let sent = {
        let mut outbox = channel.engine.outbox.borrow_mut(py);
        let mut state = channel.state.borrow_mut(py);
        state.send(&mut outbox, code, payload, bits)
    };
    sent.map_err(|trouble| trouble.into_error(py))
}

impl Waiting {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            socket: self.socket.clone_ref(py),
            cause: self.cause.clone(),
        }
    }

    /// The reader of another task has been told of the end: now it is this one's turn.
    pub(crate) fn go_on(&self, awaitable: &Bound<'_, Awaitable>) {
        let py = awaitable.py();
        let For::OtherReader(what) = &self.cause else {
            return;
        };
        let (payload, then) = &**what;
        let payload = match payload {
            Ok(payload) => Ok(payload.clone()),
            Err(error) => Err(error.clone_ref(py)),
        };
        let socket = self.socket.bind(py);
        match finish_close(socket, awaitable, payload, *then) {
            Begun::Done(outcome) => Awaitable::resolve(awaitable, outcome),
            Begun::Waiting(waiting) => Awaitable::wait_for(awaitable, waiting),
        }
    }

    /// Nobody waits any longer. `cancelled`: by a cancellation, which aiohttp notes.
    pub(crate) fn abort(&self, awaitable: &Bound<'_, Awaitable>, cancelled: bool) {
        let py = awaitable.py();
        let channel = &self.socket.bind(py).get().channel;
        match &self.cause {
            For::OtherReader(_) => {}
            For::Socket => channel.remove_drain(awaitable),
            For::Server => {
                let reader = {
                    let mut state = channel.state.borrow_mut(py);
                    let ours = state
                        .dialogue
                        .reader
                        .as_ref()
                        .is_some_and(|reader| reader.awaitable.is(awaitable));
                    let reader = if ours {
                        state.dialogue.reader.take()
                    } else {
                        None
                    };
                    if let Some(reader) = reader.as_ref().filter(|_| cancelled) {
                        state.dialogue.close_code = Some(CloseCode::ABNORMAL);
                        if matches!(reader.stage, Stage::Reply { .. }) {
                            state.shut_down();
                        }
                    }
                    reader
                };
                drop(reader);
            }
        }
    }
}
