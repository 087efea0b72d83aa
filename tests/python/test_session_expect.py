"""Expect: 100-continue, other interim responses, and servers that do not keep connections."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from differential import attributes, differences, observe
from molotov.session import ClientSession
from session_server import placed, run, without_chance

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Script:
    """A server that follows a script: bytes to send, or "head" and "body" to read those first.

    After the last step of a request it begins anew, unless that step is "close".
    """

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.accepted = 0
        self.seen: list[Any] = []
        self.ended = asyncio.Event()
        self.heads = 0

    async def __aenter__(self) -> Script:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def names(self) -> dict[str, str]:
        host = self.url[len("http://") : -1]
        return {host: "HOST", host.rsplit(":", 1)[1]: "PORT"}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            self.seen.append("client left")
        finally:
            self.ended.set()
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = b""
        for step in self.steps:
            if step == "head":
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads += 1
                self.seen.append([line.split(": ", 1) for line in head.decode().split("\r\n")])
            elif step == "body":
                self.seen.append(await self._body(head, reader))
            elif step == "close":
                return False
            elif step == "end":
                # Waits for the client's side to end.
                self.seen.append(await reader.read())
                return False
            else:
                writer.write(step)
                await writer.drain()
        return True

    async def _body(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        if b"content-length" in lines:
            return await reader.readexactly(int(lines[b"content-length"]))
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body


async def pieces() -> AsyncIterator[bytes]:
    for number in range(3):
        yield f"piece {number};".encode()


BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "bytes": lambda: {"data": b"body"},
    "json": lambda: {"json": {"a": 1}},
    "file": lambda: {"data": io.BytesIO(b"content " * 1000)},
    "generator": lambda: {"data": pieces()},
    "large": lambda: {"data": b"x" * 1_000_000},
    "header": lambda: {"data": b"body", "headers": {"Expect": "100-continue"}, "expect100": False},
    "header in capitals": lambda: {"data": b"b", "headers": {"EXPECT": "100-CONTINUE"}, "expect100": False},
    "other expectation": lambda: {"data": b"b", "headers": {"Expect": "patience"}, "expect100": False},
    "nothing": dict,
}

SCRIPTS: dict[str, tuple[Any, ...]] = {
    "continue": ("head", CONTINUE, "body", OK),
    "hints first": (
        "head",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" + CONTINUE,
        "body",
        OK,
    ),
    "final instead": ("head", b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", "end"),
    "final and close": (
        "head",
        b"HTTP/1.1 401 Who\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "close",
    ),
    "late": ("head", CONTINUE, "body", b"HTTP/1.1 102 Processing\r\n\r\n", OK),
    "leaves": ("head", "close"),
}


async def perform(make: Any, script: Script, calls: int, kw: Callable[[], dict[str, Any]]) -> Any:
    results = []
    async with make() as session:
        for _ in range(calls):
            try:
                async with session.post(script.url, **{"expect100": True, **kw()}) as response:
                    results.append(await observe(response))
            except Exception as error:
                results.append(attributes(error))
        if make is ClientSession:
            assert session._aiohttp_session is None
    return results


def both(steps: tuple[Any, ...], kw: Callable[[], dict[str, Any]], calls: int = 2) -> tuple[Any, Any]:
    async def one(make: Any) -> Any:
        async with Script(*steps) as script:
            results = await perform(make, script, calls, kw)
            await script.ended.wait()
            return without_chance(placed([results, script.seen], script.names())), script.accepted

    return run(one(aiohttp.ClientSession)), run(one(ClientSession))


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_body_waits_as_with_aiohttp(script: str, body: str):
    if body == "other expectation" and script != "continue":
        pytest.skip("nothing waits: whether the body has left is a matter of time")
    theirs, ours = both(SCRIPTS[script], BODIES[body])
    if body == "nothing":
        # Whether aiohttp keeps a connection for which it had no body to wait for is a matter of time.
        theirs, ours = theirs[0][0], ours[0][0]
    assert not (found := differences(theirs, ours)), found


def checked(steps: tuple[Any, ...], check: Callable[[Script, ClientSession], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Script(*steps) as script, ClientSession() as session:
            await check(script, session)

    run(main())


def test_the_body_stays_here_until_the_server_asks():
    taken = []

    async def source() -> AsyncIterator[bytes]:
        taken.append(True)
        yield b"body"

    async def check(script: Script, session: ClientSession) -> None:
        call = asyncio.ensure_future(session.put(script.url, data=source(), expect100=True))
        while not script.heads:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not taken
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await script.ended.wait()
        assert script.seen[1:] == [b""]
        assert not taken

    checked(("head", "end"), check)


def test_a_wait_for_100_runs_into_the_timeout():
    async def check(script: Script, session: ClientSession) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await session.post(
                script.url, data=b"x", expect100=True, timeout=aiohttp.ClientTimeout(total=0.05)
            )
        await script.ended.wait()
        assert script.seen[1:] == [b""]

    checked(("head", "end"), check)


ENDINGS: dict[str, tuple[tuple[Any, ...], int]] = {
    "keeps": (("head", OK), 1),
    "says close": (
        ("head", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "end"),
        3,
    ),
    "closes": (("head", OK, "close"), 3),
    "1.0": (("head", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "end"), 3),
    "1.0, kept": (("head", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"), 1),
    "1.0, until the end": (("head", b"HTTP/1.0 200 OK\r\n\r\nuntil the end", "close"), 3),
    "1.1, until the end": (("head", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "close"), 3),
    "many hints": (("head", b"HTTP/1.1 103 Hint\r\nA: b\r\n\r\n" * 5 + OK), 1),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_connections_are_kept_when_the_server_keeps_them(name: str):
    steps, connections = ENDINGS[name]

    async def main(make: Any) -> Any:
        async with Script(*steps) as script, make() as session:
            results = []
            for _ in range(3):
                async with session.get(script.url) as response:
                    results.append(await observe(response))
            assert script.accepted == connections
            return without_chance(placed([results, script.seen], script.names()))

    assert not (found := differences(run(main(aiohttp.ClientSession)), run(main(ClientSession)))), found
