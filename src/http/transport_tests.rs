//! Tests of the waiting reads and writes, with a server in its thread.

use std::{
    future::{Future, poll_fn},
    net::TcpListener,
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

use super::*;
use crate::http::{
    connect::{Dialer, Endpoint, Network, Route},
    resolve::Resolver,
    tls::TlsSettings,
};

/// More than the sockets of a loopback connection hold together.
const MUCH: usize = 16 * 1024 * 1024;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn byte(index: usize) -> u8 {
    u8::try_from(index % 251).unwrap()
}

/// Connects to a server that serves one connection with `serve`.
async fn connected(
    tls: bool,
    serve: impl FnOnce(std::net::TcpStream) + Send + 'static,
) -> Transport {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        tls,
    };
    thread::spawn(move || serve(listener.accept().unwrap().0));
    Dialer {
        resolver: &Resolver::new(),
        network: &Network::default(),
        tls: &TlsSettings::unverified(),
        route: &Route::Direct,
        http2: false,
        sock_connect: None,
    }
    .connect(&endpoint)
    .await
    .unwrap()
}

fn encrypted(socket: std::net::TcpStream) -> StreamOwned<ServerConnection, std::net::TcpStream> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket)
}

/// Takes `MUCH` bytes whole before it sends them back, so that both sides run into full sockets.
fn take_then_give(stream: &mut (impl Read + Write)) {
    let mut all = vec![0; MUCH];
    stream.read_exact(&mut all).unwrap();
    stream.write_all(&all).unwrap();
    stream.flush().unwrap();
    // Until the client is gone: closing with its bytes unread would cut ours short.
    let _ = stream.read(&mut [0; 100]);
}

async fn much_there_and_back(mut transport: Transport) {
    let data: Vec<u8> = (0..MUCH).map(byte).collect();
    let mut sent = 0;
    let mut partial = false;
    while sent < MUCH {
        let rest = &data[sent..];
        let taken = poll_fn(|cx| transport.poll_write(cx, rest)).await.unwrap();
        assert_ne!(taken, 0);
        partial |= taken < rest.len();
        sent += taken;
    }
    assert!(partial);
    poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    while received < MUCH {
        let length = poll_fn(|cx| transport.poll_read(cx, &mut buffer))
            .await
            .unwrap();
        assert_ne!(length, 0);
        assert!(buffer[..length] == data[received..received + length]);
        received += length;
    }
    assert!(!transport.is_stale());
}

#[test]
fn much_passes_both_ways() {
    run(async {
        much_there_and_back(connected(false, |mut socket| take_then_give(&mut socket)).await).await;
        much_there_and_back(connected(true, |socket| take_then_give(&mut encrypted(socket))).await)
            .await;
    });
}

#[test]
fn a_waiting_read_ends_with_the_stream() {
    run(async {
        let mut plain = connected(false, |mut socket| socket.write_all(b"pong").unwrap()).await;
        let mut buffer = [0; 3];
        let mut lengths = Vec::new();
        for _ in 0..3 {
            lengths.push(
                poll_fn(|cx| plain.poll_read(cx, &mut buffer))
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(lengths, [3, 1, 0]);

        for polite in [true, false] {
            let mut tls = connected(true, move |socket| {
                let mut stream = encrypted(socket);
                stream.write_all(b"pong").unwrap();
                if polite {
                    stream.conn.send_close_notify();
                }
                stream.flush().unwrap();
            })
            .await;
            for expected in [3, 1] {
                let length = poll_fn(|cx| tls.poll_read(cx, &mut buffer)).await.unwrap();
                assert_eq!(length, expected);
            }
            // However often one asks.
            for _ in 0..2 {
                let end = poll_fn(|cx| tls.poll_read(cx, &mut buffer)).await;
                match end {
                    Ok(length) => assert!(polite && length == 0),
                    Err(error) => {
                        assert!(!polite && error.kind() == io::ErrorKind::UnexpectedEof);
                    }
                }
            }
        }
    });
}

#[test]
fn broken_tls_stays_broken() {
    run(async {
        let mut transport = connected(true, |socket| {
            let mut stream = encrypted(socket);
            stream.write_all(b"x").unwrap();
            stream.sock.write_all(&[0xff; 100]).unwrap();
            // The socket stays open: only the bytes say that something is wrong.
            while let Ok(1..) = stream.sock.read(&mut [0; 100]) {}
        })
        .await;
        let mut buffer = [0; 10];
        let mut outcomes = Vec::new();
        for _ in 0..3 {
            let outcome = poll_fn(|cx| transport.poll_read(cx, &mut buffer)).await;
            outcomes.push(outcome.map_err(|error| error.kind()));
        }
        outcomes.retain(|outcome| *outcome != Ok(1));
        assert!(outcomes.len() >= 2);
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == Err(io::ErrorKind::InvalidData))
        );
    });
}
