"""The server that session tests talk to, and the recording of what it saw.

Used by test_session.py and the test_differential modules; not a test itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Coroutine
from typing import Any

import molotov
from aiohttp import web


def run(main: Coroutine[Any, Any, Any], *, native: bool = True) -> Any:
    """Run a coroutine on a native loop, or on asyncio's own."""
    loop = molotov.new_event_loop() if native else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(asyncio.wait_for(main, 60))
    finally:
        try:
            for task in (tasks := asyncio.all_tasks(loop)):
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


class Server:
    """An aiohttp.web server on an ephemeral loopback port that notes every request."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.base = ""
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Server:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.base = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/duplex":
            return await _duplex(request)
        body = await request.content.read()
        headers = [(name.decode(), value.decode("utf-8", "replace")) for name, value in request.raw_headers]
        self.seen.append(
            {"method": request.method, "target": request.raw_path, "headers": headers, "body": body}
        )
        return await self._answer(request, body)

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        kind = parts[0] if parts else ""
        if kind == "status":
            return web.Response(status=int(parts[1]), text=f"status {parts[1]}")
        if kind == "redirect":
            return web.Response(status=int(parts[1]), headers={"Location": request.query.get("to", "/echo")})
        if kind == "bare-redirect":
            return web.Response(status=302, text="nowhere")
        if kind == "loop":
            return web.Response(status=302, headers={"Location": "/loop"})
        if kind == "chain":
            left = int(parts[1])
            to = f"/chain/{left - 1}" if left > 1 else "/echo"
            answer = web.Response(status=302, headers={"Location": to})
            answer.set_cookie(f"hop{left}", str(left))
            return answer
        if kind == "cookies":
            answer = web.Response(text="baked")
            for name, value in request.query.items():
                answer.headers.add("Set-Cookie", f"{name}={value}")
            return answer
        if kind == "set-cookie":
            answer = web.Response(text="baked")
            for value in request.query.getall("v", []):
                answer.headers.add("Set-Cookie", value)
            return answer
        if kind == "type":
            return web.Response(
                body=request.query["body"].encode(), headers={"Content-Type": request.query["type"]}
            )
        if kind == "latin":
            return web.Response(
                body="caf\xe9".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"}
            )
        if kind == "header":
            answer = web.Response(text="ok")
            for name, value in request.query.items():
                answer.headers.add(name, value)
            return answer
        if kind == "gzip":
            answer = web.Response(text="hello " * 100)
            answer.enable_compression(web.ContentCoding(request.query.get("coding", "gzip")))
            return answer
        if kind == "stream":
            answer = web.StreamResponse()
            if request.query.get("chunked", "1") == "1":
                answer.enable_chunked_encoding()
            else:
                answer.content_length = 3 * 10
            await answer.prepare(request)
            for number in range(3):
                await answer.write(f"line {number}..\n\n".encode()[:10])
            await answer.write_eof()
            return answer
        if kind == "slow":
            await asyncio.sleep(float(request.query.get("for", "30")))
            return web.Response(text="late")
        if kind == "trickle":
            answer = web.StreamResponse()
            answer.content_length = 100
            await answer.prepare(request)
            await answer.write(b"start")
            await asyncio.sleep(30)
            return answer
        if kind == "abort":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if kind == "truncate":
            assert request.transport is not None
            request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
            request.transport.close()
            return web.Response()
        if kind == "raw":
            assert request.transport is not None
            request.transport.write(request.query["bytes"].encode("latin-1"))
            request.transport.close()
            return web.Response()
        if kind == "digest":
            return _digest(request, body)
        if kind == "empty":
            return web.Response(status=204)
        return web.json_response({"method": request.method, "path": request.path_qs, "length": len(body)})


async def _duplex(request: web.Request) -> web.StreamResponse:
    """Answer each line of the body while the rest is still to come; the fourth one ends it."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(4):
        await answer.write(b"got " + await request.content.readline())
    await answer.write_eof()
    return answer


def _digest(request: web.Request, body: bytes) -> web.Response:
    """Ask for joe's digest credentials (RFC 7616), whose password is "secret", and check them."""
    algorithm = request.query.get("algorithm", "MD5")
    qop = request.query.get("qop", "auth")

    def hashed(text: bytes) -> str:
        return (hashlib.sha256 if algorithm == "SHA-256" else hashlib.md5)(text).hexdigest()

    given = request.headers.get("Authorization", "")
    fields = {
        name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', given)
    }
    if given.startswith("Digest "):
        secret = hashed(b"joe:here:secret")
        asked = f"{request.method}:{request.raw_path}"
        if qop == "auth-int":
            asked += ":" + hashed(body)
        middle = f"{fields['nonce']}:"
        if qop:
            middle += f"{fields['nc']}:{fields['cnonce']}:{fields['qop']}:"
        if fields["response"] == hashed(f"{secret}:{middle}{hashed(asked.encode())}".encode()):
            return web.Response(text=f"welcome {fields['username']}, {fields.get('nc')}")
    challenge = f'Digest realm="here", nonce="abc", opaque="xyz", algorithm={algorithm}'
    if qop:
        challenge += f', qop="{qop}"'
    return web.Response(status=401, headers={"WWW-Authenticate": challenge}, text="who are you?")


_CHANCE = (
    (re.compile(rb"[0-9a-f]{32}"), b"BOUNDARY"),
    (re.compile(rb"Python/[0-9.]+ (aiohttp|molotov)/[^\s']+"), b"AGENT"),
)


def without_chance(value: Any) -> Any:
    """Replace what differs by chance or by design: multipart boundaries, the client's name."""
    if isinstance(value, dict):
        return {name: without_chance(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_chance(item) for item in value]
    if isinstance(value, bytes):
        for pattern, name in _CHANCE:
            value = pattern.sub(name, value)
        return value
    if isinstance(value, str):
        return without_chance(value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    return value


def placed(value: Any, names: dict[str, str]) -> Any:
    """Put words in the place of this run's addresses, at any depth."""
    if isinstance(value, dict):
        return {name: placed(item, names) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [placed(item, names) for item in value]
    if isinstance(value, str):
        for text, name in names.items():
            value = value.replace(text, name)
    return value
