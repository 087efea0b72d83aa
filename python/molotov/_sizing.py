"""``--sizing``: feeds the controller with the run's totals, and keeps its verdict for the closing lines."""

from __future__ import annotations

from typing import Any

from molotov import _core
from molotov._options import DEFAULT_DURATION, option
from molotov.exceptions import OptionError

__all__ = ["Sizing"]


class Sizing:
    """Decides when an autosizing run ends. Raises :class:`OptionError` for a bad tolerance or rule."""

    def __init__(self, args: Any, state: Any, recorder: Any, processes: int) -> None:
        self._state = state
        self._recorder = recorder
        # Who asks for a duration gets it, also when the ramp has ended and nothing gave out.
        self._hold = option(args, "duration") != DEFAULT_DURATION
        self.verdict: dict[str, Any] | None = None
        try:
            self._controller = _core.SizingController(
                option(args, "sizing_tolerance"),
                max(option(args, "workers"), 0) * processes,
                option(args, "sizing_latency"),
            )
        except ValueError as error:
            raise OptionError(f"--sizing: {error}") from None

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
        }
