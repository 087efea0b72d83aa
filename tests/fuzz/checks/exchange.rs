//! A connection as a whole: heads, interim responses, framing and codings put together as the session does.

use molotov::http::{
    body::BodyDecoder,
    codec::{Framing, Limits, MAX_INTERIM_RESPONSES, headers, parse_head},
    content_encoding::{DecodeLimits, Decompressor},
};

use super::pieces::{cut, options};

/// Far below the defaults, so that short inputs reach them.
const LIMITS: DecodeLimits = DecodeLimits {
    max_bytes: 1 << 20,
    max_ratio: 2064,
};

/// How much is decoded at a time.
const ROOM: usize = 1 << 15;

pub(super) fn check(input: &[u8]) {
    let ([flags, seed], text) = options(input);
    let head_request = flags & 1 != 0;
    let whole = run(&[text], head_request);
    assert_eq!(run(&cut(text, seed), head_request), whole);
    // Bytes after the end of the last answer belong to nobody: they change none of the answers before.
    if let End::Idle = whole.end {
        let more = run(
            &[text, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
            head_request,
        );
        assert_eq!(more.answers.len(), whole.answers.len() + 1);
        assert_eq!(more.answers[..whole.answers.len()], whole.answers);
    }
}

/// How a connection stands after the last byte.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Between two answers, fit for one more.
    Idle,
    /// In the middle of an answer.
    Unfinished,
    /// The last answer ended the connection.
    Closed,
    /// The server broke the rules.
    Failed,
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    interim: usize,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    content: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    answers: Vec<Answer>,
    end: End,
}

/// An answer whose head has come.
struct Open {
    answer: Answer,
    framing: BodyDecoder,
    coding: Option<Decompressor>,
    keep_alive: bool,
    until_close: bool,
}

impl Open {
    /// Takes body bytes: how many belong to the body, or `None` when they break a rule.
    fn take(&mut self, input: &[u8]) -> Option<usize> {
        let mut encoded = Vec::new();
        let progress = self.framing.decode(input, &mut encoded).ok()?;
        let Some(coding) = &mut self.coding else {
            self.answer.content.append(&mut encoded);
            return Some(progress.consumed);
        };
        let mut rest = encoded.as_slice();
        loop {
            let before = self.answer.content.len();
            let decoded = coding
                .decompress(rest, &mut self.answer.content, ROOM)
                .ok()?;
            // Memory is bounded in each step and in total.
            assert!(self.answer.content.len() - before <= ROOM + (1 << 16));
            assert!(self.answer.content.len() as u64 <= LIMITS.max_bytes);
            rest = &rest[decoded.consumed..];
            if decoded.starved {
                assert!(rest.is_empty());
                break;
            }
        }
        if progress.complete {
            coding.finish().ok()?;
        }
        Some(progress.consumed)
    }
}

fn run(pieces: &[&[u8]], head_request: bool) -> Seen {
    let mut answers = Vec::new();
    let mut buffer = Vec::new();
    let (mut open, mut interim): (Option<Open>, usize) = (None, 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while !buffer.is_empty() {
            let Some(current) = &mut open else {
                match parse_head(&buffer, head_request, &Limits::default()) {
                    Ok(None) => break,
                    Ok(Some(head)) if head.status / 100 == 1 && head.status != 101 => {
                        interim += 1;
                        if interim > MAX_INTERIM_RESPONSES {
                            return Seen {
                                answers,
                                end: End::Failed,
                            };
                        }
                        buffer.drain(..head.head_len);
                    }
                    Ok(Some(head)) => {
                        let copied = headers(&buffer[..head.head_len]);
                        let copied = copied
                            .iter()
                            .map(|(name, value)| (name.to_vec(), value.to_vec()));
                        let answer = Answer {
                            status: head.status,
                            interim,
                            headers: copied.collect(),
                            content: Vec::new(),
                        };
                        interim = 0;
                        let coded = head.encoding.filter(|_| head.framing != Framing::Empty);
                        let next = Open {
                            answer,
                            framing: BodyDecoder::new(head.framing),
                            coding: coded.map(|coding| Decompressor::new(coding, LIMITS)),
                            keep_alive: head.keep_alive,
                            until_close: head.framing == Framing::UntilClose,
                        };
                        buffer.drain(..head.head_len);
                        if !next.framing.is_complete() {
                            open = Some(next);
                        } else if next.keep_alive {
                            answers.push(next.answer);
                        } else {
                            answers.push(next.answer);
                            return Seen {
                                answers,
                                end: End::Closed,
                            };
                        }
                    }
                    Err(_) => {
                        return Seen {
                            answers,
                            end: End::Failed,
                        };
                    }
                }
                continue;
            };
            let Some(consumed) = current.take(&buffer) else {
                return Seen {
                    answers,
                    end: End::Failed,
                };
            };
            buffer.drain(..consumed);
            if current.framing.is_complete() {
                let keep_alive = current.keep_alive;
                answers.extend(open.take().map(|open| open.answer));
                if !keep_alive {
                    return Seen {
                        answers,
                        end: End::Closed,
                    };
                }
            }
        }
    }
    let between = buffer.is_empty() && interim == 0;
    let end = match open {
        Some(last) => at_close(last, &mut answers),
        None if between => End::Idle,
        None => End::Unfinished,
    };
    Seen { answers, end }
}

/// The server closes the connection in the middle of an answer, which may be its end.
fn at_close(mut last: Open, answers: &mut Vec<Answer>) -> End {
    let ended = last.framing.eof().is_ok();
    assert_eq!(ended, last.until_close);
    if !ended {
        return End::Unfinished;
    }
    if last
        .coding
        .as_mut()
        .is_some_and(|coding| coding.finish().is_err())
    {
        return End::Failed;
    }
    answers.push(last.answer);
    End::Closed
}
