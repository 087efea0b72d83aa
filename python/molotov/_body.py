"""Hand a prepared request's body to the native exchange: as bytes where it is bytes, else as a stream."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

__all__ = ["outgoing"]

#: Chunks a payload may write ahead of the socket.
_AHEAD = 2


def outgoing(request: Any) -> tuple[bytes | None, AsyncIterator[bytes] | None]:
    """Give (body, None) or (None, chunks) for an aiohttp ClientRequest; (None, None) without a body.

    Chunks go out in chunked encoding when the request's headers say so, and as they are otherwise.
    """
    body = request.body
    chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    if body is None or (isinstance(body, (bytes, bytearray)) and not body):
        # The headers promise chunks: the last one has to be sent even when it is the only one.
        return None, (_stream(request, b"") if chunked else None)
    plain = _plain(body)
    if plain is not None and not request.compress and not chunked:
        length = _declared_length(request)
        return (plain if length is None else plain[:length]), None
    return None, _stream(request, plain)


def _plain(body: Any) -> bytes | None:
    """Give the bytes of a body that is nothing but bytes, else None."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    from aiohttp.payload import BytesPayload

    # A subclass with its own way of writing is asked to write.
    if isinstance(body, BytesPayload) and type(body).write is BytesPayload.write:
        value = body._value
        return bytes(value)
    return None


def _declared_length(request: Any) -> int | None:
    value = request.headers.get("Content-Length")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"Invalid Content-Length header: {value!r}")
    return int(value)


async def _stream(request: Any, plain: bytes | None) -> AsyncIterator[bytes]:
    """Yield the body, compressed if asked; failures of its source become aiohttp's errors."""
    compressor = _compressor(request.compress)
    source = _once(plain) if plain is not None else _written(request)
    try:
        async for chunk in source:
            out = chunk if compressor is None else compressor.compress(chunk)
            if out:
                yield out
    except asyncio.TimeoutError:
        raise
    except OSError as error:
        import aiohttp

        raise aiohttp.ClientOSError(error.errno, f"Can not write request body for {request.url!s}") from error
    except Exception as error:
        import aiohttp

        raise aiohttp.ClientConnectionError(
            "Failed to send bytes into the underlying connection "
            f"Connection<{request.connection_key!s}>: {error!r}"
        ) from error
    if compressor is not None:
        yield compressor.flush()


async def _once(plain: bytes) -> AsyncIterator[bytes]:
    yield plain


def _compressor(encoding: Any) -> Any:
    if not encoding:
        return None
    # As aiohttp does: gzip by name, zlib's format for everything else.
    window = 16 + zlib.MAX_WBITS if encoding == "gzip" else zlib.MAX_WBITS
    return zlib.compressobj(wbits=window)


class _Writer:
    """What a payload writes to: a short queue, so that a slow server slows the reading of the file."""

    transport = None
    buffer_size = 0
    output_size = 0
    length: int | None = 0
    on_body_write = None

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._finished = False

    async def write(self, chunk: Any, **_: Any) -> None:
        """Take a chunk; waits while the server is behind."""
        if not chunk:
            return
        while len(self._pieces) >= _AHEAD:
            await self._change()
        data = bytes(chunk)
        self.output_size += len(data)
        self._pieces.append(data)
        self._changed.set()

    async def write_eof(self, chunk: bytes = b"") -> None:
        """Take the last chunk."""
        await self.write(chunk)

    async def drain(self) -> None:
        """Nothing waits here: write() does."""

    def enable_compression(self, *arguments: Any, **named: Any) -> None:
        """Compression is applied after the queue."""

    def enable_chunking(self) -> None:
        """Framing is the exchange's."""

    def finish(self, _: Any = None) -> None:
        """Tell the reader that nothing more comes."""
        self._finished = True
        self._changed.set()

    async def next(self) -> bytes | None:
        """Give the next chunk; None at the end."""
        while not self._pieces:
            if self._finished:
                return None
            await self._change()
        self._changed.set()
        return self._pieces.popleft()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


async def _written(request: Any) -> AsyncIterator[bytes]:
    """Let the payload write into a queue in a task of its own, and yield what arrives."""
    writer = _Writer()
    payload = request.body
    length = _declared_length(request)

    async def write() -> None:
        if hasattr(payload, "write_with_length"):
            await payload.write_with_length(writer, length)
        elif hasattr(payload, "write"):
            await payload.write(writer)
        else:  # aiohttp before 3.12 keeps async generators as they are
            async for chunk in payload:
                await writer.write(chunk)

    task = request.molotov_writing = asyncio.get_running_loop().create_task(write())
    task.add_done_callback(writer.finish)
    try:
        while (chunk := await writer.next()) is not None:
            yield chunk
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
