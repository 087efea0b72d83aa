"""ClientSession: attributes, events, cookies, streams, TLS, fallback, and what must not be imported."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import pytest
from aiohttp.client_exceptions import UnixClientConnectorError
from certificates import Certificates
from molotov import _core, _errors, _fallback
from molotov.session import (
    ClientSession,
    LoggedClientRequest,
    LoggedClientResponse,
    SessionTracer,
    get_context,
    get_eventer,
    get_session,
)
from servers import refused_port
from session_server import Server, run
from yarl import URL

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def served(test: Callable[[Server], Awaitable[None]]) -> None:
    """Run a coroutine function with a server, within a minute."""

    async def main() -> None:
        async with Server() as server:
            await asyncio.wait_for(test(server), 60)

    run(main())


class Console:
    """Collects what would be printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def print(self, data: Any, end: str = "\n") -> None:
        self.lines.append(str(data))

    def print_error(self, data: Any, *more: Any) -> None:
        self.lines.append(str(data))


class Statsd:
    """Collects what would be sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def timing(self, name: str, value: float, **_: Any) -> None:
        assert isinstance(value, int)
        self.sent.append(("timing", name))

    def increment(self, name: str, **_: Any) -> None:
        self.sent.append(("increment", name))


def test_it_passes_for_an_aiohttp_session():
    async def check(server: Server) -> None:
        async with ClientSession() as session:
            assert isinstance(session, aiohttp.ClientSession)
            assert isinstance(session, ClientSession)
            assert "molotov.session.ClientSession" in repr(session)
            assert not session.closed
        assert session.closed

    served(check)


def test_attributes_are_those_of_the_arguments():
    async def check(server: Server) -> None:
        auth = aiohttp.BasicAuth("a", "b")
        timeout = aiohttp.ClientTimeout(total=7)
        async with ClientSession(
            headers={"X-A": "1"}, auth=auth, timeout=timeout, raise_for_status=True
        ) as session:
            assert session.headers["x-a"] == "1"
            assert session.auth is auth
            assert session.timeout is timeout
            assert session.raise_for_status is True
            assert session.loop is asyncio.get_running_loop()
            assert session.version == aiohttp.HttpVersion11
            assert session.trust_env is False
            assert session.requote_redirect_url is True
            assert session.auto_decompress is True
            assert session.trace_configs == session._trace_configs == []
            assert session.connector.limit == 100
            assert isinstance(session.cookie_jar, aiohttp.abc.AbstractCookieJar)
            assert callable(session.json_serialize)
        async with ClientSession() as session:
            assert session.timeout == aiohttp.ClientTimeout(total=300, sock_connect=30)

    served(check)


def test_anything_may_be_set_on_session_and_response():
    async def check(server: Server) -> None:
        async with ClientSession() as session:
            session.storage = {"a": 1}
            session._session = session
            async with session.get(server.base + "/echo") as response:
                response.path = "/echo"
                assert response.path == "/echo"
            assert session.storage == {"a": 1}

    served(check)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"timeout": 5}, ValueError),
        ({"base_url": "http://h/no-slash"}, ValueError),
        ({"base_url": "/relative/"}, (AssertionError, ValueError)),
        ({"nonsense": 1}, TypeError),
        ({"timeout": aiohttp.ClientTimeout(), "read_timeout": 3}, ValueError),
    ],
)
def test_bad_arguments_are_refused_as_by_aiohttp(arguments: dict[str, Any], error: Any):
    async def main() -> None:
        for make in (aiohttp.ClientSession, ClientSession):
            with pytest.raises(error):
                make(**arguments)

    run(main())
    gc.collect()


def test_without_a_loop_there_is_no_session():
    with pytest.raises(RuntimeError):
        ClientSession()


def test_headers_changed_later_are_sent():
    async def check(server: Server) -> None:
        async with ClientSession(headers={"X-A": "1"}) as session:
            session.headers.update({"X-B": "2"})
            session.headers["x-c"] = "3"
            del session.headers["X-A"]
            await session.get(server.base + "/echo")
            session._default_headers["X-D"] = "4"
            await session.get(server.base + "/echo")
        first, second = (dict(entry["headers"]) for entry in server.seen)
        assert "X-A" not in first
        assert (first["X-B"], first["x-c"]) == ("2", "3")
        assert second["X-D"] == "4"

    served(check)


def test_bound_methods_work_later_and_twice():
    async def check(server: Server) -> None:
        async with ClientSession() as session:
            call = getattr(session, "get")  # noqa: B009
            for _ in range(2):
                async with call(server.base + "/echo") as response:
                    assert response.status == 200

    served(check)


def test_a_call_is_awaitable_a_context_and_a_task():
    async def check(server: Server) -> None:
        async with ClientSession() as session:
            response = await session.get(server.base + "/echo")
            assert (await response.json())["path"] == "/echo"
            task = asyncio.ensure_future(session.get(server.base + "/echo", headers={"A": "b"}))
            assert (await task).status == 200
            responses = await asyncio.gather(*(session.get(server.base + f"/{n}") for n in range(5)))
            assert [(await r.json())["path"] for r in responses] == [f"/{n}" for n in range(5)]

    served(check)


def test_forgetting_await_is_an_attribute_error():
    async def check(server: Server) -> None:
        async with ClientSession() as session:
            with pytest.raises(AttributeError):
                session.get(server.base + "/echo").json()
            async with session.get(server.base + "/echo") as response:
                with pytest.raises(AttributeError, match="'ClientResponse' object has no attribute"):
                    response.status_code  # noqa: B018

    served(check)


def test_a_released_body_is_gone_and_a_read_one_stays():
    async def check(server: Server) -> None:
        async with ClientSession() as session:
            async with session.get(server.base + "/echo") as response:
                pass
            assert response.headers["content-type"].startswith("application/json")
            with pytest.raises(aiohttp.ClientConnectionError, match="Connection closed"):
                await response.read()
            async with session.get(server.base + "/echo") as response:
                await response.read()
            assert (await response.json())["path"] == "/echo"
            assert "echo" in await response.text()

    served(check)


def test_the_stream_reads_in_every_way():
    async def check(server: Server) -> None:
        whole = b"line 0..\n\nline 1..\n\nline 2..\n\n"
        async with ClientSession() as session:

            async def content(chunked: int = 1) -> Any:
                return (await session.get(server.base + f"/stream?chunked={chunked}")).content

            assert await (await content()).read() == whole
            stream = await content()
            assert await stream.readexactly(4) == b"line"
            assert await stream.read(3) == b" 0."
            assert await stream.readline() == b".\n"
            assert await stream.readline() == b"\n"
            assert not stream.at_eof()
            assert await stream.readuntil(b"1") == b"line 1"
            assert await stream.read() == b"..\n\nline 2..\n\n"
            assert stream.at_eof()
            assert await stream.read() == b""
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await (await content()).readexactly(1000)
            assert caught.value.partial == whole
            assert [line async for line in await content()] == whole.splitlines(keepends=True)
            assert b"".join([chunk async for chunk in (await content(0)).iter_any()]) == whole
            pieces = [chunk async for chunk in (await content()).iter_chunked(4)]
            assert b"".join(pieces) == whole
            assert max(map(len, pieces)) <= 4
            assert b"".join([data async for data, _ in (await content()).iter_chunks()]) == whole
            stream = await content()
            assert b"".join([(await stream.readchunk())[0] for _ in range(4)]).startswith(b"line 0")

    served(check)


def test_reading_what_is_left_after_a_partial_read():
    async def check(server: Server) -> None:
        async with ClientSession() as session, session.get(server.base + "/stream") as response:
            assert await response.content.read(4) == b"line"
            assert (await response.read()).startswith(b" 0..\n")

    served(check)


def test_events_carry_one_request_object_and_cost_the_scenario_nothing():
    async def check(server: Server) -> None:
        console, got = Console(), []
        requests: dict[Any, str] = {}

        async def listener(event: str, **details: Any) -> None:
            request = details["request"]
            requests[request] = event
            got.append((event, request.method, str(request.url.path)))
            assert request.headers["User-Agent"]
            if event == "response_received":
                response = details["response"]
                assert response.request is request
                assert (await response.json())["method"] == "POST"
                assert response.status == 200
                assert isinstance(details["session"], SessionTracer)

        session = get_session(asyncio.get_running_loop(), console)
        get_eventer(session).add_listener(listener)
        async with session:
            async with session.post(server.base + "/redirect/307", data=b"body") as response:
                assert (await response.json())["length"] == 4
        assert got == [
            ("sending_request", "POST", "/redirect/307"),
            ("sending_request", "POST", "/echo"),
            ("response_received", "POST", "/echo"),
        ]
        assert sorted(requests.values()) == ["response_received", "sending_request"]
        assert console.lines == []
        assert isinstance(next(iter(requests)), LoggedClientRequest)
        assert next(iter(requests)).tracer is get_eventer(session)

    served(check)


def test_a_request_is_announced_when_its_connection_is_there_and_nothing_is_sent():
    async def check(server: Server) -> None:
        console = Console()
        seen: list[tuple[str, int]] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            while head := (await reader.read(65536)):
                heads.append(head)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async def listener(event: str, **details: Any) -> None:
            if event != "sending_request":
                return
            while not connections:
                await asyncio.sleep(0)
            seen.append((details["request"].method, len(heads)))
            details["request"].headers["X-Late"] = "yes"

        connections: list[asyncio.StreamWriter] = []
        heads: list[bytes] = []
        raw = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = raw.sockets[0].getsockname()[1]
        async with get_session(asyncio.get_running_loop(), console) as session:
            get_eventer(session).add_listener(listener)
            for method in ("GET", "POST"):
                async with session.request(method, f"http://127.0.0.1:{port}/") as response:
                    assert response.status == 200
            assert seen == [("GET", 0), ("POST", 1)]
            assert len(connections) == 1
            assert all(b"X-Late: yes" in head for head in heads)
            # Nobody is told of a request that nobody can get.
            with refused_port() as nowhere, pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"http://127.0.0.1:{nowhere}/")
            assert len(seen) == 2
        raw.close()
        assert console.lines == []

    served(check)


def test_the_connection_of_a_request_that_is_given_up_when_announced_serves_others():
    async def check(server: Server) -> None:
        asked = asyncio.Event()

        async def listener(event: str, **details: Any) -> None:
            if event == "sending_request" and details["request"].url.path == "/echo":
                asked.set()
                await asyncio.Event().wait()

        connector = aiohttp.TCPConnector(limit=1)
        async with get_session(asyncio.get_running_loop(), Console(), connector=connector) as session:
            get_eventer(session).add_listener(listener)
            held = asyncio.ensure_future(session.get(server.base + "/echo"))
            await asked.wait()
            other = asyncio.ensure_future(session.get(server.base + "/status/204"))
            await asyncio.sleep(0)
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            async with await other as response:
                assert response.status == 204
        assert [seen["target"] for seen in server.seen] == ["/status/204"]

    served(check)


def test_a_failing_listener_is_printed_and_harmless():
    async def check(server: Server) -> None:
        console = Console()

        async def listener(event: str, **details: Any) -> None:
            raise ValueError("bad listener")

        async with get_session(asyncio.get_running_loop(), console) as session:
            get_eventer(session).add_listener(listener)
            async with session.get(server.base + "/echo") as response:
                assert response.status == 200
        assert "bad listener" in "".join(console.lines)

    served(check)


def test_events_reach_the_tracer_of_a_foreign_aiohttp_session():
    async def check(server: Server) -> None:
        seen: list[str] = []

        async def listener(event: str, **details: Any) -> None:
            seen.append(f"{event} {details['request'].method}")

        loop = asyncio.get_running_loop()
        tracer = SessionTracer(loop, Console(), 0, None)
        tracer.add_listener(listener)
        assert isinstance(tracer, aiohttp.TraceConfig)
        async with aiohttp.ClientSession(trace_configs=[tracer]) as session:
            assert get_context(session) is tracer.context
            async with session.get(server.base + "/echo"):
                pass
        async with aiohttp.ClientSession(
            trace_configs=[tracer], request_class=LoggedClientRequest, response_class=LoggedClientResponse
        ) as session:
            async with session.get(server.base + "/echo") as response:
                assert isinstance(response.request, LoggedClientRequest)
        assert seen == ["response_received GET", "sending_request GET", "response_received GET"]

    served(check)


def test_context_has_the_documented_names():
    async def check(server: Server) -> None:
        async with get_session(asyncio.get_running_loop(), Console(), statsd=None) as session:
            context = get_context(session)
            assert (context.statsd, context.args, context.worker_id, context.step) == (None, None, None, None)
            context.attach("thing", 3)
            assert context.thing == 3
            context.other = 4
            assert get_context(session).other == 4
        async with ClientSession() as session:
            assert get_context(session) is None

    served(check)


def test_statsd_metrics_have_the_original_names():
    async def check(server: Server) -> None:
        import socket

        statsd = Statsd()
        async with get_session(asyncio.get_running_loop(), Console(), statsd=statsd) as session:
            await session.get(server.base + "/echo/x?query=1")
        label = f"molotov.{socket.gethostname()}.GET.127.0.0.1./echo/x"
        assert statsd.sent == [("timing", label), ("increment", f"{label}.200")]

    served(check)


def test_the_jar_is_read_and_changed_by_the_script():
    async def check(server: Server) -> None:
        base = server.base.replace("127.0.0.1", "localhost")
        async with ClientSession(cookies={"start": "1"}) as session:
            await session.get(base + "/cookies?got=2")
            session.cookie_jar.update_cookies({"mine": "3"}, URL(base))
            await session.get(base + "/echo")
            assert {cookie.key for cookie in session.cookie_jar} == {"start", "got", "mine"}
            assert len(session.cookie_jar) == 3
            assert set(session.cookie_jar.filter_cookies(URL(base))) == {"start", "got", "mine"}
            session.cookie_jar.clear(lambda cookie: cookie.key == "got")
            await session.get(base + "/echo")
            session.cookie_jar.clear()
            await session.get(base + "/echo")
        sent = [dict(entry["headers"]).get("Cookie", "") for entry in server.seen]
        assert sent[0] == "start=1"
        assert set(sent[1].split("; ")) == {"start=1", "got=2", "mine=3"}
        assert set(sent[2].split("; ")) == {"start=1", "mine=3"}
        assert sent[3] == ""

    served(check)


def test_who_takes_the_place_of_request_makes_every_request():
    """Signing libraries wrap `session._request`, aiohttp's one way to make a request."""

    async def check(server: Server) -> None:
        async with ClientSession() as session:
            original = session._request

            async def signed(method: str, url: Any, **named: Any) -> Any:
                headers = {**(named.pop("headers", None) or {}), "Authorization": f"Signed {method}"}
                return await original(method, url, headers=headers, **named)

            session._request = signed
            async with session.get(server.base + "/echo") as response:
                assert response.status == 200
            await session.post(server.base + "/echo", data="x", headers={"X-Own": "1"})
            await session.request("PUT", server.base + "/echo")
            del session._request
            await session.get(server.base + "/echo")
        sent = [dict(entry["headers"]) for entry in server.seen]
        assert [headers.get("Authorization") for headers in sent] == [
            "Signed GET",
            "Signed POST",
            "Signed PUT",
            None,
        ]
        assert sent[1]["X-Own"] == "1"

    served(check)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_to_get_keeps_the_scripts_content_type(status: int):
    """Only what frames the body goes; a Content-Type that was made up for it goes too."""

    async def check(server: Server) -> None:
        own = {"Content-Type": "x/y"}
        for make in (aiohttp.ClientSession, ClientSession):
            async with make() as session:
                await session.post(server.base + f"/redirect/{status}", data=b"abc", headers=own)
                await session.post(server.base + f"/redirect/{status}", data=b"abc")
        sent = [(entry["method"], dict(entry["headers"])) for entry in server.seen]
        got = [headers.get("Content-Type") for method, headers in sent if method == "GET"]
        assert got == ["x/y", None] * 2
        assert not any("Content-Length" in headers for method, headers in sent if method == "GET")

    served(check)


@pytest.mark.parametrize(("path", "sent"), [("/echo", "everywhere=1"), ("/below/x", "everywhere=1")])
def test_cookies_of_an_earlier_answer_keep_their_attributes(path: str, sent: str):
    """Scripts return `response.cookies` from `setup`: as with aiohttp, only those for every path are sent."""
    received = SimpleCookie()
    received.load("everywhere=1; Path=/")
    received.load('below="a b"; Path=/below')
    received.load("secret=3; Path=/; Secure")
    received.load("gone=4; Path=/; Max-Age=0")

    async def check(server: Server) -> None:
        for make in (aiohttp.ClientSession, ClientSession):
            async with make(cookies=received) as session:
                await session.get(server.base + path)
        assert [dict(entry["headers"]).get("Cookie") for entry in server.seen] == [sent, sent]

    served(check)


def test_raise_for_status_may_be_a_coroutine_function():
    async def check(server: Server) -> None:
        async def refuse(response: Any) -> None:
            if response.status == 404:
                raise LookupError(await response.text())

        async with ClientSession(raise_for_status=refuse) as session:
            with pytest.raises(LookupError, match="status 404"):
                await session.get(server.base + "/status/404")
            assert (await session.get(server.base + "/status/500")).status == 500

    served(check)


def test_credentials_stay_on_their_origin():
    async def check(server: Server) -> None:
        async with Server() as other:
            target = f"{server.base}/redirect/302?to={other.base}/echo"
            auth = aiohttp.BasicAuth("u", "p")
            async with ClientSession() as session:
                await session.get(target, auth=auth)
                await session.get(target, headers={"Authorization": "Bearer x", "Cookie": "a=1"})
                await session.get(target, cookies={"own": "1"})
            # Unlike aiohttp's, the session's own credentials stay too.
            async with ClientSession(auth=auth) as session:
                await session.get(target)
            assert ["Authorization" in dict(entry["headers"]) for entry in server.seen] == [
                True,
                True,
                False,
                True,
            ]
            assert not any({"Authorization", "Cookie"} & set(dict(entry["headers"])) for entry in other.seen)

    served(check)


def test_no_redirect_is_followed_when_none_is_allowed():
    async def check(server: Server) -> None:
        async with ClientSession() as session:
            with pytest.raises(aiohttp.TooManyRedirects):
                await session.get(server.base + "/redirect/302", max_redirects=0)
        assert len(server.seen) == 1

    served(check)


def test_wait_for_cancels_a_request():
    async def check(server: Server) -> None:
        async with ClientSession() as session:
            for arguments in ({}, {"skip_auto_headers": ["Accept"]}):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(session.get(server.base + "/slow", **arguments), 0.05)
            assert (await session.get(server.base + "/echo")).status == 200

    served(check)


def test_a_closed_session_refuses():
    async def check(server: Server) -> None:
        session = ClientSession()
        await session.close()
        await session.close()
        with pytest.raises(RuntimeError, match="Session is closed"):
            await session.get(server.base + "/echo")
        with pytest.raises(RuntimeError, match="Session is closed"):
            await session.get(server.base + "/echo", skip_auto_headers=["Accept"])
        session = ClientSession()
        session.detach()
        assert session.closed
        with pytest.raises(TypeError, match="async with"):
            session.__enter__()

    served(check)


def test_an_unclosed_session_warns():
    async def main() -> list[dict[str, Any]]:
        contexts: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        ClientSession()
        gc.collect()
        return contexts

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        contexts = run(main())
    assert any("Unclosed client session" in str(warning.message) for warning in caught)
    assert [context["message"] for context in contexts] == ["Unclosed client session"]


def test_a_connector_gives_its_settings():
    async def check(server: Server) -> None:
        connector = aiohttp.TCPConnector(limit=3, limit_per_host=2, keepalive_timeout=5, ssl=False)
        async with ClientSession(connector=connector) as session:
            assert session.connector is connector
            settings = session._settings
            assert (settings.limit, settings.limit_per_host, settings.keepalive_timeout) == (3, 2, 5.0)
            assert settings.ssl is False
            assert session._foreign_reason is None
            assert (await session.get(server.base + "/echo")).status == 200
        assert connector.closed
        connector = aiohttp.TCPConnector(force_close=True)
        async with ClientSession(connector=connector, connector_owner=False) as session:
            await session.get(server.base + "/echo")
        assert dict(server.seen[-1]["headers"])["Connection"] == "close"
        assert not connector.closed
        await connector.close()
        async with get_session(asyncio.get_running_loop(), Console()) as session:
            assert session._settings.limit == 0

    served(check)


def test_closing_the_connector_closes_the_session():
    async def check(server: Server) -> None:
        connector = aiohttp.TCPConnector()
        session = ClientSession(connector=connector)
        await connector.close()
        assert session.closed
        await session.close()

    served(check)


class OwnConnector(aiohttp.TCPConnector):
    """What the native pool can't stand in for."""


def watching_connections() -> aiohttp.TraceConfig:
    """Make a trace that listens to what only aiohttp's connector can tell."""

    async def connected(session: Any, context: Any, params: Any) -> None: ...

    config = aiohttp.TraceConfig()
    config.on_connection_create_end.append(connected)
    return config


class OwnResponse(aiohttp.ClientResponse):
    """A script's own response class."""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (lambda: {"connector": OwnConnector()}, "OwnConnector"),
        (lambda: {"response_class": OwnResponse}, "a response class"),
        (lambda: {"trace_configs": [watching_connections()]}, "trace_configs"),
        (lambda: {"version": aiohttp.HttpVersion10}, "HTTP/1.0"),
    ],
)
def test_what_cannot_be_native_is_served_by_aiohttp_and_said_once(arguments: Any, reason: str, caplog: Any):
    _fallback._announced.clear()

    async def check(server: Server) -> None:
        with caplog.at_level(logging.WARNING, "molotov"):
            for _ in range(2):
                async with ClientSession(headers={"X-A": "1"}, cookies={"c": "1"}, **arguments()) as session:
                    async with session.get(server.base + "/echo") as response:
                        assert issubclass(type(response), aiohttp.ClientResponse)
                        assert (await response.json())["path"] == "/echo"
        assert all(dict(entry["headers"])["X-A"] == "1" for entry in server.seen)
        assert all(dict(entry["headers"])["Cookie"] == "c=1" for entry in server.seen)

    served(check)
    lines = [record.getMessage() for record in caplog.records if record.name == "molotov"]
    assert len(lines) == 1
    assert reason in lines[0]


def test_single_requests_go_to_aiohttp_and_share_cookies(caplog: Any):
    _fallback._announced.clear()
    chosen = ssl.create_default_context()
    chosen.set_ciphers("DEFAULT")

    async def check(server: Server) -> None:
        base = server.base.replace("127.0.0.1", "localhost")
        async with ClientSession() as session:
            await session.get(base + "/cookies?a=1")
            session.headers["X-Later"] = "1"
            async with session.post(base + "/cookies?b=2", data=b"x", ssl=chosen) as response:
                assert response.status == 200
            await session.get(base + "/echo")
        assert dict(server.seen[1]["headers"])["Cookie"] == "a=1"
        assert dict(server.seen[1]["headers"])["X-Later"] == "1"
        assert set(dict(server.seen[2]["headers"])["Cookie"].split("; ")) == {"a=1", "b=2"}

    served(check)
    assert [r.getMessage() for r in caplog.records if "its own ciphers" in r.getMessage()]


def test_what_aiohttp_serves_is_counted_too():
    async def check(server: Server) -> None:
        from molotov._core import RunState

        state = RunState()
        async with ClientSession(response_class=OwnResponse, state=state) as session:
            await session.get(server.base + "/redirect/302")
            await session.get(server.base + "/status/404")
        assert state.requests == 3
        assert [state.statuses[name] for name in ("2xx", "3xx", "4xx", "5xx")] == [1, 1, 1, 0]

    served(check)


def test_websockets_are_served_by_aiohttp():
    from aiohttp import web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str("echo " + message.data)
        return socket

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/ws", echo)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}/ws") as socket:
                await socket.send_str("hello")
                assert (await socket.receive()).data == "echo hello"
        await runner.cleanup()

    run(main())


def test_a_unix_connector_reaches_its_socket(tmp_path: Any):
    from aiohttp import web

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/", lambda request: asyncio.sleep(0, web.Response(text="unix")))
        runner = web.AppRunner(app)
        await runner.setup()
        path = str(tmp_path / "socket")
        await web.UnixSite(runner, path).start()
        async with ClientSession(connector=aiohttp.UnixConnector(path)) as session:
            async with session.get("http://localhost/") as response:
                assert await response.text() == "unix"
            assert session._aiohttp_session is None
        async with ClientSession(connector=aiohttp.UnixConnector(path + "-")) as session:
            with pytest.raises(UnixClientConnectorError) as caught:
                await session.get("http://localhost/")
            assert (caught.value.path, caught.value.host) == (path + "-", "localhost")
            assert isinstance(caught.value.os_error, FileNotFoundError)
        await runner.cleanup()

    run(main())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: Any) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def with_tls(certificates: Certificates, test: Callable[[str], Awaitable[None]]) -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="secret")

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.server()).start()
        try:
            await asyncio.wait_for(test(f"https://127.0.0.1:{runner.addresses[0][1]}/"), 60)
        finally:
            await runner.cleanup()

    run(main())


def test_tls_settings_are_honoured(certificates: Certificates):
    trusting = ssl.create_default_context(cafile=certificates.path("ca.pem"))
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    good = aiohttp.Fingerprint(certificates.fingerprint())

    async def check(url: str) -> None:
        async with ClientSession() as session:
            for value in (False, trusting, careless, good):
                async with session.get(url, ssl=value) as response:
                    assert await response.text() == "secret"
            assert session._aiohttp_session is None
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
                await session.get(url)
            assert caught.value.host == "127.0.0.1"
            assert isinstance(caught.value, ssl.CertificateError)
            assert "certificate verify failed" in str(caught.value)
            with pytest.raises(aiohttp.ServerFingerprintMismatch) as mismatch:
                await session.get(url, ssl=aiohttp.Fingerprint(b"\0" * 32))
            assert mismatch.value.expected == b"\0" * 32
            assert mismatch.value.got == certificates.fingerprint()
        for value in (False, trusting, good):
            async with ClientSession(connector=aiohttp.TCPConnector(ssl=value)) as session:
                assert (await session.get(url)).status == 200
                assert session._aiohttp_session is None

    with_tls(certificates, check)


@pytest.mark.parametrize(
    ("kind", "details", "classes", "text"),
    [
        ("timeout_connect", {"url": "http://h/x"}, ("ServerTimeoutError", "TimeoutError"), "http://h/x"),
        ("timeout_sock_read", {"url": "http://h/"}, ("ServerTimeoutError",), "Timeout on reading data"),
        ("timeout_total", {"url": "http://h/"}, ("TimeoutError",), ""),
        ("disconnected", {}, ("ServerDisconnectedError",), "Server disconnected"),
        ("os_error", {"errno": 104, "strerror": "reset"}, ("ClientOSError",), "reset"),
        ("payload", {"message": "cut"}, ("ClientPayloadError",), "cut"),
        ("connection_closed", {}, ("ClientConnectionError",), "Connection closed"),
        (
            "dns",
            {"host": "h", "port": 80, "os_error": "no such name"},
            ("ClientConnectorError",),
            "h:80 ssl:default",
        ),
        ("tls", {"host": "h", "port": 443, "message": "alert"}, ("ClientConnectorSSLError",), "alert"),
        ("invalid_url", {"url": "http://"}, ("InvalidURL", "ValueError"), "http:"),
        (
            "bad_response",
            {"url": "http://h/", "message": "bad"},
            ("ClientResponseError",),
            "400, message='bad'",
        ),
        ("never heard of", {"x": 1}, ("ClientError",), "never heard of"),
    ],
)
def test_errors_are_aiohttps(kind: str, details: dict[str, Any], classes: tuple[str, ...], text: str):
    error = _errors.make(kind, **details)
    names = {base.__name__ for base in type(error).__mro__}
    assert set(classes) <= names
    assert text in str(error)


def test_every_rare_attribute_has_its_place():
    from molotov._response import ATTRIBUTES

    installed = {
        name for name, value in vars(_core.ClientResponse).items() if type(value).__name__ == "ColdAttribute"
    }
    assert installed == set(ATTRIBUTES)


def test_plain_use_imports_no_aiohttp():
    """The server runs here; the client, in a process of its own, must not load aiohttp for plain calls."""
    program = """
import asyncio, sys
import molotov.session
async def main(url):
    async with molotov.session.ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 200
            assert (await response.json())["path"] == "/echo"
        async with session.post(url, json={"a": 1}, headers={"X-A": "1"}) as response:
            assert (await response.json())["length"] == 8
        async with session.get(url) as response:
            assert "echo" in await response.text()
    loaded = {"aiohttp", "yarl", "multidict"} & set(sys.modules)
    assert not loaded, loaded
asyncio.run(main(sys.argv[1]))
"""

    async def check(server: Server) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, server.base + "/echo", stderr=subprocess.PIPE
        )
        _, stderr = await process.communicate()
        assert process.returncode == 0, stderr.decode()

    served(check)
