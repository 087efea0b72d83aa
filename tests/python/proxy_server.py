"""A small HTTP proxy that notes what it is told: the whole URL in a request line, or CONNECT.

Used by test_session_proxies.py and test_websocket_connections.py; not a test itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

#: What a hostile proxy does instead of its job: gets the request's head and the way back.
Instead = Callable[[bytes, asyncio.StreamWriter], None]


class ProxyServer:
    """Forwards on an ephemeral loopback port; every host is taken for this machine.

    `instead` answers in the proxy's place and the connection ends. With `context` the proxy speaks TLS.
    """

    def __init__(self, instead: Instead | None = None, context: ssl.SSLContext | None = None) -> None:
        self.instead = instead
        self.context = context
        self.accepted = 0
        self.open = 0
        #: The first line and the headers of each request, in order.
        self.seen: list[tuple[str, list[tuple[str, str]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ProxyServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        # What they closed has one more turn to end in.
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        self.open += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            self.open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines]
        self.seen.append((first, headers))  # type: ignore[arg-type]
        if self.instead is not None:
            self.instead(head, writer)
            return False
        method, target, _ = first.split(" ")
        if method == "CONNECT":
            await self._tunnel(int(target.rsplit(":", 1)[1]), reader, writer)
            return False
        if "Upgrade" in dict(headers):
            await self._upgrade(head, urlsplit(target), reader, writer)
            return False
        await self._forward(method, target, dict(headers), reader, writer)
        return True

    async def _upgrade(
        self, head: bytes, target: SplitResult, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target.port)
        method, _, rest = head.split(b" ", 2)
        back.write(b" ".join((method, (target.path or "/").encode(), rest)))
        await self._join(there, back, reader, writer)

    async def _tunnel(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self._join(there, back, reader, writer)

    async def _join(
        self,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                with contextlib.suppress(OSError):
                    while data := await source.read(65536):
                        sink.write(data)
                        await sink.drain()
            finally:
                sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))

    async def _forward(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        parts = urlsplit(target)
        there, back = await asyncio.open_connection("127.0.0.1", parts.port or 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items() if not name.startswith("Proxy-")]
        back.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body)
        try:
            answer = await there.read()
        finally:
            back.close()
        # The server ends its connection after the answer; ours stays.
        head, _, rest = answer.partition(b"\r\n\r\n")
        kept = [line for line in head.split(b"\r\n") if line.lower() != b"connection: close"]
        writer.write(b"\r\n".join(kept) + b"\r\n\r\n" + rest)
        await writer.drain()
