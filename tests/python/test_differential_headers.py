"""Headers and credentials: what is sent, in which order and case, and what is refused."""

from __future__ import annotations

import pytest
from differential import (
    BASIC,
    IGNORED_WARNINGS,
    LATIN,
    Case,
    Stage,
    c,
    check,
    stages,
)
from multidict import CIMultiDict

pytestmark = IGNORED_WARNINGS
stage = stages()

CASES: dict[str, Case] = {
    # headers
    "header": c("GET", "/echo", headers={"X-One": "1", "x-lower": "2", "X-UPPER": "3"}),
    "header pairs": c("GET", "/echo", headers=[("X-A", "1"), ("X-A", "2")]),
    "header multidict": c("GET", "/echo", headers=CIMultiDict([("X-A", "1"), ("x-a", "2")])),
    "accept and agent": c("GET", "/echo", headers={"Accept": "text/html", "user-agent": "mine/1"}),
    "accept encoding": c("GET", "/gzip", headers={"Accept-Encoding": "identity"}),
    "host header": c("GET", "/echo", headers={"Host": "example.com"}),
    "lower host header": c("GET", "/echo", headers={"host": "example.com:81"}),
    "connection close": c("GET", "/echo", headers={"Connection": "close"}, times=2),
    "utf-8 header": c("GET", "/echo", headers={"X-N": "caf\xe9 \u20ac"}),
    "empty header": c("GET", "/echo", headers={"X-N": ""}),
    "header injection": c("GET", "/echo", headers={"X-N": "a\r\nX-Evil: 1"}),
    "header name injection": c("GET", "/echo", headers={"X-N: 1\r\nX-Evil": "1"}),
    "int header": c("GET", "/echo", headers={"X-N": 1}),
    "none header": c("GET", "/echo", headers={"X-N": None}),
    "session headers": c("GET", "/echo", session=lambda: {"headers": {"X-S": "s", "X-B": "s"}}),
    "session and own headers": c(
        "GET",
        "/echo",
        session=lambda: {"headers": {"X-S": "s", "X-B": "s"}},
        headers={"x-b": "own", "X-C": "1"},
    ),
    "session header injection": c("GET", "/echo", session=lambda: {"headers": {"X-S": "a\r\nX-Evil: 1"}}),
    "session cookie header": c(
        "GET",
        lambda base: base.replace("127.0.0.1", "localhost") + "/cookies?a=1",
        session=lambda: {"headers": {"Cookie": "h=1"}},
        times=2,
    ),
    "session authorization and auth": c(
        "GET", "/echo", session=lambda: {"headers": {"Authorization": "Bearer x"}}, auth=BASIC
    ),
    "cookie header and received": c(
        "GET",
        lambda base: base.replace("127.0.0.1", "localhost") + "/cookies?a=1",
        headers={"Cookie": "h=1"},
        times=2,
    ),
    "session header list": c("GET", "/echo", session=lambda: {"headers": [("X-S", "1"), ("X-S", "2")]}),
    "session repeated, own once": c(
        "GET", "/echo", session=lambda: {"headers": [("X-S", "1"), ("X-S", "2")]}, headers={"X-S": "3"}
    ),
    "skip agent": c("GET", "/echo", skip_auto_headers=["User-Agent"]),
    "skip content type": c("POST", "/echo", data=b"x", skip_auto_headers=["content-type"]),
    "skip in session": c("GET", "/echo", session=lambda: {"skip_auto_headers": ["Accept", "User-Agent"]}),
    "skip in both": c(
        "GET", "/echo", session=lambda: {"skip_auto_headers": ["Accept"]}, skip_auto_headers={"User-Agent"}
    ),
    # auth
    "basic": c("GET", "/echo", auth=BASIC),
    "basic utf-8": c("GET", "/echo", auth=LATIN),
    "session basic": c("GET", "/echo", session=lambda: {"auth": BASIC}),
    "own over session basic": c("GET", "/echo", session=lambda: {"auth": BASIC}, auth=LATIN),
    "auth and header": c("GET", "/echo", auth=BASIC, headers={"Authorization": "Bearer x"}),
    "session auth and header": c(
        "GET", "/echo", session=lambda: {"auth": BASIC}, headers={"authorization": "Bearer x"}
    ),
    "auth and userinfo": c("GET", lambda base: base.replace("//", "//a:b@") + "/echo", auth=BASIC),
    "auth header": c("GET", "/echo", headers={"Authorization": "Bearer x"}),
    "auth tuple": c("GET", "/echo", auth=("user", "pass")),
    "session auth tuple": c("GET", "/echo", session=lambda: {"auth": ("user", "pass")}),
}

#: Cases that aiohttp itself serves, and the reason.
FALLS_BACK: dict[str, str] = {}
#: What of a result is left out because it differs on purpose.
ON_PURPOSE: dict[str, set[str]] = {}


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
