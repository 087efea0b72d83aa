"""HTTP/2: negotiated or known beforehand, one connection for all, and the errors of HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from certificates import Certificates
from http2_server import Http2Server
from molotov._core import Recorder, RunState
from molotov.session import ClientSession
from session_server import Server, run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: Any) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def prior_knowledge(monkeypatch: Any) -> None:
    monkeypatch.setenv("MOLOTOV_HTTP2", "prior-knowledge")


Check = Callable[[Http2Server, ClientSession], Awaitable[None]]


def checked(check: Check, streams: int = 100, **options: Any) -> None:
    async def main() -> None:
        async with Http2Server(streams=streams) as server, ClientSession(**options) as session:
            await asyncio.wait_for(check(server, session), 60)
            assert session._aiohttp_session is None

    run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_a_response_is_as_any_other():
    async def check(server: Http2Server, session: ClientSession) -> None:
        url = server.url + "x?a=1"
        async with session.get(url, headers={"X-A": "1"}) as response:
            assert response.status == 200
            assert response.version == aiohttp.HttpVersion(2, 0)
            assert response.reason == ""
            assert response.content_type == "application/json"
            assert await response.json() == {"ok": True}
            assert response.headers["content-type"] == "application/json"
            assert str(response.url) == url
        headers = server.requests[0]["headers"]
        assert headers[":method"] == "GET"
        assert (headers[":path"], headers[":scheme"]) == ("/x?a=1", "http")
        assert headers[":authority"] == f"localhost:{server.port}"
        assert headers["x-a"] == "1"
        assert not {"host", "connection", "transfer-encoding"} & set(headers)

    checked(check)


#: The native path, and the Python one.
PATHS = [{}, {"skip_auto_headers": ["Accept"]}]


@pytest.mark.parametrize("arguments", PATHS)
def test_one_connection_carries_everything(arguments: dict[str, Any]):
    async def check(server: Http2Server, session: ClientSession) -> None:
        async def one(number: int) -> None:
            async with session.get(server.url + str(number), **arguments) as response:
                assert await response.json() == {"ok": True}

        # The first are on their way before the connection is there.
        await asyncio.gather(*(one(number) for number in range(50)))
        for number in range(50):
            await one(number)
        assert server.accepted == 1
        assert len(server.requests) == 100

    checked(check)


@pytest.mark.parametrize("limit", [1, 100])
def test_the_servers_limit_of_streams_makes_requests_wait(limit: int):
    async def check(server: Http2Server, session: ClientSession) -> None:
        # The limit is known with the first answer.
        await session.get(server.url)
        calls = [asyncio.ensure_future(session.get(server.url + f"gate{n}")) for n in range(10)]
        await until(lambda: len(server.requests) == 4)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(server.requests) == 4
        server.gate.set()
        assert [answer.status for answer in await asyncio.gather(*calls)] == [200] * 10
        assert server.accepted == 1

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=limit)
        async with Http2Server(streams=3) as server, ClientSession(connector=connector) as session:
            await check(server, session)

    run(main())


async def pieces() -> AsyncIterator[bytes]:
    for number in range(100):
        yield b"piece %02d;" % number


BODIES: dict[str, tuple[Callable[[], dict[str, Any]], bytes]] = {
    "bytes": (lambda: {"data": b"body"}, b"body"),
    "json": (lambda: {"json": {"a": 1}}, b'{"a": 1}'),
    "empty": (lambda: {"data": b""}, b""),
    "large": (lambda: {"data": b"x" * 3_000_000}, b"x" * 3_000_000),
    "generator": (lambda: {"data": pieces()}, b"".join(b"piece %02d;" % n for n in range(100))),
    "compressed": (lambda: {"data": b"abc", "compress": False, "chunked": True}, b"abc"),
    "expected": (lambda: {"data": b"body", "expect100": True}, b"body"),
    "expected generator": (
        lambda: {"data": pieces(), "expect100": True},
        b"".join(b"piece %02d;" % n for n in range(100)),
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_arrive_whole(name: str):
    make, body = BODIES[name]

    async def check(server: Http2Server, session: ClientSession) -> None:
        for _ in range(2):
            async with session.post(server.url + "post", **make()) as response:
                assert response.status == 200
                assert await response.read() == (body or b'{"ok": true}')
        assert server.accepted == 1
        assert server.requests[0]["body"] == body

    checked(check)


def test_large_bodies_come_no_faster_than_they_are_read():
    async def check(server: Http2Server, session: ClientSession) -> None:
        async with session.get(server.url + "large") as slow:
            assert len(await slow.content.readexactly(1000)) == 1000
            # Meanwhile the connection is everybody's.
            async with session.get(server.url + "large") as fast:
                assert len(await fast.read()) == 4 * 1024 * 1024
            rest = await slow.read()
            assert len(rest) + 1000 == 4 * 1024 * 1024
        assert server.accepted == 1

    checked(check)


def test_a_body_nobody_wants_is_reset():
    async def check(server: Http2Server, session: ClientSession) -> None:
        async with session.get(server.url + "large") as response:
            assert response.status == 200
        await until(lambda: len(server.resets) == 1)
        assert (await session.get(server.url)).status == 200
        assert server.accepted == 1

    checked(check)


def test_encodings_cookies_redirects_and_statuses():
    async def check(server: Http2Server, session: ClientSession) -> None:
        async with session.get(server.url + "gzip") as response:
            assert await response.text() == "hello " * 100
        async with session.get(server.url + "cookie") as response:
            assert {m.key: m.value for m in response.cookies.values()} == {"a": "1", "b": "2"}
        async with session.get(server.url + "redirect") as response:
            assert [hop.status for hop in response.history] == [302]
            assert str(response.url) == server.url + "target"
        assert server.request("/target")["headers"]["cookie"] == "a=1; b=2"
        async with session.head(server.url) as response:
            assert response.headers["content-length"] == "1000"
            assert await response.read() == b""
        for status in (204, 304, 404, 500):
            async with session.get(f"{server.url}status?{status}") as response:
                assert response.status == status
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await session.get(server.url + "status?503", raise_for_status=True)
        assert caught.value.status == 503
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await session.get(server.url + "many")
        assert caught.value.status == 400
        assert server.accepted == 1

    checked(check)


@pytest.mark.parametrize("arguments", PATHS)
def test_failures_are_those_of_http_1(arguments: dict[str, Any]):
    async def check(server: Http2Server, session: ClientSession) -> None:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(server.url + "reset", **arguments)
        response = await session.get(server.url + "half", **arguments)
        with pytest.raises(aiohttp.ClientPayloadError, match="not completed"):
            await response.read()
        with pytest.raises(asyncio.TimeoutError):
            await session.get(server.url + "silent", timeout=aiohttp.ClientTimeout(total=0.05), **arguments)
        short = aiohttp.ClientTimeout(sock_read=0.05)
        with pytest.raises(aiohttp.ServerTimeoutError, match="reading data"):
            await session.get(server.url + "silent", timeout=short, **arguments)
        # Long enough for the head to arrive on a busy machine.
        longer = aiohttp.ClientTimeout(sock_read=1)
        response = await session.get(server.url + "half-silent", timeout=longer, **arguments)
        with pytest.raises(aiohttp.ServerTimeoutError):
            await response.read()
        await until(lambda: len(server.resets) == 3)
        # None of this harmed the connection; this does.
        assert server.accepted == 1
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(server.url + "cut", **arguments)
        assert (await session.get(server.url, **arguments)).status == 200
        assert server.accepted == 2

    checked(check)


def test_a_cancelled_request_resets_its_stream_only():
    async def check(server: Http2Server, session: ClientSession) -> None:
        others = [asyncio.ensure_future(session.get(server.url + f"gate{n}")) for n in range(3)]
        call = asyncio.ensure_future(session.get(server.url + "silent"))
        await until(lambda: len(server.requests) == 4)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: len(server.resets) == 1)
        server.gate.set()
        assert [answer.status for answer in await asyncio.gather(*others)] == [200] * 3
        assert server.accepted == 1

    checked(check)


def test_cancelled_before_the_connection_is_there():
    async def check(server: Http2Server, session: ClientSession) -> None:
        first, second, third = (asyncio.ensure_future(session.get(server.url)) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        assert (await third).status == 200
        assert (await session.get(server.url)).status == 200

    checked(check)


def test_going_away_moves_on_to_a_new_connection():
    async def check(server: Http2Server, session: ClientSession) -> None:
        last = asyncio.ensure_future(session.get(server.url + "gate"))
        await until(lambda: len(server.requests) == 1)
        server.go_away()
        server.gate.set()
        answers = await asyncio.gather(*(session.get(server.url + str(n)) for n in range(5)))
        assert [answer.status for answer in answers] == [200] * 5
        await asyncio.wait([last])
        assert server.accepted == 2

    checked(check)


def test_a_refused_stream_is_tried_once_more():
    async def check(server: Http2Server, session: ClientSession) -> None:
        assert (await session.get(server.url + "refuse")).status == 200
        assert len(server.requests) == 2

    checked(check)


def test_a_lost_connection_fails_its_requests_and_no_other():
    async def check(server: Http2Server, session: ClientSession) -> None:
        calls = [asyncio.ensure_future(session.post(server.url + f"gate{n}")) for n in range(5)]
        await until(lambda: len(server.requests) == 5)
        server.cut()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, aiohttp.ClientConnectionError) for end in ends), ends
        assert (await session.get(server.url)).status == 200

    checked(check)


def test_an_early_answer_ends_the_upload():
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async def check(server: Http2Server, session: ClientSession) -> None:
        async with session.post(server.url + "early", data=endless()) as response:
            assert response.status == 413
        assert (await session.get(server.url)).status == 200
        assert server.accepted == 1

    checked(check)


def test_an_upload_goes_on_behind_the_head_of_the_answer():
    gate = asyncio.Event()

    async def gated() -> AsyncIterator[bytes]:
        yield b"first;"
        await gate.wait()
        yield b"second"

    async def check(server: Http2Server, session: ClientSession) -> None:
        gate.clear()
        async with session.post(server.url + "hasty", data=gated()) as response:
            assert response.status == 200
            gate.set()
            assert await response.read() == b"first;second"

    checked(check)


def test_compressed_bodies_are_decoded_as_far_as_they_are_read():
    async def check(server: Http2Server, session: ClientSession) -> None:
        async with session.get(server.url + "expanding") as response:
            pieces = [len(piece) async for piece in response.content.iter_any()]
            assert sum(pieces) == 32 * 1024 * 1024
            assert max(pieces) < 1024 * 1024
            assert response.content.total_raw_bytes < 1024 * 1024
        async with session.get(server.url + "expanding") as response:
            assert await response.read() == bytes(32 * 1024 * 1024)
        async with session.get(server.url + "expanding", auto_decompress=False) as response:
            assert (await response.read())[:2] == b"\x1f\x8b"

    checked(check)


def test_the_sessions_limits_hold():
    async def check(server: Http2Server, session: ClientSession) -> None:
        with pytest.raises(aiohttp.ClientPayloadError):
            await (await session.get(server.url + "expanding")).read()
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(server.url + "cookie", max_headers=1)
        async with session.get(server.url + "many", max_headers=200) as response:
            assert response.headers["x-149"] == "1"
        assert server.accepted == 1

    checked(check, max_decoded_bytes=1_000_000)


def test_a_slow_reader_is_no_silent_server():
    async def check(server: Http2Server, session: ClientSession) -> None:
        async with session.get(server.url + "large", timeout=aiohttp.ClientTimeout(sock_read=1)) as response:
            await response.content.readany()
            # Longer than the server may be silent: it has much to say and no room.
            await asyncio.sleep(1.2)
            assert (await response.read()).endswith(b"0123456789abcdef")
        with pytest.raises(aiohttp.ServerTimeoutError):
            await session.get(server.url + "silent", timeout=aiohttp.ClientTimeout(sock_read=0.05))

    checked(check)


def test_nobody_listens():
    async def main() -> None:
        async with ClientSession() as session:
            calls = [session.get("http://127.0.0.1:1/") for _ in range(5)]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(end, aiohttp.ClientConnectorError) for end in ends)

    run(main())


def test_a_server_of_http_1_is_no_http_2_server():
    async def main() -> None:
        async with Server() as server, ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.post(server.base + "/echo")

    run(main())


def test_closing_the_session_closes_the_connection():
    async def main() -> None:
        async with Http2Server() as server:
            session = ClientSession()
            assert (await session.get(server.url)).status == 200
            await session.close()
            await until(lambda: server.open == 0)

    run(main())


def test_closing_the_session_ends_what_is_under_way():
    async def main() -> None:
        async with Http2Server() as server:
            session = ClientSession()
            # That it has served does not make the others worth another try.
            assert (await session.get(server.url)).status == 200
            reading = await session.get(server.url + "half-silent")
            waiting = asyncio.ensure_future(session.get(server.url + "silent"))
            await until(lambda: len(server.requests) == 3)
            await session.close()
            with pytest.raises(aiohttp.ClientConnectionError, match="Connector is closed"):
                await waiting
            with pytest.raises(aiohttp.ClientError):
                await reading.read()
            await until(lambda: server.open == 0)
            assert server.accepted == 1

    run(main())


def secure(certificates: Certificates, check: Check) -> None:
    async def main() -> None:
        async with Http2Server(certificates.server()) as server:
            async with ClientSession(connector=aiohttp.TCPConnector(ssl=certificates.trusting())) as session:
                await check(server, session)
                assert session._aiohttp_session is None

    run(main())


def test_tls_servers_choose(certificates: Certificates, monkeypatch: Any):
    monkeypatch.setenv("MOLOTOV_HTTP2", "1")

    async def check(server: Http2Server, session: ClientSession) -> None:
        answers = await asyncio.gather(*(session.get(server.url) for _ in range(20)))
        assert {tuple(answer.version) for answer in answers} == {(2, 0)}
        assert server.accepted == 1
        assert server.requests[0]["headers"][":scheme"] == "https"

    secure(certificates, check)

    async def old() -> None:
        async def answer(request: web.Request) -> web.Response:
            connections.add(id(request.transport))
            return web.Response(text="old")

        connections: set[int] = set()
        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        context = certificates.server()
        context.set_alpn_protocols(["http/1.1"])
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        tls, plain = (address[1] for address in runner.addresses)
        async with ClientSession(connector=aiohttp.TCPConnector(ssl=certificates.trusting())) as session:
            answers = await asyncio.gather(*(session.get(f"https://localhost:{tls}/") for _ in range(5)))
            answers.append(await session.get(f"https://localhost:{tls}/"))
            # Without TLS nothing is negotiated.
            answers.append(await session.get(f"http://localhost:{plain}/"))
            assert {(answer.status, *answer.version) for answer in answers} == {(200, 1, 1)}
        assert len(connections) == 6
        await runner.cleanup()

    run(old())


@pytest.mark.parametrize("value", ["", "0"])
def test_it_is_off_unless_asked_for(value: str, certificates: Certificates, monkeypatch: Any):
    monkeypatch.setenv("MOLOTOV_HTTP2", value)

    async def main() -> None:
        context = certificates.server()
        async with Http2Server(context) as server, ClientSession() as session:
            # What was agreed on is the server's to say: it breaks off, having got no HTTP/2.
            with pytest.raises(aiohttp.ClientError):
                await session.post(server.url, ssl=False)
            assert not server.requests

    run(main())


def test_a_wrong_setting_is_refused(monkeypatch: Any):
    monkeypatch.setenv("MOLOTOV_HTTP2", "maybe")

    async def main() -> None:
        with pytest.raises(ValueError, match="MOLOTOV_HTTP2"):
            ClientSession()

    run(main())


def test_requests_are_counted_and_timed():
    async def main() -> None:
        from molotov import _core

        state, recorder = RunState(), Recorder()
        loop = asyncio.get_running_loop()
        plan = _core.Plan(
            state,
            recorder,
            [{"name": "x", "func": None}],
            loop=loop,
            open_session=None,  # type: ignore[arg-type]
            on_failure=None,  # type: ignore[arg-type]
        )
        async with Http2Server() as server, ClientSession() as session:
            for path in ("a", "a", "status?404", "large"):
                async with session.get(server.url + path) as response:
                    await response.read()
            async with session.get(server.url + "redirect") as response:
                assert response.status == 200
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.post(server.url + "reset")
        rows = {row["name"]: row for row in recorder.rows() if row["kind"] == "request"}
        host = f"localhost:{server.port}"
        found = {name.replace(f" {host}/", " "): (row["count"], row["failed"]) for name, row in rows.items()}
        assert found == {
            "GET a": (2, 0),
            "GET status": (1, 1),
            "GET large": (1, 0),
            "GET redirect": (1, 0),
            "GET target": (1, 0),
            "POST reset": (1, 1),
        }
        assert all(row["bytes"] > 0 for name, row in rows.items() if "reset" not in name)
        assert rows[f"GET {host}/large"]["bytes"] > 4 * 1024 * 1024
        assert state.requests == 6
        assert (state.statuses["2xx"], state.statuses["3xx"], state.statuses["4xx"]) == (4, 1, 1)
        del plan

    run(main())


SCENARIO = """
from molotov import scenario

@scenario()
async def ask(session):
    async with session.get("URL") as response:
        assert tuple(response.version) == (2, 0), response.version
"""


def test_the_command_line_turns_it_on(tmp_path: Path, monkeypatch: Any):
    monkeypatch.delenv("MOLOTOV_HTTP2")

    async def main() -> None:
        async with Http2Server() as server:
            (tmp_path / "loadtest.py").write_text(SCENARIO.replace("URL", server.url))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "molotov", "--http2=prior-knowledge", "-c", "-w", "3", "-r", "5"),
                *("-p", "2", "--fail", "1", "loadtest.py"),
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0, output.decode()
            assert len(server.requests) == 30
            # One for each session.
            assert server.accepted == 6

    run(main())


@pytest.mark.parametrize(
    ("words", "how", "scenario"),
    [
        (["--http2", "x.py"], "alpn", "x.py"),
        (["x.py", "--http2"], "alpn", "x.py"),
        (["--http2=prior-knowledge", "x.py"], "prior-knowledge", "x.py"),
        (["x.py"], None, "x.py"),
    ],
)
def test_the_option_takes_no_scenario_for_its_value(words: list[str], how: str | None, scenario: str):
    from molotov._options import make_parser, parse

    args, explicit = parse(make_parser(), words)
    assert (args.http2, args.scenario) == (how, scenario)
    assert ("http2" in explicit) == (how is not None)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx on this machine")
def test_nginx_speaks_it(certificates: Certificates, tmp_path: Path):
    """A server that is not ours: GET, POST, a large file and many at once, over one connection."""
    (tmp_path / "large").write_bytes(bytes(range(256)) * 8192)
    (tmp_path / "small").write_text("small")
    process, port = _start_nginx(tmp_path, certificates)
    try:
        run(_talk_to_nginx(port, certificates))
    finally:
        process.terminate()
        process.wait(30)
    connections = (tmp_path / "connections.log").read_text().split()
    assert len(connections) == 204
    assert len(set(connections)) == 1


NGINX = """
daemon off; master_process off; pid FOLDER/pid; error_log FOLDER/error.log;
events { worker_connections 64; }
http {
    log_format connection '$connection';
    access_log FOLDER/connections.log connection;
    client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi; uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
    server {
        listen 127.0.0.1:PORT ssl http2;
        ssl_certificate CERTIFICATE;
        ssl_certificate_key KEY;
        root FOLDER;
        location /echo { return 200 "$request_method $http_x_a $server_protocol"; }
    }
}
"""


def _start_nginx(folder: Path, certificates: Certificates) -> tuple[subprocess.Popen[bytes], int]:
    """Start nginx on a free port: on another one when somebody takes the port in between."""
    for _ in range(10):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        text = NGINX
        for name, value in {
            "FOLDER": str(folder),
            "PORT": str(port),
            "CERTIFICATE": certificates.path("server.pem"),
            "KEY": certificates.path("server.key"),
        }.items():
            text = text.replace(name, value)
        (folder / "nginx.conf").write_text(text)
        process = subprocess.Popen(
            ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return process, port
            time.sleep(0.01)
    raise AssertionError((folder / "error.log").read_text())


async def _talk_to_nginx(port: int, certificates: Certificates) -> None:
    base = f"https://localhost:{port}"
    connector = aiohttp.TCPConnector(ssl=certificates.trusting())
    async with ClientSession(connector=connector) as session:
        async with session.get(f"{base}/small") as response:
            assert await response.text() == "small"
        async with session.post(f"{base}/echo", data=b"x" * 100_000, headers={"X-A": "1"}) as response:
            assert (response.status, tuple(response.version)) == (200, (2, 0))
            assert await response.text() == "POST 1 HTTP/2.0"
        async with session.get(f"{base}/large") as response:
            assert await response.read() == bytes(range(256)) * 8192

        async def one() -> int:
            async with session.get(f"{base}/small") as response:
                assert await response.text() == "small"
                return response.status

        assert await asyncio.gather(*(one() for _ in range(200))) == [200] * 200
        async with session.get(f"{base}/nothing") as response:
            assert response.status == 404
