"""aiohttp.ClientSession's public attributes, over what ClientSession keeps.

Values that are aiohttp's own objects (timeout, connector, cookie jar, headers) are made when they are
first asked for: a script that never asks never pays for the import.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from molotov._arguments import TIMES, Times
from molotov._connector import Settings
from molotov._headers import live_headers, merged_headers

__all__ = ["SessionAttributes"]


class SessionAttributes:
    """The read-only side of a session; ClientSession sets the fields."""

    _base_url: Any
    _closed: bool
    _slow: bool
    _loop: asyncio.AbstractEventLoop
    _connector: Any
    _connector_is_ours = False
    _connector_owner: bool
    _settings: Settings
    _cookie_jar: Any
    _native_jar: Any
    _live_headers: Any
    _header_pairs: list[tuple[str, Any]]
    _headers_changed: Callable[[list[tuple[str, Any]]], None]
    _timeout_given: Any
    _default_auth: Any
    _json_serialize: Callable[[Any], str]
    _raise_for_status: Any
    _trust_env: bool
    _auto_decompress: bool
    _json_serialize_bytes: Callable[[Any], bytes] | None
    _resolve_charset: Callable[[Any, bytes], str] | None
    _read_bufsize: int | None
    _max_line_size: int
    _max_field_size: int
    _max_headers: int
    _middlewares: Any
    _version: Any
    _skip_auto_headers: frozenset[str]
    _trace_configs: list[Any]
    _requote_redirect_url: bool

    @property
    def closed(self) -> bool:
        """Whether the session, or the connector it was given, is closed."""
        return self._closed or (self._connector is not None and self._connector.closed)

    @property
    def connector(self) -> Any:
        """The connector: the script's own, or aiohttp's with this session's settings; None once closed."""
        if self._connector is None and not self._closed:
            from molotov import _connector

            self._connector = _connector.build(self._loop, self._settings)
            self._connector_is_ours = True
        return None if self._closed else self._connector

    @property
    def cookie_jar(self) -> Any:
        """The session's cookies, as an aiohttp jar."""
        if self._cookie_jar is None:
            from molotov import _cookies

            self._cookie_jar = _cookies.view(self._native_jar, self._loop)
        return self._cookie_jar

    @property
    def headers(self) -> Any:
        """The headers sent with every request: a CIMultiDict, which may be changed."""
        if self._live_headers is None:
            self._live_headers = live_headers(self._header_pairs, self._headers_changed)
        return self._live_headers

    _default_headers = headers

    @property
    def timeout(self) -> Any:
        """The session's aiohttp.ClientTimeout."""
        given = self._timeout_given
        if isinstance(given, Times):
            from aiohttp import ClientTimeout

            given = ClientTimeout(**{name: getattr(given, name) for name in TIMES})
            self._timeout_given = given
        return given

    _timeout = timeout

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The session's event loop."""
        return self._loop

    @property
    def auth(self) -> Any:
        """The session's BasicAuth, or None."""
        return self._default_auth

    @property
    def json_serialize(self) -> Callable[[Any], str]:
        """What turns `json=` into text."""
        return self._json_serialize

    @property
    def raise_for_status(self) -> Any:
        """Whether (or with what coroutine function) every answer's status is checked."""
        return self._raise_for_status

    @property
    def trust_env(self) -> bool:
        """Whether proxies and netrc come from the environment."""
        return self._trust_env

    @property
    def auto_decompress(self) -> bool:
        """Whether bodies are decompressed."""
        return self._auto_decompress

    @property
    def version(self) -> Any:
        """The HTTP version of requests."""
        if type(self._version) is tuple and "aiohttp" in sys.modules:
            from aiohttp import HttpVersion

            self._version = HttpVersion(*self._version)
        return self._version

    @property
    def skip_auto_headers(self) -> Any:
        """Names of the headers that are not to be made up."""
        return self._skip_auto_headers

    @property
    def connector_owner(self) -> bool:
        """Whether closing the session closes the connector."""
        return self._connector_owner

    @property
    def trace_configs(self) -> list[Any]:
        """The tracers."""
        return self._trace_configs

    def _build_url(self, str_or_url: Any) -> Any:
        """Give the yarl URL of a request: relative ones belong to the session's base URL."""
        from yarl import URL

        url = URL(str_or_url)
        return self._base_url.join(url) if self._base_url and not url.absolute else url

    def _prepare_headers(self, headers: Any) -> Any:
        """Merge a request's headers over the session's, replacing whole names, keeping case and repeats."""
        return merged_headers(self._header_pairs, headers)

    @property
    def requote_redirect_url(self) -> bool:
        """Whether redirect targets are quoted again."""
        return self._requote_redirect_url

    @requote_redirect_url.setter
    def requote_redirect_url(self, value: bool) -> None:
        self._requote_redirect_url = value
        self._slow = self._slow or not value
