//! What arrives on a connection, from an answer's first byte to its last.
//!
//! Owns what becomes of received bytes: heads and the interim ones before them, the body where it has to be decoded,
//! the end of the connection, and the end of an exchange. Bytes that need no decoding go past it: [`super::direct`].

use super::{Arrived, Complete, Connection, Content, State, Turn, Upgraded};
use crate::http::codec::{Framing, Limits, MAX_INTERIM_RESPONSES, ResponseHead};
use crate::http::error::{self, Error};
use crate::python::body::{Body, Content as BodyContent, HIGH_WATER_BYTES};
use crate::python::carrier::Carrier;
use crate::python::pool::CountedPlace;
use crate::python::receiving::Receiving;
use pyo3::prelude::*;
use std::io;
use std::sync::Arc;
use std::time::Instant;

impl State {
    /// Takes what was read. `None`: nothing to tell anybody yet.
    pub(super) fn received(
        &mut self,
        py: Python<'_>,
        connection: &Arc<Connection>,
        data: &[u8],
    ) -> Option<Turn> {
        let Some(flight) = &mut self.flight else {
            // Nobody asked: an answer out of turn, or garbage.
            return Some(Turn::Over(None));
        };
        flight.answered = true;
        flight.received_bytes += data.len() as u64;
        if flight.deadlines.sock_read.is_some() {
            flight.last_read = Instant::now();
        }
        if flight.receiving.is_some() {
            return Some(self.body_received(py, data));
        }
        if self.incoming.is_empty() {
            return self.head_received(py, connection, data);
        }
        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.extend_from_slice(data);
        self.head_received(py, connection, &incoming)
    }

    /// The head of the answer itself, behind interim ones, which `data` is moved over. `None`: not there yet.
    pub(super) fn final_head(
        &mut self,
        py: Python<'_>,
        data: &mut &[u8],
    ) -> Result<Option<ResponseHead>, Error> {
        let Some(flight) = self.flight.as_mut() else {
            return Ok(None);
        };
        let limits = flight
            .reading
            .as_ref()
            .map_or_else(Limits::default, |reading| reading.limits);
        loop {
            let mut heads = flight.sent.url.heads.borrow_mut(py);
            match heads.parse(data, flight.head_request, &limits)? {
                Some(head) if (100..200).contains(&head.status) && head.status != 101 => {
                    flight.interim += 1;
                    if usize::from(flight.interim) > MAX_INTERIM_RESPONSES {
                        let message =
                            format!("more than {MAX_INTERIM_RESPONSES} interim responses");
                        return Err(Error::BadResponse { message });
                    }
                    if let Some(held) = flight.held.take() {
                        self.outgoing.extend_from_slice(&held);
                    }
                    *data = data.get(head.head_len..).unwrap_or_default();
                }
                head => return Ok(head),
            }
        }
    }

    pub(super) fn head_received(
        &mut self,
        py: Python<'_>,
        connection: &Arc<Connection>,
        mut data: &[u8],
    ) -> Option<Turn> {
        let head = match self.final_head(py, &mut data) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.incoming = data.to_vec();
                return None;
            }
            Err(error) => return Some(Turn::Over(Some(error))),
        };
        let flight = self.flight.as_mut()?;
        flight.status = head.status;
        flight.keep_alive = head.keep_alive;
        let request = flight.request.take()?;
        let rest = data.get(head.head_len..).unwrap_or_default();
        if head.status == 101 && flight.upgrade {
            let upgraded = Upgraded {
                transport: self.transport.take(),
                rest: rest.to_vec(),
                place: Some(CountedPlace::new(
                    Arc::clone(&connection.pool),
                    connection.key,
                    false,
                )),
            };
            let raw = data.get(..head.head_len).unwrap_or_default().into();
            let content = Content::Upgraded(Box::new(upgraded));
            self.closed = true;
            flight.keep_alive = false;
            return Some(Turn::Response {
                request,
                arrived: Arrived { head, raw, content },
                complete: self.complete(rest.len()),
            });
        }
        let encoding = head.encoding.filter(|_| flight.decompress);
        let framing = match &flight.reading {
            Some(reading) if !reading.until_eof && head.framing == Framing::UntilClose => {
                Framing::Empty
            }
            _ => head.framing,
        };
        if encoding.is_none() {
            let length = match framing {
                Framing::Empty => Some(0),
                Framing::Length(length) => usize::try_from(length).ok(),
                Framing::Chunked | Framing::UntilClose => None,
            };
            if let Some(length) = length.filter(|length| rest.len() >= *length) {
                let raw = data
                    .get(..head.head_len + length)
                    .unwrap_or_default()
                    .into();
                let complete = self.complete(rest.len() - length);
                return Some(Turn::Response {
                    request,
                    arrived: Arrived {
                        head,
                        raw,
                        content: Content::Inline,
                    },
                    complete,
                });
            }
        }
        let raw: Box<[u8]> = data.get(..head.head_len).unwrap_or_default().into();
        let limits = flight.reading.as_ref().map(|reading| reading.decoding);
        let high_water = flight
            .reading
            .as_ref()
            .map_or(HIGH_WATER_BYTES, |reading| reading.high_water);
        let mut receiving = Receiving::new(framing, encoding, limits.unwrap_or_default());
        let mut decoded = BodyContent::default();
        let (content, complete) = match receiving.decode(rest, &mut decoded, high_water) {
            Ok(Some(unread)) => (Content::Decoded(decoded), self.complete(unread)),
            Ok(None) => {
                let carrier = Carrier::Connection(Arc::clone(connection));
                let body = Body::new(carrier, decoded, high_water);
                receiving.body = Arc::downgrade(&body);
                if let Some(flight) = &mut self.flight {
                    flight.head_at = Some(Instant::now());
                    flight.receiving = Some(receiving);
                }
                (Content::Streaming(body), None)
            }
            Err(error) => {
                flight.keep_alive = false;
                (Content::Broken(error), self.complete(0))
            }
        };
        Some(Turn::Response {
            request,
            arrived: Arrived { head, raw, content },
            complete,
        })
    }

    pub(super) fn body_received(&mut self, py: Python<'_>, data: &[u8]) -> Turn {
        let Some(receiving) = self
            .flight
            .as_mut()
            .and_then(|flight| flight.receiving.as_mut())
        else {
            return Turn::Over(None);
        };
        // Nobody will read it: the response is gone.
        let Some(body) = receiving.body.upgrade() else {
            return Turn::Over(None);
        };
        let room = body.room(py);
        let decoded = body.extend(py, |content| receiving.decode(data, content, room));
        self.progress(body, decoded)
    }

    /// What became of a body with what was decoded of it just now.
    pub(super) fn progress(
        &mut self,
        body: Arc<Body>,
        decoded: Result<Option<usize>, Error>,
    ) -> Turn {
        match decoded {
            Err(error) => Turn::Over(Some(error)),
            Ok(unread) => Turn::Progress {
                body,
                complete: unread.and_then(|unread| self.complete(unread)),
            },
        }
    }

    pub(super) fn end_of_input(&mut self) -> Turn {
        let Some(flight) = &mut self.flight else {
            return Turn::Over(None);
        };
        let Some(receiving) = &mut flight.receiving else {
            return Turn::Over(Some(Error::Disconnected));
        };
        let ended = receiving.eof();
        match (ended, receiving.body.upgrade()) {
            (Ok(()), Some(body)) => {
                flight.keep_alive = false;
                Turn::Progress {
                    body,
                    complete: self.complete(0),
                }
            }
            (Ok(()), None) => Turn::Over(None),
            (Err(error), _) => Turn::Over(Some(error)),
        }
    }

    pub(super) fn read_failed(&mut self, error: io::Error) -> Turn {
        let receiving = self
            .flight
            .as_mut()
            .and_then(|flight| flight.receiving.as_mut());
        Turn::Over(Some(match receiving.map(Receiving::eof) {
            None => Error::Os(Arc::new(error)),
            // A body that only the end of the connection ends has not come whole either.
            Some(Ok(())) => Error::payload(format!(
                "Response payload is not completed: {}",
                error::described(&error)
            )),
            Some(Err(incomplete)) => {
                Error::payload(format!("{incomplete}. {}", error::described(&error)))
            }
        }))
    }

    pub(super) fn complete(&mut self, unread_bytes: usize) -> Option<Complete> {
        let flight = self.flight.take()?;
        self.served += 1;
        let now = Instant::now();
        self.idle_since = now;
        self.incoming = Vec::new();
        Some(Complete {
            ended: now,
            transfer: flight
                .head_at
                .map(|head_at| now.saturating_duration_since(head_at)),
            // Bytes behind a response belong to no request: such a connection is not trusted again.
            reusable: flight.keep_alive
                && !flight.uploading
                && flight.held.is_none()
                && unread_bytes == 0
                && self.sent >= self.outgoing.len(),
            sent: flight.sent,
            status: flight.status,
            received_bytes: flight.received_bytes,
        })
    }
}
