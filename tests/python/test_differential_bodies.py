"""Request bodies of every kind that aiohttp takes, to the last boundary."""

from __future__ import annotations

import io
import json

import aiohttp
import pytest
from differential import (
    IGNORED_WARNINGS,
    Case,
    Made,
    Stage,
    c,
    check,
    form,
    generated,
    multipart,
    stages,
    temporary,
    temporary_at_5,
)
from multidict import MultiDict

pytestmark = IGNORED_WARNINGS
stage = stages()

CASES: dict[str, Case] = {
    # bodies
    "json": c("POST", "/echo", json={"a": [1, 2.5, None, True, "\u20ac"]}),
    "json empty": c("POST", "/echo", json={}),
    "json zero": c("POST", "/echo", json=0),
    "json on get": c("GET", "/echo", json={"a": 1}),
    "json and data": c("POST", "/echo", json={"a": 1}, data=b"x"),
    "json not serializable": c("POST", "/echo", json={"a": object}),
    "json own type": c("POST", "/echo", json={"a": 1}, headers={"Content-Type": "application/vnd.x+json"}),
    "json own serializer": c(
        "POST", "/echo", session=lambda: {"json_serialize": lambda v: json.dumps(v, indent=1)}, json={"a": 1}
    ),
    "str": c("POST", "/echo", data="h\xe9llo \u20ac"),
    "str with charset": c(
        "POST", "/echo", data="h\xe9llo", headers={"Content-Type": "text/plain; charset=latin-1"}
    ),
    "str empty": c("POST", "/echo", data=""),
    "bytes": c("POST", "/echo", data=b"\x00\xffbytes"),
    "bytes empty": c("POST", "/echo", data=b""),
    "bytearray": c("POST", "/echo", data=bytearray(b"array")),
    "memoryview": c("POST", "/echo", data=memoryview(b"view")),
    "bytes put": c("PUT", "/echo", data=b"x", headers={"Content-Type": "image/png"}),
    "bytes delete": c("DELETE", "/echo", data=b"x"),
    "bytes get": c("GET", "/echo", data=b"x"),
    "large": c("POST", "/echo", data=b"x" * 3_000_000),
    "dict": c("POST", "/echo", data={"a": "1", "b": "x y&=\u20ac"}),
    "dict with everything": c(
        "POST", "/echo", data={"".join(map(chr, range(0x80, 0x180))): "~!*'()-_.\u20ac\U0001f600"}
    ),
    "dict with a bad name": c("POST", "/echo", data={"a\nb": "1"}),
    "dict put, own type": c("PUT", "/echo", data={"a": "1"}, headers={"content-type": "text/x"}),
    "dict empty": c("POST", "/echo", data={}),
    "dict empty on get": c("GET", "/echo", data={}),
    "dict of ints": c("POST", "/echo", data={"a": 1}),
    "dict of lists": c("POST", "/echo", data={"a": ["1", "2"]}),
    "dict of none": c("POST", "/echo", data={"a": None}),
    "pairs": c("POST", "/echo", data=[("a", "1"), ("a", "2")]),
    "tuple of pairs": c("POST", "/echo", data=(("a", "1"), ("b", "2"))),
    "multidict": c("POST", "/echo", data=MultiDict([("a", "1"), ("a", "2")])),
    "list of strings": c("POST", "/echo", data=["a", "b"]),
    "int as data": c("POST", "/echo", data=5),
    "dict of bytes": c("POST", "/echo", data={"a": b"raw"}),
    "dict of files": c("POST", "/echo", data=Made(lambda: {"f": io.BytesIO(b"in file"), "a": "1"})),
    "dict of real files": c("POST", "/echo", data=Made(lambda: {"f": temporary()})),
    "form": c("POST", "/echo", data=form(("a", "1", {}), ("b", "\u20ac", {}))),
    "form charset": c("POST", "/echo", data=form(("a", "\xe9", {}), charset="latin-1")),
    "form file": c(
        "POST",
        "/echo",
        data=form(
            ("f", lambda: io.BytesIO(b"zip"), {"filename": "a b.zip", "content_type": "application/zip"})
        ),
    ),
    "form mixed": c(
        "POST",
        "/echo",
        data=form(("f", lambda: io.BytesIO(b"zip"), {"filename": "\u20ac.zip"}), ("a", "1", {})),
    ),
    "form multipart forced": c("POST", "/echo", data=form(("a", "1", {"content_type": "text/x"}))),
    "form in put": c("PUT", "/echo", data=form(("a", "1", {}))),
    "multipart writer": c("POST", "/echo", data=Made(multipart)),
    "bytesio": c("POST", "/echo", data=Made(lambda: io.BytesIO(b"bytes io"))),
    "stringio": c("POST", "/echo", data=Made(lambda: io.StringIO("string io \u20ac"))),
    "file": c("POST", "/echo", data=Made(temporary)),
    "file from the middle": c("POST", "/echo", data=Made(temporary_at_5)),
    "file with less length": c("POST", "/echo", data=Made(temporary), headers={"Content-Length": "100"}),
    "generator": c("POST", "/echo", data=Made(generated)),
    "generator with length": c("POST", "/echo", data=Made(generated), headers={"Content-Length": "21"}),
    "payload object": c("POST", "/echo", data=Made(lambda: aiohttp.payload.StringPayload("payload"))),
    "json payload": c("POST", "/echo", data=Made(lambda: aiohttp.payload.JsonPayload({"a": 1}))),
    "chunked bytes": c("POST", "/echo", data=b"chunk me", chunked=True),
    "chunked none": c("POST", "/echo", chunked=True),
    "chunked with length": c("POST", "/echo", data=b"x", chunked=True, headers={"Content-Length": "1"}),
    "transfer header": c("POST", "/echo", data=b"x", headers={"Transfer-Encoding": "chunked"}),
    "transfer header twice": c(
        "POST", "/echo", data=b"x", chunked=True, headers={"Transfer-Encoding": "chunked"}
    ),
    "compress": c("POST", "/echo", data=b"compress me" * 50, compress=True),
    "compress gzip": c("POST", "/echo", data=b"compress me" * 50, compress="gzip"),
    "compress nothing": c("POST", "/echo", compress=True),
    "compress false": c("POST", "/echo", data=b"x", compress=False, headers={"Content-Encoding": "gzip"}),
    "compress twice": c("POST", "/echo", data=b"x", compress=True, headers={"Content-Encoding": "gzip"}),
    "own length": c("POST", "/echo", data=b"12345", headers={"Content-Length": "5"}),
    "own shorter length": c("POST", "/echo", data=b"12345", headers={"Content-Length": "3"}),
    "bad own length": c("POST", "/echo", data=b"12345", headers={"Content-Length": "x"}),
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
