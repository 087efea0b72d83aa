"""The load generators that are compared: how each is started, and what its output says it did."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ORIGINAL = "molotov==2.6"
_TREE = Path(__file__).resolve().parents[2]
BODY = {"title": "a record of one kilobyte", "done": False, "numbers": list(range(100)), "text": "x" * 555}

_SCENARIO = """\
import molotov

BODY = {body!r}


@molotov.scenario(weight=1)
async def hit(session):
    async with session.{call} as response:
        assert response.status == 200, response.status
        data = await response.json()
        assert data["result"] == "OK"
"""

_AIOHTTP = """\
import asyncio
import sys
import time

import aiohttp

BODY = {body!r}
done = failed = 0


async def worker(end):
    global done, failed
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end:
            try:
                async with session.{call} as response:
                    assert response.status == 200, response.status
                    data = await response.json()
                    assert data["result"] == "OK"
                done += 1
            except Exception:
                failed += 1


async def main():
    end = time.monotonic() + float(sys.argv[2])
    await asyncio.gather(*(worker(end) for _ in range(int(sys.argv[1]))))
    print(f"SUCCESSES: {{done}} | FAILURES: {{failed}}")


asyncio.run(main())
"""

_WRK_POST = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{body}'
"""

CALLS = {
    "get": 'get("{url}")',
    "post": 'post("{url}", json=BODY)',
    "tls": 'get("{url}", ssl=False)',
}


@dataclass(frozen=True)
class Outcome:
    """What a generator says of its own run."""

    succeeded: int
    failed: int
    exact: bool
    """False when requests in flight at the end are cut off and not counted."""


class Generator:
    """One of the programs; `command` writes what it needs into a directory."""

    def __init__(self, name: str, kind: str, program: Path) -> None:
        self.name = name
        self._kind = kind
        self._program = program

    def command(self, directory: Path, mode: str, url: str, workers: int, seconds: int) -> list[str]:
        """Return the command line for a run of `seconds` in one of the modes of `CALLS`."""
        call = CALLS[mode].format(url=url)
        if self._kind == "wrk":
            script = directory / "post.lua"
            script.write_text(_WRK_POST.format(body=_one_kilobyte()))
            post = ["-s", str(script)] if mode == "post" else []
            return [
                str(self._program),
                "-t1",
                f"-c{workers}",
                f"-d{seconds}s",
                "--timeout",
                "30s",
                *post,
                url,
            ]
        if self._kind == "aiohttp":
            script = directory / f"plain_{mode}.py"
            script.write_text(_AIOHTTP.format(body=BODY, call=call))
            return [str(self._program), str(script), str(workers), str(seconds)]
        script = directory / f"scenario_{mode}.py"
        script.write_text(_SCENARIO.format(body=BODY, call=call))
        return [str(self._program), "-c", "-w", str(workers), "-d", str(seconds), str(script)]

    def outcome(self, output: str) -> Outcome | None:
        """Read the closing lines; None when there are none."""
        if self._kind == "wrk":
            total = re.search(r"(\d+) requests in ", output)
            if total is None:
                return None
            errors = re.search(
                r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output
            )
            failed = sum(map(int, errors.groups())) if errors else 0
            refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
            failed += int(refused[1]) if refused else 0
            return Outcome(int(total[1]), failed, exact=False)
        counts = re.findall(r"SUCCESSES: (\d+) \| FAILURES: (\d+)", output)
        if not counts:
            return None
        return Outcome(int(counts[-1][0]), int(counts[-1][1]), exact=True)

    def version(self) -> str:
        """Return the version that the program reports."""
        if self._kind == "aiohttp":
            command = [str(self._program), "-c", "import aiohttp; print(aiohttp.__version__)"]
        else:
            command = [str(self._program), "--version" if self._kind == "molotov" else "-v"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        lines = (shown.stdout + shown.stderr).strip().splitlines()
        return (lines or ["?"])[0].partition(" [")[0].removeprefix("wrk ")


def _one_kilobyte() -> str:
    return json.dumps(BODY)


def _install(environment: Path, what: str) -> None:
    print(f"Installing {what} into {environment}...", file=sys.stderr, flush=True)
    venv.create(environment, with_pip=True, clear=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    if subprocess.run([*pip, what], check=False).returncode:
        raise SystemExit(f"can't install {what}")


def original_environment(cache: Path) -> Path:
    """Return the `bin` of a virtualenv with the original Molotov; install it from PyPI when it is missing."""
    environment = cache / "original-env"
    finished = environment / ORIGINAL
    if not finished.exists():
        _install(environment, ORIGINAL)
        finished.touch()
    return environment / "bin"


def find_ours(cache: Path) -> Path:
    """Return this Molotov's command: beside this interpreter, or from the newest wheel in dist/."""
    beside = Path(sys.executable).parent / "molotov"
    if beside.exists():
        return beside
    wheels = sorted(_TREE.glob("dist/*.whl"), key=lambda wheel: wheel.stat().st_mtime)
    if not wheels:
        raise SystemExit(f"{sys.executable} has no Molotov, and there is no wheel in dist/: run `make wheel`")
    environment = cache / "bench-env"
    _install(environment, str(wheels[-1]))
    return environment / "bin" / "molotov"


def all_generators(original: Path, ours: Path) -> list[Generator]:
    """Return the four: the original comes first, for the ratios are taken to it."""
    wrk = shutil.which("wrk")
    assert wrk is not None
    return [
        Generator("Molotov", "molotov", original / "molotov"),
        Generator("this", "molotov", ours),
        Generator("aiohttp", "aiohttp", original / "python"),
        Generator("wrk", "wrk", Path(wrk)),
    ]
