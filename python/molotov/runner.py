"""A whole run: global fixtures, one process or several, the console, sizing, and the results."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

from molotov import _core, util
from molotov._limits import make_room_for
from molotov._options import RESULT_OPTIONS, option
from molotov._process import Process
from molotov._rate import schedule_for
from molotov._signals import Signals, held
from molotov.api import get_fixture
from molotov.listeners import EventSender
from molotov.shared.counter import Counters

__all__ = ["Runner"]

_WORKERS_EVENT_SECONDS = 1.0
_OBSERVE_SECONDS = 0.2


class Runner:
    """Runs what the command line asks for: ``Runner(args)()`` returns the counters.

    ``args`` is the namespace of the command, or a hand-made one; its ``shared_console`` is where the run
    prints. Passing a ``loop`` runs everything on it, through the engine's bridge if it is not a native one.
    """

    def __init__(self, args: Any, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.args = args
        self.console = args.shared_console
        self.processes = max(option(args, "processes"), 1)
        self.state = _core.RunState(self.processes)
        self.recorder = _core.Recorder()
        # Where a rate is set: when runs start.
        self.schedule = schedule_for(args)
        self.sizing: Any = None
        self.results: Any = None
        # How the run went, for the summary.
        self.elapsed = 0.0
        self.longest_stall = 0.0
        self.native = True
        self.casualties: list[str] = []
        self.interrupted = False
        self._results = Counters(
            "WORKER",
            "REACHED",
            "RATIO",
            "OK",
            "FAILED",
            "MINUTE_OK",
            "MINUTE_FAILED",
            "MAX_WORKERS",
            "SETUP_FAILED",
            "SESSION_SETUP_FAILED",
            "PROCESS",
        )
        if option(args, "sizing"):
            from molotov._sizing import sizing_for

            self.sizing = sizing_for(args, self.state, self.recorder, self.processes)
        reported = self.sizing is not None or self.schedule is not None
        if reported or any(option(args, name) for name in RESULT_OPTIONS):
            from molotov._results import results_for

            self.results = results_for(args, self)
        util.reset_stop()
        if loop is None:
            # With several processes this one only waits for them; no engine may exist before the fork.
            loop = self.new_loop() if self.processes == 1 else asyncio.new_event_loop()
        self.loop = loop
        # Scripts ask for the current loop in global_setup.
        asyncio.set_event_loop(loop)
        if option(args, "quiet"):
            self.console.silence()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a loop for workers: uvloop's, that of the script's own policy, else a native one."""
        if option(self.args, "uvloop"):
            import uvloop

            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
        # Read without asyncio.get_event_loop_policy(), which would make one and is deprecated from 3.14 on.
        policy = getattr(asyncio.events, "_event_loop_policy", None)
        if policy is not None and not type(policy).__module__.startswith("asyncio."):
            foreign: asyncio.AbstractEventLoop = policy.new_event_loop()
            return foreign
        from molotov._loop import new_event_loop

        return new_event_loop()

    def __call__(self) -> Counters:
        """Run everything and return the counters.

        Raises what ``global_setup`` raises, and SystemExit for a scenario that called ``sys.exit``.
        """
        warning = make_room_for(option(self.args, "workers"))
        if warning is not None:
            print(warning, file=sys.stderr)
        self._global_setup()
        self.args.original_pid = os.getpid()
        began = monotonic()
        if self.results is not None:
            self.results.begin()
        try:
            code = self._run_one() if self.processes == 1 else self._run_several()
        finally:
            self.elapsed = monotonic() - began
            self.console.finish()
            self._global_teardown()
            self._close_loop()
        if self.sizing is not None:
            self.sizing.finish(self.state.stopped)
        self._fill_results()
        if self.results is not None:
            self.results.finish()
        if code is not None:
            if self.results is not None:
                self.results.end(code, "a scenario called sys.exit", sys.__stdout__)
            sys.exit(code)
        return self._results

    def _global_setup(self) -> None:
        fixture = get_fixture("global_setup")
        if fixture is None:
            return
        try:
            fixture(self.args)
        except BaseException:
            # The caller shows the traceback; this says where it comes from.
            self.console.print("The global_setup() fixture failed")
            self.console.finish()
            self._close_loop()
            raise

    def _global_teardown(self) -> None:
        fixture = get_fixture("global_teardown")
        if fixture is None:
            return
        try:
            fixture()
        except Exception as error:
            # Nothing is left to be stopped by it, and the console has ended.
            print(f"The global_teardown() fixture failed: {error!r}")

    def _close_loop(self) -> None:
        if not self.loop.is_closed() and not self.loop.is_running():
            self.loop.close()

    def _run_one(self) -> int | None:
        process = Process(
            self.args,
            self.console,
            self.loop,
            state=self.state,
            recorder=self.recorder,
            schedule=self.schedule,
        )
        self._results["PROCESS"] = 1
        parent = _Parent(self, process)
        stop = process.force_shutdown if option(self.args, "force_shutdown") else util.stop
        signals = Signals(self.loop, stop, process.cancel)
        signals.install()
        if self.results is not None:
            self.results.start_monitor([os.getpid()])
        try:
            self.loop.run_until_complete(parent.start())
            process.run()
            self._run_last(parent.stop())
        finally:
            signals.remove()
            self.interrupted = signals.received
            self.native = process.native
            self.longest_stall = process.longest_stall
            # Runs that were cut too hard to count themselves.
            self.state.settle(0)
        return process.exit_code

    def _run_several(self) -> int | None:
        from molotov._processes import Fleet

        if not option(self.args, "quiet"):
            self.console.print(f"Forking {self.processes} processes")
        fleet = Fleet(self, self.processes)
        with held():
            fleet.fork()
            parent = _Parent(self, fleet)
            stop = fleet.cancel if option(self.args, "force_shutdown") else util.stop
            signals = Signals(self.loop, stop, fleet.cancel)
            signals.install()
        if self.results is not None:
            self.results.start_monitor([os.getpid(), *fleet.pids])
        try:
            self.loop.run_until_complete(parent.start())
            self.loop.run_until_complete(fleet.wait())
            self._run_last(parent.stop())
        except KeyboardInterrupt:
            pass
        finally:
            fleet.abandon()
            signals.remove()
            self.interrupted = signals.received
            util.stop()
            if self.schedule is not None:
                # Nobody else starts what a process that died would have.
                for index in fleet.lost:
                    self.schedule.lose(self.state, index)
            self.native = fleet.native
            self.longest_stall = fleet.longest_stall
            self.casualties = fleet.casualties
        return fleet.exit_code

    def _run_last(self, coroutine: Any) -> None:
        try:
            self.loop.run_until_complete(coroutine)
        except (KeyboardInterrupt, SystemExit):
            pass

    def live_results(self) -> dict[str, int]:
        """Return the counts that the status line shows."""
        state = self.state
        results = {
            "OK": state.succeeded,
            "FAILED": state.failed,
            "WORKER": state.workers - state.parked,
            "PROCESS": self.processes,
            "REQUESTS": state.requests,
        }
        if self.schedule is not None:
            results["TARGET"] = round(self.schedule.asked(state))
            results["STARTED"] = state.started
        return results

    def _fill_results(self) -> None:
        state, results = self.state, self._results
        values = {
            "OK": state.succeeded,
            "FAILED": state.failed,
            "MINUTE_OK": state.succeeded,
            "MINUTE_FAILED": state.failed,
            "WORKER": 0,
            "PROCESS": 0,
            "MAX_WORKERS": state.workers_started,
            "SETUP_FAILED": state.setup_failed,
            "SESSION_SETUP_FAILED": state.session_setup_failed,
            "REACHED": int(state.reached),
        }
        if self.sizing is not None:
            values.update(self.sizing.results())
        for name, value in values.items():
            results[name] = value


class _Parent:
    """What the first process does beside its workers or children: console, sizing, ``current_workers``."""

    def __init__(self, runner: Runner, work: Any) -> None:
        self._runner = runner
        self._work = work
        self._eventer = EventSender(runner.console)
        self._next_event = 0.0
        self._next_observation = 0.0
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        if not option(self._runner.args, "quiet"):
            await self._runner.console.start()
        self._work.on_tick = self._guarded(self._tick)

    def _guarded(self, tick: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                tick()
            except Exception as error:
                # Shown once, and the run goes on without it.
                self._work.on_tick = None
                self._runner.console.print_error(error)

        return run

    def _tick(self) -> None:
        runner = self._runner
        now = runner.loop.time()
        if now >= self._next_observation:
            self._next_observation = now + _OBSERVE_SECONDS
            runner.console.print_results(runner.live_results())
            if runner.sizing is not None:
                if runner.results is not None:
                    runner.results.sizing_observed()
                if runner.sizing.observe(now):
                    util.stop()
        if runner.results is not None:
            runner.results.tick(self._work.take_lag)
        if self._eventer and now >= self._next_event:
            self._next_event = now + _WORKERS_EVENT_SECONDS
            task = runner.loop.create_task(self._send_workers())
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_workers(self) -> None:
        await self._eventer.send_event("current_workers", workers=self._runner.state.workers)

    async def stop(self) -> None:
        if self._eventer:
            await self._send_workers()
        self._runner.console.finish()
