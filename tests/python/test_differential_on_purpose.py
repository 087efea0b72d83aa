"""Where the native session differs from aiohttp's on purpose: what each does, and why ours does so."""

from __future__ import annotations

import asyncio
import gzip
import re
import warnings
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from differential import IGNORED_WARNINGS, outcome
from differential_wire import Wire, answer, chunked, encoded
from molotov import _core
from molotov.session import ClientSession
from session_server import Server, run

pytestmark = IGNORED_WARNINGS

GZIP = gzip.compress(b"compressed " * 1000, mtime=0)


async def with_both(script: Callable[[Any], Awaitable[Any]], **arguments: Any) -> tuple[Any, Any]:
    """Run a script with aiohttp's session and with ours; give what each made of it."""
    results = []
    for make in (aiohttp.ClientSession, ClientSession):
        async with make(**arguments) as session:
            results.append(await outcome(lambda: script(session)))
    return results[0], results[1]


def text_of(reply: bytes, **arguments: Any) -> Callable[[Any], Awaitable[Any]]:
    """Ask a server that gives this reply, and read the body as text."""

    async def script(session: Any) -> Any:
        async with Wire((reply,), keep=False) as wire:
            async with session.get(wire.base, **arguments) as response:
                return response.status, await outcome(response.text)

    return script


def test_an_unasked_answer_never_answers_the_next_request() -> None:
    """It would be counted for a request that the server has not even seen."""

    async def script(session: Any) -> Any:
        async with Wire((answer(b"first"), answer(b"second"), answer(b"third")), keep=True) as wire:
            async with session.get(wire.base) as response:
                assert await response.text() == "first"
            await wire.say(answer(b"unasked"))
            async with session.get(wire.base) as response:
                return await response.text(), wire.accepted

    assert run(with_both(script))[1] == ("second", 2)


def test_an_unasked_answer_that_nobody_had_time_to_see() -> None:
    """Even when the loop has not looked at the socket since it came: the socket is asked."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        async with Wire((answer(b"first"), answer(b"second")), keep=True) as wire, ClientSession() as session:
            async with session.get(wire.base) as response:
                assert await response.text() == "first"
            wire.say_now(answer(b"unasked"))
            # The loop runs nothing between the arrival and the next request.
            before = loop.time()
            while loop.time() < before + 0.002:
                pass
            async with session.get(wire.base) as response:
                return await response.text(), wire.accepted

    assert run(main()) == ("second", 2)


def test_a_request_on_a_fresh_connection_is_not_sent_again() -> None:
    """The server that closes a new connection has seen the request: a load test must not double it."""

    async def script(session: Any) -> Any:
        async with Wire((b"",), keep=False) as wire:
            seen = await outcome(lambda: session.get(wire.base))
            return seen["class"], len(wire.seen)

    theirs, ours = run(with_both(script))
    assert theirs == ("ServerDisconnectedError", 2)
    assert ours == ("ServerDisconnectedError", 1)


def test_a_request_on_a_kept_connection_is_sent_again_once_and_counted() -> None:
    """A server may close an idle connection at any time; that is no failure of the service."""

    async def main() -> Any:
        state = _core.RunState(1)
        async with Wire((answer(b"first"), b"CLOSE", answer(b"again")), keep=True) as wire:
            async with ClientSession(state=state) as session:
                async with session.get(wire.base) as response:
                    await response.read()
                async with session.get(wire.base) as response:
                    text = await response.text()
        return text, wire.accepted, len(wire.seen)

    assert run(main()) == ("again", 2, 3)


@pytest.mark.parametrize("reuse", [True, False])
def test_a_file_is_sent_again_from_its_start(tmp_path: Path, reuse: bool) -> None:
    """The whole body goes out again if its source can be rewound; on a fresh connection nothing does."""
    path = tmp_path / "body"
    path.write_bytes(b"the body of a file")

    async def main() -> Any:
        replies = (answer(b"first"), b"CLOSE", answer(b"again")) if reuse else (b"CLOSE", answer(b"again"))
        async with Wire(replies, keep=True) as wire, ClientSession() as session:
            if reuse:
                async with session.get(wire.base) as response:
                    await response.read()
            with path.open("rb") as file:
                async with session.put(wire.base, data=file) as response:
                    return await response.text(), [seen.partition(b"\r\n\r\n")[2] for seen in wire.seen[-2:]]

    if reuse:
        assert run(main()) == ("again", [b"the body of a file"] * 2)
    else:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            run(main())


def test_a_sessions_credentials_stay_on_their_origin() -> None:
    """A redirect to another origin must not carry them there; aiohttp's session sends them everywhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        auth = aiohttp.BasicAuth("joe", "secret")

    async def main() -> Any:
        async with Server() as server, Server() as other:

            async def script(session: Any) -> Any:
                other.seen.clear()
                async with session.get(f"{server.base}/redirect/302?to={other.base}/echo") as response:
                    assert response.status == 200
                return "Authorization" in dict(other.seen[0]["headers"])

            return await with_both(script, auth=auth)

    assert run(main()) == (True, False)


@pytest.mark.parametrize("cut", [1, 9, 20])
def test_a_truncated_gzip_body_is_an_error(cut: int) -> None:
    """Half an answer is no answer; aiohttp gives what could be decoded of it."""
    theirs, ours = run(with_both(text_of(encoded("gzip", GZIP[:-cut]))))
    assert theirs[0] == 200
    assert isinstance(theirs[1], str)
    assert (ours[0], ours[1]["class"]) == (200, "ClientPayloadError")


BROKEN_BODIES = {
    "chunk size missing": chunked(b"\r\nok\r\n0\r\n\r\n"),
    "chunk size nonsense": chunked(b"2\r\nok\r\nxyz\r\nok\r\n0\r\n\r\n"),
    "chunk size negative": chunked(b"-2\r\nok\r\n0\r\n\r\n"),
    "chunk size endless": chunked(b"ffffffffffffffffff\r\nok\r\n0\r\n\r\n"),
    "chunk longer than said": chunked(b"2\r\nokay\r\n0\r\n\r\n"),
    "deflate cut": encoded("deflate", zlib.compress(b"deflated " * 50)[:-8]),
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_a_broken_body_is_for_its_reader_to_find(name: str) -> None:
    """With aiohttp that depends on whether it came in the same packet as the head; then the request fails."""
    theirs, ours = run(with_both(text_of(BROKEN_BODIES[name])))
    assert (theirs["class"], theirs["status"]) == ("ClientResponseError", "400")
    status, error = ours
    assert (status, error["class"]) == (200, "ClientPayloadError")
    # The cause is told in the same words.
    assert theirs["message"].partition(":")[0] in error["text"]


@pytest.mark.parametrize("reply", [answer(b"ok") + b" and more", b"HTTP/1.1 204 No Content\r\n\r\nok"])
def test_bytes_behind_an_answer_do_not_spoil_it(reply: bytes) -> None:
    """Ours drops the connection; aiohttp fails the request, if they came in the same packet."""
    theirs, ours = run(with_both(text_of(reply)))
    assert (theirs["class"], theirs["status"]) == ("ClientResponseError", "400")
    assert ours[0] in (200, 204)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        answer(b"ok", "X-A: 1\r\n 2"),
        answer(b"ok", " X-A: 1"),
    ],
)
def test_what_is_no_http_1_any_more_is_refused(reply: bytes) -> None:
    """Folded lines are obsolete and a way to smuggle headers, and there is no HTTP/2.0 in this form."""
    theirs, ours = run(with_both(text_of(reply)))
    assert theirs[0] == 200
    assert (ours["class"], ours["status"]) == ("ClientResponseError", "400")


@pytest.mark.parametrize("encoding", ["br", "zstd"])
def test_brotli_and_zstandard_are_decoded_without_a_package(encoding: str) -> None:
    """They are asked for as aiohttp asks: only where a package for them is installed, or by the script."""
    # "hello hello hello hello" in each.
    bodies = {
        "br": bytes.fromhex("0b0b8068656c6c6f2068656c6c6f2068656c6c6f2068656c6c6f03"),
        "zstd": bytes.fromhex("28b52ffd2017b90000" + "68656c6c6f2068656c6c6f2068656c6c6f2068656c6c6f"),
    }
    reply = encoded(encoding, bodies[encoding])
    theirs, ours = run(with_both(text_of(reply, headers={"Accept-Encoding": encoding})))
    assert ours == (200, "hello hello hello hello")
    packages = {"br": ("brotli", "brotlicffi"), "zstd": ("backports.zstd",)}
    if not any(_installed(name) for name in packages[encoding]):
        assert "Can not decode content-encoding" in theirs["text"]


def _installed(name: str) -> bool:
    from molotov._arguments import _installed as found

    return found(name)


def bomb(size: int) -> bytes:
    """Compress so many zeros as well as gzip can."""
    made = zlib.compressobj(9, wbits=31)
    return made.compress(bytes(size)) + made.flush()


def test_a_body_may_not_expand_for_ever() -> None:
    """A kilobyte that decodes to gigabytes would end the load generator."""
    reply = encoded("gzip", bomb(20_000_000))

    async def check(**limits: Any) -> Any:
        async with ClientSession(**limits) as session:
            return await outcome(lambda: text_of(reply)(session))

    status, text = run(check())
    assert (status, len(text)) == (200, 20_000_000)
    status, error = run(check(max_decoded_bytes=1_000_000))
    assert error["text"] == "Response payload decodes to more than 1000000 bytes"
    status, error = run(check(max_decoded_ratio=100))
    assert error["text"] == "Response payload decodes to more than 100 times its size"
    status, text = run(check(max_decoded_bytes=None, max_decoded_ratio=None))
    assert len(text) == 20_000_000


ENDLESS = {
    "chunk extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;", b"x" * 1000),
    "header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"x" * 1000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n" * 100),
    "reason": (b"HTTP/1.1 200 ", b"x" * 1000),
    "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 10),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: 1\r\n" * 100),
    "spaces in a chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2", b" " * 1000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_hits_a_limit(name: str) -> None:
    """And at once: the server here would go on for ever."""
    start, piece = ENDLESS[name]

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            writer.write(start)
            while True:
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async def main() -> Any:
        server = await asyncio.start_server(flood, "127.0.0.1", 0)
        target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with ClientSession() as session:

            async def ask() -> Any:
                async with session.get(target) as response:
                    return await response.read()

            seen = await outcome(ask)
        server.close()
        return seen

    assert run(main())["class"] in ("ClientResponseError", "ClientPayloadError")


def test_no_redirects_means_none() -> None:
    """aiohttp takes 0 for "any number of them"."""

    async def main() -> Any:
        async with Server() as server:

            async def script(session: Any) -> Any:
                async with session.get(server.base + "/redirect/302", max_redirects=0) as response:
                    return response.status

            return await with_both(script)

    theirs, ours = run(main())
    assert theirs == 200
    assert ours["class"] == "TooManyRedirects"


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "xn--" + "a" * 70, "a..b"])
def test_a_host_that_cannot_exist_is_an_invalid_url(host: str) -> None:
    """aiohttp raises the codec's UnicodeError for some of them, which no script expects."""

    async def script(session: Any) -> Any:
        return await session.get(f"http://{host}/")

    assert run(with_both(script))[1]["class"] in ("InvalidUrlClientError", "InvalidURL")


def test_the_agent_names_itself() -> None:
    """A service's logs should tell a load test from an application."""

    async def main() -> Any:
        async with Server() as server, ClientSession() as session:
            async with session.get(server.base + "/echo"):
                return dict(server.seen[0]["headers"])["User-Agent"]

    assert re.fullmatch(r"Python/3\.\d+ molotov/\S+", run(main()))


def test_hardly_any_case_needs_aiohttps_own_session() -> None:
    """The differential cases say where the fallback serves them: less than one in twenty."""
    import test_differential_bodies
    import test_differential_cookies
    import test_differential_failures
    import test_differential_framing
    import test_differential_headers
    import test_differential_hostile
    import test_differential_redirects
    import test_differential_responses
    import test_differential_session
    import test_differential_streams
    import test_differential_urls

    modules = [
        test_differential_bodies,
        test_differential_cookies,
        test_differential_failures,
        test_differential_framing,
        test_differential_headers,
        test_differential_hostile,
        test_differential_redirects,
        test_differential_responses,
        test_differential_session,
        test_differential_streams,
        test_differential_urls,
    ]
    cases = sum(len(module.CASES) for module in modules)
    served: dict[str, str] = {}
    for module in modules:
        assert set(module.FALLS_BACK) <= set(module.CASES)
        assert set(module.ON_PURPOSE) <= set(module.CASES)
        served |= module.FALLS_BACK
    assert cases >= 400
    assert len(served) < cases / 20, served
