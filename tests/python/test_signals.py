"""Ctrl-C and SIGTERM in every phase: the first is graceful, the second cancels."""

from __future__ import annotations

import signal
import subprocess

import pytest
from command import Running, counts, write

SCRIPT = """
import asyncio, os, time, molotov

def note(*words):
    print(*words, flush=True)

@molotov.setup()
async def up(wid, args):
    note("setup")
    if os.environ["PHASE"] == "setup":
        await asyncio.sleep(3600)

@molotov.teardown_session()
async def down_session(wid, session):
    note("teardown_session", wid)

@molotov.teardown()
def down(wid):
    note("teardown", wid)

@molotov.global_teardown()
def down_all():
    note("global_teardown")

@molotov.scenario()
async def step(session):
    note("step")
    phase = os.environ["PHASE"]
    if phase == "step":
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    elif phase == "forever":
        if molotov.get_context(session).worker_id == 0:
            await asyncio.sleep(3600)
    elif phase == "blocked":
        time.sleep(3600)
"""


def spaced(running):
    """Let enough time pass for another signal to count as a second one; the run must still be going on."""
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(timeout=0.15)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_awaits_the_step_in_flight(tmp_path, number):
    write(tmp_path, SCRIPT)
    with Running(tmp_path, "-c", PHASE="step") as running:
        running.wait_for("step")
        running.process.send_signal(number)
        spaced(running)
        (tmp_path / "go").touch()
        code, output = running.end()
    assert code == 0
    assert counts(output) == (1, 0)
    assert output.count("step\n") == 1
    for line in ("teardown_session 0", "teardown 0", "global_teardown", "*** Bye ***"):
        assert line in output


@pytest.mark.parametrize(
    ("words", "until"),
    [
        ("-c --delay 3600", "step"),
        ("-q --delay 3600", "step"),
        ("-c --ramp-up 7200 -w 2 -r 1", "teardown 0"),
    ],
)
def test_the_first_signal_cuts_sleeps(tmp_path, words, until):
    write(tmp_path, SCRIPT)
    with Running(tmp_path, *words.split(), PHASE="none") as running:
        running.wait_for(until)
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 0
    assert output.count("step\n") == 1
    assert "global_teardown" in output


def test_the_second_signal_cancels(tmp_path):
    write(tmp_path, SCRIPT)
    with Running(tmp_path, "-c", "-w", "2", "--delay", "3600", PHASE="forever") as running:
        running.wait_for("step", times=2)
        running.process.send_signal(signal.SIGINT)
        # The other worker only slept, which the first signal cut.
        running.wait_for("teardown 1")
        spaced(running)
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 0
    assert counts(output) == (1, 0)
    assert "Interrupted runs: 1" in output
    assert "teardown_session 0" in output
    assert "global_teardown" in output


def test_the_second_signal_ends_a_blocking_call(tmp_path):
    write(tmp_path, SCRIPT)
    with Running(tmp_path, "-c", PHASE="blocked") as running:
        running.wait_for("step")
        running.process.send_signal(signal.SIGINT)
        spaced(running)
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 0
    assert "global_teardown" in output
    assert "SUCCESSES: 0" in output


def test_the_second_signal_ends_a_setup(tmp_path):
    write(tmp_path, SCRIPT)
    with Running(tmp_path, "-c", PHASE="setup") as running:
        running.wait_for("setup")
        running.process.send_signal(signal.SIGINT)
        spaced(running)
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 0
    assert counts(output) == (0, 0)
    assert "teardown 0" in output


def test_signals_that_come_together_are_one(tmp_path):
    write(tmp_path, SCRIPT)
    with Running(tmp_path, "-c", PHASE="step") as running:
        running.wait_for("step")
        for _ in range(5):
            running.process.send_signal(signal.SIGTERM)
        spaced(running)
        (tmp_path / "go").touch()
        code, output = running.end()
    assert code == 0
    assert counts(output) == (1, 0)


def test_force_shutdown_cancels_at_the_first_signal(tmp_path):
    write(tmp_path, SCRIPT)
    with Running(tmp_path, "-c", "--force-shutdown", PHASE="forever") as running:
        running.wait_for("step")
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 0
    assert "Interrupted runs: 1" in output
    assert "teardown_session 0" in output


@pytest.mark.parametrize("words", [(), ("-p", "2")])
def test_force_shutdown_cancels_when_the_duration_is_over(tmp_path, words):
    write(tmp_path, SCRIPT)
    with Running(tmp_path, "-c", "--force-shutdown", "-d", "0.2", *words, PHASE="forever") as running:
        code, output = running.end()
    assert code == 0
    # On a busy machine the time of one process can be over before its first run.
    # Lines of two processes may mix.
    started = output.count("step")
    assert 1 <= started <= (2 if words else 1)
    assert f"Interrupted runs: {started}" in output


def test_a_signal_while_the_script_loads_ends_at_once(tmp_path):
    write(tmp_path, "import time\nprint('loading', flush=True)\nwhile True:\n    time.sleep(0.05)\n")
    with Running(tmp_path, "-c") as running:
        running.wait_for("loading")
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 130
    assert "Traceback" not in output


def test_fail_holds_after_a_signal(tmp_path):
    write(tmp_path, "import molotov\n@molotov.scenario()\nasync def step(session):\n    assert False\n")
    with Running(tmp_path, "-c", "--fail", "1") as running:
        running.wait_for("Failure!")
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 1
    assert counts(output)[1] > 0
