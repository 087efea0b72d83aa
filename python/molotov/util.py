"""Small things that scripts and tools use: shared variables, one-off requests, stopping the run.

``_STOP``, ``_STOP_WHY``, ``_TIMER`` and ``_VARS`` are part of the interface: tools read and reset them.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from molotov.exceptions import OptionError

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

__all__ = [
    "OptionError",
    "cancellable_sleep",
    "event_loop",
    "expand_options",
    "get_timer",
    "get_var",
    "is_stopped",
    "json_request",
    "now",
    "printable_error",
    "request",
    "set_timer",
    "set_var",
    "stop",
    "stop_reason",
]

_Result = TypeVar("_Result")

_STOP = False
_STOP_WHY: list[Any] = []
_TIMER: int | None = None
_VARS: dict[str, Any] = {}

# What runs when the run is told to stop: the workers of this process wake up and end.
_on_stop: list[Callable[[], None]] = []


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the running loop, or make a native one and make it the current one."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        from molotov._loop import new_event_loop

        loop = new_event_loop()
        asyncio.set_event_loop(loop)
        return loop


def get_timer() -> int | None:
    """Return the time set by :func:`set_timer`, in seconds since the epoch."""
    return _TIMER


def set_timer(value: int | None = None) -> None:
    """Remember a time, now by default."""
    global _TIMER
    _TIMER = now() if value is None else value


def now() -> int:
    """Return the time in whole seconds since the epoch."""
    return int(time.time())


def stop(why: Any = None) -> None:
    """Stop the run: steps in flight are awaited, no new one starts. ``why`` joins :func:`stop_reason`."""
    global _STOP
    if why is not None:
        _STOP_WHY.append(why)
    _STOP = True
    for wake in list(_on_stop):
        wake()


def stop_reason() -> list[Any]:
    """Return the reasons given to :func:`stop`, exceptions mostly."""
    return _STOP_WHY


def is_stopped() -> bool:
    """Tell whether the run was told to stop."""
    return _STOP


def reset_stop() -> None:
    """Forget an earlier run's end, so that another can start in this process."""
    global _STOP
    _STOP = False
    del _STOP_WHY[:]


def _read_config(config: Any) -> Any:
    import json

    if not isinstance(config, str):
        try:
            return json.loads(config.read())
        except Exception:
            raise OptionError(f"Can't parse {config!r}") from None
    if not os.path.exists(config):
        raise OptionError(f"Can't find {config!r}")
    try:
        with open(config, encoding="utf-8") as file:
            return json.loads(file.read())
    except OSError as error:
        raise OptionError(f"Can't read {config!r}: {error.strerror}") from None
    except ValueError:
        raise OptionError(f"Can't parse {config!r}") from None


def read_test_options(config: Any, scenario: str) -> dict[str, Any]:
    """Return the options of the test called ``scenario`` in a molotov.json (path or file object).

    Raises :class:`OptionError`, with one line of text, for a file or a test that cannot be used.
    """
    content = _read_config(config)
    if not isinstance(content, dict) or not isinstance(content.get("molotov"), dict):
        raise OptionError("Bad config -- no molotov key")
    tests = content["molotov"].get("tests")
    if not isinstance(tests, dict):
        raise OptionError("Bad config -- no molotov/tests key")
    if scenario not in tests:
        raise OptionError(f"Can't find {scenario!r} in the config")
    options = tests[scenario]
    if not isinstance(options, dict):
        raise OptionError(f"Bad config -- molotov/tests/{scenario} is not an object of options")
    return options


def expand_options(config: Any, scenario: str, args: Any) -> None:
    """Set every option of the test called ``scenario`` in ``config`` as an attribute of ``args``.

    Raises :class:`OptionError`, with one line of text, for a file or a test that cannot be used.
    """
    for name, value in read_test_options(config, scenario).items():
        setattr(args, name, value)


def _run_in_fresh_loop(coroutine: Callable[[], Awaitable[_Result]], timeout: float = 30) -> _Result:
    import threading

    from molotov._loop import new_event_loop

    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        loop = new_event_loop()
        try:
            results.append(loop.run_until_complete(coroutine()))
        except BaseException as error:
            errors.append(error)
        finally:
            loop.close()

    # A daemon: a request that never ends must not keep the process alive after its time is up.
    thread = threading.Thread(target=run, name="molotov-request", daemon=True)
    thread.start()
    thread.join(timeout=timeout)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {timeout} seconds")
    return results[0]


async def _request(
    endpoint: Any,
    verb: str = "GET",
    session_options: dict[str, Any] | None = None,
    json: bool = False,
    **options: Any,
) -> dict[str, Any]:
    from molotov.session import ClientSession

    async with ClientSession(**(session_options or {})) as session:
        call = getattr(session, verb.lower())
        async with call(endpoint, **options) as response:
            content = await (response.json() if json else response.text())
            return {"content": content, "status": response.status, "headers": response.headers}


def request(
    endpoint: Any, verb: str = "GET", session_options: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Make one request and wait for it, e.g. in ``global_setup``; returns content, status and headers.

    It has a thread, an event loop and a session of its own; ``session_options`` go to that session,
    ``options`` to the request. Raises what the session raises, TimeoutError after 30 seconds.
    """
    call = functools.partial(_request, endpoint, verb, session_options, **options)
    return _run_in_fresh_loop(call)


def json_request(
    endpoint: Any, verb: str = "GET", session_options: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Like :func:`request`, with the decoded JSON body as the content."""
    call = functools.partial(_request, endpoint, verb, session_options, json=True, **options)
    return _run_in_fresh_loop(call)


def set_var(name: str, value: Any) -> None:
    """Set a variable that every worker of the process sees."""
    _VARS[name] = value


def get_var(name: str, factory: Callable[[], Any] | None = None) -> Any:
    """Return a variable, None when it isn't set; with a ``factory``, set it first to what that returns."""
    if name not in _VARS and factory is not None:
        _VARS[name] = factory()
    return _VARS.get(name)


class _CancellableSleep:
    """``asyncio.sleep`` that ends early, without an error, when the run stops."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Future[Any]] = set()

    async def __call__(self, delay: float, result: Any = None) -> Any:
        """Sleep ``delay`` seconds, or until :meth:`cancel_all`; returns ``result``."""
        import asyncio

        sleeping = asyncio.ensure_future(asyncio.sleep(delay, result=result))
        self.tasks.add(sleeping)
        try:
            await asyncio.wait([sleeping])
        finally:
            self.tasks.discard(sleeping)
            # Also when the caller itself is being cancelled: that is not swallowed.
            sleeping.cancel()
        return result

    def cancel_all(self) -> int:
        """End all sleeps of this process; returns how many there were."""
        return sum(task.cancel() for task in list(self.tasks))


cancellable_sleep = _CancellableSleep()


def printable_error(error: BaseException, tb: TracebackType | None = None) -> list[str]:
    """Return an exception as lines: its repr, then its traceback from the script's first frame on."""
    import traceback

    trace = tb if tb is not None else error.__traceback__
    lines = [repr(error)]
    for entry in traceback.format_tb(skip_own_frames(trace)):
        lines.extend(entry.rstrip("\n").split("\n"))
    return lines


def skip_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without Molotov's leading frames: None when there are only such."""
    package = os.path.dirname(__file__)
    rest = trace
    while rest is not None:
        file = rest.tb_frame.f_code.co_filename
        if not file.startswith((package, "<frozen importlib")):
            return rest
        rest = rest.tb_next
    return None
