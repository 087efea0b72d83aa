//! The time limits of a websocket: one timer for the reader's patience, the heartbeat, the server's silence
//! and the farewell.
//!
//! The timer may ring too early, for a limit that has moved since: that is cheaper than moving it with
//! every message. The channel's task looks at it; [`State::arm`] says when it has to.

use super::channel::State;
use super::dialogue::{Reader, Stage};
use super::messages::{Item, Trouble};
use crate::http::websocket::opcode;
use std::future::Future;
use std::task::Context;
use std::time::{Duration, Instant};

/// Pings that go out by themselves.
pub(super) struct Heartbeat {
    interval: Duration,
    /// For how long a pong is waited for; what the error says.
    patience_seconds: f64,
    ping_due: Option<Instant>,
    pong_due: Option<Instant>,
}

impl Heartbeat {
    /// A ping every so many seconds in which nothing comes.
    pub(super) fn new(seconds: f64, now: Instant) -> Self {
        let interval = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        Self {
            interval,
            patience_seconds: seconds / 2.0,
            ping_due: now.checked_add(interval),
            pong_due: None,
        }
    }

    /// The server is alive.
    pub(super) fn heard(&mut self, now: Instant) {
        self.pong_due = None;
        self.ping_due = now.checked_add(self.interval);
    }
}

impl State {
    fn deadline(&self) -> Option<Instant> {
        let silence = match (self.silence, self.last_read) {
            // A server cannot be heard while nobody listens.
            (Some(limit), Some(last)) if self.ended.is_none() && self.tail.is_empty() => {
                last.checked_add(limit)
            }
            _ => None,
        };
        let heartbeat = self.heartbeat.as_ref();
        [
            self.dialogue.deadline(),
            heartbeat.and_then(|heartbeat| heartbeat.ping_due),
            heartbeat.and_then(|heartbeat| heartbeat.pong_due),
            silence,
            self.linger_until,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// True when a time limit has passed that a reader should hear of.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let Some(due) = self.deadline() else {
                return false;
            };
            let now = Instant::now();
            if now >= due {
                // It may have rung already: the next limit has to set it anew.
                if self.armed.is_some_and(|armed| armed <= now) {
                    self.armed = None;
                }
                if self.ring(now) {
                    return true;
                }
                continue;
            }
            let earlier = self.armed.is_some_and(|armed| armed <= due);
            match &mut self.timer {
                Some(timer) if earlier => {
                    if timer.as_mut().poll(cx).is_pending() {
                        return false;
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

    /// Does what was due. True when a reader should hear of it.
    fn ring(&mut self, now: Instant) -> bool {
        let passed = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if self.dialogue.expire(now) {
            return true;
        }
        if passed(self.linger_until) {
            return true;
        }
        if let Some(heartbeat) = &mut self.heartbeat {
            if passed(heartbeat.pong_due) {
                let trouble = Trouble::NoPong(heartbeat.patience_seconds);
                self.heartbeat_failed(&trouble);
                return true;
            }
            if passed(heartbeat.ping_due) {
                heartbeat.ping_due = None;
                heartbeat.pong_due = now.checked_add(heartbeat.interval / 2);
                if let Err(trouble) = self.send(&mut Vec::new(), opcode::PING, b"", None) {
                    self.heartbeat_failed(&trouble);
                    return true;
                }
                return false;
            }
        }
        // What is left is the silence.
        self.ended.get_or_insert(Trouble::Silence);
        true
    }

    fn heartbeat_failed(&mut self, trouble: &Trouble) {
        self.heartbeat = None;
        if self.dialogue.closed {
            return;
        }
        let waiting = matches!(
            self.dialogue.reader,
            Some(Reader {
                stage: Stage::Message { .. },
                ..
            })
        );
        if waiting && !self.dialogue.closing {
            let error = Item::Error {
                trouble: trouble.clone(),
                kept: true,
            };
            self.push(error, 0);
        }
        self.dialogue.failed(trouble.clone());
        self.shut = true;
        // The task itself is at work here: it lets the connection go in its next turn.
        self.linger_until = Some(Instant::now());
    }
}
