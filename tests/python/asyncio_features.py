"""What scripts do with asyncio, one coroutine per feature: run on a bare loop and as scenarios by the tests.

Each takes a session with aiohttp's interface and the URL of a server that answers every request with
``{"result": "OK"}``, slowly for ``/slow``. A feature passes when it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

Feature = Callable[[Any, str], Awaitable[None]]
FEATURES: dict[str, Feature] = {}
UNHANDLED: list[BaseException | None] = []
VARIABLE: contextvars.ContextVar[object] = contextvars.ContextVar("variable", default=None)


def feature(function: Feature) -> Feature:
    """Register a feature under its function's name."""
    FEATURES[function.__name__] = function
    return function


async def fetch(session: Any, url: str) -> None:
    """Make one good request."""
    async with session.get(url) as response:
        assert response.status == 200
        assert (await response.json())["result"] == "OK"


@feature
async def current_task_stays(session: Any, url: str) -> None:
    """The current task and context variables are the same after every kind of wait."""
    task = asyncio.current_task()
    assert task is not None
    marker = object()
    VARIABLE.set(marker)
    for wait in (lambda: fetch(session, url), lambda: asyncio.sleep(0.001), lambda: asyncio.sleep(0)):
        await wait()
        assert asyncio.current_task() is task
        assert VARIABLE.get() is marker
    assert asyncio.get_running_loop() is asyncio.get_event_loop()
    assert task in asyncio.all_tasks() or not isinstance(task, asyncio.Task)


@feature
async def context_is_inherited(session: Any, url: str) -> None:
    """A task starts with a copy of its creator's context and cannot change it."""

    async def child() -> object:
        seen = VARIABLE.get()
        VARIABLE.set("child")
        await fetch(session, url)
        assert VARIABLE.get() == "child"
        return seen

    VARIABLE.set("parent")
    assert await asyncio.create_task(child()) == "parent"
    assert VARIABLE.get() == "parent"


@feature
async def gather(session: Any, url: str) -> None:
    """Several requests at once, and requests beside other coroutines."""
    await asyncio.gather(*(fetch(session, url) for _ in range(5)))
    results = await asyncio.gather(fetch(session, url), asyncio.sleep(0.01, 7))
    assert results[1] == 7
    failed = await asyncio.gather(fetch(session, url), _raises(), return_exceptions=True)
    assert isinstance(failed[1], ValueError)


@feature
async def wait_and_as_completed(session: Any, url: str) -> None:
    """`asyncio.wait` on tasks of requests, `as_completed` on coroutines."""
    tasks = [asyncio.ensure_future(fetch(session, url)) for _ in range(3)]
    done, pending = await asyncio.wait(tasks)
    assert len(done) == 3
    assert not pending
    for next_one in asyncio.as_completed([fetch(session, url) for _ in range(3)]):
        await next_one


@feature
async def ensure_future_of_a_request(session: Any, url: str) -> None:
    """A request itself may become a task."""
    response = await asyncio.ensure_future(session.get(url))
    assert response.status == 200
    await response.read()
    awaited = await session.get(url)
    assert (await awaited.json())["result"] == "OK"


@feature
async def wait_for_in_time(session: Any, url: str) -> None:
    """`wait_for` that does not fire."""
    await asyncio.wait_for(fetch(session, url), 30)


@feature
async def wait_for_too_late(session: Any, url: str) -> None:
    """`wait_for` that cuts a request, and the session works on."""
    started = time.monotonic()
    try:
        await asyncio.wait_for(fetch(session, url + "/slow"), 0.05)
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("no timeout")
    assert time.monotonic() - started < 20
    await fetch(session, url)


@feature
async def shield(session: Any, url: str) -> None:
    """A shielded request outlives the timeout around it."""
    task = asyncio.ensure_future(fetch(session, url))
    await asyncio.wait_for(asyncio.shield(task), 30)
    assert task.done()


@feature
async def cancel_a_child(session: Any, url: str) -> None:
    """Cancelling a task in the middle of a request raises CancelledError there and nowhere else."""
    task = asyncio.create_task(fetch(session, url + "/slow"))
    await asyncio.sleep(0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    await fetch(session, url)


@feature
async def cancel_and_go_on(session: Any, url: str) -> None:
    """A coroutine may catch its cancellation and still make requests."""

    async def stubborn() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await fetch(session, url)
            return "cleaned up"
        return "never"

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "cleaned up"


@feature
async def executor(session: Any, url: str) -> None:
    """The default executor runs in another thread, and `to_thread` keeps the context."""
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
    VARIABLE.set("kept")
    assert await asyncio.to_thread(VARIABLE.get) == "kept"
    await fetch(session, url)


@feature
async def thread_calls_back(session: Any, url: str) -> None:
    """`call_soon_threadsafe` and `run_coroutine_threadsafe` wake the loop from a foreign thread."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def other_thread() -> None:
        loop.call_soon_threadsafe(future.set_result, 5)
        asyncio.run_coroutine_threadsafe(fetch(session, url), loop).result(30)

    thread = threading.Thread(target=other_thread)
    thread.start()
    assert await future == 5
    while thread.is_alive():
        await asyncio.sleep(0.005)


@feature
async def threads_keep_running(session: Any, url: str) -> None:
    """A Python thread gets its turn while requests go on."""
    turns = 0
    stop = threading.Event()

    def spin() -> None:
        nonlocal turns
        while not stop.wait(0.001):
            turns += 1

    thread = threading.Thread(target=spin)
    thread.start()
    deadline = time.monotonic() + 30
    while turns < 5 and time.monotonic() < deadline:
        await fetch(session, url)
    stop.set()
    thread.join()
    assert turns >= 5


@feature
async def raw_connection(session: Any, url: str) -> None:
    """`open_connection`: asyncio's own sockets on the same loop."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /raw HTTP/1.1\r\nHost: raw\r\n\r\n")
    await writer.drain()
    assert b"200" in await reader.readline()
    writer.close()
    await writer.wait_closed()


@feature
async def own_server(session: Any, url: str) -> None:
    """A script may serve on the loop and talk to itself through the session."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n"
            b'Connection: close\r\n\r\n{"result":"OK"}'
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await fetch(session, f"http://127.0.0.1:{port}/")
    server.close()


@feature
async def aiohttp_on_the_same_loop(session: Any, url: str) -> None:
    """The real aiohttp beside the session."""
    import aiohttp

    async with aiohttp.ClientSession() as real:
        await asyncio.gather(fetch(real, url), fetch(session, url), fetch(real, url))


@feature
async def subprocess(session: Any, url: str) -> None:
    """A child process with pipes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "print(input()[::-1])",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(b"olleh\n")
    assert output.split() == [b"hello"]
    assert process.returncode == 0
    await fetch(session, url)


@feature
async def queues_and_events(session: Any, url: str) -> None:
    """Producer, consumer, event, lock, semaphore, condition."""
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    event = asyncio.Event()

    async def produce() -> None:
        for number in range(3):
            await fetch(session, url)
            await queue.put(number)
        event.set()

    task = asyncio.create_task(produce())
    assert [await queue.get() for _ in range(3)] == [0, 1, 2]
    await event.wait()
    await task
    lock, semaphore, condition = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Condition()
    async with lock, semaphore:
        await fetch(session, url)
    async with condition:
        condition.notify_all()


@feature
async def timers(session: Any, url: str) -> None:
    """`call_later`, `call_at`, `call_soon`: in order, and on time while requests go on."""
    loop = asyncio.get_running_loop()
    order: list[str] = []
    loop.call_later(0.03, order.append, "later")
    loop.call_at(loop.time() + 0.01, order.append, "at")
    loop.call_soon(order.append, "soon")
    cancelled = loop.call_later(0.02, order.append, "cancelled")
    cancelled.cancel()
    deadline = time.monotonic() + 30
    while len(order) < 3 and time.monotonic() < deadline:
        await fetch(session, url)
    assert order == ["soon", "at", "later"]


@feature
async def async_generators(session: Any, url: str) -> None:
    """Generators with requests inside, also one that is left early."""

    async def pages() -> Any:
        for number in range(3):
            await fetch(session, url)
            yield number

    assert [number async for number in pages()] == [0, 1, 2]
    async with contextlib.aclosing(pages()) as some:
        async for _ in some:
            break


@feature
async def background_task(session: Any, url: str) -> None:
    """A task goes on while its creator waits for something else."""
    results: list[int] = []

    async def background() -> None:
        await asyncio.sleep(0.005)
        await fetch(session, url)
        results.append(1)

    task = asyncio.create_task(background())
    await fetch(session, url)
    await task
    assert results == [1]


@feature
async def refused(session: Any, url: str) -> None:
    """A connection error is an OSError as well."""
    try:
        async with session.get("http://127.0.0.1:1/"):
            pass
    except ConnectionError as error:
        raise AssertionError(f"aiohttp's is not a ConnectionError: {error!r}") from None
    except OSError:
        pass
    else:
        raise AssertionError("no error")
    await fetch(session, url)


@feature
async def handler_of_the_loop(session: Any, url: str) -> None:
    """The loop's exception handler sees what callbacks raise."""
    loop = asyncio.get_running_loop()
    mine = ValueError("mine")

    def raise_mine() -> None:
        raise mine

    loop.set_exception_handler(lambda _, context: UNHANDLED.append(context.get("exception")))
    loop.call_soon(raise_mine)
    await asyncio.sleep(0.001)
    await fetch(session, url)
    assert mine in UNHANDLED


if sys.version_info >= (3, 11):

    @feature
    async def task_group(session: Any, url: str) -> None:
        """A group of requests."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch(session, url)) for _ in range(3)]
        assert all(task.done() for task in tasks)

    @feature
    async def task_group_with_an_error(session: Any, url: str) -> None:
        """A failing child cancels the rest, and the body's own task is left uncancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_raises())
                await asyncio.sleep(3600)
        except BaseExceptionGroup as errors:  # noqa: F821 (3.11 and later)
            assert isinstance(errors.exceptions[0], ValueError)
        else:
            raise AssertionError("no error")
        assert asyncio.current_task().cancelling() == 0
        await fetch(session, url)

    @feature
    async def timeout_in_time(session: Any, url: str) -> None:
        """`asyncio.timeout` that does not fire."""
        async with asyncio.timeout(30):
            await fetch(session, url)

    @feature
    async def timeout_too_late(session: Any, url: str) -> None:
        """`asyncio.timeout` around a request and around a sleep."""
        for wait in (lambda: fetch(session, url + "/slow"), lambda: asyncio.sleep(3600)):
            try:
                async with asyncio.timeout(0.05):
                    await wait()
            except TimeoutError:
                pass
            else:
                raise AssertionError("no timeout")
        assert asyncio.current_task().cancelling() == 0
        await fetch(session, url)


async def _raises() -> None:
    raise ValueError("x")
