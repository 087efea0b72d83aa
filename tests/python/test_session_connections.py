"""What can only be seen from the server's side: connections opened, reused, limited, given up, resent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from molotov.session import ClientSession
from session_server import run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Reply = Callable[["Wire", bytes, asyncio.StreamWriter], Awaitable[bool]]


class Wire:
    """A server that counts its connections and answers each request head with `reply`.

    `reply` gives False to end the connection.
    """

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.accepted = 0
        self.open = 0
        self.most = 0
        self.requests = 0
        self.closed = asyncio.Event()
        self.gate = asyncio.Event()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                if not await self._reply(self, head, writer):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self.closed.set()
            writer.close()


def checked(reply: Reply, check: Callable[[Wire], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Wire(reply) as wire:
            await check(wire)

    run(main())


async def at_once(wire: Wire, head: bytes, writer: asyncio.StreamWriter) -> bool:
    writer.write(OK)
    return True


async def when_told(wire: Wire, head: bytes, writer: asyncio.StreamWriter) -> bool:
    await wire.gate.wait()
    writer.write(OK)
    return True


def test_a_slow_reader_holds_the_server_back():
    """What the server could send is bounded by the sockets' buffers and ours, however long it would go on."""
    sent = 0

    async def floods(wire: Wire, head: bytes, writer: asyncio.StreamWriter) -> bool:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        piece = b"x" * 65536
        while True:
            writer.write(piece)
            waiting = asyncio.ensure_future(writer.drain())
            # Once nothing more is taken in all these turns, the server is held back.
            for _ in range(1000):
                if waiting.done():
                    break
                await asyncio.sleep(0)
            else:
                wire.gate.set()
            await waiting
            sent += len(piece)

    async def check(wire: Wire) -> None:
        async with ClientSession() as session:
            async with session.get(wire.url) as response:
                assert len(await response.content.readexactly(1000)) == 1000
                await wire.gate.wait()
                held_at = sent
                assert held_at < 100_000_000
                # It goes on as soon as the reader does.
                await response.content.readexactly(held_at + 10_000_000)
                assert sent > held_at

    checked(floods, check)


async def then_closes(wire: Wire, head: bytes, writer: asyncio.StreamWriter) -> bool:
    writer.write(OK)
    return False


async def never_ends(wire: Wire, head: bytes, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 300_000)
    return True


#: The native path, and the Python one.
PATHS = [{}, {"skip_auto_headers": ["Accept"]}]


@pytest.mark.parametrize("arguments", PATHS)
def test_one_connection_serves_request_after_request(arguments: dict[str, Any]):
    async def check(wire: Wire) -> None:
        async with ClientSession() as session:
            for _ in range(5):
                async with session.get(wire.url, **arguments) as response:
                    assert await response.text() == "ok"
            # Nobody reads or releases these: small answers free their connection by themselves.
            kept = [await session.post(wire.url, **arguments) for _ in range(5)]
            assert len(kept) == 5
        assert wire.accepted == 1

    checked(at_once, check)


@pytest.mark.parametrize("arguments", PATHS)
def test_the_limit_holds_and_everybody_gets_a_turn(arguments: dict[str, Any]):
    async def check(wire: Wire) -> None:
        async with ClientSession(connector=aiohttp.TCPConnector(limit=2)) as session:
            calls = [asyncio.ensure_future(session.get(wire.url, **arguments)) for _ in range(8)]
            while wire.requests < 2:
                await asyncio.sleep(0)
            wire.gate.set()
            answers = await asyncio.gather(*calls)
            assert [answer.status for answer in answers] == [200] * 8
        assert wire.most == 2

    checked(when_told, check)


def test_waiting_for_a_connection_counts_for_the_connect_timeout():
    async def check(wire: Wire) -> None:
        async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            first = asyncio.ensure_future(session.get(wire.url))
            while not wire.requests:
                await asyncio.sleep(0)
            with pytest.raises(aiohttp.ServerTimeoutError, match="Connection timeout to host"):
                await session.get(wire.url, timeout=aiohttp.ClientTimeout(connect=0.02))
            wire.gate.set()
            assert (await first).status == 200
            assert (await session.get(wire.url)).status == 200
        assert wire.accepted == 1

    checked(when_told, check)


@pytest.mark.parametrize("arguments", PATHS)
def test_a_cancelled_request_ends_its_connection(arguments: dict[str, Any]):
    async def check(wire: Wire) -> None:
        async with ClientSession() as session:
            call = asyncio.ensure_future(session.get(wire.url, **arguments))
            while not wire.requests:
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            wire.gate.set()
            await wire.closed.wait()
            assert (await session.get(wire.url, **arguments)).status == 200
        assert wire.accepted == 2

    checked(when_told, check)


@pytest.mark.parametrize("steps", range(4))
def test_cancelled_requests_leave_their_places(steps: int):
    """However far they came: before they were sent, while they connect, while they wait for a place."""

    async def check(wire: Wire) -> None:
        async with ClientSession(connector=aiohttp.TCPConnector(limit=2)) as session:
            for _ in range(10):
                calls = [asyncio.ensure_future(session.get(wire.url)) for _ in range(5)]
                for _ in range(steps):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.wait(calls)
            wire.gate.set()
            answers = await asyncio.gather(*(session.get(wire.url) for _ in range(6)))
            assert [answer.status for answer in answers] == [200] * 6

    checked(when_told, check)


@pytest.mark.parametrize("arguments", PATHS)
def test_an_unread_large_body_is_given_up_with_its_connection(arguments: dict[str, Any]):
    async def check(wire: Wire) -> None:
        async with ClientSession() as session:
            async with session.get(wire.url, **arguments) as response:
                assert response.status == 200
                assert len(await response.content.readexactly(1000)) == 1000
            await wire.closed.wait()
            response = await session.get(wire.url, **arguments)
            response.close()
            with pytest.raises(aiohttp.ClientConnectionError):
                await response.read()

    checked(never_ends, check)


def test_a_dropped_response_does_not_leak_its_connection():
    async def check(wire: Wire) -> None:
        async with ClientSession() as session:
            response = await session.get(wire.url)
            assert response.status == 200
            del response
            await wire.closed.wait()
        assert wire.open == 0

    checked(never_ends, check)


def test_a_get_outlives_a_connection_that_the_server_closed():
    async def check(wire: Wire) -> None:
        async with ClientSession() as session:
            await session.get(wire.url)
            await wire.closed.wait()
            # The close may or may not have been noticed before this; either way a GET goes through.
            assert (await session.get(wire.url)).status == 200
        assert wire.requests == 2

    checked(then_closes, check)


def test_closing_the_session_closes_idle_connections():
    async def check(wire: Wire) -> None:
        session = ClientSession()
        await session.get(wire.url)
        await session.close()
        await wire.closed.wait()
        assert wire.open == 0

    checked(at_once, check)


def test_uploads_wait_for_a_slow_server_and_fail_with_it():
    async def refuses(wire: Wire, head: bytes, writer: asyncio.StreamWriter) -> bool:
        return False

    async def endless() -> Any:
        while True:
            yield b"x" * 65536

    async def check(wire: Wire) -> None:
        async with ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.post(wire.url, data=endless())

    checked(refuses, check)
