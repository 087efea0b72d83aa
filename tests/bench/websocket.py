"""Compare websocket clients: echo round trips per CPU-second, ours against aiohttp's, in alternation.

    python tests/bench/websocket.py [--seconds 3] [--rounds 3] [--sockets 1 100]

Both talk to the same small echo server, which has a core of its own; what is measured is the CPU time of
the client's process only, between its first and its last round trip. Needs a release build to mean much.
A loop over one bare blocking socket shows what the kernel takes of a round trip.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MESSAGE = "x" * 64

# The same code for both; only the session differs. After each hundred round trips the time is looked at.
_SCENARIO = """\
import time

import molotov

URL, MESSAGE = {url!r}, {message!r}
began = None
trips = 0


@molotov.scenario(weight=1)
async def echo(session):
    global began, trips
    async with session.ws_connect(URL) as ws:
        if began is None:
            began = time.process_time()
        end = time.monotonic() + {seconds}
        while time.monotonic() < end:
            for _ in range(100):
                await ws.send_str(MESSAGE)
                assert (await ws.receive()).data == MESSAGE
            trips += 100


@molotov.global_teardown()
def told():
    print("TRIPS", trips, time.process_time() - began, flush=True)
"""

_AIOHTTP = """\
import asyncio
import time

import aiohttp

URL, MESSAGE = {url!r}, {message!r}
began = None
trips = 0


async def echo():
    global began, trips
    async with aiohttp.ClientSession() as session, session.ws_connect(URL) as ws:
        if began is None:
            began = time.process_time()
        end = time.monotonic() + {seconds}
        while time.monotonic() < end:
            for _ in range(100):
                await ws.send_str(MESSAGE)
                assert (await ws.receive()).data == MESSAGE
            trips += 100


async def main():
    await asyncio.gather(*(echo() for _ in range({sockets})))
    print("TRIPS", trips, time.process_time() - began, flush=True)


asyncio.run(main())
"""


_BARE = """\
import socket
import time
from urllib.parse import urlsplit

target = urlsplit({url!r})
frame = bytes((0x81, 0x80 | {length})) + bytes(4) + {message!r}.encode()
with socket.create_connection((target.hostname, target.port)) as connection:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"GET / HTTP/1.1\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n")
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += connection.recv(4096)
    trips, began, end = 0, time.process_time(), time.monotonic() + {seconds}
    while time.monotonic() < end:
        for _ in range(100):
            connection.send(frame)
            assert len(connection.recv(4096)) == {length} + 2
        trips += 100
    print("TRIPS", trips, time.process_time() - began, flush=True)
"""


def serve() -> None:
    """Echo text frames of less than 126 bytes, for ever; print the port first."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    print(listener.getsockname()[1], flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _shake_hands(connection)
                selector.register(connection, selectors.EVENT_READ, bytearray())
            elif not _echo(key.fileobj, key.data):
                selector.unregister(key.fileobj)
                key.fileobj.close()


def _shake_hands(connection: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key.split(b":", 1)[1].strip() + _SUFFIX).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def _echo(connection: socket.socket, pending: bytearray) -> bool:
    try:
        data = connection.recv(65536)
    except ConnectionError:
        return False
    if not data:
        return False
    pending += data
    out = b""
    while len(pending) >= 6 and len(pending) >= 6 + (pending[1] & 0x7F):
        length = pending[1] & 0x7F
        mask = int.from_bytes((bytes(pending[2:6]) * (length // 4 + 1))[:length], "big")
        payload = (int.from_bytes(pending[6 : 6 + length], "big") ^ mask).to_bytes(length, "big")
        out += bytes((pending[0], length)) + payload
        del pending[: 6 + length]
    if out:
        connection.sendall(out)
    return True


def _run(command: list[str], core: int) -> float:
    """Run a client on its core; give round trips per CPU-second."""

    def pin() -> None:
        os.sched_setaffinity(0, {core})

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=pin, check=False)
    found = [line.split() for line in done.stdout.splitlines() if line.startswith("TRIPS")]
    if done.returncode or not found:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    trips, seconds = int(found[0][1]), float(found[0][2])
    return trips / seconds


def main() -> None:
    """Print a table: one line for each number of sockets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sockets", type=int, nargs="+", default=[1, 10, 100])
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    server_core, client_core = cores[-1], cores[0]
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {server_core}),
    )
    try:
        url = f"ws://127.0.0.1:{int(server.stdout.readline())}/"
        print("| sockets | bare, one socket | aiohttp | this | to aiohttp |\n|--:|--:|--:|--:|--:|")
        with tempfile.TemporaryDirectory() as directory:
            for sockets in options.sockets:
                values = {"url": url, "message": MESSAGE, "seconds": options.seconds, "sockets": sockets}
                ours, theirs, bare = (Path(directory, f"{name}.py") for name in ("ours", "theirs", "bare"))
                bare.write_text(_BARE.format(**values, length=len(MESSAGE)))
                ours.write_text(_SCENARIO.format(**values))
                theirs.write_text(_AIOHTTP.format(**values))
                molotov = ["-m", "molotov", "-c", "-w", str(sockets), "--max-runs", "1", str(ours)]
                figures = [
                    (
                        _run([sys.executable, str(bare)], client_core),
                        _run([sys.executable, str(theirs)], client_core),
                        _run([sys.executable, *molotov], client_core),
                    )
                    for _ in range(options.rounds)
                ]
                floor, plain, this = (statistics.median(column) for column in zip(*figures, strict=True))
                line = f"| {sockets} | {floor:,.0f} | {plain:,.0f} | {this:,.0f} | {this / plain:.1f} |"
                print(line, flush=True)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
