"""Connectors as scripts make them: addresses, memory, limits, fairness, and who shares what."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from differential_wire import Wire as Replies
from differential_wire import answer
from molotov import _fallback
from molotov.session import ClientSession
from session_server import run
from test_session_connections import OK, Wire, at_once, never_ends, when_told

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def checked(reply: Any, check: Callable[[Wire], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Wire(reply) as wire:
            await check(wire)

    run(main())


def named(wire: Wire) -> str:
    return wire.url.replace("127.0.0.1", "localhost")


#: Arguments of a TCPConnector that are no reason to leave the native client.
NATIVE: dict[str, dict[str, Any]] = {
    "ipv4": {"family": socket.AF_INET},
    "no dns cache": {"use_dns_cache": False},
    "short dns cache": {"ttl_dns_cache": 1},
    "endless dns cache": {"ttl_dns_cache": None},
    "local address": {"local_addr": ("127.0.0.1", 0)},
    "no happy eyeballs": {"happy_eyeballs_delay": None},
    "slow happy eyeballs": {"happy_eyeballs_delay": 5.0, "interleave": 2},
    "threaded resolver": {"resolver": aiohttp.ThreadedResolver},
    "endless keep-alive": {"keepalive_timeout": None},
    "limits": {"limit": 3, "limit_per_host": 2},
}


@pytest.mark.parametrize("name", NATIVE)
def test_connectors_are_read(name: str):
    async def check(wire: Wire) -> None:
        arguments = {
            key: value() if isinstance(value, type) else value for key, value in NATIVE[name].items()
        }
        async with ClientSession(connector=aiohttp.TCPConnector(**arguments)) as session:
            for _ in range(3):
                async with session.get(named(wire)) as response:
                    assert await response.text() == "ok"
            assert session._foreign_reason is None
            assert session._aiohttp_session is None
        assert wire.accepted == 1

    checked(at_once, check)


class OwnResolver(AbstractResolver):
    """A script's own way from names to addresses."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
        return [
            {"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}
        ]

    async def close(self) -> None:
        """Nothing to do."""


#: Those that are, with what the log says.
FOREIGN: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "resolver": (lambda: {"resolver": OwnResolver()}, "a resolver of class OwnResolver"),
    "host name": (lambda: {"local_addr": ("localhost", 0)}, "bound to a host name"),
    "socket factory": (lambda: {"socket_factory": lambda info: socket.socket(*info[:3])}, "socket factory"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_only_aiohttp_can_do_is_said(name: str, caplog: Any):
    _fallback._announced.clear()
    make, words = FOREIGN[name]

    async def check(wire: Wire) -> None:
        async with ClientSession(connector=aiohttp.TCPConnector(**make())) as session:
            with caplog.at_level(logging.WARNING, "molotov"):
                async with session.get(wire.url) as response:
                    assert await response.text() == "ok"

    checked(at_once, check)
    assert any(words in record.getMessage() for record in caplog.records)


def test_the_wrong_family_has_no_address():
    async def check(wire: Wire) -> None:
        connector = aiohttp.TCPConnector(family=socket.AF_INET6)
        async with ClientSession(connector=connector) as session:
            # Whether the name has an address of that family is the machine's business, but nobody listens.
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(named(wire))
        assert wire.accepted == 0

    checked(at_once, check)


def test_connections_start_from_the_local_address():
    peers = []

    async def reply(wire: Wire, head: bytes, writer: asyncio.StreamWriter) -> bool:
        peers.append(writer.get_extra_info("peername")[0])
        writer.write(OK)
        return True

    async def check(wire: Wire) -> None:
        for make in (aiohttp.ClientSession, ClientSession):
            async with make(connector=aiohttp.TCPConnector(local_addr=("127.0.0.7", 0))) as session:
                assert (await session.get(wire.url)).status == 200
            async with make(connector=aiohttp.TCPConnector(local_addr=("192.0.2.1", 0))) as session:
                with pytest.raises(aiohttp.ClientConnectorError) as caught:
                    await session.get(wire.url)
                texts.append((str(caught.value), caught.value.os_error.errno))

    texts: list[Any] = []
    checked(reply, check)
    assert peers == ["127.0.0.7"] * 2
    assert texts[0] == texts[1]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_waiting_requests_are_served_in_their_order():
    async def check(wire: Wire) -> None:
        order: list[int] = []
        async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:

            async def call(number: int) -> None:
                async with session.get(wire.url + str(number)) as response:
                    await response.read()
                order.append(number)

            calls = [asyncio.ensure_future(call(number)) for number in range(20)]
            await until(lambda: wire.requests == 1)
            wire.gate.set()
            await asyncio.gather(*calls)
        assert order == list(range(20))
        assert (wire.accepted, wire.most) == (1, 1)

    checked(when_told, check)


def test_a_busy_host_does_not_starve_another():
    async def check(wire: Wire) -> None:
        async with Wire(at_once) as other, ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            waiting = True

            async def busy() -> None:
                while waiting:
                    async with session.get(wire.url) as response:
                        await response.read()

            loads = [asyncio.ensure_future(busy()) for _ in range(5)]
            await until(lambda: wire.requests > 3)
            async with session.get(other.url) as response:
                assert await response.text() == "ok"
            waiting = False
            await asyncio.gather(*loads)
            assert other.requests == 1

    checked(at_once, check)


def test_a_host_with_its_share_does_not_hold_up_another():
    async def check(wire: Wire) -> None:
        connector = aiohttp.TCPConnector(limit=10, limit_per_host=1)
        async with Wire(at_once) as other, ClientSession(connector=connector) as session:
            calls = [asyncio.ensure_future(session.get(wire.url)) for _ in range(3)]
            await until(lambda: wire.requests == 1)
            async with session.get(other.url) as response:
                assert await response.text() == "ok"
            wire.gate.set()
            await asyncio.gather(*calls)
            assert wire.most == 1

    checked(when_told, check)


def test_idle_connections_do_not_count():
    async def check(wire: Wire) -> None:
        async with Wire(at_once) as other, ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            for url in (wire.url, other.url) * 3:
                async with session.get(url) as response:
                    await response.read()
            assert (wire.accepted, other.accepted) == (1, 1)

    checked(at_once, check)


def test_who_gives_up_leaves_the_queue():
    async def check(wire: Wire) -> None:
        async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            first = asyncio.ensure_future(session.get(wire.url))
            await until(lambda: wire.requests == 1)
            given_up = [asyncio.ensure_future(session.get(wire.url)) for _ in range(5)]
            last = asyncio.ensure_future(session.get(wire.url))
            await asyncio.sleep(0)
            for call in given_up:
                call.cancel()
            assert all(
                isinstance(e, asyncio.CancelledError)
                for e in await asyncio.gather(*given_up, return_exceptions=True)
            )
            wire.gate.set()
            assert [(await first).status, (await last).status] == [200, 200]
        assert wire.requests == 2

    checked(when_told, check)


def test_failures_of_every_kind_free_their_place():
    async def fails(wire: Wire, head: bytes, writer: asyncio.StreamWriter) -> bool:
        path = head.split(b" ")[1]
        if path == b"/garbage":
            writer.write(b"nonsense\r\n\r\n")
        elif path == b"/ok":
            writer.write(OK)
            return True
        elif path == b"/silent":
            await wire.gate.wait()
        return False

    async def check(wire: Wire) -> None:
        async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            short = aiohttp.ClientTimeout(total=0.05)
            for _ in range(3):
                with pytest.raises(aiohttp.ClientConnectorError):
                    await session.get("http://127.0.0.1:1/")
                with pytest.raises(aiohttp.ClientConnectorError):
                    await session.get("http://does-not-exist.invalid/")
                with pytest.raises(aiohttp.ServerTimeoutError):
                    await session.get(
                        wire.url.replace("http", "https"),
                        ssl=False,
                        timeout=aiohttp.ClientTimeout(sock_connect=0.05),
                    )
                with pytest.raises(aiohttp.ServerDisconnectedError):
                    await session.post(wire.url + "closes")
                with pytest.raises(aiohttp.ClientResponseError):
                    await session.get(wire.url + "garbage")
                with pytest.raises(asyncio.TimeoutError):
                    await session.get(wire.url + "silent", timeout=short)
                assert (await session.get(wire.url + "ok")).status == 200

    checked(fails, check)


def test_a_cancelled_connection_attempt_frees_its_place():
    async def main() -> None:
        # A full backlog lets connections hang.
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session, Wire(at_once) as wire:
            call = asyncio.ensure_future(session.get(f"http://127.0.0.1:{port}/"))
            for _ in range(5):
                await asyncio.sleep(0)
            waiting = asyncio.ensure_future(session.get(wire.url))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await waiting).status == 200
        for one in (listener, *fillers):
            one.close()

    run(main())


def test_sessions_of_one_connector_share_it():
    async def check(wire: Wire) -> None:
        connector = aiohttp.TCPConnector(limit=2)
        sessions = [ClientSession(connector=connector, connector_owner=False) for _ in range(4)]
        calls = [asyncio.ensure_future(session.get(wire.url)) for session in sessions * 2]
        await until(lambda: wire.requests == 2)
        wire.gate.set()
        await asyncio.gather(*calls)
        assert (wire.most, wire.accepted) == (2, 2)
        for session in sessions[1:]:
            await session.close()
        assert (await sessions[0].get(wire.url)).status == 200
        assert wire.accepted == 2
        await connector.close()
        assert sessions[0].closed
        with pytest.raises(RuntimeError, match="Session is closed"):
            await sessions[0].get(wire.url)
        await until(lambda: wire.open == 0)
        await sessions[0].close()

    checked(when_told, check)


def test_closing_a_connector_ends_the_waiting_requests():
    async def check(wire: Wire) -> None:
        connector = aiohttp.TCPConnector(limit=1)
        async with ClientSession(connector=connector) as session:
            first = asyncio.ensure_future(session.get(wire.url))
            await until(lambda: wire.requests == 1)
            waiting = asyncio.ensure_future(session.get(wire.url))
            await asyncio.sleep(0)
            await connector.close()
            with pytest.raises(aiohttp.ClientConnectionError, match="Connector is closed"):
                await waiting
            wire.gate.set()
            await asyncio.wait([first])
        await until(lambda: wire.open == 0)

    checked(when_told, check)


def test_a_forgotten_session_closes_its_connections():
    async def check(wire: Wire) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        session = ClientSession()
        await (await session.get(wire.url)).read()
        assert wire.open == 1
        del session
        gc.collect()
        await until(lambda: wire.open == 0)

    checked(at_once, check)


def test_idle_connections_end_when_their_time_is_over():
    async def check(wire: Wire) -> None:
        connector = aiohttp.TCPConnector(keepalive_timeout=0.05, limit=2)
        async with ClientSession(connector=connector) as session:
            for _ in range(3):
                await asyncio.gather(*(session.get(wire.url) for _ in range(2)))
                # Nobody asks again: they end by themselves.
                await until(lambda: wire.open == 0)
        assert wire.most == 2

    checked(at_once, check)


def test_an_unread_body_counts_until_it_is_given_up():
    async def check(wire: Wire) -> None:
        async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            response = await session.get(wire.url)
            waiting = asyncio.ensure_future(session.get(wire.url))
            for _ in range(20):
                await asyncio.sleep(0)
            assert (wire.requests, waiting.done()) == (1, False)
            response.close()
            (await waiting).close()
        assert wire.requests == 2

    checked(never_ends, check)


def test_the_dns_cache_can_be_cleared():
    async def check(wire: Wire) -> None:
        connector = aiohttp.TCPConnector(ttl_dns_cache=None)
        async with ClientSession(connector=connector) as session:
            for host, port in ((None, None), ("localhost", 80), ("unknown.invalid", 1)):
                async with session.get(named(wire)) as response:
                    assert await response.text() == "ok"
                connector.clear_dns_cache(host, port)
            # As aiohttp has it, both or none.
            with pytest.raises(ValueError):
                connector.clear_dns_cache("localhost")
            async with session.get(named(wire)) as response:
                assert await response.text() == "ok"
            assert session._foreign_reason is None

    checked(at_once, check)


@pytest.mark.parametrize("limit", [0, None, 2])
def test_no_limit_is_zero_or_none(limit: int | None):
    async def main() -> None:
        for make in (aiohttp.ClientSession, ClientSession):
            async with Wire(at_once) as wire:
                async with make(connector=aiohttp.TCPConnector(limit=limit)) as session:
                    assert session.connector.limit == limit
                    responses = await asyncio.gather(*[session.get(wire.url) for _ in range(5)])
                    assert [await response.text() for response in responses] == ["ok"] * 5

    run(main())


@pytest.mark.parametrize("ending", ["unread", "left", "released", "read"])
def test_an_unread_body_holds_its_place(ending: str):
    """A large one, that is: a small one has come with its head, and its connection is free again."""

    async def main() -> None:
        large = answer(b"x" * 3_000_000)
        for make in (aiohttp.ClientSession, ClientSession):
            connector = aiohttp.TCPConnector(limit_per_host=1)
            async with (
                Replies((large, answer(b"second")), keep=True) as wire,
                make(connector=connector) as session,
            ):
                response = await session.get(wire.base)
                if ending == "unread":
                    with pytest.raises(asyncio.TimeoutError):
                        await session.get(wire.base, timeout=aiohttp.ClientTimeout(total=0.1))
                    assert wire.accepted == 1
                    response.close()
                elif ending == "left":
                    async with response:
                        pass
                elif ending == "released":
                    response.release()
                else:
                    assert len(await response.read()) == 3_000_000
                async with session.get(wire.base) as second:
                    assert await second.text() == "second"
                assert wire.accepted == (1 if ending == "read" else 2)

    run(main())
