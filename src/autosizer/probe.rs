//! Waiting until the service answers.
//!
//! Owns one HTTP request and what counts as an answer: any response below 500. A 404 on `/` is an answer of a service
//! that runs; a 503 is one that says it is not ready. Called by the flow, and by targets for their own.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::target::Address;

/// A service that takes longer for its answer is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The status line is all that is needed.
const ENOUGH_BYTES: usize = 16 * 1024;

/// How long the rest of an answer is waited for: a server whose client hangs up in the middle complains in its log.
const REST_WITHIN: Duration = Duration::from_millis(200);
const REST_BYTES: u64 = 1024 * 1024;

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It answered with this status, below 500.
    Ready(u16),
    /// It did not, or not yet; why.
    NotReady(String),
}

/// Asks once. `path` begins with a slash.
pub async fn answers(address: &Address, path: &str) -> Probe {
    match timeout(ANSWER_WITHIN, ask(address, path)).await {
        Ok(Ok(status)) if status < 500 => Probe::Ready(status),
        Ok(Ok(status)) => Probe::NotReady(format!("it answers with status {status}")),
        Ok(Err(why)) => Probe::NotReady(why),
        Err(_) => Probe::NotReady(format!(
            "it accepts connections but does not answer within {} s",
            ANSWER_WITHIN.as_secs()
        )),
    }
}

async fn ask(address: &Address, path: &str) -> Result<u16, String> {
    let plain = |error: std::io::Error| error.to_string();
    let host = (address.host.as_str(), address.port);
    let mut stream = TcpStream::connect(host).await.map_err(plain)?;
    let authority = address.url().replacen("http://", "", 1);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: molotov-autosizer\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(plain)?;
    let mut bytes = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&bytes) {
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                if let Some(status) = response.code {
                    let mut rest = stream.take(REST_BYTES);
                    let mut sink = tokio::io::sink();
                    let _ = timeout(REST_WITHIN, tokio::io::copy(&mut rest, &mut sink)).await;
                    return Ok(status);
                }
            }
            Err(error) => return Err(format!("what it answers is not HTTP: {error}")),
        }
        if bytes.len() > ENOUGH_BYTES {
            return Err("what it answers has no end of its status line".to_owned());
        }
        if stream.read_buf(&mut bytes).await.map_err(plain)? == 0 {
            return Err("it closes the connection without an answer".to_owned());
        }
    }
}
