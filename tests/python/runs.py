"""Start the load tester on a script as a user would, in a process of its own, and read what it said.

Nothing here sleeps for a fixed time: a test waits until the script has reported that it is where it belongs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-c", "import sys; from molotov.run import main; sys.exit(main())"]
DEADLINE = 60.0  # seconds; a run that takes longer hangs

# Every script starts with this: `reports` prints what a scenario raised, `mark` tells where the script is.
PRELUDE = r"""
import asyncio, functools, os, signal, sys, time
import molotov
from molotov import (events, global_setup, global_teardown, scenario, setup, setup_session, teardown,
                     teardown_session)
URL = os.environ.get("URL", "")

def mark(name):
    with open(os.path.join(os.environ["MARKS"], name), "a") as marks:
        marks.write("x")

def marks(name):
    path = os.path.join(os.environ["MARKS"], name)
    return os.path.getsize(path) if os.path.exists(path) else 0

def reports(function):
    @functools.wraps(function)
    async def wrapper(session):
        try:
            return await function(session)
        except BaseException as error:
            names = " ".join(kind.__name__ for kind in type(error).__mro__)
            text = " ".join(f"RAISED {names} | {error}".split())
            os.write(1, (text + "\n").encode())  # one write: lines of several processes never mix
            raise
    return wrapper
"""


@dataclass
class Outcome:
    """What a finished run returned and printed."""

    code: int
    out: str
    err: str
    marks: Path

    @property
    def counts(self) -> tuple[int, int]:
        """Successes and failures of the closing line."""
        found = re.findall(r"SUCCESSES: (\d+) \| FAILURES: (\d+)", self.out)
        assert found, f"no closing line\n{self.out}\n{self.err}"
        return int(found[-1][0]), int(found[-1][1])

    @property
    def raised(self) -> list[str]:
        """What the scenarios raised: the names of the exception's classes, then its text."""
        return re.findall(r"^RAISED (.*)$", self.out, re.M)

    def marked(self, name: str) -> int:
        """How often the script has reported this."""
        path = self.marks / name
        return path.stat().st_size if path.exists() else 0

    def assert_clean(self) -> None:
        """No panic, no crash, nothing left behind that the interpreter complains about."""
        everything = self.out + self.err
        assert self.code >= 0, f"killed by signal {-self.code}\n{everything}"
        for sign in (
            "panicked",
            "PanicException",
            "core dumped",
            "never retrieved",
            "never awaited",
            "Exception ignored",
            "Task was destroyed",
        ):
            assert sign not in everything, everything


class Run:
    """A run in progress. Use it as a context manager: the process never outlives the test."""

    def __init__(self, directory: Path, body: str, *options: str, url: str = "", **popen: object) -> None:
        self.marks = directory / "marks"
        self.marks.mkdir(exist_ok=True)
        script = directory / "script_under_test.py"
        script.write_text(PRELUDE + body)
        environment = dict(os.environ, URL=url, MARKS=str(self.marks), PYTHONUNBUFFERED="1", COLUMNS="100")
        environment.pop("MOLOTOV_DEBUG", None)
        self.process = subprocess.Popen(
            [*COMMAND, script.name, "-c", *options],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,  # type: ignore[call-overload]
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def wait_for(self, condition: Callable[[], bool] | str) -> None:
        """Wait until the script has made this mark, or until the condition holds."""
        reached = condition if callable(condition) else (self.marks / condition).exists
        deadline = time.monotonic() + DEADLINE
        while not reached():
            assert self.process.poll() is None, f"ended too early: {self.process.communicate()}"
            assert time.monotonic() < deadline, f"never reached {condition}"
            time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the run's main process."""
        self.process.send_signal(number)

    def finish(self) -> Outcome:
        """Wait for the end and return the outcome; a hang fails the test."""
        try:
            out, err = self.process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"the run hangs\n{out}\n{err}") from None
        return Outcome(self.process.returncode, out, err, self.marks)


def run(directory: Path, body: str, *options: str, url: str = "", **popen: object) -> Outcome:
    """Run a script to its end."""
    with Run(directory, body, *options, url=url, **popen) as running:
        return running.finish()


def command(directory: Path, *arguments: str) -> Outcome:
    """Run the command line with exactly these arguments."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr, directory)
