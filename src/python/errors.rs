//! The one mapping from the engine's failures to the exceptions that scripts catch.
//!
//! The exceptions are aiohttp's own; `molotov._errors` builds them, so that aiohttp is only imported
//! when something has failed.

use super::arguments::Method;
use super::response::Response;
use super::urls::UrlEntry;
use crate::http::codec;
use crate::http::error::{Error, TimeoutKind};
use crate::http::proxy::Proxy;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use std::io;

fn make(py: Python<'_>, kind: &str, details: &Bound<'_, PyDict>) -> PyErr {
    let made = py
        .import("molotov._errors")
        .and_then(|errors| errors.getattr("make")?.call((kind,), Some(details)));
    made.map_or_else(|error| error, PyErr::from_value)
}

fn put_os_error(details: &Bound<'_, PyDict>, error: &io::Error) -> PyResult<()> {
    // `raw_os_error` is gone where the socket's failure was wrapped; the kind still tells most.
    let number = error.raw_os_error().or(match error.kind() {
        io::ErrorKind::ConnectionReset => Some(libc::ECONNRESET),
        io::ErrorKind::ConnectionRefused => Some(libc::ECONNREFUSED),
        io::ErrorKind::BrokenPipe => Some(libc::EPIPE),
        _ => None,
    });
    details.set_item("errno", number)?;
    if number.is_none() {
        details.set_item("strerror", error.to_string())?;
    }
    Ok(())
}

/// The exception for a failed exchange.
pub(crate) fn of(
    py: Python<'_>,
    error: Error,
    url: &UrlEntry,
    method: &Method,
    sent_headers: Option<Bound<'_, PyList>>,
) -> PyErr {
    of_request(py, error, url, method, sent_headers, false)
}

/// The same for a request with `ssl=False`, which connection errors show.
pub(crate) fn of_request(
    py: Python<'_>,
    error: Error,
    url: &UrlEntry,
    method: &Method,
    sent_headers: Option<Bound<'_, PyList>>,
    unverified: bool,
) -> PyErr {
    build(py, error, url, method, sent_headers, unverified).unwrap_or_else(|error| error)
}

/// `ClientHttpProxyError`, or the error of an answer that is not HTTP, with the CONNECT request.
pub(crate) fn of_proxy(py: Python<'_>, error: Error, url: &UrlEntry, proxy: &Proxy) -> PyErr {
    let details = PyDict::new(py);
    let latin1 = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    let filled = || -> PyResult<&str> {
        details.set_item("url", &*url.text)?;
        details.set_item("real_url", &proxy.url)?;
        details.set_item("method", "CONNECT")?;
        details.set_item("headers", proxy.headers.clone())?;
        let Error::ProxyRefused { status, head } = error else {
            details.set_item("message", error.to_string())?;
            return Ok("bad_response");
        };
        let received: Vec<(String, String)> = codec::headers(&head)
            .into_iter()
            .map(|(name, value)| (latin1(name), latin1(value)))
            .collect();
        details.set_item("status", status)?;
        details.set_item("message", latin1(codec::reason(&head)))?;
        details.set_item("response_headers", received)?;
        Ok("proxy_refused")
    };
    match filled() {
        Ok(kind) => make(py, kind, &details),
        Err(error) => error,
    }
}

/// Whom the connection was for: behind a proxy that is not always the URL's host.
fn place(details: &Bound<'_, PyDict>, error: &Error) -> PyResult<()> {
    if let Error::Dns { host, port, .. }
    | Error::Connect { host, port, .. }
    | Error::Proxy { host, port, .. }
    | Error::Tls { host, port, .. }
    | Error::Fingerprint { host, port, .. } = error
    {
        details.set_item("host", host)?;
        details.set_item("port", port)?;
    }
    Ok(())
}

fn build(
    py: Python<'_>,
    error: Error,
    url: &UrlEntry,
    method: &Method,
    sent_headers: Option<Bound<'_, PyList>>,
    unverified: bool,
) -> PyResult<PyErr> {
    let details = PyDict::new(py);
    details.set_item("url", &*url.text)?;
    details.set_item("method", method.as_str())?;
    details.set_item("is_ssl", url.target.tls)?;
    details.set_item("host", &url.target.host)?;
    details.set_item("port", url.target.port)?;
    if unverified {
        details.set_item("ssl", false)?;
    }
    place(&details, &error)?;
    let kind = match error {
        Error::Proxy {
            tls,
            source,
            detail,
            ..
        } => {
            details.set_item("is_ssl", tls)?;
            put_os_error(&details, &source)?;
            details.set_item("detail", detail)?;
            "proxy"
        }
        // Told by `of_proxy`, which knows the proxy.
        Error::ProxyRefused { status, .. } => {
            details.set_item("status", status)?;
            "proxy_refused"
        }
        Error::ProxyGarbage { message } => {
            details.set_item("message", message)?;
            "bad_response"
        }
        Error::Unix { path, source } => {
            details.set_item("path", path)?;
            put_os_error(&details, &source)?;
            "unix"
        }
        Error::Dns { source, .. } => {
            details.set_item("strerror", source.to_string())?;
            "dns"
        }
        Error::Connect { source, detail, .. } => {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                details.set_item("reset", true)?;
            }
            put_os_error(&details, &source)?;
            details.set_item("detail", detail)?;
            "connect"
        }
        Error::Tls {
            message,
            certificate,
            ..
        } => {
            details.set_item("message", message)?;
            if certificate {
                "tls_certificate"
            } else {
                "tls"
            }
        }
        Error::Fingerprint { expected, got, .. } => {
            details.set_item("expected", PyBytes::new(py, &expected))?;
            details.set_item("got", PyBytes::new(py, &got))?;
            "fingerprint"
        }
        Error::Timeout(TimeoutKind::Total) => "timeout_total",
        Error::Timeout(TimeoutKind::Connect) => "timeout_connect",
        Error::Timeout(TimeoutKind::SockConnect) => "timeout_sock_connect",
        Error::Timeout(TimeoutKind::SockRead) => "timeout_sock_read",
        Error::Disconnected => "disconnected",
        Error::Closed => {
            details.set_item("message", error.to_string())?;
            "connection_closed"
        }
        Error::Os(source) => {
            put_os_error(&details, &source)?;
            "os_error"
        }
        Error::BadResponse { message } => {
            details.set_item("message", message)?;
            details.set_item("headers", sent_headers)?;
            "bad_response"
        }
        Error::Payload { message } => {
            details.set_item("message", message)?;
            "payload"
        }
        Error::OddAddress { host } => {
            details.set_item("url", host)?;
            details.set_item("message", "is not a canonical IPv4 address")?;
            "odd_address"
        }
        Error::InvalidUrl(_) => "invalid_url",
        Error::InvalidHeader(message) => {
            return Ok(pyo3::exceptions::PyValueError::new_err(message));
        }
    };
    Ok(make(py, kind, &details))
}

/// `ClientConnectionError("Connector is closed.")`: the wait for a connection is in vain.
pub(crate) fn connector_closed(py: Python<'_>) -> PyErr {
    let details = PyDict::new(py);
    match details.set_item("message", "Connector is closed.") {
        Ok(()) => make(py, "connection_closed", &details),
        Err(error) => error,
    }
}

/// `ClientConnectionError("Connection closed")`: a body was asked for that nobody had read in time.
pub(crate) fn connection_closed(py: Python<'_>) -> PyErr {
    make(py, "connection_closed", &PyDict::new(py))
}

/// An exception that carries the response: `kind` is `status` or `content_type`.
pub(crate) fn of_response(
    response: &Bound<'_, Response>,
    kind: &str,
    message: Option<&str>,
) -> PyErr {
    let details = PyDict::new(response.py());
    let filled = details
        .set_item("response", response)
        .and_then(|()| message.map_or(Ok(()), |message| details.set_item("message", message)));
    match filled {
        Ok(()) => make(response.py(), kind, &details),
        Err(error) => error,
    }
}

/// `TooManyRedirects`, with every response on the way.
pub(crate) fn too_many_redirects(py: Python<'_>, history: &[Py<Response>]) -> PyErr {
    let details = PyDict::new(py);
    let filled = PyTuple::new(py, history).and_then(|history| details.set_item("history", history));
    match filled {
        Ok(()) => make(py, "too_many_redirects", &details),
        Err(error) => error,
    }
}
