"""The open model's options: ``--rate`` and ``--stages``, what they mean and what they exclude.

When each run starts is the engine's, ``_core.Schedule``; a process hands out the starts through its plan.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from molotov import _core
from molotov._options import DEFAULT_DURATION, option, stage_points
from molotov.exceptions import OptionError

__all__ = ["DEFAULT_SHAPE", "is_on_rate", "schedule_for"]

DEFAULT_SHAPE = "poisson"


def is_on_rate(args: Any) -> bool:
    """Whether a sizing run searches for a rate rather than for a number of workers."""
    return bool(option(args, "sizing")) and option(args, "sizing_on") == "rate"


def schedule_for(args: Any) -> Any:
    """Return when runs start, or None where workers run as fast as they can.

    Raises :class:`OptionError` for options that contradict each other.
    """
    rate, stages = option(args, "rate"), option(args, "stages")
    on_rate = is_on_rate(args)
    if option(args, "sizing_on") == "rate" and not option(args, "sizing"):
        raise OptionError("--sizing-on says what --sizing searches for: give both")
    if rate is None and stages is None and not on_rate:
        for name in ("rate_shape", "rate_seed"):
            if option(args, name) is not None:
                raise OptionError(f"--{name.replace('_', '-')} needs --rate or --stages")
        return None
    what = "--rate" if stages is None else "--stages"
    if rate is not None and stages is not None:
        raise OptionError("--rate and --stages both say when runs start: give one of them")
    if option(args, "sizing") and not on_rate:
        raise OptionError(
            f"{what} sets the load that --sizing searches for; --sizing-on rate searches for a rate"
        )
    if on_rate and stages is not None:
        raise OptionError("--sizing-on rate chooses the rates itself: leave --stages out")
    if on_rate and (option(args, "no_sizing_confirm") or asyncio.sleep is not asyncio.tasks.sleep):
        why = "the script replaces asyncio.sleep, and with it time"
        if option(args, "no_sizing_confirm"):
            why = "leave --no-sizing-confirm out"
        raise OptionError(f"--sizing-on rate has to search: {why}")
    if option(args, "single_run"):
        raise OptionError(
            f"{what} starts runs for a time, --single-run every scenario once: give one of them"
        )
    if option(args, "ramp_up") and not on_rate:
        raise OptionError(
            f"{what} starts runs, and workers as they are needed: --stages ramps up, --ramp-up does not"
        )
    if on_rate and option(args, "ramp_up") and rate is None:
        raise OptionError("--ramp-up takes --sizing-on rate up to --rate: give that too")
    if on_rate:
        rate = None
    try:
        return _core.Schedule(
            None if stages is None else stage_points(stages),
            rate,
            shape=option(args, "rate_shape") or DEFAULT_SHAPE,
            seed=_seed(args),
            duration=None if on_rate else float(option(args, "duration")),
        )
    except ValueError as error:
        raise OptionError(f"{what}: {error}") from None


def _seed(args: Any) -> int:
    seed = option(args, "rate_seed")
    # Not from the generator that scripts share and seed: theirs would go on from elsewhere.
    return random.SystemRandom().getrandbits(53) if seed is None else int(seed)


def ends_after(args: Any, schedule: Any) -> float:
    """Return how many seconds a run may start runs for; infinite where nothing says so."""
    duration = float(option(args, "duration"))
    if schedule is None:
        return duration
    if is_on_rate(args) and duration == DEFAULT_DURATION:
        return float("inf")
    return min(duration, float(schedule.end))
