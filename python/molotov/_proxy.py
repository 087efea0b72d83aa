"""Which proxy a request takes, and whose credentials it carries: aiohttp's rules, environment included."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path
from typing import Any

from molotov import _tracing

__all__ = ["NATIVE_SCHEMES", "environment_matters", "from_environment", "netrc_credentials", "parse", "way"]

#: Schemes of proxies that the native client speaks to.
NATIVE_SCHEMES = frozenset({"http", "https"})
#: Variables that aiohttp looks at, as urllib names their schemes.
_SCHEMES = ("http", "https", "ws", "wss")
#: Hosts whose proxy is remembered; a load test has few.
_REMEMBERED = 1024
_chosen: dict[Any, tuple[Any, Any] | None] = {}
_netrc_files: dict[Any, Any] = {}


def environment_matters() -> bool:
    """Tell whether the environment names a proxy or has a netrc file (what `trust_env` looks at)."""
    proxies = urllib.request.getproxies()
    return any(scheme in proxies for scheme in _SCHEMES) or _netrc_stamp() is not None


def parse(proxy: Any) -> Any:
    """Give the proxy's URL; aiohttp's InvalidURL for what is none."""
    from yarl import URL

    try:
        return URL(proxy)
    except ValueError as error:
        from aiohttp import InvalidURL

        raise InvalidURL(proxy) from error


def from_environment(url: Any) -> tuple[Any, Any] | None:
    """Give the environment's proxy and BasicAuth for a URL, or None.

    The variables are read anew for each request, as aiohttp reads them.
    """
    from aiohttp.helpers import get_env_proxy_for_url

    proxies = urllib.request.getproxies()
    situation = (url.scheme, url.host, tuple(sorted(proxies.items())), _netrc_stamp())
    if situation not in _chosen:
        if len(_chosen) >= _REMEMBERED:
            _chosen.clear()
        try:
            _chosen[situation] = get_env_proxy_for_url(url)
        except LookupError:
            _chosen[situation] = None
    return _chosen[situation]


def netrc_credentials(host: str) -> Any:
    """Give the BasicAuth that the netrc file has for a host, or None."""
    from aiohttp.helpers import basicauth_from_netrc, netrc_from_env

    stamp = _netrc_stamp()
    if stamp is None:
        return None
    if stamp not in _netrc_files:
        _netrc_files.clear()
        _netrc_files[stamp] = netrc_from_env()
    try:
        return basicauth_from_netrc(_netrc_files[stamp], host)
    except LookupError:
        return None


def _netrc_stamp() -> tuple[str, int, int] | None:
    """Identify the netrc file and its content; None without one."""
    try:
        path = Path(os.environ["NETRC"]) if "NETRC" in os.environ else Path.home() / ".netrc"
        found = path.stat()
    except (OSError, RuntimeError):
        return None
    return str(path), found.st_mtime_ns, found.st_size


def way(request: Any) -> tuple[str, list[tuple[str, str]]] | None:
    """Give the proxy's URL and the headers of a CONNECT request, for an aiohttp ClientRequest; or None.

    A request for plain http needs no tunnel: it carries the proxy's credentials itself.
    """
    proxy = request.proxy
    if proxy is None:
        return None
    headers = request.proxy_headers
    headers = {} if headers is None else headers.copy()
    headers["Host"] = request.headers["Host"]
    asked = _tracing.logged_client_request()(
        "GET", proxy, headers=headers, auth=request.proxy_auth, loop=request.loop, ssl=request.ssl
    )
    credentials = asked.headers.pop("Authorization", None)
    if not request.is_ssl():
        if credentials is not None:
            request.headers["Proxy-Authorization"] = credentials
        return str(asked.url), []
    if credentials is not None:
        asked.headers["Proxy-Authorization"] = credentials
    return str(asked.url), [(str(name), str(value)) for name, value in asked.headers.items()]
