//! HTTP/2 (RFC 9113) by the h2 crate, in the words of the rest of this folder.
//!
//! Owns the settings of a connection and the translation of heads and failures. A request comes as the bytes
//! that HTTP/1.1 would send, and a response's head becomes the bytes that HTTP/1.1 would have received, so
//! that everything else knows one form of a head. Streams and who waits for them are the session's.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{HeaderName, HeaderValue, Method, Request, Uri, response};

use super::{
    codec::{self, Limits, ResponseHead},
    error::Error,
    transport::Transport,
};

/// How much of a body the server may send ahead of its reader: enough for a fast network, and what a reader
/// that stands still costs in memory.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same for all streams together: large, or one slow reader would hold up all the others.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Headers that speak of the connection, or repeat what a pseudo-header says (RFC 9113 section 8.2.2).
const NOT_SENT: [&str; 7] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The way to new streams. Clones share the connection, which ends with the last of them.
pub type Sender = SendRequest<Bytes>;

/// The connection itself: to be polled as long as there are streams.
pub type Driver = Connection<Transport, Bytes>;

/// Greets the server.
///
/// # Errors
/// [`Error::Os`] and [`Error::Disconnected`].
pub async fn open(transport: Transport) -> Result<(Sender, Driver), Error> {
    h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .enable_push(false)
        .handshake(transport)
        .await
        .map_err(|error| failure(&error))
}

/// What HTTP/1.1 would send, taken apart.
#[derive(Debug)]
pub struct Outgoing {
    /// The head.
    pub request: Request<()>,
    /// Whether the body, here and in what follows, is framed in chunks.
    pub chunked: bool,
    /// The bytes of the body that followed the head.
    pub body: Vec<u8>,
}

/// Translates the bytes of an HTTP/1.1 request, which the session has made itself.
///
/// # Errors
/// [`Error::InvalidHeader`] for what HTTP/2 cannot express.
pub fn request(wire: &[u8], tls: bool) -> Result<Outgoing, Error> {
    let end = wire
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(|| invalid("the request has no end"))?;
    let (head, body) = wire.split_at(end + 4);
    let mut lines = head.split(|&byte| byte == b'\n');
    let line = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let mut words = line.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut authority = "";
    let fields = codec::headers(head);
    let mut request = Request::new(());
    let mut chunked = false;
    for (name, value) in &fields {
        if name.eq_ignore_ascii_case(b"host") {
            authority = std::str::from_utf8(value).map_err(|_| invalid("the Host header"))?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            chunked = value.to_ascii_lowercase().ends_with(b"chunked");
        }
        if NOT_SENT
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        {
            continue;
        }
        let shown = || invalid(&String::from_utf8_lossy(name));
        request.headers_mut().append(
            HeaderName::from_bytes(name).map_err(|_| shown())?,
            HeaderValue::from_bytes(value).map_err(|_| shown())?,
        );
    }
    *request.method_mut() =
        Method::from_bytes(method.as_bytes()).map_err(|_| invalid("the method"))?;
    *request.uri_mut() = Uri::builder()
        .scheme(if tls { "https" } else { "http" })
        .authority(authority)
        .path_and_query(target)
        .build()
        .map_err(|error| invalid(&error.to_string()))?;
    Ok(Outgoing {
        request,
        chunked,
        body: body.to_vec(),
    })
}

#[cold]
fn invalid(what: &str) -> Error {
    Error::InvalidHeader(format!("HTTP/2 cannot carry this request: {what}"))
}

/// The head of a response, as bytes of HTTP/1.1 and read.
///
/// # Errors
/// [`Error::BadResponse`] for more or longer headers than `limits` allow.
pub fn response_head(
    parts: &response::Parts,
    head_request: bool,
    limits: &Limits,
) -> Result<(Vec<u8>, ResponseHead), Error> {
    let mut raw = format!("HTTP/1.1 {:03} \r\n", parts.status.as_u16()).into_bytes();
    for (name, value) in &parts.headers {
        raw.extend_from_slice(name.as_str().as_bytes());
        raw.extend_from_slice(b": ");
        raw.extend_from_slice(value.as_bytes());
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"\r\n");
    let mut head = codec::parse_head(&raw, head_request, limits)?
        .ok_or_else(|| Error::bad_response("the response's head has no end"))?;
    head.http2 = true;
    Ok((raw, head))
}

/// A failed stream or connection, as HTTP/1.1 has it.
pub fn failure(error: &h2::Error) -> Error {
    match error.get_io() {
        Some(cause) if cause.raw_os_error().is_some() => {
            let number = cause.raw_os_error().unwrap_or_default();
            Error::Os(Arc::new(std::io::Error::from_raw_os_error(number)))
        }
        _ => Error::Disconnected,
    }
}

/// The same in the middle of a body.
pub fn broken_body(error: &h2::Error) -> Error {
    Error::payload(format!("Response payload is not completed: {error}"))
}

/// Whether the server says that it has not looked at the request (RFC 9113 section 8.7).
pub fn is_refused(error: &h2::Error) -> bool {
    error.is_remote()
        && matches!(
            error.reason(),
            Some(h2::Reason::REFUSED_STREAM | h2::Reason::NO_ERROR)
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_lose_what_belongs_to_the_connection() {
        let wire =
            b"POST /a?b=c HTTP/1.1\r\nHost: h:8443\r\nX-A: 1\r\nX-A: 2\r\nConnection: close\r\n\
            Transfer-Encoding: chunked\r\nCookie: a=b\r\n\r\n4\r\nbody\r\n";
        let outgoing = request(wire, true).unwrap();
        assert!(outgoing.chunked);
        assert_eq!(outgoing.body, b"4\r\nbody\r\n");
        assert_eq!(outgoing.request.method(), "POST");
        assert_eq!(outgoing.request.uri(), "https://h:8443/a?b=c");
        let names: Vec<_> = outgoing.request.headers().keys().collect();
        assert_eq!(names, ["x-a", "cookie"]);
        assert_eq!(outgoing.request.headers().get_all("x-a").iter().count(), 2);
        assert!(
            !request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", false)
                .unwrap()
                .chunked
        );
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for wire in [
            &b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: h\r\nX y: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nX: \x01\r\n\r\n",
            b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /",
        ] {
            assert!(matches!(request(wire, false), Err(Error::InvalidHeader(_))));
        }
    }

    #[test]
    fn heads_are_read_as_those_of_http_1() {
        let parts = http::Response::builder()
            .status(404)
            .header("Content-Type", "text/plain")
            .header("Set-Cookie", "a=b")
            .header("Content-Encoding", "gzip")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let (raw, head) = response_head(&parts, false, &Limits::default()).unwrap();
        assert_eq!(
            (head.status, head.http2, head.set_cookie),
            (404, true, true)
        );
        assert!(head.encoding.is_some());
        assert_eq!(head.head_len, raw.len());
        assert_eq!(codec::reason(&raw), b"");
        assert_eq!(codec::header(&raw, "content-type").unwrap(), b"text/plain");
    }

    #[test]
    fn too_large_a_head_is_no_response() {
        let mut response = http::Response::builder();
        for number in 0..200 {
            response = response.header(format!("x-{number}"), "1");
        }
        let parts = response.body(()).unwrap().into_parts().0;
        assert!(matches!(
            response_head(&parts, false, &Limits::default()),
            Err(Error::BadResponse { .. })
        ));
    }
}
