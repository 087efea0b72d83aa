"""A server that answers with given bytes and keeps the bytes of the requests. Not a test itself."""

from __future__ import annotations

import asyncio
import enum
import re
import socket
import struct
from typing import Any

__all__ = ["Reply", "Step", "Wire", "answer", "chunked", "dribbled", "encoded", "in_chunks"]


class Step(enum.Enum):
    """What a reply may do besides sending bytes."""

    #: Go on only when the client has seen the head, so that the rest does not come in the same packet.
    HEAD_SEEN = enum.auto()
    #: End the connection with a reset instead of in good order.
    RESET = enum.auto()
    #: End it in good order, whatever is still to come.
    CLOSE = enum.auto()


#: Bytes, or what is done one after the other.
Reply = bytes | tuple[bytes | Step, ...]


def dribbled(reply: bytes) -> Reply:
    """Send a reply one byte at a time."""
    return tuple(reply[at : at + 1] for at in range(len(reply)))


def answer(body: bytes = b"ok", *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """Write an answer down; without `length` it ends with the connection."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(chunks: bytes, *headers: str) -> bytes:
    """Write an answer down whose body is in these chunks, framing included."""
    return answer(chunks, "Transfer-Encoding: chunked", *headers, length=False)


def in_chunks(body: bytes, size: int = 10) -> bytes:
    """Frame a body in chunks of that size."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def encoded(coding: str, body: bytes) -> bytes:
    """Write an answer down whose body is encoded so."""
    return answer(body, f"Content-Encoding: {coding}", "Content-Type: text/plain")


class Wire:
    """Gives the n-th request, over all connections, the n-th reply; `CLOSE` closes instead.

    Closes after the last reply, too, unless told to keep. In a reply `@PORT@` stands for this server's port.
    """

    def __init__(self, replies: tuple[Reply, ...], *, keep: bool) -> None:
        self._replies = list(replies)
        self._keep = keep
        self._head_seen = asyncio.Event()
        self.seen: list[bytes] = []
        self.accepted = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._head_seen.set()
        for writer in list(self._open):
            writer.close()
        while self._open:
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._open.add(writer)
        try:
            while True:
                self.seen.append(await _request(reader))
                reply = self._replies.pop(0) if self._replies else b""
                if reply == b"CLOSE":
                    break
                self._head_seen.clear()
                for step in reply if isinstance(reply, tuple) else (reply,):
                    if not await self._perform(step, writer):
                        return
                if not self._replies and not self._keep:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _perform(self, step: bytes | Step, writer: asyncio.StreamWriter) -> bool:
        """Do one step of a reply; give whether the connection goes on."""
        if isinstance(step, bytes):
            writer.write(step.replace(b"@PORT@", str(self.port).encode()))
            await writer.drain()
            # The client's turn: what follows comes in a packet of its own.
            await asyncio.sleep(0)
        elif step is Step.HEAD_SEEN:
            await self._head_seen.wait()
        elif step is Step.RESET:
            # To linger for no time (socket(7)) is to reset.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        return isinstance(step, bytes) or step is Step.HEAD_SEEN

    def head_seen(self) -> None:
        """Tell that the client has an answer's head."""
        self._head_seen.set()

    def say_now(self, data: bytes) -> None:
        """Send this on every open connection, unasked; what fits the socket is there when this returns."""
        for writer in self._open:
            writer.write(data)

    async def say(self, data: bytes) -> None:
        """Send this on every open connection, unasked, and let the loop turn a few times."""
        self.say_now(data)
        for _ in range(10):
            await asyncio.sleep(0)

    def named(self, value: Any) -> Any:
        """Replace this server's port, which is another for each client."""
        if isinstance(value, dict):
            return {name: self.named(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.named(item) for item in value]
        if isinstance(value, bytes):
            return value.replace(str(self.port).encode(), b"PORT")
        if isinstance(value, str):
            return value.replace(str(self.port), "PORT")
        return value


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Read one request, chunked or with a length, as it came."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length:
        return head + await reader.readexactly(int(length[1]))
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return head + await reader.readuntil(b"0\r\n\r\n")
    return head
