"""`response.content`: reading a body piece by piece, and what is known of it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from differential import (
    IGNORED_WARNINGS,
    Case,
    Stage,
    check,
    outcome,
    s,
    stages,
)
from differential_wire import Wire, answer, chunked, in_chunks
from session_server import Server

pytestmark = IGNORED_WARNINGS
stage = stages()

TEXT = b"".join(b"line %d of the body\n" % number for number in range(200)) + b"no end"
JSON = b'{"a": [1, 2, 3]}'
SHAPES = {
    "whole": answer(TEXT),
    "in chunks": chunked(in_chunks(TEXT, 100)),
    "until the end": answer(TEXT, length=False),
    "nothing": answer(b""),
    "json": answer(JSON, "Content-Type: application/json"),
}
CHUNKED_SHAPES = {
    "one": chunked(in_chunks(b"only", 10)),
    "some": chunked(in_chunks(b"0123456789" * 3, 10)),
    "uneven": chunked(in_chunks(b"0123456789" * 3, 7)),
    "many": chunked(in_chunks(TEXT, 5)),
    "none": chunked(b"0\r\n\r\n"),
    "not chunked": answer(b"whole"),
}


def over(reply: bytes, read: Callable[[Any], Any]) -> Callable[[Any, Server], Any]:
    """Read a response that is this, to the byte."""

    async def script(session: Any, server: Server) -> Any:
        async with Wire((reply,), keep=False) as wire:
            async with session.get(wire.base) as response:
                return await read(response)

    return script


async def read_all(response: Any) -> Any:
    return await response.content.read(), await response.content.read()


async def read_some(response: Any) -> Any:
    parts = []
    while part := await response.content.read(100):
        assert len(part) <= 100
        parts.append(part)
    return b"".join(parts), await response.content.read(100), await response.content.read(0)


async def read_exactly(response: Any) -> Any:
    return await outcome(lambda: response.content.readexactly(10)), await response.content.read()


async def read_exactly_too_much(response: Any) -> Any:
    try:
        return await response.content.readexactly(1_000_000)
    except asyncio.IncompleteReadError as error:
        return error.partial, error.expected


async def lines(response: Any) -> Any:
    return [await response.content.readline() for _ in range(210)]


async def lines_by_iteration(response: Any) -> Any:
    return [line async for line in response.content]


async def until(response: Any) -> Any:
    return [await response.content.readuntil(b"body\n") for _ in range(3)]


async def until_long(response: Any) -> Any:
    return [await response.content.readuntil(b" of the body\nline 1") for _ in range(15)]


async def until_nothing(response: Any) -> Any:
    return await outcome(lambda: response.content.readuntil(b""))


async def iterate_chunked(response: Any) -> Any:
    return b"".join([part async for part in response.content.iter_chunked(37)])


async def all_pieces(response: Any) -> Any:
    return b"".join([part async for part in response.content.iter_any()])


async def at_the_end(response: Any) -> Any:
    await response.content.read()
    content = response.content
    return content.at_eof(), content.is_eof(), content.total_bytes, content.exception(), content.read_nowait()


async def read_then_content(response: Any) -> Any:
    body = await response.read()
    return body, await response.content.read(), response.content.at_eof(), await response.content.readline()


async def content_then_read(response: Any) -> Any:
    return await response.content.read(5), await response.read(), await response.read()


async def content_then_text(response: Any) -> Any:
    return await response.content.read(5), await response.text()


async def content_then_json(response: Any) -> Any:
    return await response.content.read(1), await outcome(lambda: response.json(content_type=None), repr)


async def unread(response: Any) -> Any:
    first = await response.content.read(5)
    response.content.unread_data(first)
    return first, await response.content.read()


async def put_in_an_error(response: Any) -> Any:
    response.content.set_exception(RuntimeError("from outside"))
    return (
        await outcome(response.read),
        await outcome(response.content.read),
        await outcome(response.content.readline),
        await outcome(response.text),
        str(response.content.exception()),
    )


async def told_of_the_end(response: Any) -> Any:
    told: list[str] = []
    response.content.on_eof(lambda: told.append("first"))
    await response.read()
    response.content.on_eof(lambda: told.append("second"))
    return sorted(told)


async def read_after_release(response: Any) -> Any:
    response.release()
    return await outcome(response.read), response.closed


async def read_after_close(response: Any) -> Any:
    await response.read()
    response.close()
    return await outcome(response.read), await outcome(response.text), response.closed


async def types(response: Any) -> Any:
    content = response.content
    return isinstance(content, aiohttp.StreamReader), isinstance(await content.read(3), bytes)


async def negative(response: Any) -> Any:
    return await response.content.read(-1), await response.content.read(-5)


async def wire_chunks(response: Any) -> Any:
    """Whole chunks of the wire, however they were read from the socket."""
    chunks, part = [], b""
    async for data, ended in response.content.iter_chunks():
        part += data
        if ended:
            chunks.append(part)
            part = b""
    return chunks, part


async def line_too_long(response: Any) -> Any:
    return await outcome(response.content.readline)


async def line_longer_than_asked(response: Any) -> Any:
    return await outcome(lambda: response.content.readline(max_line_length=50))


async def cut(response: Any) -> Any:
    async def pieces() -> Any:
        return [part async for part in response.content.iter_any()]

    return await outcome(pieces), await outcome(response.read), await outcome(response.content.read)


async def two_at_once(session: Any, server: Server) -> Any:
    async with session.get(server.base + "/trickle") as response:
        assert await response.content.read(5) == b"start"
        first = asyncio.ensure_future(response.content.read(1))
        await asyncio.sleep(0)
        seen = await outcome(lambda: response.content.read(1))
        first.cancel()
        await asyncio.wait([first])
        return seen


async def released_while_reading(session: Any, server: Server) -> Any:
    async with session.get(server.base + "/trickle") as response:
        assert await response.content.read(5) == b"start"
        waiting = asyncio.ensure_future(response.content.read(1))
        await asyncio.sleep(0)
        response.release()
        return await outcome(lambda: waiting)


async def closed_while_reading(session: Any, server: Server) -> Any:
    async with session.get(server.base + "/trickle") as response:
        assert await response.content.read(5) == b"start"
        waiting = asyncio.ensure_future(response.content.read(1))
        await asyncio.sleep(0)
        response.close()
        return await outcome(lambda: waiting)


async def timeout_while_reading(session: Any, server: Server) -> Any:
    timeout = aiohttp.ClientTimeout(total=0.05)
    async with session.get(server.base + "/trickle", timeout=timeout) as response:
        seen = [await response.content.read(5)]
        seen.append(await outcome(lambda: response.content.read(1)))
        return seen


async def limits_of_buffer(session: Any, server: Server) -> Any:
    async with session.get(server.base + "/echo") as response:
        return response.content.get_read_buffer_limits(), await response.json()


async def limits_of_buffer_of_call(session: Any, server: Server) -> Any:
    async with session.get(server.base + "/echo", read_bufsize=16) as response:
        return response.content.get_read_buffer_limits(), await response.json()


async def piped(session: Any, server: Server) -> Any:
    async with session.get(server.base + "/stream") as source:
        async with session.post(server.base + "/echo", data=source.content) as response:
            return await response.json()


async def raise_inside(session: Any, server: Server) -> Any:
    async with session.get(server.base + "/status/404") as response:
        try:
            response.raise_for_status()
        except aiohttp.ClientResponseError as error:
            return error.status, await response.text()


async def raise_outside(session: Any, server: Server) -> Any:
    response = await session.get(server.base + "/status/404")
    try:
        response.raise_for_status()
    except aiohttp.ClientResponseError as error:
        return error.status, await outcome(response.text)


CASES: dict[str, Case] = {
    **{
        f"{name}, {shape}": s(over(reply, script))
        for name, script in {
            "read": read_all,
            "read some": read_some,
            "read exactly": read_exactly,
            "read exactly too much": read_exactly_too_much,
            "lines": lines,
            "lines by iteration": lines_by_iteration,
            "until": until,
            "until something long": until_long,
            "until nothing": until_nothing,
            "iterate chunked": iterate_chunked,
            "all pieces": all_pieces,
            "at the end": at_the_end,
            "read then content": read_then_content,
            "content then read": content_then_read,
            "content then text": content_then_text,
            "content then json": content_then_json,
            "unread": unread,
            "put in an error": put_in_an_error,
            "told of the end": told_of_the_end,
            "read after release": read_after_release,
            "read after close": read_after_close,
            "types": types,
            "negative": negative,
        }.items()
        for shape, reply in SHAPES.items()
    },
    **{
        f"chunks of the wire, {shape}": s(over(reply, wire_chunks)) for shape, reply in CHUNKED_SHAPES.items()
    },
    "a line too long": s(over(answer(b"x" * 2_000_000), line_too_long)),
    "a line longer than asked": s(over(answer(b"x" * 100 + b"\n"), line_longer_than_asked)),
    "cut while reading": s(over(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", cut)),
    "cut while reading chunks": s(over(chunked(b"5\r\nhello\r\n5\r\nwo"), cut)),
    "two at once": s(two_at_once),
    "released while reading": s(released_while_reading),
    "closed while reading": s(closed_while_reading),
    "timeout while reading": s(timeout_while_reading),
    "buffer of the session": s(limits_of_buffer, lambda: {"read_bufsize": 4}),
    "buffer of the call": s(limits_of_buffer_of_call),
    "a body from another response": s(piped),
    "raise for status inside": s(raise_inside),
    "raise for status outside": s(raise_outside),
}

#: Cases that aiohttp itself serves, and the reason.
FALLS_BACK: dict[str, str] = {}
#: What of a result is left out because it differs on purpose.
ON_PURPOSE: dict[str, set[str]] = {}


@pytest.mark.parametrize("name", CASES)
def test_nothing_differs(name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clients give the same results, send the same requests and keep the same cookies."""
    check(
        stage,
        CASES[name],
        monkeypatch,
        ignored=ON_PURPOSE.get(name, set()),
        falls_back=FALLS_BACK.get(name),
    )
