"""Answers as aiohttp.web gives them: statuses, media types, encodings, headers."""

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

pytestmark = IGNORED_WARNINGS
stage = stages()

CASES: dict[str, Case] = {
    # statuses
    **{f"status {s}": c("GET", f"/status/{s}") for s in (200, 201, 400, 401, 404, 500, 503)},
    "empty": c("GET", "/empty"),
    "raise for 404": c("GET", "/status/404", raise_for_status=True),
    "raise for 200": c("GET", "/status/200", raise_for_status=True),
    "session raises": c("GET", "/status/500", session=lambda: {"raise_for_status": True}),
    "session raises, call does not": c(
        "GET", "/status/500", session=lambda: {"raise_for_status": True}, raise_for_status=False
    ),
    # bodies received
    "gzip": c("GET", "/gzip"),
    "deflate": c("GET", "/gzip?coding=deflate"),
    "chunked": c("GET", "/stream"),
    "with length": c("GET", "/stream?chunked=0"),
    "latin": c("GET", "/latin"),
    "json type": c("GET", "/type?type=application/json&body={%22a%22:1}"),
    "json subtype": c("GET", "/type?type=application/vnd.api%2Bjson&body={%22a%22:1}"),
    "json charset": c("GET", "/type?type=application/json;charset=utf-8&body=%22%E2%82%AC%22"),
    "json as text": c("GET", "/type?type=text/plain&body={}"),
    "json broken": c("GET", "/type?type=application/json&body={"),
    "json nothing": c("GET", "/type?type=application/json&body="),
    "json big": c("GET", "/type?type=application/json&body=[123456789012345678901234567890,1e400,-0.0]"),
    "json nan": c("GET", "/type?type=application/json&body=[NaN,Infinity]"),
    "json surrogates": c("GET", "/type?type=application/json&body=%22%5Cud83d%5Cude00%5Cud83d%22"),
    "odd charset": c("GET", "/type?type=text/plain;charset=nonsense&body=abc"),
    "no utf-8": c(
        "GET", "/raw?bytes=HTTP/1.1%20200%20OK%0D%0AContent-Length:%203%0D%0A%0D%0A%C3%BF%C3%BE%C3%BD"
    ),
    "response headers": c("GET", "/header?X-A=1&X-A=2&ETag=%22x%22&Link=%3C/n%3E;%20rel=%22next%22"),
    "disposition": c("GET", "/header?Content-Disposition=attachment;%20filename=%22a%20b.txt%22"),
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
