"""The native counters, histograms and the sizing controller, as the runner uses them."""

from __future__ import annotations

import os
import random

import pytest
from molotov._core import Recorder, RunState, SizingController


def _in_child(work):
    """Run ``work`` in a forked child and return the bytes it returns."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(work() or b"")
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return answer


def test_counters_start_at_zero():
    state = RunState()
    names = [
        "started",
        "succeeded",
        "failed",
        "interrupted",
        "workers",
        "workers_started",
        "requests",
        "resent",
        "setup_failed",
        "session_setup_failed",
    ]
    assert [getattr(state, name) for name in names] == [0] * len(names)
    assert state.statuses == {"2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0}
    assert (state.stopped, state.reached, state.processes) == (False, False, 1)


def test_counters_are_shared_between_processes():
    state = RunState(3)

    def work(process):
        state.attach(process)
        state.add("workers", 2)
        for _ in range(100 * process):
            state.add("started")
            state.add("succeeded")
        state.add("2xx", process)
        state.add("workers", -1)
        if process == 2:
            state.stopped = True

    for process in (1, 2):
        _in_child(lambda process=process: work(process))
    state.add("started", 7)
    assert (state.started, state.succeeded, state.workers, state.statuses["2xx"]) == (307, 300, 2, 3)
    assert [state.process(index)["started"] for index in range(3)] == [7, 100, 200]
    assert state.stopped and not state.reached
    state.stopped, state.reached = False, True
    assert not state.stopped and state.reached
    assert "started=307" in repr(state)


def test_processes_that_count_at_once_lose_nothing():
    state = RunState(2)
    children = []
    for process in range(2):
        child = os.fork()
        if child == 0:
            state.attach(process)
            for _ in range(20_000):
                state.add("requests")
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert state.requests == 40_000


def test_the_runs_of_a_killed_process_are_settled():
    state = RunState(2)

    def work():
        state.attach(1)
        state.add("started", 5)
        state.add("failed", 2)
        state.add("workers", 3)

    _in_child(work)
    assert state.settle(1) == 3
    assert state.settle(1) == 0
    assert (state.started, state.interrupted, state.workers) == (5, 3, 0)
    assert state.started == state.succeeded + state.failed + state.interrupted


def test_wrong_names_and_indices_raise():
    state = RunState(0)
    with pytest.raises(IndexError, match="process 1 has no counters"):
        state.attach(1)
    with pytest.raises(IndexError):
        state.process(9)
    with pytest.raises(KeyError, match="nope"):
        state.add("nope")
    with pytest.raises(ValueError, match="only grows"):
        state.add("failed", -1)
    with pytest.raises(OverflowError):
        RunState(-1)
    with pytest.raises(AttributeError):
        state.started = 3


def _record(recorder, recordings):
    for kind, name, seconds, ok, size in recordings:
        recorder.record(kind, name, seconds, ok=ok, bytes=size)


def _recordings(seed, count=400):
    rng = random.Random(seed)
    names = [
        ("scenario", "one"),
        ("scenario", "two"),
        ("request", "GET h:1/a?b"),
        ("request", "PUT h:1/users/17"),
    ]
    return [
        (*rng.choice(names), rng.lognormvariate(-4, 2), rng.random() < 0.9, rng.randrange(5000))
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_merging_the_deltas_of_children_equals_recording_in_one_process(seed):
    recordings = _recordings(seed)
    single, parent = Recorder(), Recorder()
    _record(single, recordings)

    def work(part):
        child = Recorder()
        blobs = []
        for start in range(0, len(part), 90):
            _record(child, part[start : start + 90])
            blobs.append(child.snapshot())
        return b"".join(len(blob).to_bytes(4, "big") + blob for blob in blobs)

    for part in (recordings[:150], recordings[150:]):
        answer = _in_child(lambda part=part: work(part))
        while answer:
            length = int.from_bytes(answer[:4], "big")
            parent.merge(answer[4 : 4 + length])
            answer = answer[4 + length :]
    assert parent.rows() == single.rows()
    assert parent.table(10.0) == single.table(10.0)


def test_rows_are_in_seconds_and_in_order():
    recorder = Recorder()
    for milliseconds in range(1, 101):
        recorder.record(
            "request", "GET http://h:1/users/17?x=1", milliseconds / 1000, ok=milliseconds > 3, bytes=10
        )
    recorder.record("scenario", "one", 2.0)
    scenario, request = recorder.rows()
    assert (scenario["kind"], scenario["name"], scenario["count"]) == ("scenario", "one", 1)
    assert (request["kind"], request["name"]) == ("request", "GET h:1/users/{id}")
    assert (request["count"], request["failed"], request["bytes"]) == (100, 3, 1000)
    assert request["min"] == pytest.approx(0.001)
    assert request["mean"] == pytest.approx(0.0505)
    for percentile, expected in [("p50", 0.05), ("p90", 0.09), ("p95", 0.095), ("p99", 0.099), ("p999", 0.1)]:
        assert request[percentile] == pytest.approx(expected, rel=0.002), percentile
    assert request["max"] == pytest.approx(0.1)
    assert recorder.slower_than(0.0901) == (10, 100)


def test_the_table_fits_and_is_empty_without_recordings():
    recorder = Recorder()
    assert recorder.table(1.0) == ""
    recorder.record("scenario", "a_scenario_with_quite_a_long_name_that_nobody_reads_to_its_end", 0.25)
    recorder.record("request", "GET h:1/v1/buckets/default/collections/deadbeef/records", 0.002, bytes=12_000)
    for width in (80, 100, 120):
        lines = recorder.table(10.0, width).splitlines()
        assert len(lines) == 5
        assert max(map(len, lines)) <= width
        assert lines[0].startswith("service time in ms")
        assert lines[3] == "Requests to h:1"
    assert "…" in recorder.table(10.0, 80)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b + b"x", lambda b: b"\xff" * 40]
)
def test_a_corrupt_snapshot_raises_and_adds_nothing(damage):
    recorder, other = Recorder(), Recorder()
    _record(other, _recordings(1))
    with pytest.raises(ValueError, match="corrupt snapshot"):
        recorder.merge(damage(other.snapshot()))
    assert recorder.rows() == []


def test_recording_nonsense_raises():
    recorder = Recorder()
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds"):
            recorder.record("scenario", "one", seconds)
    with pytest.raises(ValueError, match="kind is"):
        recorder.record("session", "one", 1.0)


def _ramp(controller, throughput, *, workers, seconds, failing=lambda started: 0.0):
    """Feed a ramp at five looks a second; returns the verdict and when it came."""
    succeeded = failed = 0.0
    for look in range(10 * seconds * 5):
        now = look / 5
        started = min(workers, 1 + int(now * workers / seconds))
        verdict = controller.observe(now, int(succeeded), int(failed), started, int(succeeded) * 3)
        if verdict is not None:
            return verdict, now
        succeeded += throughput(started) / 5
        failed += failing(started) / 5
    raise AssertionError("no verdict")


def test_sizing_ends_on_failures_at_the_limit():
    controller = SizingController(workers=100)
    verdict, _ = _ramp(
        controller, lambda n: 75, workers=100, seconds=30, failing=lambda n: max(0, n - 30) * 300
    )
    assert verdict["reason"] == "failures"
    assert 31 <= verdict["workers"] <= 33
    assert verdict["ratio"] > 5
    share = 100 * verdict["window_failed"] / (verdict["window_failed"] + verdict["window_succeeded"])
    assert verdict["ratio"] == pytest.approx(share)
    assert "failed" in verdict["sentence"]
    assert controller.finish() == controller.finish(interrupted=True) == verdict


def test_sizing_ends_on_a_plateau_but_never_while_throughput_grows():
    verdict, now = _ramp(SizingController(workers=60), lambda n: 5 * min(n, 10), workers=60, seconds=60)
    assert (verdict["reason"], verdict["best_workers"] <= 12) == ("plateau", True)
    assert verdict["best_runs_per_second"] == pytest.approx(50, rel=0.05)
    assert verdict["best_requests_per_second"] == pytest.approx(150, rel=0.05)
    assert 20 < now < 60
    verdict, now = _ramp(SizingController(workers=60), lambda n: 5 * n, workers=60, seconds=60)
    assert verdict["reason"] == "ramp_ended"
    assert verdict["sentence"].startswith("At least 60 workers, ")
    assert now > 60


def test_sizing_ends_at_once_when_everything_fails():
    verdict, now = _ramp(SizingController(), lambda n: 0, workers=500, seconds=300, failing=lambda n: 100 * n)
    assert (verdict["reason"], verdict["ratio"]) == ("all_failed", 100)
    assert now < 1


def test_sizing_keeps_a_latency_rule():
    controller = SizingController(latency_rule="p95<500ms")
    assert controller.latency_limit == 0.5
    assert SizingController().latency_limit is None
    for look in range(100):
        count = 10 * (look + 1)
        latency = {"slower": max(0, count - 500) // 5, "count": count}
        verdict = controller.observe(look / 5, count, 0, 3, count, latency)
        if verdict is not None:
            break
    assert verdict["reason"] == "latency"
    assert verdict["sentence"].startswith("p95<500ms no longer holds with 3 workers")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latency_rule": "p95>500ms"}, "expected a percentile"),
        ({"latency_rule": "p101<500ms"}, "no percentile"),
        ({"tolerance": -1}, "percentage"),
        ({"tolerance": float("nan")}, "percentage"),
        ({"window": 0}, "window"),
    ],
)
def test_a_controller_refuses_what_it_cannot_judge_by(arguments, message):
    with pytest.raises(ValueError, match=message):
        SizingController(**arguments)


def test_an_unfinished_ramp_says_so():
    controller = SizingController()
    assert controller.observe(0.0, 5, 0, 2, 15) is None
    verdict = controller.finish(interrupted=True)
    assert verdict["reason"] == "interrupted"
    assert verdict["sentence"].startswith("The run was interrupted at 2 of 500 workers")
