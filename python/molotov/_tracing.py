"""What listens to a session: SessionTracer (events, statsd, context) and the request objects events carry.

The tracer stands in for an aiohttp.TraceConfig without importing aiohttp; given to a real aiohttp
session (a script's own session_factory, or the fallback) it acts as one.
"""

from __future__ import annotations

import socket
import sys
import weakref
from time import perf_counter
from types import MappingProxyType, SimpleNamespace
from typing import Any

__all__ = ["Context", "SessionTracer", "logged_client_request", "logged_client_response"]

_made: dict[str, type] = {}


class Context:
    """What `get_context(session)` gives: statsd client (or None), args, worker_id, and step (1-based)."""

    def __init__(self, statsd: Any = None) -> None:
        self.statsd = statsd
        self.args: Any = None
        self.worker_id: int | None = None
        self.step: int | None = None

    def attach(self, name: str, value: Any) -> None:
        """Keep `value` on this context under `name`."""
        setattr(self, name, value)


class SessionTracer:
    """Sends one session's request events to the listeners, and its timings to statsd."""

    def __init__(self, loop: Any, console: Any, verbose: int = 0, statsd: Any = None) -> None:
        from molotov.listeners import EventSender, StdoutListener

        self.loop = loop
        self.console = console
        self.verbose = verbose
        self.context = Context(statsd)
        self._config: Any = None
        self._sessions: weakref.WeakSet[Any] = weakref.WeakSet()
        # Below -vv the printer has nothing to say, and a listener costs every request the slow path.
        printers = [StdoutListener(verbose=verbose, console=console, loop=loop)] if verbose >= 2 else []
        self.eventer = EventSender(console, printers)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        aiohttp = sys.modules.get("aiohttp")
        return getattr(aiohttp, "TraceConfig", None) or type(self)

    @property
    def active(self) -> bool:
        """Whether anybody looks at requests: a listener, or statsd."""
        return self.listening or self.context.statsd is not None

    @property
    def listening(self) -> bool:
        """Whether there is a listener."""
        return bool(self.eventer._listeners)

    def follow(self, session: Any) -> None:
        """Let a listener that comes later turn on the events of this session too."""
        self._sessions.add(session)

    def add_listener(self, listener: Any) -> None:
        """Add an awaitable callable `listener(event, **details)`."""
        self.eventer.add_listener(listener)
        for session in self._sessions:
            session._slow = True

    async def send_event(self, event: str, **options: Any) -> None:
        """Tell every listener; what they raise is printed, never passed on."""
        await self.eventer.send_event(event, session=self, **options)

    def request_started(self, method: str, url: Any) -> tuple[float, str] | None:
        """Begin the statsd timing of a request; None without statsd."""
        if self.context.statsd is None:
            return None
        label = f"molotov.{socket.gethostname()}.{method}.{url.host}.{url.path}"
        return perf_counter(), label

    async def request_ended(self, began: tuple[float, str] | None, response: Any, request: Any) -> None:
        """Send the timing in milliseconds and the status count, then the event."""
        if began is not None:
            started, label = began
            statsd = self.context.statsd
            statsd.timing(label, value=int((perf_counter() - started) * 1000))
            statsd.increment(f"{label}.{response.status}")
        if self.listening:
            await self.send_event("response_received", response=response, request=request)

    def __getattr__(self, name: str) -> Any:
        if name in ("freeze", "trace_config_ctx", "trace_configs") or name.lstrip("_").startswith("on_"):
            return getattr(self._trace_config(), name)
        raise AttributeError(f"'SessionTracer' object has no attribute {name!r}")

    def _trace_config(self) -> Any:
        """Give the real TraceConfig, for when a real aiohttp session uses this tracer."""
        config = self.__dict__.get("_config")
        if config is None:
            from aiohttp import TraceConfig

            config = TraceConfig(trace_config_ctx_factory=self._trace_context)  # type: ignore[arg-type]
            config.on_request_start.append(self._on_start)
            config.on_request_end.append(self._on_end)
            self._config = config
        return config

    def _trace_context(self, trace_request_ctx: Any = None) -> SimpleNamespace:
        return SimpleNamespace(trace_request_ctx=trace_request_ctx, context=self.context, began=None)

    async def _on_start(self, session: Any, context: SimpleNamespace, params: Any) -> None:
        context.began = self.request_started(params.method, params.url)

    async def _on_end(self, session: Any, context: SimpleNamespace, params: Any) -> None:
        request = getattr(params.response, "request", None)
        if request is None:
            # A plain aiohttp session made by the script: describe the request it sent.
            info = params.response.request_info
            request = RequestView(info.method, info.url, info.headers, tracer=self)
        await self.request_ended(context.began, params.response, request)


class RequestView:
    """A request that was sent without an aiohttp request object: what listeners and scripts read of one."""

    def __init__(self, method: str, url: Any, headers: Any, body: Any = None, tracer: Any = None) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.tracer = tracer

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url}>"


def user_agent() -> str:
    """Give the User-Agent that the native client sends."""
    from molotov import __version__

    return f"Python/{sys.version_info[0]}.{sys.version_info[1]} molotov/{__version__}"


def tracer_of(session: Any) -> SessionTracer | None:
    """Find our tracer among a session's trace_configs: ours, or any aiohttp session that carries it."""
    for trace in getattr(session, "_trace_configs", None) or ():
        if isinstance(trace, SessionTracer):
            return trace
    return None


def logged_client_request() -> type:
    """Aiohttp's ClientRequest that tells its session's tracer when it is sent; imports aiohttp."""
    made = _made.get("request")
    if made is None:
        from aiohttp import ClientRequest

        class LoggedClientRequest(ClientRequest):
            """A request that events can carry: hashable, with url, method, headers, body and tracer."""

            tracer: Any = None
            verbose: int = 0
            #: What the native client decodes; aiohttp's own list grows with the packages installed.
            DEFAULT_HEADERS = MappingProxyType({"Accept": "*/*", "Accept-Encoding": "gzip, deflate"})  # type: ignore[assignment]

            def update_auto_headers(self, skip_auto_headers: Any) -> None:
                """Add the headers the script left out; one User-Agent for all of a session's requests."""
                named = "User-Agent" in self.headers
                super().update_auto_headers(skip_auto_headers)
                if not named and "User-Agent" in self.headers:
                    self.headers["User-Agent"] = user_agent()

            async def send(self, *arguments: Any, **named: Any) -> Any:
                """Send it on a connection of aiohttp's, after the `sending_request` event."""
                tracer = self.tracer or tracer_of(getattr(self, "_session", None))
                if tracer:
                    await tracer.send_event("sending_request", request=self)
                response: Any = await super().send(*arguments, **named)
                response.request = self
                return response

        LoggedClientRequest.__module__ = "molotov.session"
        LoggedClientRequest.__qualname__ = "LoggedClientRequest"
        made = _made["request"] = LoggedClientRequest
    return made


def logged_client_response() -> type:
    """Aiohttp's ClientResponse with the request it answers in `request`; imports aiohttp."""
    made = _made.get("response")
    if made is None:
        from aiohttp import ClientResponse

        class LoggedClientResponse(ClientResponse):
            """A response that knows its request."""

            request: Any = None

        LoggedClientResponse.__module__ = "molotov.session"
        LoggedClientResponse.__qualname__ = "LoggedClientResponse"
        made = _made["response"] = LoggedClientResponse
    return made
