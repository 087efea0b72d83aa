"""The handshake of a websocket, and aiohttp's classes for its messages and errors.

Called by `ClientSession.ws_connect`. The request goes the way of every other one; its 101 answer is
checked here and its connection handed to the native `ClientWebSocketResponse`, which comes back for the
objects below. Importing this module imports aiohttp.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import WSCloseCode, WSMessage, WSMsgType, hdrs, http_websocket
from aiohttp.streams import EofStream
from multidict import CIMultiDict

from molotov import _core, _fallback, _ssl
from molotov._request import foreign_proxy

if TYPE_CHECKING:
    from molotov.session import ClientSession

__all__ = [
    "WSCloseCode",
    "WSMessage",
    "WSMessageTextBytes",
    "WSMsgType",
    "close_payload",
    "connect",
    "receive_json",
    "trouble",
    "unexpected",
]

#: Before aiohttp 3.14 text always came decoded.
WSMessageTextBytes: Any = getattr(http_websocket, "WSMessageTextBytes", WSMessage)

#: RFC 6455, section 1.3
_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: How long the server may take to answer a close frame, unless the script says otherwise (aiohttp's figure).
_CLOSE_SECONDS = 10.0
_DEFAULTS: dict[str, Any] = {
    "method": "GET",
    "protocols": (),
    "autoclose": True,
    "autoping": True,
    "ssl": True,
    "compress": 0,
    "max_msg_size": 4 * 1024 * 1024,
    "decode_text": True,
}


async def connect(session: ClientSession, url: Any, call: dict[str, Any]) -> Any:
    """Open a websocket; `call` holds every keyword argument of aiohttp's ws_connect.

    Raises what aiohttp raises. `timeout` is missing from `call` when it was not given.
    """
    if session.closed:
        raise RuntimeError("Session is closed")
    tls = _ssl.merge(call["ssl"], call["verify_ssl"], call["ssl_context"], call["fingerprint"])
    reason = _foreign(session, call, tls)
    if reason is not None:
        _fallback.announce("websockets are", reason)
        given = {name: value for name, value in call.items() if _DEFAULTS.get(name) != value}
        opened = await _fallback.session_for(session).ws_connect(url, **given)
        _fallback.count(session, opened._response)
        return opened
    receive_seconds, close_seconds = _timeouts(call)
    headers, key = _request_headers(call)
    arguments: dict[str, Any] = {"headers": headers}
    for name in ("params", "auth", "server_hostname", "proxy", "proxy_auth", "proxy_headers"):
        if call[name] is not None:
            arguments[name] = call[name]
    if tls is not True:
        arguments["ssl"] = tls
    response = await session.request(call["method"], url, **arguments)
    try:
        _check(response, key)
        protocol = _chosen_protocol(response, call["protocols"])
        bits, alone = _chosen_compression(response, call["compress"])
        return _core.ClientWebSocketResponse(
            response,
            protocol=protocol,
            receive_timeout=receive_seconds,
            close_timeout=close_seconds,
            read_timeout=_read_seconds(session, receive_seconds),
            autoclose=call["autoclose"],
            autoping=call["autoping"],
            heartbeat=call["heartbeat"],
            compress=bits,
            client_notakeover=alone,
            max_msg_size=call["max_msg_size"],
            decode_text=call["decode_text"],
        )
    except BaseException:
        response.close()
        raise


def _foreign(session: ClientSession, call: dict[str, Any], tls: Any) -> str | None:
    """Name what only aiohttp can do about this websocket, or None."""
    if session._foreign_reason is not None:
        return session._foreign_reason
    if session._websocket_class not in (None, aiohttp.ClientWebSocketResponse):
        return "a websocket class"
    proxy = foreign_proxy(session, call["proxy"])
    if proxy is not None:
        return proxy
    if call["method"].upper() == "CONNECT":
        return "the CONNECT method"
    if "Expect" in CIMultiDict(call["headers"] or ()):
        return "Expect: 100-continue"
    if tls is not True or call["server_hostname"] is not None:
        try:
            _ssl.read(session._settings.ssl if tls is True else tls, call["server_hostname"])
        except _ssl.Unreadable as unreadable:
            return str(unreadable)
    return None


def _timeouts(call: dict[str, Any]) -> tuple[float | None, float | None]:
    """Give the seconds to wait for a message and for the answer to a close frame; None is no limit."""
    receive_seconds: float | None = None
    close_seconds: float | None = _CLOSE_SECONDS
    if "timeout" in call:
        timeout = call["timeout"]
        if hasattr(timeout, "ws_close"):
            receive_seconds, close_seconds = timeout.ws_receive, timeout.ws_close
        else:
            _deprecated("a number as timeout", "ClientWSTimeout(ws_close=...)")
            close_seconds = timeout
    if call["receive_timeout"] is not None:
        _deprecated("receive_timeout", "timeout=ClientWSTimeout(ws_receive=...)")
        receive_seconds = call["receive_timeout"]
    return receive_seconds, close_seconds


def _deprecated(what: str, instead: str) -> None:
    warnings.warn(f"ws_connect: {what} is deprecated, use {instead}", DeprecationWarning, stacklevel=4)


def _read_seconds(session: ClientSession, receive_seconds: float | None) -> float | None:
    """Give the silence that ends the connection: sock_read, but never less than a receive may take."""
    sock_read: float | None = session._timeout_given.sock_read
    if receive_seconds is None or sock_read is None:
        return None
    return max(receive_seconds, sock_read)


def _request_headers(call: dict[str, Any]) -> tuple[CIMultiDict[str], bytes]:
    """Give the handshake's headers in aiohttp's order, and the key that the answer has to match."""
    headers: CIMultiDict[str] = CIMultiDict(call["headers"] or ())
    headers.setdefault(hdrs.UPGRADE, "websocket")
    headers.setdefault(hdrs.CONNECTION, "Upgrade")
    headers.setdefault(hdrs.SEC_WEBSOCKET_VERSION, "13")
    key = base64.b64encode(os.urandom(16))
    headers[hdrs.SEC_WEBSOCKET_KEY] = key.decode()
    if call["protocols"]:
        headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = ",".join(call["protocols"])
    if call["origin"] is not None:
        headers[hdrs.ORIGIN] = call["origin"]
    if call["compress"]:
        headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = _offer(call["compress"])
    return headers, key


def _offer(bits: int) -> str:
    """Offer permessage-deflate with windows of 2**bits bytes; ValueError unless bits are 9 to 15."""
    if not 9 <= bits <= 15:
        raise ValueError("Compress wbits must between 9 and 15, zlib does not support wbits=8")
    window = f"; server_max_window_bits={bits}" if bits < 15 else ""
    return f"permessage-deflate; client_max_window_bits{window}"


def _refused(response: Any, message: str) -> aiohttp.WSServerHandshakeError:
    return aiohttp.WSServerHandshakeError(
        response.request_info,
        tuple(response.history),
        message=message,
        status=response.status,
        headers=response.headers,
    )


def _check(response: Any, key: bytes) -> None:
    """Raise WSServerHandshakeError unless the server has agreed (RFC 6455, section 4.1)."""
    if response.status != 101:
        raise _refused(response, "Invalid response status")
    headers = response.headers
    if headers.get(hdrs.UPGRADE, "").lower() != "websocket":
        raise _refused(response, "Invalid upgrade header")
    if headers.get(hdrs.CONNECTION, "").lower() != "upgrade":
        raise _refused(response, "Invalid connection header")
    accepted = base64.b64encode(hashlib.sha1(key + _ACCEPT_SUFFIX).digest()).decode()
    if headers.get(hdrs.SEC_WEBSOCKET_ACCEPT, "") != accepted:
        raise _refused(response, "Invalid challenge response")


def _chosen_protocol(response: Any, offered: Any) -> str | None:
    """Give the first of the server's protocols that was offered; any other answer is none."""
    if not offered:
        return None
    chosen = (name.strip() for name in response.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(","))
    return next((name for name in chosen if name in offered), None)


_EXTENSION = re.compile(r"permessage-deflate([^,]*)")
_PARAMETER = re.compile(
    r";\s*(?:(?P<alone>client_no_context_takeover)|server_no_context_takeover"
    r"|server_max_window_bits(?:=\d+)?|client_max_window_bits(?:=(?P<bits>\d+))?)"
)


def _chosen_compression(response: Any, offered: int) -> tuple[int, bool]:
    """Give the window bits (0: no compression) and whether every message is compressed by itself."""
    text = response.headers.get(hdrs.SEC_WEBSOCKET_EXTENSIONS) if offered else None
    extension = _EXTENSION.search(text) if text else None
    if extension is None:
        return 0, False
    parameters, at = extension[1], 0
    bits, alone = 15, False
    while at < len(parameters):
        found = _PARAMETER.match(parameters, at)
        if found is None:
            cause = f"Extension for deflate not supported{parameters}"
            raise _refused(response, cause) from http_websocket.WSHandshakeError(cause)
        at = found.end()
        alone = alone or found["alone"] is not None
        bits = bits if found["bits"] is None else int(found["bits"])
    if not 9 <= bits <= 15:
        cause = "Invalid window size"
        raise _refused(response, cause) from http_websocket.WSHandshakeError(cause)
    return bits, alone


async def receive_json(socket: Any, loads: Callable[[Any], Any], timeout: float | None) -> Any:
    """Give the next text message, parsed by the script's own function."""
    return loads(await socket.receive_str(timeout=timeout))


def close_payload(code: Any, message: Any) -> bytes:
    """Give the payload of a close frame; raises what packing and encoding raise."""
    if isinstance(message, str):
        message = message.encode()
    payload: bytes = struct.pack("!H", 1000 if code is None else code) + (message or b"")
    return payload


def unexpected(message: Any, wanted: str) -> Exception:
    """Make the error of a message that is not of the type that was asked for."""
    made: type[Exception] = getattr(aiohttp, "WSMessageTypeError", TypeError)
    return made(f"Received message {message.type}:{message.data!r} is not WSMsgType.{wanted}")


def trouble(kind: str, detail: Any) -> BaseException:
    """Make the exception for what the native side met; it is returned, not raised."""
    maker: Callable[[Any], BaseException] = _TROUBLES[kind]
    return maker(detail)


def _protocol(detail: tuple[int, str]) -> BaseException:
    code, message = detail
    made: BaseException = http_websocket.WebSocketError(WSCloseCode(code), message)
    cause: BaseException | None = None
    if code == WSCloseCode.INVALID_TEXT:
        cause = UnicodeDecodeError("utf-8", b"", 0, 0, "invalid data")
    made.__cause__ = cause
    return made


def _corrupt(payload: bytes) -> BaseException:
    """Let zlib say what is wrong with compressed data."""
    try:
        zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(payload + b"\x00\x00\xff\xff")
    except zlib.error as error:
        return error.with_traceback(None)
    return zlib.error("Error -3 while decompressing data: invalid distance too far back")


def _gone(_: Any) -> BaseException:
    made = getattr(aiohttp, "ClientConnectionResetError", ConnectionResetError)
    return made("Cannot write to closing transport")


def _silence(_: Any) -> BaseException:
    made = getattr(aiohttp, "SocketTimeoutError", aiohttp.ServerTimeoutError)
    return made("Timeout on reading data from socket")


_TROUBLES: dict[str, Callable[[Any], BaseException]] = {
    "protocol": _protocol,
    "corrupt": _corrupt,
    "eof": lambda _: EofStream(),
    "gone": _gone,
    "lost": lambda _: ConnectionError("Connection lost"),
    "timeout": lambda _: asyncio.TimeoutError(),
    "silence": _silence,
    "no_pong": lambda seconds: aiohttp.ServerTimeoutError(f"No PONG received after {seconds} seconds"),
}
