"""Load tests written as Python coroutines, run by a Rust engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molotov.api import (
    events,
    global_setup,
    global_teardown,
    scenario,
    scenario_picker,
    session_factory,
    setup,
    setup_session,
    teardown,
    teardown_session,
)
from molotov.util import get_var, json_request, request, set_var

if TYPE_CHECKING:
    from molotov._loop import new_event_loop
    from molotov.session import get_context

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "events",
    "get_context",
    "get_var",
    "global_setup",
    "global_teardown",
    "json_request",
    "new_event_loop",
    "request",
    "scenario",
    "scenario_picker",
    "session_factory",
    "set_var",
    "setup",
    "setup_session",
    "teardown",
    "teardown_session",
]

# Loaded on first use: `molotov --help` and a scenario's decorators need neither asyncio nor the engine.
_LAZY = {"get_context": "molotov.session", "new_event_loop": "molotov._loop"}


def __getattr__(name: str) -> Any:
    """Load the names that need the engine when they are first asked for."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'molotov' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(module), name)
    globals()[name] = value
    return value
