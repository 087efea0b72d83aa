//! Reads what a script passes to `session.get(...)` and its siblings.
//!
//! Everything that the native path can express is turned into plain data here; anything else is
//! answered with "not native", and the Python half of the session takes the whole call.

use super::json;
use super::receiving::Reading;
use super::session::Session;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

const KNOWN_METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// An HTTP method, in upper case as aiohttp sends it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Method(Cow<'static, str>);

impl Method {
    pub(crate) const fn known(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    pub(crate) fn parse(name: &str) -> Self {
        let upper = name.to_ascii_uppercase();
        KNOWN_METHODS
            .iter()
            .find(|known| **known == upper)
            .map_or(Self(Cow::Owned(upper)), |known| Self::known(known))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_head(&self) -> bool {
        self.0 == "HEAD"
    }

    /// RFC 9110, 5.6.2; anything else is the Python half's to refuse.
    pub(crate) fn is_token(&self) -> bool {
        !self.0.is_empty()
            && self
                .0
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    }

    /// Whether aiohttp gives a request without a body a content type all the same.
    pub(crate) fn posts(&self) -> bool {
        matches!(&*self.0, "POST" | "PUT" | "PATCH")
    }

    /// RFC 9110, 9.2.2
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(
            &*self.0,
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        )
    }

    /// Whether a request without a body says so (`Content-Length: 0`), as aiohttp has it.
    pub(crate) fn expects_body(&self) -> bool {
        !matches!(&*self.0, "GET" | "HEAD" | "OPTIONS" | "TRACE")
    }
}

/// The body to send.
pub(crate) enum Body {
    None,
    Bytes(Vec<u8>),
    /// Fed by the Python half while the request is under way; its headers say how it is framed.
    Streamed,
}

/// aiohttp's `ClientTimeout`; none is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timeouts {
    pub(crate) total: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) sock_connect: Option<Duration>,
    pub(crate) sock_read: Option<Duration>,
}

/// How a request is carried out.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent choices")]
pub(crate) struct Options {
    pub(crate) timeouts: Timeouts,
    pub(crate) follow: bool,
    pub(crate) max_redirects: usize,
    pub(crate) raise_for_status: bool,
    /// One hop with exactly the headers given: no session headers, no cookies.
    pub(crate) bare: bool,
    /// `ssl=False` was said: connection errors show it.
    pub(crate) unverified: bool,
    /// How the answer is read, where that is not the usual way.
    pub(crate) reading: Option<Arc<Reading>>,
}

/// What the keyword arguments of a call come to.
pub(crate) struct Arguments {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) authorization: Option<String>,
    pub(crate) options: Options,
}

/// A number of seconds as aiohttp takes it: none, zero and less are no limit.
pub(crate) fn seconds(value: &Bound<'_, PyAny>) -> Option<Option<Duration>> {
    if value.is_none() {
        return Some(None);
    }
    if value.is_instance_of::<PyBool>() {
        return None;
    }
    let number: f64 = value.extract().ok()?;
    Some((number > 0.0).then(|| Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX)))
}

fn timeouts(value: &Bound<'_, PyAny>) -> PyResult<Option<Timeouts>> {
    let py = value.py();
    if value.is_none() || value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>() {
        return Ok(seconds(value).map(|total| Timeouts {
            total,
            ..Timeouts::default()
        }));
    }
    if value.get_type().name()? != "ClientTimeout" {
        return Ok(None);
    }
    let read = |name| -> PyResult<Option<Option<Duration>>> { Ok(seconds(&value.getattr(name)?)) };
    let total = read(intern!(py, "total"))?;
    let connect = read(intern!(py, "connect"))?;
    let sock_connect = read(intern!(py, "sock_connect"))?;
    let sock_read = read(intern!(py, "sock_read"))?;
    Ok(match (total, connect, sock_connect, sock_read) {
        (Some(total), Some(connect), Some(sock_connect), Some(sock_read)) => Some(Timeouts {
            total,
            connect,
            sock_connect,
            sock_read,
        }),
        _ => None,
    })
}

fn text(value: &Bound<'_, PyAny>) -> Option<String> {
    value
        .cast::<PyString>()
        .ok()?
        .to_str()
        .ok()
        .map(str::to_owned)
}

/// Header pairs from a dict, a list or tuple of pairs, or a multidict.
pub(crate) fn header_pairs(headers: &Bound<'_, PyAny>) -> PyResult<Option<Vec<(String, String)>>> {
    if let Ok(dict) = headers.cast_exact::<PyDict>() {
        let pairs = dict
            .iter()
            .map(|(name, value)| Some((text(&name)?, text(&value)?)))
            .collect();
        return Ok(checked(pairs));
    }
    let items = if headers.is_instance_of::<PyList>() || headers.is_instance_of::<PyTuple>() {
        headers.try_iter()?
    } else {
        match headers.getattr_opt(intern!(headers.py(), "items"))? {
            Some(items) => items.call0()?.try_iter()?,
            None => return Ok(None),
        }
    };
    let mut pairs = Vec::new();
    for item in items {
        let Ok(item) = item?.cast_into::<PyTuple>() else {
            return Ok(None);
        };
        if item.len() != 2 {
            return Ok(None);
        }
        match (text(&item.get_item(0)?), text(&item.get_item(1)?)) {
            (Some(name), Some(value)) => pairs.push((name, value)),
            _ => return Ok(None),
        }
    }
    Ok(checked(Some(pairs)))
}

/// Header injection and names that are no tokens are for the Python half to report.
fn checked(pairs: Option<Vec<(String, String)>>) -> Option<Vec<(String, String)>> {
    let fine = |(name, value): &(String, String)| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':')
            && !value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
    };
    pairs.filter(|pairs| pairs.iter().all(fine))
}

/// A form of plain fields as `urllib.parse.urlencode` has it; anything else is for aiohttp's `FormData`.
fn form(fields: &Bound<'_, PyDict>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(64);
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        let name = name.cast_exact::<PyString>().ok()?.to_str().ok()?;
        // aiohttp refuses such names.
        if name.bytes().any(|byte| byte.is_ascii_control()) {
            return None;
        }
        quote_plus(name, &mut out);
        out.push(b'=');
        quote_plus(
            value.cast_exact::<PyString>().ok()?.to_str().ok()?,
            &mut out,
        );
    }
    Some(out)
}

fn quote_plus(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    for byte in text.bytes() {
        match byte {
            b' ' => out.push(b'+'),
            b'_' | b'.' | b'-' | b'~' => out.push(byte),
            _ if byte.is_ascii_alphanumeric() => out.push(byte),
            _ => out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
}

/// `Basic ...`, from an `aiohttp.BasicAuth`.
fn authorization(auth: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if auth.get_type().name()? != "BasicAuth" {
        return Ok(None);
    }
    auth.call_method0(intern!(auth.py(), "encode"))?
        .extract()
        .map(Some)
}

impl Arguments {
    pub(crate) fn plain(session: &Session) -> Self {
        Self {
            headers: Vec::new(),
            body: Body::None,
            content_type: None,
            authorization: session.authorization().map(str::to_owned),
            options: session.default_options(),
        }
    }

    /// `None`: not for the native path.
    pub(crate) fn read(session: &Session, keywords: &Bound<'_, PyDict>) -> PyResult<Option<Self>> {
        let mut read = Self::plain(session);
        for (name, value) in keywords.iter() {
            let name = name.cast::<PyString>()?.to_str()?;
            if !read.argument(name, &value)? {
                return Ok(None);
            }
        }
        let given = |wanted: &str| {
            read.headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        // Both is an error, and the Python half words it.
        if read.authorization.is_some()
            && (given("authorization") || session.defaults(keywords.py()).has_authorization)
        {
            return Ok(None);
        }
        // These change the framing, or are merged with the jar's: aiohttp's own rules apply.
        if given("content-length")
            || given("transfer-encoding")
            || given("expect")
            || (given("cookie") && session.has_cookies(keywords.py()))
        {
            return Ok(None);
        }
        // A name in two spellings: which of them wins is aiohttp's to say.
        let respelled = read.headers.iter().enumerate().any(|(index, (name, _))| {
            let earlier = read.headers.get(..index).unwrap_or_default();
            earlier
                .iter()
                .any(|(other, _)| other != name && other.eq_ignore_ascii_case(name))
        });
        if respelled {
            return Ok(None);
        }
        Ok(Some(read))
    }

    fn argument(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let flag = |value: &Bound<'_, PyAny>| {
            value
                .cast_exact::<PyBool>()
                .ok()
                .map(pyo3::types::PyBoolMethods::is_true)
        };
        match name {
            "headers" if value.is_none() => {}
            "headers" => match header_pairs(value)? {
                Some(headers) => self.headers = headers,
                None => return Ok(false),
            },
            "json" if value.is_none() => {}
            "json" => {
                if !matches!(self.body, Body::None) {
                    return Ok(false);
                }
                self.body = Body::Bytes(json::dumps(value)?);
                self.content_type = Some("application/json");
            }
            "data" if value.is_none() => {}
            "data" => {
                if !matches!(self.body, Body::None) {
                    return Ok(false);
                }
                if let Ok(data) = value.cast_exact::<PyBytes>() {
                    self.body = Body::Bytes(data.as_bytes().to_vec());
                    self.content_type = Some("application/octet-stream");
                } else if let Ok(data) = value.cast_exact::<PyString>()
                    && let Ok(data) = data.to_str()
                {
                    self.body = Body::Bytes(data.as_bytes().to_vec());
                    self.content_type = Some("text/plain; charset=utf-8");
                } else if let Ok(fields) = value.cast_exact::<PyDict>()
                    && let Some(form) = form(fields)
                {
                    self.body = Body::Bytes(form);
                    self.content_type = Some("application/x-www-form-urlencoded");
                } else {
                    return Ok(false);
                }
            }
            // They are in the URL already.
            "params" => {}
            "auth" if value.is_none() => {}
            "auth" => match authorization(value)? {
                Some(authorization) => self.authorization = Some(authorization),
                None => return Ok(false),
            },
            "allow_redirects" => match flag(value) {
                Some(follow) => self.options.follow = follow,
                None => return Ok(false),
            },
            "max_redirects" => match value.extract::<usize>() {
                Ok(limit) => self.options.max_redirects = limit,
                Err(_) => return Ok(false),
            },
            "raise_for_status" if value.is_none() => {}
            "raise_for_status" => match flag(value) {
                Some(raise) => self.options.raise_for_status = raise,
                None => return Ok(false),
            },
            "timeout" => match timeouts(value)? {
                Some(timeouts) => self.options.timeouts = timeouts,
                None => return Ok(false),
            },
            "ssl" => match flag(value) {
                Some(true) => {}
                Some(false) => self.options.unverified = true,
                None if value.is_none() => {}
                None => return Ok(false),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }
}
