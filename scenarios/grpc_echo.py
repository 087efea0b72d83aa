"""gRPC calls: the default values of a scenario's parameters choose the kind of its session.

    pip install 'molotov-rs[grpc]'
    python scenarios/grpc_echo.py                         a small server on 127.0.0.1:50051, until Ctrl-C
    molotov -c -w 5 -d 10 scenarios/grpc_echo.py          in another terminal

GRPC_URL is another server's address. The method is made of generic handlers, so that the example needs no
generated code; with protoc's output, `EchoStub(session)` takes the place of `session.unary_unary`.
"""

import asyncio
import os

from molotov import scenario

GRPC_URL = os.environ.get("GRPC_URL", "127.0.0.1:50051")
METHOD = "/demo.Echo/Say"


@scenario(weight=100)
async def echo(session, session_factory="grpc", grpc_url=GRPC_URL):
    """`session` is an asyncio gRPC channel, opened once per worker."""
    say = session.unary_unary(METHOD)
    reply = await say(b"Happy breaking!", timeout=10)
    assert reply == b"Happy breaking!", reply


async def serve(address, started=None):
    """Answer with what was sent, until cancelled; `started` gets the port (0 in `address`: any free one)."""
    import grpc

    async def answer(request, context):
        return request

    handlers = {"Say": grpc.unary_unary_rpc_method_handler(answer)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("demo.Echo", handlers)])
    port = server.add_insecure_port(address)
    await server.start()
    if started is not None:
        started(port)
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(grace=1)


if __name__ == "__main__":
    try:
        asyncio.run(serve(GRPC_URL, lambda port: print(f"Serving gRPC on port {port}", flush=True)))
    except KeyboardInterrupt:
        pass
