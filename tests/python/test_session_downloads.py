"""Large bodies: how they are cut, what else goes on meanwhile, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import random
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable

import aiohttp
import molotov
import pytest
from molotov.session import ClientSession
from servers import BadServer, Connection
from session_server import run

pytestmark = pytest.mark.timeout(90)

SIZE = 5_000_001
BODY = random.Random(7).randbytes(SIZE)
WHOLE = hashlib.sha256(BODY).hexdigest()
HEADS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE,
    "close": b"HTTP/1.1 200 OK\r\n\r\n",
}


def sending(framing: str, body: bytes = BODY) -> Callable[[Connection], None]:
    """Answer each request with the body; a body without a length ends with its connection."""

    def behave(connection: Connection) -> None:
        while connection.read_request() is not None:
            if framing == "chunked":
                connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in range(0, len(body), 70_000):
                    piece = body[start : start + 70_000]
                    connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                connection.send(b"0\r\n\r\n")
            else:
                connection.send(HEADS[framing])
                connection.send(body)
            if framing == "close":
                return

    return behave


def fetching(server: BadServer, test: Callable[[ClientSession, str], Awaitable[None]]) -> None:
    """Run a coroutine function with a session, within a minute."""

    async def main() -> None:
        async with ClientSession() as session:
            await asyncio.wait_for(test(session, server.url), 60)

    run(main())


async def by_any(response: aiohttp.ClientResponse) -> list[bytes]:
    """Read it as it comes."""
    return [piece async for piece in response.content.iter_any()]


async def by_chunks_of(response: aiohttp.ClientResponse, size: int) -> list[bytes]:
    """Read it in pieces of at most `size` bytes."""
    pieces = [piece async for piece in response.content.iter_chunked(size)]
    assert max(map(len, pieces)) <= size
    return pieces


async def by_read(response: aiohttp.ClientResponse) -> list[bytes]:
    """Read all of it."""
    return [await response.read()]


async def by_turns(response: aiohttp.ClientResponse) -> list[bytes]:
    """Read it in every way there is."""
    content = response.content
    pieces = [await content.readexactly(10), await content.readany(), await content.read(20_000)]
    pieces.append(await content.readuntil(b"\n", max_size=SIZE))
    content.unread_data(pieces.pop())
    pieces.append(await content.read(100_000))
    pieces.append(await content.read(3))
    async for piece in content.iter_chunked(300_000):
        pieces.append(piece)
        if len(pieces) == 10:
            break
    pieces.append(await content.read())
    assert content.at_eof()
    return pieces


WAYS: dict[str, Callable[[aiohttp.ClientResponse], Awaitable[list[bytes]]]] = {
    "any": by_any,
    "chunks of 64 KiB": lambda response: by_chunks_of(response, 65536),
    "chunks of a million": lambda response: by_chunks_of(response, 1_000_000),
    "chunks of 1000": lambda response: by_chunks_of(response, 1000),
    "read": by_read,
    "turns": by_turns,
}


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
@pytest.mark.parametrize("way", WAYS)
def test_every_byte_comes_once_and_the_connection_is_kept(way: str, framing: str) -> None:
    async def check(session: ClientSession, url: str) -> None:
        for _ in range(2):
            async with session.get(url) as response:
                pieces = await WAYS[way](response)
                assert all(pieces)
                assert hashlib.sha256(b"".join(pieces)).hexdigest() == WHOLE
                assert response.content.total_bytes in (0 if way == "read" else SIZE, SIZE)
                assert response.closed
                assert await response.content.read() == b""

    with BadServer(sending(framing)) as server:
        fetching(server, check)
    assert server.connections == (2 if framing == "close" else 1)


def test_others_have_their_turn_while_a_body_comes_without_a_pause() -> None:
    """A reader that never has to wait still lets the loop run."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def check(session: ClientSession, url: str) -> None:
        counting = asyncio.ensure_future(count())
        async with session.get(url) as response:
            async for _ in response.content.iter_any():
                pass
        counting.cancel()
        # The body is 20 times what is read in one go.
        assert turns > 10

    with BadServer(sending("close", BODY * 20)) as server:
        fetching(server, check)


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
def test_what_a_cancelled_read_has_gathered_is_not_lost(framing: str) -> None:
    half, go_on = SIZE // 2, threading.Event()

    def behave(connection: Connection) -> None:
        connection.read_request()
        if framing == "chunked":
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % SIZE
        else:
            head = HEADS[framing]
        connection.send(head + BODY[:half])
        go_on.wait(30)
        connection.send(BODY[half:] + (b"\r\n0\r\n\r\n" if framing == "chunked" else b""))

    async def check(session: ClientSession, url: str) -> None:
        async with session.get(url) as response:
            reading = asyncio.ensure_future(response.read())
            await asyncio.sleep(0.05)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            first = await response.content.readany()
            go_on.set()
            rest = await response.content.read()
            assert hashlib.sha256(first + rest).hexdigest() == WHOLE

    with BadServer(behave) as server:
        fetching(server, check)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_breaks_in_the_body_is_an_error(way: str, reset: bool) -> None:
    def behave(connection: Connection) -> None:
        connection.read_request()
        connection.send(HEADS["length"] + BODY[:-1])
        if reset:
            connection.reset()

    async def check(session: ClientSession, url: str) -> None:
        async with session.get(url) as response:
            with pytest.raises(aiohttp.ClientError) as raised:
                await WAYS[way](response)
            if not reset:
                assert isinstance(raised.value, aiohttp.ClientPayloadError)
                assert f"received {SIZE - 1} of {SIZE} bytes" in str(raised.value)

    with BadServer(behave) as server:
        fetching(server, check)


def test_what_a_server_promises_takes_no_memory() -> None:
    """A length that no machine could hold is believed no further than its bytes have come."""

    def behave(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**62 + BODY)

    async def check(session: ClientSession, url: str) -> None:
        async with session.get(url) as response:
            with pytest.raises(aiohttp.ClientPayloadError, match=f"received {SIZE} of {2**62} bytes"):
                await response.read()

    with BadServer(behave) as server:
        fetching(server, check)


def test_a_closed_loop_leaves_nothing_behind() -> None:
    """Neither the loop nor a descriptor of its engine, although connections were open on it."""

    def descriptors() -> int:
        """Count those that are no files or sockets: the server's own are in this process, too."""
        kinds = []
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                kinds.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return sum(kind.startswith("anon_inode:") for kind in kinds)

    async def fetch(url: str) -> None:
        async with ClientSession() as session, session.get(url) as response:
            assert await response.read() == BODY[:1000]

    def use(url: str) -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = molotov.new_event_loop()
        try:
            loop.run_until_complete(fetch(url))
        finally:
            loop.close()
        loop.stop()
        with pytest.raises(RuntimeError, match="closed"):
            loop.run_until_complete(asyncio.sleep(0))
        return weakref.ref(loop)

    def behave(connection: Connection) -> None:
        while connection.read_request() is not None:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + BODY[:1000])

    with BadServer(behave) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        use(server.url)
        gc.collect()
        before = descriptors()
        loops = [use(server.url) for _ in range(20)]
        gc.collect()
        assert [loop for loop in loops if loop() is not None] == []
        assert descriptors() == before
