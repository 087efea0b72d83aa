"""Servers that misbehave on purpose: raw sockets on ephemeral loopback ports, one thread per connection.

A behaviour is a function ``behave(connection)`` that reads requests and answers them as badly as it likes.
The server counts what it accepted and read: a test compares that with the counts of the run itself.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable

OK_BODY = json.dumps({"result": "OK"}).encode()
OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(OK_BODY)).encode()
    + b"\r\n\r\n"
    + OK_BODY
)


class Connection:
    """One accepted connection, seen by a behaviour."""

    def __init__(self, server: BadServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        self._buffer = b""

    def read_request(self) -> bytes | None:
        """Return the next request's head (its body is read and dropped), or None once the client has gone."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        while len(self._buffer) < length:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._buffer += data
        self._buffer = self._buffer[length:]
        self.server.count_request()
        return head

    def send(self, data: bytes) -> None:
        """Send everything."""
        self.sock.sendall(data)
        self.server.bytes_sent += len(data)

    def reset(self) -> None:
        """Close with a TCP reset rather than an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_end(self) -> None:
        """Block until the client closes or the server stops."""
        while self.sock.recv(65536):
            pass


class BadServer:
    """Run a behaviour for every connection; use it as a context manager."""

    def __init__(self, behave: Callable[[Connection], None]) -> None:
        self.behave = behave
        self.connections = 0
        self.requests = 0
        self.bytes_sent = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> BadServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def count_request(self) -> None:
        """Count one request that was read completely."""
        with self._lock:
            self.requests += 1

    def stop(self) -> None:
        """Refuse new connections and end the open ones."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in list(self._open):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
                self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            self.behave(Connection(self, sock, number))
        except OSError:
            pass  # the client went away or a reset closed the socket: part of the game
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()


def well_behaved(connection: Connection) -> None:
    """Answer every request with a small JSON document and keep the connection open."""
    while connection.read_request() is not None:
        connection.send(OK)


def answering(data: bytes, *, reset: bool = False, linger: bool = False) -> Callable[[Connection], None]:
    """Answer the first request with these bytes, then close, reset, or stay silent."""

    def behave(connection: Connection) -> None:
        if connection.read_request() is None:
            return
        connection.send(data)
        if reset:
            connection.reset()
        elif linger:
            connection.wait_for_end()

    return behave


def closing_between_requests(connection: Connection) -> None:
    """Promise keep-alive, then close without a word after each answer."""
    if connection.read_request() is not None:
        connection.send(OK)


def keeping_every(count: int) -> Callable[[Connection], None]:
    """Serve this many requests per connection, then reset it on the next one instead of answering."""

    def behave(connection: Connection) -> None:
        for _ in range(count):
            if connection.read_request() is None:
                return
            connection.send(OK)
        if connection.read_request() is not None:
            connection.reset()

    return behave


def repeating(start: bytes, piece: bytes, pause: float = 0.0) -> Callable[[Connection], None]:
    """Send ``start`` and then ``piece`` for ever, with a pause in seconds between the pieces."""

    def behave(connection: Connection) -> None:
        if connection.read_request() is None:
            return
        connection.send(start)
        while (
            not connection.server.stopping.wait(pause) if pause else not connection.server.stopping.is_set()
        ):
            connection.send(piece)

    return behave


def trickling(data: bytes, pause: float) -> Callable[[Connection], None]:
    """Answer each request one byte at a time, with a pause in seconds between the bytes."""

    def behave(connection: Connection) -> None:
        while connection.read_request() is not None:
            for index in range(len(data)):
                connection.send(data[index : index + 1])
                if connection.server.stopping.wait(pause):
                    return

    return behave


def silent(connection: Connection) -> None:
    """Read requests and never answer."""
    while connection.read_request() is not None:
        pass


@contextlib.contextmanager
def refused_port() -> object:
    """Yield a port on which nobody listens and that nobody else can take meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
