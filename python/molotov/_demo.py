"""`molotov --demo`: a built-in scenario against a built-in server, on the loopback interface only.

Owns the server (asyncio, in a forked child) and the demo's defaults. The scenario is in
`molotov._demo_scenario`; the run is an ordinary one of `molotov.run`, which calls `run_demo`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

URL_VARIABLE = "MOLOTOV_DEMO_URL"
SERVICE_TIME = 0.01
"""Seconds that the server takes for an answer."""
CAPACITY = 30
"""Requests that the server works on at once; it refuses the next with a 503."""

_SCENARIO = "molotov._demo_scenario"
_NOTES_KEPT = 1000
_LARGEST_REQUEST = 64 * 1024
_REASONS = {200: "OK", 201: "Created", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}


class _Notes:
    """The service: notes that are written and read back."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._notes: dict[int, str] = {0: "Happy breaking!"}
        self._next = 1

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if method == "POST" and path == "/notes":
            try:
                text = str(json.loads(body)["text"])
            except (ValueError, KeyError, TypeError):
                return 400, {"error": "a note is a JSON object with a text"}
            number, self._next = self._next, self._next + 1
            self._notes[number] = text
            if number > _NOTES_KEPT:
                del self._notes[number - _NOTES_KEPT]
            return 201, {"id": number, "text": text}
        if method == "GET" and path == "/":
            return 200, {"service": "notes", "notes": len(self._notes)}
        if method == "GET" and path.startswith("/notes/"):
            with suppress(ValueError, KeyError):
                number = int(path.removeprefix("/notes/"))
                return 200, {"id": number, "text": self._notes[number]}
        return 404, {"error": "there is nothing here"}


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as much of it as the demo's scenario speaks."""

    def __init__(self, service: _Notes) -> None:
        self._service = service
        self._buffer = b""
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _LARGEST_REQUEST and self._transport is not None:
            self._transport.abort()
        self._take_request()

    def _take_request(self) -> None:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if self._busy or not separator:
            return
        request_line, *fields = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
        }
        try:
            method, path, _ = request_line.split(" ")
            length = int(headers.get("content-length", "0"))
        except ValueError:
            self._buffer = b""
            self._send(400, {"error": "this is not HTTP"}, close=True)
            return
        if len(rest) < length:
            return
        body, self._buffer = rest[:length], rest[length:]
        close = headers.get("connection", "").lower() == "close"
        if self._service.in_flight >= CAPACITY:
            self._send(503, {"error": "too busy"}, close)
            return
        self._busy = True
        self._service.in_flight += 1
        asyncio.get_running_loop().call_later(SERVICE_TIME, self._finish, method, path, body, close)

    def _finish(self, method: str, path: str, body: bytes, close: bool) -> None:
        self._busy = False
        self._service.in_flight -= 1
        status, content = self._service.answer(method, path, body)
        self._send(status, content, close)
        self._take_request()

    def _send(self, status: int, content: dict[str, Any], close: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        body = json.dumps(content).encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: {'close' if close else 'keep-alive'}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        if close:
            self._transport.close()


async def _serve(listening: socket.socket, parent: int) -> None:
    loop = asyncio.get_running_loop()
    service = _Notes()
    orphaned = asyncio.Event()
    # The parent never writes: readable means that it has ended, however it did.
    loop.add_reader(parent, orphaned.set)
    server = await loop.create_server(lambda: _Connection(service), sock=listening, backlog=4096)
    await orphaned.wait()
    server.close()


def _child(listening: socket.socket, parent: int) -> None:
    exit_code = 1
    try:
        # Ctrl-C goes to both; the parent says when the server has to end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        asyncio.run(_serve(listening, parent))
        exit_code = 0
    finally:
        # Nothing that the parent registered (atexit, buffers) may run twice.
        os._exit(exit_code)


@contextmanager
def demo_server() -> Iterator[str]:
    """Start the demo's server in a child process and yield its URL (no final slash); stop it at the end."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        # Listening before the fork: the first request can't come too early.
        listening.listen(4096)
        port = listening.getsockname()[1]
        ours, theirs = os.pipe()
        owner = os.getpid()
        server = os.fork()
        if server == 0:
            os.close(theirs)
            _child(listening, ours)
    os.close(ours)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.close(theirs)
        # The processes of -p were forked inside, and the server is not theirs to stop.
        if os.getpid() == owner:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(server, signal.SIGTERM)
                os.waitpid(server, 0)


def _apply_defaults(args: argparse.Namespace) -> None:
    """Choose what the command line left open, so that the demo ends in seconds."""
    if args.sizing:
        if args.workers in (1, 500):
            args.workers = 100
        if args.ramp_up in (0, 300) and args.sizing_on == "workers":
            args.ramp_up = 20.0
        if args.sizing_budget == 300:
            args.sizing_budget = 30.0
        longest = 90
    else:
        if args.workers == 1:
            args.workers = 10
        longest = 5
    if args.duration == 86400 and not args.max_runs and not args.single_run:
        args.duration = longest


def run_demo(args: argparse.Namespace) -> Any:
    """Run the built-in scenario against the built-in server; returns what `molotov.run.run` returned.

    `args` is the namespace of `molotov`: its options work as usual. Those left at their defaults become 10
    workers and 5 seconds, or with `--sizing` a ramp of 100 workers in 20 seconds and a search of 30.
    """
    from molotov.run import run

    _apply_defaults(args)
    args.scenario = _SCENARIO
    with demo_server() as url:
        os.environ[URL_VARIABLE] = url
        if not args.quiet:
            print(f"A small server answers on {url} and takes {CAPACITY} requests at once.", flush=True)
        result = run(args)
    if not args.quiet:
        print("Your turn: `molostart` writes a first scenario to start from.", flush=True)
    return result
