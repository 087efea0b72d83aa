//! From an endpoint to a connected socket.
//!
//! Owns the race between the addresses of a host, the way through a proxy or a local socket, and the steps of
//! the TLS handshake. Which connections exist and when they are reused is the session's business.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpSocket, TcpStream, UnixStream},
    task::JoinSet,
    time::timeout,
};

use super::{
    error::{Error, TimeoutKind},
    proxy::{self, Proxy},
    resolve::{Family, Memory, Resolver},
    tls::{self, TlsSettings},
    transport::{TlsTransport, Transport},
};

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

/// How a session's TCP connections are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Which addresses of a host may be used.
    pub family: Family,
    /// How long addresses are remembered.
    pub memory: Memory,
    /// The addresses to connect from: the first of the right family that can be bound. Empty: any.
    pub local: Vec<SocketAddr>,
    /// The head start of one address before the next is tried as well (RFC 8305 section 5). `None`: one
    /// address after the other.
    pub head_start: Option<Duration>,
    /// How many addresses of the first family come before those of the families alternate; 0 leaves the
    /// resolver's order (RFC 8305 section 4).
    pub first_family: usize,
}

impl Default for Network {
    /// aiohttp's defaults.
    fn default() -> Self {
        Self {
            family: Family::default(),
            memory: Memory::default(),
            local: Vec::new(),
            head_start: Some(Duration::from_millis(250)),
            first_family: 1,
        }
    }
}

/// The way from here to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Route {
    /// Straight to the endpoint.
    #[default]
    Direct,
    /// To the socket at this path, whatever the endpoint; never TLS, as aiohttp has it.
    Unix(PathBuf),
    /// To a proxy; through a tunnel if the endpoint speaks TLS.
    Proxy(Proxy),
}

/// Everything that [`connect`](Self::connect) depends on besides the endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Dialer<'a> {
    /// Who knows the addresses.
    pub resolver: &'a Resolver,
    /// How TCP connections are made.
    pub network: &'a Network,
    /// How TLS is spoken, with an https proxy too.
    pub tls: &'a TlsSettings,
    /// The way to the endpoint.
    pub route: &'a Route,
    /// Whether HTTP/2 is offered to TLS servers.
    pub http2: bool,
    /// Bound of TCP and TLS handshake together, name resolution not included. `None`: no bound.
    pub sock_connect: Option<Duration>,
}

impl Dialer<'_> {
    /// Opens a connection to `endpoint`.
    ///
    /// The future does everything on the caller's runtime, and may be dropped at any point.
    ///
    /// # Errors
    /// [`Error::Dns`], [`Error::Connect`], [`Error::Unix`], [`Error::Proxy`], [`Error::ProxyRefused`], [`Error::ProxyGarbage`],
    /// [`Error::Tls`], [`Error::Fingerprint`], what a proxy's answer can have wrong, or [`Error::Timeout`]
    /// with [`TimeoutKind::SockConnect`].
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Transport, Error> {
        match self.route {
            Route::Direct => {
                self.straight(endpoint, self.tls.server_hostname.as_deref())
                    .await
            }
            Route::Unix(path) => {
                let opening = async {
                    let opened = UnixStream::connect(path).await;
                    opened.map(Transport::Unix).map_err(|error| Error::Unix {
                        path: path.to_string_lossy().into_owned(),
                        source: Arc::new(error),
                    })
                };
                self.bounded(opening).await
            }
            Route::Proxy(proxy) => self.through(proxy, endpoint).await,
        }
    }

    /// To the endpoint itself, TLS included if it speaks that.
    async fn straight(&self, endpoint: &Endpoint, name: Option<&str>) -> Result<Transport, Error> {
        let addresses = self
            .resolver
            .resolve(
                &endpoint.host,
                endpoint.port,
                self.network.family,
                self.network.memory,
            )
            .await?;
        let addresses = in_order(addresses, self.network.first_family);
        self.bounded(async {
            let socket = open(endpoint, &addresses, self.network).await?;
            // The codec writes whole messages; waiting for more only adds latency.
            let _ = socket.set_nodelay(true);
            let transport = Transport::Plain(socket);
            if endpoint.tls {
                self.handshake(endpoint, name, transport, self.http2).await
            } else {
                Ok(transport)
            }
        })
        .await
    }

    async fn through(&self, proxy: &Proxy, endpoint: &Endpoint) -> Result<Transport, Error> {
        let at_proxy = Dialer {
            // A proxy is spoken to in HTTP/1.1.
            http2: false,
            ..*self
        };
        let opened = Box::pin(at_proxy.straight(&proxy.endpoint, None)).await;
        let mut transport = opened.map_err(|error| match error {
            Error::Connect {
                host,
                port,
                source,
                detail,
            } => Error::Proxy {
                host,
                port,
                tls: proxy.endpoint.tls,
                source,
                detail,
            },
            other => other,
        })?;
        if !endpoint.tls {
            return Ok(transport);
        }
        Box::pin(proxy::open_tunnel(&mut transport, proxy, endpoint))
            .await
            .map_err(|error| match error {
                Error::BadResponse { message } => Error::ProxyGarbage { message },
                other => other,
            })?;
        let name = self.tls.server_hostname.as_deref();
        self.bounded(self.handshake(endpoint, name, transport, self.http2))
            .await
    }

    async fn bounded<T>(&self, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.sock_connect {
            None => step.await,
            Some(limit) => timeout(limit, step)
                .await
                .unwrap_or(Err(Error::Timeout(TimeoutKind::SockConnect))),
        }
    }

    async fn handshake(
        &self,
        endpoint: &Endpoint,
        name: Option<&str>,
        transport: Transport,
        http2: bool,
    ) -> Result<Transport, Error> {
        let failed = |message: String, certificate: bool| Error::Tls {
            host: endpoint.host.clone(),
            port: endpoint.port,
            message,
            certificate,
        };
        let config = self
            .tls
            .client_config(http2)
            .map_err(|message| failed(message, false))?;
        let name = name.unwrap_or(&endpoint.host);
        let name = name.trim_end_matches('.');
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
            failed(
                format!("'{name}' is not a name that TLS can ask for"),
                false,
            )
        })?;
        // Boxed, or every waiting connection would carry the handshake's state on its future.
        let shaken = Box::pin(TlsTransport::handshake(transport, config, server_name)).await;
        let shaken = shaken.map_err(|error| {
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
        let transport = Transport::Tls(Box::new(shaken));
        match self.tls.wrong_fingerprint(transport.peer_certificate()) {
            None => Ok(transport),
            Some((expected, got)) => {
                // As aiohttp has it: whom the socket is connected to.
                let peer = transport.peer_addr();
                Err(Error::Fingerprint {
                    host: peer
                        .as_ref()
                        .map_or_else(|_| endpoint.host.clone(), |peer| peer.ip().to_string()),
                    port: peer.map_or(endpoint.port, |peer| peer.port()),
                    expected,
                    got,
                })
            }
        }
    }
}

/// Lets the families take turns after `first` addresses of the first one (RFC 8305 section 4).
fn in_order(addresses: Vec<IpAddr>, first: usize) -> Vec<IpAddr> {
    let Some(leading) = addresses.first().map(IpAddr::is_ipv4) else {
        return addresses;
    };
    if first == 0 || addresses.iter().all(|one| one.is_ipv4() == leading) {
        return addresses;
    }
    let (mut leaders, followers): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|one| one.is_ipv4() == leading);
    let rest = leaders.split_off((first - 1).min(leaders.len()));
    let mut ordered = leaders;
    let (mut rest, mut followers) = (rest.into_iter(), followers.into_iter());
    loop {
        match (rest.next(), followers.next()) {
            (None, None) => return ordered,
            (leader, follower) => ordered.extend(leader.into_iter().chain(follower)),
        }
    }
}

/// Why one address could not be connected to, in asyncio's words.
struct Refusal {
    error: io::Error,
    text: String,
}

async fn open_one(address: SocketAddr, local: Vec<SocketAddr>) -> Result<TcpStream, Refusal> {
    let refused = |error: io::Error| Refusal {
        text: match (error.raw_os_error(), address) {
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
        },
        error,
    };
    if local.is_empty() {
        return TcpStream::connect(address).await.map_err(refused);
    }
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    bind(socket.map_err(refused)?, address, &local)?
        .connect(address)
        .await
        .map_err(refused)
}

/// Binds to the first local address that is of the peer's family and free.
fn bind(socket: TcpSocket, peer: SocketAddr, local: &[SocketAddr]) -> Result<TcpSocket, Refusal> {
    let family = if peer.is_ipv4() {
        "AF_INET: 2"
    } else {
        "AF_INET6: 10"
    };
    let mut refusal = Refusal {
        text: format!("no matching local address with family=<AddressFamily.{family}> found"),
        error: io::ErrorKind::AddrNotAvailable.into(),
    };
    for address in local.iter().filter(|one| one.is_ipv4() == peer.is_ipv4()) {
        let error = match socket.bind(*address) {
            Ok(()) => return Ok(socket),
            Err(error) => error,
        };
        let quoted = match address {
            SocketAddr::V4(v4) => format!("('{}', {})", v4.ip(), v4.port()),
            SocketAddr::V6(v6) => format!("('{}', {}, 0, 0)", v6.ip(), v6.port()),
        };
        let cause = error.to_string();
        let cause = cause.split(" (os error").next().unwrap_or_default();
        refusal = Refusal {
            text: format!(
                "error while attempting to bind on address {quoted}: {}",
                cause.to_lowercase()
            ),
            error,
        };
    }
    Err(refusal)
}

/// Connects to the first address that answers, trying the next after a failure or a head start.
async fn open(
    endpoint: &Endpoint,
    addresses: &[IpAddr],
    network: &Network,
) -> Result<TcpStream, Error> {
    if let [only] = addresses {
        let address = SocketAddr::new(*only, endpoint.port);
        return open_one(address, network.local.clone())
            .await
            .map_err(|refusal| refused(endpoint, vec![refusal]));
    }
    let mut waiting = addresses.iter();
    let mut attempts = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(&address) = waiting.next() {
            let address = SocketAddr::new(address, endpoint.port);
            attempts.spawn(open_one(address, network.local.clone()));
        }
        let finished = match network.head_start {
            Some(head_start) if !waiting.as_slice().is_empty() => {
                match timeout(head_start, attempts.join_next()).await {
                    Ok(finished) => finished,
                    Err(_) => continue,
                }
            }
            _ => attempts.join_next().await,
        };
        match finished {
            Some(Ok(Ok(socket))) => return Ok(socket),
            Some(Ok(Err(refusal))) => failures.push(refusal),
            // Attempts are neither cancelled nor do they panic; the others decide.
            Some(Err(_)) => {}
            None => return Err(refused(endpoint, failures)),
        }
    }
}

/// The failure of all attempts, in the words asyncio has for it.
fn refused(endpoint: &Endpoint, failures: Vec<Refusal>) -> Error {
    let detail = match failures.as_slice() {
        [] => "no address to connect to".to_owned(),
        [only] => only.text.clone(),
        several => {
            let numbered: Vec<String> = several
                .iter()
                .map(|refusal| match refusal.error.raw_os_error() {
                    Some(number) => format!("[Errno {number}] {}", refusal.text),
                    None => refusal.text.clone(),
                })
                .collect();
            format!("Multiple exceptions: {}", numbered.join(", "))
        }
    };
    let source = failures.into_iter().next_back().map_or_else(
        || io::ErrorKind::AddrNotAvailable.into(),
        |refusal| refusal.error,
    );
    Error::Connect {
        host: endpoint.host.clone(),
        port: endpoint.port,
        source: Arc::new(source),
        detail,
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
