"""What `session.get()` returns when Python serves the call: a coroutine and an async context manager."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any

__all__ = ["RequestContext"]


class RequestContext(Coroutine[Any, Any, Any]):
    """Awaited, it gives the response; left as a context, it releases it. As aiohttp's own."""

    __slots__ = ("_coroutine", "_response")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._response: Any = None

    def send(self, value: Any) -> Any:
        """Resume the coroutine."""
        return self._coroutine.send(value)

    def throw(self, *arguments: Any) -> Any:
        """Raise inside the coroutine."""
        return self._coroutine.throw(*arguments)

    def close(self) -> None:
        """End the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __iter__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    async def __aenter__(self) -> Any:
        self._response = await self._coroutine
        return await self._response.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if response is not None:
            await response.__aexit__(kind, value, traceback)
