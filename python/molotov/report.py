"""The ``molotov-report`` command: makes every output anew from the JSON file of a run."""

from __future__ import annotations

import argparse
import os
import sys

from molotov import __version__

__all__ = ["main"]

_FORMATS = {
    "summary": "plain text: verdict, thresholds, counts, service times, errors",
    "json": "the whole document; completes that of a run which died",
    "html": "one page with charts that needs nothing else",
    "csv": "the run second by second",
    "junit": "thresholds and scenarios as test cases",
    "markdown": "for a pull request or a CI job's summary",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="molotov-report",
        description="Show the results of a run, or write them in another format.",
        epilog="\n".join(["formats:", *(f"  {name:<10}{what}" for name, what in _FORMATS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("format", choices=list(_FORMATS), metavar="FORMAT", help="see below")
    parser.add_argument("file", metavar="RESULT.json", help="what --json wrote, also of a run that died")
    parser.add_argument("-o", "--output", default="-", metavar="FILE", help="default: stdout")
    return parser


def _width() -> int | None:
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


def main() -> int:
    """Run the command; returns 0, or 1 when a file cannot be read or written. Exits with 2 when misused."""
    args = _parser().parse_args()
    from molotov import _core
    from molotov.ui.output import write

    try:
        results = _core.Results.read(args.file)
        if args.output == "-":
            write(results.render(args.format, _width()))
        else:
            results.write(args.format, args.output)
    except OSError as error:
        what = f"can't write {args.output}: {error.strerror}" if error.strerror else error
        print(f"molotov-report: {what}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"molotov-report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
