"""The session in a script's hands: attributes, middlewares, traces, checks, closing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from differential import (
    IGNORED_WARNINGS,
    Case,
    Stage,
    check,
    generated,
    outcome,
    s,
    stages,
)
from molotov.session import ClientSession
from session_server import Server

pytestmark = IGNORED_WARNINGS
stage = stages()

EVERYTHING: dict[str, Any] = {
    "headers": {"X-A": "1"},
    "raise_for_status": True,
    "trust_env": False,
    "auto_decompress": False,
    "skip_auto_headers": ["User-Agent"],
    "requote_redirect_url": False,
    "timeout": aiohttp.ClientTimeout(total=5, sock_read=1),
    "connector_owner": False,
}


def url(server: Server, path: str) -> str:
    return server.base + path


async def attributes_of_session(session: Any, server: Server) -> Any:
    connector = session.connector
    seen = {
        "closed": session.closed,
        "headers": dict(session.headers),
        "timeout": repr(session.timeout),
        "auth": session.auth,
        "raise": session.raise_for_status,
        "trust": session.trust_env,
        "decompress": session.auto_decompress,
        "skip": sorted(session.skip_auto_headers),
        "version": tuple(session.version),
        "owner": session.connector_owner,
        "requote": session.requote_redirect_url,
        "loop": session.loop is asyncio.get_running_loop(),
        "traces": session.trace_configs,
        "limits": (connector.limit, connector.limit_per_host, connector.force_close, connector.closed),
        "is a session": isinstance(session, aiohttp.ClientSession),
        "built": str(session._build_url("http://a/b?c=d")),
        "prepared": sorted(session._prepare_headers({"x-a": "2", "X-B": "3"}).items()),
    }
    if not session.connector_owner:
        await connector.close()
    return seen


async def headers_changed(session: Any, server: Server) -> Any:
    session.headers["X-A"] = "1"
    session.headers.update({"X-B": "2"})
    await get(session, server, "/echo")
    del session.headers["X-A"]
    session.headers.add("X-B", "3")
    await get(session, server, "/echo")
    return list(session.headers.items())


async def get(session: Any, server: Server, path: str, **arguments: Any) -> Any:
    async with session.get(url(server, path), **arguments) as response:
        return response.status, await response.text()


async def closed(session: Any, server: Server) -> Any:
    before = await get(session, server, "/echo")
    await session.close()
    await session.close()
    return before, session.closed, session.connector


async def closed_then_used(session: Any, server: Server) -> Any:
    await session.close()
    return await outcome(lambda: session.get(url(server, "/echo")))


async def closed_while_waiting(session: Any, server: Server) -> Any:
    waiting = asyncio.ensure_future(outcome(lambda: session.get(url(server, "/slow"))))
    while not server.seen:
        await asyncio.sleep(0)
    await session.close()
    return await waiting


async def detached(session: Any, server: Server) -> Any:
    connector = session.connector
    session.detach()
    seen = session.closed, connector.closed, session.connector
    await connector.close()
    return seen


async def plain_context(session: Any, server: Server) -> Any:
    try:
        with session:
            pass
    except TypeError as error:
        return str(error)


async def awaited(session: Any, server: Server) -> Any:
    response = await session.get(url(server, "/echo"))
    text = await response.text()
    return text, response.closed, await outcome(response.read)


async def awaited_twice(session: Any, server: Server) -> Any:
    call = session.get(url(server, "/echo"))
    response = await call
    await response.read()
    try:
        await call
    except RuntimeError as error:
        return str(error)


async def never_awaited(session: Any, server: Server) -> Any:
    call = session.get(url(server, "/echo"))
    call.close()
    return server.seen


async def gathered(session: Any, server: Server) -> Any:
    responses = await asyncio.gather(*[session.get(url(server, "/echo")) for _ in range(5)])
    return [await response.json() for response in responses]


async def cancelled(session: Any, server: Server) -> Any:
    task = asyncio.ensure_future(session.get(url(server, "/slow")))
    while not server.seen:
        await asyncio.sleep(0)
    task.cancel("why")
    await asyncio.wait([task])
    return task.cancelled(), await get(session, server, "/echo")


async def waited_for(session: Any, server: Server) -> Any:
    try:
        await asyncio.wait_for(session.get(url(server, "/slow")), 0.02)
    except asyncio.TimeoutError:
        return await get(session, server, "/echo")


async def release_awaited(session: Any, server: Server) -> Any:
    response = await session.get(url(server, "/echo"))
    task = asyncio.ensure_future(response.release())
    return await task, await response.wait_for_close(), response.closed


async def representation(session: Any, server: Server) -> Any:
    async with session.get(url(server, "/status/404")) as response:
        return repr(response).split(")")[0].replace(server.base, ""), f"[{response.status}" in repr(response)


async def every_method(session: Any, server: Server) -> Any:
    calls = [
        session.get,
        session.options,
        session.head,
        session.post,
        session.put,
        session.patch,
        session.delete,
    ]
    seen = []
    for call in calls:
        async with call(url(server, "/echo")) as response:
            seen.append((response.status, await response.text()))
    async with session.head(url(server, "/redirect/302")) as response:
        seen.append((response.status, len(response.history)))
    return seen


async def subclass(session: Any, server: Server) -> Any:
    kind = ClientSession if type(session) is ClientSession else aiohttp.ClientSession

    class Own(kind):  # type: ignore[misc, valid-type]
        async def _request(self, method: str, path: str, **arguments: Any) -> Any:
            arguments["headers"] = {"X-Own": method}
            return await super()._request("PUT", url(server, path), **arguments)

    async with Own() as own, own.get("/echo") as response:
        return await response.json()


async def wrong_arguments(session: Any, server: Server) -> Any:
    return [
        await outcome(lambda: session.get(url(server, "/echo"), json={"a": 1}, data=b"x")),
        await outcome(lambda: session.get(url(server, "/echo"), cookies=5)),
        await outcome(lambda: session.get(url(server, "/echo"), params=object())),
    ]


# raise_for_status


async def check_of_own(response: Any) -> None:
    if response.status != 200:
        raise LookupError(f"status {response.status}")


async def check_that_reads(response: Any) -> None:
    raise LookupError(await response.text())


def get_status(status: int, **arguments: Any) -> Callable[[Any, Server], Any]:
    async def script(session: Any, server: Server) -> Any:
        return await outcome(lambda: get(session, server, f"/status/{status}", **arguments))

    return script


# middlewares


def stamp(name: str) -> Any:
    async def middleware(request: Any, handler: Any) -> Any:
        stamps = request.headers.get("X-Stamps", "")
        request.headers["X-Stamps"] = f"{stamps}{name};"
        return await handler(request)

    return middleware


async def try_again(request: Any, handler: Any) -> Any:
    for attempt in range(3):
        request.headers["X-Attempt"] = str(attempt)
        response = await handler(request)
    return response


async def refuse(request: Any, handler: Any) -> Any:
    raise LookupError("refused")


async def os_error(request: Any, handler: Any) -> Any:
    raise OSError(5, "from a middleware")


async def change_body(request: Any, handler: Any) -> Any:
    await request.update_body(b"another body")
    return await handler(request)


async def look(request: Any, handler: Any) -> Any:
    request.headers["X-Seen"] = (
        f"{request.method} {request.url.path} {request.is_ssl()} {type(request.body).__name__}"
    )
    response = await handler(request)
    assert isinstance(response, aiohttp.ClientResponse)
    return response


async def redirected(session: Any, server: Server) -> Any:
    return await get(session, server, "/redirect/302?to=/echo")


async def post_json(session: Any, server: Server) -> Any:
    async with session.post(url(server, "/echo"), json={"a": [1, 2]}) as response:
        return await response.json()


def digest(path: str, password: str = "secret", method: str = "GET", times: int = 1, **arguments: Any) -> Any:
    """Ask for what needs digest credentials; the client's nonce is chance, what comes of it is compared."""

    async def script(session: Any, server: Server) -> Any:
        middleware = aiohttp.DigestAuthMiddleware("joe", password)
        seen = []
        for _ in range(times):
            async with session.request(
                method, url(server, path), middlewares=(middleware,), **arguments
            ) as response:
                seen.append((response.status, await response.text()))
        for request in server.seen:
            request["headers"] = [
                (name, "given" if name == "Authorization" else value) for name, value in request["headers"]
            ]
        return seen

    return script


# traces


def traced(call: Callable[[Any, Server], Any], *, connections: bool = False) -> Any:
    """Do the call on a session of its own that notes what its traces are told."""

    async def script(session: Any, server: Server) -> Any:
        told: list[Any] = []
        config = aiohttp.TraceConfig()
        names = ["start", "redirect", "end", "exception", "headers_sent", "chunk_sent"]
        for name in names:
            getattr(config, f"on_request_{name}").append(note(name, told, server))
        config.on_response_chunk_received.append(note("received", told, server))
        if connections:
            config.on_connection_create_end.append(note("connected", told, server))
        async with type(session)(trace_configs=[config]) as watched:
            result = await outcome(lambda: call(watched, server))
        return result, told

    return script


def note(name: str, told: list[Any], server: Server) -> Any:
    async def signal(session: Any, context: Any, params: Any) -> None:
        details = {}
        for key in ("method", "url", "chunk"):
            if hasattr(params, key):
                details[key] = str(getattr(params, key)).replace(server.base, "")
        for key in ("response", "exception"):
            if hasattr(params, key):
                value = getattr(params, key)
                details[key] = value.status if hasattr(value, "status") else type(value).__name__
        context_given = getattr(context, "trace_request_ctx", None)
        told.append((name, details, context_given, session.closed))

    return signal


async def post_stream(session: Any, server: Server) -> Any:
    async with session.post(url(server, "/echo"), data=generated()) as response:
        return await response.json()


async def refused(session: Any, server: Server) -> Any:
    return await outcome(lambda: session.get("http://127.0.0.1:1/"))


async def with_params(session: Any, server: Server) -> Any:
    async with session.get(url(server, "/echo?a=1"), params={"b": "2"}) as response:
        return await response.json()


async def trace_raises(session: Any, server: Server) -> Any:
    async def broken_signal(session: Any, context: Any, params: Any) -> None:
        raise LookupError("in a trace")

    config = aiohttp.TraceConfig()
    config.on_request_start.append(broken_signal)
    async with type(session)(trace_configs=[config]) as watched:
        return await outcome(lambda: watched.get(url(server, "/echo")))


# charsets, uploads


async def get_text(session: Any, server: Server) -> Any:
    target = url(server, "/raw") + "?bytes=HTTP/1.1%20200%20OK%0D%0AContent-Length:%204%0D%0A%0D%0Acaf%C3%A9"
    async with session.get(target) as response:
        text = await response.text()
        return text, response.get_encoding()


async def get_latin(session: Any, server: Server) -> Any:
    async with session.get(url(server, "/latin")) as response:
        return await response.text(), response.get_encoding()


async def duplex(session: Any, server: Server) -> Any:
    """The server answers line by line while the body is still being made from its answers."""
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        yield b"first\n"
        for _ in range(3):
            yield b"then " + await answers.get()

    seen = []
    async with session.post(url(server, "/duplex"), data=body()) as response:
        async for line in response.content:
            seen.append(line)
            answers.put_nowait(line)
    return seen


CASES: dict[str, Case] = {
    "attributes": s(attributes_of_session),
    "attributes, given": s(attributes_of_session, lambda: EVERYTHING),
    "headers, changed": s(headers_changed),
    "closed": s(closed),
    "closed, then used": s(closed_then_used),
    "closed while waiting": s(closed_while_waiting),
    "detached": s(detached),
    "as a plain context": s(plain_context),
    "awaited": s(awaited),
    "awaited twice": s(awaited_twice),
    "never awaited": s(never_awaited),
    "gathered": s(gathered),
    "cancelled": s(cancelled),
    "waited for": s(waited_for),
    "release is awaitable": s(release_awaited),
    "repr": s(representation),
    "every method": s(every_method),
    "subclass": s(subclass),
    "wrong arguments": s(wrong_arguments),
    # raise_for_status
    "check by the session": s(get_status(503), lambda: {"raise_for_status": check_of_own}),
    "check by the session, fine": s(get_status(200), lambda: {"raise_for_status": check_of_own}),
    "check by the call": s(get_status(404, raise_for_status=check_of_own)),
    "check by the call, off": s(
        get_status(404, raise_for_status=False), lambda: {"raise_for_status": check_of_own}
    ),
    "check reads the body": s(get_status(404, raise_for_status=check_that_reads)),
    # middlewares
    "middleware": s(get_status(200), lambda: {"middlewares": (stamp("one"),)}),
    "middlewares in order": s(get_status(200), lambda: {"middlewares": (stamp("one"), stamp("two"))}),
    "middleware of the call": s(get_status(200, middlewares=(stamp("own"),))),
    "middleware of the call over the session's": s(
        get_status(200, middlewares=(stamp("own"),)), lambda: {"middlewares": (stamp("one"),)}
    ),
    "no middlewares for the call": s(
        get_status(200, middlewares=()), lambda: {"middlewares": (stamp("one"),)}
    ),
    "middleware that tries again": s(get_status(503), lambda: {"middlewares": (try_again,)}),
    "middleware that tries a body again": s(post_json, lambda: {"middlewares": (try_again,)}),
    "middleware that refuses": s(get_status(200), lambda: {"middlewares": (refuse,)}),
    "middleware with an os error": s(get_status(200), lambda: {"middlewares": (os_error,)}),
    "middleware and redirects": s(redirected, lambda: {"middlewares": (stamp("one"),)}),
    "middleware that changes the body": s(post_json, lambda: {"middlewares": (change_body,)}),
    "middleware that sees everything": s(post_json, lambda: {"middlewares": (look,)}),
    "digest": s(digest("/digest")),
    "digest, wrong password": s(digest("/digest", password="wrong")),
    "digest, three in a row": s(digest("/digest", times=3)),
    "digest, sha-256": s(digest("/digest?algorithm=SHA-256")),
    "digest, without qop": s(digest("/digest?qop=")),
    "digest, auth-int": s(digest("/digest?qop=auth-int", data=b"the body")),
    "digest, posted": s(digest("/digest", method="POST", json={"a": 1})),
    "digest, not asked for": s(digest("/echo")),
    # traces
    "traces": s(traced(get_status(200))),
    "traces of a redirect": s(traced(redirected)),
    "traces of a body": s(traced(post_json)),
    "traces of a stream": s(traced(post_stream)),
    "traces of a failure": s(traced(refused)),
    "traces of a bad status": s(traced(get_status(404, raise_for_status=True))),
    "traces with a context": s(traced(get_status(200, trace_request_ctx={"mine": 1}))),
    "traces of params": s(traced(with_params)),
    "trace that raises": s(trace_raises),
    "traces of connections": s(traced(get_status(200), connections=True)),
    # charsets and serializers
    "charset by guess": s(get_text, lambda: {"fallback_charset_resolver": lambda response, body: "latin-1"}),
    "charset by guess, named": s(
        get_latin, lambda: {"fallback_charset_resolver": lambda response, body: "ascii"}
    ),
    "json in bytes": s(post_json, lambda: {"json_serialize_bytes": lambda value: repr(value).encode()}),
    # uploads
    "upload and answer at once": s(duplex),
}

#: Cases that aiohttp itself serves, and the reason.
FALLS_BACK: dict[str, str] = {
    # Only aiohttp's connector knows when a connection is made or found.
    "traces of connections": "trace_configs with on_connection_create_end",
}
#: What of a result is left out because it differs on purpose.
ON_PURPOSE: dict[str, set[str]] = {}


@pytest.mark.parametrize("name", CASES)
def test_nothing_differs(name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clients give the same results, send the same requests and keep the same cookies."""
    check(
        stage,
        CASES[name],
        monkeypatch,
        ignored=ON_PURPOSE.get(name, set()),
        falls_back=FALLS_BACK.get(name),
    )
