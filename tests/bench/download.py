"""A large download: bytes per CPU-second and growth of memory, ours and aiohttp's in alternation.

    python tests/bench/download.py [--bytes N] [--rounds N]

Each round is a process of its own, which reads the body in pieces and throws them away, or (a fifth of
it) as a whole; so is the server. A loop of bare recv_into() calls shows what the kernel alone takes, which
is most of it: no client can be several times as fast as another. Exit code 1 when ours grows by 20 MB or
more over the pieces.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PIECE = b"x" * 1_000_000
MOST_GROWTH_BYTES = 20_000_000


def serve(listener: socket.socket) -> None:
    """Answer every connection with as many bytes as its path names."""
    while True:
        connection, _ = listener.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            size = int(head.split(b" ")[1].strip(b"/"))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            try:
                while size > 0:
                    connection.sendall(PIECE[:size])
                    size -= len(PIECE)
            except ConnectionError:
                pass


def resident_bytes() -> int:
    """Give the memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def download(make: Any, url: str, size: int, way: str) -> dict[str, float]:
    """Read the body; give what that took."""
    async with make() as session:
        # What is imported at the first download belongs to none.
        async with session.get(url + "1000000") as response:
            await response.content.read()
        async with session.get(url + "1000000") as response:
            await response.read()
        before = most = resident_bytes()
        cpu, wall, seen, looked = time.process_time(), time.perf_counter(), 0, 0
        async with session.get(f"{url}{size}", timeout=None) as response:
            content = response.content
            if way == "read":
                seen = len(await response.read())
            pieces = content.iter_any() if way == "iter_any" else content.iter_chunked(65536)
            async for piece in pieces:
                seen += len(piece)
                if seen - looked > 10_000_000:
                    looked = seen
                    most = max(most, resident_bytes())
        assert seen == size
        return {
            "cpu_seconds": time.process_time() - cpu,
            "seconds": time.perf_counter() - wall,
            "growth_bytes": max(most, resident_bytes()) - before,
        }


def bare(url: str, size: int) -> dict[str, float]:
    """Receive as much with nothing but system calls."""
    buffer = bytearray(262_144)
    cpu, wall, left = time.process_time(), time.perf_counter(), size
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))) as connection:
        connection.sendall(b"GET /%d HTTP/1.1\r\n\r\n" % size)
        while left > 0:
            left -= connection.recv_into(buffer)
    return {
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
        "growth_bytes": 0,
    }


def child(client: str, url: str, size: int, way: str) -> None:
    """Run one round and print what it took."""
    if client == "bare":
        took = bare(url, size)
    elif client == "aiohttp":
        import aiohttp

        took = asyncio.run(download(aiohttp.ClientSession, url, size, way))
    else:
        import molotov
        from molotov.session import ClientSession

        loop = molotov.new_event_loop()
        took = loop.run_until_complete(download(ClientSession, url, size, way))
        loop.close()
    print(json.dumps(took))


def main() -> int:
    """Run the rounds in alternation and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        client, url, way = arguments.child
        child(client, url, arguments.bytes, way)
        return 0
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
    server.start()
    verdict = 0
    try:
        for way in ("iter_any", "iter_chunked", "read"):
            size = arguments.bytes // 5 if way == "read" else arguments.bytes
            took: dict[str, list[dict[str, float]]] = {"bare": [], "aiohttp": [], "molotov": []}
            for _ in range(arguments.rounds):
                for client, rounds in took.items():
                    command = [
                        sys.executable,
                        __file__,
                        "--bytes",
                        str(size),
                        "--child",
                        client,
                        url,
                        way,
                    ]
                    rounds.append(json.loads(subprocess.check_output(command)))
            rates = {}
            for client, rounds in took.items():
                rates[client] = size / statistics.median(one["cpu_seconds"] for one in rounds) / 1e6
                growth = max(one["growth_bytes"] for one in rounds) / 1e6
                wall = size / statistics.median(one["seconds"] for one in rounds) / 1e6
                print(f"{way:13} {client:8} {rates[client]:6.0f} MB/CPU-s {wall:6.0f} MB/s, +{growth:.1f} MB")
            ratios = (rates["molotov"] / rates[other] for other in ("aiohttp", "bare"))
            print("{:13} to aiohttp {:.2f}, to bare {:.2f}".format(way, *ratios))
            verdict |= (
                way != "read" and max(one["growth_bytes"] for one in took["molotov"]) >= MOST_GROWTH_BYTES
            )
    finally:
        server.terminate()
        server.join()
    return verdict


if __name__ == "__main__":
    sys.exit(main())
