"""ClientSession: aiohttp's client session on the native engine, and what scripts import beside it.

This file turns aiohttp's constructor arguments into the native configuration and offers the
session's attributes. Plain requests never come back here: the native base class serves them. What
it can't serve goes to `_request.perform`, and what needs aiohttp itself to `_fallback`.

Nothing here imports aiohttp, yarl or multidict until a script's own argument needs it.
"""

from __future__ import annotations

import asyncio
import json as json_module
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from molotov import _core, _ssl
from molotov._arguments import (
    FOREIGN,
    HARMLESS,
    LIMITS,
    accept_encoding,
    encoded,
    native_connector,
    parse_base_url,
    read_connector,
    seconds,
    sentinel,
    session_timeout,
)
from molotov._attributes import SessionAttributes
from molotov._context import RequestContext
from molotov._headers import pairs, plain
from molotov._tracing import SessionTracer, tracer_of

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "ClientSession",
    "LoggedClientRequest",  # noqa: F822 (made by __getattr__)
    "LoggedClientResponse",  # noqa: F822
    "SessionTracer",
    "get_context",
    "get_eventer",
    "get_session",
]


#: Bounds against decompression bombs: the most bytes of one decoded body, and the most per encoded byte.
_MAX_DECODED_BYTES = 1 << 30
_MAX_DECODED_RATIO = 2064


def _decode_limits(size: int | None, ratio: int | None) -> tuple[int, int] | None:
    if (size, ratio) == (_MAX_DECODED_BYTES, _MAX_DECODED_RATIO):
        return None
    endless = 2**64 - 1
    return (endless if size is None else size, endless if ratio is None else ratio)


class ClientSession(SessionAttributes, _core.Session):
    """aiohttp.ClientSession, natively: same arguments, attributes, exceptions and defaults.

    What the native client can't do is served by a real aiohttp session on the same loop, with one
    log line that names the reason. `recorder` and `state` are the run's measurements, if any.

    A response body that decodes to more than `max_decoded_bytes` (1 GiB), or to more than
    `max_decoded_ratio` (2064, twice what deflate reaches) times its size once that is over 16 MiB,
    is a ClientPayloadError; None lifts the bound.
    """

    def __new__(cls, *arguments: Any, **named: Any) -> ClientSession:
        """Make the native part; __init__ configures it."""
        return super().__new__(cls)

    def __init__(
        self,
        base_url: Any = None,
        *,
        connector: Any = None,
        loop: asyncio.AbstractEventLoop | None = None,
        cookies: Any = None,
        headers: Any = None,
        proxy: Any = None,
        proxy_auth: Any = None,
        skip_auto_headers: Any = None,
        auth: Any = None,
        json_serialize: Callable[[Any], str] = json_module.dumps,
        cookie_jar: Any = None,
        connector_owner: bool = True,
        raise_for_status: Any = False,
        read_timeout: Any = sentinel,
        conn_timeout: float | None = None,
        timeout: Any = sentinel,
        trust_env: bool = False,
        requote_redirect_url: bool = True,
        trace_configs: list[Any] | None = None,
        version: Any = (1, 1),
        auto_decompress: bool = True,
        json_serialize_bytes: Callable[[Any], bytes] | None = None,
        fallback_charset_resolver: Callable[[Any, bytes], str] | None = None,
        read_bufsize: int | None = None,
        max_line_size: int = LIMITS["max_line_size"],
        max_field_size: int = LIMITS["max_field_size"],
        max_headers: int = LIMITS["max_headers"],
        middlewares: Any = (),
        max_decoded_bytes: int | None = _MAX_DECODED_BYTES,
        max_decoded_ratio: int | None = _MAX_DECODED_RATIO,
        recorder: Any = None,
        state: Any = None,
        _limit: int | None = None,
        **foreign: Any,
    ) -> None:
        self._closed = True
        self._state = state
        if loop is None:
            loop = connector._loop if connector is not None else asyncio.get_running_loop()
        self._loop = loop
        self._base_url = parse_base_url(base_url)
        self._base_url_origin = self._base_url.origin() if self._base_url is not None else None
        self._timeout_given = session_timeout(timeout, read_timeout, conn_timeout)
        if connector is not None and connector._loop is not loop:
            raise RuntimeError("Session and connector has to use same event loop")

        self._trace_configs = list(trace_configs or ())
        self._tracer = tracer_of(self)
        self._default_auth = auth
        self._json_serialize = json_serialize
        self._raise_for_status = raise_for_status
        self._trust_env = trust_env
        self._default_proxy = proxy
        self._default_proxy_auth = proxy_auth
        self._requote_redirect_url = requote_redirect_url
        self._version = version
        self._auto_decompress = auto_decompress
        self._json_serialize_bytes = json_serialize_bytes
        self._resolve_charset = fallback_charset_resolver
        self._read_bufsize = read_bufsize
        self._max_line_size = max_line_size
        self._max_field_size = max_field_size
        self._max_headers = max_headers
        self._middlewares = middlewares
        self._connector = connector
        self._connector_owner = connector_owner
        self._skip_auto_headers = frozenset(str(name) for name in skip_auto_headers or ())
        self._aiohttp_session: Any = None
        self._live_headers: Any = None
        self._header_pairs = pairs(headers)
        # The jar: the script's own, or (when it is asked for) a view of the native one.
        self._cookie_jar: Any = cookie_jar
        self._arguments = {
            name: value
            for name, value in {
                "skip_auto_headers": skip_auto_headers,
                "auth": auth,
                "raise_for_status": raise_for_status or None,
                "trust_env": trust_env or None,
                "proxy": proxy,
                "proxy_auth": proxy_auth,
                "json_serialize_bytes": json_serialize_bytes,
                "fallback_charset_resolver": fallback_charset_resolver,
                "read_bufsize": read_bufsize,
                "middlewares": middlewares or None,
            }.items()
            if value is not None
        }
        if not auto_decompress:
            self._arguments["auto_decompress"] = False
        for name, given in LIMITS.items():
            if getattr(self, f"_{name}") != given:
                self._arguments[name] = getattr(self, f"_{name}")
        if json_serialize is not json_module.dumps:
            self._arguments["json_serialize"] = json_serialize
        if not requote_redirect_url:
            self._arguments["requote_redirect_url"] = False
        if tuple(version) != (1, 1):
            self._arguments["version"] = version
        if timeout is not sentinel:
            self._arguments["timeout"] = timeout
        for name, value in foreign.items():
            if name not in FOREIGN and name not in HARMLESS:
                raise TypeError(f"ClientSession.__init__() got an unexpected keyword argument {name!r}")
            self._arguments[name] = value

        self._websocket_class = foreign.get("ws_response_class")
        self._settings = read_connector(connector)
        if connector is None and _limit is not None:
            self._settings.limit = _limit
        self._foreign_reason = self._only_aiohttp()
        tls = None
        if self._foreign_reason is None:
            try:
                tls = _ssl.read(self._settings.ssl)
            except _ssl.Unreadable as reason:
                self._foreign_reason = str(reason)

        self._native_jar: Any = None
        if cookie_jar is None:
            self._native_jar = _core.CookieJar()
        total, connect, sock_connect, sock_read = seconds(self._timeout_given)
        super().__init__(
            loop,
            headers=self._header_pairs if plain(self._header_pairs) else [],
            auth=encoded(auth),
            total=total,
            connect=connect,
            sock_connect=sock_connect,
            sock_read=sock_read,
            connector=native_connector(connector, self._settings, tls),
            jar=self._native_jar,
            raise_for_status=raise_for_status is True,
            decode_limits=_decode_limits(max_decoded_bytes, max_decoded_ratio),
            accept_encoding=accept_encoding(),
            recorder=recorder,
            state=state,
        )
        self._closed = False
        self._slow = self._needs_python(auth)
        if cookies:
            self._add_cookies(cookies)
        if self._tracer is not None:
            self._tracer.follow(self)
        if loop.get_debug():
            import traceback

            self._source_traceback = traceback.extract_stack(sys._getframe(1))

    _source_traceback: Any = None
    _closed = True

    def _only_aiohttp(self) -> str | None:
        """Name the reason why the whole session has to be aiohttp's own, or None."""
        if self._settings.reason is not None:
            return self._settings.reason
        for name, (nothing, reason) in FOREIGN.items():
            value = self._arguments.get(name)
            if value is not None and value != nothing:
                if name.endswith("_class") and value.__module__ in (
                    "aiohttp.client_reqrep",
                    "molotov.session",
                ):
                    continue
                return reason
        traces = [trace for trace in self._trace_configs if trace is not self._tracer]
        if traces:
            from molotov import _traces

            for trace in traces:
                trace.freeze()
            told = _traces.reason(traces)
            if told is not None:
                return told
        if tuple(self._version) != (1, 1):
            return f"HTTP/{self._version[0]}.{self._version[1]}"
        return None

    def _needs_python(self, auth: Any) -> bool:
        """Whether every request has to take the Python path."""
        return bool(
            self._foreign_reason is not None
            # A subclass that has its own _request wants every call to go through it.
            or type(self)._request is not ClientSession._request
            or self._base_url is not None
            or self._skip_auto_headers
            or self._json_serialize is not json_module.dumps
            or self._raise_for_status not in (True, False, None)
            or not self._requote_redirect_url
            or self._settings.force_close
            or self._default_proxy is not None
            or self._environment_matters()
            or (self._cookie_jar is not None and type(self._cookie_jar).__name__ != "DummyCookieJar")
            or (auth is not None and encoded(auth) is None)
            or not plain(self._header_pairs)
            or (self._tracer is not None and self._tracer.active)
            or any(trace is not self._tracer for trace in self._trace_configs)
            or self._middlewares
            or not self._auto_decompress
            or self._json_serialize_bytes is not None
            or self._resolve_charset is not None
            or self._read_bufsize is not None
            or any(getattr(self, f"_{name}") != given for name, given in LIMITS.items())
        )

    def _environment_matters(self) -> bool:
        if not self._trust_env:
            return False
        from molotov import _proxy

        return _proxy.environment_matters()

    def _add_cookies(self, cookies: Any) -> None:
        from molotov import _cookies

        if self._native_jar is None or not _cookies.insert_shared(self._native_jar, cookies):
            # Cookies for some hosts or paths only: aiohttp's jar knows their rules.
            self.cookie_jar.update_cookies(cookies)

    def _headers_changed(self, changed: list[tuple[str, Any]]) -> None:
        self._header_pairs = changed
        if plain(changed):
            self._set_headers(changed)
        else:
            self._slow = True

    async def _request(
        self,
        method: str,
        str_or_url: Any,
        *,
        params: Any = None,
        data: Any = None,
        json: Any = None,
        cookies: Any = None,
        headers: Any = None,
        skip_auto_headers: Any = None,
        auth: Any = None,
        allow_redirects: bool = True,
        max_redirects: int = 10,
        compress: Any = None,
        chunked: bool | None = None,
        expect100: bool = False,
        raise_for_status: Any = None,
        read_until_eof: bool = True,
        proxy: Any = None,
        proxy_auth: Any = None,
        timeout: Any = sentinel,
        verify_ssl: bool | None = None,
        fingerprint: bytes | None = None,
        ssl_context: Any = None,
        ssl: Any = True,
        server_hostname: str | None = None,
        proxy_headers: Any = None,
        trace_request_ctx: Any = None,
        read_bufsize: int | None = None,
        auto_decompress: bool | None = None,
        max_line_size: int | None = None,
        max_field_size: int | None = None,
        max_headers: int | None = None,
        middlewares: Any = None,
        upload_tracker: Any = None,
    ) -> Any:
        """Perform a request the native fast path left to Python: aiohttp's arguments and semantics."""
        from molotov import _request

        call = dict(locals())
        for name in ("self", "method", "str_or_url", "_request"):
            del call[name]
        if timeout is sentinel:
            del call["timeout"]
        return await _request.perform(self, method, str_or_url, call)

    def ws_connect(
        self,
        url: Any,
        *,
        method: str = "GET",
        protocols: Any = (),
        timeout: Any = sentinel,
        receive_timeout: float | None = None,
        autoclose: bool = True,
        autoping: bool = True,
        heartbeat: float | None = None,
        auth: Any = None,
        origin: str | None = None,
        params: Any = None,
        headers: Any = None,
        proxy: Any = None,
        proxy_auth: Any = None,
        ssl: Any = True,
        verify_ssl: bool | None = None,
        fingerprint: bytes | None = None,
        ssl_context: Any = None,
        server_hostname: str | None = None,
        proxy_headers: Any = None,
        compress: int = 0,
        max_msg_size: int = 4 * 1024 * 1024,
        decode_text: bool = True,
    ) -> RequestContext:
        """Open a websocket: awaitable and async context manager, with aiohttp's arguments."""
        from molotov import _websocket

        call = dict(locals())
        for name in ("self", "url", "_websocket"):
            del call[name]
        if timeout is sentinel:
            del call["timeout"]
        return RequestContext(_websocket.connect(self, url, call))

    async def close(self) -> None:
        """Close the connections, and the connector if the session owns it. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._close_native(self._owns_connections())
        if self._owns_connections():
            self._close_websockets()
        made, self._aiohttp_session = self._aiohttp_session, None
        if made is not None:
            await made.close()
        connector = self._connector
        if connector is not None and (self._connector_owner or self._connector_is_ours):
            await connector.close()

    def _owns_connections(self) -> bool:
        return self._connector is None or self._connector_owner or self._connector_is_ours

    def detach(self) -> None:
        """Give the connector up without closing it; the session counts as closed."""
        self._closed = True
        self._close_native(self._connector is None or self._connector_is_ours)
        if self._aiohttp_session is not None:
            self._aiohttp_session.detach()
        self._connector = None

    _connector_is_ours = False

    async def __aenter__(self) -> ClientSession:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def __enter__(self) -> None:
        raise TypeError("Use async with instead")

    def __exit__(self, *arguments: Any) -> None:
        """Exist in pair with __enter__; never reached."""

    def __del__(self, _warnings: Any = warnings) -> None:
        if self._closed:
            return
        _warnings.warn(f"Unclosed client session {self!r}", ResourceWarning, source=self)
        context = {"client_session": self, "message": "Unclosed client session"}
        if self._source_traceback is not None:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "_request":
            # Signing libraries put themselves in front of aiohttp's one way to make a request.
            self._slow = True

    def __repr__(self) -> str:
        return f"<molotov.session.ClientSession object at {id(self):#x}>"

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # Libraries that check for an aiohttp session get a yes; a script without aiohttp never asks.
        aiohttp = sys.modules.get("aiohttp")
        return getattr(aiohttp, "ClientSession", None) or type(self)


def get_session(
    loop: asyncio.AbstractEventLoop,
    console: Any,
    verbose: int = 0,
    statsd: Any = None,
    **arguments: Any,
) -> ClientSession:
    """Make a worker's session: no limit on connections, its own tracer and context.

    `arguments` are ClientSession's (what `setup()` returned), and `recorder`/`state`.
    """
    tracer = SessionTracer(loop, console, verbose, statsd)
    traces = [tracer, *(arguments.pop("trace_configs", None) or ())]
    session = ClientSession(loop=loop, trace_configs=traces, _limit=0, **arguments)
    return session


def get_eventer(session: Any) -> SessionTracer | None:
    """Find the tracer of a session; None when it has none."""
    return tracer_of(session)


def get_context(session: Any) -> Any:
    """Find the context of a session: statsd, args, worker_id, step and what was attached; or None."""
    tracer = tracer_of(session)
    return None if tracer is None else tracer.context


def __getattr__(name: str) -> Any:
    # These two subclass aiohttp's classes: they exist once somebody asks for them.
    if name == "LoggedClientRequest":
        from molotov._tracing import logged_client_request

        return logged_client_request()
    if name == "LoggedClientResponse":
        from molotov._tracing import logged_client_response

        return logged_client_response()
    raise AttributeError(f"module 'molotov.session' has no attribute {name!r}")


_ssl.watch()
