"""Ctrl-C and SIGTERM: the first one stops gracefully, the second cancels, whatever the workers are doing."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Any

__all__ = ["Signals", "held", "release"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# How long the loop may take to see the second signal before the main thread is interrupted.
_PATIENCE_SECONDS = 0.5
# Signals that come together (a process group, a supervisor that repeats itself) are one.
_SAME_SECONDS = 0.1

#: How many signals the runs of this process have taken, for whoever runs several.
received = 0
#: How often a run has taken the signals over.
installed = 0
#: What was held back before `held`, by others.
_mask: set[int] = set()


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back while children are forked, and in these until `release`.

    Until the handlers are there neither parent nor child knows what to do about a signal.
    """
    global _mask
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS))
    try:
        yield
    finally:
        release()


def release() -> None:
    """Let signals come that were held back; only where they were."""
    if threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(_SIGNALS) - _mask)


class Signals:
    """Handlers for the time of a run. With ``cancel=None`` (a forked child) every signal only stops."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stop: Callable[[], None],
        cancel: Callable[[], None] | None,
    ) -> None:
        self._loop = loop
        self._stop = stop
        self._cancel = cancel
        self._received = 0
        self._last = -_SAME_SECONDS
        self._cancelling = threading.Event()
        self._interrupt = False
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Install the handlers; in any thread but the main one signals are not ours, and nothing happens."""
        global installed
        if threading.current_thread() is not threading.main_thread():
            return
        installed += 1
        for number in _SIGNALS:
            self._previous[number] = signal.getsignal(number)
            try:
                # asyncio writes signals into a socket of the loop, which wakes it up...
                self._loop.add_signal_handler(number, self._seen_by_loop)
            except (NotImplementedError, RuntimeError, ValueError):
                del self._previous[number]
                continue
            # ...while this handler also runs when a blocking call keeps the loop from looking.
            signal.signal(number, self._on_signal)

    @property
    def received(self) -> bool:
        """Whether somebody asked this process to end."""
        return self._received > 0

    def remove(self) -> None:
        """Give the signals back."""
        for number, previous in self._previous.items():
            if not self._loop.is_closed():
                self._loop.remove_signal_handler(number)
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)
        self._previous.clear()
        self._cancelling.set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._cancel is None:
            return
        now = monotonic()
        if not self._interrupt and now - self._last < _SAME_SECONDS:
            return
        self._last = now
        global received
        received += 1
        self._received += 1
        if self._interrupt or self._received > 2:
            self._interrupt = False
            raise KeyboardInterrupt
        if self._received == 2:
            threading.Thread(target=self._watch, name="molotov-signals", daemon=True).start()

    def _watch(self) -> None:
        if self._cancelling.wait(_PATIENCE_SECONDS):
            return
        self._interrupt = True
        # A real signal, so that a blocking system call of the main thread returns.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _seen_by_loop(self) -> None:
        self._stop()
        if self._cancel is not None and self._received > 1 and not self._cancelling.is_set():
            self._cancelling.set()
            self._cancel()
