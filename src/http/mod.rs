//! HTTP as a client speaks it: bytes, sockets and TLS, but no policy.
//!
//! Each file owns one thing and none keeps a connection alive, follows a redirect or knows a Python object:
//! the session in `python` puts them together, on its own thread, without a task per connection.
//!
//! | file | owns |
//! |---|---|
//! | [`target`] | a URL taken apart into host, port and request target |
//! | [`resolve`] | the addresses of a host, and their memory |
//! | [`connect`] | the race of addresses to a [`transport::Transport`], and the way through a proxy |
//! | [`proxy`] | what a proxy is told and what it answers |
//! | [`tls`] | what is accepted as a server certificate; `certificate` reads what rustls does not |
//! | [`transport`] | one plain or encrypted socket, read and written without blocking |
//! | [`encode`] | the request head |
//! | [`codec`] | the response head; `scan` is its careful half |
//! | [`head_cache`] | response heads that come again |
//! | [`body`] | where a body ends |
//! | [`http2`] | HTTP/2 in the words of HTTP/1.1 |
//! | [`content_encoding`] | compressed bodies and their bounds; `inflate`, `brotli` and `zstandard` are the codings |
//! | [`cookie`] | the cookie jar; `set_cookie` has the text forms |
//! | [`websocket`] | the frames and messages of an upgraded connection |
//! | [`error`] | what can go wrong |
//!
//! Where RFC 9110 and 9112 leave a choice, the choice is aiohttp's, as the scripts were written against it.

pub mod body;
mod brotli;
mod certificate;
pub mod codec;
pub mod connect;
pub mod content_encoding;
pub mod cookie;
pub mod encode;
pub mod error;
pub mod head_cache;
pub mod http2;
mod inflate;
pub mod proxy;
pub mod resolve;
mod scan;
mod set_cookie;
pub mod target;
pub mod tls;
pub mod transport;
pub mod websocket;
mod zstandard;
