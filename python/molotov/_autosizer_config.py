"""The configuration file of ``autosizer``: where it is looked for, what may stand in it, and a sample.

The names are those of the flags, with ``-`` or ``_``. Called by :mod:`molotov.autosizer`.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
from typing import Any

from molotov.exceptions import OptionError

__all__ = ["SAMPLE", "names_of", "read_config"]

_FILES = ("autosizer.toml", "pyproject.toml", "molotov.json")
_LISTS = ("cpus", "memory", "instance_type")
#: Flags that make no sense in a file, or have another form there.
_NOT_HERE = frozenset({"help", "config", "repo_image"})

SAMPLE = """\
# Options of `autosizer run`; the command line goes before them. The names are those of the flags.
[autosizer]

# Where the service runs: "local" (a process here), "container" (Docker or Podman), "ssm" (an EC2 instance).
on = "local"

# What to start. No shell reads it: a list, or a text that is split like one.
command = ["kinto", "start", "--ini", "kinto.ini"]
# image = "kinto/kinto-server"      # instead, with on = "container"
port = 8888
# directory = "."
# service_log = "service.log"       # keep its log

# It is ready when this path answers with a status below 500.
ready_path = "/"
ready_timeout = 60                  # seconds

# What it may use. Several values are tried one after another, every one with every other.
# cpus = [0.5, 1, 2]
# memory = ["512m", "1g"]

# The load test: a file, or a test of a repository's molotov.json.
scenario = "loadtest.py"
# scenario_repo = "https://example.com/loadtests.git#test"
# server_path = "/v1/"              # what follows the port in SERVER_URL
molotov = ["--sizing-budget", "60"] # molotov's own options

# What comes out.
# need = 200                        # requests per second: recommend the cheapest row that takes them
# prices = "prices.toml"
# json = "sizing.json"
# html = "sizing.html"

# Variables for the service. true takes the value from autosizer's own environment; values are never shown.
[autosizer.env]
# KINTO_USERID_HMAC_SECRET = true
"""


def names_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the names that a file may use."""
    names = {action.dest for action in parser._actions} - _NOT_HERE
    return sorted({*names, "molotov", "test"})


def read_config(path: str | None, names: list[str]) -> dict[str, Any]:
    """Return the options of a file, or of the first of those here that has some; empty when none has.

    Raises :class:`OptionError` for a file that can't be read, and for names and values that can't be used.
    """
    if path is not None:
        table = _table(path)
        if table is None:
            raise OptionError(f"{path} has no [autosizer]")
        return _checked(path, table, names)
    for name in _FILES:
        if os.path.isfile(name):
            table = _table(name)
            if table is not None:
                return _checked(name, table, names)
    return {}


def _table(path: str) -> Any:
    try:
        if path.endswith(".json"):
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        else:
            from molotov import _core

            content = json.loads(_core.read_toml(path))
    except OSError as error:
        raise OptionError(f"Can't read {path}: {error.strerror}") from None
    except ValueError as error:
        raise OptionError(f"Can't parse {path}: {error}") from None
    if not isinstance(content, dict):
        return None
    tool = content.get("tool")
    inside = tool.get("autosizer") if isinstance(tool, dict) else None
    return content.get("autosizer", inside)


def _checked(path: str, table: Any, names: list[str]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise OptionError(f"{path}: autosizer must hold names and values")
    options: dict[str, Any] = {}
    for given, value in table.items():
        name = given.replace("-", "_")
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f", do you mean {close[0]}?" if close else ""
            raise OptionError(f"{path}: there is no option {given!r}{hint}")
        options[name] = _value(f"{path}: {given}", name, value)
    return options


def _value(where: str, name: str, value: Any) -> Any:
    if name == "env":
        return _variables(where, value)
    if name in ("command", "molotov"):
        if name == "command" and isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(word, (str, int, float)) for word in value):
            return [str(word) for word in value]
        raise OptionError(f"{where} must be a list of words")
    if name in _LISTS:
        values = value if isinstance(value, list) else [value]
        if any(isinstance(item, (bool, dict, list)) or item is None for item in values):
            raise OptionError(f"{where} must be a value or a list of values")
        return ",".join(str(item) for item in values)
    if name == "no_sizing":
        if not isinstance(value, bool):
            raise OptionError(f"{where} must be true or false")
        return value
    if name in ("port", "need", "ready_timeout"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise OptionError(f"{where} must be a number")
        return value
    if not isinstance(value, str):
        raise OptionError(f"{where} must be a text")
    return value


def _variables(where: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        raise OptionError(f"{where} must hold names and values")
    items = []
    for name, content in value.items():
        if content is True:
            items.append(name)
        elif isinstance(content, (str, int, float)) and not isinstance(content, bool):
            items.append(f"{name}={content}")
        else:
            raise OptionError(f"{where}.{name} must be a text, or true for the value of the environment")
    return items
