"""The ``molotov`` command."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from molotov import __version__
from molotov._loading import (
    LoadError,
    load_extensions,
    load_scenario,
    print_script_error,
    untangle_extensions,
)
from molotov._options import DEFAULT_SCENARIO, RESULT_OPTIONS, make_parser, option, parse, set_from_config
from molotov.api import get_scenario, get_scenarios
from molotov.exceptions import RunError
from molotov.util import OptionError, read_test_options

if TYPE_CHECKING:
    import argparse

__all__ = ["PYPY", "main", "run"]

PYPY = sys.implementation.name == "pypy"

_FAILED = 1
_CONFIGURATION_ERROR = 104
_DEFAULT_SIZING_RAMP_UP_SECONDS = 300
_DEFAULT_SIZING_WORKERS = 500
_DEFAULT_RATE_WORKERS = 500


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command; tools use it to build command lines."""
    return make_parser()


def _end(message: str, code: int) -> NoReturn:
    print(message, flush=True)
    sys.exit(code)


def main(args: Any = None) -> int:
    """Run the command with ``sys.argv``, or with a namespace of :func:`_parser`; returns 0.

    Exits with 1 for too many failures or a run that could not start, 2 on a usage error, 104 on a
    configuration error. An exception of the scenario file is printed with its traceback and exits with 1 in
    the first case, and is passed on in the second.
    """
    if args is not None:
        return _main(args, set())
    args, explicit = parse(make_parser())
    try:
        return _main(args, explicit)
    except Exception as error:
        print_script_error(error)
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        # Before the run had taken the signals over: while importing, or in global_setup.
        sys.exit(130)


def _main(args: Any, explicit: set[str]) -> int:
    if option(args, "version"):
        print(__version__)
        sys.exit(0)
    if option(args, "processes") > 1 and os.name == "nt":
        _end("The -p/--processes option is unsupported on win32", 0)
    if option(args, "config"):
        _read_config(args, explicit)
    if option(args, "use_extension"):
        note = untangle_extensions(args)
        if note:
            print(note, file=sys.stderr)
    if option(args, "http2"):
        # Every process and every session, the script's own ones included, looks there.
        os.environ["MOLOTOV_HTTP2"] = option(args, "http2")
    if option(args, "uvloop"):
        if PYPY:
            _end("You can't use uvloop with PyPy", 0)
        try:
            import uvloop  # noqa: F401
        except ImportError:
            _end("You need to install uvloop when using --uvloop", 0)
    if option(args, "sizing"):
        from molotov._sizing import is_confirmed

        # A search that is free to choose its ramp needs less time than that.
        if option(args, "ramp_up") == 0.0 and not is_confirmed(args):
            args.ramp_up = _DEFAULT_SIZING_RAMP_UP_SECONDS
        if option(args, "workers") == 1:
            args.workers = _DEFAULT_SIZING_WORKERS
    elif (option(args, "rate") or option(args, "stages")) and "workers" not in explicit:
        # A rate makes as many as it needs.
        args.workers = _DEFAULT_RATE_WORKERS
    if option(args, "demo"):
        from molotov._demo import run_demo

        run_demo(args)
    else:
        run(args)
    return 0


def _read_config(args: Any, explicit: set[str]) -> None:
    if args.scenario == DEFAULT_SCENARIO:
        args.scenario = "test"
    try:
        options = read_test_options(args.config, args.scenario)
        # The positional argument was the name of the test.
        args.scenario = DEFAULT_SCENARIO
        for note in set_from_config(args, options, explicit):
            print(note, file=sys.stderr)
        explicit.update(options)
    except OptionError as error:
        _end(str(error), _CONFIGURATION_ERROR)


def _say(stream: TextIO, line: str) -> None:
    from molotov.ui.output import write

    write(f"{line}\n", stream)


def run(args: Any, stream: TextIO | None = None) -> dict[str, Any]:
    """Run what a namespace asks for; returns the counts, e.g. ``{"OK": 10, "FAILED": 0, ...}``.

    The namespace may be hand-made and lack options. Messages and the closing lines go to ``stream``, stdout
    by default. Exits with 1 when the run cannot start, when a setup failed, when there are at least ``fail``
    failures, or when a process died; with 99 when only a threshold failed.
    """
    stdout = sys.stdout
    if stream is None and any(option(args, name) for name in RESULT_OPTIONS):
        from molotov._results import stdout_is_taken

        if stdout_is_taken(args):
            # Whoever reads the results from a pipe must not find anything else in it.
            with contextlib.redirect_stdout(sys.stderr):
                return _run(args, sys.stderr, stdout)
    return _run(args, stdout if stream is None else stream, stdout)


def _run(args: Any, out: TextIO, stdout: TextIO) -> dict[str, Any]:
    """Do what :func:`run` does: text goes to ``out``, results that were asked for on stdout to ``stdout``."""
    from molotov.ui.console import SharedConsole

    quiet = bool(option(args, "quiet"))
    args.shared_console = SharedConsole(
        interval=option(args, "console_update"),
        simple_console=bool(option(args, "console")),
        single_process=option(args, "processes") == 1,
    )
    try:
        load_extensions(option(args, "use_extension") or [], None if quiet else functools.partial(_say, out))
        load_scenario(option(args, "scenario"))
        _check(args)
    except LoadError as error:
        for line in error.lines:
            _say(out, line)
        sys.exit(_FAILED)

    from molotov._summary import closing_lines, summary_lines
    from molotov.runner import Runner

    try:
        runner = Runner(args)
    except OptionError as error:
        _say(out, str(error))
        sys.exit(_CONFIGURATION_ERROR)
    try:
        counters = runner()
    except OptionError as error:
        _say(out, str(error))
        sys.exit(_CONFIGURATION_ERROR)
    except RunError as error:
        _say(out, str(error))
        sys.exit(_FAILED)
    verdict = runner.sizing.verdict if runner.sizing is not None else None
    results: dict[str, Any] = counters.to_dict()
    results["RATIO"] /= 100.0
    code, reason = _exit_code(args, results, runner)
    if runner.results is not None:
        code = runner.results.end(code, reason, stdout)
        if verdict is not None:
            verdict = {**verdict, "sentence": runner.results.answer()}
    if not quiet:
        for line in [*closing_lines(args, results, verdict), *summary_lines(runner)]:
            _say(out, line)
    elif runner.casualties:
        print("\n".join(runner.casualties), file=sys.stderr)
    if code:
        sys.exit(code)
    return results


def _exit_code(args: Any, results: dict[str, Any], runner: Any) -> tuple[int, str]:
    """Return the exit code of a run that has ended, and why it is that."""
    fail = option(args, "fail")
    if fail is not None and results["FAILED"] >= fail:
        return _FAILED, f"{results['FAILED']} runs failed, --fail allows less than {fail}"
    if results["SETUP_FAILED"] or results["SESSION_SETUP_FAILED"]:
        return _FAILED, "a setup failed"
    if runner.casualties:
        return _FAILED, "a process did not end by itself"
    if runner.results is not None:
        code, reason = runner.results.exit_code()
        return int(code), str(reason)
    return 0, "the run ended"


def _check(args: Any) -> None:
    if not get_scenarios():
        raise LoadError(
            "You need at least one scenario. No scenario was found.",
            "A scenario with a weight of 0 is ignored",
        )
    if option(args, "verbose") > 0 and option(args, "quiet"):
        raise LoadError("You can't use -q and -v at the same time")
    single = option(args, "single_mode")
    if single and option(args, "single_run"):
        raise LoadError("You can't use --single-mode and --single-run at the same time")
    if single and get_scenario(single) is None:
        raise LoadError(f"Can't find {single!r} in registered scenarii")


if __name__ == "__main__":
    sys.exit(main())
