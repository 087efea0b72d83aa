"""Read what a script asked of its connector; say which connectors the native one can't stand in for."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import warnings
import weakref
from dataclasses import dataclass, field
from typing import Any

from molotov import _core

__all__ = ["Settings", "build", "http2", "native", "read"]

#: aiohttp's defaults: connections in all, seconds an idle one is kept, an address is remembered, and
#: one address is tried alone.
LIMIT = 100
KEEPALIVE_TIMEOUT = 15.0
DNS_MEMORY = 10.0
HEAD_START = 0.25

_FAMILIES = {int(socket.AF_UNSPEC): 0, int(socket.AF_INET): 4, int(socket.AF_INET6): 6}
#: The native counterpart of each connector that a script made: its sessions share limits and connections.
_natives: weakref.WeakKeyDictionary[Any, _core.Connector] = weakref.WeakKeyDictionary()


@dataclass
class Settings:
    """A connector's settings; `reason` names why only aiohttp itself can serve them.

    Times are in seconds. `family` is 0, 4 or 6; `local` are addresses with ports to connect from;
    `dns_memory` is None for ever and 0 for no memory; `head_start` None tries one address after the other.
    """

    limit: int = LIMIT
    limit_per_host: int = 0
    keepalive_timeout: float = KEEPALIVE_TIMEOUT
    force_close: bool = False
    ssl: Any = True
    family: int = 0
    local: list[str] = field(default_factory=list)
    dns_memory: float | None = DNS_MEMORY
    head_start: float | None = HEAD_START
    first_family: int = 1
    unix: str | None = None
    reason: str | None = None


def read(connector: Any) -> Settings:
    """Read an aiohttp connector into Settings (0 means no limit; seconds).

    Limits and the path of a socket come from public properties. `ssl`, times, the resolver and the
    addresses have none in aiohttp 3.9-3.14: they are read from its private fields, and whatever is
    missing there counts as "can't be native" rather than as a default.
    """
    from aiohttp import TCPConnector, UnixConnector

    kind = type(connector)
    if kind not in (TCPConnector, UnixConnector):
        return Settings(reason=f"a connector of class {kind.__name__}")
    settings = Settings(
        limit=connector.limit or 0,
        limit_per_host=connector.limit_per_host or 0,
        force_close=connector.force_close,
    )
    try:
        settings.keepalive_timeout = _keepalive(connector)
        if kind is UnixConnector:
            settings.unix = str(connector.path)
        else:
            settings.ssl = connector._ssl
            settings.reason = _read_addresses(connector, settings)
    except AttributeError as missing:
        settings.reason = f"a {kind.__name__} of an unknown aiohttp version ({missing})"
    return settings


def _keepalive(connector: Any) -> float:
    if connector.force_close:
        return 0.0
    keepalive = connector._keepalive_timeout
    return float(10**9) if keepalive is None else float(keepalive)


def _read_addresses(connector: Any, settings: Settings) -> str | None:
    """Read how names become connections; give the reason why only aiohttp can do that, or None."""
    resolver = connector._resolver
    if not _is_the_systems(connector, resolver):
        return f"a resolver of class {type(resolver).__name__}"
    if getattr(connector, "_socket_factory", None) is not None:
        return "a connector with its own socket factory"
    hosts = connector._cached_hosts
    if hosts._addrs_rr:
        return "a connector with resolved hosts"
    settings.dns_memory = hosts._ttl if connector.use_dns_cache else 0.0
    family = _FAMILIES.get(int(connector.family))
    if family is None:
        return "a connector for an unusual address family"
    settings.family = family
    # aiohttp 3.9 knows no happy eyeballs.
    settings.head_start = getattr(connector, "_happy_eyeballs_delay", None)
    interleave = getattr(connector, "_interleave", None)
    if interleave is None:
        interleave = 0 if settings.head_start is None else 1
    settings.first_family = interleave
    try:
        settings.local = [_socket_address(*address[:2]) for address in _local_addresses(connector)]
    except ValueError:
        return "a connector bound to a host name"
    return None


def _is_the_systems(connector: Any, resolver: Any) -> bool:
    """Whether a resolver asks the system, as the native one does."""
    from aiohttp.resolver import DefaultResolver, ThreadedResolver

    if type(resolver) is ThreadedResolver:
        return True
    # With aiodns the default has name servers of its own when the script made it.
    return type(resolver) is DefaultResolver and getattr(connector, "_resolver_owner", True)


def _local_addresses(connector: Any) -> list[Any]:
    if hasattr(connector, "_local_addr_infos"):
        return [info[4] for info in connector._local_addr_infos or ()]
    # aiohttp 3.9
    local = connector._local_addr
    return [] if local is None else [local]


def _socket_address(host: Any, port: int) -> str:
    """Write an address as Rust reads it; ValueError for a name."""
    address = ipaddress.ip_address(host)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def http2() -> str | None:
    """Read MOLOTOV_HTTP2: "alpn" for TLS servers that choose it, "prior-knowledge", or None.

    Raises ValueError for anything else. The command line's `--http2` is passed on in it.
    """
    value = os.environ.get("MOLOTOV_HTTP2", "").lower()
    if value in ("", "0"):
        return None
    if value in ("1", "alpn"):
        return "alpn"
    if value == "prior-knowledge":
        return value
    raise ValueError(f"MOLOTOV_HTTP2 is 0, 1 or prior-knowledge, not {value!r}")


def native(connector: Any, settings: Settings, tls: Any) -> _core.Connector:
    """Give the native connector: one for all sessions of a script's connector, closed with that one."""
    known = None if connector is None else _natives.get(connector)
    if known is not None:
        return known
    made = _core.Connector(
        limit=settings.limit,
        limit_per_host=settings.limit_per_host,
        keepalive_timeout=settings.keepalive_timeout,
        ssl=tls,
        family=settings.family,
        local=settings.local,
        dns_memory=settings.dns_memory,
        head_start=settings.head_start,
        first_family=settings.first_family,
        unix=settings.unix,
        http2=http2(),
    )
    if connector is not None:
        _natives[connector] = made
        _close_along(connector, made)
        if hasattr(connector, "clear_dns_cache"):
            _forget_along(connector, made)
    return made


def _close_along(connector: Any, made: _core.Connector) -> None:
    """Close the native connections when the script closes its connector."""
    kind = type(connector)
    weak = weakref.ref(connector)

    def close(*arguments: Any, **named: Any) -> Any:
        made.close()
        return kind.close(weak(), *arguments, **named)

    connector.close = close


def _forget_along(connector: Any, made: _core.Connector) -> None:
    """Forget the addresses that the native client remembers when the script clears its connector's."""
    kind = type(connector)
    loop = connector._loop
    weak = weakref.ref(connector)

    def clear_dns_cache(host: str | None = None, port: int | None = None) -> None:
        kind.clear_dns_cache(weak(), host, port)
        made.forget_addresses(loop, host)

    connector.clear_dns_cache = clear_dns_cache


def build(loop: asyncio.AbstractEventLoop, settings: Settings) -> Any:
    """Make the aiohttp connector that has these settings: for `session.connector` and the fallback."""
    from aiohttp import TCPConnector

    arguments: dict[str, Any] = {
        "limit": settings.limit,
        "limit_per_host": settings.limit_per_host,
        "ssl": settings.ssl,
        "force_close": settings.force_close,
    }
    if not settings.force_close:
        arguments["keepalive_timeout"] = settings.keepalive_timeout
    with warnings.catch_warnings():
        # Naming the loop is deprecated in some versions, and right outside a coroutine.
        warnings.simplefilter("ignore", DeprecationWarning)
        return TCPConnector(loop=loop, **arguments)
