"""The results of a run: collected every second, tested, and written to the files that were asked for.

The document itself is the engine's, ``_core.Results``; this is what Python knows for it: options, errors,
what autosizing found. The runner makes one when an option asks for it, and none otherwise.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from molotov import _core
from molotov._options import option
from molotov._sizing import Search
from molotov.exceptions import OptionError

if TYPE_CHECKING:
    from molotov.runner import Runner

__all__ = ["OUTPUTS", "RunResults", "results_for", "stdout_is_taken"]

#: The options that name a file, which are also the formats. JSON comes last: it lists the others.
OUTPUTS = ("csv", "html", "junit", "markdown", "png", "svg", "json")
STDOUT = "-"
_GENERATOR_SATURATED = 98
_THRESHOLD_FAILED = 99
_INTERRUPTED = 105
_CANNOT_WRITE = 1
_EVERY_SECONDS = 1.0
#: Files that are not the user's, and so not mentioned at the end.
private: set[str] = set()


def stdout_is_taken(args: Any) -> bool:
    """Whether one of the outputs goes to stdout, so that everything else has to go elsewhere."""
    return any(option(args, name) == STDOUT for name in OUTPUTS)


def results_for(args: Any, runner: Runner) -> RunResults | None:
    """Return what collects the results, if an option asks for them.

    Raises :class:`OptionError` for a threshold, a target or a file that cannot be used.
    """
    wanted = any(option(args, name) for name in (*OUTPUTS, "threshold", "monitor"))
    # A search has to know whether it was the generator that could not give more.
    # And who sets a rate, whether it was kept.
    if not wanted and not isinstance(runner.sizing, Search) and runner.schedule is None:
        return None
    return RunResults(args, runner)


class RunResults:
    """Collects the results of one run."""

    def __init__(self, args: Any, runner: Runner) -> None:
        self._args = args
        self._runner = runner
        self._files = {name: path for name in OUTPUTS if (path := option(args, name))}
        if list(self._files.values()).count(STDOUT) > 1:
            raise OptionError("Only one of the outputs can go to stdout (-)")
        if self._files.get("png") == STDOUT:
            raise OptionError("A picture can't go to stdout (-): name a file")
        for path in self._files.values():
            _check_writable(path)
        sources = option(args, "monitor") or []
        try:
            self._results = _core.Results(json.dumps(_meta(args, runner.processes)), _thresholds(args))
            self.monitor = _core.Monitor(list(sources))
        except ValueError as error:
            raise OptionError(str(error)) from None
        if runner.schedule is not None:
            most = max(option(args, "workers"), 1) * runner.processes
            self._results.set_schedule(runner.schedule, most)
        self._began = monotonic()
        self._next = 0.0
        self._sizing_began: float | None = None
        # Failures of the children, by their number.
        self._reported: dict[int, list[dict[str, Any]]] = {}
        self._complaints: list[str] = []

    # While the run goes.

    def begin(self) -> None:
        """Start the clock and write the first document; :class:`OptionError` when that is not possible."""
        self._began = monotonic()
        self._next = _EVERY_SECONDS
        path = self._files.get("json")
        if path is not None and path != STDOUT:
            try:
                self._results.begin(path)
            except OSError as error:
                raise OptionError(f"Can't write {path}: {error.strerror or error}") from None

    def start_monitor(self, pids: list[int]) -> None:
        """Begin to sample. Never before the last fork."""
        try:
            self.monitor.start(self.elapsed, pids)
        except OSError as error:
            self._complain(str(error))

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the run."""
        return monotonic() - self._began

    def tick(self, take_lag: Callable[[], float | None]) -> None:
        """Take a look when a second has passed; to be called more often than that."""
        now = self.elapsed
        if now < self._next:
            return
        self._next = max(self._next + _EVERY_SECONDS, now + _EVERY_SECONDS / 2)
        lag = take_lag()
        if lag is not None:
            self.monitor.set_lag(lag)
        runner = self._runner
        try:
            if self._results.second(now, runner.state, runner.recorder, lag, self.monitor):
                self._results.document(now, runner.recorder, self._errors())
        except OSError as error:
            self._complain(f"Can't write {self._files['json']}: {error.strerror or error}")

    def sizing_observed(self) -> None:
        """Note when the sizing looked at the run for the first time: its times count from then."""
        if self._sizing_began is None:
            self._sizing_began = self.elapsed

    def report(self, child: int, errors: bytes) -> None:
        """Take the failures that a child has seen by now."""
        self._reported[child] = json.loads(errors)

    def described(self) -> bytes:
        """Return the failures of this process, for :meth:`report` in its parent."""
        return json.dumps(self._runner.console.failures.described(self._began)).encode()

    def _errors(self) -> str:
        groups = self._runner.console.failures.described(self._began)
        for reported in self._reported.values():
            groups += reported
        return json.dumps(groups)

    def _complain(self, line: str) -> None:
        # The same error every second is no news.
        if line not in self._complaints:
            self._complaints.append(line)
            print(line, file=sys.stderr)

    # At the end.

    def finish(self) -> None:
        """Take the last look, once all workers have ended and all that children sent has come in."""
        runner = self._runner
        self.monitor.stop()
        self._results.finish(
            self.elapsed,
            runner.state,
            runner.recorder,
            self._errors(),
            json.dumps(self._sizing()) if runner.sizing is not None else None,
            runner.casualties,
            self.monitor,
        )

    def _sizing(self) -> dict[str, Any]:
        verdict = dict(self._runner.sizing.verdict)
        verdict["error_ratio"] = verdict.pop("ratio") / 100.0
        return {
            "ramp": verdict,
            "search": getattr(self._runner.sizing, "findings", None),
            "search_began_seconds": self._sizing_began or 0.0,
        }

    def exit_code(self) -> tuple[int, str]:
        """Return the exit code that a saturated generator, the thresholds or a signal ask for, and why."""
        if self._capacity_line() is not None and self._results.limit == "generator":
            return _GENERATOR_SATURATED, "the generator was saturated: the capacity is a lower bound"
        failed = self._results.failed_thresholds()
        if not failed:
            # What holds for a part of the run must not open a gate. Runs without a threshold end with 0, as
            # the original's do.
            if self._runner.interrupted and _thresholds(self._args):
                return _INTERRUPTED, "the run was interrupted: its thresholds held up to then"
            return 0, "the run ended"
        plural = "threshold" if len(failed) == 1 else "thresholds"
        return _THRESHOLD_FAILED, f"{len(failed)} {plural} failed: {', '.join(failed)}"

    def end(self, code: int, reason: str, stdout: Any) -> int:
        """Write all files; returns the exit code, which is another one when a file cannot be written."""
        self._results.exit(code, reason)
        written = []
        for name, path in self._files.items():
            if name == "json":
                written.append((name, path))
            elif path == STDOUT or self._try(path, partial(self._results.write, name, path)):
                written.append((name, path))
            elif code == 0:
                code = _CANNOT_WRITE
                self._results.exit(code, f"can't write {path}")
        path = self._files.get("json")
        if not self._try(path, partial(self._results.end, written)) and code == 0:
            code = _CANNOT_WRITE
        for name, path in self._files.items():
            if path == STDOUT:
                from molotov.ui.output import write

                write(self._results.render(name), stdout)
        return code

    def _try(self, path: str | None, work: Callable[[], None]) -> bool:
        try:
            work()
        except OSError as error:
            print(f"Can't write {path}: {error.strerror or error}", file=sys.stderr)
            return False
        return True

    def _capacity_line(self) -> str | None:
        findings = getattr(self._runner.sizing, "findings", None)
        if findings is None or findings["capacity"] is None:
            return None
        line: str = self._results.headlines()[0]
        return line

    def answer(self) -> str | None:
        """Return what a sizing found, in a line, with what limits it; None when the run was no sizing."""
        sizing = self._runner.sizing
        if sizing is None:
            return None
        return self._capacity_line() or str(sizing.verdict["sentence"])

    def lines(self) -> list[str]:
        """Return what the end of a run says: the limit, the thresholds, the files."""
        headlines = self._results.headlines()
        if self._runner.sizing is not None:
            # The closing lines have said the answer already, and the sizing what could not be confirmed.
            said = {
                self.answer(),
                *(getattr(self._runner.sizing, "findings", None) or {}).get("unconfirmed", []),
            }
            headlines = [line for line in headlines if line not in said]
        lines = [*headlines, *self._results.threshold_lines()]
        if option(self._args, "monitor"):
            lines += ["", *self._results.resource_lines()]
        files = [path for path in self._files.values() if path != STDOUT and path not in private]
        if files:
            lines.append(f"Results written to {', '.join(files)}")
        return lines


def _thresholds(args: Any) -> list[str]:
    given = option(args, "threshold") or []
    return [given] if isinstance(given, str) else list(given)


def _check_writable(path: str) -> None:
    if path == STDOUT:
        return
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        why = "it is a directory"
    elif not os.path.isdir(folder):
        why = f"there is no directory {folder}"
    elif not os.access(path if os.path.exists(path) else folder, os.W_OK):
        why = "permission denied"
    else:
        return
    raise OptionError(f"Can't write {path}: {why}")


def _meta(args: Any, processes: int) -> dict[str, Any]:
    now = time.time()
    system = os.uname()
    return {
        "command": list(sys.argv),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "host": system.nodename,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{system.sysname} {system.release}",
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "started_unix_seconds": now,
        "processes": processes,
        "scenario_file": _scenario_file(option(args, "scenario")),
        "scenario_sha256": None,
        "options": {name: _plain(value) for name, value in vars(args).items() if name not in _NO_OPTIONS},
    }


_NO_OPTIONS = frozenset({"shared_console", "original_pid"})


def _plain(value: Any) -> Any:
    """Return an option's value as JSON has it; what it has no word for becomes its text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value - value == 0.0 else str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return str(value)


def _scenario_file(name: str) -> str | None:
    if os.path.isfile(name):
        return name
    file: str | None = getattr(sys.modules.get(name), "__file__", None)
    return file
