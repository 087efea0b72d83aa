"""`response.content`: aiohttp's StreamReader over the native body.

Chunks are pulled from the connection as they are asked for, so a slow reader holds the server
back instead of filling memory. Made by `_response.content`, at most once per response.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

__all__ = ["StreamReader"]

#: The longest line readline() accepts by default: twice aiohttp's read buffer.
LINE_LIMIT = 2**17


class StreamReader:
    """Reads a response's body piece by piece; every method raises what aiohttp's raises."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._buffer = bytearray()
        self._eof = False
        self._exception: BaseException | None = None
        self._reading = False
        self.total_bytes = 0

    def __repr__(self) -> str:
        state = " eof" if self._eof else ""
        return f"<StreamReader {len(self._buffer)} bytes{state}>"

    async def _fill(self, caller: str) -> bool:
        """Wait for the next piece; False at the end of the body."""
        if self._exception is not None:
            raise self._exception
        if not self.total_bytes and not self._eof:
            # What read() already gave is not given again.
            self._eof = self._response._body is not None
        if self._eof:
            return False
        if self._reading:
            raise RuntimeError(
                f"{caller}() called while another coroutine is already waiting for incoming data"
            )
        self._reading = True
        try:
            chunk = await self._response._next_chunk()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._exception = error
            raise
        finally:
            self._reading = False
        if not chunk:
            self._eof = True
            return False
        if not self.total_bytes:
            from molotov._response import partly_read

            partly_read(self._response, self)
        self.total_bytes += len(chunk)
        self._buffer += chunk
        return True

    def _take(self, size: int) -> bytes:
        if size < 0 or size >= len(self._buffer):
            data = bytes(self._buffer)
            self._buffer.clear()
        else:
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
        return data

    def _check(self) -> None:
        if self._exception is not None:
            raise self._exception

    async def read(self, n: int = -1) -> bytes:
        """Read up to n bytes as soon as there are some; everything that is left when n is negative."""
        self._check()
        if n == 0:
            return b""
        if n < 0:
            while await self._fill("read"):
                pass
            return self._take(-1)
        while not self._buffer:
            if not await self._fill("read"):
                break
        return self._take(n)

    async def readany(self) -> bytes:
        """Read what has arrived, waiting for the first byte; b"" at the end."""
        self._check()
        while not self._buffer:
            if not await self._fill("readany"):
                break
        return self._take(-1)

    async def readexactly(self, n: int) -> bytes:
        """Read n bytes; asyncio.IncompleteReadError when the body ends before."""
        self._check()
        while len(self._buffer) < n:
            if not await self._fill("readexactly"):
                partial = self._take(-1)
                raise asyncio.IncompleteReadError(partial, n)
        return self._take(n)

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        """Read up to and with the next newline; ValueError (LineTooLong) beyond the limit."""
        return await self.readuntil(max_size=max_line_length)

    async def readuntil(self, separator: bytes = b"\n", *, max_size: int | None = None) -> bytes:
        """Read up to and with the separator, or to the end of the body."""
        if not separator:
            raise ValueError("Separator should be at least one-byte string")
        self._check()
        limit = max_size or LINE_LIMIT
        searched = 0
        while True:
            found = self._buffer.find(separator, searched)
            size = found + len(separator) if found >= 0 else len(self._buffer)
            if size > limit:
                raise _too_long(bytes(self._buffer[:100]), limit)
            if found >= 0:
                return self._take(size)
            searched = max(0, len(self._buffer) - len(separator) + 1)
            if not await self._fill("readuntil"):
                return self._take(-1)

    async def readchunk(self) -> tuple[bytes, bool]:
        """Read a piece and whether a chunk of the wire ends with it; (b"", False) at the end."""
        data = await self.readany()
        return data, bool(data) and self._chunked()

    def _chunked(self) -> bool:
        encoding: str = self._response.headers.get("Transfer-Encoding", "")
        return "chunked" in encoding.lower()

    def read_nowait(self, n: int = -1) -> bytes:
        """Take up to n bytes of what has arrived, without waiting."""
        self._check()
        if self._reading:
            raise RuntimeError("Called while some coroutine is waiting for incoming data.")
        return self._take(n)

    def at_eof(self) -> bool:
        """Whether everything was read."""
        return self._eof and not self._buffer

    def is_eof(self) -> bool:
        """Whether the body has arrived wholly."""
        return self._eof

    async def wait_eof(self) -> None:
        """Wait until the body has arrived wholly."""
        while await self._fill("wait_eof"):
            pass

    def exception(self) -> BaseException | None:
        """Tell what ended the stream, if it was an error."""
        return self._exception

    def set_exception(self, exc: BaseException, exc_cause: Any = None) -> None:
        """End the stream with an error."""
        self._exception = exc

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        """Append to what was read, as listeners do that put a body back."""
        self._buffer += data
        return False

    def feed_eof(self) -> None:
        """End the stream after what was fed."""
        self._eof = True

    def unread_data(self, data: bytes) -> None:
        """Put data back in front."""
        self._buffer[:0] = data

    def get_read_buffer_limits(self) -> tuple[int, int]:
        """Tell the low and high marks in bytes."""
        return (2**16, 2**17)

    def set_read_chunk_size(self, n: int) -> None:
        """Accept aiohttp's hint; pieces are pulled, so there is nothing to size."""

    def on_eof(self, callback: Callable[[], None]) -> None:
        """Call back at once when everything has arrived."""
        if self._eof:
            callback()

    @property
    def total_raw_bytes(self) -> int:
        """Bytes read so far."""
        return self.total_bytes

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _until_empty(self.readline)

    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Iterate over pieces of at most n bytes."""
        return _until_empty(lambda: self.read(n))

    def iter_any(self) -> AsyncIterator[bytes]:
        """Iterate over the pieces as they arrive."""
        return _until_empty(self.readany)

    def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Iterate over (piece, whether a chunk of the wire ends with it)."""
        return _chunks(self)


async def _until_empty(read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    while data := await read():
        yield data


async def _chunks(stream: StreamReader) -> AsyncIterator[tuple[bytes, bool]]:
    while True:
        data, ended = await stream.readchunk()
        if not data and not ended:
            return
        yield data, ended


def _too_long(line: bytes, limit: int) -> BaseException:
    from aiohttp.http_exceptions import LineTooLong

    return LineTooLong(line + b"...", limit)
