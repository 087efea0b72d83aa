"""Counters that forked processes share.

The values live in one anonymous file that is mapped before the fork; a record lock on the value's bytes keeps
the processes apart, and a thread lock the threads of one process (record locks belong to processes).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from contextlib import contextmanager

__all__ = ["Counter", "Counters"]

_SIZE = 8
_PAGE = mmap.PAGESIZE


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("molotov-counters")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Page:
    """A page of shared values, handed out one by one."""

    def __init__(self) -> None:
        self.file = _anonymous_file()
        os.ftruncate(self.file, _PAGE)
        self.memory = mmap.mmap(self.file, _PAGE)
        self.used = 0

    def __del__(self) -> None:
        os.close(self.file)


_lock = threading.Lock()
_current: _Page | None = None


def _renew_lock() -> None:
    # A thread of the parent may have held it at the fork; that thread does not exist in the child.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _allocate() -> tuple[_Page, int]:
    global _current
    with _lock:
        if _current is None or _current.used + _SIZE > _PAGE:
            _current = _Page()
        offset = _current.used
        _current.used += _SIZE
        return _current, offset


class Counter:
    """An integer that processes forked after its creation share."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._page, self._offset = _allocate()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with _lock:
            fcntl.lockf(self._page.file, fcntl.LOCK_EX, _SIZE, self._offset)
            try:
                yield
            finally:
                fcntl.lockf(self._page.file, fcntl.LOCK_UN, _SIZE, self._offset)

    def _get(self) -> int:
        value: int = struct.unpack_from("q", self._page.memory, self._offset)[0]
        return value

    def _put(self, value: int) -> None:
        struct.pack_into("q", self._page.memory, self._offset, value)

    @property
    def value(self) -> int:
        """The count. Setting it takes an integer or another counter; anything else is a TypeError."""
        return self._get()

    @value.setter
    def value(self, value: int | Counter) -> None:
        number = value.value if isinstance(value, Counter) else value
        if not isinstance(number, int):
            raise TypeError(value)
        with self._locked():
            self._put(number)

    def __add__(self, other: int | Counter) -> Counter:
        number = other.value if isinstance(other, Counter) else other
        if not isinstance(number, int):
            raise NotImplementedError()
        with self._locked():
            self._put(self._get() + number)
        return self

    def __sub__(self, other: int | Counter) -> Counter:
        return self.__add__(-(other.value if isinstance(other, Counter) else other))

    __iadd__ = __add__
    __isub__ = __sub__

    @staticmethod
    def _number(other: object) -> int:
        if isinstance(other, Counter):
            return other.value
        if not isinstance(other, int):
            raise TypeError(other)
        return other

    def __eq__(self, other: object) -> bool:
        return self.value == self._number(other)

    def __lt__(self, other: object) -> bool:
        return self.value < self._number(other)

    def __le__(self, other: object) -> bool:
        return self.value <= self._number(other)

    def __gt__(self, other: object) -> bool:
        return self.value > self._number(other)

    def __ge__(self, other: object) -> bool:
        return self.value >= self._number(other)

    # Equal by value and mutable: not hashable, as any class that defines only __eq__.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Counter {self.value}>"


class Counters:
    """A fixed set of named counters: ``counters["OK"] += 1``."""

    def __init__(self, *keys: str) -> None:
        self._counters = {key: Counter(key) for key in keys}

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {key: counter.value for key, counter in self._counters.items()}

    def items(self) -> ItemsView[str, Counter]:
        """Return the names and counters."""
        return self._counters.items()

    def values(self) -> ValuesView[Counter]:
        """Return the counters."""
        return self._counters.values()

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self._counters.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self._counters)

    def __contains__(self, key: object) -> bool:
        return key in self._counters

    def __getitem__(self, key: str) -> Counter:
        return self._counters[key]

    def __setitem__(self, key: str, value: int | Counter) -> None:
        if key not in self._counters:
            raise KeyError(key)
        # `counters[key] += n` has already counted: writing the sum again would lose other processes' counts.
        if value is not self._counters[key]:
            self._counters[key].value = value

    def __repr__(self) -> str:
        return repr(self._counters)
