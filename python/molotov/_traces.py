"""A script's own trace_configs on the native path: aiohttp's Trace objects, told what the engine does.

What happens inside aiohttp's connector (queues, connections, DNS) only its connector can tell: a session
whose trace_configs listen to that is served by aiohttp itself. Called by `session` and `_request`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

__all__ = ["Told", "reason"]

_CONNECTOR_SIGNALS = (
    "on_connection_queued_start",
    "on_connection_queued_end",
    "on_connection_create_start",
    "on_connection_create_end",
    "on_connection_reuseconn",
    "on_dns_resolvehost_start",
    "on_dns_resolvehost_end",
    "on_dns_cache_hit",
    "on_dns_cache_miss",
)


def reason(configs: list[Any]) -> str | None:
    """Name why these need aiohttp's connector, or None."""
    for config in configs:
        for name in _CONNECTOR_SIGNALS:
            if getattr(config, name, None):
                return f"trace_configs with {name}"
    return None


class Told:
    """The traces of one request."""

    def __init__(self, session: Any, configs: list[Any], request_context: Any) -> None:
        self._traces: list[Any] = []
        self._pending: list[Any] = []
        if configs:
            from aiohttp.tracing import Trace

            self._pending = [
                Trace(session, config, config.trace_config_ctx(trace_request_ctx=request_context))
                for config in configs
            ]
        self._headers_sent = False

    def __bool__(self) -> bool:
        return bool(self._traces or self._pending)

    async def start(self, method: str, url: Any, headers: Any) -> None:
        """Tell that the call begins. Only a trace that saw this sees the end."""
        while self._pending:
            trace = self._pending[0]
            await trace.send_request_start(method, url, headers)
            self._traces.append(self._pending.pop(0))

    async def redirected(self, method: str, url: Any, headers: Any, response: Any) -> None:
        """Tell that a redirect is about to be followed."""
        for trace in self._traces:
            await trace.send_request_redirect(method, url, headers, response)

    async def ended(self, method: str, url: Any, headers: Any, response: Any) -> None:
        """Tell that the last response is there."""
        for trace in self._traces:
            await trace.send_request_end(method, url, headers, response)

    async def failed(self, method: str, url: Any, headers: Any, error: BaseException) -> None:
        """Tell that the call ends with an error."""
        for trace in self._traces:
            await trace.send_request_exception(method, url, headers, error)

    def prepare(self) -> None:
        """Expect another request of this call to be sent."""
        self._headers_sent = False

    async def sent(self, request: Any, body: bytes | None = None) -> None:
        """Tell that the head went out, and a body that was sent at once with it."""
        if self._headers_sent:
            return
        self._headers_sent = True
        for trace in self._traces:
            await trace.send_request_headers(request.method, request.url, request.headers)
            if body:
                await trace.send_request_chunk_sent(request.method, request.url, body)

    async def streamed(self, request: Any, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass a streamed body on, telling of each piece."""
        async for chunk in chunks:
            await self.sent(request)
            for trace in self._traces:
                await trace.send_request_chunk_sent(request.method, request.url, chunk)
            yield chunk

    def follow_body(self, response: Any) -> None:
        """Tell when the response's body is read."""
        listening = [t for t in self._traces if getattr(t._trace_config, "on_response_chunk_received", None)]
        if listening:
            from molotov._response import tell_reads

            tell_reads(response, listening)
