"""The options of the ``molotov`` command: parser, defaults, and values from a configuration file."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from molotov.exceptions import OptionError

__all__ = [
    "DEFAULT_DURATION",
    "DEFAULT_SCENARIO",
    "RESULT_FILES",
    "RESULT_OPTIONS",
    "command_line",
    "make_parser",
    "option",
    "parse",
    "set_from_config",
    "stage_points",
]

DEFAULT_SCENARIO = "loadtest.py"
DEFAULT_DURATION = 86400
#: The options that name a file for results.
RESULT_FILES = ("json", "csv", "html", "junit", "markdown", "png", "svg")
#: The options that ask for collecting results.
RESULT_OPTIONS = (*RESULT_FILES, "threshold", "monitor")
_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_RATE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:/\s*(s|m|min|h))?\s*")
_SECONDS = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*")

# What a hand-made namespace may lack.
_DEFAULTS: dict[str, Any] = {
    "scenario": DEFAULT_SCENARIO,
    "duration": DEFAULT_DURATION,
    "workers": 1,
    "processes": 1,
    "ramp_up": 0.0,
    "delay": 0.0,
    "verbose": 0,
    "console_update": 0.2,
    "sizing_tolerance": 5.0,
    "sizing_budget": 300.0,
    "sizing_on": "workers",
    "statsd_address": "udp://localhost:8125",
}


def option(args: Any, name: str) -> Any:
    """Return an option of a namespace; its default (None for flags) when a hand-made one lacks it."""
    return getattr(args, name, _DEFAULTS.get(name))


def duration(text: str) -> float:
    """Read seconds: ``90``, ``1.5``, ``2m``, ``500ms``, ``1h``; ArgumentTypeError for anything else."""
    match = _SECONDS.fullmatch(str(text).lower())
    if match is None or match[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90, 1.5 or 2m")
    seconds = float(match[1]) * _UNITS[match[2]]
    # Scripts print args.duration and count with it: whole seconds stay integers, as they always were.
    return int(seconds) if seconds.is_integer() else seconds


def rate(text: str) -> float:
    """Read runs per second: ``300``, ``0.5``, ``300/s``, ``18000/m``; ArgumentTypeError for anything else."""
    match = _RATE.fullmatch(str(text).lower())
    if match is None or float(match[1]) == 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate such as 300, 0.5 or 18000/m")
    return float(match[1]) / _UNITS[match[2] or "s"]


def stages(text: str) -> str:
    """Check points of a rate over time, as ``0:0 30s:200 5m:200``; ArgumentTypeError for anything else."""
    stage_points(text)
    return str(text)


def stage_points(text: str) -> list[tuple[float, float]]:
    """Read what :func:`stages` has checked, as seconds and runs per second."""
    points = []
    for word in str(text).replace(",", " ").split():
        time, colon, runs = word.partition(":")
        match = _RATE.fullmatch(runs.lower())
        if not colon or match is None:
            raise argparse.ArgumentTypeError(f"{word!r} is not a stage such as 30s:200, a time and a rate")
        points.append((float(duration(time)), float(match[1]) / _UNITS[match[2] or "s"]))
    if len(points) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} has less than two stages; '0:0 30s:200 5m:200' has three")
    if points[0][0] != 0.0:
        raise argparse.ArgumentTypeError(
            f"{text!r} does not say the rate at 0: begin with 0:0, or another rate"
        )
    if any(later < earlier for (earlier, _), (later, _) in pairwise(points)):
        raise argparse.ArgumentTypeError(f"{text!r} goes back in time")
    if not any(later > earlier and a + b > 0.0 for (earlier, a), (later, b) in pairwise(points)):
        raise argparse.ArgumentTypeError(f"{text!r} never starts a run")
    return points


def seed(text: str) -> int:
    """Read a seed; ArgumentTypeError for what is none."""
    try:
        number = int(str(text))
    except ValueError:
        number = -1
    if not 0 <= number < 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed, a whole number from 0 on")
    return number


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    def __init__(self, prog: str) -> None:
        # argparse makes one for every option, and would import shutil for the width: 10 ms of start-up.
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    try:
        return int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class _Parser(argparse.ArgumentParser):
    """A parser that takes `--http2` alone, too, and never the scenario behind it for its value."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args(
            ["--http2=alpn" if word == "--http2" else word for word in words], namespace
        )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; every destination is also an option name of molotov.json."""
    parser = _Parser(prog="molotov", description="Load test.", formatter_class=_HelpFormatter)
    add = parser.add_argument
    add(
        "scenario",
        default=DEFAULT_SCENARIO,
        nargs="?",
        help="path or module name of the scenarios; with --config, the name of a test",
    )
    add("--single-run", action="store_true", default=False, help="run every scenario once per worker")
    add("-s", "--single-mode", default=None, metavar="NAME", help="run only this scenario, repeatedly")
    add("--config", default=None, metavar="FILE", help="read the options of a test from a molotov.json")
    add("--version", action="store_true", default=False, help="print the version and exit")
    add("--debug", action="store_true", default=False, help="run the event loop in debug mode")
    add(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="-vv shows requests and responses; tracebacks are always shown",
    )
    add("-w", "--workers", type=int, default=1, help="workers (virtual users) per process")
    add(
        "--ramp-up",
        type=duration,
        default=0.0,
        metavar="SECONDS",
        help="time over which the workers start, e.g. 90, 1.5 or 2m",
    )
    add("--sizing", action="store_true", default=False, help="add workers until the service gives out")
    add(
        "--sizing-tolerance",
        type=float,
        default=5.0,
        metavar="PERCENT",
        help="share of failures that ends --sizing",
    )
    add(
        "--sizing-latency",
        default=None,
        metavar="RULE",
        help="also end --sizing when this breaks, e.g. 'p95<500ms'",
    )
    add(
        "--sizing-budget",
        type=duration,
        default=300.0,
        metavar="SECONDS",
        help="time of --sizing for the search after the ramp, and for confirming what it found",
    )
    add(
        "--no-sizing-confirm",
        action="store_true",
        default=False,
        help="end --sizing with its ramp: where something gives out, not what can be sustained",
    )
    add(
        "--sizing-on",
        choices=["workers", "rate"],
        default="workers",
        help="what --sizing searches for: how many workers, or how many runs started per second",
    )
    add(
        "--rate",
        type=rate,
        default=None,
        metavar="N",
        help="start so many runs per second over all processes, whatever became of the runs before; "
        "-w is then how many workers there may be",
    )
    add(
        "--stages",
        type=stages,
        default=None,
        metavar="POINTS",
        help="the same with a rate that changes: times and rates, straight lines between them, "
        "e.g. '0:0 30s:200 5m:200'; ends with the last one",
    )
    add(
        "--rate-shape",
        choices=["poisson", "constant"],
        default=None,
        help="how starts are spread: as independent users come (poisson, unless told otherwise), or evenly",
    )
    add("--rate-seed", type=seed, default=None, metavar="N", help="make the starts of poisson repeatable")
    add("--delay", type=duration, default=0.0, metavar="SECONDS", help="pause of a worker after each run")
    add(
        "--console-update",
        type=duration,
        default=0.2,
        metavar="SECONDS",
        help="time between two updates of the console",
    )
    add("-p", "--processes", type=int, default=1, help="number of processes")
    add(
        "-d",
        "--duration",
        type=duration,
        default=DEFAULT_DURATION,
        metavar="SECONDS",
        help="how long each worker runs, e.g. 90, 1.5 or 2m",
    )
    add("-r", "--max-runs", type=int, default=None, help="runs per worker; 0 is unlimited")
    add("-q", "--quiet", action="store_true", default=False, help="print nothing")
    add("-x", "--exception", action="store_true", default=False, help="stop on the first failure")
    add(
        "-f",
        "--fail",
        type=int,
        default=None,
        metavar="N",
        help="exit with 1 when there are at least N failures",
    )
    add("-c", "--console", action="store_true", default=False, help="plain lines, no live status")
    add("--statsd", action="store_true", default=False, help="send metrics to statsd")
    add("--statsd-address", default="udp://localhost:8125", metavar="URL", help="address of statsd")
    add(
        "--http2",
        choices=["alpn", "prior-knowledge"],
        default=None,
        metavar="HOW",
        help="speak HTTP/2 with TLS servers that choose it, or (--http2=prior-knowledge) without TLS as well",
    )
    add("--uvloop", action="store_true", default=False, help="use uvloop as the event loop")
    add(
        "--use-extension",
        nargs="+",
        default=None,
        metavar="EXTENSION",
        help="files or modules to import first; takes every word that follows",
    )
    add(
        "--force-shutdown",
        action="store_true",
        default=False,
        help="cancel the runs in flight when the duration is over or the run is stopped",
    )
    add("--json", default=None, metavar="FILE", help="write the results there as the run goes; - is stdout")
    add("--csv", default=None, metavar="FILE", help="write the run second by second there at its end")
    add("--html", default=None, metavar="FILE", help="write the report there: one page with charts")
    add("--junit", default=None, metavar="FILE", help="write thresholds and scenarios there as test cases")
    add("--markdown", default=None, metavar="FILE", help="write a summary there in Markdown")
    add("--png", default=None, metavar="FILE", help="write one picture of the run there, 1200 by 800")
    add("--svg", default=None, metavar="FILE", help="write the same picture there as a drawing")
    add(
        "--threshold",
        action="append",
        default=None,
        metavar="RULE",
        help="exit with 99 when this does not hold, e.g. 'p95<500ms for GET /x'; repeatable",
    )
    add(
        "--monitor",
        action="append",
        default=None,
        metavar="WHAT",
        help="watch what the target uses: pid:1234, port:8888, container:NAME, cgroup:PATH, host or "
        "glances:FILE.csv, and before it NAME= to call it that; repeatable",
    )
    add("--demo", action="store_true", default=False, help="run offline, against a server of its own")
    return parser


def parse(parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> tuple[Any, set[str]]:
    """Parse a command line; returns the namespace and the names of the options that it really contained."""
    args = parser.parse_args(words)
    defaults = {action.dest: action.default for action in parser._actions}
    try:
        for action in parser._actions:
            action.default = argparse.SUPPRESS
        explicit = set(vars(parser.parse_args(words)))
    finally:
        for action in parser._actions:
            action.default = defaults[action.dest]
    return args, explicit


def command_line(name: str, parser: argparse.ArgumentParser) -> str:
    """Return how the option of this name is spelled on the command line."""
    for action in parser._actions:
        if action.dest == name and action.option_strings:
            return action.option_strings[-1]
    return name


def set_from_config(args: Any, options: dict[str, Any], explicit: set[str]) -> list[str]:
    """Set a test's options on ``args``, except those that the command line gave; returns notes on these.

    Raises :class:`OptionError` for a value that does not fit its option. Unknown names are set as they are,
    for scripts that read them.
    """
    parser = make_parser()
    actions = {action.dest: action for action in parser._actions}
    notes = []
    for name, value in options.items():
        action = actions.get(name)
        if action is not None:
            value = _checked(name, action, value)
        # With --config the positional argument is the test's name, not a scenario.
        if name in explicit and name != "scenario":
            if getattr(args, name) != value:
                flag = command_line(name, parser)
                notes.append(f"Note: {flag} of the command line wins over {name} = {value!r} in the config")
            continue
        setattr(args, name, value)
    return notes


def _checked(name: str, action: argparse.Action, value: Any) -> Any:
    wrong = OptionError(f"Bad config -- {name} can't be {value!r}")
    if value is None:
        return action.default
    if isinstance(action, argparse._CountAction):
        if not isinstance(value, int) or value < 0:
            raise wrong
        return int(value)
    if action.nargs == 0:
        if not isinstance(value, (bool, int)):
            raise wrong
        return bool(value)
    if action.nargs == "+" or isinstance(action, argparse._AppendAction):
        if isinstance(value, str):
            return [value]
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise wrong
        return value
    if isinstance(value, (bool, list, dict)):
        raise wrong
    if action.type is None:
        return str(value)
    if action.type is int and isinstance(value, float) and not value.is_integer():
        raise wrong
    try:
        read: Any = action.type(str(int(value)) if action.type is int else str(value))  # type: ignore[operator]
    except (ValueError, argparse.ArgumentTypeError):
        raise wrong from None
    return read
