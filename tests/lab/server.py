"""The lab's server: HTTP on the loopback interface, whose capacity and limit are known: flags set them.

    python tests/lab/server.py slots --slots 8 --service-ms 40 --queue 56
    python tests/lab/server.py cpu --processes 2 --burn-ms 4

Prints one line of JSON when it listens (`port`, `pid`, `capacity_per_second`, and `workers`, the number of
concurrent requests that fills it), and another one with its counts when it gets SIGTERM. It needs nothing but
Python. One core of it answers over 10,000 requests a second when it has nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

_BODY = b'{"result":"OK"}'
_REFUSAL = b'{"result":"BUSY"}'
_CHUNK_BYTES = 8192
_MEBIBYTE = 1 << 20
_CALIBRATION_SECONDS = 2.0


class Kind(Protocol):
    """What a request costs."""

    #: Requests per second that can be answered in the long run; None where only the machine knows.
    capacity: float | None
    #: Concurrent requests that fill it.
    workers: float

    def arrive(self, connection: Connection) -> None:
        """Serve a request, now or later, by `connection.answer` or `connection.refuse`."""


class Counts:
    """What was answered, by how."""

    def __init__(self) -> None:
        self.served = 0
        self.refused = 0


class Connection(asyncio.Protocol):
    """Reads requests without a body, one at a time, and writes answers."""

    def __init__(self, kind: Kind, counts: Counts, abort: bool) -> None:
        self._kind = kind
        self._counts = counts
        self._abort = abort
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            _, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._kind.arrive(self)

    def answer(self, body: bytes = _BODY) -> None:
        """Answer with 200."""
        self._counts.served += 1
        self.write(head(len(body)) + body)

    def begin(self, length: int) -> None:
        """Write the head of an answer whose body follows by `write`."""
        self._counts.served += 1
        self.write(head(length))

    def refuse(self) -> None:
        """Answer with 503, or hang up."""
        self._counts.refused += 1
        if not self._abort:
            self.write(head(len(_REFUSAL), "503 Service Unavailable") + _REFUSAL)
        elif self._transport is not None:
            self._transport.abort()

    def write(self, data: bytes) -> None:
        """Write as it is; nothing when the client has gone."""
        if self._transport is not None:
            self._transport.write(data)

    @property
    def gone(self) -> bool:
        """Whether the client has hung up."""
        return self._transport is None


def head(length: int, status: str = "200 OK") -> bytes:
    """Return the head of an answer."""
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()


class Slots:
    """Takes a fixed time per request, in a fixed number of slots; so many may wait, others are refused.

    A slot's next request begins when its last one was due to end, not when a late timer says so: the capacity
    is exact, also on a busy machine.
    """

    def __init__(self, slots: int, seconds: float, queue: int | None) -> None:
        self.capacity: float | None = slots / seconds
        self.workers = float(slots)
        self._seconds = seconds
        self._ends = [0.0] * slots
        self._most = None if queue is None else slots + queue
        self._inside = 0

    def arrive(self, connection: Connection) -> None:
        if self._most is not None and self._inside >= self._most:
            connection.refuse()
            return
        loop = asyncio.get_running_loop()
        end = max(loop.time(), self._ends[0]) + self._seconds
        heapq.heapreplace(self._ends, end)
        self._inside += 1
        loop.call_at(end, self._end, connection)

    def _end(self, connection: Connection) -> None:
        self._inside -= 1
        connection.answer()


class Burn:
    """Burns CPU time on the thread that answers."""

    def __init__(self, seconds: float, processes: int) -> None:
        self.capacity: float | None = min(processes, len(os.sched_getaffinity(0))) / seconds
        self.workers = float(processes)
        self._seconds = seconds

    def arrive(self, connection: Connection) -> None:
        end = time.thread_time() + self._seconds
        while time.thread_time() < end:
            pass
        connection.answer()


class Keep:
    """Keeps memory with every request, up to a limit at which it can do no more."""

    def __init__(self, slots: Slots, keep_bytes: int, limit_bytes: int) -> None:
        self.capacity = slots.capacity
        self.workers = slots.workers
        self._slots = slots
        self._keep_bytes = keep_bytes
        self._kept: list[bytes] = []
        if limit_bytes:
            limit = _address_space() + limit_bytes
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def arrive(self, connection: Connection) -> None:
        try:
            self._kept.append(b"x" * self._keep_bytes)
        except MemoryError:
            connection.refuse()
            return
        self._slots.arrive(connection)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


class Disk:
    """Appends to a file and waits until it is on the disk, in a pool of threads."""

    def __init__(self, directory: str, write_bytes: int, threads: int) -> None:
        self.workers = float(threads)
        self._data = os.urandom(write_bytes)
        self._directory = directory
        self._files = threading.local()
        self._pool = ThreadPoolExecutor(threads)
        self.capacity: float | None = self._calibrate(threads)

    def _write(self) -> None:
        if not hasattr(self._files, "number"):
            self._files.number, name = tempfile.mkstemp(dir=self._directory)
            os.unlink(name)
        os.pwrite(self._files.number, self._data, 0)
        os.fsync(self._files.number)

    def _calibrate(self, threads: int) -> float:
        began = time.monotonic()

        def work() -> int:
            count = 0
            while time.monotonic() < began + _CALIBRATION_SECONDS:
                self._write()
                count += 1
            return count

        written = sum(future.result() for future in [self._pool.submit(work) for _ in range(threads)])
        return written / (time.monotonic() - began)

    def arrive(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._pool, self._write)
        done.add_done_callback(lambda _: connection.answer())


class Bandwidth:
    """Sends large answers, all of them together at a fixed rate, a piece of each in turn."""

    def __init__(self, size: int, bytes_per_second: float) -> None:
        self.capacity: float | None = bytes_per_second / size
        self.workers = 1.0
        self._size = size
        self._rate = bytes_per_second
        self._turns: deque[tuple[Connection, int]] = deque()
        self._free_at = 0.0
        self._piece = b"x" * _CHUNK_BYTES

    def arrive(self, connection: Connection) -> None:
        connection.begin(self._size)
        self._turns.append((connection, self._size))
        if len(self._turns) == 1:
            self._free_at = max(asyncio.get_running_loop().time(), self._free_at)
            self._schedule()

    def _schedule(self) -> None:
        # Counted on from when the last piece was due, not from when a late timer let it go.
        _, left = self._turns[0]
        self._free_at += min(left, _CHUNK_BYTES) / self._rate
        asyncio.get_running_loop().call_at(self._free_at, self._send)

    def _send(self) -> None:
        connection, left = self._turns.popleft()
        sent = min(left, _CHUNK_BYTES)
        connection.write(self._piece[:sent])
        if left > sent and not connection.gone:
            self._turns.append((connection, left - sent))
        if self._turns:
            self._schedule()


class Pool:
    """Asks another service for every request, over a fixed number of connections.

    On a busy machine that takes a little longer than it should, so the capacity is also measured.
    """

    def __init__(self, connections: int, seconds: float) -> None:
        self.capacity: float | None = connections / seconds
        self.workers = float(connections)
        self._connections = connections
        self._waiting: deque[Connection] = deque()
        self._idle: list[_Downstream] = []
        self._held_seconds = 0.0
        self._held = 0
        self.process, self._port = _start_downstream(seconds)

    async def open(self) -> None:
        """Fill the pool."""
        loop = asyncio.get_running_loop()
        for _ in range(self._connections):
            _, one = await loop.create_connection(lambda: _Downstream(self), "127.0.0.1", self._port)
            self._idle.append(one)

    def arrive(self, connection: Connection) -> None:
        self._waiting.append(connection)
        if self._idle:
            self._ask(self._idle.pop())

    def _ask(self, one: _Downstream) -> None:
        one.ask(self._waiting.popleft())

    @property
    def measured(self) -> float | None:
        """Requests per second by how long the connections were really held."""
        return self._connections * self._held / self._held_seconds if self._held else None

    def release(self, one: _Downstream, seconds: float) -> None:
        """Take a connection back that was held so long."""
        self._held_seconds += seconds
        self._held += 1
        if self._waiting:
            self._ask(one)
        else:
            self._idle.append(one)


class _Downstream(asyncio.Protocol):
    """A connection of the pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._for: Connection | None = None
        self._asked_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, connection: Connection) -> None:
        self._for = connection
        self._asked_at = time.monotonic()
        assert self._transport is not None
        self._transport.write(b"GET / HTTP/1.1\r\nHost: downstream\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        # Small answers come in one piece over the loopback interface.
        connection, self._for = self._for, None
        if connection is not None:
            connection.answer()
            self._pool.release(self, time.monotonic() - self._asked_at)


def _start_downstream(seconds: float) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, __file__, "slots", "--slots", "4096", "--service-ms", f"{seconds * 1e3:g}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    return process, int(json.loads(process.stdout.readline())["port"])


def _kind(args: argparse.Namespace) -> Kind:
    slots = Slots(args.slots, args.service_ms / 1e3, args.queue)
    makers: dict[str, Callable[[], Kind]] = {
        "slots": lambda: slots,
        "cpu": lambda: Burn(args.burn_ms / 1e3, args.processes),
        "memory": lambda: Keep(slots, args.keep_kib * 1024, args.limit_mib * _MEBIBYTE),
        "disk": lambda: Disk(args.directory, args.write_kib * 1024, args.threads),
        "bandwidth": lambda: Bandwidth(args.size_kib * 1024, args.mbit * 1e6 / 8),
        "pool": lambda: Pool(args.connections, args.service_ms / 1e3),
    }
    return makers[args.kind]()


async def _serve(listener: socket.socket, kind: Kind, counts: Counts, abort: bool) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    # Out of memory, connections fail one after the other; the client sees it.
    loop.set_exception_handler(lambda loop, context: None)
    if isinstance(kind, Pool):
        await kind.open()
    server = await loop.create_server(lambda: Connection(kind, counts, abort), sock=listener)
    await stopped.wait()
    server.close()


def _run(listener: socket.socket, kind: Kind, args: argparse.Namespace) -> Counts:
    counts = Counts()
    asyncio.run(_serve(listener, kind, counts, args.abort))
    return counts


def _fork(listener: socket.socket, kind: Kind, args: argparse.Namespace) -> tuple[int, int]:
    """Serve in a child of its own; returns its number and the pipe with its counts."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    counts = _run(listener, kind, args)
    os.write(writing, json.dumps(vars(counts)).encode())
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A server of known capacity")
    parser.add_argument("kind", choices=["slots", "cpu", "memory", "disk", "bandwidth", "pool"])
    parser.add_argument("--slots", type=int, default=8, help="requests served at once")
    parser.add_argument("--service-ms", type=float, default=40.0, help="time that a slot takes")
    parser.add_argument("--queue", type=int, default=None, help="requests that may wait (default: all)")
    parser.add_argument("--abort", action="store_true", help="hang up instead of answering 503")
    parser.add_argument("--processes", type=int, default=1, help="cpu: processes that share the port")
    parser.add_argument("--burn-ms", type=float, default=4.0, help="cpu: CPU time per request")
    parser.add_argument("--keep-kib", type=int, default=32, help="memory: kept with every request")
    parser.add_argument(
        "--limit-mib", type=int, default=256, help="memory: RLIMIT_AS above the start; 0 for none"
    )
    parser.add_argument("--directory", default=".", help="disk: where the files are")
    parser.add_argument("--write-kib", type=int, default=64, help="disk: written and synced per request")
    parser.add_argument("--threads", type=int, default=8, help="disk: writers")
    parser.add_argument("--size-kib", type=int, default=100, help="bandwidth: size of an answer")
    parser.add_argument("--mbit", type=float, default=100.0, help="bandwidth: of all answers, per second")
    parser.add_argument("--connections", type=int, default=10, help="pool: connections downstream")
    return parser


def main() -> None:
    """Serve until SIGTERM."""
    args = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    kind = _kind(args)
    said = {
        "port": listener.getsockname()[1],
        "pid": os.getpid(),
        "capacity_per_second": kind.capacity,
        "workers": kind.workers,
    }
    print(json.dumps(said), flush=True)
    counts = Counts()
    if args.processes <= 1:
        try:
            counts = _run(listener, kind, args)
        finally:
            if isinstance(kind, Pool):
                kind.process.terminate()
                kind.process.wait()
    else:
        children = [_fork(listener, kind, args) for _ in range(args.processes)]
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
        while not stopped:
            signal.pause()
        for child, reading in children:
            os.kill(child, signal.SIGTERM)
            with os.fdopen(reading) as pipe:
                for name, value in json.loads(pipe.read() or "{}").items():
                    setattr(counts, name, getattr(counts, name) + value)
            os.waitpid(child, 0)
    print(json.dumps({**vars(counts), "measured": getattr(kind, "measured", None)}), flush=True)


if __name__ == "__main__":
    main()
