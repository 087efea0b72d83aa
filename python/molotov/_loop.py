"""The native event loop, and the bridge for loops that are not ours."""

from __future__ import annotations

import asyncio
import atexit
import selectors
import signal
import threading
import weakref

from molotov import _core

__all__ = ["EventLoop", "engine_of", "new_event_loop"]


class _Selector(selectors.EpollSelector):
    """An epoll selector that lets the engine run while asyncio waits."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = _core.Driver(self.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.driver.drive(-1.0 if timeout is None else max(timeout, 0.0)):
            return super().select(0)
        return []

    def close(self) -> None:
        self.driver.close()
        super().close()


class EventLoop(asyncio.SelectorEventLoop):
    """A genuine asyncio selector loop on which the engine's connections run too.

    Everything of asyncio works on it: tasks, sockets, TLS, subprocesses, executors, signals.
    """

    def __init__(self) -> None:
        self._native_selector = _Selector()
        super().__init__(self._native_selector)
        self._native_selector.driver.attach(self)
        self.molotov_engine = self._native_selector.driver.engine

    def run_forever(self) -> None:
        """Run until :meth:`stop` is called."""
        if threading.current_thread() is not threading.main_thread():
            super().run_forever()
            return
        # A signal that arrives just before the engine goes to sleep would wait for the next event
        # without this: the byte in the loop's own socket pair is that event.
        previous = signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)  # type: ignore[attr-defined]
        try:
            super().run_forever()
        finally:
            # asyncio's own signal handlers need the socket between two runs as well.
            if not self._signal_handlers:  # type: ignore[attr-defined]
                signal.set_wakeup_fd(previous)

    def stop(self) -> None:
        """Stop as soon as the current callbacks are done."""
        super().stop()
        selector = self.__dict__.get("_native_selector")
        if selector is not None:
            selector.driver.interrupt()

    def close(self) -> None:
        """End the loop and every connection on it."""
        super().close()
        # The engine holds its loop where the garbage collector does not look: without this neither would end.
        self.__dict__.pop("_native_selector", None)
        self.__dict__.pop("molotov_engine", None)


def new_event_loop() -> EventLoop:
    """Return a new native loop, e.g. for ``asyncio.Runner(loop_factory=molotov.new_event_loop)``."""
    return EventLoop()


_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _core.Bridge] = weakref.WeakKeyDictionary()


def engine_of(loop: asyncio.AbstractEventLoop) -> _core.Engine:
    """Return the engine that serves ``loop``; a foreign loop gets a bridge on first use."""
    engine: _core.Engine | None = getattr(loop, "molotov_engine", None)
    if engine is not None:
        return engine
    if loop.is_closed():
        raise RuntimeError("Event loop is closed")
    bridge = _bridges.get(loop)
    if bridge is None:
        bridge = _core.Bridge(loop)
        loop.add_reader(bridge.fileno(), bridge.drain)
        _bridges[loop] = bridge
    return bridge.engine


@atexit.register
def _close_bridges() -> None:
    # Their threads must be gone before the interpreter is: they take the GIL when they wake.
    for bridge in list(_bridges.values()):
        bridge.close()
