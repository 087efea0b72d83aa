"""What goes wrong: on the way out, at the server, with time; and the exceptions that tell."""

from __future__ import annotations

import aiohttp
import pytest
from differential import (
    IGNORED_WARNINGS,
    Case,
    Made,
    Stage,
    broken,
    c,
    check,
    stages,
)

pytestmark = IGNORED_WARNINGS
stage = stages()

CASES: dict[str, Case] = {
    # failures
    "server closes": c("POST", "/abort", data=b"x"),
    "server truncates": c("GET", "/truncate"),
    "not http answer": c("POST", "/raw?bytes=nonsense%0D%0A%0D%0A"),
    "total timeout": c("GET", "/slow", timeout=aiohttp.ClientTimeout(total=0.05)),
    "number as timeout": c("GET", "/slow", timeout=0.05),
    "read timeout": c("GET", "/slow", timeout=aiohttp.ClientTimeout(sock_read=0.05)),
    "read timeout in body": c("GET", "/trickle", timeout=aiohttp.ClientTimeout(sock_read=0.4)),
    "total timeout in body": c("GET", "/trickle", timeout=aiohttp.ClientTimeout(total=0.4)),
    "session timeout": c("GET", "/slow", session=lambda: {"timeout": aiohttp.ClientTimeout(total=0.05)}),
    "timeout zero": c("GET", "/echo", timeout=0),
    "timeout none": c("GET", "/echo", timeout=None),
    "broken generator": c("POST", "/echo", data=Made(broken)),
    "refused": c("GET", lambda base: "http://127.0.0.1:1/"),
    "refused, tls": c("GET", lambda base: "https://127.0.0.1:1/"),
    "tls to plain": c("GET", lambda base: base.replace("http:", "https:") + "/echo"),
    "unknown host": c("GET", lambda base: "http://does-not-exist.invalid/"),
    "unknown argument": c("GET", "/echo", nonsense=1),
    "bad ssl": c("GET", "/echo", ssl="yes"),
    "ssl twice": c("GET", "/echo", ssl=False, verify_ssl=False),
}

#: Cases that aiohttp itself serves, and the reason.
FALLS_BACK: dict[str, str] = {}
#: What of a result is left out because it differs on purpose.
ON_PURPOSE: dict[str, set[str]] = {
    # The line of CPython's C source is part of aiohttp's text.
    "tls to plain": {"text", "strerror"},
    # On a busy machine the time is over before the server has read the request.
    "total timeout": {"seen"},
    "number as timeout": {"seen"},
    "session timeout": {"seen"},
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_differs(name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clients give the same results, send the same requests and keep the same cookies."""
    check(
        stage,
        CASES[name],
        monkeypatch,
        ignored=ON_PURPOSE.get(name, set()),
        falls_back=FALLS_BACK.get(name),
    )
