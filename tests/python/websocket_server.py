"""The servers that websocket tests talk to: aiohttp's own, and raw ones that say whatever a test wants.

Both note what they saw, so that a test can compare two clients from the server's side.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = b"") -> bytes:
    """Give the bytes of one frame; rsv is 4 for RSV1, 2 for RSV2, 1 for RSV3."""
    length = len(payload)
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    masked = 0x80 if mask else 0
    if length < 126:
        head = struct.pack("!BB", first, masked | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if mask:
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return head + mask + payload


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def deflated(data: bytes, level: int = 9) -> bytes:
    compressor = zlib.compressobj(level, wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


class Peer:
    """One connection of a raw server, after its handshake."""

    def __init__(self, server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self._inflate = zlib.decompressobj(wbits=-15)

    def send(self, *data: bytes) -> None:
        """Write it all in one piece."""
        self.writer.write(b"".join(data))

    def reset(self) -> None:
        """Close with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
        self.writer.transport.abort()

    async def read(self) -> tuple[Any, ...] | None:
        """Read and note one frame of the client: opcode, payload, rsv. None at the end."""
        try:
            first, second = await self.reader.readexactly(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            assert second & 0x80, "every frame of a client is masked"
            mask = await self.reader.readexactly(4)
            payload = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        wide = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        payload = (int.from_bytes(payload, "big") ^ wide).to_bytes(length, "big")
        rsv = first >> 4 & 7
        if rsv & 4 and not first & 8:
            payload = self._inflate.decompress(payload + b"\0\0\xff\xff")
        seen = (first & 15, payload, rsv, bool(first & 0x80))
        self.server.seen.append(seen)
        return seen

    async def read_to_end(self) -> None:
        """Read and note everything up to the end of the connection; agree to a close frame."""
        while (seen := await self.read()) is not None:
            if seen[0] == CLOSE:
                self.send(frame(CLOSE, seen[1]))


Behaviour = Callable[[Peer], Awaitable[None]]


class RawServer:
    """Answers the handshake with `answer(key)`, then lets `behave` do as it likes."""

    def __init__(
        self,
        behave: Behaviour,
        answer: Callable[[bytes], bytes] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._behave = behave
        self._tls = tls
        self._answer = answer or handshake
        self.seen: list[Any] = []
        self.heads: list[bytes] = []
        self.accepted = 0
        self.open = 0
        self.changed = asyncio.Condition()

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.base = f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.wait_for(self.until_open(0), 20)

    async def until_open(self, count: int) -> None:
        """Wait until so many connections are open, no more and no less."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.open == count)

    async def until_seen(self, count: int) -> None:
        """Wait until so many frames have been noted."""
        while len(self.seen) < count:
            await asyncio.sleep(0.001)

    async def _count(self, change: int) -> None:
        async with self.changed:
            self.open += change
            self.changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await self._count(1)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                lines = head.split(b"\r\n")
                keys = [
                    line.split(b":")[1].strip()
                    for line in lines
                    if line.lower().startswith(b"sec-websocket-key:")
                ]
                writer.write(self._answer(keys[0] if keys else b""))
                await self._behave(Peer(self, reader, writer))
        finally:
            writer.close()
            await self._count(-1)


def accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + ACCEPT_SUFFIX).digest())


def handshake(key: bytes, *more: bytes, **replaced: bytes | None) -> bytes:
    """Give a correct 101 answer; keywords replace a header (underscores for dashes) or leave it out."""
    headers = {b"Upgrade": b"websocket", b"Connection": b"Upgrade", b"Sec-WebSocket-Accept": accept(key)}
    for name, value in replaced.items():
        known = next(header for header in headers if header.lower() == name.replace("_", "-").encode())
        headers[known] = value
    lines = [name + b": " + value for name, value in headers.items() if value is not None]
    return b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, *more, b"", b""])


def deflating(*parameters: str) -> Callable[[bytes], bytes]:
    """Agree on permessage-deflate, with these parameters."""
    extension = "; ".join(["permessage-deflate", *parameters]).encode()
    return lambda key: handshake(key, b"Sec-WebSocket-Extensions: " + extension)


def plain_data(data: Any) -> Any:
    """Give a message's data as something that compares."""
    return repr(data) if isinstance(data, BaseException) else data


class AppServer:
    """An aiohttp.web server whose websocket handlers note what they receive."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self._talking = 0

    async def __aenter__(self) -> AppServer:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.base = f"ws://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        # A server that is stopped gives up its conversations: they have to end by themselves first.
        while self._talking:
            await asyncio.sleep(0.001)
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        secret = ("Sec-WebSocket-Key", "User-Agent")
        headers = [
            (name.decode(), "?" if name.decode() in secret else value.decode())
            for name, value in request.raw_headers
        ]
        self.seen.append((request.method, request.path_qs, headers))
        kind = request.path.strip("/").split("/")[0]
        if kind == "status":
            return web.Response(status=int(request.query["code"]), text="no websocket here")
        if kind == "redirect":
            return web.Response(status=302, headers={"Location": request.query["to"]})
        if kind == "cookie":
            answer = web.Response(text="baked")
            answer.set_cookie("crumb", "1")
            return answer
        options: dict[str, Any] = {}
        if kind == "protocols":
            options["protocols"] = ("first", "second")
        if kind == "plain":
            options["compress"] = False
        if kind == "crumbs":
            options["heartbeat"] = 30.0
        if kind == "small":
            options["max_msg_size"] = 100
        socket = web.WebSocketResponse(**options)
        if kind == "crumbs":
            socket.set_cookie("crumb", "2")
        await socket.prepare(request)
        self._talking += 1
        try:
            async for message in socket:
                self.seen.append((message.type.name, plain_data(message.data)))
                await self._answer(socket, message)
            self.seen.append(("closed", socket.close_code))
        finally:
            self._talking -= 1
        return socket

    async def _answer(self, socket: web.WebSocketResponse, message: aiohttp.WSMessage) -> None:
        if message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            word, _, rest = message.data.partition(" ")
            if word == "close":
                code, _, reason = rest.partition(" ")
                await socket.close(code=int(code), message=reason.encode())
            elif word == "ping":
                await socket.ping(rest.encode())
                await socket.send_str("pinged")
            elif word == "pong":
                await socket.pong(rest.encode())
                await socket.send_str("ponged")
            elif word == "many":
                for number in range(int(rest)):
                    await socket.send_str(f"message {number}")
            elif word == "drop":
                assert socket._req is not None and socket._req.transport is not None
                socket._req.transport.abort()
            else:
                await socket.send_str(message.data)
