"""What many connections and many cancelled requests leave behind: descriptors, memory, places in the pool.

    python tests/bench/leaks.py [--cycles N] [--cancelled N]

Exit code 1 when anything does: a descriptor, 5 MB or more of memory, or a place in the pool.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import molotov
from molotov.session import ClientSession

#: Servers: a closed connection blocks its pair of ports for a minute, and a client has 28,000 of them.
PORTS = 8
AT_ONCE = 20
WARM_UP = 2_000
MOST_GROWTH_BYTES = 5_000_000
LIMIT = 10


class Answering(asyncio.Protocol):
    """Answers every request; closes when asked to; leaves `/silent` without an answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer: one request always comes in one piece here."""
        if data.startswith(b"GET /silent"):
            return
        close = b"onnection: close" in data
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + (b"Connection: close\r\n" if close else b"")
        self._transport.write(head + b"\r\nok")
        if close:
            self._transport.close()


def serve(listeners: list[socket.socket]) -> None:
    """Serve on all of them until terminated."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Answering, sock=listener) for listener in listeners]
        await asyncio.gather(*(server.serve_forever() for server in servers))

    asyncio.run(run())


def held() -> tuple[int, int]:
    """Give the descriptors and the bytes of memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * resource.getpagesize()


async def cycles(session: ClientSession, urls: list[str], count: int) -> None:
    """Connect, ask, close: that often."""
    left = iter(range(count))

    async def work() -> None:
        for number in left:
            async with session.get(urls[number % len(urls)], headers={"Connection": "close"}) as response:
                assert await response.read() == b"ok"

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def cancellations(session: ClientSession, url: str, count: int) -> None:
    """Ask and give up: before it is started, while it connects, while it waits for a place or an answer."""
    for start in range(0, count, AT_ONCE):
        tasks = [asyncio.ensure_future(session.get(url + "silent")) for _ in range(AT_ONCE)]
        for _ in range(start // AT_ONCE % 5):
            await asyncio.sleep(0)
        if start % (10 * AT_ONCE) == 0:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def places(session: ClientSession, url: str) -> int:
    """Count how many requests the pool serves at once: all its places, if none is lost."""
    answers = await asyncio.gather(*(session.get(url) for _ in range(3 * LIMIT)))
    return sum([await answer.read() == b"ok" for answer in answers])


async def measure(urls: list[str], arguments: argparse.Namespace) -> int:
    """Run both and print what is left of each."""
    verdict = 0

    def report(name: str, before: tuple[int, int], count: int, seconds: float) -> None:
        nonlocal verdict
        descriptors, memory = held()
        leaked, grown = descriptors - before[0], memory - before[1]
        fine = leaked <= 0 and grown < MOST_GROWTH_BYTES
        verdict |= not fine
        print(f"{count:,} {name} in {seconds:.0f} s: {leaked} descriptors, {grown / 1e6:+.1f} MB")

    async with ClientSession() as session:
        await cycles(session, urls, WARM_UP)
        await asyncio.sleep(0.1)
        before, began = held(), time.perf_counter()
        await cycles(session, urls, arguments.cycles)
        await asyncio.sleep(0.1)
        report("connections", before, arguments.cycles, time.perf_counter() - began)
    async with ClientSession(connector=aiohttp.TCPConnector(limit=LIMIT)) as session:
        await cancellations(session, urls[0], WARM_UP)
        await places(session, urls[0])
        await asyncio.sleep(0.1)
        before, began = held(), time.perf_counter()
        await cancellations(session, urls[0], arguments.cancelled)
        served = await asyncio.wait_for(places(session, urls[0]), 30)
        await asyncio.sleep(0.1)
        report("cancelled requests", before, arguments.cancelled, time.perf_counter() - began)
        print(f"{served} of {3 * LIMIT} requests through {LIMIT} places afterwards")
        verdict |= served != 3 * LIMIT
    return verdict


def main() -> int:
    """Start the server and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=100_000)
    parser.add_argument("--cancelled", type=int, default=10_000)
    arguments = parser.parse_args()
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(PORTS)]
    urls = [f"http://127.0.0.1:{listener.getsockname()[1]}/" for listener in listeners]
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listeners,), daemon=True)
    server.start()
    for listener in listeners:
        listener.close()
    loop = molotov.new_event_loop()
    try:
        return loop.run_until_complete(measure(urls, arguments))
    finally:
        loop.close()
        server.terminate()
        server.join()


if __name__ == "__main__":
    sys.exit(main())
