"""Read ClientSession's constructor arguments: timeouts, base URL, credentials, connector, what is foreign.

Pure translation: nothing here keeps state, and nothing imports aiohttp unless an argument came from it.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from typing import Any

from molotov._connector import Settings

#: aiohttp's default timeouts in seconds.
TOTAL = 300
SOCK_CONNECT = 30

sentinel: Any = object()
TIMES = ("total", "connect", "sock_connect", "sock_read")
#: Constructor arguments that only aiohttp's own session can honour, with the value that asks nothing.
FOREIGN: dict[str, tuple[Any, str]] = {
    "request_class": (None, "a request class"),
    "response_class": (None, "a response class"),
}
#: How much of a response's head is too much, with aiohttp's defaults: bytes of the status line and of a
#: header, and headers.
LIMITS = {"max_line_size": 8190, "max_field_size": 8190, "max_headers": 128}


def seconds(timeout: Any) -> tuple[float | None, float | None, float | None, float | None]:
    """Read a ClientTimeout, a number or None as (total, connect, sock_connect, sock_read); 0 is no limit."""
    if timeout is None:
        return (None, None, None, None)
    if isinstance(timeout, (int, float)):
        return (float(timeout) if timeout > 0 else None, None, None, None)
    values = [getattr(timeout, name) for name in TIMES]
    total, connect, sock_connect, sock_read = (v if v is not None and v > 0 else None for v in values)
    return (total, connect, sock_connect, sock_read)


#: Arguments without effect on the native session.
HARMLESS = frozenset({"ws_response_class", "ssl_shutdown_timeout"})


class Times:
    """The default timeouts, until somebody asks for aiohttp's ClientTimeout."""

    total: float | None = TOTAL
    connect: float | None = None
    sock_connect: float | None = SOCK_CONNECT
    sock_read: float | None = None


def session_timeout(timeout: Any, read_timeout: Any, conn_timeout: Any) -> Any:
    if timeout is sentinel or timeout is None or type(timeout).__name__ == "_SENTINEL":
        times = Times()
        if read_timeout is not sentinel:
            times.total = read_timeout
        if conn_timeout is not None:
            times.connect = conn_timeout
        return times
    if not all(hasattr(timeout, name) for name in TIMES):
        raise ValueError(
            f"timeout parameter cannot be of {type(timeout)} type, please use 'timeout=ClientTimeout(...)'"
        )
    if read_timeout is not sentinel:
        raise ValueError("read_timeout and timeout parameters conflict, please setup timeout.read")
    if conn_timeout is not None:
        raise ValueError("conn_timeout and timeout parameters conflict, please setup timeout.connect")
    return timeout


def parse_base_url(base_url: Any) -> Any:
    if base_url is None:
        return None
    from yarl import URL

    url = URL(base_url)
    if not url.absolute:
        raise AssertionError("Only absolute URLs are supported")
    if not url.path.endswith("/"):
        raise ValueError("base_url must have a trailing '/'")
    return url


def read_connector(connector: Any) -> Settings:
    if connector is None:
        return Settings()
    from molotov import _connector

    return _connector.read(connector)


def native_connector(connector: Any, settings: Settings, tls: Any) -> Any:
    from molotov import _connector

    return _connector.native(connector, settings, tls)


@functools.cache
def accept_encoding() -> str:
    """Give the Accept-Encoding that aiohttp sends here: it names what the installed packages decode.

    The native client decodes Brotli and Zstandard without any package; servers still see the same request.
    """
    found = ["gzip", "deflate"]
    if _installed("brotlicffi") or _installed("brotli"):
        found.append("br")
    if sys.version_info >= (3, 14) or _installed("backports.zstd"):
        found.append("zstd")
    return ", ".join(found)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def encoded(auth: Any) -> str | None:
    """Give the Authorization value of a BasicAuth; None for anything else (the request will refuse it)."""
    if auth is None or not hasattr(auth, "login") or not hasattr(auth, "encode"):
        return None
    value: str = auth.encode()
    return value
