"""What the rig does wrong on request.

A fault is a dictionary: `action` (an operation such as `SendCommand` or `RunInstances`, or `command` for
what becomes of an accepted command), optionally `step` (of a command, found in its comment; a pattern),
`times` (how often; without it always), `after` (how often it is left out first) and `do`. Everything else
in it are the details of `do`:

- on operations: `error` (`code`, `status`, `message`, `headers`), `lost` (carried out, but the connection
  ends without an answer), `cut` (half of the answer comes), `slow` (answered after `seconds`)
- on `command`: `delayed`, `unknown_status`, `unknown_invocation` (each for `polls` looks),
  `delivery_timed_out`, `undeliverable`, `timed_out`, `cancelled`, `vanish` (the instance is gone in the
  middle), `agent_lost` (it runs, but its agent is heard of no more; with `seconds` it comes back), `full`
  (nothing can be written there from then on), `shown` (it ends in that `status`), `inline` (so many
  characters come without the bucket), `refused` (the same, and the bucket takes nothing)
  and `late` (`seconds`; `anyway`: also when the instance has ended by then) for the objects in S3
- on `register`: `never`, `late` (`seconds`); on `boot`: `late` (`seconds`), `vanish`
- on `style`, how another endpoint may be all the time: see `styles.py`
"""

from __future__ import annotations

import threading
from fnmatch import fnmatchcase


class Faults:
    """The faults in force; taken by whoever is about to do something."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[dict] = []
        self.taken: list[dict] = []

    def add(self, faults: list[dict]) -> None:
        with self._lock:
            self._faults.extend(dict(fault) for fault in faults)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self.taken.clear()

    def has(self, style: str) -> bool:
        """Whether the endpoint is of that style."""
        return self.take("style", do=(style,)) is not None

    def take(self, action: str, step: str | None = None, do: tuple[str, ...] | None = None) -> dict | None:
        """The first fault that fits, which counts as happened."""
        with self._lock:
            for fault in self._faults:
                if fault["action"] != action or not fnmatchcase(step or "", fault.get("step", "*")):
                    continue
                if do is not None and fault["do"] not in do:
                    continue
                if fault.get("after", 0) > 0:
                    fault["after"] -= 1
                    continue
                left = fault.get("times")
                if left is not None:
                    if left <= 0:
                        continue
                    fault["times"] = left - 1
                self.taken.append(fault)
                return fault
        return None
