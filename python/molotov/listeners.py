"""Events: who listens to a run, and the listener that prints requests and responses (``-vv``)."""

from __future__ import annotations

import inspect
import io
from collections.abc import Awaitable, Callable
from typing import Any

from molotov.api import get_fixture

__all__ = ["BaseListener", "CustomListener", "EventSender", "StdoutListener"]

_UNREADABLE = "***WARNING: Molotov can't display this body***"
_BINARY = "**** Binary content ****"
_FILE = "**** File content ****"
_COMPRESSED = ("gzip", "compress", "deflate", "identity", "br", "zstd")


class BaseListener:
    """A listener as a class: an event called ``name`` goes to its method ``on_name``."""

    async def __call__(self, event: str, **options: Any) -> None:
        """Pass the event on."""
        method = getattr(self, f"on_{event}", None)
        if method is not None:
            result = method(**options)
            if inspect.isawaitable(result):
                await result


class CustomListener:
    """A listener made of a function that was declared with ``@events()``."""

    def __init__(self, fixture: Callable[..., Awaitable[None]]) -> None:
        self.fixture = fixture

    async def __call__(self, event: str, **options: Any) -> None:
        """Pass the event on."""
        await self.fixture(event, **options)


class _Buffer:
    """A stream writer that keeps what a multipart body writes."""

    def __init__(self) -> None:
        self.content = bytearray()

    async def write(self, data: bytes) -> None:
        self.content.extend(data)


class StdoutListener(BaseListener):
    """Print every request and response to the console, at verbosity 2."""

    def __init__(self, *, console: Any, verbose: int = 0, loop: Any = None) -> None:
        self.console = console
        self.verbose = verbose
        self.loop = loop

    async def _readable(self, body: Any) -> str:
        if not isinstance(body, (str, bytes, bytearray)):
            if hasattr(body, "_parts") and hasattr(body, "write"):
                buffer = _Buffer()
                await body.write(buffer)
                body = bytes(buffer.content)
            # aiohttp wraps what it sends in a Payload, which keeps the original value.
            body = getattr(body, "_value", body)
        if isinstance(body, io.IOBase):
            return _FILE
        if isinstance(body, str):
            return body
        try:
            return str(body, "utf8")
        except (UnicodeDecodeError, TypeError):
            return _UNREADABLE

    async def on_sending_request(self, session: Any, request: Any) -> None:
        """Print the request: its line, headers and body."""
        if self.verbose < 2:
            return
        text = f"\n{request.method} {request.url}"
        for name, value in request.headers.items():
            text += f"\n{name}: {value}"
        if request.headers.get("Content-Encoding") in _COMPRESSED:
            text += f"\n\n{_BINARY}\n"
        elif request.body:
            text += f"\n\n{await self._readable(request.body)}\n"
        self.console.print_error(text)

    async def on_response_received(self, session: Any, response: Any, request: Any) -> None:
        """Print the response: its status line, headers and body, which stays readable for the scenario."""
        if self.verbose < 2:
            return
        text = f"HTTP/1.1 {response.status} {response.reason}"
        for name, value in response.headers.items():
            text += f"\n{name}: {value}"
        if response.headers.get("Content-Encoding") in _COMPRESSED:
            text += f"\n\n{_BINARY}"
        else:
            content = await response.read()
            text += "\n\n"
            if content:
                try:
                    text += content.decode()
                except UnicodeDecodeError:
                    text += _UNREADABLE
        self.console.print_error(text)
        self.console.print_error("")
        self.console.print_error("")


class EventSender:
    """Send events to the listeners given to it and to those declared with ``@events()``, in this order.

    A listener that raises is reported on the console and stops nothing.
    """

    def __init__(self, console: Any, listeners: list[Any] | None = None) -> None:
        self.console = console
        self._listeners = [] if listeners is None else listeners
        self._stopped = False
        for fixture in get_fixture("events") or []:
            self.add_listener(CustomListener(fixture))

    def __bool__(self) -> bool:
        """Tell whether anybody listens."""
        return bool(self._listeners)

    def add_listener(self, listener: Any) -> None:
        """Add a listener: an async callable that takes the event's name and its keyword arguments."""
        self._listeners.append(listener)

    async def stop(self) -> None:
        """Mark the sender as stopped."""
        self._stopped = True

    def stopped(self) -> bool:
        """Tell whether :meth:`stop` was called."""
        return self._stopped

    async def send_event(self, event: str, *args: Any, **options: Any) -> None:
        """Send an event to every listener, one after the other."""
        for listener in self._listeners:
            try:
                await listener(event, *args, **options)
            except Exception as error:
                self.console.print_error(error)
