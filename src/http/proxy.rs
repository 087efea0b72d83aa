//! The tunnel through an HTTP proxy (RFC 9110 section 9.3.6).
//!
//! Owns the CONNECT request and the reading of its answer; the connection to the proxy and the TLS inside the
//! tunnel are `connect`'s. Requests for plain http do without a tunnel: the session sends them to the proxy
//! with the whole URL as their target.

use std::{future::poll_fn, sync::Arc};

use super::{
    codec::{self, Limits, MAX_INTERIM_RESPONSES},
    connect::Endpoint,
    encode,
    error::Error,
    transport::Transport,
};

/// A proxy, and what it is told besides the target of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// Where it listens; TLS if its URL says https.
    pub endpoint: Endpoint,
    /// The headers of a CONNECT request, credentials and `Host` included.
    pub headers: Vec<(String, String)>,
    /// Its URL as the script wrote it: what a refusal shows.
    pub url: String,
}

/// Asks for a tunnel to `target` and waits for the answer.
///
/// # Errors
/// [`Error::ProxyRefused`]; [`Error::Disconnected`] and [`Error::Os`] when the proxy leaves;
/// [`Error::BadResponse`] for an answer that is not HTTP, or bytes in the tunnel before anybody spoke.
pub(super) async fn open_tunnel(
    transport: &mut Transport,
    proxy: &Proxy,
    target: &Endpoint,
) -> Result<(), Error> {
    send(transport, &request(proxy, target)?).await?;
    let mut received = Vec::new();
    let mut interim = 0;
    loop {
        // The answer to CONNECT has no body that would matter, as that to HEAD.
        while let Some(head) = codec::parse_head(&received, true, &Limits::default())? {
            if (100..200).contains(&head.status) && head.status != 101 {
                interim += 1;
                if interim > MAX_INTERIM_RESPONSES {
                    return Err(Error::bad_response("too many interim responses to CONNECT"));
                }
                received.drain(..head.head_len);
                continue;
            }
            if head.status != 200 {
                received.truncate(head.head_len);
                return Err(Error::ProxyRefused {
                    status: head.status,
                    head: Arc::from(received),
                });
            }
            // A TLS server waits for its client: these bytes are nobody's.
            if received.len() > head.head_len {
                return Err(Error::bad_response("data after the answer to CONNECT"));
            }
            return Ok(());
        }
        let mut buffer = [0; 4096];
        let count = poll_fn(|cx| transport.poll_read(cx, &mut buffer)).await?;
        if count == 0 {
            return Err(Error::Disconnected);
        }
        received.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
}

fn request(proxy: &Proxy, target: &Endpoint) -> Result<Vec<u8>, Error> {
    let host = if target.host.contains(':') {
        format!("[{}]", target.host)
    } else {
        target.host.clone()
    };
    let mut wire = format!("CONNECT {host}:{} HTTP/1.1\r\n", target.port).into_bytes();
    for (name, value) in &proxy.headers {
        encode::write_header(&mut wire, name.as_bytes(), value.as_bytes())?;
    }
    wire.extend_from_slice(b"\r\n");
    Ok(wire)
}

async fn send(transport: &mut Transport, wire: &[u8]) -> Result<(), Error> {
    let mut sent = 0;
    while let Some(rest) = wire.get(sent..).filter(|rest| !rest.is_empty()) {
        sent += poll_fn(|cx| transport.poll_write(cx, rest)).await?;
    }
    poll_fn(|cx| transport.poll_flush(cx)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_names_its_target_twice() {
        let proxy = Proxy {
            endpoint: Endpoint {
                host: "proxy".to_owned(),
                port: 3128,
                tls: false,
            },
            headers: vec![
                ("Host".to_owned(), "[::1]:8443".to_owned()),
                ("Proxy-Authorization".to_owned(), "Basic eA==".to_owned()),
            ],
            url: String::new(),
        };
        let target = Endpoint {
            host: "::1".to_owned(),
            port: 8443,
            tls: true,
        };
        assert_eq!(
            request(&proxy, &target).unwrap(),
            b"CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\nProxy-Authorization: Basic eA==\r\n\r\n"
        );
        let split = Proxy {
            headers: vec![("X".to_owned(), "a\r\nb".to_owned())],
            ..proxy
        };
        assert!(matches!(
            request(&split, &target),
            Err(Error::InvalidHeader(_))
        ));
    }
}
