"""Feed a request's body to its connection, chunk by chunk, as fast as the server takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

__all__ = ["start"]

_running: set[asyncio.Task[None]] = set()


def start(request: Any, chunks: AsyncIterator[bytes], chunked: bool, expect: bool = False) -> None:
    """Feed `chunks` to `request` in a task; framed as HTTP/1.1 chunks when `chunked` (RFC 9112, 7.1).

    With `expect` the first chunk is taken from its source when the server has asked for the body. The server
    may answer before it has read everything: feeding goes on until the connection is gone.
    """
    task = asyncio.ensure_future(_feed(request, chunks, chunked, expect))
    _running.add(task)
    task.add_done_callback(_running.discard)


async def _feed(request: Any, chunks: AsyncIterator[bytes], chunked: bool, expect: bool) -> None:
    try:
        if expect:
            await request._drain()
            if request.done():
                return
        async for chunk in chunks:
            if not request._uploading():
                return
            if not chunk:
                continue
            data = b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else bytes(chunk)
            if not request._feed(data):
                await request._drain()
                # A source that never waits must not keep the loop from noticing that the server left.
                await asyncio.sleep(0)
        if chunked:
            request._feed(b"0\r\n\r\n")
        request._fed()
    except asyncio.CancelledError:
        request.cancel()
        raise
    except BaseException as error:
        request._fail(error)
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
