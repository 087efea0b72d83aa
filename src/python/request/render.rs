//! A request's bytes: its line, its headers in their order, and its body.
//!
//! Owns which headers are added to those of the script and of its session. Called when there is a connection.

use super::{Added, Job, RequestBody};
use crate::http::encode;
use crate::http::error::Error;
use pyo3::prelude::*;

impl Job {
    /// Writes the request's bytes, head and body; gives the `Cookie` header that was added.
    pub(super) fn render(
        &self,
        py: Python<'_>,
        wire: &mut Vec<u8>,
    ) -> Result<Option<String>, Error> {
        let target = &self.url.target;
        let session = self.session.get();
        wire.extend_from_slice(self.method.as_str().as_bytes());
        wire.push(b' ');
        wire.extend_from_slice(if self.absolute {
            self.url.text.as_bytes()
        } else {
            target.path_and_query.as_bytes()
        });
        wire.extend_from_slice(b" HTTP/1.1\r\n");
        let given = |name: &str| {
            self.headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let mut cookies = None;
        if self.options.bare {
            if !given("host") {
                put(wire, "Host", &target.authority);
            }
            for (name, value) in &self.headers {
                encode::write_header(wire, name.as_bytes(), value.as_bytes())?;
            }
        } else {
            let defaults = session.defaults(py);
            if self.headers.is_empty() && !self.elsewhere {
                if !defaults.has_host {
                    put(wire, "Host", &target.authority);
                }
                wire.extend_from_slice(&defaults.block);
            } else {
                if !defaults.has_host && !given("host") {
                    put(wire, "Host", &target.authority);
                }
                for (name, value) in &defaults.headers {
                    let left_behind = self.elsewhere && name.eq_ignore_ascii_case("authorization");
                    if !left_behind && !given(name) {
                        put(wire, name, value);
                    }
                }
                for (name, value) in &self.headers {
                    encode::write_header(wire, name.as_bytes(), value.as_bytes())?;
                }
                for (name, value) in &defaults.automatic {
                    if !given(name) {
                        put(wire, name, value);
                    }
                }
            }
            drop(defaults);
            if !given("cookie") {
                cookies = session.cookie_header(py, target);
            }
            if let Some(cookies) = &cookies {
                put(wire, "Cookie", cookies);
            }
            if let Some(authorization) = &self.authorization {
                encode::write_header(wire, b"Authorization", authorization.as_bytes())?;
            }
        }
        if let Some(length) = self.content_length() {
            use std::io::Write;
            // Writing to a vector cannot fail.
            let _ = write!(wire, "Content-Length: {length}\r\n");
        }
        if let Some(content_type) = self.added_content_type(py) {
            put(wire, "Content-Type", content_type);
        }
        wire.extend_from_slice(b"\r\n");
        if let RequestBody::Bytes(bytes) = &self.body
            && !self.expect
        {
            wire.extend_from_slice(bytes);
        }
        Ok(cookies)
    }

    /// The body that is to be sent when the server asks for it; `None` when nothing waits for that.
    pub(crate) fn held_body(&self) -> Option<Vec<u8>> {
        self.expect.then(|| match &self.body {
            RequestBody::Bytes(bytes) => bytes.clone(),
            RequestBody::None | RequestBody::Streamed => Vec::new(),
        })
    }

    pub(super) fn is_given(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The value of the `Content-Length` that is added.
    pub(super) fn content_length(&self) -> Option<usize> {
        let length = match &self.body {
            RequestBody::Streamed => return None,
            RequestBody::None if self.method.expects_body() => 0,
            RequestBody::None => return None,
            RequestBody::Bytes(bytes) => bytes.len(),
        };
        (!self.is_given("content-length") && !self.is_given("transfer-encoding")).then_some(length)
    }

    /// The value of the `Content-Type` that is added; aiohttp gives every POST, PUT and PATCH one.
    pub(super) fn added_content_type(&self, py: Python<'_>) -> Option<&'static str> {
        if self.options.bare {
            return None;
        }
        let content_type = self
            .content_type
            .or_else(|| self.method.posts().then_some("application/octet-stream"))?;
        let given =
            self.is_given("content-type") || self.session.get().defaults(py).has_content_type;
        (!given).then_some(content_type)
    }

    /// What `request_info` tells besides the script's headers and the session's.
    pub(super) fn added(&self, py: Python<'_>) -> Added {
        Added {
            bare: self.options.bare,
            elsewhere: self.elsewhere,
            cookies: self.cookies.clone(),
            authorization: self.authorization.clone(),
            content_length: self.content_length(),
            content_type: self.added_content_type(py),
        }
    }
}

pub(super) fn put(wire: &mut Vec<u8>, name: &str, value: &str) {
    wire.extend_from_slice(name.as_bytes());
    wire.extend_from_slice(b": ");
    wire.extend_from_slice(value.as_bytes());
    wire.extend_from_slice(b"\r\n");
}
