"""Websockets: each run is one conversation with an echo server, in text, JSON and bytes.

    python scenarios/websocket.py                         a small server on 127.0.0.1:8765, until Ctrl-C
    molotov -c -w 5 -d 10 scenarios/websocket.py          in another terminal

WS_URL is another server's address; it has to send back what it gets. `session.ws_connect` and what it
gives are aiohttp's, so scripts written for aiohttp run as they are. A handshake counts as a request.
"""

import asyncio
import os

import aiohttp
from molotov import scenario

WS_URL = os.environ.get("WS_URL", "ws://127.0.0.1:8765/")


@scenario(weight=80)
async def chat(session):
    """A few messages each way, then an orderly end."""
    async with session.ws_connect(WS_URL, heartbeat=30) as ws:
        await ws.send_str("Happy breaking!")
        assert await ws.receive_str(timeout=10) == "Happy breaking!"
        for number in range(10):
            await ws.send_json({"number": number})
            reply = await ws.receive_json(timeout=10)
            assert reply == {"number": number}, reply
    assert ws.close_code == aiohttp.WSCloseCode.OK, ws.close_code


@scenario(weight=20)
async def large_messages(session):
    """Bytes that arrive compressed, counted as they come back."""
    async with session.ws_connect(WS_URL, compress=15) as ws:
        for size in (1_000, 100_000, 1_000_000):
            await ws.send_bytes(b"x" * size)
        await ws.send_str("that's all")
        received = 0
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                break
            assert message.type is aiohttp.WSMsgType.BINARY, message
            received += len(message.data)
        assert received == 1_101_000, received


async def serve(host, port, started):
    """Send every message back, until cancelled; `started` gets the port (0 in `port`: any free one)."""
    from aiohttp import web

    async def echo(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        started(runner.addresses[0][1])
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    address, _, port = WS_URL.removeprefix("ws://").rstrip("/").partition(":")
    try:
        asyncio.run(serve(address, int(port), lambda port: print(f"Echoing on port {port}", flush=True)))
    except KeyboardInterrupt:
        pass
