"""Several processes (``-p``): forking them, what they send to their parent, and how they end.

Counts are in shared memory. Everything else goes through one socket pair per child: console text, latency
deltas and how the child ended come up; ``stop`` and ``cancel`` go down. A closed socket means that the other
side is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from molotov import util
from molotov._loading import print_script_error
from molotov._process import Process
from molotov._signals import Signals, release
from molotov.exceptions import RunError
from molotov.ui.output import write

if TYPE_CHECKING:
    from molotov.runner import Runner

__all__ = ["Fleet"]

_HEADER = struct.Struct("!cI")
_TEXT, _LATENCY, _END, _LAG, _ERRORS = b"T", b"L", b"E", b"S", b"F"
_LAG_REPORT = struct.Struct("!d")
_END_REPORT = struct.Struct("!?d?i")
_STOP, _CANCEL = b"s", b"c"
_TICK_SECONDS = 0.05
# After a cancel, a child that is stuck in a blocking call is killed.
_KILL_AFTER_SECONDS = 2.0
_LATENCY_EVERY_TICKS = 10


class _Child:
    """A forked process, as the parent sees it."""

    def __init__(self, index: int, pid: int, link: socket.socket) -> None:
        self.index = index
        self.pid = pid
        self.link = link
        self.received = bytearray()
        self.status: int | None = None
        self.ended = False
        self.exit_code: int | None = None

    def tell(self, command: bytes) -> None:
        # Gone, or so stuck that the buffer is full: either way there is nothing to tell.
        with suppress(OSError):
            self.link.send(command)


class Fleet:
    """The parent's side: forks ``processes`` children and waits for them."""

    def __init__(self, runner: Runner, processes: int) -> None:
        self._runner = runner
        self._processes = processes
        self._children: list[_Child] = []
        self._cancelled = False
        self._done: asyncio.Future[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.on_tick: Callable[[], None] | None = None
        self.exit_code: int | None = None
        self.longest_stall = 0.0
        self.native = True
        self._lag: float | None = None
        # One line for each child that did not end by itself.
        self.casualties: list[str] = []
        # Their numbers.
        self.lost: list[int] = []

    def fork(self) -> None:
        """Fork all children; they never return from here."""
        # What is still buffered would be written by every child.
        write("")
        for index in range(self._processes):
            try:
                ours, theirs = socket.socketpair()
                pid = os.fork()
            except OSError as error:
                self.abandon()
                message = f"Can't start process {index + 1} of {self._processes}: {error.strerror}"
                raise RunError(message) from None
            if pid == 0:
                ours.close()
                for child in self._children:
                    child.link.close()
                _run_child(self._runner, index, theirs)
            theirs.close()
            ours.setblocking(False)
            self._children.append(_Child(index, pid, ours))

    @property
    def pids(self) -> list[int]:
        """The processes that make the load."""
        return [child.pid for child in self._children]

    def take_lag(self) -> float | None:
        """Return how late the latest child's loop was at worst since the last call, in seconds."""
        lag, self._lag = self._lag, None
        return lag

    @property
    def alive(self) -> int:
        """How many children are running."""
        return sum(child.status is None for child in self._children)

    async def wait(self) -> None:
        """Serve the children until the last one has ended."""
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        util._on_stop.append(self.stop)
        for child in self._children:
            loop.add_reader(child.link, self._read, loop, child)
        self._tick(loop)
        try:
            await self._done
        finally:
            util._on_stop.remove(self.stop)
            for timer in self._timers.values():
                timer.cancel()
            for child in self._children:
                loop.remove_reader(child.link)
                child.link.close()

    def stop(self) -> None:
        """Let every child finish its steps in flight."""
        self._runner.state.stopped = True
        for child in self._children:
            child.tell(_STOP)

    def cancel(self) -> None:
        """Let every child cancel its steps, and kill those that do not end."""
        if self._cancelled:
            return
        self._cancelled = True
        util.stop()
        for child in self._children:
            child.tell(_CANCEL)
        loop = asyncio.get_running_loop()
        self._timers["kill"] = loop.call_later(_KILL_AFTER_SECONDS, self._kill)

    def _kill(self) -> None:
        for child in self._children:
            if child.status is None:
                os.kill(child.pid, signal.SIGKILL)

    def abandon(self) -> None:
        """Kill the children that are left, and wait for them: the parent is giving up."""
        self._kill()
        for child in self._children:
            if child.status is None:
                _, child.status = os.waitpid(child.pid, 0)
                self._runner.state.settle(child.index)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        for child in self._children:
            if child.status is None:
                self._reap(loop, child)
        if self._done is not None and not self._done.done() and self.alive == 0:
            self._done.set_result(None)
            return
        if self.on_tick is not None:
            self.on_tick()
        self._timers["tick"] = loop.call_later(_TICK_SECONDS, self._tick, loop)

    def _reap(self, loop: asyncio.AbstractEventLoop, child: _Child) -> None:
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            return
        # Its last words may still be in the socket.
        self._read(loop, child)
        child.status = status
        unfinished = self._runner.state.settle(child.index)
        if child.ended:
            return
        self.lost.append(child.index)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            try:
                how = f"was killed by {signal.Signals(number).name}"
            except ValueError:
                how = f"was killed by signal {number}"
        else:
            how = f"ended unexpectedly with exit code {os.waitstatus_to_exitcode(status)}"
        plural = "" if unfinished == 1 else "s"
        line = f"Process {child.pid} {how}; {unfinished} run{plural} in flight counted as interrupted"
        self.casualties.append(line)
        self._runner.console.print(line)

    def _read(self, loop: asyncio.AbstractEventLoop, child: _Child) -> None:
        while True:
            try:
                data = child.link.recv(1 << 18)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            if not data:
                loop.remove_reader(child.link)
                break
            child.received += data
        self._take_messages(child)

    def _take_messages(self, child: _Child) -> None:
        start = 0
        while len(child.received) - start >= _HEADER.size:
            kind, size = _HEADER.unpack_from(child.received, start)
            body = start + _HEADER.size
            if len(child.received) - body < size:
                break
            start = body + size
            self._take(child, kind, bytes(child.received[body:start]))
        del child.received[:start]

    def _take(self, child: _Child, kind: bytes, content: bytes) -> None:
        if kind == _TEXT:
            self._runner.console.print_raw(content.decode("utf-8", "replace"))
        elif kind == _LATENCY:
            self._runner.recorder.merge(content)
        elif kind == _LAG:
            (lag,) = _LAG_REPORT.unpack(content)
            self._lag = lag if self._lag is None else max(self._lag, lag)
        elif kind == _ERRORS:
            if self._runner.results is not None:
                self._runner.results.report(child.index, content)
        elif kind == _END:
            native, stall, exits, code = _END_REPORT.unpack(content)
            child.ended = True
            self.native = self.native and native
            self.longest_stall = max(self.longest_stall, stall)
            if exits:
                self.exit_code = code
                self.cancel()


class _Link:
    """The child's side of the socket: what cannot be sent at once is kept for the next time."""

    def __init__(self, link: socket.socket) -> None:
        self.socket = link
        self._outgoing = bytearray()
        link.setblocking(False)

    def send(self, kind: bytes, content: bytes) -> None:
        self._outgoing += _HEADER.pack(kind, len(content)) + content
        self.flush()

    def send_text(self, text: str) -> None:
        self.send(_TEXT, text.encode("utf-8", "replace"))

    def flush(self) -> None:
        with suppress(OSError):
            while self._outgoing:
                sent = self.socket.send(self._outgoing)
                del self._outgoing[:sent]

    def finish(self) -> None:
        self.socket.setblocking(True)
        with suppress(OSError):
            self.socket.sendall(self._outgoing)
        self.socket.close()


def _run_child(runner: Runner, index: int, link: socket.socket) -> None:
    """Run the workers of a forked process, and end it."""
    code = 1
    try:
        _run_workers(runner, index, _Link(link))
        code = 0
    except BaseException as error:
        print_script_error(error)
    finally:
        with suppress(Exception):
            write("")
            sys.stderr.flush()
        # Nothing that the parent registered (atexit, its event loop) may run twice.
        os._exit(code)


def _run_workers(runner: Runner, index: int, link: _Link) -> None:
    runner.state.attach(index)
    util._on_stop.clear()
    runner.console.forward(link.send_text)
    loop = runner.new_loop()
    asyncio.set_event_loop(loop)
    process = Process(
        runner.args,
        runner.console,
        loop,
        state=runner.state,
        recorder=runner.recorder,
        schedule=runner.schedule,
    )

    def obey() -> None:
        try:
            commands = link.socket.recv(64)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            commands = b""
        if not commands:
            loop.remove_reader(link.socket)
        if _CANCEL in commands or not commands:
            process.cancel()
        else:
            util.stop()

    ticks = 0
    sent = 0

    def report_failures() -> None:
        nonlocal sent
        failures = runner.console.failures
        if runner.results is not None and failures.count != sent:
            sent = failures.count
            link.send(_ERRORS, runner.results.described())

    def report() -> None:
        nonlocal ticks
        ticks += 1
        runner.console.flush()
        if ticks % _LATENCY_EVERY_TICKS == 0:
            link.send(_LATENCY, runner.recorder.snapshot())
            lag = process.take_lag()
            if lag is not None and runner.results is not None:
                link.send(_LAG, _LAG_REPORT.pack(lag))
            report_failures()
        else:
            link.flush()

    signals = Signals(loop, util.stop, None)
    signals.install()
    # Ctrl-C reaches every process of the terminal; the parent tells the children what to do about it.
    loop.remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda *_: None)
    release()
    loop.add_reader(link.socket, obey)
    process.on_tick = report
    process.run()
    loop.remove_reader(link.socket)
    runner.console.finish()
    link.send(_LATENCY, runner.recorder.snapshot())
    report_failures()
    code = process.exit_code
    link.send(_END, _END_REPORT.pack(process.native, process.longest_stall, code is not None, code or 0))
    link.finish()
    loop.close()
