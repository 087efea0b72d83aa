"""The same calls through aiohttp's session and ours: how cases are written, run and compared.

Not a test itself: the `test_differential_*` modules hold the cases by topic. Compared are status, reason,
headers, body, cookies, history, URLs, request_info, the exception's class, text and attributes, the
session's cookie jar, and what the server saw, to the byte where a case asks for that.

A case that aiohttp itself has to serve names the reason in `FALLS_BACK` of its module; any other use of the
fallback fails the case. What differs on purpose is in `ON_PURPOSE`, with its reason.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import molotov
import pytest
from differential_wire import Reply, Wire
from molotov import _fallback
from molotov.session import ClientSession
from session_server import Server, without_chance
from yarl import URL

Case = dict[str, Any]

#: What every module of cases ignores: aiohttp's deprecations, and sessions left to the collector.
IGNORED_WARNINGS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


# Cases


def c(
    method: str, path: Any, session: Callable[[], dict[str, Any]] = dict, times: int = 1, **kw: Any
) -> Case:
    """One call against the recording server, made `times` times (`Made` arguments anew for each client)."""
    return {"kind": "call", "method": method, "path": path, "session": session, "times": times, "kw": kw}


def w(
    *replies: Reply,
    method: str = "GET",
    session: Callable[[], dict[str, Any]] = dict,
    times: int | None = None,
    keep: bool = False,
    **kw: Any,
) -> Case:
    """Calls against a server that answers with these bytes, one for each request, then closes.

    It stays open when told to `keep`. The request's bytes are compared as they were.
    """
    return {
        "kind": "wire",
        "replies": replies,
        "method": method,
        "session": session,
        "times": len(replies) if times is None else times,
        "keep": keep,
        "kw": kw,
    }


def s(script: Callable[[Any, Server], Awaitable[Any]], session: Callable[[], dict[str, Any]] = dict) -> Case:
    """A script: a coroutine function of a session and the server, whose result is compared."""
    return {"kind": "script", "script": script, "session": session}


class Made:
    """An argument that a call uses up: made anew for each client."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def form(*fields: tuple[Any, ...], **options: Any) -> Made:
    """Make FormData."""

    def make() -> aiohttp.FormData:
        data = aiohttp.FormData(**options)
        for name, value, more in fields:
            data.add_field(name, value() if callable(value) else value, **more)
        return data

    return Made(make)


def multipart() -> aiohttp.MultipartWriter:
    """Make a nested multipart body."""
    writer = aiohttp.MultipartWriter("mixed")
    writer.append("text")
    writer.append_json({"a": 1})
    writer.append(b"bytes", {"Content-Type": "application/x-thing"})  # type: ignore[arg-type]
    inner = aiohttp.MultipartWriter("related")
    inner.append("nested")
    writer.append(inner)
    return writer


async def generated() -> AsyncIterator[bytes]:
    """Yield a body in three parts."""
    for number in range(3):
        yield f"part {number};".encode()


async def broken() -> AsyncIterator[bytes]:
    """Yield a body whose source breaks."""
    yield b"part"
    raise RuntimeError("the source broke")


def temporary() -> Any:
    """Open a file of 13 kB."""
    file = tempfile.TemporaryFile()
    file.write(b"file content " * 1000)
    file.seek(0)
    return file


def temporary_at_5() -> Any:
    """Open that file where five bytes were read already."""
    file = temporary()
    file.seek(5)
    return file


def in_memory() -> Any:
    """Open a file that is none."""
    return io.BytesIO(b"zip")


def jar() -> aiohttp.CookieJar:
    """Make a cookie jar with a cookie in it."""
    made = aiohttp.CookieJar(unsafe=True)
    made.update_cookies({"given": "1"}, URL("http://127.0.0.1/"))
    return made


def by_name(path: str) -> Callable[[str], str]:
    """Ask for the path by the host's name: cookies are kept for names only."""
    return lambda base: base.replace("127.0.0.1", "localhost") + path


with warnings.catch_warnings():
    # Deprecated in aiohttp 3.14, used by most scripts.
    warnings.simplefilter("ignore", DeprecationWarning)
    BASIC = aiohttp.BasicAuth("user", "pass")
    LATIN = aiohttp.BasicAuth("us\xe9r", "p\xe4ss", "utf-8")


# What is observed


def attributes(error: BaseException) -> dict[str, Any]:
    """What scripts read of an exception."""
    found: dict[str, Any] = {
        "class": type(error).__name__,
        "bases": [k.__name__ for k in type(error).__mro__],
    }
    found["text"] = str(error)
    for name in ("status", "message", "errno", "strerror", "host", "port", "url", "ssl", "description"):
        if hasattr(error, name):
            found[name] = str(getattr(error, name))
    key = getattr(error, "_conn_key", None)
    if isinstance(key, tuple):
        found["connection_key"] = [str(part) for part in key]
    if hasattr(error, "history"):
        found["history"] = [(item.status, str(item.url)) for item in error.history]
    if hasattr(error, "request_info"):
        found["request_info"] = info(error.request_info)
    if getattr(error, "headers", None) is not None:
        found["headers"] = headers(error)
    return found


def info(request_info: Any) -> dict[str, Any]:
    """What scripts read of a request_info."""
    return {
        "url": str(request_info.url),
        "real_url": str(request_info.real_url),
        "method": request_info.method,
        "headers": list(request_info.headers.items()),
    }


def headers(response: Any) -> list[tuple[str, str]]:
    """Its headers; aiohttp respells names that it knows ("Etag"), ours are as the server sent them."""
    return [(n.lower(), v) for n, v in response.headers.items() if n != "Date"]


async def outcome(call: Callable[[], Any], shown: Callable[[Any], Any] = lambda value: value) -> Any:
    """Give the result of a call, or what it raised."""
    try:
        return shown(await call())
    except Exception as error:
        return attributes(error)


async def observe(response: Any) -> dict[str, Any]:
    """Read everything a script reads of a response."""
    seen: dict[str, Any] = {
        "status": response.status,
        "reason": response.reason,
        "ok": response.ok,
        "method": response.method,
        "version": tuple(response.version),
        "headers": headers(response),
        "raw_headers": [h for h in response.raw_headers if h[0] != b"Date"],
        "url": str(response.url),
        "real_url": str(response.real_url),
        "host": response.host,
        "content_type": response.content_type,
        "charset": response.charset,
        "content_length": response.content_length,
        "disposition": str(response.content_disposition),
        "links": str(response.links),
        "history": [(i.status, i.method, str(i.url), str(i.cookies)) for i in response.history],
        "request_info": info(response.request_info),
        "cookies": sorted(m.OutputString() for m in response.cookies.values()),
        "is a response": isinstance(response, aiohttp.ClientResponse),
    }
    seen["body"] = await outcome(response.read)
    seen["body again"] = await outcome(response.read)
    seen["text"] = await outcome(response.text)
    seen["json"] = await outcome(response.json, repr)
    seen["json of any type"] = await outcome(lambda: response.json(content_type=None), repr)
    seen["encoding"] = response.get_encoding() if isinstance(seen["body"], bytes) else None
    return seen


# How a case is run


class Stage:
    """A loop with the recording server on it, for all cases of a module."""

    def __init__(self, *, native: bool) -> None:
        self.loop = molotov.new_event_loop() if native else asyncio.new_event_loop()
        self.server = Server()

    def __enter__(self) -> Stage:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.server.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.loop.run_until_complete(self.server.__aexit__())
            self.loop.run_until_complete(self._end())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()

    def run(self, case: Case) -> tuple[Any, Any]:
        """Give what the case is with aiohttp's session and with ours: (result, seen, cookies) each."""
        asyncio.set_event_loop(self.loop)
        return self.loop.run_until_complete(asyncio.wait_for(self._both(case), 60))

    async def _both(self, case: Case) -> tuple[Any, Any]:
        perform = {"call": _call, "wire": _wire, "script": _script}[case["kind"]]
        theirs = await perform(case, aiohttp.ClientSession, self.server)
        return theirs, await perform(case, ClientSession, self.server)


def stages() -> Any:
    """Make the fixture `stage` of a module: its cases on a native loop, and each again on asyncio's own."""

    @pytest.fixture(scope="module", params=["native", "asyncio"])
    def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
        with Stage(native=request.param == "native") as made:
            yield made

    return stage


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value.make() if isinstance(value, Made) else value for name, value in given.items()}


def _options(case: Case, base: str) -> dict[str, Any]:
    options: dict[str, Any] = case["session"]()
    if "base_url" in options:
        options["base_url"] = options["base_url"].replace("BASE", base)
    return options


async def _one(
    session: Any,
    method: str,
    target: Any,
    kw: dict[str, Any],
    head_seen: Callable[[], None] = lambda: None,
) -> Any:
    try:
        async with session.request(method, target, **kw) as response:
            head_seen()
            seen = await observe(response)
        seen["closed"] = response.closed
        seen["read after"] = await outcome(response.read)
        seen["text after"] = await outcome(response.text)
        return seen
    except Exception as error:
        return attributes(error)


def _kept(session: Any) -> list[tuple[str, str, str, str]]:
    return sorted((m.key, m.value, m["domain"], m["path"]) for m in session.cookie_jar)


async def _call(case: Case, make: Any, server: Server) -> tuple[Any, Any, Any]:
    server.seen.clear()
    results = []
    async with make(**_options(case, server.base)) as session:
        for _ in range(case["times"]):
            kw = _arguments(case["kw"])
            target = kw.pop("relative", None)
            if target is None:
                path = case["path"]
                target = path(server.base) if callable(path) else server.base + path
            results.append(await _one(session, case["method"], target, kw))
        cookies = _kept(session)
    return without_chance(results), without_chance(server.seen), cookies


async def _wire(case: Case, make: Any, server: Server) -> tuple[Any, Any, Any]:
    async with Wire(case["replies"], keep=case["keep"]) as wire:
        results = []
        async with make(**_options(case, wire.base)) as session:
            for _ in range(case["times"]):
                kw = _arguments(case["kw"])
                path = kw.pop("path", "/")
                target = path(wire.base) if callable(path) else wire.base + path
                results.append(await _one(session, case["method"], target, kw, wire.head_seen))
            cookies = _kept(session)
        seen = [wire.accepted, *wire.seen]
    return wire.named(without_chance(results)), wire.named(without_chance(seen)), cookies


async def _script(case: Case, make: Any, server: Server) -> tuple[Any, Any, Any]:
    server.seen.clear()
    async with make(**_options(case, server.base)) as session:
        result = await outcome(lambda: case["script"](session, server))
        cookies = _kept(session)
    return without_chance(result), without_chance(server.seen), cookies


# How the two are compared


def differences(theirs: Any, ours: Any, at: str = "") -> list[str]:
    """Name the places where two results differ, so that a failure reads in one line."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = [*theirs, *(name for name in ours if name not in theirs)]
        pairs = [(f"{at}.{name}", theirs.get(name), ours.get(name)) for name in names]
    elif type(theirs) is type(ours) and isinstance(theirs, (list, tuple)) and len(theirs) == len(ours):
        pairs = [(f"{at}[{i}]", a, b) for i, (a, b) in enumerate(zip(theirs, ours, strict=True))]
    else:
        return [] if theirs == ours else [f"{at}: aiohttp {str(theirs)[:300]!r}, ours {str(ours)[:300]!r}"]
    return [line for where, a, b in pairs for line in differences(a, b, where)]


def without(names: set[str], value: Any) -> Any:
    """Leave out what differs on purpose, at any depth."""
    if isinstance(value, dict):
        return {name: without(names, item) for name, item in value.items() if name not in names}
    if isinstance(value, list):
        return [without(names, item) for item in value]
    return value


def check(
    stage: Stage,
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    *,
    ignored: set[str] = frozenset(),  # type: ignore[assignment]
    falls_back: str | None = None,
) -> None:
    """Both clients give the same results, send the same requests and keep the same cookies.

    `ignored` names what is left out of the comparison ("seen" is what the server saw);
    `falls_back` the reason why aiohttp serves the case.
    """
    reasons = []
    monkeypatch.setattr(_fallback, "announce", lambda what, reason: reasons.append(reason))
    theirs, ours = stage.run(case)
    found = [
        *differences(without(ignored, theirs[0]), without(ignored, ours[0]), "result"),
        *([] if "seen" in ignored else differences(theirs[1], ours[1], "seen")),
        *differences(theirs[2], ours[2], "cookies"),
    ]
    assert not found, "\n".join(found)
    assert set(reasons) == ({falls_back} if falls_back else set())
