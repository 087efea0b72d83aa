"""Writing to the output, which may be closed, full, or read by somebody who has gone."""

from __future__ import annotations

import os
import sys
from typing import TextIO

__all__ = ["write"]


def write(text: str, stream: TextIO | None = None) -> None:
    """Write to ``stream``, stdout by default, and flush. A run does not end because its output did."""
    out = sys.stdout if stream is None else stream
    if out is None:
        return
    try:
        try:
            out.write(text)
        except UnicodeEncodeError:
            encoding = getattr(out, "encoding", None) or "ascii"
            out.write(text.encode(encoding, "backslashreplace").decode(encoding))
        out.flush()
    except ValueError:
        # The stream is closed.
        pass
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and sys.stderr is not None:
            print(f"Can't write the output: {error.strerror}", file=sys.stderr)
        _discard(out)


def _discard(out: TextIO) -> None:
    """Let the rest go nowhere: also what the script prints, and what Python flushes when it exits."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
