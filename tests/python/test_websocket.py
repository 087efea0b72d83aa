"""The same websocket conversations through aiohttp's client and ours: nothing may differ.

Compared: messages, results, exceptions (class, text, code), the state that is left behind, and what the
server saw, handshake headers included. What aiohttp cannot be asked is in test_websocket_connections.py.
"""

from __future__ import annotations

import asyncio
import json
import struct
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWSTimeout, WSMsgType
from molotov.session import ClientSession
from session_server import run
from websocket_server import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    AppServer,
    Behaviour,
    Peer,
    RawServer,
    close_frame,
    deflated,
    deflating,
    frame,
    handshake,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

Script = Callable[[Any, "Log"], Awaitable[None]]


class Log(list[Any]):
    """What a client met, in plain values."""

    def note(self, value: Any) -> None:
        self.append(plain(value))

    async def attempt(self, call: Awaitable[Any]) -> None:
        """Note the result or the exception."""
        try:
            self.note(await call)
        except (Exception, asyncio.CancelledError) as error:
            self.note(error)


def plain(value: Any) -> Any:
    """Turn messages and exceptions into values that compare by everything that scripts can see."""
    if isinstance(value, BaseException):
        described = [type(value).__name__, type(value).__module__, str(value)]
        for name in ("code", "status", "message"):
            if hasattr(value, name):
                described.append((name, getattr(value, name)))
        if isinstance(value, aiohttp.WSServerHandshakeError):
            described.append([hop.status for hop in value.history])
            described.append(value.request_info.real_url.path)
            described.append(dict(value.headers or {}).get("Upgrade"))
        return described
    if hasattr(value, "extra") and hasattr(value, "type"):
        assert isinstance(value.type, WSMsgType)
        return (type(value).__name__, value.type.name, plain(value.data), value.extra)
    return value


def state(socket: Any) -> tuple[Any, ...]:
    return (
        socket.closed,
        repr(socket.close_code),
        plain(socket.exception()),
        socket.protocol,
        socket.compress,
        socket.client_notakeover,
    )


def without_port(value: Any, port: int) -> Any:
    if isinstance(value, (list, tuple)):
        return [without_port(item, port) for item in value]
    return value.replace(str(port), "PORT") if isinstance(value, str) else value


async def converse(
    make_session: type, server: Any, path: str, script: Script, options: dict[str, Any], session_options: Any
) -> Any:
    """Run one script with one client; give what both sides saw."""
    log = Log()
    async with server:
        async with make_session(**session_options()) as session:
            try:
                async with session.ws_connect(server.base + path, **options) as socket:
                    await script(socket, log)
                    log.append(state(socket))
                log.append(state(socket))
            except (Exception, asyncio.CancelledError) as error:
                log.note(error)
    return without_port([log, server.seen], server.port)


def compare(
    make_server: Callable[[], Any],
    script: Script,
    *,
    path: str = "/echo",
    options: dict[str, Any] | None = None,
    session_options: Callable[[], dict[str, Any]] = dict,
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Any:
    """Hold our client against aiohttp's; give what was seen."""

    def seen(make_session: type) -> Any:
        async def main() -> Any:
            server = make_server()
            return await converse(make_session, server, path, script, options or {}, session_options)

        if loop is None:
            return run(main())
        made = loop()
        asyncio.set_event_loop(made)
        try:
            return made.run_until_complete(asyncio.wait_for(main(), 60))
        finally:
            asyncio.set_event_loop(None)
            made.close()

    expected = seen(aiohttp.ClientSession)
    assert seen(ClientSession) == expected
    return expected


# Conversations with aiohttp's own server


def sends(*calls: tuple[Any, ...], receive: int | None = None) -> Script:
    """Make these calls (a method's name and its arguments), then receive as many messages."""

    async def script(socket: Any, log: Log) -> None:
        for name, *arguments in calls:
            named = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
            await log.attempt(getattr(socket, name)(*arguments, **named))
        for _ in range(len(calls) if receive is None else receive):
            await log.attempt(socket.receive())

    return script


def iterates(*texts: str) -> Script:
    async def script(socket: Any, log: Log) -> None:
        for text in texts:
            await socket.send_str(text)
        async for message in socket:
            log.note(message)

    return script


async def receives_as(socket: Any, log: Log) -> None:
    for text in ("text", '{"a": [1, null]}', "not json", '"\\ud800"', ""):
        await socket.send_str(text)
    await log.attempt(socket.receive_str())
    await log.attempt(socket.receive_json())
    await log.attempt(socket.receive_json())
    await log.attempt(socket.receive_json())
    await log.attempt(socket.receive_json())
    await socket.send_bytes(b"bytes")
    await socket.send_bytes(b"bytes")
    await socket.send_str("text")
    await log.attempt(socket.receive_bytes())
    await log.attempt(socket.receive_str())
    await log.attempt(socket.receive_bytes())
    await socket.send_str("[1, 2.5]")
    await log.attempt(socket.receive_json(loads=lambda text: ("mine", text)))
    await socket.send_str("[1, 2.5]")
    await log.attempt(socket.receive_json(loads=json.loads))
    await socket.send_str("close 4000")
    await log.attempt(socket.receive_json())


async def closes_twice(socket: Any, log: Log) -> None:
    await log.attempt(socket.close(code=4002, message=b"done"))
    log.append(state(socket))
    await log.attempt(socket.close())
    await log.attempt(socket.receive())
    await log.attempt(socket.receive_str())
    await log.attempt(socket.send_str("late"))
    await log.attempt(socket.send_bytes(b"late"))
    await log.attempt(socket.ping())
    await log.attempt(socket.pong())
    await log.attempt(socket.send_json([]))
    log.note(socket.get_extra_info("peername", "none"))


async def closes_while_receiving(socket: Any, log: Log) -> None:
    async def reads() -> None:
        await log.attempt(socket.receive())
        log.note(("reader", socket.closed))
        await log.attempt(socket.receive())

    reader = asyncio.ensure_future(reads())
    await asyncio.sleep(0)
    await log.attempt(socket.close(code=4003))
    log.note(socket.closed)
    await reader


async def closes_under_iteration(socket: Any, log: Log) -> None:
    async def reads() -> None:
        async for message in socket:
            log.note(message)
        log.note("over")

    reader = asyncio.ensure_future(reads())
    await socket.send_str("one")
    while not log:
        await asyncio.sleep(0.001)
    await log.attempt(socket.close())
    await reader


async def receives_at_once(socket: Any, log: Log) -> None:
    first = asyncio.ensure_future(socket.receive())
    await asyncio.sleep(0)
    await log.attempt(socket.receive())
    await log.attempt(socket.receive_str())
    await socket.send_str("one")
    await log.attempt(first)


async def cancels_a_receive(socket: Any, log: Log) -> None:
    waiting = asyncio.ensure_future(socket.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    await log.attempt(waiting)
    log.append(state(socket))
    await socket.send_str("still there")
    await log.attempt(socket.receive())
    await log.attempt(asyncio.wait_for(socket.receive(), 0.02))
    await socket.send_str("still there")
    await log.attempt(socket.receive())


async def cancels_before_it_begins(socket: Any, log: Log) -> None:
    waiting = asyncio.ensure_future(socket.receive())
    waiting.cancel()
    await log.attempt(waiting)
    log.append(state(socket))


async def times_out(socket: Any, log: Log) -> None:
    await log.attempt(socket.receive(timeout=0.02))
    log.append(state(socket))
    await log.attempt(socket.receive_str(timeout=0.02))
    await socket.send_str("late")
    await log.attempt(socket.receive(timeout=10))
    await log.attempt(socket.receive(0.02))


async def times_out_by_default(socket: Any, log: Log) -> None:
    await log.attempt(socket.receive())
    await socket.send_str("late")
    await log.attempt(socket.receive(10))
    log.append(state(socket))


async def receives_in_tasks(socket: Any, log: Log) -> None:
    await asyncio.gather(*(socket.send_str(f"{number}") for number in range(20)))
    log.note([(await asyncio.create_task(socket.receive())).data for _ in range(20)])
    await socket.send_str("x")
    async with asyncio.timeout(10) if hasattr(asyncio, "timeout") else asyncio.Lock():
        log.note(await socket.receive())


async def looks_around(socket: Any, log: Log) -> None:
    log.append(state(socket))
    log.note(socket.get_extra_info("peername")[0])
    log.note(len(socket.get_extra_info("sockname")))
    log.note(socket.get_extra_info("no such thing", "default"))
    log.note(isinstance(socket, aiohttp.ClientWebSocketResponse))
    log.note(socket._response.status)
    log.note(socket._response.headers["Upgrade"])
    socket.mine = "kept"
    log.note(socket.mine)


async def only_looks(socket: Any, log: Log) -> None:
    log.append(state(socket))


def a(
    script: Script,
    path: str = "/echo",
    *,
    session: Callable[[], dict[str, Any]] = dict,
    **options: Any,
) -> tuple[Script, str, dict[str, Any], Callable[[], dict[str, Any]]]:
    return script, path, options, session


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    BASIC = aiohttp.BasicAuth("user", "secret")

LARGE = "all work and no play " * 5000
APP_CASES = {
    "text": a(sends(("send_str", "hello"))),
    "unicode": a(sends(("send_str", "caf\xe9 \u20ac \U0001f600 \0"))),
    "empty text": a(sends(("send_str", ""))),
    "surrogate": a(sends(("send_str", "\ud800"), receive=0)),
    "bytes": a(sends(("send_bytes", b"\x00\xff"))),
    "empty bytes": a(sends(("send_bytes", b""))),
    "bytearray": a(sends(("send_bytes", bytearray(b"abc")))),
    "memoryview": a(sends(("send_bytes", memoryview(b"abcdef")[::2]))),
    **{f"length {n}": a(sends(("send_bytes", b"x" * n))) for n in (125, 126, 127, 65535, 65536, 1_000_000)},
    "text of 100 KB": a(sends(("send_str", LARGE))),
    "text as bytes": a(sends(("send_str", b"abc"), receive=0)),
    "number as text": a(sends(("send_str", 1), receive=0)),
    "bytes as text": a(sends(("send_bytes", "abc"), receive=0)),
    "none as bytes": a(sends(("send_bytes", None), receive=0)),
    "json": a(sends(("send_json", {"a": [1, 2.5, None, "\xe9"]}))),
    "json with dumps": a(sends(("send_json", {1, 2}, {"dumps": lambda value: str(sorted(value))}))),
    "json that cannot be": a(sends(("send_json", object()), receive=0)),
    "dumps that gives bytes": a(sends(("send_json", [], {"dumps": lambda value: b"x"}), receive=0)),
    "json bytes": a(sends(("send_json_bytes", [1], {"dumps": lambda value: json.dumps(value).encode()}))),
    "send_frame": a(
        sends(("send_frame", b"text", WSMsgType.TEXT), ("send_frame", b"bytes", WSMsgType.BINARY))
    ),
    "send_frame of text": a(sends(("send_frame", "text", WSMsgType.TEXT), receive=0)),
    "send_frame, opcode too large": a(sends(("send_frame", b"", 256), receive=0)),
    "received as": a(receives_as),
    "ping and pong unasked": a(
        sends(("ping",), ("ping", b"x"), ("pong", b"y"), ("send_str", "z"), receive=1)
    ),
    "ping of text": a(sends(("ping", "x"), receive=0)),
    "ping too long": a(sends(("ping", b"x" * 126), receive=2)),
    "ping is answered": a(iterates("ping hey", "x", "close 1000")),
    "ping is not answered": a(sends(("send_str", "ping hey"), ("pong", b"hey"), receive=2), autoping=False),
    "pong is shown": a(sends(("send_str", "pong hey"), receive=2), autoping=False),
    "pong is hidden": a(sends(("send_str", "pong hey"), receive=1)),
    "iteration": a(iterates("a", "b", "close 1001 bye")),
    "many": a(iterates("many 500", "close 1000")),
    "closed by the server": a(sends(("send_str", "close 4001 caf\xe9"), receive=3)),
    "closed by the server, with autoclose off": a(
        sends(("send_str", "close 4001 bye"), receive=2), autoclose=False
    ),
    "close": a(closes_twice),
    "close, default": a(sends(("close",), receive=1)),
    "close, text as message": a(sends(("close", {"code": 4000, "message": "caf\xe9"}), receive=1)),
    "close, code too large": a(sends(("close", {"code": 70000}), receive=1)),
    "close, enumeration as code": a(sends(("close", {"code": aiohttp.WSCloseCode.GOING_AWAY}), receive=1)),
    "close while receiving": a(closes_while_receiving),
    "close under iteration": a(closes_under_iteration),
    "receive twice at once": a(receives_at_once),
    "cancelled receive": a(cancels_a_receive),
    "cancelled before": a(cancels_before_it_begins),
    "receive timeouts": a(times_out),
    "ws_receive": a(times_out_by_default, timeout=ClientWSTimeout(ws_receive=0.02)),
    "ws_receive and sock_read": a(
        times_out_by_default,
        timeout=ClientWSTimeout(ws_receive=0.02),
        session=lambda: {"timeout": aiohttp.ClientTimeout(sock_read=5)},
    ),
    "receive_timeout": a(times_out_by_default, receive_timeout=0.02),
    "timeout as a number": a(sends(("send_str", "x")), timeout=5.0),
    "tasks": a(receives_in_tasks),
    "attributes": a(looks_around),
    "dropped by the server": a(sends(("send_str", "drop"), receive=3)),
    "heartbeat": a(sends(("send_str", "x")), heartbeat=5.0),
    "small messages only": a(sends(("send_str", "x" * 200), receive=2), "/small"),
    # The handshake
    "protocols": a(only_looks, "/protocols", protocols=("second", "other")),
    "protocols as a list": a(only_looks, "/protocols", protocols=["none", "first"]),
    "protocols that differ": a(only_looks, "/protocols", protocols=("none",)),
    "protocols unasked": a(only_looks, "/protocols"),
    "origin": a(only_looks, origin="http://example.org"),
    "params": a(only_looks, "/echo?a=1", params={"b": "2 3"}),
    "headers": a(only_looks, headers={"X-Mine": "1", "user-agent": "me"}),
    "header pairs": a(only_looks, headers=[("X-A", "1"), ("X-A", "2")]),
    "session headers": a(only_looks, session=lambda: {"headers": {"X-Mine": "1", "Origin": "o"}}),
    "own version": a(only_looks, headers={"Sec-WebSocket-Version": "8"}),
    "bad version": a(only_looks, headers={"Sec-WebSocket-Version": "7"}),
    "auth": a(only_looks, auth=BASIC),
    "session auth": a(only_looks, session=lambda: {"auth": BASIC}),
    "auth twice": a(only_looks, auth=BASIC, headers={"Authorization": "x"}),
    "user in the url": a(only_looks, "@HOST/echo"),
    "cookies": a(only_looks, session=lambda: {"cookies": {"a": "1"}}),
    "cookie header": a(only_looks, headers={"Cookie": "a=1"}),
    "skipped headers": a(only_looks, session=lambda: {"skip_auto_headers": ["Accept"]}),
    "other method": a(only_looks, method="POST"),
    "fragment": a(only_looks, "/echo#here"),
    "not found": a(only_looks, "/status?code=404"),
    "ok instead of 101": a(only_looks, "/status?code=200"),
    "server error": a(only_looks, "/status?code=500"),
    "unauthorized": a(only_looks, "/status?code=401"),
    "raise_for_status": a(only_looks, "/status?code=503", session=lambda: {"raise_for_status": True}),
    "redirect": a(sends(("send_str", "x")), "/redirect?to=/echo"),
    "redirect to nothing": a(only_looks, "/redirect?to=/status%3Fcode=404"),
    "redirect to ws": a(only_looks, "/redirect?to=ws://127.0.0.1/"),
    # Compression
    **{
        f"compress {bits}": a(
            sends(("send_str", LARGE), ("send_bytes", b"x" * 3000), ("send_str", "abc")), compress=bits
        )
        for bits in (9, 11, 15)
    },
    "compress, empty": a(sends(("send_str", ""), ("send_str", "x")), compress=15),
    "compress, large": a(sends(("send_bytes", bytes(range(256)) * 2000)), compress=15),
    "compress refused": a(sends(("send_str", LARGE)), "/plain", compress=15),
    "compress one message": a(
        sends(
            ("send_str", LARGE, 12),
            ("send_str", LARGE),
            ("send_bytes", b"x" * 100, 15),
            ("send_json", [1], 9),
            ("send_frame", b"frame", WSMsgType.TEXT, 10),
        ),
        compress=15,
    ),
    "compress one message, wrongly": a(
        sends(("send_str", "x", 3), ("send_str", "x", 16), ("send_str", "x", 0), receive=1), compress=15
    ),
    "compress out of range": a(only_looks, compress=8),
    "compress far out of range": a(only_looks, compress=31),
    "ping with compression": a(sends(("send_str", "ping hey"), receive=2), compress=15, autoping=False),
    # Limits
    "message too large": a(sends(("send_str", "x" * 101), receive=2), max_msg_size=100),
    "message of the limit": a(sends(("send_str", "x" * 100), receive=2), max_msg_size=100),
    "message below the limit": a(sends(("send_str", "x" * 99)), max_msg_size=100),
    "no limit": a(sends(("send_bytes", b"x" * 4_000_000)), max_msg_size=0),
    "compressed message too large": a(
        sends(("send_str", "x" * 5000), receive=2), max_msg_size=1000, compress=15
    ),
    "raw text": a(sends(("send_str", "caf\xe9")), decode_text=False),
    "raw text as": a(receives_as, decode_text=False),
}


@pytest.mark.parametrize("name", APP_CASES)
def test_conversations(name: str):
    script, path, options, session_options = APP_CASES[name]
    if path.startswith("@HOST"):

        class Server(AppServer):
            async def __aenter__(self) -> AppServer:
                await super().__aenter__()
                self.base = self.base.replace("ws://", "ws://joe:sec%20ret@")
                return self

        compare(
            Server, script, path=path.removeprefix("@HOST"), options=options, session_options=session_options
        )
        return
    compare(AppServer, script, path=path, options=options, session_options=session_options)


# Conversations with servers that misbehave


def says(*data: bytes, end: bool = False) -> Behaviour:
    """Send this in one piece, then listen until the client is gone; or close at once."""

    async def behave(peer: Peer) -> None:
        peer.send(*data)
        if not end:
            await peer.read_to_end()

    return behave


async def trickles(peer: Peer) -> None:
    whole = frame(TEXT, b"slow but sure") + frame(TEXT, b"f", fin=False) + frame(PING, b"p")
    for byte in whole + frame(CONT, "\u20ac".encode()) + close_frame(1000, b"bye"):
        peer.send(bytes([byte]))
        await peer.writer.drain()
        await asyncio.sleep(0)
    await peer.read_to_end()


async def resets(peer: Peer) -> None:
    peer.send(frame(TEXT, b"one"))
    await peer.read()
    peer.reset()


async def never_agrees(peer: Peer) -> None:
    while await peer.read() is not None:
        peer.send(frame(TEXT, b"not yet"))


async def hangs_up_on_close(peer: Peer) -> None:
    await peer.read()


async def talks_on(peer: Peer) -> None:
    await peer.read()
    peer.send(frame(TEXT, b"by the way"), frame(PING, b"?"), close_frame(1000, b"fine"))
    await peer.read_to_end()


async def echoes_frames(peer: Peer) -> None:
    while (seen := await peer.read()) is not None:
        opcode, payload, rsv, _ = seen
        if opcode == CLOSE:
            peer.send(frame(CLOSE, payload))
            return
        peer.send(frame(opcode, deflated(payload) if rsv & 4 else payload, rsv=rsv))


async def closes_without_code(peer: Peer) -> None:
    peer.send(frame(CLOSE))
    await peer.read()


async def closes_without_code_twice(peer: Peer) -> None:
    peer.send(frame(CLOSE))
    await peer.read()
    peer.send(close_frame(4004))
    await peer.read_to_end()


def receives(count: int = 2) -> Script:
    async def script(socket: Any, log: Log) -> None:
        for _ in range(count):
            await log.attempt(socket.receive())

    return script


async def sends_and_receives(socket: Any, log: Log) -> None:
    await log.attempt(socket.receive())
    await log.attempt(socket.send_str("x"))
    await log.attempt(socket.receive())
    log.append(state(socket))
    await log.attempt(socket.receive())


async def just_closes(socket: Any, log: Log) -> None:
    await log.attempt(socket.close(code=4005, message=b"enough"))


async def waits_for_the_heart(socket: Any, log: Log) -> None:
    await log.attempt(socket.receive())
    log.append(state(socket))
    await log.attempt(socket.receive())
    await log.attempt(socket.send_str("x"))
    await log.attempt(socket.close())


async def lets_the_heart_stop(socket: Any, log: Log) -> None:
    while not socket.closed:
        await asyncio.sleep(0.005)
    log.append(state(socket))
    await log.attempt(socket.receive())


async def sends_fragments(socket: Any, log: Log) -> None:
    for text in ("a", "b" * 300, ""):
        await socket.send_str(text)
        await log.attempt(socket.receive())
    await socket.send_bytes(bytes(1000))
    await log.attempt(socket.receive())


Raw = tuple[Behaviour, Script, "Callable[[bytes], bytes] | None", dict[str, Any]]


def r(behave: Behaviour, script: Script | None = None, answer: Any = None, **options: Any) -> Raw:
    return behave, script or receives(), answer, options


HELLO = b"hello"
RAW_CASES: dict[str, Raw] = {
    "plain": r(says(frame(TEXT, HELLO), close_frame(1000, b"bye")), receives(3)),
    "in the handshake's packet": r(
        says(), receives(2), lambda key: handshake(key) + frame(TEXT, HELLO) + close_frame(1001)
    ),
    "masked": r(says(frame(TEXT, HELLO, mask=b"\1\2\3\4"), frame(BINARY, b"", mask=b"\0\0\0\0"))),
    "masked, long": r(says(frame(BINARY, bytes(70_000), mask=b"\1\2\3\4")), receives(1)),
    "masked close": r(says(frame(CLOSE, struct.pack("!H", 1000), mask=b"\1\2\3\4"))),
    "slow": r(trickles, receives(3)),
    "fragments": r(
        says(
            frame(TEXT, b"a", fin=False),
            frame(PING, b"p"),
            frame(CONT, b"b", fin=False),
            frame(PONG),
            frame(CONT, b"c"),
            frame(CONT, b"d"),
        )
    ),
    "fragments with pings shown": r(
        says(frame(BINARY, b"a", fin=False), frame(PING, b"p"), frame(CONT, b"b")), autoping=False
    ),
    "empty fragments": r(
        says(frame(TEXT, b"", fin=False), frame(CONT, b"", fin=False), frame(CONT, b"")), receives(1)
    ),
    "empty fragment, then another message": r(
        says(frame(TEXT, b"", fin=False), frame(TEXT, b"x"), frame(CONT, b"y"), frame(CONT)), receives(3)
    ),
    "message within a message": r(says(frame(TEXT, b"a", fin=False), frame(TEXT, b"b"))),
    "fragment within a message": r(says(frame(TEXT, b"a", fin=False), frame(BINARY, b"b", fin=False))),
    "continuation of nothing": r(says(frame(CONT, b"a"))),
    "unfinished continuation of nothing": r(says(frame(CONT, b"a", fin=False))),
    "endless continuation": r(
        says(frame(TEXT, b"a", fin=False), frame(CONT, b"b" * 300, fin=False) * 5), max_msg_size=1000
    ),
    "a character cut by frames": r(
        says(frame(TEXT, b"\xe2", fin=False), frame(CONT, b"\x82\xac")), receives(1)
    ),
    **{f"reserved bits {rsv}": r(says(frame(TEXT, HELLO, rsv=rsv))) for rsv in (1, 2, 3, 4, 7)},
    **{f"opcode {opcode}": r(says(frame(opcode, b"x"))) for opcode in (3, 7, 11, 15)},
    "fragmented ping": r(says(frame(PING, b"x", fin=False))),
    "long ping": r(says(frame(PING, b"x" * 126))),
    "largest ping": r(says(frame(PING, b"x" * 125), frame(TEXT, HELLO)), receives(1)),
    "fragmented close": r(says(frame(CLOSE, struct.pack("!H", 1000), fin=False))),
    "invalid utf-8": r(says(frame(TEXT, b"\xff\xfe"))),
    "overlong utf-8": r(says(frame(TEXT, b"\xc0\xaf"))),
    "encoded surrogate": r(says(frame(TEXT, b"\xed\xa0\x80"))),
    "truncated utf-8": r(says(frame(TEXT, b"caf\xc3"))),
    "invalid utf-8, raw": r(says(frame(TEXT, b"\xff\xfe")), receives(1), decode_text=False),
    "invalid utf-8 in a reason": r(says(close_frame(1000, b"\xff"))),
    "good messages before a bad one": r(says(frame(TEXT, b"1"), frame(TEXT, b"2"), frame(3)), receives(4)),
    "garbage after a bad frame": r(says(frame(3, b"x"), frame(TEXT, b"more"), b"\xff" * 100)),
    **{
        f"close code {code}": r(says(close_frame(code, b"why")))
        for code in (0, 999, 1000, 1001, 1004, 1005, 1006, 1011, 1014, 1015, 2999, 3000, 4999, 5000, 65535)
    },
    "close of one byte": r(says(frame(CLOSE, b"\x03"))),
    "close of one byte, masked": r(says(frame(CLOSE, b"'", mask=b"\0\0\0\0"))),
    "close of one byte after a message": r(says(frame(TEXT, b"x"), frame(CLOSE, b"\\")), receives(3)),
    "close without code": r(closes_without_code),
    "close without code, then with one": r(closes_without_code_twice),
    "close without autoclose": r(says(close_frame(4001, b"x")), receives(2), autoclose=False),
    "messages after close": r(says(close_frame(1000), frame(TEXT, b"late")), receives(3)),
    "messages after close, without autoclose": r(
        says(close_frame(1000), frame(TEXT, b"late")), receives(3), autoclose=False
    ),
    "close together with the end": r(
        says(frame(TEXT, b"x"), close_frame(1000, b"bye"), end=True), receives(3)
    ),
    "end without close": r(says(end=True)),
    "message, then the end": r(says(frame(TEXT, HELLO), end=True), receives(3)),
    "end in a header": r(says(b"\x81", end=True)),
    "end in a length": r(says(b"\x82\x7e\x01", end=True)),
    "end in a payload": r(says(frame(TEXT, HELLO)[:-1], end=True)),
    "end in a message": r(says(frame(TEXT, HELLO, fin=False), end=True)),
    "reset": r(resets, sends_and_receives),
    "too large": r(says(b"\x82\x7e\x10\x00"), max_msg_size=1000),
    "far too large": r(says(b"\x82\x7f" + struct.pack("!Q", 1 << 40))),
    "absurdly large": r(says(b"\x82\x7f" + b"\xff" * 8)),
    "absurdly large without a limit": r(says(b"\x82\x7f\x80" + b"\0" * 7), max_msg_size=0),
    "too large in parts": r(
        says(frame(TEXT, b"x" * 600, fin=False), frame(CONT, b"x" * 600)), max_msg_size=1000
    ),
    "many at once": r(
        says(*(frame(TEXT, b"%d" % n) for n in range(3000)), close_frame(1000)), receives(3001)
    ),
    "many empty at once": r(says(frame(BINARY) * 20_000, close_frame(1000)), receives(20_001)),
    # Closing
    "our close is not answered": r(never_agrees, just_closes, timeout=ClientWSTimeout(ws_close=0.05)),
    "our close is not answered, by the clock of old": r(never_agrees, just_closes, timeout=0.05),
    "our close may not wait": r(never_agrees, just_closes, timeout=ClientWSTimeout(ws_close=0)),
    "our close ends the connection": r(hangs_up_on_close, just_closes),
    "our close is answered late": r(talks_on, just_closes),
    "our close meets a bad frame": r(says(frame(3)), just_closes, timeout=ClientWSTimeout(ws_close=5)),
    "our close meets messages": r(says(frame(TEXT, b"1") * 3, close_frame(4009)), just_closes),
    "our close is answered": r(echoes_frames, just_closes),
    "fragments of ours": r(echoes_frames, sends_fragments),
    # Heartbeat
    "no pong while receiving": r(says(), waits_for_the_heart, heartbeat=0.05),
    "no pong while nobody looks": r(says(), lets_the_heart_stop, heartbeat=0.05),
    # Compression
    "compressed": r(says(frame(TEXT, deflated(HELLO), rsv=4)), receives(1), deflating(), compress=15),
    "compressed and plain": r(
        says(frame(TEXT, deflated(HELLO), rsv=4), frame(TEXT, HELLO)), receives(2), deflating(), compress=15
    ),
    "compressed fragments": r(
        says(
            frame(TEXT, deflated(HELLO)[:3], rsv=4, fin=False), frame(PING), frame(CONT, deflated(HELLO)[3:])
        ),
        receives(1),
        deflating(),
        compress=15,
    ),
    "reserved bit on a later fragment": r(
        says(frame(TEXT, b"x", fin=False), frame(CONT, b"x", rsv=4)), None, deflating(), compress=15
    ),
    "reserved bit on a ping": r(
        says(frame(PING, b"x", rsv=4), frame(TEXT, HELLO)), receives(1), deflating(), compress=15
    ),
    "compressed without agreement": r(says(frame(TEXT, deflated(HELLO), rsv=4)), compress=15),
    "compressed invalid utf-8": r(
        says(frame(TEXT, deflated(b"\xff"), rsv=4)), None, deflating(), compress=15
    ),
    "bomb": r(says(frame(BINARY, deflated(bytes(8 << 20)), rsv=4)), None, deflating(), compress=15),
    "bomb of the limit": r(
        says(frame(BINARY, deflated(bytes(1000)), rsv=4), frame(BINARY, deflated(bytes(1001)), rsv=4)),
        receives(3),
        deflating(),
        compress=15,
        max_msg_size=1000,
    ),
    "bomb of many streams": r(says(frame(BINARY, b"\x03\x00" * 3000, rsv=4)), None, deflating(), compress=15),
    "some streams": r(says(frame(BINARY, b"\x03\x00" * 30, rsv=4)), receives(1), deflating(), compress=15),
    "corrupt": r(says(frame(TEXT, b"\xff\xff\xff", rsv=4)), None, deflating(), compress=15),
    "corrupt block": r(
        says(frame(TEXT, b"\x00\x01\x00\x01\x00x", rsv=4)), receives(3), deflating(), compress=15
    ),
    "truncated compression": r(
        says(frame(TEXT, deflated(b"hello hello hello hello")[:-3], rsv=4)),
        receives(1),
        deflating(),
        compress=15,
    ),
    **{
        f"deflate with {', '.join(parameters)}": r(
            echoes_frames, sends_fragments, deflating(*parameters), compress=15
        )
        for parameters in (
            ["client_no_context_takeover"],
            ["server_no_context_takeover"],
            ["client_max_window_bits=9"],
            ["server_max_window_bits=10", "client_max_window_bits=12", "client_no_context_takeover"],
            ["client_max_window_bits"],
            ["client_max_window_bits=8"],
            ["client_max_window_bits=16"],
            ["client_max_window_bits=99999999999"],
            ["client_max_window_bits=x"],
            ["no_such_parameter"],
            ["client_no_context_takeover=1"],
            ["client_max_window_bits=9", "client_max_window_bits=11", "client_max_window_bits"],
        )
    },
    "another extension": r(
        echoes_frames,
        sends_fragments,
        lambda key: handshake(key, b"Sec-WebSocket-Extensions: x-mine"),
        compress=15,
    ),
    "two extensions": r(
        echoes_frames,
        sends_fragments,
        lambda key: handshake(
            key, b"Sec-WebSocket-Extensions: x-mine, permessage-deflate, permessage-deflate; x"
        ),
        compress=15,
    ),
    "extension unasked": r(echoes_frames, sends_fragments, deflating()),
    # Handshakes
    "wrong accept": r(says(), None, lambda key: handshake(key, sec_websocket_accept=b"AAAA")),
    "no accept": r(says(), None, lambda key: handshake(key, sec_websocket_accept=None)),
    "accept of another key": r(says(), None, lambda key: handshake(b"AQIDBAUGBwgJCgsMDQ4PEA==")),
    "wrong upgrade": r(says(), None, lambda key: handshake(key, upgrade=b"h2c")),
    "no upgrade": r(says(), None, lambda key: handshake(key, upgrade=None)),
    "upgrade in capitals": r(
        says(close_frame(1000)), receives(1), lambda key: handshake(key, upgrade=b"WebSocket")
    ),
    "wrong connection": r(says(), None, lambda key: handshake(key, connection=b"close")),
    "no connection": r(says(), None, lambda key: handshake(key, connection=None)),
    "connection list": r(says(), None, lambda key: handshake(key, connection=b"keep-alive, Upgrade")),
    "unasked protocol": r(
        says(close_frame(1000)), receives(1), lambda key: handshake(key, b"Sec-WebSocket-Protocol: other")
    ),
    "list of protocols": r(
        says(close_frame(1000)),
        receives(1),
        lambda key: handshake(key, b"Sec-WebSocket-Protocol: x, b , a"),
        protocols=("a", "b"),
    ),
    "interim answer first": r(
        says(close_frame(1000)),
        receives(1),
        lambda key: b"HTTP/1.1 103 Early Hints\r\n\r\n" + handshake(key),
    ),
    "no answer": r(says(end=True), None, lambda key: b""),
    "body instead": r(
        says(end=True), None, lambda key: b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nxx"
    ),
}


@pytest.mark.parametrize("name", RAW_CASES)
def test_odd_servers(name: str):
    behave, script, answer, options = RAW_CASES[name]
    compare(lambda: RawServer(behave, answer), script, options=options)


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "ws:///x", "nonsense", "ws://127.0.0.1:99999/", "mailto:me"]
)
def test_urls_that_are_none(url: str):
    async def attempt(make_session: type) -> Any:
        async with make_session() as session:
            try:
                await session.ws_connect(url)
            except Exception as error:
                return plain(error)

    assert run(attempt(ClientSession)) == run(attempt(aiohttp.ClientSession))


def test_a_refused_connection():
    async def attempt(make_session: type) -> Any:
        async with RawServer(says()) as server:
            port = server.port
        async with make_session() as session:
            try:
                await session.ws_connect(f"ws://127.0.0.1:{port}/")
            except aiohttp.ClientConnectorError as error:
                return without_port([*plain(error), error.errno, error.host], port)

    assert run(attempt(ClientSession)) == run(attempt(aiohttp.ClientSession))


def test_a_closed_session():
    async def attempt(make_session: type) -> Any:
        session = make_session()
        await session.close()
        call = session.ws_connect("ws://127.0.0.1/")
        try:
            await call
        except RuntimeError as error:
            return plain(error)

    assert run(attempt(ClientSession)) == run(attempt(aiohttp.ClientSession))


def test_silence_on_the_socket():
    """With ws_receive and sock_read, silence ends the connection, however long a receive may take."""

    async def listens(socket: Any, log: Log) -> None:
        await log.attempt(socket.receive(10))
        await log.attempt(socket.receive(10))
        await log.attempt(socket.receive())
        log.append(state(socket))

    compare(
        lambda: RawServer(says(frame(TEXT, b"one"))),
        listens,
        options={"timeout": ClientWSTimeout(ws_receive=0.05)},
        session_options=lambda: {"timeout": aiohttp.ClientTimeout(sock_read=0.06)},
    )


def loops() -> list[Any]:
    made: list[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    try:
        import uvloop
    except ImportError:
        return made
    return [*made, pytest.param(uvloop.new_event_loop, id="uvloop")]


BRIDGED_APP = (
    "text",
    "length 1000000",
    "received as",
    "many",
    "close",
    "close while receiving",
    "close under iteration",
    "receive twice at once",
    "cancelled receive",
    "receive timeouts",
    "tasks",
    "compress 15",
    "dropped by the server",
    "not found",
)
BRIDGED_RAW = (
    "slow",
    "many at once",
    "invalid utf-8",
    "close without code",
    "our close is not answered",
    "our close ends the connection",
    "no pong while receiving",
    "no pong while nobody looks",
    "bomb",
    "wrong accept",
)


@pytest.mark.parametrize("loop", loops())
@pytest.mark.parametrize("name", BRIDGED_APP)
def test_conversations_on_other_loops(name: str, loop: Any):
    script, path, options, session_options = APP_CASES[name]
    compare(AppServer, script, path=path, options=options, session_options=session_options, loop=loop)


@pytest.mark.parametrize("loop", loops())
@pytest.mark.parametrize("name", BRIDGED_RAW)
def test_odd_servers_on_other_loops(name: str, loop: Any):
    behave, script, answer, options = RAW_CASES[name]
    compare(lambda: RawServer(behave, answer), script, options=options, loop=loop)
