"""Importing what the user names: the scenario file or module, and extensions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

from molotov import _ssl
from molotov._options import DEFAULT_SCENARIO
from molotov.util import printable_error, skip_own_frames

__all__ = ["LoadError", "load_extensions", "load_scenario", "print_script_error", "untangle_extensions"]


class LoadError(Exception):
    """Something that the user named cannot be imported; ``lines`` say so."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def _run_file(name: str, path: str) -> ModuleType:
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"Cannot import {path!r}")
    module = module_from_spec(spec)
    # Dataclasses and pickle look a class's module up; the original forgot it, which broke both.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except OSError as error:
        if error.filename != path:
            raise
        raise LoadError(f"Cannot import {path!r}: {error.strerror}") from None
    return module


def load_scenario(name: str) -> None:
    """Import the scenarios: a file if there is one of this name, else a module.

    The file's directory goes to the front of ``sys.path``, so that it can import its neighbours. What an
    existing file raises is passed on; raises :class:`LoadError` when there is nothing to import.
    """
    _ssl.watch()
    if os.path.isdir(name):
        raise LoadError(f"Cannot import {name!r}")
    if os.path.exists(name):
        path = os.path.dirname(os.path.abspath(name))
        sys.path.insert(0, path)
        _run_file("loadtest", name)
        return
    here = os.getcwd()
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
    try:
        module = import_module(name)
    except Exception as error:
        if not _is_missing(name, error):
            print_script_error(error)
        raise LoadError(f"Cannot import {name!r}", "Try `molotov molotov.dummy`", "*** Bye ***") from None
    if module.__file__ is not None:
        sys.path.insert(0, os.path.dirname(module.__file__))


def _is_missing(name: str, error: Exception) -> bool:
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        # `molotov nothere.py` asks for the module `nothere.py`, of which Python misses `nothere`.
        return name == error.name or name.startswith(f"{error.name}.")
    return isinstance(error, (ValueError, TypeError)) and not name.strip(".")


def load_extensions(names: list[str], say: Callable[[str], None] | None) -> None:
    """Import extensions, files or modules; ``say`` gets a line for each. Raises :class:`LoadError`."""
    _ssl.watch()
    for name in names:
        if say is not None:
            say(f"Loading extension {name!r}")
        if os.path.isfile(name):
            _run_file("extension", name)
            continue
        try:
            import_module(name)
        except Exception as error:
            raise LoadError(f"Cannot import {name!r}", *printable_error(error)) from None


def untangle_extensions(args: Any) -> str | None:
    """Give the scenario back that ``--use-extension A B scenario.py`` swallowed; returns a note about it.

    Only when the words cannot mean anything else: no scenario was named, and the last word is the default
    one, or is a file while the default one does not exist.
    """
    names = args.use_extension
    if not names or len(names) < 2 or args.scenario != DEFAULT_SCENARIO:
        return None
    last = names[-1]
    if last != DEFAULT_SCENARIO and (os.path.exists(DEFAULT_SCENARIO) or not os.path.isfile(last)):
        return None
    args.scenario = last
    args.use_extension = names[:-1]
    return f"Note: --use-extension takes every word that follows; {last!r} is used as the scenario"


def print_script_error(error: BaseException) -> None:
    """Print an exception of the user's code to stderr, its traceback beginning in that code."""
    import traceback

    trace = skip_own_frames(error.__traceback__)
    if trace is None and not isinstance(error, SyntaxError):
        # A mistake of ours. (A script with a syntax error never ran, and the error names its file and line.)
        trace = error.__traceback__
    traceback.print_exception(type(error), error, trace)
