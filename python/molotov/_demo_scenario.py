"""The scenario of `molotov --demo`: notes are read and written on the server of `molotov._demo`."""

from __future__ import annotations

import os
from typing import Any

from molotov import scenario

_URL = os.environ.get("MOLOTOV_DEMO_URL", "http://127.0.0.1:8080")


@scenario(weight=70)
async def read_a_note(session: Any) -> None:
    """Read the note that is always there."""
    async with session.get(_URL + "/notes/0") as response:
        assert response.status == 200, response.status
        note = await response.json()
        assert note == {"id": 0, "text": "Happy breaking!"}, note


@scenario(weight=30)
async def write_a_note(session: Any) -> None:
    """Write a note and read it back."""
    async with session.post(_URL + "/notes", json={"text": "Hello"}) as response:
        assert response.status == 201, response.status
        number = (await response.json())["id"]
    async with session.get(f"{_URL}/notes/{number}") as response:
        assert response.status == 200, response.status
        assert (await response.json())["text"] == "Hello"
