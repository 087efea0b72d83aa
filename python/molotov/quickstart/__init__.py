"""`molostart`: write a first load test into a directory.

Owns the questions and the writing of files; what the files say is in `_templates`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from molotov import __version__
from molotov.quickstart import _templates

_PREFIX = "> "


class ValidationError(Exception):
    """An answer that can't be used; the question is asked again."""


def _input(msg: str) -> str:
    return input(msg)


def _prompt(text: str, default: str, validator: Callable[[str], Any] | None = None) -> Any:
    while True:
        answer = _input(f"{_PREFIX}{text} [{default}]: ") or default
        if validator is None:
            return answer
        try:
            return validator(answer)
        except ValidationError as error:
            print(error)


def _yes(answer: str) -> bool:
    chosen = answer.strip().upper()
    if chosen not in ("Y", "YES", "N", "NO"):
        raise ValidationError("Please enter either 'y' or 'n'.")
    return chosen in ("Y", "YES")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="molostart", description="Write a first load test")
    parser.add_argument("--version", action="store_true", default=False, help="print the version and exit")
    return parser


def _stop(message: str) -> NoReturn:
    print(message)
    sys.exit(1)


def _write(target: Path, names: list[str]) -> None:
    # Nothing is written unless everything can be: half a test helps nobody.
    for name in names:
        if (target / name).exists():
            _stop(f"{str(target / name)!r} already exists. Cowardly stopping here")
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"…copying {name!r} in {str(target)!r}")
        (target / name).write_text(_templates.content(name), encoding="utf-8")


def main() -> None:
    """Run the `molostart` command: two questions, then two or three files.

    Exits with 1, having written nothing, when a file is already there, the directory can't be written to, or
    the answers end early.
    """
    args = _parser().parse_args()
    if args.version:
        print(__version__)
        sys.exit(0)

    print("**** Molotov Quickstart ****")
    print("")
    print("Answer to a few questions to get started...")
    try:
        target = _prompt("Target directory", ".")
        with_makefile = _prompt("Create Makefile", "y", validator=_yes)
    except EOFError:
        print("")
        _stop("molostart asks two questions: run it in a terminal, or pipe two answers into it")

    print("Generating Molotov test...")
    names = ["Makefile"] if with_makefile else []
    try:
        _write(Path(target), [*names, "loadtest.py", "molotov.json"])
    except OSError as error:
        _stop(f"Can't write into {target!r}: {error.strerror or error}")

    print("")
    print("All done. Happy Breaking!")
    print(f"Go in {target!r}")
    if with_makefile:
        print("Run 'make build' to get started...")
