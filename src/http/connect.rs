//! From a host name to a connected socket.
//!
//! Owns name resolution with its short memory, the race between the addresses of a host, and the TLS
//! handshake. Which connections exist and when they are reused is the session's business.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    error::{Error, TimeoutKind},
    tls::{self, TlsSettings},
    transport::{TlsTransport, Transport},
};

/// How long an address is remembered; aiohttp's default.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The head start of one address before the next is tried as well (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Where a connection goes to. Requests to equal endpoints can share connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Lower-case host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether to speak TLS.
    pub tls: bool,
}

/// Bounds of the steps of [`connect`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectTimeouts {
    /// TCP and TLS handshake together, name resolution not included. `None`: no bound.
    pub sock_connect: Option<Duration>,
}

/// Opens a connection to `endpoint`.
///
/// The future does everything on the caller's runtime, and may be dropped at any point.
///
/// # Errors
/// [`Error::Dns`], [`Error::Connect`], [`Error::Tls`], [`Error::Fingerprint`], or [`Error::Timeout`] with
/// [`TimeoutKind::SockConnect`].
pub async fn connect(
    endpoint: &Endpoint,
    tls: &TlsSettings,
    resolver: &Resolver,
    timeouts: ConnectTimeouts,
) -> Result<Transport, Error> {
    let addresses = resolver.resolve(&endpoint.host, endpoint.port).await?;
    let attempt = async {
        let socket = open(endpoint, &addresses).await?;
        // The codec writes whole messages; waiting for more only adds latency.
        let _ = socket.set_nodelay(true);
        if endpoint.tls {
            handshake(endpoint, tls, socket).await
        } else {
            Ok(Transport::Plain(socket))
        }
    };
    match timeouts.sock_connect {
        None => attempt.await,
        Some(limit) => timeout(limit, attempt)
            .await
            .unwrap_or(Err(Error::Timeout(TimeoutKind::SockConnect))),
    }
}

/// Connects to the first address that answers, trying the next after a failure or a head start.
async fn open(endpoint: &Endpoint, addresses: &[IpAddr]) -> Result<TcpStream, Error> {
    if let [only] = addresses {
        let address = SocketAddr::new(*only, endpoint.port);
        return TcpStream::connect(address)
            .await
            .map_err(|error| refused(endpoint, vec![(address, error)]));
    }
    let mut waiting = addresses.iter();
    let mut attempts = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(&address) = waiting.next() {
            let address = SocketAddr::new(address, endpoint.port);
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let finished = if waiting.as_slice().is_empty() {
            attempts.join_next().await
        } else {
            match timeout(HEAD_START, attempts.join_next()).await {
                Ok(finished) => finished,
                Err(_) => continue,
            }
        };
        match finished {
            Some(Ok((_, Ok(socket)))) => return Ok(socket),
            Some(Ok((address, Err(error)))) => failures.push((address, error)),
            // Attempts are neither cancelled nor do they panic; the others decide.
            Some(Err(_)) => {}
            None => return Err(refused(endpoint, failures)),
        }
    }
}

/// The failure of all attempts, in the words asyncio has for it.
fn refused(endpoint: &Endpoint, failures: Vec<(SocketAddr, io::Error)>) -> Error {
    let texts: Vec<String> = failures
        .iter()
        .map(|(address, error)| match (error.raw_os_error(), address) {
            (None, _) => error.to_string(),
            (Some(_), SocketAddr::V4(v4)) => {
                format!("Connect call failed ('{}', {})", v4.ip(), v4.port())
            }
            (Some(_), SocketAddr::V6(v6)) => format!(
                "Connect call failed ('{}', {}, {}, {})",
                v6.ip(),
                v6.port(),
                v6.flowinfo(),
                v6.scope_id()
            ),
        })
        .collect();
    let numbers: Vec<Option<i32>> = failures
        .iter()
        .map(|(_, error)| error.raw_os_error())
        .collect();
    let detail = match texts.as_slice() {
        [] => "no address to connect to".to_owned(),
        [only] => only.clone(),
        several => {
            let numbered: Vec<String> = several
                .iter()
                .zip(&numbers)
                .map(|(text, number)| match number {
                    Some(number) => format!("[Errno {number}] {text}"),
                    None => text.clone(),
                })
                .collect();
            format!("Multiple exceptions: {}", numbered.join(", "))
        }
    };
    let source = failures.into_iter().next_back().map_or_else(
        || io::ErrorKind::AddrNotAvailable.into(),
        |(_, error)| error,
    );
    Error::Connect {
        host: endpoint.host.clone(),
        port: endpoint.port,
        source: Arc::new(source),
        detail,
    }
}

async fn handshake(
    endpoint: &Endpoint,
    settings: &TlsSettings,
    socket: TcpStream,
) -> Result<Transport, Error> {
    let failed = |message: String, certificate: bool| Error::Tls {
        host: endpoint.host.clone(),
        port: endpoint.port,
        message,
        certificate,
    };
    let config = settings
        .client_config()
        .map_err(|message| failed(message, false))?;
    let name = settings
        .server_hostname
        .as_deref()
        .unwrap_or(&endpoint.host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
        failed(
            format!("'{name}' is not a name that TLS can ask for"),
            false,
        )
    })?;
    let connector = tokio_rustls::TlsConnector::from(config);
    // Boxed, or every waiting connection would carry the handshake's state on its future.
    let stream = Box::pin(connector.connect(server_name, socket))
        .await
        .map_err(|error| {
            match error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                Some(cause) => {
                    let (message, certificate) = tls::describe(cause, name);
                    failed(message, certificate)
                }
                None => Error::Connect {
                    host: endpoint.host.clone(),
                    port: endpoint.port,
                    detail: error.to_string(),
                    source: Arc::new(error),
                },
            }
        })?;
    let (socket, connection) = stream.into_inner();
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    if let Some((expected, got)) =
        settings.wrong_fingerprint(certificate.map_or(&[], |certificate| certificate.as_ref()))
    {
        return Err(Error::Fingerprint {
            host: endpoint.host.clone(),
            port: endpoint.port,
            expected,
            got,
        });
    }
    Ok(Transport::Tls(Box::new(TlsTransport::new(
        socket, connection,
    ))))
}

/// What is known about a host.
#[derive(Debug, Default)]
struct Entry {
    addresses: Vec<IpAddr>,
    expires: Option<Instant>,
    turn: usize,
}

/// Finds the addresses of hosts and remembers them for ten seconds.
///
/// One is meant to be shared by all sessions of a process: many workers that start at once then ask the
/// system once.
#[derive(Debug, Default)]
pub struct Resolver {
    // The inner lock is held while the system is asked, so that others wait for the same answer.
    entries: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Entry>>>>,
}

impl Resolver {
    /// A resolver that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The addresses of `host` in the order to try them, which rotates from call to call; at least one.
    ///
    /// # Errors
    /// [`Error::Dns`].
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let entry = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(entries.entry(host.to_owned()).or_default())
        };
        let mut entry = entry.lock().await;
        if entry
            .expires
            .is_none_or(|expires| expires <= Instant::now())
        {
            entry.addresses = look_up(host, port).await?;
            entry.expires = Some(Instant::now() + REMEMBERED);
        }
        let mut addresses = entry.addresses.clone();
        // As aiohttp does: a host with several addresses gets connections to all of them.
        let turn = entry.turn % addresses.len().max(1);
        addresses.rotate_left(turn);
        entry.turn = turn + 1;
        Ok(addresses)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

async fn look_up(host: &str, port: u16) -> Result<Vec<IpAddr>, Error> {
    let failed = |code: i32, message: &str| Error::Dns {
        host: host.to_owned(),
        port,
        source: Arc::new(io::Error::other(message.to_owned())),
        code,
    };
    let question = (host.to_owned(), port);
    let answer = tokio::task::spawn_blocking(move || question.to_socket_addrs())
        .await
        .map_err(|error| failed(0, &error.to_string()))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    match answer {
        Ok(found) => {
            for address in found {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
        }
        Err(error) => {
            let text = error.to_string();
            // The standard library's words before those of the resolver.
            let text = text
                .strip_prefix("failed to lookup address information: ")
                .unwrap_or(&text);
            return Err(failed(
                error.raw_os_error().unwrap_or_else(|| resolver_code(text)),
                text,
            ));
        }
    }
    if addresses.is_empty() {
        return Err(failed(-5, "No address associated with hostname"));
    }
    Ok(addresses)
}

/// glibc's number for its resolver messages, which the standard library does not pass on.
fn resolver_code(text: &str) -> i32 {
    match text {
        "Temporary failure in name resolution" => -3,
        "Non-recoverable failure in name resolution" => -4,
        "No address associated with hostname" => -5,
        _ => -2,
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
