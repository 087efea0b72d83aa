//! One connected socket, plain or encrypted, driven by whoever polls it.
//!
//! Owns the bytes between the kernel and the codec: reads and writes that never wait, readiness, and the TLS
//! handshake. There is no task and no buffer of its own beyond what TLS needs, so that a request costs one
//! write and one read. Made by `connect`; kept, reused and dropped by the session.

use std::{
    future::poll_fn,
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A connection to a server.
#[derive(Debug)]
pub enum Transport {
    /// TCP as it is.
    Plain(TcpStream),
    /// A socket of this machine.
    Unix(UnixStream),
    /// TLS over one of these: over another TLS behind an https proxy.
    Tls(Box<TlsTransport>),
}

impl Transport {
    /// Waits until [`try_read`](Self::try_read) may have something: bytes, the end or an error.
    #[inline]
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(cx),
            Self::Unix(socket) => socket.poll_read_ready(cx),
            Self::Tls(tls) => tls.poll_read_ready(cx),
        }
    }

    /// Reads what is there. `Ok(0)` is the end of the stream (or an empty `buf`).
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `UnexpectedEof` when TLS ends without saying so; `InvalidData` when
    /// it breaks; the socket's errors.
    #[inline]
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(buf),
            Self::Unix(socket) => socket.try_read(buf),
            Self::Tls(tls) => tls.try_read(buf),
        }
    }

    /// Writes what there is room for. With TLS, bytes taken may still wait for [`poll_flush`](Self::poll_flush).
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; the socket's errors.
    #[inline]
    pub fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(data),
            Self::Unix(socket) => socket.try_write(data),
            Self::Tls(tls) => tls.try_write(data),
        }
    }

    /// Waits until [`try_write`](Self::try_write) may take something.
    #[inline]
    pub fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_write_ready(cx),
            Self::Unix(socket) => socket.poll_write_ready(cx),
            Self::Tls(tls) => {
                ready!(tls.poll_flush(cx))?;
                tls.inner.poll_write_ready(cx)
            }
        }
    }

    /// Waits until everything taken is on the socket.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Reads what is there, or waits for it. `Ok(0)` as for [`try_read`](Self::try_read).
    ///
    /// On a plain socket a read that does not fill `buf` also notes that the socket is empty, which saves
    /// the system call that would find that out.
    ///
    /// # Errors
    /// Those of [`try_read`](Self::try_read), but for `WouldBlock`.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(_) | Self::Unix(_) => {
                let mut buf = ReadBuf::new(buf);
                ready!(self.poll_read_into(cx, &mut buf))?;
                Poll::Ready(Ok(buf.filled().len()))
            }
            Self::Tls(tls) => tls.poll_read(cx, buf),
        }
    }

    /// As [`poll_read`](Self::poll_read), into memory that need not be initialised (for TLS it will be).
    ///
    /// # Errors
    /// Those of [`poll_read`](Self::poll_read).
    #[inline]
    pub fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(tls) => {
                let count = ready!(tls.poll_read(cx, buf.initialize_unfilled()))?;
                buf.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Writes what there is room for, or waits for room.
    ///
    /// # Errors
    /// Those of [`try_write`](Self::try_write), but for `WouldBlock`.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_write(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Whether an idle connection has ended, broken or said something unasked: it must not be used again.
    ///
    /// Asks the kernel, not the event loop, which may not have looked for a while. TLS session tickets and the
    /// like are taken in; they are no answer.
    pub fn is_stale(&mut self) -> bool {
        let quiet = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let mut byte = [MaybeUninit::uninit()];
        let peeked = self.socket().peek(&mut byte);
        match (peeked, self) {
            (Err(error), _) => !quiet(&error),
            (Ok(1..), Self::Tls(tls)) => tls.is_stale(),
            (Ok(_), _) => true,
        }
    }

    /// The socket at the bottom.
    fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Plain(socket) => SockRef::from(socket),
            Self::Unix(socket) => SockRef::from(socket),
            Self::Tls(tls) => tls.inner.socket(),
        }
    }

    /// As [`try_read`](Self::try_read), but past what the event loop knows.
    fn read_from_kernel(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(_) | Self::Unix(_) => (&*self.socket()).read(buf),
            Self::Tls(tls) => {
                tls.take_in()?;
                tls.connection.reader().read(buf)
            }
        }
    }

    /// Whether this is TLS.
    #[inline]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The server's address.
    ///
    /// # Errors
    /// The socket's, when it is no longer connected; `Unsupported` for a socket of this machine.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(socket) => socket.peer_addr(),
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Tls(tls) => tls.inner.peer_addr(),
        }
    }

    /// Our own address.
    ///
    /// # Errors
    /// Those of [`peer_addr`](Self::peer_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(socket) => socket.local_addr(),
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Tls(tls) => tls.inner.local_addr(),
        }
    }

    /// Whether both sides agreed on HTTP/2 in the handshake (RFC 9113 section 3.2).
    pub fn speaks_http2(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.connection.alpn_protocol() == Some(b"h2"))
    }

    /// The certificate that the server showed; empty without TLS.
    pub(super) fn peer_certificate(&self) -> &[u8] {
        match self {
            Self::Tls(tls) => tls
                .connection
                .peer_certificates()
                .and_then(<[_]>::first)
                .map_or(&[], |certificate| certificate.as_ref()),
            Self::Plain(_) | Self::Unix(_) => &[],
        }
    }

    /// Says goodbye as far as that is possible without waiting. The socket closes when this is dropped.
    pub fn shutdown(&mut self) {
        if let Self::Tls(tls) = self {
            tls.connection.send_close_notify();
            // The server may be gone already; nobody wants to know.
            let _ = tls.push();
            tls.inner.shutdown();
        }
    }
}

/// For protocols that bring their own driver.
impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll_read_into(cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = self.get_mut();
        transport.shutdown();
        Self::poll_flush(transport, cx)
    }
}

/// The state of a TLS connection after its handshake.
#[derive(Debug)]
pub struct TlsTransport {
    inner: Transport,
    connection: ClientConnection,
}

impl TlsTransport {
    /// Shakes hands over `inner`. An error of TLS itself is inside the I/O error.
    pub(super) async fn handshake(
        inner: Transport,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut tls = Self { inner, connection };
        poll_fn(|cx| tls.poll_handshake(cx)).await?;
        Ok(tls)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(cx))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.inner.poll_read_ready(cx))?;
            match self.connection.read_tls(&mut Socket(&mut self.inner)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if let Err(error) = self.connection.process_new_packets() {
                // The alert that says why.
                let _ = self.push();
                let error = io::Error::new(io::ErrorKind::InvalidData, error);
                return Poll::Ready(Err(error));
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Bytes decrypted but not read yet will never make the socket readable. An error is try_read's to tell.
        let buffered = match self.connection.process_new_packets() {
            Ok(state) => state.plaintext_bytes_to_read() > 0 || state.peer_has_closed(),
            Err(_) => true,
        };
        if buffered {
            Poll::Ready(Ok(()))
        } else {
            self.inner.poll_read_ready(cx)
        }
    }

    /// Takes in what the socket has; whether any of it is more than TLS talking about itself.
    fn is_stale(&mut self) -> bool {
        match (self.take_in(), self.connection.process_new_packets()) {
            (Ok(()), Ok(state)) => state.plaintext_bytes_to_read() > 0 || state.peer_has_closed(),
            _ => true,
        }
    }

    /// Takes in what the kernel has now; nothing but the end of the stream and failures are errors.
    fn take_in(&mut self) -> io::Result<()> {
        match self.connection.read_tls(&mut Kernel(&mut self.inner)) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            taken => ignore_would_block(taken.map(drop)),
        }?;
        self.connection
            .process_new_packets()
            .map(drop)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            // At the end of TCP this takes in nothing, and the reader above then tells which end it was.
            let arrived = self.connection.read_tls(&mut Socket(&mut self.inner));
            // Looked at even when nothing arrived: a broken connection stays broken and never just waits.
            if let Err(error) = self.connection.process_new_packets() {
                // The alert that says why.
                let _ = self.push();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            arrived?;
            if self.connection.wants_write() {
                // Answers to key updates; what does not fit goes out with the next write.
                ignore_would_block(self.push())?;
            }
        }
    }

    fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        // Earlier records first: what is taken must not grow without bound while the socket is full.
        self.push()?;
        let taken = self.connection.writer().write(data)?;
        if taken == 0 && !data.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        ignore_would_block(self.push())?;
        Ok(taken)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.push() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.inner.poll_write_ready(cx))?;
                }
                Ok(()) => return self.inner.poll_flush(cx),
                failed => return Poll::Ready(failed),
            }
        }
    }

    /// Hands finished records to the socket until there are none.
    fn push(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut Socket(&mut self.inner))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

fn ignore_would_block(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

/// The socket as rustls wants it, without the event loop.
struct Kernel<'a>(&'a mut Transport);

impl Read for Kernel<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_from_kernel(buf)
    }
}

/// The socket as rustls wants it.
struct Socket<'a>(&'a mut Transport);

impl Read for Socket<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.try_write(data)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match &mut *self.0 {
            Transport::Plain(socket) => socket.try_write_vectored(parts),
            Transport::Unix(socket) => socket.try_write_vectored(parts),
            Transport::Tls(tls) => {
                let first = parts.iter().find(|part| !part.is_empty());
                first.map_or(Ok(0), |part| tls.try_write(part))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
