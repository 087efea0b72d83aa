"""The decorators of a scenario file, and the registries that they fill.

``_SCENARIO``, ``_FIXTURES`` and ``_SESSION_FACTORY`` are part of the interface: tools clear and read them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

__all__ = [
    "events",
    "get_fixture",
    "get_scenario",
    "get_scenarios",
    "global_setup",
    "global_teardown",
    "next_scenario",
    "pick_scenario",
    "scenario",
    "scenario_picker",
    "session_factory",
    "setup",
    "setup_session",
    "teardown",
    "teardown_session",
]

_SCENARIO: dict[str, dict[str, Any]] = {}
_FIXTURES: dict[str, Any] = {}
_SESSION_FACTORY: dict[str, Callable[..., Any]] = {}

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _check_coroutine(func: Callable[..., Any]) -> None:
    # The marker is what asyncio's own, now deprecated, check honours for objects that only act like one.
    if not inspect.iscoroutinefunction(func) and getattr(func, "_is_coroutine", None) is None:
        raise TypeError(f"{func} needs to be a coroutine")


def _callable_wrapper(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def call(*args: Any, **kw: Any) -> Any:
        return func(*args, **kw)

    return call


def scenario(weight: float = 1, delay: float = 0.0, name: str | None = None) -> _Decorator:
    """Register a coroutine as a scenario.

    - **weight**: how often it is picked, relative to the others; 0 or less leaves it out.
      Ignored when there is a *scenario_picker*.
    - **delay**: seconds that the worker sleeps after a successful run, on top of ``--delay``.
    - **name**: its name, the function's by default; of two with the same name, the later one wins.

    The coroutine is called with the worker's session. A run fails when it raises. Raises
    :class:`TypeError` when the function is not a coroutine.
    """

    def register(func: Callable[..., Any], *args: Any, **kw: Any) -> Callable[..., Any]:
        _check_coroutine(func)
        if weight > 0:
            key = name or func.__name__
            _SCENARIO[key] = {
                "name": key,
                "weight": weight,
                "delay": delay,
                "func": func,
                "args": args,
                "kw": kw,
            }
        return _callable_wrapper(func)

    return register


def get_scenarios() -> list[dict[str, Any]]:
    """Return the registered scenarios in the order of their names."""
    return [_SCENARIO[name] for name in sorted(_SCENARIO)]


def get_scenario(name: str) -> dict[str, Any] | None:
    """Return the scenario called ``name``, or None."""
    return _SCENARIO.get(name)


def pick_scenario(worker_id: int = 0, step_id: int = 0) -> dict[str, Any] | None:
    """Pick a scenario as a worker would: by the *scenario_picker* if there is one, else by weight."""
    picker = get_fixture("scenario_picker")
    if picker is not None:
        return get_scenario(picker(worker_id, step_id))
    scenarios = get_scenarios()
    if not scenarios:
        return None
    import random

    return random.choices(scenarios, [item["weight"] for item in scenarios])[0]


def next_scenario() -> Iterator[dict[str, Any]]:
    """Iterate over the scenarios in the order of their names."""
    yield from get_scenarios()


def session_options(item: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the kind of session that a scenario wants, and the factory options it declares.

    The kind is the default of the parameter ``session_factory``, ``http`` without one; the options are the
    defaults of the other parameters, e.g. ``grpc_url="ipv4:///127.0.0.1:50051"``.
    """
    try:
        parameters = inspect.signature(item["func"]).parameters
    except (TypeError, ValueError):
        return "http", {}
    declared = parameters.get("session_factory")
    if declared is None or declared.default in (None, inspect.Parameter.empty):
        return "http", {}
    options = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name != "session_factory" and parameter.default is not inspect.Parameter.empty
    }
    return declared.default, options


def create_session(
    kind: str, loop: Any, console: Any, verbose: int, statsd: Any, trace_config: Any, **options: Any
) -> Any:
    """Create a session by the factory registered for ``kind``; KeyError when there is none."""
    if kind == "grpc" and kind not in _SESSION_FACTORY:
        from molotov import _grpc

        return _grpc.grpc_session(loop, console, verbose, statsd, trace_config, **options)
    return _SESSION_FACTORY[kind](loop, console, verbose, statsd, trace_config, **options)


def session_factory(kind: str) -> _Decorator:
    """Register the function that makes sessions of ``kind``, for scenarios that ask for it.

    A scenario asks by a default argument: ``async def call(session, session_factory="grpc")``. The function
    is called as ``f(loop, console, verbose, statsd, trace_config, **options)``; *options* is what ``setup``
    returned plus the scenario's other default arguments. The session needs ``async close()``, and
    ``_trace_configs = [trace_config]`` for :func:`molotov.get_context` to work. *Not a coroutine.*
    """

    def register(func: Callable[..., Any]) -> Callable[..., Any]:
        wrapper = _callable_wrapper(func)
        _SESSION_FACTORY[kind] = wrapper
        return wrapper

    return register


def get_fixture(name: str) -> Any:
    """Return the fixture registered as ``name`` (a list of them for ``events``), or None."""
    return _FIXTURES.get(name)


def _fixture(name: str, coroutine: bool = True, multiple: bool = False) -> _Decorator:
    def register(func: Callable[..., Any]) -> Callable[..., Any]:
        if coroutine:
            _check_coroutine(func)
        if multiple:
            _FIXTURES.setdefault(name, []).append(func)
        elif name in _FIXTURES:
            raise ValueError(f"You can't have two {name!r} functions")
        else:
            _FIXTURES[name] = func
        return _callable_wrapper(func)

    return register


def scenario_picker() -> _Decorator:
    """Choose the scenarios yourself: called with ``worker_id`` and ``step_id`` (from 1), returns a name.

    Weights are ignored then. *Not a coroutine.*
    """
    return _fixture("scenario_picker", coroutine=False)


def setup() -> _Decorator:
    """Run once per worker before it starts, with ``worker_id`` and ``args``.

    May return a dict: the keyword arguments for the worker's :class:`aiohttp.ClientSession`, e.g. headers.
    When it fails, the whole run stops and exits 1. *A coroutine.*
    """
    return _fixture("setup")


def global_setup() -> _Decorator:
    """Run once, with ``args``, before processes and workers exist; they all inherit what it leaves behind.

    *Not a coroutine.*
    """
    return _fixture("global_setup", coroutine=False)


def teardown() -> _Decorator:
    """Run when a worker is done, with ``worker_id``.

    *Not a coroutine.*
    """
    return _fixture("teardown", coroutine=False)


def global_teardown() -> _Decorator:
    """Run once when everything is done, in the first process.

    *Not a coroutine.*
    """
    return _fixture("global_teardown", coroutine=False)


def setup_session() -> _Decorator:
    """Run once per session, with ``worker_id`` and ``session``, before the worker's first step with it.

    The place to attach attributes to the session, and to make what needs its loop (``session.loop``).
    When it fails, the whole run stops and exits 1. *A coroutine.*
    """
    return _fixture("setup_session")


def teardown_session() -> _Decorator:
    """Run once per session, with ``worker_id`` and the still open ``session``.

    *A coroutine.*
    """
    return _fixture("teardown_session")


def events() -> _Decorator:
    """Listen to the run: called with ``event`` and its keyword arguments; may be declared many times.

    The events are current_workers, scenario_start, scenario_success, scenario_failure, sending_request
    and response_received. A listener costs time in every run; without one, events cost nothing.
    *A coroutine.*
    """
    return _fixture("events", multiple=True)
