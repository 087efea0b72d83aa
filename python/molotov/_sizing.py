"""``--sizing``: leads the run to its answer, and keeps that for the closing lines.

:class:`Ramp` is Molotov's contract: workers start one after the other, and the run ends where something gives
out. :class:`Search` goes on from there: it steps back, measures levels, and confirms the best one.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

from molotov import _core
from molotov._options import DEFAULT_DURATION, option
from molotov._rate import is_on_rate
from molotov.exceptions import OptionError

__all__ = ["Ramp", "RateSearch", "Search", "is_confirmed", "sizing_for"]

_WINDOW_SECONDS = 60.0
#: What ended the ramp, in words.
_ENDS = {
    "failures": "more runs failed than tolerated",
    "all_failed": "every run failed",
    "plateau": "more workers brought no more throughput",
    "latency": "the latency rule broke",
    "ramp_ended": "nothing gave out",
}
#: What keeps the capacity from being higher, in words.
_LIMITS = {
    "failures": "with more workers too many runs fail",
    "latency": "with more workers the latency rule breaks",
    "throughput": "more workers bring no more throughput",
    "nothing": "the highest number of workers allowed still brought more: raise --workers",
    "workers": "with a higher rate all workers are busy, though the service is no slower: raise --workers",
    "generator": "the generator could not start more",
    "died": "the service stopped working",
}
#: The same, where rates rather than numbers of workers are searched.
_ENDS_ON_RATE = {**_ENDS, "plateau": "the service, or the workers, could not keep up"}
_LIMITS_ON_RATE = {
    **_LIMITS,
    "failures": "at a higher rate too many runs fail",
    "latency": "at a higher rate the latency rule breaks",
    "throughput": "a higher rate is not kept up with",
    "nothing": "the highest rate allowed was still kept up with: raise --rate",
}
#: What --sizing-on rate tries at most, in runs per second.
_HIGHEST_RATE = 100_000.0


def is_confirmed(args: Any) -> bool:
    """Whether a sizing run searches for the capacity after its ramp.

    Not with ``--no-sizing-confirm``, and not when the script has replaced ``asyncio.sleep``: where time is
    faked there is nothing to measure.
    """
    return not option(args, "no_sizing_confirm") and asyncio.sleep is asyncio.tasks.sleep


def sizing_for(args: Any, state: Any, recorder: Any, processes: int) -> Ramp | Search:
    """Return what leads this sizing run. Raises :class:`OptionError` for a bad tolerance, budget or rule."""
    kind: type[Ramp | Search] = Search if is_confirmed(args) else Ramp
    if is_on_rate(args):
        kind = RateSearch
    try:
        return kind(args, state, recorder, max(option(args, "workers"), 0) * processes)
    except ValueError as error:
        raise OptionError(f"--sizing: {error}") from None


class Ramp:
    """The ramp alone: ``--no-sizing-confirm``."""

    def __init__(self, args: Any, state: Any, recorder: Any, workers: int) -> None:
        self._state = state
        self._recorder = recorder
        # Who asks for a duration gets it, also when the ramp has ended and nothing gave out.
        self._hold = option(args, "duration") != DEFAULT_DURATION
        self.verdict: dict[str, Any] | None = None
        self._controller = _core.SizingController(
            option(args, "sizing_tolerance"), workers, option(args, "sizing_latency")
        )

    def observe(self, now: float) -> bool:
        """Look at the totals; True when the run is to end. ``now`` is in seconds, of any monotonic clock."""
        if self.verdict is not None:
            return False
        state = self._state
        limit = self._controller.latency_limit
        latency = None
        if limit is not None:
            slower, count = self._recorder.slower_than(limit)
            latency = {"slower": slower, "count": count}
        verdict = self._controller.observe(
            now, state.succeeded, state.failed, state.workers_started, state.requests, latency
        )
        if verdict is None or (verdict["reason"] == "ramp_ended" and self._hold):
            return False
        self.verdict = verdict
        state.reached = True
        return True

    def finish(self, interrupted: bool) -> dict[str, Any]:
        """Return the verdict; when nothing has ended the run, one that says so."""
        verdict = self.verdict
        if verdict is None:
            verdict = self.verdict = self._controller.finish(interrupted)
        return verdict

    def results(self) -> dict[str, int]:
        """Return the original's counters: the ratio in 1/100 percent, and the last minute's runs."""
        verdict = self.verdict
        if verdict is None:
            return {}
        return {
            "REACHED": int(verdict["reason"] != "interrupted"),
            "RATIO": int(verdict["ratio"] * 100),
            "MINUTE_OK": int(verdict["window_succeeded"]),
            "MINUTE_FAILED": int(verdict["window_failed"]),
            "MAX_WORKERS": int(verdict["workers"]),
        }

    def lines(self) -> list[str]:
        """Return what is to be said behind the closing lines."""
        return []


class Search:
    """Ramp, search and confirmation: the default."""

    _ends = _ENDS
    _limits = _LIMITS
    _levels_title = "workers"

    def __init__(self, args: Any, state: Any, recorder: Any, workers: int) -> None:
        self._state = state
        self._recorder = recorder
        self._search = _core.SizingSearch(
            workers,
            option(args, "sizing_tolerance"),
            option(args, "sizing_latency"),
            option(args, "ramp_up") or None,
            option(args, "sizing_budget"),
            self._highest_rate(args),
        )
        self._most = workers
        # Totals of the last minute: time, succeeded, failed.
        self._window: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)])
        self._ramp: dict[str, Any] | None = None
        self._over = False
        self.verdict: dict[str, Any] | None = None
        self.findings: dict[str, Any] | None = None
        self._hold(1)

    def _highest_rate(self, args: Any) -> float | None:
        return None

    def _hold(self, level: float) -> None:
        """Make the run hold this level from now on."""
        self._state.allowed_workers = min(int(level), self._most)

    def _held(self) -> int:
        """How many workers the level held has."""
        return self._state.allowed_workers or 0

    def observe(self, now: float) -> bool:
        """Set the level to hold; True when the search is over. ``now``: seconds of a monotonic clock."""
        if self._over:
            return False
        state = self._state
        self._window.append((now, state.succeeded, state.failed))
        while len(self._window) > 2 and now - self._window[1][0] >= _WINDOW_SECONDS:
            self._window.popleft()
        before = self._held()
        level, phase, self._over = self._search.step(now, state, self._recorder)
        if phase != "ramp" and self._ramp is None:
            self._ramp = self._end_of_ramp(before)
        self._hold(level)
        if self._over:
            state.reached = True
        return bool(self._over)

    def _end_of_ramp(self, workers: int) -> dict[str, Any]:
        first, last = self._window[0], self._window[-1]
        succeeded, failed = last[1] - first[1], last[2] - first[2]
        return {
            "ratio": 100.0 * failed / max(succeeded + failed, 1),
            "workers": workers,
            "window_succeeded": succeeded,
            "window_failed": failed,
        }

    def _ramps_end(self, workers: int, trials: list[dict[str, Any]]) -> str:
        return f"with {_workers(workers)}"

    def finish(self, interrupted: bool) -> dict[str, Any]:
        """Return the verdict, with what was found by now."""
        if self.verdict is not None:
            return self.verdict
        findings = self.findings = json.loads(self._search.findings())
        ended = findings["ramp_ended"]
        ramp = self._ramp or self._end_of_ramp(self._held())
        reason = ended if ended is not None else "interrupted"
        headline = self._search.headline()
        if findings["capacity"] is None and ended is None:
            how = "was interrupted" if interrupted else "ended"
            sentence = (
                f"The run {how} within its ramp, with {_workers(ramp['workers'])}: no capacity is known."
            )
        else:
            # Cut off before anything gave out: a lower bound.
            word = "CAPACITY" if ended is not None else "AT LEAST"
            sentence = f"{word} {headline.removeprefix('at least ') if ended is None else headline}"
        self.verdict = {**ramp, "reason": reason, "sentence": sentence}
        return self.verdict

    def results(self) -> dict[str, int]:
        """Return the original's counters, as the ramp ended."""
        return Ramp.results(self)  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        """Return why the capacity is what it is, and every level that was measured."""
        findings, verdict = self.findings, self.verdict
        if findings is None or verdict is None or findings["ramp_ended"] is None:
            return []
        where = self._ramps_end(verdict["workers"], findings["trials"])
        lines = [f"The ramp ended {where}: {self._ends[findings['ramp_ended']]}."]
        capacity = findings["capacity"]
        if capacity is not None:
            lines.append(f"The capacity is limited: {self._limits[capacity['limit']]}.")
        lines += [f"Not confirmed: {sentence}" for sentence in findings["unconfirmed"]]
        return [*lines, "", *_levels(findings["trials"], self._levels_title)]


class RateSearch(Search):
    """The same over how many runs start per second: ``--sizing-on rate``."""

    _ends = _ENDS_ON_RATE
    _limits = _LIMITS_ON_RATE
    _levels_title = "offered"

    def _highest_rate(self, args: Any) -> float | None:
        rate = option(args, "rate")
        return _HIGHEST_RATE if rate is None else float(rate)

    def _hold(self, level: float) -> None:
        self._state.rate = level

    def _held(self) -> int:
        return int(self._state.workers_started)

    def _ramps_end(self, workers: int, trials: list[dict[str, Any]]) -> str:
        levels = [trial["level"] for trial in trials if trial["phase"] == "ramp"]
        return f"at {levels[-1]:.0f} runs/s" if levels else super()._ramps_end(workers, trials)


def _workers(number: float) -> str:
    return f"{number:.0f} worker{'' if round(number) == 1 else 's'}"


def _levels(trials: list[dict[str, Any]], title: str) -> list[str]:
    """Return a table of the trials, in the order of time."""
    rows = [("phase", title, "s", "runs/s", "95 %", "req/s", "failed", "p95 ms", "")]
    for trial in trials:
        runs, times = trial["runs_per_second"], trial["service_times"]
        rows.append(
            (
                trial["phase"],
                f"{trial['level']:.{0 if title == 'workers' or trial['level'] >= 100 else 1}f}",
                f"{trial['measured_seconds']:.0f}",
                f"{runs['mean']:.1f}",
                f"{runs['low']:.1f}–{runs['high']:.1f}",  # noqa: RUF001
                f"{trial['requests_per_second']['mean']:.1f}",
                f"{100 * trial['failures']['ratio']:.1f} %",
                f"{1000 * times['p95_seconds']:.0f}" if times else "",
                ", ".join(flaw["flaw"].replace("_", " ") for flaw in trial["flaws"]),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)),
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines
