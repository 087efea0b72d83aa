//! The way to the Python half of the session, for calls that the fast path cannot express.

use super::session::Session;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// `RequestContext(session._request(method, url, **keywords))`
pub(crate) fn slow_request<'py>(
    session: &Bound<'py, Session>,
    method: &str,
    url: &Bound<'py, PyAny>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = session.py();
    let coroutine = session
        .as_any()
        .getattr(intern!(py, "_request"))?
        .call((method, url), keywords)?;
    py.import("molotov._context")?
        .getattr("RequestContext")?
        .call1((coroutine,))
}
