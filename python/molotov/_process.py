"""The workers of one process, and what they share: the plan, the counts, the reaction to a stop.

The runner makes one in its own process, or one in each forked child (``-p``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from molotov import _core, _errors, util
from molotov._options import option
from molotov._rate import ends_after
from molotov.api import get_fixture, get_scenario, get_scenarios, session_options
from molotov.listeners import EventSender
from molotov.worker import Worker, run_with_events

__all__ = ["Process"]

_TICK_SECONDS = 0.1
_PROGRESS_PER_TICK = 20
# How long cancelled work may take to end, its session teardowns included.
_GRACE_SECONDS = 1.0
_FORCED_GRACE_SECONDS = 5.0
# Timers cannot be infinitely far away.
_LONGEST_SECONDS = 1e9


class Process:
    """Runs the workers of this process on ``loop`` and counts into ``state`` and ``recorder``."""

    def __init__(
        self,
        args: Any,
        console: Any,
        loop: asyncio.AbstractEventLoop,
        *,
        state: Any = None,
        recorder: Any = None,
        statsd: Any = None,
        schedule: Any = None,
    ) -> None:
        self.args = args
        self.console = console
        self.loop = loop
        self.statsd = statsd
        # Where a rate is set: when runs start.
        self.schedule = schedule
        self.state = _core.RunState(1) if state is None else state
        self.recorder = _core.Recorder() if recorder is None else recorder
        self.eventer = EventSender(console)
        self.cancelled = False
        # What a scenario passed to sys.exit, None as long as none did.
        self.exit_code: int | None = None
        # The longest time that the loop could not run its timers, in seconds.
        self.longest_stall = 0.0
        # The same since the last look at it.
        self._lag: float | None = None
        self._closed: asyncio.Future[None] | None = None
        self.plan = self._make_plan()
        self.on_tick: Callable[[], None] | None = None
        self._workers: dict[int, Worker] = {}
        self._tasks: list[asyncio.Task[None]] = []
        # Workers that a sizing run has not asked for yet, in their order.
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._sleeps_ended = False
        self._progress_left = _PROGRESS_PER_TICK
        self._timers: dict[str, asyncio.TimerHandle] = {}
        util._on_stop.append(self._told_to_stop)
        _errors.reserve()

    @property
    def native(self) -> bool:
        """Whether the engine drives the loop itself, rather than through the bridge."""
        return bool(self.plan.native)

    def _make_plan(self) -> Any:
        args = self.args
        scenarios = get_scenarios()
        for item in scenarios:
            kind, _ = session_options(item)
            if kind != "http":
                item["kind"] = kind
        # The engine's own sleeps do not call asyncio.sleep; who replaces that (to fake time) means them too.
        delay = float(option(args, "delay"))
        self._slept_delay = delay if asyncio.sleep is not asyncio.tasks.sleep else None
        if self._slept_delay is not None:
            delay = 0.0
            scenarios = [{**item, "delay": 0.0} for item in scenarios]
        single = option(args, "single_mode")
        single_run = bool(option(args, "single_run"))
        return _core.Plan(
            self.state,
            self.recorder,
            scenarios,
            loop=self.loop,
            max_runs=option(args, "max_runs"),
            duration=float(option(args, "duration")),
            schedule=self.schedule,
            workers=max(option(args, "workers"), 0),
            on_grow=self._grow,
            on_close=self._close_schedule,
            delay=delay,
            picker=None if single or single_run else get_fixture("scenario_picker"),
            single=single,
            single_run=single_run,
            open_session=self._open_session,
            wrap=self._run_wrapped if self.eventer or self._slept_delay is not None else None,
            on_failure=self._on_failure,
            on_progress=None if option(args, "quiet") else self._on_progress,
        )

    def adopt(self, worker: Worker) -> None:
        """Take in a worker that was not made here."""
        self._workers[worker.wid] = worker

    # What the engine calls.

    async def _open_session(self, engine_worker: Any, scenario: dict[str, Any]) -> Any:
        return await self._workers[engine_worker.worker_id].open_session(scenario)

    async def _run_wrapped(self, engine_worker: Any, scenario: dict[str, Any], session: Any) -> None:
        scenario = get_scenario(scenario["name"]) or scenario
        after = self._slept_delay or 0.0
        try:
            await run_with_events(self.eventer, engine_worker.worker_id, scenario, session)
            if self._slept_delay is not None and scenario["delay"] > 0.0:
                await util.cancellable_sleep(scenario["delay"])
        finally:
            if after > 0.0:
                await util.cancellable_sleep(after)

    def _on_failure(self, engine_worker: Any, scenario: dict[str, Any] | None, error: BaseException) -> None:
        if scenario is None:
            self.console.print(f"[W:{engine_worker.worker_id}] {error}")
        self.failed(engine_worker.worker_id, error)

    def _on_progress(self, engine_worker: Any, count: int) -> None:
        # Short runs would print tens of thousands of these a second.
        if self._progress_left <= 0:
            return
        self._progress_left -= 1
        self.console.print(f"[W:{engine_worker.worker_id}] Ran {count} scenarios")

    def failed(self, wid: int, error: BaseException) -> None:
        """React to a run that has failed and is counted already."""
        if isinstance(error, SystemExit):
            self.exit_code = exit_code(error)
            self._cancel_soon()
        elif isinstance(error, KeyboardInterrupt):
            self._cancel_soon()
        else:
            worker = self._workers.get(wid)
            what = "Failure!"
            if worker is not None and error is worker.without_session:
                what = "Session creation failure!"
            self.console.print_failure(f"[W:{wid}] {what}", error)
            if option(self.args, "exception"):
                util.stop(why=error)

    # With a rate.

    def _grow(self, workers: int) -> None:
        """Start more workers, because runs are due and all others are busy."""
        first = len(self._workers)
        for wid in range(first, first + workers):
            self._start_worker(wid, 0.0)

    def _close_schedule(self) -> None:
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    async def _follow_schedule(self) -> None:
        self._closed = self.loop.create_future()
        self.plan.begin()
        seconds = ends_after(self.args, self.schedule)
        if option(self.args, "force_shutdown") and seconds < _LONGEST_SECONDS:
            self._timers["force"] = self.loop.call_later(seconds, self.force_shutdown)
        if not self.state.stopped and not util.is_stopped():
            await self._closed

    # Stopping.

    def _told_to_stop(self) -> None:
        """Make every process see it; runs in whatever thread or callback called ``stop``."""
        self.state.stopped = True
        if not self.loop.is_closed():
            # Never at once: the caller may be inside a step of the engine.
            self.loop.call_soon_threadsafe(self._end_sleeps)

    def _end_sleeps(self) -> None:
        self._sleeps_ended = True
        self.plan.stop()
        util.cancellable_sleep.cancel_all()
        self._admit()

    async def admit(self, wid: int) -> None:
        """Wait until that many workers are allowed, or the run is stopped."""
        if not self.state.may_run(wid) and not util.is_stopped():
            turn = self.loop.create_future()
            self._waiting.append((wid, turn))
            await turn

    def _admit(self) -> None:
        stopped = util.is_stopped()
        while self._waiting and (stopped or self.state.may_run(self._waiting[0][0])):
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def _cancel_soon(self) -> None:
        util.stop()
        self.loop.call_soon(self.cancel)

    def cancel(self, grace: float = _GRACE_SECONDS) -> None:
        """Cancel runs in flight and workers not yet started; the teardowns get ``grace`` seconds."""
        if self.cancelled:
            return
        self.cancelled = True
        util.stop()
        self.plan.cancel()
        for worker, task in zip(self._workers.values(), self._tasks, strict=False):
            if worker.phase == "starting":
                task.cancel()
        self._timers["give up"] = self.loop.call_later(grace, self._give_up)

    def _give_up(self) -> None:
        for task in self._tasks:
            task.cancel()

    def force_shutdown(self) -> None:
        """Cancel as ``--force-shutdown`` asks for: with more time for the teardowns."""
        self.cancel(_FORCED_GRACE_SECONDS)

    # Running.

    def run(self) -> None:
        """Run all workers to their end."""
        try:
            self.loop.run_until_complete(self._run())
        except SystemExit as error:
            self.exit_code = exit_code(error)
            self._abort()
        except KeyboardInterrupt:
            self._abort()
        finally:
            self.close()

    def _abort(self) -> None:
        self.cancel()
        pending = [task for task in self._tasks if not task.done()]
        if pending:
            try:
                self.loop.run_until_complete(asyncio.wait(pending, timeout=2 * _GRACE_SECONDS))
            except (KeyboardInterrupt, SystemExit):
                pass

    async def _run(self) -> None:
        args = self.args
        if option(args, "debug"):
            self.console.print("**** RUNNING IN DEBUG MODE == SLOW ****")
            self.loop.set_debug(True)
        await self._connect_statsd()
        if option(args, "force_shutdown") and self.schedule is None:
            self._timers["force"] = self.loop.call_later(option(args, "duration"), self.force_shutdown)
        self._tick(self.loop.time())
        workers = max(option(args, "workers"), 0)
        if self.schedule is not None:
            if not option(args, "quiet"):
                self.console.print(f"Starting up to {workers} workers as they are needed")
            await self._follow_schedule()
        elif option(args, "quiet"):
            self._start_workers(workers)
        else:
            plural = "s" if workers > 1 else ""
            self.console.print_block(
                f"Preparing {workers} worker{plural}", lambda: self._start_workers(workers)
            )
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._count_dead_workers()
        if self.statsd is not None:
            await self.statsd.close()
        await self._end_background_tasks()

    def _start_workers(self, workers: int) -> None:
        # A search decides itself when the next one starts.
        searched = self.state.allowed_workers is not None
        interval = option(self.args, "ramp_up") / workers if workers and not searched else 0.0
        for wid in range(workers):
            self._start_worker(wid, wid * interval)

    def _start_worker(self, wid: int, delay: float) -> None:
        worker = Worker(wid, None, self.console, self.args, self.statsd, delay, self.loop, process=self)
        self._workers[wid] = worker
        self._tasks.append(self.loop.create_task(worker.run()))

    async def _connect_statsd(self) -> None:
        if not option(self.args, "statsd"):
            return
        from molotov._statsd import get_statsd_client

        self.statsd = get_statsd_client(option(self.args, "statsd_address"))
        try:
            await self.statsd.connect()
        except OSError as error:
            self.console.print(f"Can't reach statsd: {error}")

    def _tick(self, due: float) -> None:
        now = self.loop.time()
        self._progress_left = _PROGRESS_PER_TICK
        lag = max(now - due, 0.0)
        self._lag = lag if self._lag is None else max(self._lag, lag)
        self.longest_stall = max(self.longest_stall, lag)
        if not self._sleeps_ended and (self.state.stopped or self.state.reached or util.is_stopped()):
            util.stop()
        if self.on_tick is not None:
            self.on_tick()
        self._admit()
        self.plan.wake()
        due = now + _TICK_SECONDS
        self._timers["tick"] = self.loop.call_at(due, self._tick, due)

    def take_lag(self) -> float | None:
        """Return how late the loop was at worst since the last call, in seconds; None when nobody knows."""
        lag, self._lag = self._lag, None
        return lag

    def _count_dead_workers(self) -> None:
        for wid, task in enumerate(self._tasks):
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self.state.add("started", 1)
                self.state.add("failed", 1)
                if self.schedule is not None:
                    # A start of its own: the one that it was made for counts as not started.
                    self.state.add("intended", 1)
                self.console.print(f"[W:{wid}] The worker died")
                self.failed(wid, error)

    async def _end_background_tasks(self) -> None:
        """Cancel what scenarios left running, as ``asyncio.run`` would."""
        own = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not own and not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_GRACE_SECONDS)

    def close(self) -> None:
        """Stop the timers and close the books: every run that was started has ended somehow."""
        for timer in self._timers.values():
            timer.cancel()
        self.plan.close()
        if self._told_to_stop in util._on_stop:
            util._on_stop.remove(self._told_to_stop)
        util.stop()

    def fill(self, results: Any) -> None:
        """Write the counts into the original's ``Counters``."""
        state = self.state
        for name, value in {
            "OK": state.succeeded,
            "FAILED": state.failed,
            "WORKER": state.workers,
            "MAX_WORKERS": state.workers_started,
            "SETUP_FAILED": state.setup_failed,
            "SESSION_SETUP_FAILED": state.session_setup_failed,
            "REACHED": int(state.reached),
        }.items():
            if name in results:
                results[name] = value


def exit_code(error: SystemExit) -> int:
    """Return the exit code that ``sys.exit`` would end the process with."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1
