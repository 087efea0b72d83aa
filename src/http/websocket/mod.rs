//! Websockets as a client speaks them (RFC 6455), with permessage-deflate (RFC 7692): bytes in, messages out.
//!
//! Nothing here owns a socket, a clock or a Python object; `python::websocket` drives it. Where the RFCs and
//! aiohttp differ (a mask on a server's frame is taken off rather than refused, a message of exactly the limit
//! is too large, close code 1006 may arrive), aiohttp is followed: scripts were written against it.
//!
//! | file | owns |
//! |---|---|
//! | `frame` | opcodes, masks, the bytes of a frame to send |
//! | `decoder` | frames taken apart and messages put together, with every limit and check |
//! | `deflate` | compressing and decompressing one message |

mod decoder;
mod deflate;
mod frame;

pub use decoder::{Decoder, Failure, Message};
pub use deflate::{Deflater, Inflater};
pub use frame::{encode, mask, opcode};

#[cfg(test)]
mod tests;
