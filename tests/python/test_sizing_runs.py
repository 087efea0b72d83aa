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
    words = ("--sizing", "--no-sizing-confirm", "-w", "50", "--ramp-up", "2", "-p", str(processes))
    done = run(tmp_path, "-c", *words)
    assert done.returncode == 0, done.stdout
    found = BLOCK.search(done.stdout)
    assert found, done.stdout
    assert float(found[1]) > 5
    assert 3 < int(found[2]) < 50 * processes
    assert int(found[4]) >= int(found[6]) > 0
    assert "fail" in found[7]


@pytest.mark.parametrize("words", [(), ("--no-sizing-confirm",)])
def test_everything_failing_ends_at_once_and_counts_for_fail(tmp_path, words):
    write(tmp_path, FAILING_FROM.format(first=0))
    done = run(tmp_path, "-c", "--sizing", *words, "--fail", "1")
    assert done.returncode == 1
    found = BLOCK.search(done.stdout)
    assert found, done.stdout
    assert (found[1], found[3]) == ("100.00", "0")


@pytest.mark.parametrize("words", [(), ("--no-sizing-confirm",)])
def test_an_interrupted_sizing_says_so(tmp_path, words):
    write(tmp_path, FAILING_FROM.format(first=10_000))
    with Running(tmp_path, "-c", "--sizing", *words) as running:
        running.wait_for("Running scenarios")
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 0
    assert "\nSizing was not finished. (interrupted)\n" in output
    assert "Sizing is over!" not in output


@pytest.mark.parametrize(
    "words",
    [
        "--sizing-latency=fast",
        "--sizing-tolerance=-1",
        "--sizing-tolerance=200",
        "--no-sizing-confirm --sizing-latency=5",
    ],
)
def test_rules_that_cannot_be_read_are_one_line(tmp_path, words):
    write(tmp_path, FAILING_FROM.format(first=0))
    done = run(tmp_path, "-c", "--sizing", *words.split())
    assert done.returncode == 104
    assert done.stdout.startswith("--sizing: ") and done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_latency_rule_ends_it(tmp_path):
    write(tmp_path, FAILING_FROM.format(first=10_000).replace("0.002", "0.02"))
    words = ("--no-sizing-confirm", "--sizing-latency", "p95<1ms", "--ramp-up", "20", "-w", "50")
    done = run(tmp_path, "-c", "--sizing", *words)
    assert done.returncode == 0
    found = BLOCK.search(done.stdout)
    assert found, done.stdout
    assert "p95" in found[7]


LIMITED = """
import asyncio, molotov

@molotov.scenario()
async def step(session):
    slots = molotov.get_var("slots", factory=lambda: asyncio.Semaphore(4))
    async with slots:
        await asyncio.sleep(0.02)
"""
FIXTURES = """
opened = []

@molotov.setup_session()
async def open_session(worker_id, session):
    assert worker_id not in opened
    opened.append(worker_id)

@molotov.teardown()
def teardown(worker_id):
    opened.remove(worker_id)

@molotov.global_teardown()
def over():
    print("left open:", opened)
"""
CAPACITY = re.compile(
    r"^CAPACITY (?:at least )?(\d+(?:\.\d+)?) runs/s \(95 % .+\) at (\d+) workers?\b.*$", re.M
)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_search_ends_in_a_capacity_and_the_levels_it_measured(tmp_path, processes):
    write(tmp_path, LIMITED + FIXTURES)
    done = run(tmp_path, "-c", "--sizing", "--sizing-budget", "3", "-w", "16", "-p", str(processes))
    assert done.returncode == 0, done.stdout
    # Workers that pause keep their sessions.
    assert "left open: []" in done.stdout
    assert BLOCK.search(done.stdout), done.stdout
    found = CAPACITY.search(done.stdout)
    assert found, done.stdout
    # Four slots of 20 ms in each process; how near a busy machine comes to that is not for a test to say.
    assert 0 < float(found[1]) < 210 * processes
    assert "The ramp ended with " in done.stdout
    assert re.search(r"^ramp +1 ", done.stdout, re.M), done.stdout
    assert re.search(r"^Not confirmed: ", done.stdout, re.M), done.stdout


def test_an_interrupted_ramp_gives_a_lower_bound_or_nothing(tmp_path):
    write(tmp_path, LIMITED + FIXTURES)
    with Running(tmp_path, "-c", "--sizing", "-w", "50") as running:
        # The third worker is asked for after two levels were measured.
        running.wait_for("[W:2] Running scenarios")
        running.process.send_signal(signal.SIGTERM)
        code, output = running.end()
    assert code == 0
    assert "Sizing was not finished. (interrupted)" in output
    assert "CAPACITY" not in output
    assert re.search(r"^(AT LEAST \d|The run was interrupted within its ramp)", output, re.M), output
    assert "left open: []" in output


def test_a_search_without_workers_finds_nothing_and_says_so(tmp_path):
    write(tmp_path, LIMITED)
    done = run(tmp_path, "-c", "--sizing", "-w", "0")
    assert done.returncode == 0, done.stdout
    assert "The run ended within its ramp, with 0 workers: no capacity is known." in done.stdout
    assert "CAPACITY" not in done.stdout


def test_a_target_that_is_not_there_is_one_line(tmp_path):
    write(tmp_path, LIMITED)
    done = run(tmp_path, "-c", "--sizing", "--monitor", "pid:99999999")
    assert done.returncode == 104
    assert done.stdout.startswith("--monitor pid:99999999: there is no such process")
    assert done.stdout.count("--monitor") == 1 and done.stdout.count("\n") == 1
