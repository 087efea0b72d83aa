//! HTTP/1.1 as a client speaks it: bytes, sockets and TLS, but no policy.
//!
//! Each file owns one thing and none keeps a connection alive, follows a redirect or knows a Python object:
//! the session in `python` puts them together, on its own thread, without a task per connection.
//!
//! | file | owns |
//! |---|---|
//! | [`target`] | a URL taken apart into host, port and request target |
//! | [`connect`] | name resolution and the race of addresses to a [`transport::Transport`] |
//! | [`tls`] | what is accepted as a server certificate |
//! | [`transport`] | one plain or encrypted socket, read and written without blocking |
//! | [`encode`] | the request head |
//! | [`codec`] | the response head; `scan` is its careful half |
//! | [`body`] | where a body ends |
//! | [`content_encoding`] | compressed bodies and their bounds; `inflate`, `brotli` and `zstandard` are the codings |
//! | [`cookie`] | the cookie jar; `set_cookie` has the text forms |
//! | [`error`] | what can go wrong |
//!
//! Where RFC 9110 and 9112 leave a choice, the choice is aiohttp's, as the scripts were written against it.

pub mod body;
mod brotli;
pub mod codec;
pub mod connect;
pub mod content_encoding;
pub mod cookie;
pub mod encode;
pub mod error;
mod inflate;
mod scan;
mod set_cookie;
pub mod target;
pub mod tls;
pub mod transport;
mod zstandard;
