"""A scenario to try Molotov with, on the internet: ``molotov molotov.dummy``."""

import random
from typing import Any

import molotov


@molotov.global_setup()
def announce(args: Any) -> None:
    """Say what is going to happen."""
    print("This is a dummy load test: one page of example.com, with 1 % of random failures.")
    print("Press Ctrl-C to stop it. `molotov --demo` runs offline, against a server of its own.")


@molotov.scenario()
async def one_page(session: Any) -> None:
    """Get the page; fail now and then, to show what a failure looks like."""
    async with session.get("http://example.com") as response:
        assert response.status == 200, response.status
    if random.random() < 0.01:
        raise AssertionError("a failure made on purpose")
