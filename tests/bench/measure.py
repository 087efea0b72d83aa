"""One measurement: start a generator on its core, watch a steady window of it, check what it says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from generators import Generator, Outcome
from target import Nginx

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
WARM_UP = 2.5
"""Seconds before the window; another one for every 500 workers."""


@dataclass(frozen=True)
class Sample:
    """One run: its window, and what the whole of it came to."""

    per_cpu_second: float
    per_second: float
    peak_rss_mb: float
    problems: tuple[str, ...]


def _tree(pid: int) -> list[int]:
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [
                grandchild for child in children.read_text().split() for grandchild in _tree(int(child))
            ]
        except OSError:
            continue
    return found


def _usage(pid: int) -> tuple[float, float]:
    """Return the CPU seconds that a process and its descendants have used, and their resident MB."""
    cpu = resident = 0.0
    for member in _tree(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        cpu += (int(fields[11]) + int(fields[12])) / _TICKS
        resident += int(fields[21]) * _PAGE / 1e6
    return cpu, resident


def _problems(outcome: Outcome | None, code: int, answered: int, workers: int, output: str) -> list[str]:
    if outcome is None:
        return [f"no closing line (exit code {code}): {output.strip()[-200:]}"]
    problems = [f"exit code {code}"] if code else []
    if outcome.failed:
        problems.append(f"{outcome.failed} failures")
    counted = outcome.succeeded + outcome.failed
    in_flight = 0 if outcome.exact else workers
    if not counted <= answered <= counted + in_flight:
        problems.append(f"says {counted} requests, the server answered {answered}")
    return problems


def measure(generator: Generator, nginx: Nginx, mode: str, workers: int, window: float, core: int) -> Sample:
    """Run a generator once; the CPU and the requests are those of a window of `window` seconds."""
    url = nginx.tls_url if mode == "tls" else nginx.url
    warm_up = WARM_UP + workers / 500
    seconds = int(warm_up + window + 2)
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile("w+") as log:
        command = generator.command(Path(directory), mode, url, workers, seconds)
        before = nginx.answered()
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        time.sleep(warm_up)
        answered, (cpu, resident), start = nginx.answered(), _usage(process.pid), time.monotonic()
        peak = resident
        while time.monotonic() < start + window:
            time.sleep(0.1)
            peak = max(peak, _usage(process.pid)[1])
        answered = nginx.answered() - answered
        cpu, elapsed = _usage(process.pid)[0] - cpu, time.monotonic() - start
        try:
            code = process.wait(120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
        total = nginx.answered() - before
        log.seek(0)
        output = log.read()
    problems = _problems(generator.outcome(output), code, total, workers, output)
    return Sample(answered / max(cpu, 1 / _TICKS), answered / elapsed, peak, tuple(problems))


def first_request(generator: Generator, core: int) -> float:
    """Return the seconds from starting a generator to the first byte of its first request."""
    answer = b'{"result":"OK"}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        command = generator.command(Path(directory), "get", url, 1, 1)
        start = time.monotonic()
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(60)
            request = connection.recv(65536)
            elapsed = time.monotonic() - start
            # Until it has had enough, for it has to end as it would.
            while request:
                connection.sendall(head + answer)
                request = connection.recv(65536)
        process.wait(60)
    return elapsed
