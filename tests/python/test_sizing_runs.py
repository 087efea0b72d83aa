"""`--sizing` from the command line: how it ends, and the lines it ends with."""

from __future__ import annotations

import re
import signal

import pytest
from command import Running, run, write

FAILING_FROM = """
import asyncio, molotov

@molotov.scenario()
async def step(session):
    await asyncio.sleep(0.002)
    if molotov.get_context(session).worker_id >= {first}:
        raise ValueError("too many")
"""
BLOCK = re.compile(
    r"\*\*\*\* Molotov v.* Happy breaking! \*\*\*\*\n"
    r"\nSizing is over!\n"
    r"\nError Ratio (\d+\.\d\d) % obtained with (\d+) workers\.\n"
    r"\nOVERALL: SUCCESSES: (\d+) \| FAILURES: (\d+)\n"
    r"LAST MINUTE: SUCCESSES: (\d+) \| FAILURES: (\d+)\n"
    r"\n(.+)\n"
    r"\*\*\* Bye \*\*\*\n"
)


@pytest.mark.parametrize("processes", [1, 2])
def test_failures_above_the_tolerance_end_it(tmp_path, processes):
    write(tmp_path, FAILING_FROM.format(first=3))
    words = ("--sizing", "-w", "50", "--ramp-up", "2", "-p", str(processes))
    done = run(tmp_path, "-c", *words)
    assert done.returncode == 0, done.stdout
    found = BLOCK.search(done.stdout)
    assert found, done.stdout
    assert float(found[1]) > 5
    assert 3 < int(found[2]) < 50 * processes
    assert int(found[4]) >= int(found[6]) > 0
    assert "fail" in found[7]


def test_everything_failing_ends_at_once_and_counts_for_fail(tmp_path):
    write(tmp_path, FAILING_FROM.format(first=0))
    done = run(tmp_path, "-c", "--sizing", "--fail", "1")
    assert done.returncode == 1
    found = BLOCK.search(done.stdout)
    assert found, done.stdout
    assert (found[1], found[3]) == ("100.00", "0")


def test_an_interrupted_sizing_says_so(tmp_path):
    write(tmp_path, FAILING_FROM.format(first=10_000))
    with Running(tmp_path, "-c", "--sizing") as running:
        running.wait_for("Running scenarios")
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 0
    assert "\nSizing was not finished. (interrupted)\n" in output
    assert "Sizing is over!" not in output


@pytest.mark.parametrize(
    "words", ["--sizing-latency=fast", "--sizing-tolerance=-1", "--sizing-tolerance=200"]
)
def test_rules_that_cannot_be_read_are_one_line(tmp_path, words):
    write(tmp_path, FAILING_FROM.format(first=0))
    done = run(tmp_path, "-c", "--sizing", words)
    assert done.returncode == 104
    assert done.stdout.startswith("--sizing: ") and done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_latency_rule_ends_it(tmp_path):
    write(tmp_path, FAILING_FROM.format(first=10_000).replace("0.002", "0.02"))
    done = run(tmp_path, "-c", "--sizing", "--sizing-latency", "p95<1ms", "--ramp-up", "20", "-w", "50")
    assert done.returncode == 0
    found = BLOCK.search(done.stdout)
    assert found, done.stdout
    assert "p95" in found[7]
