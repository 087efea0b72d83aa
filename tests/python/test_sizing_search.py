"""The search for the capacity, as the runner will use it, and workers that pause and go on."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from molotov import new_event_loop
from molotov._core import Plan, Recorder, RunState, SizingSearch

LOOK_SECONDS = 0.2
DEADLINE_SECONDS = 30.0  # a pause or a run that has not come about by then never will


def _search(search, throughput, failing=lambda n: 0.0, milliseconds=20):
    """Lead a run on a service given as functions of the workers, in virtual time."""
    state, recorder = RunState(), Recorder()
    done = {"succeeded": 0.0, "failed": 0.0}
    for look in range(10_000):
        workers, phase, over = search.step(look * LOOK_SECONDS, state, recorder)
        if over:
            assert phase == "done"
            return json.loads(search.findings())
        state.add("workers", workers - state.workers)
        for name, rate in (("succeeded", throughput(workers)), ("failed", failing(workers))):
            before = int(done[name])
            done[name] += rate * LOOK_SECONDS
            fresh = int(done[name]) - before
            state.add(name, fresh)
            state.add("started", fresh)
            state.add("requests", fresh)
            for _ in range(fresh):
                recorder.record("request", "GET http://localhost/", milliseconds / 1000)
    raise AssertionError("no end")


def test_a_search_finds_the_knee_and_confirms_it():
    search = SizingSearch(workers=200)
    findings = _search(search, lambda n: 5 * min(n, 20))
    capacity = findings["capacity"]
    assert capacity["confirmed"]
    assert 18 <= capacity["level"] <= 24
    rate = capacity["requests_per_second"]
    assert rate["low"] <= 100 <= rate["high"]
    assert rate["mean"] == pytest.approx(100, rel=0.05)
    assert capacity["service_times"]["p95_seconds"] == pytest.approx(0.02, rel=0.01)
    assert findings["ramp_ended"] == "plateau"
    assert [time["phase"] for time in findings["phases"]] == ["ramp", "search", "confirm"]
    assert f"at {capacity['level']:.0f} workers" in search.headline()


def test_a_search_keeps_the_length_of_a_ramp():
    findings = _search(SizingSearch(workers=60, ramp_up=60), lambda n: 5 * min(n, 15))
    ramp = findings["phases"][0]
    assert ramp["phase"] == "ramp"
    assert 20 < ramp["ended_seconds"] < 70
    assert findings["capacity"]["runs_per_second"]["mean"] == pytest.approx(75, rel=0.05)


def test_a_search_in_which_nothing_succeeds_has_no_capacity():
    search = SizingSearch()
    findings = _search(search, lambda n: 0, lambda n: 50 * n)
    assert findings["capacity"] is None
    assert findings["ramp_ended"] == "all_failed"
    assert search.headline() == "no level was sustainable"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latency_rule": "p95>500ms"}, "expected a percentile"),
        ({"tolerance": 101}, "percentage"),
        ({"ramp_up": -1.0}, "-1 seconds"),
        ({"budget": float("nan")}, "NaN seconds"),
    ],
)
def test_a_search_refuses_what_it_cannot_keep(arguments, message):
    with pytest.raises(ValueError, match=message):
        SizingSearch(**arguments)


def test_the_allowed_workers_are_seen_by_every_process():
    state = RunState(2)
    assert state.allowed_workers is None
    child = os.fork()
    if child == 0:
        state.allowed_workers = 7
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state.allowed_workers == 7
    state.allowed_workers = None
    assert state.allowed_workers is None
    assert state.parked == 0


class _Run:
    """Workers of a plan whose scenario yields once, on a loop of their own."""

    def __init__(self, workers, **limits):
        self.state = RunState()
        self.opened: list[int] = []
        self.runs = dict.fromkeys(range(workers), 0)
        self.loop = asyncio.get_running_loop()
        self.plan = Plan(
            self.state,
            Recorder(),
            [{"name": "step", "func": self.step, "weight": 1}],
            loop=self.loop,
            open_session=self.open_session,
            on_failure=lambda worker, scenario, error: self.failures.append(error),
            **limits,
        )
        self.failures: list[BaseException] = []
        self.workers = [self.plan.worker(number) for number in range(workers)]

    async def open_session(self, worker, scenario):
        self.opened.append(worker.worker_id)
        return worker.worker_id

    async def step(self, session):
        self.runs[session] += 1
        await asyncio.sleep(0)

    def start(self):
        self.ends = [worker.run() for worker in self.workers]

    async def until(self, condition):
        async def poll():
            while not condition():
                await asyncio.sleep(0.001)

        await asyncio.wait_for(poll(), DEADLINE_SECONDS)

    async def beyond(self, numbers):
        """Wait until each of these workers has begun another run."""
        before = dict(self.runs)
        await self.until(lambda: all(self.runs[number] > before[number] for number in numbers))

    async def end(self):
        self.plan.stop()
        await asyncio.wait_for(asyncio.gather(*self.ends), DEADLINE_SECONDS)
        assert self.failures == []
        assert self.state.parked == 0
        assert self.state.started == self.state.succeeded == sum(self.runs.values())


def _run(main):
    loop = new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_workers_pause_and_go_on_with_their_session():
    async def main():
        run = _Run(4)
        run.start()
        await run.beyond([0, 1, 2, 3])
        run.state.allowed_workers = 2
        await run.until(lambda: run.state.parked == 2)
        paused = (run.runs[2], run.runs[3])
        await run.beyond([0, 1])
        run.plan.wake()
        await run.beyond([0, 1])
        assert (run.runs[2], run.runs[3]) == paused
        run.state.allowed_workers = 3
        run.plan.wake()
        run.plan.wake()  # the second finds it woken
        await run.beyond([2])
        assert (run.runs[3], run.state.parked) == (paused[1], 1)
        run.state.allowed_workers = None
        run.plan.wake()
        await run.beyond([0, 1, 2, 3])
        assert sorted(run.opened) == [0, 1, 2, 3]
        await run.end()

    _run(main)


def test_a_stop_ends_workers_that_pause():
    async def main():
        run = _Run(3)
        run.state.allowed_workers = 0
        run.start()
        await run.until(lambda: run.state.parked == 3)
        assert run.opened == []
        await run.end()

    _run(main)


def test_a_cancel_ends_workers_that_pause():
    async def main():
        run = _Run(3)
        run.state.allowed_workers = 1
        run.start()
        await run.until(lambda: run.state.parked == 2)
        run.plan.cancel()
        await asyncio.wait_for(asyncio.gather(*run.ends), DEADLINE_SECONDS)
        assert run.state.parked == 0
        assert run.state.started == run.state.succeeded + run.state.interrupted

    _run(main)


def test_the_end_of_the_duration_ends_workers_that_pause():
    async def main():
        run = _Run(2, duration=0.05)
        run.state.allowed_workers = 0
        run.start()

        def ended():
            run.plan.wake()
            return all(end.done() for end in run.ends)

        await run.until(ended)
        await run.end()
        assert run.runs == {0: 0, 1: 0}

    _run(main)
