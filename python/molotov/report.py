"""The ``molotov-report`` command: every output anew from the files of runs, and runs against each other."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any, Protocol

from molotov import __version__

__all__ = ["main"]

_FORMATS = {
    "summary": "plain text: verdict, thresholds, counts, service times, errors",
    "json": "the whole document; completes that of a run which died",
    "html": "one page with charts that needs nothing else",
    "png": "one picture for a chat or a comment, 1200 by 800; needs -o FILE",
    "svg": "the same as a drawing",
    "csv": "the run second by second",
    "junit": "thresholds and scenarios as test cases",
    "markdown": "for a pull request or a CI job's summary",
}
_COMMANDS = {
    "compare": "several runs against the first: improved, regressed, unchanged, unclear",
    "glances": "what Glances exported as CSV: resources, and what gave out",
}
_STDOUT = "-"
_CANNOT = 1
_REGRESSED = 99
_VERDICTS = ("regressed", "unclear", "improved")


class _Writable(Protocol):
    def render(self, format: str) -> str: ...
    def write(self, format: str, path: str) -> None: ...


def _listed(names: dict[str, str]) -> list[str]:
    return [f"  {name:<10}{what}" for name, what in names.items()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="molotov-report",
        description="Show the results of a run, or write them in another format.",
        epilog="\n".join(
            [
                "formats:",
                *_listed(_FORMATS),
                "",
                "other commands, each with its own --help:",
                *_listed(_COMMANDS),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("format", choices=list(_FORMATS), metavar="FORMAT", help="see below")
    parser.add_argument("file", metavar="RESULT.json", help="what --json wrote, also of a run that died")
    parser.add_argument("-o", "--output", default=_STDOUT, metavar="FILE", help="default: stdout")
    return parser


def _compare_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="molotov-report compare",
        description="Compare runs with the first of them: two releases, two instance types, two backends.",
        epilog="A metric has improved or regressed when its change is more than chance and more than the "
        "margin, is unchanged when its whole interval lies within the margin, and is unclear otherwise.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="RESULT.json", help="two or more; the first is the baseline"
    )
    parser.add_argument(
        "--margin",
        type=_share,
        default=0.05,
        metavar="PERCENT",
        help="changes smaller than this do not matter (default: 5%%)",
    )
    parser.add_argument(
        "--fail-on",
        action="append",
        choices=_VERDICTS,
        default=None,
        metavar="VERDICT",
        help=f"exit with {_REGRESSED} when any metric is {', '.join(_VERDICTS)}; repeatable",
    )
    _add_outputs(
        parser, {"html": "a page with charts", "json": "all numbers", "markdown": "for a pull request"}
    )
    return parser


def _glances_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="molotov-report glances",
        description="Show what Glances exported (`glances --export csv --export-csv-file FILE`).",
    )
    parser.add_argument("file", metavar="FILE.csv", help="also of Glances 2")
    parser.add_argument(
        "--container",
        default=None,
        metavar="NAME",
        help="which container, or `host`; default: the only container, else the host",
    )
    _add_outputs(
        parser,
        {
            "html": "a page with charts",
            "png": "a picture",
            "svg": "the same as a drawing",
            "json": "the document that all formats are made of",
            "markdown": "for a pull request",
        },
    )
    return parser


def _add_outputs(parser: argparse.ArgumentParser, outputs: dict[str, str]) -> None:
    parser.set_defaults(outputs=tuple(outputs))
    for name, what in outputs.items():
        dash = "" if name == "png" else "; - is stdout"
        parser.add_argument(f"--{name}", default=None, metavar="FILE", help=f"write {what} there{dash}")


def _share(text: str) -> float:
    """``5%`` or ``5`` as 0.05."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*%?\s*", text)
    if match is None or not 0 <= float(match[1]) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage between 0 and 100")
    return float(match[1]) / 100


def _width() -> int | None:
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


class _Problem(Exception):
    """One clear line for the user."""


def _try_to_write(path: str, work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:
        raise _Problem(f"can't write {path}: {error.strerror or error}") from None


def _deliver(what: _Writable, args: Any, shown: Callable[[], str]) -> None:
    """Write the files that were asked for, and to stdout one of them or the text for people."""
    from molotov.ui.output import write

    paths = {name: path for name in args.outputs if (path := getattr(args, name)) is not None}
    to_stdout = [name for name, path in paths.items() if path == _STDOUT]
    if len(to_stdout) > 1:
        raise _Problem("only one of the outputs can go to stdout (-)")
    if "png" in to_stdout:
        raise _Problem("a picture needs a file: --png FILE")
    for name, path in paths.items():
        if path != _STDOUT:
            _try_to_write(path, lambda name=name, path=path: what.write(name, path))  # type: ignore[misc]
    write(what.render(to_stdout[0]) if to_stdout else shown())


def _show(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    from molotov import _core
    from molotov.ui.output import write

    several = _core.autosizer_page(args.file) if args.format == "html" else None
    if several is not None:
        if args.output == _STDOUT:
            write(several)
        else:
            _try_to_write(args.output, lambda: _write_text(args.output, several))
        return 0
    results = _core.Results.read(args.file)
    if args.output != _STDOUT:
        _try_to_write(args.output, lambda: results.write(args.format, args.output))
    elif args.format == "png":
        raise _Problem("a picture needs a file: -o FILE")
    else:
        write(results.render(args.format, _width()))
    return 0


def _write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _compare(argv: list[str]) -> int:
    parser = _compare_parser()
    args = parser.parse_args(argv)
    if len(args.files) < 2:
        parser.error("a comparison needs two runs or more")
    from molotov import _core

    comparison = _core.Comparison(args.files, args.margin)
    _deliver(comparison, args, lambda: comparison.render("text"))
    return _REGRESSED if any(comparison.count(verdict) for verdict in args.fail_on or []) else 0


def _glances(argv: list[str]) -> int:
    args = _glances_parser().parse_args(argv)
    from molotov import _core

    results = _core.Results.glances(args.file, args.container, ["molotov-report", "glances", *argv])
    _deliver(results, args, lambda: results.render("summary", _width()))
    return 0


def main() -> int:
    """Run the command.

    Returns 0, 1 when a file cannot be read or written, or 99 when ``--fail-on`` found something. Exits
    with 2 when misused.
    """
    argv = sys.argv[1:]
    commands = {"compare": _compare, "glances": _glances}
    command = commands.get(argv[0]) if argv else None
    try:
        return _show(argv) if command is None else command(argv[1:])
    except (_Problem, OSError, ValueError) as error:
        print(f"molotov-report: {' '.join(str(error).split())}", file=sys.stderr)
        return _CANNOT


if __name__ == "__main__":
    sys.exit(main())
