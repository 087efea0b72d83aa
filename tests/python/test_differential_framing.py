"""Answers to the byte: framing, status lines, headers, limits, compression; and what was sent for them."""

from __future__ import annotations

import gzip
import zlib

import aiohttp
import pytest
from differential import (
    IGNORED_WARNINGS,
    Case,
    Stage,
    check,
    stages,
    w,
)
from differential_wire import answer, chunked, encoded, in_chunks

pytestmark = IGNORED_WARNINGS
stage = stages()

GZIP = gzip.compress(b"compressed " * 50, mtime=0)
RAW = zlib.compress(b"deflated " * 50)[2:-4]

CASES: dict[str, Case] = {
    # bodies with and without an end
    "length": w(answer(b"hello", "Content-Type: text/plain")),
    "no length": w(answer(b"until the end", length=False)),
    "no length, asked to keep": w(answer(b"until the end", "Connection: keep-alive", length=False)),
    "nothing at all": w(b"", method="POST"),
    "only half a head": w(b"HTTP/1.1 200 OK\r\nContent-Le", method="POST"),
    "length too long": w(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"),
    "length zero": w(answer(b"")),
    "304 with a length": w(b'HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\nETag: "x"\r\n\r\n'),
    "head with a length": w(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", method="HEAD"),
    "head chunked": w(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", method="HEAD"),
    "read until eof off": w(answer(b"body", length=False), read_until_eof=False),
    "read until eof off, length": w(answer(b"body"), read_until_eof=False),
    # lengths that are none
    "length twice": w(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
    "length negative": w(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
    "length with a plus": w(b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
    "length in hex": w(b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok"),
    "length huge": w(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok"),
    "length and chunked": w(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    # connections
    "two on one": w(answer(), answer(b"again")),
    "three, each closing": w(*[answer(b"ok", "Connection: close")] * 3),
    "http/1.0": w(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"HTTP/1.0 200 OK\r\n\r\nagain"),
    "http/1.0, kept": w(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nagain",
    ),
    "we close": w(answer(), answer(), headers={"Connection": "close"}),
    "force close": w(
        answer(), answer(), session=lambda: {"connector": aiohttp.TCPConnector(force_close=True)}
    ),
    # chunks
    "chunks": w(chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")),
    "chunks in hex": w(chunked(b"A\r\n0123456789\r\na\r\n0123456789\r\n00\r\n\r\n")),
    "chunk extensions": w(chunked(b'2;a=b;c="d"\r\nok\r\n0;last\r\n\r\n')),
    "chunk trailers": w(chunked(b"2\r\nok\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n")),
    "chunk without end": w(chunked(b"2\r\nok\r\n")),
    "chunk cut": w(chunked(b"5\r\nhe")),
    "chunk size with spaces": w(chunked(b"2  \r\nok\r\n0\r\n\r\n")),
    "chunked twice": w(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "chunked in capitals": w(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    "a coding then chunked": w(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "an unknown coding": w(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xyz\r\n\r\nok"),
    # interim answers
    "continue": w(b"HTTP/1.1 100 Continue\r\n\r\n" + answer()),
    "early hints": w(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer()),
    "three interim": w(b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + answer(b"at last")),
    # status lines
    "no reason": w(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
    "empty reason": w(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
    "long reason": w(answer(status="200 " + "very " * 100 + "OK")),
    "odd reason": w(answer(status="404 N\xf6t f\xf6und")),
    "status 299": w(answer(status="299 Odd")),
    "status 599": w(answer(status="599 Odd")),
    "status 999": w(answer(status="999 Odd")),
    "status of two digits": w(answer(status="20 OK")),
    "status of four digits": w(answer(status="2000 OK")),
    "status in words": w(answer(status="fine OK")),
    "empty lines first": w(b"\r\n\r\n" + answer()),
    "version 1.2": w(b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "version 0.9": w(b"hello"),
    "version in lower case": w(b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "another protocol": w(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "tls without being asked": w(b"\x15\x03\x01\x00\x02\x02\x46"),
    # headers
    "spaces around": w(answer(b"ok", "X-A:   1  ", "X-B:\t2\t", "X-C:3")),
    "empty value": w(answer(b"ok", "X-A:", "X-B: ")),
    "many of one": w(answer(b"ok", *[f"X-A: {n}" for n in range(20)])),
    "any case": w(answer(b"ok", "x-lower: 1", "X-UPPER: 2", "cOnTeNt-TyPe: text/PLAIN; Charset=UTF-8")),
    "latin-1 value": w(answer(b"ok", "X-A: caf\xe9")),
    "utf-8 value": w(answer(b"ok", "X-A: " + "\u20ac".encode().decode("latin-1"))),
    "control character": w(answer(b"ok", "X-A: a\x01b")),
    "nul": w(answer(b"ok", "X-A: a\x00b")),
    "no colon": w(answer(b"ok", "X-A")),
    "space before the colon": w(answer(b"ok", "X-A : 1")),
    "no name": w(answer(b"ok", ": 1")),
    "odd name": w(answer(b"ok", "X(A): 1")),
    "line feeds only": w(b"HTTP/1.1 200 OK\nContent-Length: 2\nX-A: 1\n\nok"),
    "carriage return alone": w(answer(b"ok", "X-A: 1\rX-B: 2")),
    "hundred headers": w(answer(b"ok", *[f"X-{n}: {n}" for n in range(100)])),
    "too many headers": w(answer(b"ok", *[f"X-{n}: {n}" for n in range(200)])),
    "long header": w(answer(b"ok", "X-A: " + "a" * 8000)),
    "too long a header": w(answer(b"ok", "X-A: " + "a" * 9000)),
    "too long a reason": w(answer(status="200 " + "a" * 9000)),
    "many cookies": w(answer(b"ok", *[f"Set-Cookie: c{n}={n}; Path=/" for n in range(30)])),
    "content type with spaces": w(answer(b"ok", "Content-Type:  text/html ; charset = utf-8")),
    "content type quoted": w(answer(b"ok", 'Content-Type: text/html; charset="latin-1"')),
    "content type twice": w(answer(b"ok", "Content-Type: text/a", "Content-Type: text/b")),
    "content type nonsense": w(answer(b"ok", "Content-Type: nonsense")),
    # limits of one's own
    "own header limit, held": w(answer(b"ok", "X-A: " + "a" * 50), max_field_size=100),
    "own header limit, broken": w(answer(b"ok", "X-A: " + "a" * 200), max_field_size=100),
    "own header limit, more": w(answer(b"ok", "X-A: " + "a" * 9000), max_field_size=10_000),
    "own line limit, broken": w(answer(status="200 " + "a" * 200), max_line_size=100),
    "own line limit, more": w(answer(status="200 " + "a" * 9000), max_line_size=10_000),
    "own number of headers, broken": w(answer(b"ok", *[f"X-{n}: {n}" for n in range(9)]), max_headers=5),
    "own number of headers, more": w(answer(b"ok", *[f"X-{n}: {n}" for n in range(200)]), max_headers=300),
    "session's header limit": w(answer(b"ok", "X-A: " + "a" * 200), session=lambda: {"max_field_size": 100}),
    "session's line limit": w(answer(status="200 " + "a" * 200), session=lambda: {"max_line_size": 100}),
    "session's number of headers": w(answer(b"ok", "X-A: 1"), session=lambda: {"max_headers": 1}),
    "call's limit over the session's": w(
        answer(b"ok", "X-A: " + "a" * 200), session=lambda: {"max_field_size": 100}, max_field_size=1000
    ),
    # compression
    "gzip": w(encoded("gzip", GZIP)),
    "gzip in chunks": w(chunked(in_chunks(GZIP), "Content-Encoding: gzip")),
    "gzip until the end": w(answer(GZIP, "Content-Encoding: gzip", length=False)),
    "gzip in capitals": w(encoded("GZIP", GZIP)),
    "gzip in two members": w(encoded("gzip", GZIP + GZIP)),
    "gzip of nothing": w(encoded("gzip", b"")),
    "gzip that is none": w(encoded("gzip", b"plain text")),
    "gzip damaged": w(encoded("gzip", GZIP[:-8] + bytes(8))),
    "gzip large": w(encoded("gzip", gzip.compress(bytes(range(256)) * 8000))),
    "deflate": w(encoded("deflate", zlib.compress(b"deflated " * 50))),
    "deflate without a header": w(encoded("deflate", RAW)),
    "x-gzip": w(encoded("x-gzip", GZIP)),
    "identity": w(encoded("identity", b"as it is")),
    "unknown coding of content": w(encoded("rot13", b"nf vg vf")),
    "two codings": w(encoded("gzip, deflate", GZIP)),
    "left compressed": w(encoded("gzip", GZIP), auto_decompress=False),
    "left compressed by the session": w(encoded("gzip", GZIP), session=lambda: {"auto_decompress": False}),
    "decompressed all the same": w(
        encoded("gzip", GZIP), session=lambda: {"auto_decompress": False}, auto_decompress=True
    ),
    "gzip of no content": w(b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n"),
    "gzip to head": w(encoded("gzip", b""), method="HEAD"),
}

#: Cases that aiohttp itself serves, and the reason.
FALLS_BACK: dict[str, str] = {}
#: What of a result is left out because it differs on purpose.
ON_PURPOSE: dict[str, set[str]] = {
    # aiohttp's text is the repr of its parser's half-made message.
    "only half a head": {"text", "message"},
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
