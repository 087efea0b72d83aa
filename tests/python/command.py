"""Running the command on small scripts: what the tests of the command line have in common."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from _services import molotov

_ENTRY = "import sys; from molotov.run import main; sys.exit(main())"


def write(directory: Path, text: str, name: str = "loadtest.py") -> Path:
    path = directory / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def run(directory: Path, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `molotov` in a directory, where a `loadtest.py` is found by itself."""
    return molotov(*words, cwd=directory, env=env)


def counts(output: str) -> tuple[int, int]:
    """Read the closing line: successes and failures."""
    lines = [line for line in output.splitlines() if line.startswith("SUCCESSES: ")]
    assert len(lines) == 1, output
    succeeded, failed = lines[0].split(" | ")
    return int(succeeded.removeprefix("SUCCESSES: ")), int(failed.removeprefix("FAILURES: "))


class Running:
    """A run that is still going on: wait for what it prints, send it signals."""

    def __init__(self, directory: Path, *words: object, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", _ENTRY, *map(str, words)],
            cwd=directory,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_for(self, text: str, times: int = 1) -> None:
        assert self.process.stdout is not None
        start = len(self.output)
        for line in self.process.stdout:
            self.output += line
            if self.output.count(text, start) >= times:
                return
        raise AssertionError(f"{text!r} never came:\n{self.output}")

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the exit code and all output."""
        rest, _ = self.process.communicate(timeout=60)
        self.output += rest
        return self.process.returncode, self.output
