//! What messages mean for the conversation: aiohttp's rules of receiving, answering and closing.
//!
//! Pure decisions on the state of one websocket; Python objects are made of them by the caller, once the
//! state is not borrowed any more. The order of the steps is aiohttp's, down to which code is left behind
//! by which failure.

use super::channel::State;
use super::messages::{End, Item, Then, Trouble};
use crate::http::websocket::{Failure, opcode};
use crate::python::awaitable::Awaitable;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// Where a reader stands.
pub(super) enum Stage {
    /// It waits for a message.
    Message {
        timeout: Option<Duration>,
        deadline: Option<Instant>,
        expired: bool,
    },
    /// It has sent a close frame and waits for the answer; then it has this to say.
    Reply {
        deadline: Option<Instant>,
        expired: bool,
        after: Option<End>,
    },
}

impl Stage {
    /// For a message, within `timeout`.
    pub(super) fn message(timeout: Option<Duration>) -> Self {
        Self::Message {
            timeout,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            expired: false,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Message { deadline, .. } | Self::Reply { deadline, .. } => *deadline,
        }
    }
}

/// Who waits for the server.
pub(super) struct Reader {
    pub(super) awaitable: Py<Awaitable>,
    pub(super) stage: Stage,
    pub(super) then: Then,
}

/// A close code; those that aiohttp chose itself are members of its enumeration.
#[derive(Clone, Copy)]
pub(super) struct CloseCode {
    pub(super) number: u16,
    pub(super) named: bool,
}

impl CloseCode {
    const OK: Self = Self {
        number: 1000,
        named: true,
    };
    pub(super) const ABNORMAL: Self = Self {
        number: 1006,
        named: true,
    };
}

/// What `exception()` gives.
pub(super) enum Kept {
    Trouble(Trouble),
    Exception(Py<PyAny>),
}

/// The state of the conversation.
#[expect(clippy::struct_excessive_bools, reason = "aiohttp's independent flags")]
pub(super) struct Dialogue {
    pub(super) reader: Option<Reader>,
    pub(super) closed: bool,
    pub(super) closing: bool,
    /// A close frame has gone out, or was to: no data may follow.
    pub(super) close_sent: bool,
    pub(super) close_code: Option<CloseCode>,
    pub(super) exception: Option<Kept>,
    pub(super) receive_timeout: Option<Duration>,
    pub(super) close_timeout: Option<Duration>,
    pub(super) autoclose: bool,
    pub(super) autoping: bool,
}

impl Dialogue {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reader.as_ref()?.stage.deadline()
    }

    /// Notes that the reader's time is up, if it is.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let Some(reader) = &mut self.reader else {
            return false;
        };
        let (Stage::Message {
            deadline, expired, ..
        }
        | Stage::Reply {
            deadline, expired, ..
        }) = &mut reader.stage;
        if deadline.is_none_or(|due| due > now) {
            return false;
        }
        *expired = true;
        *deadline = None;
        true
    }

    /// The conversation is over because of this.
    pub(super) fn failed(&mut self, trouble: Trouble) {
        self.closed = true;
        self.close_code = Some(CloseCode::ABNORMAL);
        self.exception = Some(Kept::Trouble(trouble));
    }

    pub(super) fn keep(&mut self, exception: &Bound<'_, PyAny>) {
        self.exception = Some(Kept::Exception(exception.clone().unbind()));
    }
}

impl State {
    fn set_closed(&mut self) {
        self.dialogue.closed = true;
        self.stop_heartbeat();
    }

    pub(super) fn set_closing(&mut self) {
        self.dialogue.closing = true;
        self.stop_heartbeat();
    }

    /// Goes on with what a reader waits for, as far as that is possible now.
    pub(super) fn advance(&mut self, stage: &mut Stage) -> Option<End> {
        match stage {
            Stage::Message { .. } => self.receive(stage),
            Stage::Reply { .. } => self.await_reply(stage),
        }
    }

    fn receive(&mut self, stage: &mut Stage) -> Option<End> {
        loop {
            if self.dialogue.autoping && self.ping_is_next() && self.is_congested() {
                self.blocked = true;
                return Self::in_time(&mut self.dialogue, stage);
            }
            let Some(item) = self.pop() else {
                break;
            };
            match item {
                Item::Close { code, reason } => {
                    self.set_closing();
                    self.dialogue.close_code = Some(CloseCode {
                        number: code,
                        named: false,
                    });
                    let item = End::Item(Item::Close { code, reason });
                    if self.dialogue.closed || !self.dialogue.autoclose {
                        return Some(item);
                    }
                    return self.close(stage, 1000, Some(item));
                }
                Item::Closing => {
                    self.set_closing();
                    return Some(End::Item(item));
                }
                Item::Ping(data) if self.dialogue.autoping => {
                    if let Err(trouble) = self.send(&mut Vec::new(), opcode::PONG, &data, None) {
                        return Some(End::Failed(trouble));
                    }
                    Self::start_again(stage);
                }
                Item::Pong(_) if self.dialogue.autoping => Self::start_again(stage),
                item => return Some(End::Item(item)),
            }
        }
        match self.ended.clone() {
            None => Self::in_time(&mut self.dialogue, stage),
            Some(Trouble::Silence) => {
                self.dialogue.close_code = Some(CloseCode::ABNORMAL);
                Some(End::Failed(Trouble::Silence))
            }
            Some(Trouble::Frame(Failure::Protocol { code, message })) => {
                self.dialogue.close_code = Some(CloseCode {
                    number: code,
                    named: true,
                });
                let item = Item::Error {
                    trouble: Trouble::Frame(Failure::Protocol { code, message }),
                    kept: false,
                };
                self.close(stage, code, Some(End::Item(item)))
            }
            Some(trouble @ Trouble::Frame(Failure::Corrupt(_))) => {
                self.dialogue.exception = Some(Kept::Trouble(trouble.clone()));
                self.set_closing();
                self.dialogue.close_code = Some(CloseCode::ABNORMAL);
                let kept = !self.shut;
                let item = Item::Error { trouble, kept };
                self.close(stage, 1000, Some(End::Item(item)))
            }
            Some(_) => {
                self.dialogue.close_code = Some(CloseCode::OK);
                self.close(stage, 1000, Some(End::Item(Item::Closed)))
            }
        }
    }

    /// Nothing yet: go on waiting, unless the time is up.
    fn in_time(dialogue: &mut Dialogue, stage: &Stage) -> Option<End> {
        if !matches!(stage, Stage::Message { expired: true, .. }) {
            return None;
        }
        dialogue.close_code = Some(CloseCode::ABNORMAL);
        Some(End::Failed(Trouble::Timeout))
    }

    /// Each message has the whole timeout again.
    fn start_again(stage: &mut Stage) {
        if let Stage::Message {
            timeout: Some(timeout),
            ..
        } = stage
        {
            *stage = Stage::message(Some(*timeout));
        }
    }

    /// Closes with a code only; see [`State::close_with`].
    fn close(&mut self, stage: &mut Stage, code: u16, after: Option<End>) -> Option<End> {
        self.close_with(stage, &code.to_be_bytes(), after)
    }

    /// Sends a close frame and waits for its answer, unless the server's own has come already. `None`: it
    /// has to be waited for. `after` is what the operation comes to, if not whether it closed.
    pub(super) fn close_with(
        &mut self,
        stage: &mut Stage,
        payload: &[u8],
        after: Option<End>,
    ) -> Option<End> {
        if self.dialogue.closed {
            return Some(after.unwrap_or(End::Closed(false)));
        }
        self.set_closed();
        let sent = self.send(&mut Vec::new(), opcode::CLOSE, payload, None);
        self.dialogue.close_sent = true;
        if let Err(trouble) = sent {
            self.close_failed(trouble);
            return Some(after.unwrap_or(End::Closed(true)));
        }
        if self
            .dialogue
            .close_code
            .is_some_and(|code| code.number != 0)
        {
            self.shut_down();
            return Some(after.unwrap_or(End::Closed(true)));
        }
        let timeout = self.dialogue.close_timeout;
        *stage = Stage::Reply {
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            expired: false,
            after,
        };
        self.await_reply(stage)
    }

    fn await_reply(&mut self, stage: &mut Stage) -> Option<End> {
        let Stage::Reply { expired, after, .. } = stage else {
            return None;
        };
        while let Some(item) = self.pop() {
            if let Item::Close { code, .. } = item {
                self.dialogue.close_code = Some(CloseCode {
                    number: code,
                    named: false,
                });
                self.shut_down();
                return Some(after.take().unwrap_or(End::Closed(true)));
            }
        }
        let trouble = match &self.ended {
            Some(trouble) => trouble.clone(),
            None if *expired => Trouble::Timeout,
            None => return None,
        };
        let after = after.take();
        self.close_failed(trouble);
        Some(after.unwrap_or(End::Closed(true)))
    }

    /// The conversation could not be ended as it should.
    pub(super) fn close_failed(&mut self, trouble: Trouble) {
        self.dialogue.failed(trouble);
        self.shut_down();
    }
}
