//! A small blocking client for the Docker and Podman API.
//!
//! Owns HTTP/1.1 over a unix socket: one request per connection, timeouts, a cap on the answer, chunked bodies. Knows
//! nothing of containers. The socket is found once: `DOCKER_HOST`, else the first of the usual places that answers.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::super::Error;
use super::super::roots::Roots;

/// Silence after which an answer is given up. Docker before API 1.41 takes up to two seconds for statistics.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Larger answers are refused; real ones have some ten kilobytes.
const MAX_ANSWER_BYTES: u64 = 8 * 1024 * 1024;

/// Where the API is.
#[derive(Debug, Clone)]
pub(super) struct Api {
    socket: PathBuf,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Api {
    /// Finds a socket that accepts connections. `name` is the container's, for the error.
    pub(super) fn find(name: &str, roots: &Roots) -> Result<Self, Error> {
        let candidates = match &roots.docker_host {
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) => vec![PathBuf::from(path)],
                None => {
                    return Err(Error::DockerHost {
                        name: name.to_owned(),
                        host: host.clone(),
                    });
                }
            },
            None => roots.container_sockets.clone(),
        };
        let mut failures = Vec::new();
        for socket in candidates {
            match UnixStream::connect(&socket) {
                Ok(_) => return Ok(Self { socket }),
                Err(error) => failures.push(format!("{} ({})", socket.display(), reason(&error))),
            }
        }
        Err(Error::NoContainerApi {
            name: name.to_owned(),
            looked_at: failures.join(", "),
        })
    }

    /// The JSON at a path, or `None` for 404. The path holds no text that needs escaping.
    pub(super) fn get(&self, path: &str) -> Result<Option<Value>, Error> {
        let answer = exchange(&self.socket, path).map_err(Error::read(&self.socket))?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            status => {
                let said = serde_json::from_slice::<Value>(&answer.body).ok();
                let message = said.as_ref().and_then(|said| said.get("message")?.as_str());
                let message = message.map(|text| format!(": {text}")).unwrap_or_default();
                return Err(self.unexpected(&format!("status {status} for {path}{message}")));
            }
        }
        // Podman 3 ends statistics with a line feed and more of the stream: the first value is the answer.
        let mut values = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(error)) => Err(self.unexpected(&format!("no JSON for {path}: {error}"))),
            None => Err(self.unexpected(&format!("empty answer for {path}"))),
        }
    }

    pub(super) fn unexpected(&self, detail: &str) -> Error {
        Error::ContainerApi {
            socket: self.socket.clone(),
            detail: detail.lines().collect::<Vec<_>>().join(" "),
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not there".to_owned(),
        io::ErrorKind::PermissionDenied => "not allowed".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody answers".to_owned(),
        _ => error.to_string(),
    }
}

fn exchange(socket: &Path, path: &str) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // The host is required by HTTP/1.1 and of no meaning here.
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let read = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes)?;
    if read as u64 == MAX_ANSWER_BYTES {
        return Err(invalid("the answer is too long"));
    }
    parse(&bytes)
}

fn invalid(detail: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}

/// Reads an answer that was received whole.
fn parse(bytes: &[u8]) -> io::Result<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Err(invalid("the answer was cut off")),
        Err(error) => return Err(invalid(&format!("no HTTP answer: {error}"))),
    };
    let value = |name: &str| {
        let header = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let is_chunked = value("transfer-encoding")
        .is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"));
    let rest = bytes.get(head..).unwrap_or_default();
    let body = if is_chunked {
        unchunk(rest)?
    } else if let Some(length) =
        value("content-length").and_then(|length| length.trim().parse().ok())
    {
        rest.get(..length)
            .ok_or_else(|| invalid("the answer was cut off"))?
            .to_vec()
    } else {
        rest.to_vec()
    };
    Ok(Answer {
        status: response.code.unwrap_or(0),
        body,
    })
}

fn unchunk(mut rest: &[u8]) -> io::Result<Vec<u8>> {
    let cut_off = || invalid("the answer was cut off");
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Err(cut_off()),
            Err(_) => return Err(invalid("a chunk has no size")),
        };
        if size == 0 {
            return Ok(body);
        }
        let size = usize::try_from(size).map_err(|_| cut_off())?;
        let end = start.checked_add(size).ok_or_else(cut_off)?;
        body.extend_from_slice(rest.get(start..end).ok_or_else(cut_off)?);
        rest = rest
            .get(end..)
            .and_then(|rest| rest.strip_prefix(b"\r\n"))
            .ok_or_else(cut_off)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_by_length_by_chunks_and_by_the_end() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nhello",
        ] {
            let answer = parse(answer.as_bytes()).unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (200, b"hello".as_slice())
            );
        }
    }

    #[test]
    fn what_was_cut_off_is_an_error() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello",
            "hello",
        ] {
            assert!(parse(answer.as_bytes()).is_err(), "{answer:?}");
        }
    }
}
