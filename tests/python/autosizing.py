"""Start autosizer as a user would, on a service whose behaviour is chosen, and look for what it left.

Every process that a test starts, at any depth, has the test's own state folder in its environment: that is
how the check for leftovers finds them, whoever their parent is by then.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-c", "import sys; from molotov.autosizer import main; sys.exit(main())"]
DEADLINE = 90.0  # seconds; a run that takes longer hangs

SERVICE = r"""
import os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

mode, port = sys.argv[1], int(sys.argv[2])
print("service says hello, secret is", os.environ.get("PASSPHRASE"), flush=True)
if mode == "dies-at-start":
    print("cannot find the flux capacitor", flush=True)
    sys.exit(3)
if mode == "chatty":
    for line in range(20000):
        print("and another thing: number", line)
if mode == "never":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Event().wait()
if mode == "lingers":
    def linger(*_):
        while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
            time.sleep(0.01)
        os._exit(0)
    signal.signal(signal.SIGTERM, linger)
if mode == "daemon" and os.fork():
    os._exit(0)
if mode == "daemon":
    os.setsid()
    if os.fork():
        os._exit(0)
if mode == "children":
    if not os.fork():
        os.setsid()
        if os.fork():
            os._exit(0)
        # Neither its environment nor its parent tells where this one comes from.
        os.execve("/bin/sleep", ["sleep", "1000"], {"WHOSE": "nobody's"})

answered = 0
# Held to the end: of the requests that are answered side by side one kills the service.
last_words = threading.Lock()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global answered
        answered += 1
        if mode == "dies-later" and answered > 20:
            last_words.acquire()
            print("out of cheese", flush=True)
            os._exit(7)
        if mode == "hungry" and answered > 5:
            hoard = [bytearray(b"x" * (1 << 20)) for _ in range(4096)]
        body = b"503" if mode == "unavailable" else b"ok"
        self.send_response(503 if mode == "unavailable" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer.daemon_threads = True
# What is broken off when it dies is not its last word.
ThreadingHTTPServer.handle_error = lambda *broken: None
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

SCENARIO = r"""
import os
from molotov import scenario

URL = os.environ["SERVER_URL"]
assert os.environ["URL_SERVER"] == URL

@scenario()
async def look(session):
    async with session.get(URL) as response:
        assert response.status == 200
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Outcome:
    """What a finished command returned and printed."""

    code: int
    out: str
    err: str


@dataclass
class Place:
    """A folder with a service, a scenario, and room for state and temporary files."""

    folder: Path
    port: int = field(default_factory=free_port)
    before: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        (self.folder / "service.py").write_text(SERVICE)
        (self.folder / "loadtest.py").write_text(SCENARIO)
        for name in ("state", "tmp"):
            (self.folder / name).mkdir()
        self.before = set(_groups())

    @property
    def environment(self) -> dict[str, str]:
        changed = {"XDG_STATE_HOME": str(self.folder / "state"), "TMPDIR": str(self.folder / "tmp")}
        return {**os.environ, **changed}

    def command(self, mode: str) -> str:
        return f"{sys.executable} {self.folder / 'service.py'} {mode} {self.port}"

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *words],
            cwd=self.folder,
            env={**self.environment, **options.pop("env", {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def call(self, *words: str, **options: Any) -> Outcome:
        return finish(self.start(*words, **options))

    def local(self, mode: str, *words: str) -> list[str]:
        """The words of a short run on the service in a mode; `words` may end with options for molotov."""
        at = words.index("--") if "--" in words else len(words)
        load = words[at + 1 :] or ("--max-runs", "20", "-c")
        return [
            *("run", "--command", self.command(mode), "--port", str(self.port), "--scenario", "loadtest.py"),
            *("--no-sizing", "--log", "steps.jsonl"),
            *words[:at],
            "--",
            *load,
        ]

    def wait_for(self, process: subprocess.Popen[str], *wanted: str) -> None:
        """Wait until the log has an entry whose step or text begins with one of these."""
        log = self.folder / "steps.jsonl"
        give_up = time.monotonic() + DEADLINE
        while time.monotonic() < give_up:
            lines = log.read_text().splitlines() if log.exists() else []
            for entry in map(json.loads, lines):
                if entry.get("step") in wanted or entry["text"].startswith(wanted):
                    return
            if process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"never came to {wanted}\n{finish(process)}")

    def leftovers(self) -> list[str]:
        """Everything that is there and should not be."""
        left = [f"process {pid}: {line}" for pid, line in self._processes()]
        for name in ("state", "tmp"):
            left += [str(path) for path in (self.folder / name).rglob("*") if not path.is_dir()]
        left += [str(path) for path in (self.folder / "tmp").iterdir()]
        return left or self._lasting()

    def _lasting(self) -> list[str]:
        """What may be that of tests beside these, which then goes away by itself."""
        left = self._anyones()
        deadline = time.monotonic() + DEADLINE
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left &= self._anyones()
        return sorted(left)

    def _anyones(self) -> set[str]:
        return (set(_groups()) - self.before) | set(_hidden())

    def _processes(self) -> Iterator[tuple[int, str]]:
        mine = os.fsencode(self.folder)
        for path in Path("/proc").iterdir():
            if not path.name.isdigit() or int(path.name) == os.getpid():
                continue
            try:
                if mine in (path / "environ").read_bytes() or mine in (path / "cmdline").read_bytes():
                    yield int(path.name), (path / "cmdline").read_bytes().decode().replace("\0", " ")
            except OSError:
                continue


def _hidden() -> Iterator[str]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            with suppress(OSError):
                if b"WHOSE=nobody's" in (path / "environ").read_bytes():
                    yield f"process {path.name}: sleep"


def _groups() -> list[str]:
    root = Path("/sys/fs/cgroup")
    return [str(path) for pattern in ("molotov-*", "*/molotov-*") for path in root.glob(pattern)]


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait until it ends; a command that hangs is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"it hangs\n{out}\n{err}") from None
    return Outcome(process.returncode, out, err)
