"""An HTTP/2 server on the h2 library that does what a test asks for. Not a test itself."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes


class Http2Server:
    """Serves on an ephemeral loopback port, over TLS with `context`; the path says how.

    It counts connections and streams, and keeps what arrives on each stream.
    """

    def __init__(self, context: ssl.SSLContext | None = None, streams: int = 100) -> None:
        self.context = context
        self.streams = streams
        self.accepted = 0
        self.open = 0
        self.most = 0
        self.requests: list[dict[str, Any]] = []
        self.resets: list[int] = []
        self.gate = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Http2Server:
        if self.context is not None:
            self.context.set_alpn_protocols(["h2", "http/1.1"])
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self.context else 'http'}://localhost:{self.port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def request(self, path: str) -> dict[str, Any]:
        """Find what arrived for a path."""
        return next(request for request in self.requests if request["headers"][":path"] == path)

    def go_away(self) -> None:
        """Tell every client to open a new connection for its next request."""
        for connection in self._connections:
            connection.h2.close_connection(ErrorCodes.NO_ERROR)
            connection.flush()

    def cut(self) -> None:
        """Drop every connection."""
        for connection in self._connections:
            connection.writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        self.open += 1
        self.most = max(self.most, self.open)
        connection = _Connection(self, writer)
        self._connections.add(connection)
        try:
            await connection.serve(reader)
        except (OSError, ProtocolError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(connection)
            self.open -= 1
            writer.close()


class _Connection:
    """One client: what it sends, and what it still has to get."""

    def __init__(self, server: Http2Server, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.streams: dict[int, dict[str, Any]] = {}
        self.unsent: dict[int, bytes] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def serve(self, reader: asyncio.StreamReader) -> None:
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self.server.streams})
        self.flush()
        try:
            while data := await reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._received(event)
                self.flush()
                await self.writer.drain()
        finally:
            for task in self.tasks:
                task.cancel()

    def _received(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            headers = event.headers or []
            request = {
                "headers": dict(headers),
                "names": [name for name, _ in headers],
                "body": b"",
                "stream": event.stream_id,
            }
            self.streams[event.stream_id] = request
            self.server.requests.append(request)
            self._begun(event.stream_id, request["headers"])
        elif isinstance(event, DataReceived):
            self.streams[event.stream_id]["body"] += event.data
            if self.streams[event.stream_id]["headers"][":path"] != "/unread":
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, StreamEnded):
            task = asyncio.ensure_future(self._answer(event.stream_id))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif isinstance(event, StreamReset):
            self.server.resets.append(event.stream_id)
            self.unsent.pop(event.stream_id, None)
        elif isinstance(event, WindowUpdated):
            for stream in list(self.unsent):
                self._send(stream)

    def _begun(self, stream: int, headers: dict[str, str]) -> None:
        """What is answered before the body is there."""
        path = headers[":path"]
        if path == "/early":
            self._head(stream, 413, [])
            self.h2.end_stream(stream)
        elif path == "/hasty":
            # The answer begins before the request has ended, and ends when it does.
            self._head(stream, 200, [])
        elif headers.get("expect") == "100-continue":
            self.h2.send_headers(stream, [(":status", "100")])

    async def _answer(self, stream: int) -> None:
        request = self.streams[stream]
        path = request["headers"][":path"].split("?")[0]
        if path.startswith("/gate"):
            await self.server.gate.wait()
        if path == "/early":
            return
        if path == "/hasty":
            self.unsent[stream] = request["body"]
            self._send(stream)
        elif path == "/reset":
            self.h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        elif path == "/refuse" and len(self.server.requests) == 1:
            self.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif path == "/cut":
            self.writer.transport.abort()
        elif path == "/silent":
            return
        elif path in ("/half", "/half-silent"):
            self._head(stream, 200, [("content-length", "100")])
            self.h2.send_data(stream, b"half")
            if path == "/half":
                self.flush()
                self.h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        elif path == "/large":
            self._head(stream, 200, [])
            self.unsent[stream] = b"0123456789abcdef" * (4 * 1024 * 1024 // 16)
            self._send(stream)
        elif path == "/gzip":
            self._body(stream, gzip.compress(b"hello " * 100), [("content-encoding", "gzip")])
        elif path == "/expanding":
            encoded = gzip.compress(bytes(32 * 1024 * 1024))
            self._body(stream, encoded, [("content-encoding", "gzip")])
        elif path == "/cookie":
            self._body(stream, b"baked", [("set-cookie", "a=1"), ("set-cookie", "b=2; Path=/")])
        elif path == "/redirect":
            self._head(stream, 302, [("location", "/target")])
            self.h2.end_stream(stream)
        elif path == "/status":
            self._head(stream, int(request["headers"][":path"].split("?")[1]), [])
            self.h2.end_stream(stream)
        elif path == "/many":
            self._body(stream, b"", [(f"x-{number}", "1") for number in range(150)])
        elif request["headers"][":method"] == "HEAD":
            self._head(stream, 200, [("content-length", "1000")])
            self.h2.end_stream(stream)
        else:
            self._body(stream, request["body"] or b'{"ok": true}', [("content-type", "application/json")])
        self.flush()

    def _head(self, stream: int, status: int, headers: list[tuple[str, str]]) -> None:
        self.h2.send_headers(stream, [(":status", str(status)), *headers])

    def _body(self, stream: int, body: bytes, headers: list[tuple[str, str]]) -> None:
        self._head(stream, 200, headers)
        self.unsent[stream] = body
        self._send(stream)

    def _send(self, stream: int) -> None:
        """Send as much as the client has room for."""
        body = self.unsent[stream]
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room <= 0:
                self.unsent[stream] = body
                self.flush()
                return
            self.h2.send_data(stream, body[:room])
            body = body[room:]
        del self.unsent[stream]
        self.h2.end_stream(stream)
        self.flush()
