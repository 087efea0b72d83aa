"""The live status line at the bottom of a terminal, redrawn in place."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any, TextIO

__all__ = ["LiveStatus", "terminal_or_none"]

_ERASE = "\r\x1b[2K"
# The request rate is that of about the last second, so that it is steady enough to read.
_RATE_SECONDS = 1.0


def terminal_or_none() -> TextIO | None:
    """Return stdout when it is a terminal that understands escape sequences."""
    stream = sys.stdout
    try:
        if not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            return None
    except (AttributeError, ValueError):
        return None
    return stream


class _Guard:
    """Stands in for a stream while the status is shown: what a script prints goes above the line."""

    def __init__(self, stream: TextIO, status: LiveStatus) -> None:
        self._stream = stream
        self._status = status

    def write(self, text: str) -> int:
        self._status.erase()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class LiveStatus:
    """One line: workers, successes, failures, requests per second, elapsed time; with a rate also that."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._colour = "NO_COLOR" not in os.environ
        self._shown = False
        self._started = monotonic()
        self._samples: dict[str, list[tuple[float, int]]] = {}
        self._originals: tuple[TextIO, TextIO] | None = None

    def start(self) -> None:
        """Take over stdout, and stderr when it is the same terminal."""
        self._originals = (sys.stdout, sys.stderr)
        sys.stdout = _Guard(sys.stdout, self)
        try:
            if sys.stderr.isatty():
                sys.stderr = _Guard(sys.stderr, self)
        except (AttributeError, ValueError):
            pass

    def stop(self) -> None:
        """Take the line away and give the streams back."""
        self.erase()
        self._terminal.flush()
        if self._originals is not None:
            sys.stdout, sys.stderr = self._originals
            self._originals = None

    def erase(self) -> None:
        """Take the line away until the next :meth:`show`."""
        if self._shown:
            self._shown = False
            self._terminal.write(_ERASE)
            self._terminal.flush()

    def show(self, text: str, results: Mapping[str, int]) -> None:
        """Write ``text`` above the line, and the line anew."""
        line = self.line(results, monotonic())
        try:
            self._terminal.write(f"{_ERASE if self._shown else ''}{text}{line}")
            self._terminal.flush()
            self._shown = True
        except (OSError, ValueError):
            pass

    def _rate(self, what: str, count: int, now: float) -> float:
        samples = self._samples.setdefault(what, [])
        samples.append((now, count))
        while len(samples) > 2 and now - samples[1][0] >= _RATE_SECONDS:
            del samples[0]
        since, before = samples[0]
        return (count - before) / (now - since) if now > since else 0.0

    def line(self, results: Mapping[str, int], now: float) -> str:
        """Return the line for these counts, cut to the terminal's width."""
        failures = results.get("FAILED", 0)
        parts = [
            f"workers {results.get('WORKER', 0)}",
            f"successes {results.get('OK', 0)}",
            f"failures {failures}",
            f"{self._rate('requests', results.get('REQUESTS', 0), now):.0f} req/s",
            f"elapsed {_duration(now - self._started)}",
        ]
        if "TARGET" in results:
            started = self._rate("started", results.get("STARTED", 0), now)
            parts.insert(0, f"target {results['TARGET']} runs/s, started {started:.0f}")
        if results.get("PROCESS", 1) > 1:
            parts.insert(0, f"processes {results['PROCESS']}")
        line = " · ".join(parts)
        try:
            # A pseudo-terminal that nobody has sized says 0.
            width = os.get_terminal_size(self._terminal.fileno()).columns or 80
        except (OSError, ValueError, AttributeError):
            width = 80
        encoding = (self._terminal.encoding or "ascii").lower()
        if encoding.replace("-", "") != "utf8":
            line = line.replace(" · ", " | ")
        line = line[: max(width - 1, 1)]
        if failures and self._colour:
            word = f"failures {failures}"
            line = line.replace(word, f"\x1b[31m{word}\x1b[0m")
        return line


def _duration(seconds: float) -> str:
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
