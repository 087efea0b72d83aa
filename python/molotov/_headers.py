"""The mapping behind `session.headers`: a CIMultiDict that tells its session when a script changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["live_headers", "merged_headers", "pairs", "plain"]

_MUTATORS = (
    "__setitem__",
    "__delitem__",
    "add",
    "clear",
    "extend",
    "merge",
    "pop",
    "popall",
    "popitem",
    "popone",
    "setdefault",
    "update",
)
_made: list[type] = []


def pairs(headers: Any) -> list[tuple[str, Any]]:
    """List the names and values of any form of headers that aiohttp accepts, in order."""
    if not headers:
        return []
    items: Iterable[Any] = headers.items() if hasattr(headers, "items") else headers
    return [(str(name), value) for name, value in items]


def merged_headers(session_headers: list[tuple[str, Any]], headers: Any) -> Any:
    """Merge a request's headers over its session's, replacing whole names, keeping case and repeats."""
    from multidict import CIMultiDict

    merged = CIMultiDict(session_headers)
    added = set()
    # aiohttp normalises a plain mapping or a list into a CIMultiDict first.
    for name, value in CIMultiDict(headers).items() if headers else ():
        if name in added:
            merged.add(name, value)
        else:
            merged[name] = value
            added.add(name)
    return merged


#: Session headers that frame the message or merge with others: aiohttp's rules, in Python.
_SPECIAL = frozenset({"content-length", "transfer-encoding", "expect", "cookie"})


def plain(headers: list[tuple[str, Any]]) -> bool:
    """Tell whether the native path may send these with every request as they are."""
    return all(
        isinstance(value, str)
        and name.lower() not in _SPECIAL
        and not any(mark in text for text in (name, value) for mark in "\r\n\0")
        for name, value in headers
    )


def live_headers(initial: list[tuple[str, Any]], changed: Callable[[list[tuple[str, Any]]], None]) -> Any:
    """Make the mapping; `changed` gets all its pairs after every change."""
    if not _made:
        _made.append(_live_class())
    mapping = _made[0](initial)
    mapping._changed = changed
    return mapping


def _live_class() -> type:
    from multidict import CIMultiDict

    class LiveHeaders(CIMultiDict):  # type: ignore[type-arg]
        """CIMultiDict with a callback."""

        _changed: Any = None

    def telling(name: str, original: Any) -> Any:
        def mutator(self: Any, *arguments: Any, **named: Any) -> Any:
            done = original(self, *arguments, **named)
            if self._changed is not None:
                self._changed(list(self.items()))
            return done

        mutator.__name__ = name
        return mutator

    for name in _MUTATORS:
        original = getattr(CIMultiDict, name, None)
        if original is not None:
            setattr(LiveHeaders, name, telling(name, original))
    return LiveHeaders
