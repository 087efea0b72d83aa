"""Websockets seen from the server's side: nothing leaks, nothing is lost, nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from molotov import _core, _fallback
from molotov.session import ClientSession
from proxy_server import ProxyServer
from session_server import run
from test_session import Certificates
from websocket_server import BINARY, CLOSE, PING, PONG, TEXT, Peer, RawServer, close_frame, frame

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


async def listens(peer: Peer) -> None:
    await peer.read_to_end()


async def echoes(peer: Peer) -> None:
    while (seen := await peer.read()) is not None:
        if seen[0] == CLOSE:
            peer.send(frame(CLOSE, seen[1]))
            return
        peer.send(frame(seen[0], seen[1]))
        await peer.writer.drain()


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("how", ["close", "context", "session", "forgotten", "cancelled", "server"])
def test_every_end_closes_the_connection(how: str, native: bool):
    async def behave(peer: Peer) -> None:
        if how == "server":
            await peer.read()
        else:
            await peer.read_to_end()

    async def main() -> None:
        async with RawServer(behave) as server:
            session = ClientSession()
            socket = await session.ws_connect(server.base)
            await server.until_open(1)
            if how == "close":
                assert await socket.close()
            elif how == "context":
                async with socket:
                    pass
            elif how == "session":
                await session.close()
                assert (await socket.receive()).type is WSMsgType.CLOSED
                with pytest.raises(aiohttp.ClientError, match="closing transport"):
                    await socket.send_str("late")
            elif how == "forgotten":
                noted = weakref.ref(socket)
                del socket
                gc.collect()
                assert noted() is None
            elif how == "cancelled":
                waiting = asyncio.ensure_future(socket.receive())
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
                assert server.open == 1, "a cancelled receive leaves the conversation as it was"
                await socket.close()
            else:
                await socket.send_str("go")
                assert (await socket.receive()).type is WSMsgType.CLOSED
                assert socket.closed
            await server.until_open(0)
            await session.close()
        assert server.accepted == 1

    run(main(), native=native)


def test_a_reader_hears_of_the_sessions_end():
    async def main() -> None:
        async with RawServer(listens) as server:
            session = ClientSession()
            socket = await session.ws_connect(server.base)
            waiting = asyncio.ensure_future(socket.receive())
            await asyncio.sleep(0)
            await session.close()
            assert (await waiting).type is WSMsgType.CLOSED
            assert socket.close_code == 1006
            await server.until_open(0)

    run(main())


def test_a_session_that_does_not_own_its_connector_leaves_websockets_alone():
    async def main() -> None:
        async with RawServer(echoes) as server:
            connector = aiohttp.TCPConnector()
            session = ClientSession(connector=connector, connector_owner=False)
            socket = await session.ws_connect(server.base)
            await session.close()
            await socket.send_str("still there")
            assert await socket.receive_str() == "still there"
            await socket.close()
            await connector.close()

    run(main())


def test_a_cancelled_handshake_ends_its_connection():
    async def main() -> None:
        gate = asyncio.Event()

        async def never(peer: Peer) -> None:
            gate.set()
            await peer.reader.read()

        async with RawServer(never, lambda key: b"") as server, ClientSession() as session:
            call = asyncio.ensure_future(session.ws_connect(server.base))
            await gate.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await server.until_open(0)

    run(main())


def test_a_refused_handshake_ends_its_connection():
    async def main() -> None:
        async with RawServer(listens, lambda key: b"HTTP/1.1 101 No\r\nUpgrade: x\r\n\r\n") as server:
            async with ClientSession() as session:
                for _ in range(3):
                    with pytest.raises(aiohttp.WSServerHandshakeError):
                        await session.ws_connect(server.base)
                await server.until_open(0)
        assert server.accepted == 3

    run(main())


def test_websockets_count_for_the_limit():
    async def main() -> None:
        async with RawServer(listens) as server:
            async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
                first = await session.ws_connect(server.base)
                second = asyncio.ensure_future(session.ws_connect(server.base))
                await asyncio.wait([second], timeout=0.02)
                assert not second.done()
                await first.close()
                await (await second).close()
        assert server.accepted == 2

    run(main())


def test_a_slow_server_slows_the_sender():
    """What a server does not read must not pile up: a send waits, and goes on when the server reads."""

    async def main() -> None:
        gate = asyncio.Event()

        async def reads_late(peer: Peer) -> None:
            await gate.wait()
            await peer.read_to_end()

        async with RawServer(reads_late) as server, ClientSession() as session:
            socket = await session.ws_connect(server.base)
            sent = 0

            async def floods() -> None:
                nonlocal sent
                for _ in range(200):
                    await socket.send_bytes(bytes(100_000))
                    sent += 1

            flood = asyncio.ensure_future(floods())
            stalled = 0
            while stalled < 50:
                before = sent
                await asyncio.sleep(0.002)
                stalled = stalled + 1 if sent == before else 0
            assert not flood.done()
            gate.set()
            await flood
            await socket.close()
        assert [len(payload) for opcode, payload, *_ in server.seen if opcode == BINARY] == [100_000] * 200

    run(main())


def test_a_sender_hears_of_a_broken_connection():
    async def main() -> None:
        async def breaks(peer: Peer) -> None:
            await peer.read()
            peer.reset()

        async with RawServer(breaks) as server, ClientSession() as session:
            socket = await session.ws_connect(server.base)
            with pytest.raises((ConnectionError, aiohttp.ClientError)):
                while True:
                    await socket.send_bytes(bytes(100_000))
            assert (await socket.receive()).type is WSMsgType.CLOSED
            await server.until_open(0)

    run(main())


def test_a_slow_reader_slows_the_server():
    async def main() -> None:
        sent = 0

        async def floods(peer: Peer) -> None:
            nonlocal sent
            for number in range(400):
                peer.send(frame(BINARY, number.to_bytes(4, "big") + bytes(100_000)))
                await peer.writer.drain()
                sent += 1
            await peer.read_to_end()

        async with RawServer(floods) as server, ClientSession() as session:
            socket = await session.ws_connect(server.base)
            stalled = 0
            while stalled < 50:
                before = sent
                await asyncio.sleep(0.002)
                stalled = stalled + 1 if sent == before else 0
            assert 0 < sent < 400
            got = [int.from_bytes((await socket.receive_bytes())[:4], "big") for _ in range(400)]
            assert got == list(range(400))
            await socket.close()

    run(main())


def test_pings_are_not_answered_into_the_void():
    """A server that pings without end and never reads must not fill our memory with pongs."""

    async def main() -> None:
        sent = 0
        over = asyncio.Event()

        async def pings(peer: Peer) -> None:
            async def floods() -> None:
                nonlocal sent
                while True:
                    peer.send(frame(PING, b"x" * 125) * 1000)
                    await peer.writer.drain()
                    sent += 1000

            flood = asyncio.ensure_future(floods())
            await over.wait()
            flood.cancel()
            await asyncio.wait([flood])
            peer.reset()

        async with RawServer(pings) as server, ClientSession() as session:
            socket = await session.ws_connect(server.base)
            waiting = asyncio.ensure_future(socket.receive())
            stalled = 0
            while stalled < 50:
                before = sent
                await asyncio.sleep(0.002)
                stalled = stalled + 1 if sent == before else 0
            assert not waiting.done()
            over.set()
            await asyncio.wait([waiting])
            # As in aiohttp, a pong that cannot be sent any more is the reader's error.
            assert isinstance(waiting.exception(), aiohttp.ClientConnectionResetError)
            await server.until_open(0)

    run(main())


def test_heartbeats_keep_a_quiet_conversation_alive():
    async def main() -> None:
        async def answers(peer: Peer) -> None:
            while (seen := await peer.read()) is not None:
                if seen[0] == PING:
                    peer.send(frame(PONG, seen[1]))
                    peer.send(frame(TEXT, b"alive"))
                if seen[0] == CLOSE:
                    peer.send(frame(CLOSE, seen[1]))

        async with RawServer(answers) as server, ClientSession() as session:
            async with session.ws_connect(server.base, heartbeat=3) as socket:
                assert (await socket.receive()).data == "alive"
        assert [opcode for opcode, *_ in server.seen] == [PING, CLOSE]

    run(main())


def test_what_was_sent_before_the_end_arrives():
    async def main() -> None:
        async with RawServer(listens) as server, ClientSession() as session:
            socket = await session.ws_connect(server.base)
            for number in range(50):
                await socket.send_bytes(bytes([number]) * 50_000)
            await socket.close(code=4000)
            await server.until_open(0)
        assert [payload[0] for opcode, payload, *_ in server.seen if opcode == BINARY] == list(range(50))
        assert server.seen[-1][0] == CLOSE

    run(main())


async def ignores(*_: Any) -> None:
    """Take any signal of a trace."""


def listening(signal: str, listener: Any = ignores) -> aiohttp.TraceConfig:
    """Make a trace_config with a listener."""
    config = aiohttp.TraceConfig()
    getattr(config, signal).append(listener)
    return config


class Custom(aiohttp.ClientWebSocketResponse):
    """A script's own class."""


@pytest.mark.parametrize(
    ("reason", "session_options", "options"),
    [
        ("a websocket class", {"ws_response_class": Custom}, {}),
        (
            "trace_configs with on_connection_create_start",
            {"trace_configs": [listening("on_connection_create_start")]},
            {},
        ),
        ("Expect: 100-continue", {}, {"headers": {"Expect": "100-continue"}}),
    ],
)
def test_what_only_aiohttp_can_do(
    reason: str, session_options: dict[str, Any], options: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    async def main() -> None:
        async with RawServer(echoes) as server, ClientSession(**session_options) as session:
            async with session.ws_connect(server.base, **options) as socket:
                assert type(socket) is session_options.get(
                    "ws_response_class", aiohttp.ClientWebSocketResponse
                )
                await socket.send_str("x")
                assert await socket.receive_str() == "x"

    _fallback._announced.clear()
    run(main())
    assert caplog.messages == [f"websockets are served by aiohttp instead of the native client: {reason}"]


def test_deprecated_arguments_say_so():
    async def main() -> None:
        async with RawServer(listens) as server, ClientSession() as session:
            with pytest.warns(DeprecationWarning, match="ws_close"):
                await (await session.ws_connect(server.base, timeout=1.0)).close()
            with pytest.warns(DeprecationWarning, match="ws_receive"):
                await (await session.ws_connect(server.base, receive_timeout=1.0)).close()

    run(main())


def test_an_unknown_argument_is_refused_at_once():
    async def main() -> None:
        async with ClientSession() as session:
            with pytest.raises(TypeError, match="no_such_thing"):
                session.ws_connect("ws://127.0.0.1/", no_such_thing=1)

    run(main())


def test_a_loop_may_end_before_its_websockets():
    sockets: list[Any] = []

    async def main() -> None:
        server = RawServer(listens)
        await server.__aenter__()
        session = ClientSession()
        sockets.append(await session.ws_connect(server.base))
        sockets.append(session)
        server._server.close()

    run(main())
    socket, session = sockets
    with pytest.raises(aiohttp.ClientError):
        socket.send_str("late").send(None)
    assert socket.get_extra_info("peername") is None
    session._closed = True


def test_messages_may_come_while_another_task_sends():
    async def main() -> None:
        async with RawServer(echoes) as server, ClientSession() as session:
            async with session.ws_connect(server.base, compress=15) as socket:

                async def sends() -> None:
                    for number in range(500):
                        await socket.send_str(f"{number}")

                sender = asyncio.ensure_future(sends())
                assert [await socket.receive_str() for _ in range(500)] == [f"{n}" for n in range(500)]
                await sender

    run(main())


def test_a_close_frame_in_the_middle_of_a_flood_ends_the_iteration():
    async def main() -> None:
        async def behave(peer: Peer) -> None:
            peer.send(*(frame(TEXT, b"%d" % number) for number in range(1000)), close_frame(4010, b"enough"))
            await peer.read_to_end()

        async with RawServer(behave) as server, ClientSession() as session:
            async with session.ws_connect(server.base) as socket:
                assert len([message async for message in socket]) == 1000
                assert (socket.closed, socket.close_code) == (True, 4010)

    run(main())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("native", [True, False])
def test_websockets_over_tls(certificates: Certificates, native: bool):
    trusting = ssl.create_default_context(cafile=certificates.path("ca.pem"))
    good = aiohttp.Fingerprint(certificates.fingerprint())

    async def main() -> None:
        async with RawServer(echoes, tls=certificates.server()) as server, ClientSession() as session:
            for accepted in (trusting, good, False):
                async with session.ws_connect(server.base, ssl=accepted) as socket:
                    for size in (1, 1000, 300_000):
                        await socket.send_bytes(bytes(size))
                        assert await socket.receive_bytes() == bytes(size)
                    assert socket.get_extra_info("peername")[1] == server.port
                assert socket.close_code == 1000
                await server.until_open(0)
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.ws_connect(server.base)
            with pytest.raises(aiohttp.ServerFingerprintMismatch):
                await session.ws_connect(server.base, ssl=aiohttp.Fingerprint(bytes(32)))
            socket = await session.ws_connect(server.base, ssl=False)
            del socket
            gc.collect()
            await server.until_open(0)

    run(main(), native=native)


@pytest.mark.parametrize("native", [True, False], ids=["native loop", "asyncio's loop"])
def test_a_client_certificate_is_shown(
    certificates: Certificates, caplog: pytest.LogCaptureFixture, native: bool
):
    asking = certificates.server()
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(certificates.path("ca.pem"))
    # With TLS 1.3 a server refuses behind the client's back, when the handshake is over for that side.
    asking.maximum_version = ssl.TLSVersion.TLSv1_2
    known = certificates.trusting()
    known.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))

    async def main() -> None:
        async with RawServer(echoes, tls=asking) as server, ClientSession() as session:
            async with session.ws_connect(server.base, ssl=known) as socket:
                assert type(socket) is _core.ClientWebSocketResponse
                await socket.send_str("x")
                assert await socket.receive_str() == "x"
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.ws_connect(server.base, ssl=certificates.trusting())
            assert session._aiohttp_session is None

    _fallback._announced.clear()
    run(main(), native=native)
    assert caplog.messages == []


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("where", ["call", "session", "environment"])
def test_proxies_are_told_the_same(
    secure: bool,
    where: str,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    async def main() -> list[Any]:
        tls = certificates.server() if secure else None
        seen = []
        async with RawServer(echoes, tls=tls) as server, ProxyServer() as proxy:
            through = {"proxy": proxy.url, "proxy_auth": aiohttp.BasicAuth("joe", "word")}
            if where == "environment":
                for name in ("ws_proxy", "wss_proxy"):
                    monkeypatch.setenv(name, proxy.url.replace("//", "//joe:word@"))
            for make in (aiohttp.ClientSession, ClientSession):
                async with make(
                    trust_env=where == "environment", **through if where == "session" else {}
                ) as session:
                    options = {"ssl": certificates.trusting(), **(through if where == "call" else {})}
                    async with session.ws_connect(server.base, **options) as socket:
                        await socket.send_str("x")
                        assert await socket.receive_str() == "x"
                chance = {"User-Agent", "Sec-WebSocket-Key"}
                seen.append(
                    [
                        (line, [(name, value) for name, value in headers if name not in chance])
                        for line, headers in proxy.seen
                    ]
                )
                proxy.seen.clear()
        return seen

    _fallback._announced.clear()
    theirs, ours = run(main())
    assert ours == theirs
    assert len(ours) == 1
    assert caplog.messages == []


def test_traces_are_told_of_the_handshake():
    async def note(session: Any, context: Any, parameters: Any) -> None:
        told.append((type(parameters).__name__, parameters.method, str(parameters.url)))

    told: list[tuple[str, str, str]] = []
    trace = listening("on_request_start", note)
    trace.on_request_end.append(note)

    async def main() -> None:
        async with RawServer(echoes) as server:
            for make in (aiohttp.ClientSession, ClientSession):
                async with (
                    make(trace_configs=[trace]) as session,
                    session.ws_connect(server.base) as socket,
                ):
                    assert make is aiohttp.ClientSession or type(socket) is _core.ClientWebSocketResponse

    run(main())
    assert len(told) == 4
    assert told[:2] == told[2:]
