//! A connection that is being opened for a request, or for all that wait for it.
//!
//! Owns the attempt and its place in the pool; what follows is [`super::request`]'s, which starts it.

use super::event_loop::Engine;
use super::pool::CountedPlace;
use crate::http::connect::{Dialer, Endpoint, Route};
use crate::http::error::{Error, TimeoutKind};
use crate::http::http2;
use crate::http::tls::TlsSettings;
use crate::http::transport::Transport;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection that is being opened for a request.
pub(crate) struct Opening {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: TlsSettings,
    pub(crate) route: Arc<Route>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) sock_connect: Option<Duration>,
    pub(crate) limit: Option<(Instant, TimeoutKind)>,
    /// Is given back when the request is cancelled while it connects.
    pub(crate) place: CountedPlace,
}

/// What was opened: a connection for one request at a time, or one for all.
pub(crate) enum Opened {
    Own(Transport),
    Shared(Box<(http2::Sender, http2::Driver)>),
}

impl Opening {
    pub(crate) async fn open(&self) -> Result<Opened, Error> {
        let transport = self.transport().await?;
        if self.place.shared && (transport.speaks_http2() || !self.endpoint.tls) {
            let opened = http2::open(transport).await?;
            return Ok(Opened::Shared(Box::new(opened)));
        }
        Ok(Opened::Own(transport))
    }

    async fn transport(&self) -> Result<Transport, Error> {
        let dialer = Dialer {
            resolver: &self.engine.resolver,
            network: &self.place.pool.ways.network,
            tls: &self.tls,
            route: &self.route,
            http2: self.place.shared,
            sock_connect: self.sock_connect,
        };
        let opening = dialer.connect(&self.endpoint);
        match self.limit {
            None => opening.await,
            Some((due, kind)) => match tokio::time::timeout_at(due.into(), opening).await {
                Ok(opened) => opened,
                Err(_) => Err(Error::Timeout(kind)),
            },
        }
    }
}
