//! Media types, character sets and the text of headers, by aiohttp's rules.
//!
//! Owns what `Content-Type` says of a body. Used by the response's attributes and by `reading`.

use super::Response;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::borrow::Cow;

impl Response {
    pub(super) fn has_utf8_charset(&self) -> bool {
        let content_type = self.content_type.get(&self.raw);
        // Most have no parameters at all.
        content_type == b"application/json"
            || !content_type.contains(&b';')
            || charset(&latin1(content_type)).is_none_or(is_utf8)
    }

    /// Whether the media type is one that `json()` takes without being told.
    pub(super) fn is_json(&self) -> bool {
        let value = self.content_type.get(&self.raw);
        let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii() == b"application/json" || is_json(&self.content_type_header())
    }

    /// The `Content-Type` header, in lower case; empty without one.
    pub(super) fn content_type_header(&self) -> String {
        latin1(self.content_type.get(&self.raw)).to_ascii_lowercase()
    }

    pub(super) fn media_type(&self) -> String {
        let header = self.content_type_header();
        let value = header.split(';').next().unwrap_or_default().trim();
        // RFC 2045's default, which aiohttp gives for a missing or nonsensical header.
        if value.matches('/').count() == 1 {
            value.to_owned()
        } else {
            "application/octet-stream".to_owned()
        }
    }
}

/// Text of a head as aiohttp decodes it: what is no UTF-8 survives as surrogates.
pub(super) fn text<'py>(py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match std::str::from_utf8(value) {
        Ok(text) => Ok(PyString::new(py, text).into_any()),
        Err(_) => PyBytes::new(py, value).call_method1("decode", ("utf-8", "surrogateescape")),
    }
}

/// Header values are bytes without an encoding; aiohttp reads them as UTF-8 with surrogates, which
/// for anything that is text in practice is the same as this.
pub(super) fn latin1(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => value.iter().map(|byte| char::from(*byte)).collect(),
    }
}

pub(super) fn is_utf8(encoding: &str) -> bool {
    encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("utf8")
}

pub(super) fn charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    })
}

/// Whether a media type is one that aiohttp's `json()` takes for JSON.
pub(super) fn is_json(media_type: &str) -> bool {
    let Some(subtype) = media_type.strip_prefix("application/") else {
        return false;
    };
    // What follows does not matter to aiohttp: `application/json-seq` and parameters are fine.
    subtype.starts_with("json")
        || subtype.split_once("+json").is_some_and(|(name, _)| {
            !name.is_empty()
                && name.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'-')
                })
        })
}
