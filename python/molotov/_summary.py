"""What a run prints when it is over: Molotov's closing lines, then what ours adds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from molotov import __version__
from molotov._options import option

if TYPE_CHECKING:
    from molotov.runner import Runner

__all__ = ["HELLO", "closing_lines", "summary_lines"]

HELLO = f"**** Molotov v{__version__}. Happy breaking! ****"

_SIZING = """\

Sizing is over!

Error Ratio %(RATIO).2f %% obtained with %(MAX_WORKERS)d workers.

OVERALL: SUCCESSES: %(OK)d | FAILURES: %(FAILED)d
LAST MINUTE: SUCCESSES: %(MINUTE_OK)d | FAILURES: %(MINUTE_FAILED)d
"""
# A blocking call in a scenario; below this, a busy loop or a busy machine look the same.
_STALL_SECONDS = 0.75


def closing_lines(args: Any, results: dict[str, Any], verdict: dict[str, Any] | None) -> list[str]:
    """Return the lines that scripts and CI jobs look for."""
    lines = [HELLO]
    if not option(args, "sizing"):
        lines.append(f"SUCCESSES: {results['OK']} | FAILURES: {results['FAILED']}\r")
    elif results["REACHED"] == 1:
        lines.append(_SIZING % results)
    else:
        lines.append("Sizing was not finished. (interrupted)")
    if verdict is not None:
        lines.append(verdict["sentence"])
    lines.append("*** Bye ***")
    return lines


def summary_lines(runner: Runner) -> list[str]:
    """Return the statuses, how the engine ran, and the latency table; nothing when nothing was run."""
    state = runner.state
    lines = []
    results = runner.results.lines() if runner.results is not None else []
    if state.started == 0:
        return [*runner.casualties, *results]
    if results:
        lines += [*results, ""]
    found = runner.sizing.lines() if runner.sizing is not None else []
    if found:
        lines += [*found, ""]
    statuses = {name: count for name, count in state.statuses.items() if count}
    if statuses:
        shown = "  ".join(f"{name}: {count}" for name, count in statuses.items())
        resent = f"  (resent: {state.resent})" if state.resent else ""
        lines.append(f"HTTP responses  {shown}{resent}")
    if state.interrupted:
        lines.append(f"Interrupted runs: {state.interrupted}")
    if not runner.native:
        lines.append("The engine ran through the bridge: the event loop is not Molotov's own")
    if runner.longest_stall >= _STALL_SECONDS:
        lines.append(
            f"The event loop stood still for up to {runner.longest_stall:.1f} s: "
            "blocking calls in the scenarios delay all workers"
        )
    lines += runner.casualties
    table = runner.recorder.table(runner.elapsed, _width())
    if table:
        if lines:
            lines.append("")
        lines += table.strip("\n").split("\n")
    return ["", *lines] if any(lines) else []


def _width() -> int | None:
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None
