"""What the lab asks of its server; CPU_MS is what a run costs the generator."""

from __future__ import annotations

import os
import time
from typing import Any

from molotov import scenario

_URL = os.environ["LAB_URL"]
_CPU_SECONDS = float(os.environ.get("LAB_CPU_MS", "0")) / 1e3


@scenario()
async def ask(session: Any) -> None:
    """Get an answer and look at all of it."""
    async with session.get(_URL) as response:
        assert response.status == 200
        await response.read()
    end = time.thread_time() + _CPU_SECONDS
    while time.thread_time() < end:
        pass
