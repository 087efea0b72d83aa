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
//! | [`content_encoding`] | gzip and deflate bodies |
//! | [`cookie`] | the cookie jar; `set_cookie` has the text forms |
//! | [`websocket`] | the frames and messages of an upgraded connection |
//! | [`error`] | what can go wrong |
//!
//! Where RFC 9110 and 9112 leave a choice, the choice is aiohttp's, as the scripts were written against it.

pub mod body;
pub mod codec;
pub mod connect;
pub mod content_encoding;
pub mod cookie;
pub mod encode;
pub mod error;
mod scan;
mod set_cookie;
pub mod target;
pub mod tls;
pub mod transport;
pub mod websocket;
