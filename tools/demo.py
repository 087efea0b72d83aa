"""Size a real Kinto on this machine: what `make demo` runs.

    python tools/demo.py [--seconds 60] [--workers 100] [--port N] [--html FILE] [--cache DIR]

With the interpreter of an environment that has Molotov, that one is used; otherwise this tree is built and
installed into a virtualenv. Kinto is installed from PyPI, once, into another. Both are below the cache
directory ($HOME/.cache/molotov). Kinto keeps its records in memory, listens on a free port of the loopback
interface, and is stopped at the end, also on Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

KINTO = "kinto==26.5.0"
SECONDS_TO_START = 60
SECONDS_TO_STOP = 10
SECONDS_BESIDE_THE_SEARCH = 90

_TREE = Path(__file__).resolve().parent.parent
_INI = _TREE / "tools" / "kinto-memory.ini"
_SCENARIO = _TREE / "scenarios" / "kinto.py"


class DemoError(Exception):
    """Something is missing or went wrong; the text is the one line that the user reads."""


def default_cache() -> Path:
    """Return the directory that keeps what is installed for demos, benches and tests."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "molotov"


def kinto_command(cache: Path) -> Path:
    """Return where the `kinto` command of the cached virtualenv is, or would be."""
    return cache / "kinto-env" / "bin" / "kinto"


def run_quietly(command: list[str], failure: str, **options: Any) -> None:
    """Run a command whose output matters only when it fails: then :class:`DemoError` has its last error."""
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, **options)
        if done.returncode:
            output.seek(0)
            lines = output.read().strip().splitlines() or [f"exit code {done.returncode}"]
            # pip's last words are advice; what went wrong stands before them.
            wrong = [line.strip() for line in lines if "error" in line.lower()] or lines
            raise DemoError(f"{failure}: {wrong[-1]}")


def pip(environment: Path) -> list[str]:
    """Return the start of a pip command for a virtualenv, which is made when it is missing."""
    python = environment / "bin" / "python"
    if not python.exists():
        environment.parent.mkdir(parents=True, exist_ok=True)
        run_quietly([sys.executable, "-m", "venv", "--clear", str(environment)], "Can't create a virtualenv")
    return [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]


def find_molotov(cache: Path) -> list[str]:
    """Return the `molotov` command beside this interpreter; else build this tree and install it."""
    beside = Path(sys.executable).parent / "molotov"
    if beside.exists():
        return [str(beside)]
    if shutil.which("cargo") is None:
        raise DemoError("building Molotov needs Rust's cargo: see https://rustup.rs")
    environment = cache / "demo-env"
    print(f"Installing Molotov into {environment} (the first build takes minutes)...", flush=True)
    # Without EC2, which a demo does not need and whose client takes minutes to build.
    lean = ["--config-settings", "build-args=--features python"]
    run_quietly([*pip(environment), *lean, str(_TREE)], "Can't build Molotov")
    return [str(environment / "bin" / "molotov")]


def install_kinto(cache: Path) -> Path:
    """Install Kinto into its cached virtualenv unless it is there; returns the `kinto` command."""
    kinto = kinto_command(cache)
    finished = cache / "kinto-env" / KINTO
    if finished.exists() and kinto.exists():
        return kinto
    print(f"Installing {KINTO} into {kinto.parent.parent} (once)...", flush=True)
    shutil.rmtree(kinto.parent.parent, ignore_errors=True)
    run_quietly([*pip(kinto.parent.parent), KINTO], f"Can't install {KINTO} from PyPI")
    # Written last: an installation that was interrupted is done again.
    finished.touch()
    return kinto


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    lines = log.read().strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _wait_until_it_answers(server: subprocess.Popen[str], url: str, log: IO[str]) -> None:
    give_up = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < give_up:
        if server.poll() is not None:
            raise DemoError(f"Kinto ended with exit code {server.returncode}: {_last_line(log)}")
        try:
            with urllib.request.urlopen(url + "__heartbeat__", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise DemoError(f"Kinto didn't answer within {SECONDS_TO_START} s: {_last_line(log)}")


@contextmanager
def running_kinto(kinto: Path, port: int = 0, ini: Path = _INI) -> Iterator[str]:
    """Start Kinto on a loopback port (0: any free one), yield its URL once it answers, stop it at the end."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}/v1/"
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [str(kinto), "start", "--ini", str(ini), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C is for the load test, which then prints its result; Kinto is stopped after it.
            start_new_session=True,
        )
        try:
            _wait_until_it_answers(server, url, log)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _size(molotov: list[str], url: str, seconds: float, workers: int, report: Path) -> int:
    port = urllib.parse.urlsplit(url).port
    options = [
        "--sizing",
        "--workers",
        str(workers),
        "--sizing-budget",
        f"{seconds:g}",
        "--monitor",
        f"port:{port}",
        "--html",
        str(report),
    ]
    command = [*molotov, *options, str(_SCENARIO)]
    print(f"SERVER_URL={url} {' '.join(['molotov', *command[1:]])}", flush=True)
    load_test = subprocess.Popen(command, env={**os.environ, "SERVER_URL": url})
    # A Ctrl-C reaches Molotov too, which then prints what it found so far and ends.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: load_test.terminate())
    try:
        return load_test.wait(seconds + SECONDS_BESIDE_THE_SEARCH)
    except subprocess.TimeoutExpired:
        load_test.send_signal(signal.SIGINT)
        return load_test.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Size a real Kinto on this machine")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of the search after the ramp (default: 60)"
    )
    parser.add_argument("--workers", type=int, default=100, help="most workers (default: 100)")
    parser.add_argument("--port", type=int, default=0, help="Kinto's port (default: a free one)")
    parser.add_argument(
        "--html", type=Path, default=Path("kinto.html"), help="where the report goes (default: kinto.html)"
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where Kinto is kept")
    return parser


def main() -> int:
    """Run the demo; returns the exit code."""
    args = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        molotov = find_molotov(args.cache)
        kinto = install_kinto(args.cache)
        print("Starting Kinto...", flush=True)
        with running_kinto(kinto, args.port) as url:
            print(f"Kinto answers on {url}", flush=True)
            code = _size(molotov, url, args.seconds, args.workers, args.html)
        print("Kinto was stopped.", flush=True)
        if args.html.is_file():
            print(f"The report is {args.html.resolve()}", flush=True)
        return code
    except DemoError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
