"""The console: lines that the workers print, failures, and the live status line on a terminal.

Printing never waits for the output: lines are queued and written every ``interval`` seconds, all of them.
Only failures that repeat at the same place are grouped, once there are many, with their count.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from molotov.ui.failures import Failures
from molotov.ui.output import write
from molotov.ui.status import LiveStatus, terminal_or_none
from molotov.util import printable_error

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Console", "SharedConsole"]

_Result = TypeVar("_Result")

# Failures shown in full for each place in the script; later ones are counted, and reported once a second.
_SHOWN_IN_FULL = 100
_GROUPED_EVERY_SECONDS = 1.0
# Beyond this many waiting lines, whoever prints next waits for the output: memory stays bounded.
_MAX_WAITING = 100_000
# asyncio timers cannot be shorter than this without spinning (--console-update 0).
_SHORTEST_INTERVAL = 0.02


class _Channel:
    """One of the console's two streams, ``terminal`` and ``errors``; both end in the same queue."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self.write = put

    def write_line(self, data: str) -> None:
        self.write(f"{data}\n")


class SharedConsole:
    """The console of a run, shared by all its workers and processes.

    - **interval**: seconds between two updates of the output.
    - **simple_console**: plain lines only (``-c``); otherwise a terminal also gets a live status line.
    - **max_lines_displayed**, **single_process**: accepted for compatibility, nothing depends on them.
    """

    def __init__(
        self,
        interval: float = 0.3,
        max_lines_displayed: int = 25,
        simple_console: bool = False,
        single_process: bool = True,
    ) -> None:
        self.interval = max(interval, _SHORTEST_INTERVAL)
        self.started = False
        self.terminal = _Channel(self._put)
        self.errors = _Channel(self._put)
        self.status: LiveStatus | None = None
        self._simple = simple_console
        self._creator = os.getpid()
        self._silent = False
        self._waiting: list[str] = []
        self._forward: Callable[[str], None] | None = None
        self._results: Mapping[str, int] = {}
        self.failures = Failures()
        self._grouped_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def silence(self) -> None:
        """Drop everything from now on (``-q``)."""
        self._silent = True
        self._waiting.clear()

    def forward(self, send: Callable[[str], None]) -> None:
        """Hand the text to ``send`` instead of the output: a forked process gives it to its parent."""
        self._forward = send
        self._waiting.clear()
        self.failures.clear()

    def _put(self, text: str) -> None:
        if self._silent:
            return
        if os.getpid() != self._creator:
            text = f"[P:{os.getpid()}] {text}"
            if self._forward is None:
                # A process that the script forked by itself: nobody else would show its lines.
                write(text)
                return
        self._waiting.append(text)
        if len(self._waiting) > _MAX_WAITING:
            if self.started or self._forward is not None:
                self.flush()
            else:
                del self._waiting[: _MAX_WAITING // 2]

    def print(self, data: Any) -> None:
        """Print text, line by line; the blanks around each line are removed."""
        for line in str(data).split("\n"):
            self.terminal.write_line(line.strip())

    def print_raw(self, text: str) -> None:
        """Print text that another process has already formatted, line ends included."""
        if text and not self._silent:
            self._waiting.append(text)

    def print_error(self, error: Any, tb: TracebackType | None = None) -> None:
        """Print text as :meth:`print` does, or an exception with its traceback and an empty line."""
        if not isinstance(error, BaseException):
            for line in str(error).split("\n"):
                self.errors.write_line(line.strip())
            return
        for line in printable_error(error, tb):
            self.errors.write_line(line)
        self.errors.write_line("")

    def print_failure(self, what: str, error: BaseException) -> None:
        """Print that a worker's run failed, and why; after a hundred at the same place, only count it."""
        repeated = self.failures.add(error)
        if self._silent:
            return
        if repeated.seen <= _SHOWN_IN_FULL:
            self.print(what)
            self.print_error(error)
            return
        repeated.grouped += 1

    def _put_grouped(self) -> None:
        for repeated in self.failures.groups():
            if repeated.grouped:
                times = "once more" if repeated.grouped == 1 else f"{repeated.grouped} more times"
                self.terminal.write_line(f"Failure! {times}: {repeated.line()}")
                repeated.grouped = 0

    def print_block(self, start: str, callable: Callable[[], _Result], end: str = "OK") -> _Result:
        """Print what begins, do it, print that it is done."""
        self.terminal.write_line(f"{start}...")
        try:
            return callable()
        finally:
            self.terminal.write_line(end)

    def print_results(self, results: Mapping[str, int]) -> None:
        """Take the counts that the status line shows: OK, FAILED, WORKER, PROCESS, REQUESTS."""
        self._results = results

    async def start(self) -> None:
        """Begin to write to the output, on the running loop. Does nothing in a forked process."""
        if self.started or os.getpid() != self._creator:
            return
        self.started = True
        if not self._simple and not self._silent:
            terminal = terminal_or_none()
            if terminal is not None:
                self.status = LiveStatus(terminal)
                self.status.start()
        self._refresh(asyncio.get_running_loop())

    def _refresh(self, loop: asyncio.AbstractEventLoop) -> None:
        # A timer, not a task: scripts and tests replace asyncio.sleep.
        now = loop.time()
        if now - self._grouped_at >= _GROUPED_EVERY_SECONDS:
            self._grouped_at = now
            self._put_grouped()
        self.flush()
        self._timer = loop.call_later(self.interval, self._refresh, loop)

    def flush(self) -> None:
        """Write what is waiting, now."""
        text = "".join(self._waiting)
        self._waiting.clear()
        if self._forward is not None:
            if text:
                self._forward(text)
        elif self.status is not None:
            self.status.show(text, self._results)
        elif text:
            write(text)

    def finish(self) -> None:
        """Write everything that is left and take the status line away. Safe to call again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._put_grouped()
        self.flush()
        if self.status is not None:
            self.status.stop()
            self.status = None
        self.started = False

    async def stop(self) -> None:
        """Write everything that is left and take the status line away."""
        if os.getpid() == self._creator:
            self.finish()


Console = SharedConsole
