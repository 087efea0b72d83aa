"""What the processes of a run share."""

from molotov.shared.counter import Counter, Counters

__all__ = ["Counter", "Counters"]
