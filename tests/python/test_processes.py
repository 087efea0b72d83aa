"""Several processes: what they share, how their output and counts come together, how they die."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command import Running, counts, run, write

PASSING = """
import os, molotov

@molotov.global_setup()
def start(args):
    molotov.set_var("parent", os.getpid())

@molotov.scenario()
async def step(session):
    assert molotov.get_var("parent") == os.getppid()
    session.print("ran")
"""


def test_counts_and_lines_of_all_processes(tmp_path):
    write(tmp_path, PASSING)
    done = run(tmp_path, "-c", "-p", "3", "-w", "2", "-r", "4")
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert counts(done.stdout) == (24, 0)
    lines = done.stdout.splitlines()
    assert lines[0] == "Forking 3 processes"
    ran = [line for line in lines if line.endswith("] ran")]
    assert len(ran) == 24
    assert len({line.split("]")[0] for line in ran}) == 3
    assert sum("[W:1] Done!" in line for line in lines) == 3
    assert "24" in done.stdout.split("*** Bye ***")[1]


def test_zero_processes_are_one(tmp_path):
    write(tmp_path, PASSING.replace("os.getppid()", "os.getpid()"))
    assert counts(run(tmp_path, "-c", "-p", "0", "-r", "1").stdout) == (1, 0)


def test_a_failure_stops_all_processes(tmp_path):
    write(
        tmp_path,
        """
import asyncio, molotov

@molotov.scenario(weight=1)
async def step(session):
    if molotov.get_context(session).worker_id == 1:
        raise ValueError("enough")
    await asyncio.sleep(0.01)
""",
    )
    done = run(tmp_path, "-cx", "-p", "2", "-w", "2")
    assert done.returncode == 0
    assert counts(done.stdout)[1] >= 1


def test_fail_counts_over_all_processes(tmp_path):
    write(tmp_path, "import molotov\n@molotov.scenario()\nasync def step(session):\n    assert False\n")
    assert run(tmp_path, "-q", "-p", "2", "-r", "1", "--fail", "2").returncode == 1
    assert run(tmp_path, "-q", "-p", "2", "-r", "1", "--fail", "3").returncode == 0


DYING = """
import asyncio, os, signal, molotov

@molotov.scenario()
async def step(session):
    if molotov.get_context(session).step == 3:
        try:
            os.close(os.open("died", os.O_CREAT | os.O_EXCL))  # one of the two processes, never both
        except FileExistsError:
            pass
        else:
            {death}
    await asyncio.sleep(0)
"""


@pytest.mark.parametrize(
    ("death", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os._exit(7)", "ended unexpectedly with exit code 7"),
    ],
)
def test_a_child_that_dies_is_named_and_the_counts_add_up(tmp_path, death, words):
    write(tmp_path, DYING.format(death=death))
    done = run(tmp_path, "-c", "-p", "2", "-r", "5")
    assert done.returncode == 1
    succeeded, failed = counts(done.stdout)
    # Of the one that died, two runs had ended and the third was in flight.
    assert (succeeded, failed) == (7, 0)
    assert f"{words}; 1 run in flight counted as interrupted" in done.stdout
    assert "Interrupted runs: 1" in done.stdout


def test_a_dead_child_is_told_also_when_quiet(tmp_path):
    write(tmp_path, DYING.format(death="os.kill(os.getpid(), signal.SIGKILL)"))
    done = run(tmp_path, "-q", "-p", "2", "-r", "5")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "was killed by SIGKILL" in done.stderr


def test_processes_that_cannot_be_started_are_one_line(tmp_path):
    write(tmp_path, PASSING)
    entry = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40));"
        "from molotov.run import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", entry, "-c", "-p", "100"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "of 100: Too many open files\n" in done.stdout
    assert done.stderr.startswith("A process may open 40 files (ulimit -n), and 1 worker needs about ")
    assert done.stderr.count("\n") == 1


def test_sys_exit_in_a_child_ends_the_run_with_its_code(tmp_path):
    write(
        tmp_path,
        """
import asyncio, sys, molotov

@molotov.scenario()
async def step(session):
    if molotov.get_context(session).worker_id == 0:
        sys.exit(3)
    await asyncio.sleep(3600)
""",
    )
    done = run(tmp_path, "-c", "-p", "2", "-w", "2")
    assert done.returncode == 3
    assert "SUCCESSES" not in done.stdout


def test_a_failing_setup_in_a_child_exits_1(tmp_path):
    write(
        tmp_path,
        """
import molotov

@molotov.setup()
async def up(wid, args):
    raise ValueError("bad setup")

@molotov.scenario()
async def step(session):
    pass
""",
    )
    done = run(tmp_path, "-c", "-p", "2")
    assert done.returncode == 1
    assert counts(done.stdout) == (0, 0)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_all_processes(tmp_path, name):
    import signal

    write(
        tmp_path,
        """
import asyncio, molotov

@molotov.teardown()
def down(wid):
    print("teardown", flush=True)

@molotov.scenario()
async def step(session):
    if molotov.get_context(session).step == 2:
        print("second step", flush=True)
    await asyncio.sleep(0.01)
""",
    )
    with Running(tmp_path, "-c", "-p", "2") as running:
        # One of each process.
        running.wait_for("second step", times=2)
        running.process.send_signal(getattr(signal, name))
        code, output = running.end()
    assert code == 0
    assert output.count("teardown") == 2
    assert counts(output)[1] == 0


def test_children_end_when_their_parent_is_killed(tmp_path):
    write(
        tmp_path,
        """
import asyncio, molotov

@molotov.teardown()
def down(wid):
    print("teardown", flush=True)

@molotov.scenario()
async def step(session):
    print("step", flush=True)
    await asyncio.sleep(3600)
""",
    )
    with Running(tmp_path, "-c", "-p", "2") as running:
        running.wait_for("step", times=2)
        running.process.kill()
        # The pipe only ends when the last child has.
        _, output = running.end()
    assert output.count("teardown") == 2
