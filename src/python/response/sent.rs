//! The headers of the request that was answered, as they went out.
//!
//! Owns their order and where each came from: the script, its session or the client itself. Asked for rarely, so nothing
//! of it is kept with a request.

use crate::python::request::Added;
use crate::python::session::Session;
use crate::python::urls::UrlEntry;
use pyo3::prelude::*;
use pyo3::types::PyList;

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
