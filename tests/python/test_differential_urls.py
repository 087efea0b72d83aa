"""What goes into the request line: methods, URLs, params."""

from __future__ import annotations

import pytest
from differential import (
    IGNORED_WARNINGS,
    Case,
    Stage,
    c,
    check,
    stages,
)
from multidict import MultiDict
from yarl import URL

pytestmark = IGNORED_WARNINGS
stage = stages()

CASES: dict[str, Case] = {
    # Methods and plain calls
    **{f"method {m}": c(m, "/echo") for m in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")},
    "lower case method": c("get", "/echo"),
    "odd method": c("PURGE", "/echo"),
    "odd method with data": c("REPORT", "/echo", data=b"x"),
    "bad method": c("GET IT", "/echo"),
    "three in a row": c("GET", "/echo", times=3),
    # URLs
    "query in the url": c("GET", "/echo?a=1&b=2&a=3"),
    "spaces": c("GET", "/a b/c?d=e f"),
    "unicode": c("GET", "/caf\xe9/\u20ac?q=\u20ac"),
    "already quoted": c("GET", "/a%20b/%E2%82%AC?q=%E2%82%AC&p=%2F"),
    "broken percent": c("GET", "/a%zz?b=%"),
    "plus": c("GET", "/a+b?c=d+e&f=%2B"),
    "dots": c("GET", "/a/../b/./c"),
    "fragment": c("GET", "/echo?a=1#there"),
    "odd characters": c("GET", "/echo/;=,:@&?x=[1]&y={2}|\\^`"),
    "yarl url": c("GET", lambda base: URL(base) / "with" / "a b" % {"q": "1 2"}),
    "yarl encoded url": c("GET", lambda base: URL(base + "/a%2Fb?c=%2f", encoded=True)),
    "empty path": c("GET", ""),
    "userinfo": c("GET", lambda base: base.replace("http://", "http://joe:sec%20ret@") + "/echo"),
    "userinfo without password": c("GET", lambda base: base.replace("http://", "http://joe@") + "/echo"),
    "upper case host": c("GET", lambda base: base.replace("127.0.0.1", "LOCALHOST") + "/echo"),
    "relative url": c("GET", lambda base: "/nowhere"),
    "no host": c("GET", lambda base: "http:///path"),
    "not http": c("GET", lambda base: "ftp://127.0.0.1/"),
    "mailto": c("GET", lambda base: "mailto:me@example.com"),
    "bad port": c("GET", lambda base: "http://127.0.0.1:notaport/"),
    "too high a port": c("GET", lambda base: "http://127.0.0.1:70000/"),
    "bytes as url": c("GET", lambda base: b"http://127.0.0.1/"),
    "none as url": c("GET", lambda base: None),
    "base url": c("GET", "", session=lambda: {"base_url": "BASE/v1/"}, relative="things?x=1"),
    "base url, absolute path": c("GET", "", session=lambda: {"base_url": "BASE/v1/"}, relative="/things"),
    # params
    "params dict": c("GET", "/echo", params={"a": "1", "b": "x y", "c": "\u20ac&="}),
    "params ints and floats": c("GET", "/echo", params={"a": 1, "b": 2.5}),
    "params pairs": c("GET", "/echo", params=[("a", "1"), ("a", "2"), ("b", "3")]),
    "params lists in dict": c("GET", "/echo", params={"a": ["1", "2"], "b": ("3",)}),
    "params string": c("GET", "/echo", params="a=1&b=2 3"),
    "params multidict": c("GET", "/echo", params=MultiDict([("a", "1"), ("a", "2")])),
    "params with query": c("GET", "/echo?z=9&a=0", params={"a": "1"}),
    "params empty": c("GET", "/echo?z=9", params={}),
    "params bool": c("GET", "/echo", params={"a": True}),
    "params none value": c("GET", "/echo", params={"a": None}),
    "params and fragment": c("GET", "/echo#frag", params={"a": "1"}),
    "params quoted": c("GET", "/echo", params={"a": "%20", "b+c": "d+e"}),
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
