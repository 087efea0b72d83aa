"""Read what a script asked of its connector; say which connectors the native pool can't stand in for."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from typing import Any

__all__ = ["Settings", "read"]

#: aiohttp's defaults: connections in all, seconds an idle one is kept.
LIMIT = 100
KEEPALIVE_TIMEOUT = 15.0


@dataclass
class Settings:
    """The pool's settings; `reason` names why only aiohttp itself can serve them."""

    limit: int = LIMIT
    limit_per_host: int = 0
    keepalive_timeout: float = KEEPALIVE_TIMEOUT
    force_close: bool = False
    ssl: Any = True
    reason: str | None = None


def read(connector: Any) -> Settings:
    """Read an aiohttp connector into Settings (0 means no limit; seconds).

    Limits come from public properties. `ssl`, the keep-alive time, the resolver and the addresses
    have none in aiohttp 3.9-3.14: they are read from its private fields, and whatever is missing
    there counts as "can't be native" rather than as a default.
    """
    from aiohttp import TCPConnector

    kind = type(connector)
    if kind is not TCPConnector:
        return Settings(reason=f"a connector of class {kind.__name__}")
    try:
        keepalive = connector._keepalive_timeout
        settings = Settings(
            limit=connector.limit or 0,
            limit_per_host=connector.limit_per_host or 0,
            force_close=connector.force_close,
            ssl=connector._ssl,
        )
        resolver = connector._resolver
        local = getattr(connector, "_local_addr_infos", None) or getattr(connector, "_local_addr", None)
        family = connector._family
        socket_factory = getattr(connector, "_socket_factory", None)
        host_map = connector._cached_hosts
    except AttributeError as missing:
        return Settings(reason=f"a TCPConnector of an unknown aiohttp version ({missing})")
    if settings.force_close:
        settings.keepalive_timeout = 0.0
    elif keepalive is None:
        settings.keepalive_timeout = float(10**9)
    else:
        settings.keepalive_timeout = float(keepalive)
    if type(resolver) is not _default_resolver():
        settings.reason = f"a resolver of class {type(resolver).__name__}"
    elif local:
        settings.reason = "a connector bound to a local address"
    elif family:
        settings.reason = "a connector for one address family"
    elif socket_factory is not None:
        settings.reason = "a connector with its own socket factory"
    elif getattr(host_map, "_addrs_rr", None):
        settings.reason = "a connector with resolved hosts"
    return settings


def _default_resolver() -> type:
    from aiohttp.resolver import DefaultResolver

    return DefaultResolver


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
