//! The time limits of an exchange.
//!
//! Owns when the present exchange has to end and the one timer of its connection, which is moved as seldom as
//! possible. When it is looked at is [`super::turn`]'s business.

use super::State;
use crate::http::error::{Error, TimeoutKind};
use std::future::Future;
use std::task::Context;
use std::time::Instant;

impl State {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let flight = self.flight.as_ref()?;
        // While the request is being sent the server has no reason to speak.
        let sending = flight.uploading || flight.held.is_some() || self.sent < self.outgoing.len();
        let silence = flight
            .deadlines
            .sock_read
            .filter(|_| !sending)
            .map(|limit| flight.last_read + limit);
        match (flight.deadlines.total, silence) {
            (Some(total), Some(silence)) => Some(total.min(silence)),
            (total, silence) => total.or(silence),
        }
    }

    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        loop {
            let Some(due) = self.deadline() else {
                // Idle: the timer may ring once more for nothing, which is cheaper than moving it
                // for each request.
                if self.flight.is_none()
                    && self
                        .timer
                        .as_mut()
                        .is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
                {
                    self.timer = None;
                    self.armed = None;
                }
                return None;
            };
            let now = Instant::now();
            if now >= due {
                let total = self
                    .flight
                    .as_ref()
                    .and_then(|flight| flight.deadlines.total);
                let kind = if total.is_some_and(|total| now >= total) {
                    TimeoutKind::Total
                } else {
                    TimeoutKind::SockRead
                };
                return Some(Error::Timeout(kind));
            }
            let earlier = self.armed.is_some_and(|armed| armed <= due);
            match &mut self.timer {
                Some(timer) if earlier => {
                    if timer.as_mut().poll(cx).is_pending() {
                        return None;
                    }
                    self.armed = None;
                }
                Some(timer) => {
                    timer.as_mut().reset(due.into());
                    self.armed = Some(due);
                }
                None => {
                    self.timer = Some(Box::pin(tokio::time::sleep_until(due.into())));
                    self.armed = Some(due);
                }
            }
        }
    }
}
