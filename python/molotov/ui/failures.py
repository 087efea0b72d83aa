"""Failed runs, grouped by what was raised and where: for the console, and for the results of the run.

The place is the innermost line of the script, not of a library that it called; without one, the
innermost line.
"""

from __future__ import annotations

import os
import sysconfig
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from molotov.util import printable_error

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["Failures", "Repeated"]

# An example is there to be read; a traceback of a deep recursion is not.
_LONGEST_EXAMPLE = 4000
_LIBRARIES = tuple(
    os.path.join(path, "")
    for path in {
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
)


@lru_cache(maxsize=4096)
def _is_library(file: str) -> bool:
    return file.startswith((*_LIBRARIES, "<"))


class Repeated:
    """A failure seen at one place: how often, when, and an example."""

    __slots__ = ("example", "first_at", "grouped", "kind", "last_at", "message", "place", "seen")

    def __init__(self, error: BaseException, code: CodeType | None, line: int, now: float) -> None:
        self.seen = 0
        # Seen, but not shown in full.
        self.grouped = 0
        self.first_at = self.last_at = now
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        self.kind = f"{module}{kind.__qualname__}"
        self.place = f"{os.path.basename(code.co_filename)}:{line}" if code is not None else ""
        try:
            self.message = str(error)[:_LONGEST_EXAMPLE]
            self.example = "\n".join(printable_error(error))[:_LONGEST_EXAMPLE]
        except Exception as broken:
            # An exception whose own __str__ or __repr__ raises.
            self.message = self.example = f"{type(broken).__name__} while it was printed"

    def line(self) -> str:
        """Return it in one line."""
        place = f" ({self.place})" if self.place else ""
        first = self.example.split("\n", 1)[0]
        return f"{first}{place}"


class Failures:
    """All failures of this process."""

    def __init__(self) -> None:
        self._groups: dict[tuple[type, CodeType | None, int], Repeated] = {}
        # How many there were: tells whether something came since the last look.
        self.count = 0

    def add(self, error: BaseException) -> Repeated:
        """Count a failure; returns its group."""
        code: CodeType | None = None
        line = 0
        is_script = False
        trace = error.__traceback__
        while trace is not None:
            here = trace.tb_frame.f_code
            own = not _is_library(here.co_filename)
            if own or not is_script:
                code, line, is_script = here, trace.tb_lineno, own
            trace = trace.tb_next
        now = monotonic()
        key = (type(error), code, line)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Repeated(error, code, line, now)
        group.seen += 1
        group.last_at = now
        self.count += 1
        return group

    def groups(self) -> list[Repeated]:
        """Return all groups, in the order in which they came up."""
        return list(self._groups.values())

    def clear(self) -> None:
        """Forget all."""
        self._groups.clear()
        self.count = 0

    def described(self, began: float) -> list[dict[str, Any]]:
        """Return the groups as the results hold them; ``began`` is the start of the run, by ``monotonic``."""
        return [
            {
                "kind": group.kind,
                "place": group.place,
                "count": group.seen,
                "first_seconds": max(group.first_at - began, 0.0),
                "last_seconds": max(group.last_at - began, 0.0),
                "message": group.message,
                "example": group.example,
            }
            for group in self._groups.values()
        ]
