//! The extension module `molotov._core`: everything that touches the interpreter.
//!
//! | module | owns |
//! |---|---|
//! | `event_loop`, `bridge` | tokio inside asyncio's `select()`, or beside a foreign loop |
//! | `plan`, `worker` | which scenario runs next, and stepping its coroutine |
//! | `schedule`, `pacer` | when it runs, where a rate is set |
//! | `session`, `arguments`, `request`, `reservation`, `urls` | a request, from the call to its bytes |
//! | `connector`, `pool`, `opening` | how connections are made, kept, limited and shared |
//! | `connection`, `stream`, `carrier` | the exchange on a kept connection, or on a part of one |
//! | `receiving`, `body` | a response's body, from the socket's bytes to its reader |
//! | `websocket` | a connection upgraded to websocket messages |
//! | `response`, `cold`, `awaitable`, `json`, `errors` | what the script gets back |
//! | `autosizer` | the flow of a sizing, with the command as its load |
//! | `context` | the way to the Python half of the session |
//! | `state`, `metrics`, `monitor`, `results`, `tls`, `cookies` | the pure modules' types for Python |
//! | `ffi` | the only `unsafe` of this layer |

use pyo3::prelude::*;

mod arguments;
pub mod autosizer;
mod awaitable;
mod body;
mod bridge;
mod carrier;
mod cold;
pub mod comparison;
mod connection;
mod connector;
mod context;
mod cookies;
mod errors;
mod event_loop;
mod ffi;
mod json;
pub mod metrics;
pub mod monitor;
mod opening;
mod pacer;
mod plan;
mod pool;
mod receiving;
mod request;
mod reservation;
mod response;
pub mod results;
mod schedule;
mod session;
pub mod sizing;
pub mod state;
mod stream;
mod tls;
mod urls;
mod websocket;
mod worker;

/// The native half of the `molotov` package.
#[pymodule(name = "_core")]
mod core {
    #[pymodule_export]
    use super::autosizer::{
        autosize, autosizer_account, autosizer_gc, autosizer_list, autosizer_page, read_toml,
    };
    #[pymodule_export]
    use super::awaitable::Awaitable;
    #[pymodule_export]
    use super::bridge::Bridge;
    #[pymodule_export]
    use super::comparison::Comparison;
    #[pymodule_export]
    use super::connector::Connector;
    #[pymodule_export]
    use super::cookies::CookieJar;
    #[pymodule_export]
    use super::event_loop::{Driver, EngineHandle};
    #[pymodule_export]
    use super::metrics::Recorder;
    #[pymodule_export]
    use super::monitor::Monitor;
    #[pymodule_export]
    use super::plan::Plan;
    #[pymodule_export]
    use super::reservation::Reservation;
    #[pymodule_export]
    use super::response::Response;
    #[pymodule_export]
    use super::results::Results;
    #[pymodule_export]
    use super::schedule::Schedule;
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::sizing::{SizingController, SizingSearch};
    #[pymodule_export]
    use super::state::RunState;
    #[pymodule_export]
    use super::tls::SslConfig;
    #[pymodule_export]
    use super::websocket::WebSocket;
    #[pymodule_export]
    use super::worker::Worker;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::ffi::install_am_send::<super::awaitable::Awaitable>(module.py());
        super::ffi::install_am_send::<super::awaitable::Ready>(module.py());
        super::cold::install(&module.py().get_type::<super::response::Response>())
    }
}
