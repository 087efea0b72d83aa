//! What can go wrong between a URL and the last byte of its response.
//!
//! Owns the failure causes as data and the texts that scripts may match on; knows nothing of Python. Every
//! other file of this folder returns these, and `python::errors` maps each variant to the exception class a
//! script expects.

use std::{fmt, io, sync::Arc};

/// Which of the four client timeouts ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutKind {
    /// The whole exchange, redirects and body included.
    Total,
    /// Getting a connection, waiting for a free one included.
    Connect,
    /// Opening one new connection.
    SockConnect,
    /// The silence between two reads.
    SockRead,
}

impl fmt::Display for TimeoutKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Total => "total",
            Self::Connect => "connect",
            Self::SockConnect => "sock_connect",
            Self::SockRead => "sock_read",
        })
    }
}

/// A failed exchange. Cheap to clone, since one failure may have several waiters.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The host name has no address.
    #[error("cannot resolve {host}:{port}: {source}")]
    Dns {
        /// Host as in the URL.
        host: String,
        /// Port of the URL.
        port: u16,
        /// What the resolver said, such as `Name or service not known`.
        source: Arc<io::Error>,
        /// The resolver's `EAI_*` code on Linux, such as -2; the system's error number if that is the cause.
        code: i32,
    },
    /// No address of the host accepted the connection.
    #[error("cannot connect to {host}:{port}: {detail}")]
    Connect {
        /// Host as in the URL.
        host: String,
        /// Port of the URL.
        port: u16,
        /// The last attempt's error.
        source: Arc<io::Error>,
        /// The attempts in asyncio's words, such as `Connect call failed ('127.0.0.1', 80)`.
        detail: String,
    },
    /// The proxy did not accept the connection.
    #[error("cannot connect to the proxy {host}:{port}: {detail}")]
    Proxy {
        /// Host of the proxy.
        host: String,
        /// Port of the proxy.
        port: u16,
        /// Whether the proxy itself speaks TLS.
        tls: bool,
        /// The last attempt's error.
        source: Arc<io::Error>,
        /// As in [`Error::Connect`].
        detail: String,
    },
    /// The proxy does not open a tunnel: its answer to CONNECT is not 200.
    #[error("the proxy answered {status} to CONNECT")]
    ProxyRefused {
        /// The status of the answer.
        status: u16,
        /// The head of the answer as it came.
        head: Arc<[u8]>,
    },
    /// The proxy's answer to CONNECT is not HTTP as we accept it.
    #[error("the proxy's answer to CONNECT: {message}")]
    ProxyGarbage {
        /// The cause, in the words aiohttp uses for it.
        message: String,
    },
    /// The local socket does not accept the connection.
    #[error("cannot connect to {path}: {source}")]
    Unix {
        /// The socket's path.
        path: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host}:{port}: {message}")]
    Tls {
        /// Host as in the URL.
        host: String,
        /// Port of the URL.
        port: u16,
        /// The cause, in OpenSSL's words where it has some.
        message: String,
        /// Whether the server's certificate is the cause.
        certificate: bool,
    },
    /// The server's certificate is not the pinned one.
    #[error("the certificate of {host}:{port} does not have the expected fingerprint")]
    Fingerprint {
        /// Address of the peer.
        host: String,
        /// Port of the peer.
        port: u16,
        /// The pinned SHA-256 digest.
        expected: Vec<u8>,
        /// The digest of the certificate received.
        got: Vec<u8>,
    },
    /// A client timeout ran out.
    #[error("{0} timeout")]
    Timeout(TimeoutKind),
    /// The server closed the connection before a complete response head.
    #[error("Server disconnected")]
    Disconnected,
    /// The session was closed while the request waited for its answer.
    #[error("Connector is closed.")]
    Closed,
    /// The socket failed during the exchange.
    #[error("{0}")]
    Os(Arc<io::Error>),
    /// The response is not HTTP as we accept it.
    #[error("{message}")]
    BadResponse {
        /// The cause, in the words aiohttp uses for it.
        message: String,
    },
    /// The response body is truncated or cannot be decoded.
    #[error("{message}")]
    Payload {
        /// The cause, in the words aiohttp uses for it.
        message: String,
    },
    /// The host is an address in a form that only the C library understands.
    #[error("{host} is not a canonical IPv4 address")]
    OddAddress {
        /// Host as in the URL.
        host: String,
    },
    /// The URL cannot be requested.
    #[error("{0}")]
    InvalidUrl(String),
    /// A request line or header that would let its value start another one (CR, LF or NUL inside).
    #[error("{0}")]
    InvalidHeader(String),
}

impl Error {
    /// A response that is not acceptable, with its cause.
    #[cold]
    pub(crate) fn bad_response(message: impl Into<String>) -> Self {
        Self::BadResponse {
            message: message.into(),
        }
    }

    /// A body that cannot be completed or decoded, with its cause.
    #[cold]
    pub(crate) fn payload(message: impl Into<String>) -> Self {
        Self::Payload {
            message: message.into(),
        }
    }

    /// A line longer than its limit, quoting its first hundred bytes.
    #[cold]
    pub(crate) fn line_too_long(line: &[u8], limit: usize) -> Self {
        let mut start = line.get(..100).unwrap_or(line).to_vec();
        start.extend_from_slice(b"...");
        Self::bad_response(format!(
            "Got more than {limit} bytes when reading: {}.",
            quote(&start)
        ))
    }

    /// As [`line_too_long`](Self::line_too_long), for the reason phrase, which aiohttp quotes from another type.
    #[cold]
    pub(crate) fn reason_too_long(reason: &[u8], limit: usize) -> Self {
        let mut start = reason.get(..100).unwrap_or(reason).to_vec();
        start.extend_from_slice(b"...");
        Self::bad_response(format!(
            "Got more than {limit} bytes when reading: bytearray({}).",
            quote(&start)
        ))
    }

    /// A parser error that shows the line it is about and points at the byte at `offset` of `line`.
    #[cold]
    pub(crate) fn at(description: &str, line: &[u8], offset: usize) -> Self {
        Self::bad_response(point_at(description, line, offset))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Os(Arc::new(error))
    }
}

/// `description`, the line quoted, and a caret below the byte at `offset`.
#[cold]
pub(crate) fn point_at(description: &str, line: &[u8], offset: usize) -> String {
    let before = line.get(..offset).unwrap_or(line);
    // The caret goes below the offending byte: after the `b'` and the quoted bytes before it.
    let indent = quote(before).len() - 1;
    format!("{description}:\n\n  {}\n  {:indent$}^", quote(line), "")
}

/// A failure of a socket as Python shows it, such as `ConnectionResetError(104, 'Connection reset by peer')`.
#[cold]
pub fn described(error: &io::Error) -> String {
    // Which class stands for which number: PEP 3151.
    let class = match error.kind() {
        io::ErrorKind::ConnectionReset => "ConnectionResetError",
        io::ErrorKind::ConnectionAborted => "ConnectionAbortedError",
        io::ErrorKind::BrokenPipe => "BrokenPipeError",
        io::ErrorKind::TimedOut => "TimeoutError",
        _ => "OSError",
    };
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => {
            let text = text
                .strip_suffix(&format!(" (os error {number})"))
                .unwrap_or(&text);
            format!("{class}({number}, '{text}')")
        }
        None => format!("{class}('{text}')"),
    }
}

/// Bytes as a Python literal, the way parser errors quote what they refuse.
#[cold]
pub(crate) fn quote(bytes: &[u8]) -> String {
    use fmt::Write;
    let delimiter = if bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut text = String::with_capacity(bytes.len() + 3);
    text.push('b');
    text.push(delimiter);
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            _ if char::from(byte) == delimiter => {
                text.push('\\');
                text.push(delimiter);
            }
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text.push(delimiter);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_python_does() {
        assert_eq!(quote(b"a\r\n\t\\\x00\x7f\xe9"), r"b'a\r\n\t\\\x00\x7f\xe9'");
        assert_eq!(quote(b"it's"), "b\"it's\"");
        assert_eq!(quote(b"'\""), r#"b'\'"'"#);
    }

    #[test]
    fn failures_are_described_as_python_does() {
        let reset = io::Error::from_raw_os_error(104);
        assert_eq!(
            described(&reset),
            "ConnectionResetError(104, 'Connection reset by peer')"
        );
        let other = io::Error::other("the record is broken");
        assert_eq!(described(&other), "OSError('the record is broken')");
    }

    #[test]
    fn the_caret_is_below_the_offending_byte() {
        let text = point_at("Invalid header token", b"X(A: a", 1);
        assert_eq!(text, "Invalid header token:\n\n  b'X(A: a'\n     ^");
    }
}
