"""The limit of open files, against what so many workers need."""

from __future__ import annotations

import resource

__all__ = ["make_room_for"]

#: Files of the interpreter, the event loop and the libraries, beside one connection for each worker.
_OTHERS = 64


def make_room_for(workers: int) -> str | None:
    """Raise the limit of this process, and of its future children, to what so many workers need.

    Nothing is changed when it suffices already. Returns a sentence for the user when the hard limit, which
    only root may raise, is too low: the connections beyond it fail, which would look like failures of the
    target.
    """
    needed = workers + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    except (OSError, ValueError):
        most = soft
    if most >= needed:
        return None
    who = "1 worker needs" if workers == 1 else f"{workers} workers need"
    return (
        f"A process may open {max(soft, most)} files (ulimit -n), and {who} about {needed}: "
        "connections beyond that will fail"
    )
