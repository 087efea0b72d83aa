"""The real aiohttp.ClientSession that serves what the native session can't, on the same loop.

Each reason is said once per process, on the `molotov` logger: never a silent change of engine.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molotov.session import ClientSession

__all__ = ["announce", "count", "environment_reason", "session_for"]

logger = logging.getLogger("molotov")
_announced: set[tuple[str, str]] = set()


def announce(what: str, reason: str) -> None:
    """Say once that aiohttp itself serves `what` ("this session", "this request") and why."""
    if (what, reason) in _announced:
        return
    _announced.add((what, reason))
    logger.warning("%s served by aiohttp instead of the native client: %s", what, reason)


def count(owner: ClientSession, response: Any) -> None:
    """Count aiohttp's responses where the native ones are counted, redirects included."""
    state = owner._state
    if state is None:
        return
    for one in (*response.history, response):
        state.add("requests", 1)
        state.add(f"{one.status // 100}xx" if 100 <= one.status < 600 else "other", 1)


def environment_reason() -> str | None:
    """With trust_env: name what the environment asks for that only aiohttp can do (a proxy), or None."""
    import urllib.request

    proxies = {name: value for name, value in urllib.request.getproxies().items() if name != "no"}
    if proxies:
        return "a proxy from the environment"
    return None


def session_for(owner: ClientSession) -> Any:
    """Give the owner's aiohttp session, made at the first call; needs the owner's loop to be running.

    It shares the owner's cookies, headers and connector settings, so a request may go either way.
    """
    made = owner._aiohttp_session
    if made is not None and not made.closed:
        return made
    import aiohttp

    arguments = dict(owner._arguments)
    for ours in ("cookies", "connector_owner"):
        arguments.pop(ours, None)
    tracer = owner._tracer
    if tracer is not None:
        from molotov import _tracing

        arguments.setdefault("request_class", _tracing.logged_client_request())
        arguments.setdefault("response_class", _tracing.logged_client_response())
    traces: list[Any] = [trace for trace in owner._trace_configs if trace is not tracer]
    if tracer is not None:
        traces.append(tracer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = aiohttp.ClientSession(
            owner._base_url,
            loop=owner._loop,
            connector=owner.connector,
            connector_owner=False,
            cookie_jar=owner.cookie_jar,
            trace_configs=traces,
            **arguments,
        )
    # One mapping for both: the script may add a header to session.headers at any time.
    made._default_headers = owner.headers
    owner._aiohttp_session = made
    return made
