"""The same calls through aiohttp's session and ours, against the same server: nothing may differ.

Compared: status, reason, headers, body, cookies, history, URLs, request_info, the exception's class,
text and attributes, the session's cookie jar, and what the server saw, header order and case included.
"""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from molotov.session import ClientSession
from multidict import CIMultiDict, MultiDict
from session_server import Server, run, without_chance
from yarl import URL

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

Case = dict[str, Any]


def c(
    method: str, path: Any, session: Callable[[], dict[str, Any]] = dict, times: int = 1, **kw: Any
) -> Case:
    """One case: a call (values that are callables without name are made anew for each client)."""
    return {"method": method, "path": path, "session": session, "times": times, "kw": kw}


class Made:
    """An argument that a call uses up: made anew for each client."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def form(*fields: tuple[Any, ...], **options: Any) -> Made:
    def make() -> aiohttp.FormData:
        data = aiohttp.FormData(**options)
        for name, value, more in fields:
            data.add_field(name, value() if callable(value) else value, **more)
        return data

    return Made(make)


def multipart() -> aiohttp.MultipartWriter:
    writer = aiohttp.MultipartWriter("mixed")
    writer.append("text")
    writer.append_json({"a": 1})
    writer.append(b"bytes", {"Content-Type": "application/x-thing"})  # type: ignore[arg-type]
    inner = aiohttp.MultipartWriter("related")
    inner.append("nested")
    writer.append(inner)
    return writer


async def generated() -> AsyncIterator[bytes]:
    for number in range(3):
        yield f"part {number};".encode()


async def broken() -> AsyncIterator[bytes]:
    yield b"part"
    raise RuntimeError("the source broke")


def temporary() -> Any:
    file = tempfile.TemporaryFile()
    file.write(b"file content " * 1000)
    file.seek(0)
    return file


def temporary_at_5() -> Any:
    file = temporary()
    file.seek(5)
    return file


def jar() -> aiohttp.CookieJar:
    made = aiohttp.CookieJar(unsafe=True)
    made.update_cookies({"given": "1"}, URL("http://127.0.0.1/"))
    return made


with warnings.catch_warnings():
    # Deprecated in aiohttp 3.14, used by most scripts.
    warnings.simplefilter("ignore", DeprecationWarning)
    BASIC = aiohttp.BasicAuth("user", "pass")
    LATIN = aiohttp.BasicAuth("us\xe9r", "p\xe4ss", "utf-8")

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
    # cookies
    "own cookies": c("GET", "/echo", cookies={"a": "1", "b": "x y"}),
    "own odd cookies": c("GET", "/echo", cookies={"a": 'q"uo;te,', "b": "\u20ac"}),
    "own cookies, two calls": c("GET", "/echo", cookies={"a": "1"}, times=2),
    "session cookies": c("GET", "/echo", session=lambda: {"cookies": {"s": "1", "t": "x y"}}, times=2),
    "session and own cookies": c(
        "GET", "/echo", session=lambda: {"cookies": {"s": "1"}}, cookies={"s": "2", "o": "3"}
    ),
    "cookie header": c("GET", "/echo", headers={"Cookie": "h=1; i=2"}),
    "cookie header and own": c("GET", "/echo", headers={"Cookie": "h=1"}, cookies={"o": "2"}),
    "received, ip host": c("GET", "/cookies?a=1&b=2", times=2),
    "received, name host": c(
        "GET", lambda base: base.replace("127.0.0.1", "localhost") + "/cookies?a=1", times=2
    ),
    "received, unsafe jar": c(
        "GET", "/cookies?a=1", session=lambda: {"cookie_jar": aiohttp.CookieJar(unsafe=True)}, times=2
    ),
    "received, dummy jar": c(
        "GET", "/cookies?a=1", session=lambda: {"cookie_jar": aiohttp.DummyCookieJar()}, times=2
    ),
    "own jar": c("GET", "/echo", session=lambda: {"cookie_jar": jar()}),
    "own jar and cookies": c("GET", "/echo", session=lambda: {"cookie_jar": jar(), "cookies": {"more": "2"}}),
    "attributes": c(
        "GET",
        lambda base: URL(base.replace("127.0.0.1", "localhost") + "/set-cookie").with_query(
            [
                ("v", "a=1; Path=/; HttpOnly"),
                ("v", "b=2; Path=/other"),
                ("v", "c=3; Max-Age=0"),
                ("v", "d=4; Secure"),
            ]
        ),
        times=2,
    ),
    "odd cookies": c(
        "GET",
        lambda base: URL(base.replace("127.0.0.1", "localhost") + "/set-cookie").with_query(
            [("v", 'q="a b"'), ("v", "novalue"), ("v", "x{y}=1"), ("v", "k=a=b")]
        ),
        times=2,
    ),
    # redirects
    **{
        f"redirect {s} {m}": c(m, f"/redirect/{s}", data=b"body" if m != "GET" else None)
        for s in (301, 302, 303, 307, 308)
        for m in ("GET", "POST", "PUT", "DELETE")
    },
    **{f"redirect {s} HEAD": c("HEAD", f"/redirect/{s}", allow_redirects=True) for s in (301, 303, 307)},
    "redirect json": c("POST", "/redirect/307", json={"a": 1}),
    "redirect form": c("POST", "/redirect/308", data={"a": "1"}),
    "redirect file": c("POST", "/redirect/307", data=Made(temporary)),
    "redirect generator": c("POST", "/redirect/307", data=Made(generated)),
    "redirect generator to get": c("POST", "/redirect/303", data=Made(generated)),
    "redirect multipart": c(
        "POST", "/redirect/307", data=form(("f", lambda: io.BytesIO(b"z"), {"filename": "z"}))
    ),
    "redirect own length": c("POST", "/redirect/303", data=b"abc", headers={"Content-Length": "3"}),
    "redirects off": c("GET", "/redirect/302", allow_redirects=False),
    "redirect without location": c("GET", "/bare-redirect"),
    "redirect loop": c("GET", "/loop"),
    "redirect limit": c("GET", "/chain/5", max_redirects=3),
    "redirect chain": c("GET", "/chain/5"),
    "redirect chain, named host": c("GET", lambda base: base.replace("127.0.0.1", "localhost") + "/chain/3"),
    "redirect with auth": c("GET", "/redirect/302", auth=BASIC),
    "redirect with header auth": c("GET", "/redirect/302", headers={"Authorization": "Bearer x"}),
    "redirect relative": c("GET", "/redirect/302?to=other"),
    "redirect parent": c("GET", "/redirect/302?to=../up"),
    "redirect query only": c("GET", "/redirect/302?to=%3Fx%3D1"),
    "redirect fragment": c("GET", "/redirect/302?to=/echo%23frag"),
    "redirect spaces": c("GET", "/redirect/302?to=/a%20b%3Fc%3Dd%20e"),
    "redirect quoted": c("GET", "/redirect/302?to=/a%2520b"),
    "redirect unicode": c("GET", "/redirect/302?to=/caf%C3%A9"),
    "redirect requote off": c(
        "GET", "/redirect/302?to=/a%2520b", session=lambda: {"requote_redirect_url": False}
    ),
    "redirect to ftp": c("GET", "/redirect/302?to=ftp://127.0.0.1/"),
    "redirect to nonsense": c("GET", "/redirect/302?to=http://:/"),
    "redirect to bad port": c("GET", "/redirect/302?to=http://127.0.0.1:x/"),
    "redirect without host": c("GET", "/redirect/302?to=http:///x"),
    "redirect params": c("GET", "/redirect/302?to=/echo", params={"a": "1"}),
    "redirect cookies": c("GET", "/redirect/302", cookies={"a": "1"}),
    "redirect then status": c("GET", "/redirect/302?to=/status/404", raise_for_status=True),
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
    # failures
    "server closes": c("POST", "/abort", data=b"x"),
    "server truncates": c("GET", "/truncate"),
    "not http answer": c("POST", "/raw?bytes=nonsense%0D%0A%0D%0A"),
    "total timeout": c("GET", "/slow", timeout=aiohttp.ClientTimeout(total=0.05)),
    "number as timeout": c("GET", "/slow", timeout=0.05),
    "read timeout": c("GET", "/slow", timeout=aiohttp.ClientTimeout(sock_read=0.05)),
    "read timeout in body": c("GET", "/trickle", timeout=aiohttp.ClientTimeout(sock_read=0.05)),
    "total timeout in body": c("GET", "/trickle", timeout=aiohttp.ClientTimeout(total=0.05)),
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


def attributes(error: BaseException) -> dict[str, Any]:
    """What scripts read of an exception."""
    found: dict[str, Any] = {
        "class": type(error).__name__,
        "bases": [k.__name__ for k in type(error).__mro__],
    }
    found["text"] = str(error)
    for name in ("status", "message", "errno", "strerror", "host", "port", "url", "ssl", "description"):
        if hasattr(error, name):
            found[name] = str(getattr(error, name))
    if hasattr(error, "history"):
        found["history"] = [(item.status, str(item.url)) for item in error.history]
    if hasattr(error, "request_info"):
        found["request_info"] = info(error.request_info)
    if getattr(error, "headers", None) is not None:
        found["headers"] = headers(error)
    return found


def info(request_info: Any) -> dict[str, Any]:
    return {
        "url": str(request_info.url),
        "real_url": str(request_info.real_url),
        "method": request_info.method,
        "headers": list(request_info.headers.items()),
    }


def headers(response: Any) -> list[tuple[str, str]]:
    # aiohttp spells the names it knows in its own way ("Etag"); ours are as the server sent them.
    return [(n.lower(), v) for n, v in response.headers.items() if n != "Date"]


async def outcome(call: Callable[[], Any], shown: Callable[[Any], Any] = lambda value: value) -> Any:
    try:
        return shown(await call())
    except Exception as error:
        return attributes(error)


async def observe(response: Any) -> dict[str, Any]:
    """Read everything a script reads of a response."""
    seen: dict[str, Any] = {
        "status": response.status,
        "reason": response.reason,
        "ok": response.ok,
        "method": response.method,
        "version": tuple(response.version),
        "headers": headers(response),
        "raw_headers": [h for h in response.raw_headers if h[0] != b"Date"],
        "url": str(response.url),
        "real_url": str(response.real_url),
        "host": response.host,
        "content_type": response.content_type,
        "charset": response.charset,
        "content_length": response.content_length,
        "disposition": str(response.content_disposition),
        "links": str(response.links),
        "history": [(i.status, i.method, str(i.url), str(i.cookies)) for i in response.history],
        "request_info": info(response.request_info),
        "cookies": sorted(m.OutputString() for m in response.cookies.values()),
    }
    seen["body"] = await outcome(response.read)
    seen["body again"] = await outcome(response.read)
    seen["text"] = await outcome(response.text)
    seen["json"] = await outcome(response.json, repr)
    seen["json of any type"] = await outcome(lambda: response.json(content_type=None), repr)
    seen["encoding"] = response.get_encoding() if isinstance(seen["body"], bytes) else None
    return seen


async def perform(case: Case, make: Any, server: Server) -> tuple[Any, Any, Any]:
    server.seen.clear()
    options = case["session"]()
    if "base_url" in options:
        options["base_url"] = options["base_url"].replace("BASE", server.base)
    results = []
    async with make(**options) as session:
        for _ in range(case["times"]):
            kw = {
                name: value.make() if isinstance(value, Made) else value for name, value in case["kw"].items()
            }
            target = kw.pop("relative", None)
            if target is None:
                target = case["path"](server.base) if callable(case["path"]) else server.base + case["path"]
            try:
                async with session.request(case["method"], target, **kw) as response:
                    seen = await observe(response)
                seen["closed"] = response.closed
                seen["read after"] = await outcome(response.read)
                seen["text after"] = await outcome(response.text)
                results.append(seen)
            except Exception as error:
                results.append(attributes(error))
        cookies = sorted((m.key, m.value, m["domain"], m["path"]) for m in session.cookie_jar)
    return without_chance(results), without_chance(server.seen), cookies


async def both(case: Case) -> tuple[Any, Any]:
    async with Server() as server:
        return await perform(case, aiohttp.ClientSession, server), await perform(case, ClientSession, server)


def differences(theirs: Any, ours: Any, at: str = "") -> list[str]:
    """Name the places where two results differ, so that a failure reads in one line."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = [*theirs, *(name for name in ours if name not in theirs)]
        pairs = [(f"{at}.{name}", theirs.get(name), ours.get(name)) for name in names]
    elif type(theirs) is type(ours) and isinstance(theirs, (list, tuple)) and len(theirs) == len(ours):
        pairs = [(f"{at}[{i}]", a, b) for i, (a, b) in enumerate(zip(theirs, ours, strict=True))]
    else:
        return [] if theirs == ours else [f"{at}: aiohttp {str(theirs)[:300]!r}, ours {str(ours)[:300]!r}"]
    return [line for where, a, b in pairs for line in differences(a, b, where)]


#: Where we differ on purpose, by case: what of the result is left out, and why.
ON_PURPOSE = {
    # aiohttp puts such a response into its own history: a reference to itself.
    "redirect without location": {"history"},
    # aiohttp fills the history in after it has checked the status; ours tells the hops.
    "redirect then status": {"history"},
    # The line of CPython's C source is part of aiohttp's text.
    "tls to plain": {"text", "strerror"},
}


def without(names: set[str], value: Any) -> Any:
    """Leave out what differs on purpose, at any depth."""
    if isinstance(value, dict):
        return {name: without(names, item) for name, item in value.items() if name not in names}
    if isinstance(value, list):
        return [without(names, item) for item in value]
    return value


def check(name: str, *, native: bool) -> None:
    theirs, ours = run(both(CASES[name]), native=native)
    ignored = ON_PURPOSE.get(name, set())
    found = [
        *differences(without(ignored, theirs[0]), without(ignored, ours[0]), "result"),
        *differences(theirs[1], ours[1], "seen"),
        *differences(theirs[2], ours[2], "cookies"),
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", CASES)
def test_nothing_differs(name: str) -> None:
    """Both clients give the same results, send the same requests and keep the same cookies."""
    check(name, native=True)


@pytest.mark.parametrize("name", list(CASES)[::5])
def test_nothing_differs_on_asyncios_own_loop(name: str) -> None:
    """The same through the bridge: every fifth case."""
    check(name, native=False)
