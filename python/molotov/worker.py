"""The life of one worker: start, set up, run its steps on the engine, tear down.

The steps themselves (picking, stepping, counting) are the engine's, ``_core.Worker``; this is what surrounds
them, and the fixtures. A :class:`molotov._process.Process` owns the workers of a process.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from molotov._options import option
from molotov.api import create_session, get_fixture, pick_scenario, session_options
from molotov.exceptions import FixtureError
from molotov.listeners import EventSender
from molotov.util import cancellable_sleep, is_stopped, stop

if TYPE_CHECKING:
    from molotov._process import Process

__all__ = ["FixtureError", "Worker", "WorkerContext"]


class WorkerContext:
    """What :func:`molotov.get_context` returns in a worker's session."""

    def __init__(self, statsd: Any, args: Any, worker_id: int, engine_worker: Any = None) -> None:
        self.statsd = statsd
        self.args = args
        self.worker_id = worker_id
        self._engine_worker = engine_worker
        self._step: int | None = None

    @property
    def step(self) -> int | None:
        """The number of the worker's present run, from 1; None before the first."""
        if self._step is not None or self._engine_worker is None:
            return self._step
        step: int | None = self._engine_worker.step
        return step

    @step.setter
    def step(self, value: int | None) -> None:
        self._step = value

    def attach(self, name: str, value: Any) -> None:
        """Keep ``value`` on this context as the attribute ``name``."""
        setattr(self, name, value)


class Worker:
    """A virtual user. ``delay`` is how many seconds after the others it starts.

    Made without a ``process``, as the original's could be, it runs by itself and counts into ``results``.
    """

    def __init__(
        self,
        wid: int,
        results: Any,
        console: Any,
        args: Any,
        statsd: Any = None,
        delay: float = 0,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        process: Process | None = None,
    ) -> None:
        self.wid = wid
        self.results = results
        self.console = console
        self.args = args
        self.statsd = statsd
        self.delay = delay
        self.loop = loop
        self.eventer = process.eventer if process is not None else EventSender(console)
        self.sessions: dict[str, Any] = {}
        # Why the last session could not be made.
        self.without_session: BaseException | None = None
        # "starting", "steps" (the engine's), or "ending".
        self.phase = "starting"
        self._process = process
        self._engine_worker: Any = None
        self._options: dict[str, Any] = {}

    def print(self, line: str) -> None:
        """Print a line with the worker's number."""
        self.console.print(f"[W:{self.wid}] {line}")

    async def run(self) -> None:
        """Live: from ``Starting`` to the teardown."""
        if self._process is None:
            await self._run_alone()
            return
        self.print("Starting")
        await asyncio.sleep(0)
        if self.delay > 0.0 and not is_stopped():
            await cancellable_sleep(self.delay)
        await self._process.admit(self.wid)
        state = self._process.state
        if is_stopped() or state.stopped or state.reached:
            return
        state.add("workers", 1)
        state.add("workers_started", 1)
        try:
            await self._run(self._process)
        finally:
            self.teardown()
            state.add("workers", -1)

    async def _run_alone(self) -> None:
        from molotov._process import Process

        loop = self.loop or asyncio.get_running_loop()
        process = Process(self.args, self.console, loop, statsd=self.statsd)
        self._process = process
        process.adopt(self)
        try:
            await self.run()
        finally:
            process.fill(self.results)
            process.close()

    async def _run(self, process: Process) -> None:
        try:
            self._options = await self.setup()
        except FixtureError as error:
            process.state.add("setup_failed", 1)
            stop(why=error)
            return
        self.print("Running scenarios")
        self._engine_worker = process.plan.worker(self.wid)
        try:
            self.phase = "steps"
            await self._engine_worker.run()
        except FixtureError as error:
            process.state.add("session_setup_failed", 1)
            stop(why=error)
        except asyncio.CancelledError:
            if not process.cancelled:
                raise
        finally:
            self.phase = "ending"
        self.print("Done!")
        await self._close_sessions()

    async def setup(self) -> dict[str, Any]:
        """Call the ``setup`` fixture; raises :class:`FixtureError` when it fails or returns no dict."""
        fixture = get_fixture("setup")
        if fixture is None:
            return {}
        try:
            options = await fixture(self.wid, self.args)
        except Exception as error:
            self.console.print_error(error)
            raise FixtureError(str(error)) from error
        if options is None:
            return {}
        if not isinstance(options, dict):
            message = "The setup function needs to return a dict"
            self.print(message)
            raise FixtureError(message)
        return options

    async def open_session(self, scenario: dict[str, Any]) -> Any:
        """Make the session that a scenario needs and call ``setup_session``, which may raise FixtureError."""
        kind = scenario.get("kind", "http")
        self.print(f"Setting up session of kind {kind}")
        try:
            session = self._make_session(kind, scenario)
            if inspect.isawaitable(session):
                session = await session
        except Exception as error:
            # E.g. of what `setup` returned. The engine counts the run as failed and tries again.
            self.without_session = error
            await self.eventer.send_event(
                "scenario_failure", wid=self.wid, scenario=scenario, exception=error
            )
            raise
        # Known before its fixture runs: it is closed also when that fails.
        self.sessions[kind] = session
        fixture = get_fixture("setup_session")
        if fixture is not None:
            try:
                await fixture(self.wid, session)
            except Exception as error:
                self.console.print_error(error)
                raise FixtureError(str(error)) from error
        return session

    def _make_session(self, kind: str, scenario: dict[str, Any]) -> Any:
        from molotov.session import SessionTracer, get_eventer, get_session

        process = self._process
        verbose = option(self.args, "verbose")
        loop = asyncio.get_running_loop()
        context = WorkerContext(self.statsd, self.args, self.wid, self._engine_worker)
        if kind != "http":
            tracer = SessionTracer(loop, self.console, verbose, self.statsd)
            tracer.context = context  # type: ignore[assignment]
            options = {**self._options, **session_options(scenario)[1]}
            return create_session(kind, loop, self.console, verbose, self.statsd, tracer, **options)
        measured = {} if process is None else {"recorder": process.recorder, "state": process.state}
        session = get_session(loop, self.console, verbose, self.statsd, **measured, **self._options)
        eventer = get_eventer(session)
        if eventer is not None:
            eventer.context = context  # type: ignore[assignment]
        if not hasattr(session, "print"):
            session.print = self.console.print  # type: ignore[attr-defined]
        return session

    async def _close_sessions(self) -> None:
        for session in list(self.sessions.values()):
            await self.session_teardown(session)
            try:
                await session.close()
            except Exception as error:
                self.console.print_error(error)
        self.sessions.clear()

    async def session_teardown(self, session: Any) -> None:
        """Call the ``teardown_session`` fixture; what it raises is printed."""
        fixture = get_fixture("teardown_session")
        if fixture is None:
            return
        try:
            await fixture(self.wid, session)
        except Exception as error:
            self.console.print_error(error)

    def teardown(self) -> None:
        """Call the ``teardown`` fixture; what it raises is printed."""
        fixture = get_fixture("teardown")
        if fixture is None:
            return
        try:
            fixture(self.wid)
        except Exception as error:
            self.console.print_error(error)

    async def step(
        self, step_id: int, session: Any, scenario: dict[str, Any] | None = None
    ) -> BaseException | int:
        """Run one scenario outside of the engine; returns 1, or the exception that it failed with."""
        if scenario is None:
            scenario = pick_scenario(self.wid, step_id)
        try:
            if scenario is None:
                raise ValueError("Could not pick a scenario")
            await run_with_events(self.eventer, self.wid, scenario, session)
            if scenario["delay"] > 0.0:
                await cancellable_sleep(scenario["delay"])
        except Exception as error:
            self.console.print_failure(f"[W:{self.wid}] Failure!", error)
            return error
        return 1


async def run_with_events(eventer: EventSender, wid: int, scenario: dict[str, Any], session: Any) -> None:
    """Run a scenario and send its events."""
    await eventer.send_event("scenario_start", wid=wid, scenario=scenario)
    try:
        await scenario["func"](session, *scenario["args"], **scenario["kw"])
    except Exception as error:
        await eventer.send_event("scenario_failure", wid=wid, scenario=scenario, exception=error)
        raise
    await eventer.send_event("scenario_success", wid=wid, scenario=scenario)
