//! Tests of connecting against servers on the loopback, each in its thread, gone with the test.
//!
//! Longer than usual: one set of servers (plain, TLS, proxies) serves all of them.

use std::{
    future::{Future, poll_fn},
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

use super::*;
use crate::http::tls::Verify;

/// Runs a future as the event loop does: one thread, timers and sockets.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn endpoint(host: &str, port: u16, tls: bool) -> Endpoint {
    Endpoint {
        host: host.to_owned(),
        port,
        tls,
    }
}

fn dialer<'a>(resolver: &'a Resolver, network: &'a Network, tls: &'a TlsSettings) -> Dialer<'a> {
    Dialer {
        resolver,
        network,
        tls,
        route: &Route::Direct,
        http2: false,
        sock_connect: None,
    }
}

async fn connect_to(
    host: &str,
    port: u16,
    settings: Option<&TlsSettings>,
) -> Result<Transport, Error> {
    let default = TlsSettings::default();
    let (resolver, network) = (Resolver::new(), Network::default());
    dialer(&resolver, &network, settings.unwrap_or(&default))
        .connect(&endpoint(host, port, settings.is_some()))
        .await
}

/// Serves one connection with `serve`, on a port of its own.
fn server(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

struct Identity {
    pem: String,
    der: Vec<u8>,
    config: Arc<ServerConfig>,
}

/// A self-signed certificate for `localhost`.
fn identity() -> Identity {
    identity_with(rcgen::IsCa::NoCa)
}

fn identity_with(is_ca: rcgen::IsCa) -> Identity {
    let signing_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.is_ca = is_ca;
    let cert = parameters.self_signed(&signing_key).unwrap();
    served(&cert, &signing_key)
}

fn served(cert: &rcgen::Certificate, key: &rcgen::KeyPair) -> Identity {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    Identity {
        pem: cert.pem(),
        der: cert.der().to_vec(),
        config: Arc::new(config),
    }
}

/// A TLS server that sends back what it gets, until the client ends.
fn echo_server(identity: &Identity) -> u16 {
    let config = Arc::clone(&identity.config);
    server(move |socket| {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
        stream.conn.send_close_notify();
        let _ = stream.flush();
    })
}

async fn read_some(transport: &mut Transport, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match transport.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| transport.poll_read_ready(cx)).await?;
            }
            done => return done,
        }
    }
}

async fn write_some(transport: &mut Transport, data: &[u8]) -> io::Result<usize> {
    loop {
        match transport.try_write(data) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| transport.poll_write_ready(cx)).await?;
            }
            done => return done,
        }
    }
}

/// Sends `amount` bytes and receives them back, in small reads, writing only as far as there is room.
async fn echo(transport: &mut Transport, amount: usize) {
    let data: Vec<u8> = (0..amount)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect();
    let mut back = Vec::new();
    let mut buffer = [0; 1000];
    let mut sent = 0;
    while back.len() < amount {
        while sent < amount && sent - back.len() < 32 * 1024 {
            let end = amount.min(sent + 10_000);
            sent += write_some(transport, &data[sent..end]).await.unwrap();
        }
        poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
        let length = read_some(transport, &mut buffer).await.unwrap();
        assert_ne!(length, 0);
        back.extend_from_slice(&buffer[..length]);
    }
    assert!(back == data);
}

#[test]
fn plain_connections_carry_bytes_and_end() {
    let port = server(|mut socket| {
        let mut request = [0; 4];
        socket.read_exact(&mut request).unwrap();
        socket.write_all(b"pong").unwrap();
    });
    run(async {
        let mut transport = connect_to("localhost", port, None).await.unwrap();
        assert!(!transport.is_tls() && !transport.is_stale());
        assert_eq!(transport.peer_addr().unwrap().port(), port);
        assert!(transport.local_addr().unwrap().ip().is_loopback());
        assert_eq!(write_some(&mut transport, b"ping").await.unwrap(), 4);
        let mut buffer = [0; 10];
        assert_eq!(read_some(&mut transport, &mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"pong");
        assert_eq!(read_some(&mut transport, &mut buffer).await.unwrap(), 0);
        assert!(transport.is_stale());
    });
}

#[test]
fn refused_connections_say_so_in_asyncios_words() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    match run(connect_to("127.0.0.1", port, None)) {
        Err(Error::Connect { source, detail, .. }) => {
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
            assert_eq!(detail, format!("Connect call failed ('127.0.0.1', {port})"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_addresses_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = endpoint("somewhere", port, false);
    let good = IpAddr::from([127, 0, 0, 1]);
    let network = Network::default();
    // Nothing listens on these: the first fails, the race goes on.
    let bad = [IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 3])];
    run(async {
        open(&here, &[bad[0], bad[1], good], &network)
            .await
            .unwrap();
        match open(&here, &bad, &network).await {
            Err(Error::Connect { detail, .. }) => {
                assert!(
                    detail.starts_with("Multiple exceptions: [Errno 111] Connect call failed"),
                    "{detail}"
                );
                assert!(detail.contains("127.0.0.2") && detail.contains("127.0.0.3"));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            open(&here, &[], &network).await,
            Err(Error::Connect { .. })
        ));
    });
}

#[test]
fn unknown_hosts_are_dns_errors() {
    match run(connect_to("no-such-host.invalid", 80, None)) {
        Err(Error::Dns {
            host,
            port: 80,
            code,
            source,
        }) => {
            assert_eq!(host, "no-such-host.invalid");
            assert!(code < 0 && !source.to_string().is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_silent_tls_server_runs_into_the_timeout() {
    let (finish, finished) = mpsc::channel::<()>();
    let port = server(move |_socket| {
        let _ = finished.recv();
    });
    let (resolver, network, tls) = (
        Resolver::new(),
        Network::default(),
        TlsSettings::unverified(),
    );
    let hurried = Dialer {
        sock_connect: Some(Duration::from_millis(20)),
        ..dialer(&resolver, &network, &tls)
    };
    let result = run(hurried.connect(&endpoint("127.0.0.1", port, true)));
    assert!(matches!(
        result,
        Err(Error::Timeout(TimeoutKind::SockConnect))
    ));
    drop(finish);
}

#[test]
fn unverified_tls_carries_bytes_both_ways() {
    let identity = identity();
    let port = echo_server(&identity);
    run(async {
        let mut transport = connect_to("127.0.0.1", port, Some(&TlsSettings::unverified()))
            .await
            .unwrap();
        assert!(transport.is_tls());
        echo(&mut transport, 300_000).await;
        assert!(!transport.is_stale());
        transport.shutdown();
        poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
        assert_eq!(read_some(&mut transport, &mut [0; 10]).await.unwrap(), 0);
    });
}

#[test]
fn a_full_socket_blocks_and_nothing_is_lost() {
    let identity = identity();
    let config = Arc::clone(&identity.config);
    let (go, wait) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let port = server(move |socket| {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        wait.recv().unwrap();
        let mut total = 1;
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            total += length;
        }
        tell.send(total).unwrap();
    });
    run(async {
        let mut transport = connect_to("127.0.0.1", port, Some(&TlsSettings::unverified()))
            .await
            .unwrap();
        let data = vec![7; 100_000];
        poll_fn(|cx| transport.poll_write_ready(cx)).await.unwrap();
        let mut sent = transport.try_write(&data).unwrap();
        // The server does not read: sooner or later there is no room.
        let error = loop {
            match transport.try_write(&data) {
                Ok(length) => sent += length,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        go.send(()).unwrap();
        sent += write_some(&mut transport, b"end").await.unwrap();
        transport.shutdown();
        poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
        // Read to the server's end: closing with its session tickets unread would reset the connection.
        while let Ok(1..) = read_some(&mut transport, &mut [0; 100]).await {}
        assert_eq!(told.recv().unwrap(), sent);
    });
}

#[test]
fn tls_that_ends_without_saying_so_is_told_apart() {
    let identity = identity();
    let config = Arc::clone(&identity.config);
    let port = server(move |socket| {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        let mut request = [0; 4];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"pong").unwrap();
        stream.flush().unwrap();
    });
    run(async {
        let mut transport = connect_to("127.0.0.1", port, Some(&TlsSettings::unverified()))
            .await
            .unwrap();
        write_some(&mut transport, b"ping").await.unwrap();
        let mut buffer = [0; 2];
        // Two reads of one record: what is decrypted already must show as readable.
        assert_eq!(read_some(&mut transport, &mut buffer).await.unwrap(), 2);
        poll_fn(|cx| transport.poll_read_ready(cx)).await.unwrap();
        assert_eq!(read_some(&mut transport, &mut buffer).await.unwrap(), 2);
        let error = read_some(&mut transport, &mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(transport.is_stale());
    });
}

fn certificate_error(result: Result<Transport, Error>) -> String {
    match result {
        Err(Error::Tls {
            message,
            certificate: true,
            ..
        }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_certificates_are_refused_unless_trusted() {
    let identity = identity();
    let trusting = TlsSettings {
        verify: Verify::CaPem(identity.pem.clone().into()),
        ..TlsSettings::default()
    };
    let other = TlsSettings {
        verify: Verify::CaPem(self::identity().pem.into()),
        ..TlsSettings::default()
    };
    run(async {
        let message =
            certificate_error(connect_to("localhost", echo_server(&identity), Some(&other)).await);
        assert!(
            message.ends_with("certificate verify failed: self-signed certificate"),
            "{message}"
        );
        echo(
            &mut connect_to("localhost", echo_server(&identity), Some(&trusting))
                .await
                .unwrap(),
            10,
        )
        .await;

        let message = certificate_error(
            connect_to("127.0.0.1", echo_server(&identity), Some(&trusting)).await,
        );
        assert!(
            message.ends_with("IP address mismatch, certificate is not valid for '127.0.0.1'."),
            "{message}"
        );
        let careless = TlsSettings {
            check_hostname: false,
            ..trusting.clone()
        };
        connect_to("127.0.0.1", echo_server(&identity), Some(&careless))
            .await
            .unwrap();
        let renamed = TlsSettings {
            server_hostname: Some("localhost".to_owned()),
            ..trusting.clone()
        };
        connect_to("127.0.0.1", echo_server(&identity), Some(&renamed))
            .await
            .unwrap();
        let modern = TlsSettings {
            versions: tls::Versions::Tls13,
            ..trusting
        };
        connect_to("localhost", echo_server(&identity), Some(&modern))
            .await
            .unwrap();
    });
}

#[test]
fn the_systems_authorities_do_not_know_a_test_server() {
    let identity = identity();
    let settings = TlsSettings::default();
    assert_eq!(settings.verify, Verify::System);
    match run(connect_to(
        "localhost",
        echo_server(&identity),
        Some(&settings),
    )) {
        Err(Error::Tls { certificate, .. }) => assert!(certificate),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_self_signed_authority_may_serve_itself() {
    // What `openssl req -x509` makes: webpki alone never takes it for a server's certificate.
    let identity = identity_with(rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    let trusting = TlsSettings {
        verify: Verify::CaPem(identity.pem.clone().into()),
        ..TlsSettings::default()
    };
    let other = TlsSettings {
        verify: Verify::CaPem(self::identity().pem.into()),
        ..TlsSettings::default()
    };
    run(async {
        connect_to("localhost", echo_server(&identity), Some(&trusting))
            .await
            .unwrap();
        let port = echo_server(&identity);
        let message = certificate_error(connect_to("127.0.0.1", port, Some(&trusting)).await);
        assert!(message.contains("IP address mismatch"), "{message}");
        let port = echo_server(&identity);
        let message = certificate_error(connect_to("localhost", port, Some(&other)).await);
        assert!(message.ends_with("self-signed certificate"), "{message}");
    });
}

#[test]
fn a_trusted_leaf_vouches_for_itself_only() {
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = parameters.self_signed(&leaf_key).unwrap();
    let issuer = rcgen::Issuer::new(parameters.clone(), &leaf_key);
    let other_key = rcgen::KeyPair::generate().unwrap();
    let other = parameters.signed_by(&other_key, &issuer).unwrap();
    let trusting = |certificate: &rcgen::Certificate, partial_chain| TlsSettings {
        verify: Verify::CaPem(Vec::new()),
        leaf_pem: certificate.pem().into(),
        partial_chain,
        ..TlsSettings::default()
    };
    let serve = |host, certificate, key, settings: TlsSettings| {
        let port = echo_server(&served(certificate, key));
        run(async move { connect_to(host, port, Some(&settings)).await })
    };
    serve("localhost", &leaf, &leaf_key, trusting(&leaf, false)).unwrap();
    let elsewhere = serve("127.0.0.1", &leaf, &leaf_key, trusting(&leaf, false));
    assert!(certificate_error(elsewhere).contains("IP address mismatch"));
    certificate_error(serve(
        "localhost",
        &other,
        &other_key,
        trusting(&leaf, false),
    ));
    certificate_error(serve(
        "localhost",
        &other,
        &other_key,
        trusting(&leaf, true),
    ));
}

#[test]
fn an_authority_vouches_for_its_servers_until_they_expire() {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, "authority");
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&parameters, &authority_key);
    let trusting = TlsSettings {
        verify: Verify::CaPem(authority.pem().into()),
        ..TlsSettings::default()
    };
    let other = TlsSettings {
        verify: Verify::CaPem(identity().pem.into()),
        ..TlsSettings::default()
    };
    for (year, settings, reason) in [
        (4000, &trusting, None),
        (4000, &other, Some("unable to get local issuer certificate")),
        (2020, &trusting, Some("certificate has expired")),
    ] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        leaf.not_after = rcgen::date_time_ymd(year, 1, 1);
        leaf.not_before = rcgen::date_time_ymd(2000, 1, 1);
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let port = echo_server(&served(&leaf, &key));
        let result = run(connect_to("localhost", port, Some(settings)));
        match reason {
            None => assert!(result.unwrap().is_tls()),
            Some(reason) => {
                let message = certificate_error(result);
                assert!(message.ends_with(reason), "{message}");
            }
        }
    }
}

#[test]
fn fingerprints_pin_a_certificate() {
    use sha2::{Digest, Sha256};
    let identity = identity();
    let digest = Sha256::digest(&identity.der).to_vec();
    let pinned = TlsSettings {
        fingerprint: Some(digest.clone()),
        ..TlsSettings::unverified()
    };
    let wrong = TlsSettings {
        fingerprint: Some(vec![0; 32]),
        ..TlsSettings::unverified()
    };
    run(async {
        connect_to("127.0.0.1", echo_server(&identity), Some(&pinned))
            .await
            .unwrap();
        match connect_to("127.0.0.1", echo_server(&identity), Some(&wrong)).await {
            Err(Error::Fingerprint { expected, got, .. }) => {
                assert_eq!((expected, got), (vec![0; 32], digest));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn plain_http_on_a_tls_port_is_no_certificate_problem() {
    let port = server(|mut socket| {
        let _ = socket.read(&mut [0; 100]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = socket.read(&mut [0; 1000]);
    });
    match run(connect_to(
        "127.0.0.1",
        port,
        Some(&TlsSettings::unverified()),
    )) {
        Err(Error::Tls {
            message,
            certificate: false,
            ..
        }) => {
            assert_eq!(message, "[SSL: WRONG_VERSION_NUMBER] wrong version number");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn configurations_are_made_once() {
    let settings = TlsSettings::unverified();
    let pinned = TlsSettings {
        fingerprint: Some(vec![1]),
        ..settings.clone()
    };
    let first = settings.client_config(false).unwrap();
    assert!(Arc::ptr_eq(&first, &pinned.client_config(false).unwrap()));
    let broken = TlsSettings {
        verify: Verify::CaPem(
            b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec(),
        ),
        ..settings
    };
    assert!(
        broken
            .client_config(false)
            .unwrap_err()
            .starts_with("certificates to trust: ")
    );
}

#[test]
fn futures_may_change_threads() {
    fn is_send(_: &impl Send) {}
    let (here, settings, resolver, network) = (
        endpoint("h", 1, true),
        TlsSettings::default(),
        Resolver::new(),
        Network::default(),
    );
    is_send(&dialer(&resolver, &network, &settings).connect(&here));
}

#[test]
fn the_families_take_turns_after_the_first() {
    let v4 = |last| IpAddr::from([127, 0, 0, last]);
    let v6: Vec<IpAddr> = ["::1", "::2"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let found = vec![v6[0], v6[1], v4(1), v4(2), v4(3)];
    assert_eq!(
        in_order(found.clone(), 1),
        [v6[0], v4(1), v6[1], v4(2), v4(3)]
    );
    assert_eq!(
        in_order(found.clone(), 2),
        [v6[0], v6[1], v4(1), v4(2), v4(3)]
    );
    assert_eq!(in_order(found.clone(), 0), found);
    assert_eq!(in_order(vec![v4(1), v4(2)], 1), [v4(1), v4(2)]);
    assert!(in_order(Vec::new(), 1).is_empty());
}

#[test]
fn connections_start_from_the_local_address() {
    let (tell, told) = mpsc::channel();
    let port = server(move |socket| tell.send(socket.peer_addr().unwrap().ip()).unwrap());
    let (resolver, tls) = (Resolver::new(), TlsSettings::default());
    let bound = |local: &str| Network {
        local: vec![SocketAddr::new(local.parse().unwrap(), 0)],
        ..Network::default()
    };
    run(async {
        let here = endpoint("127.0.0.1", port, false);
        for (local, words) in [
            ("::1", "no matching local address"),
            (
                "192.0.2.1",
                "error while attempting to bind on address ('192.0.2.1', 0): cannot",
            ),
        ] {
            match dialer(&resolver, &bound(local), &tls).connect(&here).await {
                Err(Error::Connect { detail, .. }) => {
                    assert!(detail.starts_with(words), "{detail}");
                }
                other => panic!("{other:?}"),
            }
        }
        dialer(&resolver, &bound("127.0.0.9"), &tls)
            .connect(&here)
            .await
            .unwrap();
    });
    assert_eq!(told.recv().unwrap(), IpAddr::from([127, 0, 0, 9]));
}

#[test]
fn one_address_after_the_other_without_happy_eyeballs() {
    let port = server(|_socket| {});
    let network = Network {
        head_start: None,
        first_family: 0,
        ..Network::default()
    };
    run(async {
        let addresses = [IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 1])];
        // The listener is on the last of them only.
        let here = endpoint("both", port, false);
        let socket = open(&here, &addresses, &network).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap().ip(), addresses[1]);
    });
}

/// A proxy that answers CONNECT with `answer` and then joins both sides, if `target` is given.
fn proxy_server(answer: &'static [u8], target: Option<u16>) -> (u16, mpsc::Receiver<String>) {
    let (tell, told) = mpsc::channel();
    let port = server(move |mut socket| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap_or(0) == 1 {
            head.push(byte[0]);
        }
        tell.send(String::from_utf8(head).unwrap()).unwrap();
        socket.write_all(answer).unwrap();
        if let Some(port) = target {
            let mut server = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (socket.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from, &mut to));
            let _ = io::copy(&mut server, &mut socket);
        }
    });
    (port, told)
}

fn via(port: u16) -> Route {
    Route::Proxy(Proxy {
        endpoint: endpoint("127.0.0.1", port, false),
        headers: vec![("Host".to_owned(), "target:443".to_owned())],
        url: String::new(),
    })
}

#[test]
fn a_tunnel_carries_tls_to_the_target() {
    let identity = identity();
    let (port, told) = proxy_server(
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        Some(echo_server(&identity)),
    );
    let (resolver, network, tls) = (
        Resolver::new(),
        Network::default(),
        TlsSettings {
            verify: Verify::CaPem(identity.pem.clone().into()),
            ..TlsSettings::default()
        },
    );
    let route = via(port);
    let proxied = Dialer {
        route: &route,
        ..dialer(&resolver, &network, &tls)
    };
    run(async {
        // The name is the proxy's to resolve.
        let mut transport = proxied
            .connect(&endpoint("localhost", 4433, true))
            .await
            .unwrap();
        echo(&mut transport, 100_000).await;
    });
    assert_eq!(
        told.recv().unwrap(),
        "CONNECT localhost:4433 HTTP/1.1\r\nHost: target:443\r\n\r\n"
    );
}

#[test]
fn what_a_proxy_answers_is_told() {
    let (resolver, network, tls) = (
        Resolver::new(),
        Network::default(),
        TlsSettings::unverified(),
    );
    let ask = |answer: &'static [u8]| {
        let (port, _told) = proxy_server(answer, None);
        let route = via(port);
        let proxied = Dialer {
            route: &route,
            ..dialer(&resolver, &network, &tls)
        };
        run(proxied.connect(&endpoint("target", 443, true))).unwrap_err()
    };
    match ask(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\nbody") {
        Error::ProxyRefused { status: 407, head } => {
            assert_eq!(codec_reason(&head), "Who are you");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        ask(b"SSH-2.0-server\r\n"),
        Error::ProxyGarbage { .. }
    ));
    assert!(matches!(ask(b"HTTP/1.1 200"), Error::Disconnected));
    assert!(matches!(ask(b""), Error::Disconnected));
    assert!(matches!(
        ask(b"HTTP/1.1 200 OK\r\n\r\nsurprise"),
        Error::ProxyGarbage { .. }
    ));
    // After these the tunnel stands, and TLS finds nobody at its other end.
    assert!(matches!(
        ask(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
        Error::Connect { .. }
    ));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let route = via(closed.local_addr().unwrap().port());
    drop(closed);
    let proxied = Dialer {
        route: &route,
        ..dialer(&resolver, &network, &tls)
    };
    assert!(matches!(
        run(proxied.connect(&endpoint("target", 443, true))),
        Err(Error::Proxy { tls: false, .. })
    ));
}

fn codec_reason(head: &[u8]) -> String {
    String::from_utf8_lossy(crate::http::codec::reason(head)).into_owned()
}

#[test]
fn tls_goes_through_tls() {
    let (outer, inner) = (identity(), identity());
    let target = echo_server(&inner);
    let config = Arc::clone(&outer.config);
    let port = server(move |socket| {
        let mut client = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        let mut head = [0; 4096];
        let length = client.read(&mut head).unwrap();
        assert!(head[..length].starts_with(b"CONNECT localhost:443 "));
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut server = std::net::TcpStream::connect(("127.0.0.1", target)).unwrap();
        client.sock.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        // One thread for both directions: TLS cannot be split.
        loop {
            let mut idle = true;
            match client.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    idle = false;
                    server.set_nonblocking(false).unwrap();
                    server.write_all(&buffer[..length]).unwrap();
                    server.set_nonblocking(true).unwrap();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            match server.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    idle = false;
                    client.sock.set_nonblocking(false).unwrap();
                    client.write_all(&buffer[..length]).unwrap();
                    client.sock.set_nonblocking(true).unwrap();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if idle {
                thread::yield_now();
            }
        }
    });
    let (resolver, network, tls) = (
        Resolver::new(),
        Network::default(),
        TlsSettings::unverified(),
    );
    let route = Route::Proxy(Proxy {
        endpoint: endpoint("127.0.0.1", port, true),
        headers: Vec::new(),
        url: String::new(),
    });
    let proxied = Dialer {
        route: &route,
        ..dialer(&resolver, &network, &tls)
    };
    run(async {
        let mut transport = proxied
            .connect(&endpoint("localhost", 443, true))
            .await
            .unwrap();
        for _ in 0..20 {
            echo(&mut transport, 1000).await;
        }
    });
}

#[test]
fn a_context_without_authorities_trusts_nobody() {
    let identity = identity();
    let settings = TlsSettings {
        verify: Verify::CaPem(Vec::new()),
        ..TlsSettings::default()
    };
    let message = certificate_error(run(connect_to(
        "localhost",
        echo_server(&identity),
        Some(&settings),
    )));
    assert!(message.ends_with("self-signed certificate"), "{message}");
}

#[test]
fn local_sockets_are_reached_by_path() {
    let directory = std::env::temp_dir().join(format!("molotov-{}", fastrand::u64(..)));
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = socket.read(&mut buffer) {
            socket.write_all(&buffer[..length]).unwrap();
        }
    });
    let (resolver, network, tls) = (Resolver::new(), Network::default(), TlsSettings::default());
    let to = |path: PathBuf| async {
        let route = Route::Unix(path);
        let local = Dialer {
            route: &route,
            ..dialer(&resolver, &network, &tls)
        };
        local.connect(&endpoint("anything", 1, true)).await
    };
    run(async {
        echo(&mut to(path.clone()).await.unwrap(), 100_000).await;
        match to(directory.join("none")).await {
            Err(Error::Unix { path, source }) => {
                assert!(path.ends_with("/none"));
                assert_eq!(source.kind(), io::ErrorKind::NotFound);
            }
            other => panic!("{other:?}"),
        }
    });
    std::fs::remove_dir_all(directory).unwrap();
}
