"""`response.content`: aiohttp's StreamReader over the native body.

Pieces are pulled from the connection as they are asked for, so a slow reader holds the server back instead of
filling memory. Made by `_response.content`, at most once per response.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

__all__ = ["StreamReader"]

_T = TypeVar("_T")
_OLD_BUFFER = 2**16
# Smaller pieces are cut from a larger one: a system call for each would cost more.
_LEAST_RECEIVED = 2**14


def _default_buffer() -> int:
    """Give aiohttp's own read_bufsize in bytes, which has changed between its versions."""
    from aiohttp import helpers

    size: int = getattr(helpers, "DEFAULT_CHUNK_SIZE", _OLD_BUFFER)
    return size


class StreamReader:
    """Reads a response's body piece by piece; every method raises what aiohttp's raises."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._pieces: deque[bytes] = deque()
        self._offset = 0  # of the first piece, where reading goes on
        self._size = 0
        self._cursor = 0  # bytes read since the body began
        self._chunk_ends: deque[int] = deque()
        self._chunked = False
        self._eof = False
        self._eof_callbacks: list[Callable[[], None]] = []
        self._exception: BaseException | None = None
        self._reading = False
        # The default is asked for only when it matters: it takes aiohttp to know.
        self._buffer: int = response.__dict__.get("_read_bufsize") or 0
        self._consumer = 0  # its largest piece, in bytes
        self.total_bytes = 0
        # What read() already gave is not given again.
        if response._body is not None:
            self._eof = True

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # What takes an aiohttp stream (a body to upload, for one) finds out by isinstance().
        aiohttp = sys.modules.get("aiohttp")
        return getattr(aiohttp, "StreamReader", None) or type(self)

    def __repr__(self) -> str:
        size = f" {self._size} bytes" if self._size else ""
        end = " eof" if self._eof else ""
        error = f" e={self._exception!r}" if self._exception else ""
        return f"<StreamReader{size}{end}{error}>"

    # How pieces come in

    async def _fill(self, caller: str, most: int = sys.maxsize) -> bool:
        """Wait for the next piece, of `most` bytes where it can be had so; False at the end of the body."""
        self._check()
        if not self.total_bytes and self._response._body is not None:
            self._eof = True
        if self._eof:
            return False
        if self._reading:
            raise RuntimeError(
                f"{caller}() called while another coroutine is already waiting for incoming data"
            )
        self._reading = True
        try:
            piece = await self._response._next_chunk(most)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._exception = error
            raise
        finally:
            self._reading = False
        return self._came(piece)

    def _came(self, piece: bytes) -> bool:
        response = self._response
        if piece:
            if not self.total_bytes:
                from molotov._response import partly_read

                partly_read(response, self)
                self._chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
            self._append(piece)
            if self._chunked:
                self._chunk_ends.extend(response._chunk_ends())
        if not piece or response.closed:
            self.feed_eof()
        return bool(piece)

    def _append(self, piece: bytes) -> None:
        self.total_bytes += len(piece)
        self._size += len(piece)
        self._pieces.append(piece)

    def _take_arrived(self) -> None:
        """Take in what has come already, without waiting."""
        if self._reading or self._eof or self._exception is not None or self._pieces:
            return
        waiting = self._response._next_chunk(sys.maxsize)
        try:
            waiting.send(None)
        except StopIteration as arrived:
            self._came(arrived.value)
        except BaseException as error:
            self._exception = error
        else:
            waiting.close()

    def _come(self, most: int) -> bytes | None:
        """Give the next piece past everything else that this class does, where that makes no difference.

        It has at most `most` bytes. None: go the long way.
        """
        if (
            self._pieces
            or self._eof
            or self._chunked
            or self._reading
            or not self.total_bytes
            or self._exception is not None
        ):
            return None
        piece: bytes | None = self._response._chunk_now(most)
        if piece is None:
            return None
        size = len(piece)
        self.total_bytes += size
        self._cursor += size
        if not size or (self._eof_callbacks and self._response.closed):
            self.feed_eof()
        if size > most:
            # It was here as a whole already.
            self.unread_data(piece[most:])
            return piece[:most]
        return piece

    # How they go out

    def _check(self) -> None:
        if self._exception is None and self._response._expired():
            self._exception = asyncio.TimeoutError()
            self._response.close()
        if self._exception is not None:
            raise self._exception

    def _take_piece(self, size: int = -1) -> bytes:
        """Take (up to `size` bytes of) the first piece."""
        first, offset = self._pieces[0], self._offset
        if 0 <= size < len(first) - offset:
            data = first[offset : offset + size]
            self._offset += size
        else:
            data = first[offset:] if offset else first
            self._pieces.popleft()
            self._offset = 0
        self._size -= len(data)
        self._cursor += len(data)
        ends = self._chunk_ends
        while ends and ends[0] < self._cursor:
            ends.popleft()
        return data

    def _take(self, size: int) -> bytes:
        """Take up to `size` bytes of what is here, or all of it."""
        if not self._pieces:
            return b""
        if size < 0:
            size = self._size
        data = self._take_piece(size)
        if len(data) == size or not self._pieces:
            return data
        taken = [data]
        size -= len(data)
        while size and self._pieces:
            data = self._take_piece(size)
            taken.append(data)
            size -= len(data)
        return b"".join(taken)

    async def read(self, n: int = -1) -> bytes:
        """Read up to n bytes as soon as there are some; everything that is left when n is negative."""
        if n >= _LEAST_RECEIVED:
            self.set_read_chunk_size(n)
            piece = self._come(n)
            if piece is not None:
                return piece
        self._check()
        if n == 0:
            return b""
        if n < 0:
            taken = []
            while data := await self.readany():
                taken.append(data)
            return taken[0] if len(taken) == 1 else b"".join(taken)
        self.set_read_chunk_size(n)
        most = n if n >= _LEAST_RECEIVED else sys.maxsize
        while not self._pieces and await self._fill("read", most):
            pass
        return self._take(n)

    async def readany(self) -> bytes:
        """Read what has arrived, waiting for the first byte; b"" at the end."""
        piece = self._come(sys.maxsize)
        if piece is not None:
            return piece
        if self._pieces:
            self._check()
        while not self._pieces and await self._fill("readany"):
            pass
        return self._take(-1)

    async def readexactly(self, n: int) -> bytes:
        """Read n bytes; asyncio.IncompleteReadError when the body ends before."""
        self._check()
        taken: list[bytes] = []
        left = n
        while left > 0:
            data = await self.read(left)
            if not data:
                partial = b"".join(taken)
                raise asyncio.IncompleteReadError(partial, n)
            taken.append(data)
            left -= len(data)
        return b"".join(taken)

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        """Read up to and with the next newline; ValueError (LineTooLong) beyond the limit."""
        return await self.readuntil(max_size=max_line_length)

    async def readuntil(self, separator: bytes = b"\n", *, max_size: int | None = None) -> bytes:
        """Read up to and with the separator, or to the end of the body."""
        if not separator:
            raise ValueError("Separator should be at least one-byte string")
        self._check()
        line = b""
        while True:
            while self._pieces:
                size = self._end_in_piece(separator, line)
                line += self._take_piece(size)
                if len(line) > (max_size or _OLD_BUFFER):
                    limit = max_size or 2 * self._low_water()
                    if len(line) > limit:
                        raise _too_long(line[:100], limit)
                if size >= 0:
                    return line
            if not await self._fill("readuntil"):
                return line

    def _end_in_piece(self, separator: bytes, line: bytes) -> int:
        """Tell how much of the first piece belongs to a line that began with `line`; -1: all, and more."""
        first, offset = self._pieces[0], self._offset
        overlap = len(separator) - 1
        if line and overlap:
            # It may have begun in the piece before.
            tail = line[-overlap:]
            at = (tail + first[offset : offset + overlap]).find(separator)
            if at >= 0:
                return at + len(separator) - len(tail)
        at = first.find(separator, offset)
        return -1 if at < 0 else at - offset + len(separator)

    async def readchunk(self) -> tuple[bytes, bool]:
        """Read a piece and whether a chunk of the wire ends with it; (b"", False) at the end."""
        while True:
            self._check()
            while self._chunk_ends and self._chunk_ends[0] <= self.total_bytes:
                end = self._chunk_ends.popleft()
                if end == self._cursor:
                    return b"", True
                if end > self._cursor:
                    return self._take(end - self._cursor), True
            if self._pieces:
                return self._take_piece(), False
            if not await self._fill("readchunk"):
                return b"", False

    def read_nowait(self, n: int = -1) -> bytes:
        """Take up to n bytes of what has arrived, without waiting."""
        self._check()
        if self._reading:
            raise RuntimeError("Called while some coroutine is waiting for incoming data.")
        self._take_arrived()
        self._check()
        return self._take(n)

    # What is known of the stream

    def at_eof(self) -> bool:
        """Whether everything was read."""
        if not self._eof and self._response.closed:
            self._take_arrived()
        return self._eof and not self._pieces

    def is_eof(self) -> bool:
        """Whether the body has arrived wholly."""
        return self._eof or (self._exception is None and self._response.closed)

    async def wait_eof(self) -> None:
        """Wait until the body has arrived wholly."""
        while not self._eof and await self._fill("wait_eof"):
            pass

    def exception(self) -> BaseException | None:
        """Tell what ended the stream, if it was an error."""
        return self._exception

    def set_exception(self, exc: BaseException, exc_cause: Any = None) -> None:
        """End the stream with an error."""
        if not self.total_bytes:
            from molotov._response import partly_read

            partly_read(self._response, self)
        self._exception = exc
        self._eof_callbacks.clear()

    def on_eof(self, callback: Callable[[], None]) -> None:
        """Call back when everything has arrived: at once if it has."""
        if self.is_eof():
            _call(callback)
            return
        self._eof_callbacks.append(callback)
        if not self.total_bytes:
            from molotov._response import partly_read

            # From now on read() has to come by here.
            partly_read(self._response, self)

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        """Append to what was read, as listeners do that put a body back."""
        if data:
            self._append(bytes(data))
        return False

    def feed_eof(self) -> None:
        """End the stream after what was fed."""
        self._eof = True
        callbacks, self._eof_callbacks = self._eof_callbacks, []
        for callback in callbacks:
            _call(callback)

    def unread_data(self, data: bytes) -> None:
        """Put data back in front."""
        if not data:
            return
        if self._offset:
            self._pieces[0] = self._pieces[0][self._offset :]
            self._offset = 0
        self._pieces.appendleft(data)
        self._size += len(data)
        self._cursor -= len(data)

    def get_read_buffer_limits(self) -> tuple[int, int]:
        """Tell the low and high marks in bytes, as aiohttp has them."""
        low = self._low_water()
        return (low, 2 * low)

    def _low_water(self) -> int:
        self._buffer = self._buffer or _default_buffer()
        return max(self._buffer, self._consumer)

    def set_read_chunk_size(self, n: int) -> None:
        """Raise the marks to a consumer's piece size."""
        self._consumer = max(self._consumer, n)

    @property
    def total_raw_bytes(self) -> int:
        """Bytes that have come so far, before decompression."""
        encoded: int | None = self._response._encoded_bytes()
        return self.total_bytes if encoded is None else encoded

    def __aiter__(self) -> _Pieces[bytes]:
        return _Pieces(self.readline, b"")

    def iter_chunked(self, n: int) -> _Pieces[bytes]:
        """Iterate over pieces of at most n bytes."""
        self.set_read_chunk_size(n)
        if n < _LEAST_RECEIVED:
            return _Pieces(lambda: self.read(n), b"")
        return _Pieces(lambda: self.read(n), b"", lambda: self._come(n))

    def iter_any(self) -> _Pieces[bytes]:
        """Iterate over the pieces as they arrive."""
        return _Pieces(self.readany, b"", lambda: self._come(sys.maxsize))

    def iter_chunks(self) -> _Pieces[tuple[bytes, bool]]:
        """Iterate over (piece, whether a chunk of the wire ends with it)."""
        return _Pieces(self.readchunk, (b"", False))


class _Pieces(Generic[_T]):
    """Iterates over what `read` gives, up to `end`; `come` may give it without a wait."""

    __slots__ = ("_come", "_end", "_read")

    def __init__(
        self, read: Callable[[], Awaitable[_T]], end: _T, come: Callable[[], _T | None] = lambda: None
    ) -> None:
        self._read = read
        self._end = end
        self._come = come

    def __aiter__(self) -> _Pieces[_T]:
        return self

    async def __anext__(self) -> _T:
        piece = self._come()
        if piece is None:
            piece = await self._read()
        if piece == self._end:
            raise StopAsyncIteration
        return piece


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        logging.getLogger("aiohttp.internal").exception("Exception in eof callback")


def _too_long(line: bytes, limit: int) -> BaseException:
    from aiohttp.http_exceptions import LineTooLong

    return LineTooLong(line + b"...", limit)
