"""Servers that misbehave: cut and reset, odd framing, strange heads, hostile redirects and cookies."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import aiohttp
import pytest
from differential import IGNORED_WARNINGS, Case, Stage, by_name, check, outcome, stages, w
from differential_wire import Reply, Step, Wire, answer, chunked, dribbled, encoded, in_chunks
from molotov.session import ClientSession

pytestmark = IGNORED_WARNINGS
stage = stages()

GZIP = gzip.compress(b"compressed " * 50, mtime=0)
OK = answer(b"ok", "Content-Type: text/plain")


def parts(*texts: bytes | Step) -> Reply:
    """Make a reply of several steps."""
    return texts


def late(head: bytes, body: bytes, *steps: bytes | Step) -> Reply:
    """Send a body only when its head was seen: then it is not in the head's packet."""
    return (head, Step.HEAD_SEEN, body, *steps)


def head(*headers: str, status: str = "200 OK") -> bytes:
    """Write a head down, with these headers only."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


def to(location: str, *headers: str, status: str = "302 Found") -> bytes:
    """Write a redirect down."""
    return answer(b"", f"Location: {location}", *headers, status=status)


def raw_to(location: bytes) -> bytes:
    """Write a redirect down whose target is these bytes."""
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"


CHUNKED = head("Transfer-Encoding: chunked")
LENGTH = head("Content-Length: 10")
ENDLESS = head("Connection: close")


def typed(body: bytes, content_type: str) -> Case:
    """Make a case of a body of that type, read as bytes, text and JSON."""
    return w(answer(body, f"Content-Type: {content_type}"))


def cookies(*values: str) -> Case:
    """Make a case of cookies set by a host with a name, and sent back to it."""
    reply = answer(b"ok", *[f"Set-Cookie: {value}" for value in values])
    return w(reply, answer(b"again"), path=by_name("/some/where"))


def post(*replies: Reply, **kw: Any) -> Case:
    """Make a case of a POST, which neither client sends twice."""
    return w(*replies, method="POST", **kw)


# Ends in the wrong place. A POST: aiohttp sends other requests twice.
ENDS: dict[str, Case] = {
    "closed in the version": post(b"HTT"),
    "closed in the status": post(b"HTTP/1.1 20"),
    "closed after the status line": post(b"HTTP/1.1 200 OK\r\n"),
    "closed in a name": post(b"HTTP/1.1 200 OK\r\nConte"),
    "closed before the empty line": post(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"),
    "closed in the empty line": post(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r"),
    "closed after the head": post(LENGTH),
    "closed after the chunked head": post(CHUNKED),
    "closed after an interim answer": post(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "closed after hints": post(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "closed in a chunk size": post(late(CHUNKED, b"2")),
    "closed in a chunk's line end": post(late(CHUNKED, b"2\r")),
    "closed in a chunk": post(late(CHUNKED, b"5\r\nhel")),
    "closed after a chunk": post(late(CHUNKED, b"2\r\nok\r\n")),
    "closed before the trailers end": post(late(CHUNKED, b"2\r\nok\r\n0\r\nX-T: 1\r\n")),
    "closed before the last line end": post(late(CHUNKED, b"2\r\nok\r\n0\r\n")),
    "closed in gzip without length": post(late(head("Content-Encoding: identity"), b"some")),
    "reset at once": post(parts(Step.RESET)),
    "reset in the head": post(parts(b"HTTP/1.1 200 OK\r\nX-A", Step.RESET)),
    "reset after the head": post(late(LENGTH, b"", Step.RESET)),
    "reset in the body": post(late(LENGTH, b"five!", Step.RESET)),
    "reset in a chunk": post(late(CHUNKED, b"5\r\nhel", Step.RESET)),
    "reset after a chunk": post(late(CHUNKED, b"2\r\nok\r\n", Step.RESET)),
    "reset after the body": w(parts(OK, Step.RESET), answer(b"again")),
}

# The same bytes, slowly.
SLOW: dict[str, Case] = {
    "byte by byte": w(dribbled(OK), dribbled(answer(b"again"))),
    "byte by byte, chunked": w(dribbled(chunked(b"2;x=y\r\nok\r\n3\r\n, a\r\n0\r\nX-T: 1\r\n\r\n"))),
    "byte by byte, gzip": w(dribbled(encoded("gzip", GZIP))),
    "byte by byte, gzip in chunks": w(dribbled(chunked(in_chunks(GZIP), "Content-Encoding: gzip"))),
    "byte by byte, until the end": w(dribbled(answer(b"until the end", length=False))),
    "byte by byte, interim": w(dribbled(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)),
    "byte by byte, redirect": w(dribbled(to("/next")), dribbled(OK)),
    "byte by byte, line feeds": w(dribbled(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok")),
    "byte by byte, refused": post(dribbled(b"HTTP/1.1 2000 OK\r\n\r\n")),
    "body after the head": w(late(LENGTH, b"ten bytes!")),
}

# Interim answers.
INTERIM: dict[str, Case] = {
    "fifty interim": w(b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + OK),
    "interim with headers": w(b"HTTP/1.1 103 Hints\r\nSet-Cookie: a=b\r\nX-A: 1\r\n\r\n" + OK),
    "interim with a length": w(b"HTTP/1.1 103 Hints\r\nContent-Length: 0\r\n\r\n" + OK),
    "interim unknown": w(b"HTTP/1.1 199 Odd\r\n\r\n" + OK),
    "interim without a reason": w(b"HTTP/1.1 100\r\n\r\n" + OK),
    "interim, then nonsense": post(b"HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n"),
    "switching unasked": w(head(status="101 Switching Protocols")),
    "switching unasked, with bytes": w(
        late(head("Upgrade: thing", "Connection: Upgrade", status="101 Switching Protocols"), b"raw bytes")
    ),
    "switching to websocket unasked": w(
        head("Upgrade: websocket", "Connection: Upgrade", status="101 Switching Protocols")
    ),
    "upgrade with 200": w(answer(b"ok", "Upgrade: h2c", "Connection: Upgrade"), answer(b"again")),
}

# Framing.
FRAMING: dict[str, Case] = {
    "length in a list": w(answer(b"ok", "Content-Length: 2, 2", length=False)),
    "length with zeros": w(answer(b"ok", "Content-Length: 0002", length=False)),
    "length with an underscore": w(answer(b"0123456789", "Content-Length: 1_0", length=False)),
    "length with a point": w(answer(b"ok", "Content-Length: 2.0", length=False)),
    "length in other digits": w(answer(b"ok", "Content-Length: \xb2", length=False)),
    "length of nothing": w(answer(b"ok", "Content-Length:", length=False)),
    "length of spaces": w(answer(b"ok", "Content-Length:   ", length=False)),
    "length with a tab": w(answer(b"ok", "Content-Length:\t2\t", length=False)),
    "length with a form feed": w(answer(b"ok", "Content-Length: 2\x0c", length=False)),
    "length of 2**63": w(late(head(f"Content-Length: {2**63}"), b"ok")),
    "length of 2**64": w(head(f"Content-Length: {2**64}")),
    "length twice, unlike": w(head("Content-Length: 2", "Content-Length: 5") + b"hello"),
    "length after chunked": w(head("Transfer-Encoding: chunked", "Content-Length: 2") + b"0\r\n\r\n"),
    "length and another coding": w(head("Transfer-Encoding: gzip", "Content-Length: 2") + b"ok"),
    "length and identity": w(head("Content-Length: 2", "Transfer-Encoding: identity") + b"ok"),
    "coding identity": w(head("Transfer-Encoding: identity") + b"ok"),
    "coding empty": w(head("Transfer-Encoding:") + b"ok"),
    "coding chunked, then gzip": w(head("Transfer-Encoding: chunked, gzip") + b"ok"),
    "coding chunked twice in one": w(head("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n"),
    "coding with a parameter": w(head("Transfer-Encoding: chunked;q=1") + b"0\r\n\r\n"),
    "coding with a tab": w(head("Transfer-Encoding: \tchunked") + b"2\r\nok\r\n0\r\n\r\n"),
    "coding with a vertical tab": w(head("Transfer-Encoding: \x0bchunked") + b"ok"),
    "coding nearly chunked": w(head("Transfer-Encoding: xchunked") + b"ok"),
    "coding quoted": w(head('Transfer-Encoding: "chunked"') + b"ok"),
    "coding in two headers": w(
        head("Transfer-Encoding: gzip", "Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n"
    ),
    "coding in two headers, chunked first": w(
        head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + b"ok"
    ),
    "coding with an empty item": w(head("Transfer-Encoding: chunked,") + b"ok"),
    "chunked from HTTP/1.0": w(
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", answer(b"again")
    ),
    "chunks of nothing": w(chunked(b"0\r\n\r\n"), answer(b"again")),
    "chunk size with many zeros": w(chunked(b"0" * 100 + b"2\r\nok\r\n0\r\n\r\n")),
    "chunk size of 2**63": w(late(CHUNKED, b"8000000000000000\r\nok")),
    "chunk extension after a space": w(chunked(b"2 ;a\r\nok\r\n0\r\n\r\n")),
    "chunk extension of a kilobyte": w(chunked(b"2;" + b"a" * 1000 + b"\r\nok\r\n0\r\n\r\n")),
    "chunk extension with a line feed": w(chunked(b"2;a\nok\r\n0\r\n\r\n")),
    "chunk too short": w(late(CHUNKED, b"9\r\nok\r\n0\r\n\r\n")),
    "trailers many": w(chunked(b"2\r\nok\r\n0\r\n" + b"X-T: 1\r\n" * 100 + b"\r\n")),
    "trailer empty": w(chunked(b"2\r\nok\r\n0\r\nX-T:\r\n\r\n")),
    "204 with a length": w(answer(b"", "X-A: 1", status="204 No Content"), answer(b"again")),
    "204 with a length that lies": w(
        head("Content-Length: 5", status="204 No Content"), answer(b"again"), keep=True
    ),
    "204 in chunks": w(head("Transfer-Encoding: chunked", status="204 No Content"), answer(b"again")),
    "205 with a body": w(answer(b"reset", status="205 Reset Content"), answer(b"again")),
    "304 in chunks": w(head("Transfer-Encoding: chunked", status="304 Not Modified"), answer(b"again")),
    "304 that closes": w(head("Connection: close", status="304 Not Modified"), answer(b"again")),
    "206 with a range": w(answer(b"par", "Content-Range: bytes 0-2/10", status="206 Partial Content")),
    "206 with a range that lies": w(
        answer(b"par", "Content-Range: bytes 5-1/x", status="206 Partial Content")
    ),
    "416": w(answer(b"", "Content-Range: bytes */10", status="416 Range Not Satisfiable")),
    "head that closes": w(head("Connection: close"), answer(b""), method="HEAD"),
    "answer to connect": w(head("Content-Length: 2") + b"ok", method="PATCH"),
}

# Status lines and headers.
HEADS: dict[str, Case] = {
    "preface of HTTP/2": post(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "frames of HTTP/2": post(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    "version 3": post(b"HTTP/3 200 OK\r\n\r\n"),
    "version 1.10": post(b"HTTP/1.10 200 OK\r\n\r\n"),
    "version 1": post(b"HTTP/1 200 OK\r\n\r\n"),
    "version 11.1": post(b"HTTP/11.1 200 OK\r\n\r\n"),
    "version of letters": post(b"HTTP/a.b 200 OK\r\n\r\n"),
    "tab after the version": post(b"HTTP/1.1\t200 OK\r\n\r\n"),
    "space before the version": post(b" HTTP/1.1 200 OK\r\n\r\n"),
    "status negative": post(b"HTTP/1.1 -200 OK\r\n\r\n"),
    "status with a point": post(b"HTTP/1.1 200.5 OK\r\n\r\n"),
    "status of letters": post(b"HTTP/1.1 2OO OK\r\n\r\n"),
    "status zero": w(answer(status="000 Nothing")),
    "status 099": w(answer(status="099 Little")),
    "status very large": post(b"HTTP/1.1 " + b"9" * 100 + b" OK\r\n\r\n"),
    "status missing": post(b"HTTP/1.1\r\n\r\n"),
    "status missing, with a space": post(b"HTTP/1.1 \r\n\r\n"),
    "reason with a nul": w(answer(status="200 a\x00b")),
    "reason with a tab": w(answer(status="200 a\tb")),
    "reason with an escape": w(answer(status="200 \x1b[31mred")),
    "reason with spaces around": w(answer(status="200   OK  ")),
    "reason in utf-8": w(answer(status="200 " + "\u20ac".encode().decode("latin-1"))),
    "reason that is none in utf-8": w(answer(status="200 \xff\xfe")),
    "name with a nul": w(answer(b"ok", "X\x00A: 1")),
    "name with a high byte": w(answer(b"ok", "X\xe9A: 1")),
    "name with a space": w(answer(b"ok", "X A: 1")),
    "name with a tab": w(answer(b"ok", "X\tA: 1")),
    "name in quotes": w(answer(b"ok", '"X": 1')),
    "name in brackets": w(answer(b"ok", "[X]: 1")),
    "name of odd letters": w(answer(b"ok", "!#$%&'*+-.^_`|~: 1")),
    "name of spaces": w(answer(b"ok", "   : 1")),
    "name very long": w(answer(b"ok", "X" * 5000 + ": 1")),
    "value with a delete": w(answer(b"ok", "X-A: a\x7fb")),
    "value with a form feed": w(answer(b"ok", "X-A: \x0c1\x0b")),
    "value with an escape": w(answer(b"ok", "X-A: \x1b[31m")),
    "value of all bytes": w(
        answer(b"ok", "X-A: " + "".join(chr(n) for n in range(1, 256) if n not in b"\r\n"))
    ),
    "value that is none in utf-8": w(answer(b"ok", "X-A: \xff\xc0\x80")),
    "value of surrogates": w(answer(b"ok", "X-A: \xed\xa0\x80")),
    "value of a colon": w(answer(b"ok", "X-A:::", "X-B: :")),
    "two empty lines": w(head("Content-Length: 4") + b"\r\nok"),
    "carriage return, then another": post(b"HTTP/1.1 200 OK\r\r\n\r\n"),
    "carriage return in a name": post(b"HTTP/1.1 200 OK\r\nX\rA: 1\r\n\r\n"),
    "carriage return at the end": post(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\rX\r\n\r\n"),
    "connection with both": w(answer(b"ok", "Connection: keep-alive, close"), answer(b"again")),
    "connection with nonsense": w(answer(b"ok", "Connection: ,,; close"), answer(b"again")),
    "connection quoted": w(answer(b"ok", 'Connection: "close"'), answer(b"again")),
    "keep alive for no time": w(answer(b"ok", "Keep-Alive: timeout=0"), answer(b"again"), keep=True),
    "keep alive no requests": w(answer(b"ok", "Keep-Alive: timeout=5, max=0"), answer(b"again"), keep=True),
    "connection of a proxy": w(answer(b"ok", "Proxy-Connection: close"), answer(b"again")),
    "old websocket key": w(answer(b"ok", "Sec-WebSocket-Key1: x")),
    "content type with a control": w(answer(b"ok", "Content-Type: text/\x01plain")),
    "content type of bytes": w(answer(b"ok", "Content-Type: \xff\xfe")),
    "content type of bytes, with a charset": w(answer(b"\xe9", "Content-Type: text/\xff; charset=latin-1")),
    "content type empty": w(answer(b"ok", "Content-Type:")),
    "content type a list": w(answer(b"ok", "Content-Type: text/plain, text/html")),
    "content type unended": w(answer(b"ok", 'Content-Type: text/plain; charset="utf-8')),
    "content type of parameters": w(answer(b"ok", "Content-Type: ;charset=utf-8;;=;a")),
    "content type continued": w(answer(b"ok", "Content-Type: text/plain; charset*0=ut; charset*1=f-8")),
    "content type in rfc 2231": w(answer(b"ok", "Content-Type: text/plain; charset*=us-ascii''utf-8")),
    "disposition in rfc 5987": w(
        answer(b"ok", "Content-Disposition: attachment; filename*=UTF-8''%e2%82%ac.txt")
    ),
    "disposition broken": w(answer(b"ok", "Content-Disposition: attachment; filename*=UTF-8''%zz%e2")),
    "disposition twice": w(answer(b"ok", "Content-Disposition: inline; filename=a; filename=b")),
    "disposition of bytes": w(answer(b"ok", 'Content-Disposition: form-data; filename="\xff"; name')),
    "disposition nonsense": w(answer(b"ok", "Content-Disposition: ;;;=")),
    "links": w(answer(b"ok", 'Link: </a>; rel="next prev"; title=x, <b?c>; rel=last; rel=first')),
    "links broken": w(answer(b"ok", "Link: </a>; rel, <, >, ;;; , <c>")),
    "link to nowhere": w(answer(b"ok", "Link: <http://h:99999/>; rel=x, <//>; rel=y")),
    "link to no host": w(answer(b"ok", "Link: <http://[::1>; rel=x")),
}

# Codings of content.
CODINGS: dict[str, Case] = {
    "gzip in gzip": w(encoded("gzip", gzip.compress(GZIP, mtime=0))),
    "gzip, gzip": w(encoded("gzip, gzip", gzip.compress(GZIP, mtime=0))),
    "gzip, identity": w(encoded("gzip, identity", GZIP)),
    "gzip with a parameter": w(encoded("gzip;q=1", GZIP)),
    "gzip with spaces": w(encoded("  gzip\t ", GZIP)),
    "gzip in two headers": w(answer(GZIP, "Content-Encoding: gzip", "Content-Encoding: gzip")),
    "gzip, then identity": w(answer(GZIP, "Content-Encoding: gzip", "Content-Encoding: identity")),
    "identity, then gzip": w(answer(GZIP, "Content-Encoding: identity", "Content-Encoding: gzip")),
    "coding of nothing": w(encoded("", b"as it is")),
    "coding of a comma": w(encoded(",", b"as it is")),
    "coding none": w(encoded("none", b"as it is")),
    "compress": w(encoded("compress", b"\x1f\x9d as it is")),
    "gzip within a transfer coding": w(
        head("Transfer-Encoding: gzip, chunked", "Content-Encoding: gzip") + in_chunks(GZIP)
    ),
    "gzip in an error": w(
        answer(GZIP, "Content-Encoding: gzip", "Content-Type: text/plain", status="500 Broken")
    ),
    "gzip in an error, raised": w(
        answer(GZIP, "Content-Encoding: gzip", status="500 Broken"), raise_for_status=True
    ),
    "gzip in a redirect": w(answer(GZIP, "Content-Encoding: gzip", "Location: /x", status="302 Found"), OK),
    "gzip broken in a redirect": w(
        answer(b"plain", "Content-Encoding: gzip", "Location: /x", status="302 Found"), OK
    ),
    "gzip of not modified": w(head("Content-Encoding: gzip", status="304 Not Modified")),
    "gzip with a name": w(encoded("gzip", b"\x1f\x8b\x08\x08" + bytes(6) + b"name\x00" + GZIP[10:])),
    "gzip, another method": w(late(head("Content-Encoding: gzip"), b"\x1f\x8b\x07" + GZIP[3:])),
    "gzip, wrong length": w(late(head("Content-Encoding: gzip"), GZIP[:-1] + b"\x01")),
    "gzip, then nonsense": w(late(head("Content-Encoding: gzip"), GZIP + b"nonsense")),
    "deflate that is gzip": w(late(head("Content-Encoding: deflate"), GZIP)),
    "deflate with a dictionary": w(late(head("Content-Encoding: deflate"), b"\x78\xbb\x00\x00\x00\x01abc")),
    "deflate, wrong checksum": w(
        late(head("Content-Encoding: deflate"), zlib.compress(b"deflated " * 50)[:-1] + b"\x00")
    ),
    "gzip that is deflate": w(late(head("Content-Encoding: gzip"), zlib.compress(b"deflated " * 50))),
    "text read as another charset": typed("\u20ac".encode(), "text/plain; charset=utf-16"),
    "text of an unknown charset": typed(b"ok", "text/plain; charset=nonsense"),
    "text of a charset that is no text": typed(b"6f6b", "text/plain; charset=hex"),
    "text of base64": typed(b"b2s=", "text/plain; charset=base64"),
    "text of rot13": typed(b"bx", "text/plain; charset=rot13"),
    "text of punycode": typed(b"bcher-kva", "text/plain; charset=punycode"),
    "text of idna": typed(b"xn--bcher-kva", "text/plain; charset=idna"),
    "text of utf-7": typed(b"+AGE-", "text/plain; charset=utf-7"),
    "text of the undefined": typed(b"ok", "text/plain; charset=undefined"),
    "text of a charset with a nul": typed(b"ok", "text/plain; charset=utf\x01-8"),
    "text that is none": typed(b"\xff\xfe\x00", "text/plain; charset=utf-8"),
    "text with a mark": typed(b"\xef\xbb\xbfok", "text/plain; charset=utf-8"),
    "text with an empty charset": typed(b"ok", "text/plain; charset="),
    "text with two charsets": typed(b"\xe9", "text/plain; charset=latin-1; charset=utf-8"),
    "json with a mark": typed(b"\xef\xbb\xbf{}", "application/json"),
    "json in utf-16": typed("{}".encode("utf-16"), "application/json"),
    "json in utf-32": typed("{}".encode("utf-32-le"), "application/json"),
    "json said to be latin-1": typed(b'"\xe9"', "application/json; charset=latin-1"),
    "json of an unknown charset": typed(b"{}", "application/json; charset=nonsense"),
    "json of numbers that are none": typed(b"[NaN, Infinity, -Infinity]", "application/json"),
    "json of a number without an end": typed(b"1" * 5000, "application/json"),
    "json of odd numbers": typed(
        b"[1e400, -0, 1E5, 0.1e-5, 123456789012345678901234567890]", "application/json"
    ),
    "json of bad numbers": typed(b"[01]", "application/json"),
    "json of twice the same": typed(b'{"a": 1, "a": 2}', "application/json"),
    "json of half a surrogate": typed(rb'["\ud800", "\udc00\ud800", "\ud83d\ude00"]', "application/json"),
    "json with a nul": typed(b'"a\x00b"', "application/json"),
    "json with an escaped nul": typed(rb'"a\u0000b"', "application/json"),
    "json with a tab": typed(b'"a\tb"', "application/json"),
    "json cut": typed(b'{"a": [1, 2', "application/json"),
    "json and more": typed(b"{} {}", "application/json"),
    "json of nothing": typed(b"", "application/json"),
    "json of spaces": typed(b" \r\n\t", "application/json"),
    "json with odd spaces": typed(b"\x0c{}", "application/json"),
    "json with a bad escape": typed(rb'"\x"', "application/json"),
    "json of bad text": typed(b'"\xff"', "application/json"),
    "json of a word": typed(b"nul", "application/json"),
    "json with a trailing comma": typed(b"[1,]", "application/json"),
    "json that is deep": typed(b"[" * 900 + b"]" * 900, "application/json"),
    "json of another type": typed(b"{}", "application/vnd.thing+json; charset=utf-8"),
    "json of the type text": typed(b"{}", "text/json"),
}

# Redirects to strange places.
REDIRECTS: dict[str, Case] = {
    f"redirect to {name}": w(to(location), OK, OK, times=1)
    for name, location in {
        "a port too large": "http://127.0.0.1:99999/",
        "a port of letters": "http://127.0.0.1:abc/",
        "a negative port": "http://127.0.0.1:-1/",
        "an empty port": "http://127.0.0.1:/",
        "a port that refuses": "http://127.0.0.1:1/",
        "a port with zeros": "http://127.0.0.1:000@PORT@/x",
        "credentials": "http://joe:secret@127.0.0.1:@PORT@/x",
        "credentials without a name": "http://:secret@127.0.0.1:@PORT@/x",
        "two at signs": "http://a@b@127.0.0.1:@PORT@/x",
        "a space": "/a b",
        "spaces around": "  /x  ",
        "a tab": "/a\tb",
        "a control": "/a\x01b",
        "a delete": "/a\x7fb",
        "nothing": "",
        "no host": "http://",
        "no host but a path": "http:///x",
        "two slashes": "//",
        "three slashes": "///x",
        "a host without a scheme": "//127.0.0.1:@PORT@/x",
        "a query": "?a=b&c=%zz",
        "a fragment": "#there",
        "a bad escape": "/%zz%",
        "an escaped slash": "/a%2Fb/%2e%2e/c",
        "dots": "/a/../../b/./c",
        "a backslash": "/\\example.com/",
        "two backslashes": "\\\\127.0.0.1:@PORT@\\x",
        "mail": "mailto:joe@example.com",
        "a script": "javascript:alert(1)",
        "a file": "file:///etc/passwd",
        "ftp": "ftp://127.0.0.1/x",
        "data": "data:text/plain,ok",
        "websockets": "ws://127.0.0.1:@PORT@/x",
        "capitals": "HTTP://127.0.0.1:@PORT@/x",
        "an open bracket": "http://[::1/",
        "brackets in the path": "/[a]?[b]=[c]",
        "braces": '/{a}|b^c`d"e<f>',
        "a host with an underscore": "http://a_b.invalid/",
        "a host with a percent": "http://a%20b.invalid/",
        "a number as host": "http://2130706433:@PORT@/x",
        "hex as host": "http://0x7f.1:@PORT@/x",
        "a colon": ":",
        "a colon in the path": "a:b",
        "a relative path": "x/y",
        "a semicolon": "/x;y=z",
        "a plus": "/a+b?c+d=e+f",
        "a very long path": "/" + "x" * 4000,
    }.items()
} | {
    "redirect to utf-8": w(raw_to("/\u20ac".encode()), OK, OK, times=1),
    "redirect to a host in utf-8": w(raw_to("http://b\xfccher.invalid/".encode()), OK, OK, times=1),
    "redirect twice told": w(to("/first", "Location: /second"), OK, times=1),
    "redirect to itself": w(*[to("/")] * 12, times=1),
    "redirect without a place": w(answer(b"where?", status="302 Found"), times=1),
    "redirect by URI": w(answer(b"", "URI: /old", status="301 Moved"), OK, times=1),
    "place without a redirect": w(answer(b"ok", "Location: /x"), times=1),
    "place with 300": w(answer(b"ok", "Location: /x", status="300 Choices"), OK, times=1),
    "place with 304": w(head("Location: /x", status="304 Not Modified"), OK, times=1),
    "place with 305": w(answer(b"ok", "Location: /x", status="305 Use Proxy"), OK, times=1),
    "place with 306": w(answer(b"ok", "Location: /x", status="306 Unused"), OK, times=1),
    "place with 309": w(answer(b"ok", "Location: /x", status="309 Odd"), OK, times=1),
    "redirect and close": w(to("/x", "Connection: close"), OK, times=1),
    "redirect with a long body": w(answer(b"x" * 10_000, "Location: /x", status="302 Found"), OK, times=1),
    "redirect with an endless body": w(
        answer(b"x" * 1000, "Location: /x", status="302 Found", length=False), OK, times=1
    ),
    "redirect with a cut body": w(head("Location: /x", "Content-Length: 9", status="302 Found"), OK, times=1),
    "redirect of a post, 307": w(to("/x", status="307 Again"), OK, method="POST", data=b"body", times=1),
    "redirect of a put, 303": w(to("/x", status="303 Other"), OK, method="PUT", data=b"body", times=1),
    "redirect of a head": w(to("/x"), head("Content-Length: 2"), method="HEAD", times=1),
}

# Cookies.
COOKIES: dict[str, Case] = {
    "cookies without a value": cookies("a", "b=", "=c", "=", ";", "", " ", "d;", ";e=f"),
    "cookies with odd names": cookies(
        "a b=1", "a\tb=1", "a(b=1", "[a]=1", "a:b=1", "\xe9=1", "$a=1", "a/b=1"
    ),
    "cookies with odd values": cookies(
        "a=b=c", "b=x y", "c=x,y", "d=\xe9", "e=x\ty", 'f="x', 'g=x"y', "h=\\"
    ),
    "cookies with controls": cookies("a=x\x01y", "b=x\x7fy", "c\x01=x", "d=x; path=/\x01"),
    "cookies in quotes": cookies(
        'a="x"', 'b="x;y"', 'c="x\\"y"', 'd="\\054"', 'e=""', 'f="x"y', 'g="x" ; Path=/'
    ),
    "cookies of one name": cookies("a=1", "a=2", "A=3", "a=4; Path=/some", "a=5; Path=/other"),
    "cookies with paths": cookies(
        "a=1; Path=/",
        "b=1; Path=some",
        "c=1; Path=",
        "d=1; Path=/some/where/",
        "e=1; Path=/som",
        "f=1; Path=/some/../x",
        'g=1; Path="/some"',
        "h=1; path",
    ),
    "cookies with domains": cookies(
        "a=1; Domain=localhost",
        "b=1; Domain=.localhost",
        "c=1; Domain=example.com",
        "d=1; Domain=",
        "e=1; Domain=LOCALHOST",
        "f=1; Domain=localhost.",
        "g=1; domain",
        "h=1; Domain=host",
        "i=1; Domain=127.0.0.1",
        "j=1; Domain=..localhost",
    ),
    "cookies with ages": cookies(
        "a=1; Max-Age=0",
        "b=1; Max-Age=-1",
        "c=1; Max-Age=60",
        "d=1; Max-Age=x",
        "e=1; Max-Age=",
        "f=1; Max-Age=1e3",
        "g=1; Max-Age=99999999999999999999",
        "h=1; Max-Age= 60 ",
        'i=1; Max-Age="60"',
        "j=1; Max-Age=+60",
        "k=1; Max-Age=6_0",
    ),
    "cookies with dates": cookies(
        "a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "b=1; Expires=Wed, 09 Jun 2100 10:18:14 GMT",
        "c=1; Expires=Wednesday, 09-Jun-2100 10:18:14 GMT",
        "d=1; Expires=0",
        "e=1; Expires=-1",
        "f=1; Expires=whenever",
        "g=1; Expires=Wed, 31 Feb 2100 10:18:14 GMT",
        "h=1; Expires=Wed, 09 Jun 1500 10:18:14 GMT",
        "i=1; Expires=Wed, 09 Jun 99999 10:18:14 GMT",
        "j=1; Expires=Wed, 09 Jun 2100 25:18:14 GMT",
        "k=1; Expires=",
        'l=1; Expires="Wed, 09 Jun 2100 10:18:14 GMT"',
        "m=1; Expires=Thu, 01 Jan 1970 00:00:01 GMT",
    ),
    "cookies with flags": cookies(
        "a=1; Secure",
        "b=1; HttpOnly",
        "c=1; SameSite",
        "d=1; SameSite=Odd",
        "e=1; secure=false",
        "f=1; Partitioned",
        "g=1;Secure;HttpOnly",
        "h=1; ; ;HttpOnly",
    ),
    "cookies with prefixes": cookies("__Host-a=1", "__Secure-b=1", "__Host-c=1; Path=/; Domain=localhost"),
    "cookies with words of their own": cookies(
        "path=1", "expires=1; Path=/", "domain=1", "secure=1", "Max-Age=5"
    ),
    "cookies in one header": cookies("a=1, b=2", "c=1; d=2; e=3", "f=1 g=2", "h=1;Path=/;i=2"),
    "cookies too long": cookies(
        "a=" + "x" * 4095,
        "b=" + "x" * 4096,
        "c=1; Path=/" + "x" * 1023,
        "d=1; Path=/" + "x" * 1024,
        "e" * 4096 + "=1",
    ),
    "cookies with many attributes": cookies(
        "a=1; " + "; ".join(f"x{n}=y" for n in range(50)) + "; Path=/late"
    ),
    "cookies many": cookies(*[f"c{n}={n}" for n in range(60)]),
    "cookies deleted": cookies("a=1", "a=; Max-Age=0", "b=1", "b=x; Expires=Thu, 01 Jan 1970 00:00:01 GMT"),
    "cookies of an address": w(answer(b"ok", "Set-Cookie: a=1"), answer(b"again")),
    "cookies of a redirect": w(
        to("/else", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=1"), OK, OK, times=2, path=by_name("/x/y")
    ),
    "cookies of an error": w(
        answer(b"no", "Set-Cookie: a=1", status="403 No"), OK, path=by_name("/x"), raise_for_status=True
    ),
    "cookies of interim answers": w(
        b"HTTP/1.1 103 Hints\r\nSet-Cookie: a=1\r\n\r\n" + answer(b"ok", "Set-Cookie: b=1"),
        OK,
        path=by_name("/x"),
    ),
    "cookies in old style": w(answer(b"ok", "Set-Cookie2: a=1; Version=1"), OK, path=by_name("/x")),
    "cookies unquoted": w(
        answer(b"ok", 'Set-Cookie: a="x y"', "Set-Cookie: b=x/y"),
        OK,
        path=by_name("/x"),
        session=lambda: {"cookie_jar": aiohttp.CookieJar(quote_cookie=False)},
    ),
}

# Bodies that break when the head is there already. Such a one leaves aiohttp waiting for a timeout; that of
# an answer in one packet fails its request (test_differential_on_purpose).
BROKEN: dict[str, tuple[bytes, str]] = {
    "chunk size with a plus": (b"+2\r\nok\r\n0\r\n\r\n", "Invalid character in chunk size"),
    "chunk size in hex notation": (b"0x2\r\nok\r\n0\r\n\r\n", "Invalid character in chunk size"),
    "chunk size of 2**64": (b"10000000000000000\r\nok\r\n0\r\n\r\n", "Chunk size overflow"),
    "chunk size with a line feed": (b"2\nok\r\n0\r\n\r\n", "Expected LF after chunk size"),
    "chunk size, then nothing": (b"\r\nok\r\n0\r\n\r\n", "Invalid character in chunk size"),
    "chunk extension empty": (b"2;\r\nok\r\n0\r\n\r\n", "Invalid character in chunk extensions"),
    "chunk extension with a control": (
        b"2;a\x01\r\nok\r\n0\r\n\r\n",
        "Invalid character in chunk extensions",
    ),
    "chunk extension quoted line end": (b'2;a="\r\n"\r\nok\r\n0\r\n\r\n', "Invalid character in chunk size"),
    "chunk too long": (b"2\r\nokay\r\n0\r\n\r\n", "Expected LF after chunk data"),
    "chunk without a line end": (b"2\r\nok0\r\n\r\n", "Expected LF after chunk data"),
    "chunk with a carriage return": (b"2\r\nok\r0\r\n\r\n", "Expected LF after chunk data"),
    "trailer with spaces": (b"2\r\nok\r\n0\r\nX T: 1\r\n\r\n", "Invalid header token"),
    "trailer without a colon": (b"2\r\nok\r\n0\r\nnonsense\r\n\r\n", "Invalid header token"),
}

# What differs on purpose: the case, what comes of it with aiohttp (None: that depends), and with ours.
DIFFERENT: dict[str, tuple[Case, Any, Any]] = {
    # A body that a reset ends has not come whole.
    "reset instead of the end": (
        post(late(ENDLESS, b"until the end", Step.RESET)),
        (200, b"until the end"),
        (200, "ClientPayloadError"),
    ),
    # Nor has this one, though its length looks to aiohttp like none.
    "length of 2**64 - 1": (
        w(late(head(f"Content-Length: {2**64 - 1}"), b"ok")),
        (200, b""),
        (200, "ClientPayloadError"),
    ),
    # What an interim answer says of the connection counts for nothing.
    "interim that closes": (
        w(b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + OK, answer(b"again")),
        "ClientResponseError",
        (200, b"ok"),
    ),
    "interim of HTTP/1.0": (w(b"HTTP/1.0 100 Continue\r\n\r\n" + OK), "ClientResponseError", (200, b"ok")),
    # Trailers are checked for their form, and mean nothing (RFC 9110, 6.5.1).
    "trailers of framing": (
        w(chunked(b"2\r\nok\r\n0\r\nContent-Length: 5\r\n\r\n"), answer(b"again")),
        "ClientResponseError",
        (200, b"ok"),
    ),
    # RTSP is not HTTP.
    "version of another protocol": (post(b"RTSP/1.0 200 OK\r\n\r\n"), (200, b""), "ClientResponseError"),
    # A host that cannot exist is an invalid URL.
    "redirect to no address": (w(to("http://[::zz]/"), OK, times=1), None, "InvalidUrlClientError"),
    # A host that cannot exist is an invalid URL.
    "redirect to a host with a space": (
        w(to("http://exa mple.invalid/"), OK, times=1),
        None,
        "InvalidUrlClientError",
    ),
    # A host that cannot exist is an invalid URL.
    "redirect to a host of one dot": (w(to("http://./"), OK, times=1), None, "InvalidUrlRedirectClientError"),
    # A host that cannot exist is an invalid URL.
    "redirect to a host with an empty label": (
        w(to("http://a..invalid/"), OK, times=1),
        None,
        "InvalidUrlRedirectClientError",
    ),
    # aiohttp leaves such bytes out of the path; ours shows that there was something (%EF%BF%BD).
    "redirect to latin-1": (w(raw_to(b"/caf\xe9"), OK, OK, times=1), None, (200, b"ok")),
    # The same, in the error's text.
    "redirect to a host in latin-1": (
        w(raw_to(b"http://b\xfccher.invalid/"), OK, OK, times=1),
        "InvalidUrlRedirectClientError",
        "InvalidUrlRedirectClientError",
    ),
}

CASES: dict[str, Case] = ENDS | SLOW | INTERIM | FRAMING | HEADS | CODINGS | REDIRECTS | COOKIES

#: Cases that aiohttp itself serves, and the reason.
FALLS_BACK: dict[str, str] = {}
#: What of a result is left out because it differs on purpose.
ON_PURPOSE: dict[str, set[str]] = {
    # aiohttp's text is the repr of its parser's half-made message.
    "closed in the version": {"text", "message"},
    "closed in the status": {"text", "message"},
    "closed after the status line": {"text", "message"},
    "closed in a name": {"text", "message"},
    "closed before the empty line": {"text", "message"},
    "closed in the empty line": {"text", "message"},
    # It quotes the last packet, ours the line.
    "byte by byte, refused": {"text", "message"},
    # Ours says that a line begins with a space, wherever that is.
    "name of spaces": {"text", "message"},
    # Charsets in pieces, and charsets with a language, are not read.
    "content type continued": {"charset"},
    "content type in rfc 2231": {"charset"},
    # Bytes that are no text stay different ones; with aiohttp all become U+FFFD.
    "content type of bytes, with a charset": {"content_type"},
    # A redirect to nowhere is not in its own history.
    "redirect without a place": {"history"},
    "redirect to nothing": {"history", "json"},
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


def brief(result: Any) -> Any:
    """Tell a result in short: the class of what a request raised, or its status and what came of the body."""
    if "class" in result:
        return result["class"]
    body = result["body"]
    return result["status"], body if isinstance(body, bytes) else body["class"]


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_does_so_on_purpose(name: str, stage: Stage) -> None:
    """Each for its reason, which the table gives."""
    case, theirs, ours = DIFFERENT[name]
    seen = stage.run(case)
    assert brief(seen[1][0][0]) == ours
    assert theirs is None or brief(seen[0][0][0]) == theirs


@pytest.mark.parametrize("name", BROKEN)
def test_a_body_that_breaks_fails_at_once(name: str, stage: Stage) -> None:
    """It does so when it is read, with the cause in aiohttp's words."""
    body, words = BROKEN[name]

    async def main() -> Any:
        async with Wire((late(CHUNKED, body),), keep=True) as wire, ClientSession() as session:
            async with session.get(wire.base) as response:
                wire.head_seen()
                return await outcome(response.read)

    error = stage.loop.run_until_complete(main())
    assert error["class"] == "ClientPayloadError"
    assert words in error["text"]


def test_an_answer_to_head_keeps_its_connection(stage: Stage) -> None:
    """It has no body, whatever it says of one (RFC 9112, 6.3), though aiohttp closes when it says nothing."""
    theirs, ours = stage.run(w(head("X-A: 1"), head("X-A: 2"), method="HEAD"))
    assert (theirs[1][0], ours[1][0]) == (2, 1)
