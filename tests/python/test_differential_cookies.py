"""Cookies: what is kept, what is sent, and the jar in a script's hands."""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import pytest
from differential import (
    IGNORED_WARNINGS,
    Case,
    Stage,
    c,
    check,
    jar,
    s,
    stages,
)
from session_server import Server
from yarl import URL

pytestmark = IGNORED_WARNINGS
stage = stages()


def named(server: Server, path: str = "/echo") -> URL:
    """Ask by name: cookies of addresses are not kept."""
    return URL(f"http://localhost:{server.port}{path}")


async def fetch(session: Any, url: URL) -> Any:
    async with session.get(url) as response:
        return response.status, sorted(m.OutputString() for m in response.cookies.values())


def received(*values: str) -> Callable[[Any, Server], Any]:
    """Take these Set-Cookie headers, then ask twice."""

    async def script(session: Any, server: Server) -> Any:
        url = named(server, "/set-cookie").with_query([("v", value) for value in values])
        seen = [await fetch(session, url)]
        seen.append(await fetch(session, named(server, "/set-cookie")))
        seen.append(await fetch(session, named(server, "/deep/er")))
        return seen

    return script


async def jar_set_and_sent(session: Any, server: Server) -> Any:
    session.cookie_jar.update_cookies({"a": "1", "b": "x y"})
    return await fetch(session, named(server)), await fetch(session, URL(server.base))


async def jar_listed(session: Any, server: Server) -> Any:
    await fetch(session, named(server, "/cookies?a=1&b=2"))
    cookies = session.cookie_jar
    return len(cookies), sorted((m.key, m.value, m["domain"], m["path"]) for m in cookies)


async def jar_cleared(session: Any, server: Server) -> Any:
    await fetch(session, named(server, "/cookies?a=1&b=2"))
    session.cookie_jar.clear()
    await fetch(session, named(server))
    return len(session.cookie_jar)


async def jar_cleared_by_rule(session: Any, server: Server) -> Any:
    await fetch(session, named(server, "/cookies?a=1&b=2"))
    session.cookie_jar.clear(lambda cookie: cookie.key == "a")
    await fetch(session, named(server))
    return sorted(cookie.key for cookie in session.cookie_jar)


async def jar_cleared_by_domain(session: Any, server: Server) -> Any:
    await fetch(session, named(server, "/cookies?a=1&b=2"))
    session.cookie_jar.update_cookies({"c": "3"}, URL("http://example.com/"))
    session.cookie_jar.clear_domain("localhost")
    await fetch(session, named(server))
    return sorted(cookie.key for cookie in session.cookie_jar)


async def jar_filtered(session: Any, server: Server) -> Any:
    await fetch(session, named(server, "/cookies?a=1&b=2"))
    found = session.cookie_jar.filter_cookies(named(server))
    other = session.cookie_jar.filter_cookies(URL("http://example.com/"))
    return sorted((name, morsel.value) for name, morsel in found.items()), len(other)


async def jar_updated_by_url(session: Any, server: Server) -> Any:
    session.cookie_jar.update_cookies({"a": "1"}, named(server, "/deep/er"))
    return await fetch(session, named(server)), await fetch(session, named(server, "/deep/est"))


async def jar_morsels(session: Any, server: Server) -> Any:
    cookies: SimpleCookie = SimpleCookie()
    cookies["a"] = "1"
    cookies["a"]["path"] = "/deep"
    cookies["b"] = "2"
    cookies["b"]["secure"] = True
    session.cookie_jar.update_cookies(cookies, named(server))
    return await fetch(session, named(server)), await fetch(session, named(server, "/deep/er"))


async def jar_unquoted(session: Any, server: Server) -> Any:
    session.cookie_jar.update_cookies({"a": "x,y;z", "b": "1 2"}, named(server))
    return await fetch(session, named(server))


async def jar_shared(session: Any, server: Server) -> Any:
    async with type(session)(cookie_jar=session.cookie_jar) as other:
        await fetch(other, named(server, "/cookies?a=1"))
    return await fetch(session, named(server))


CASES: dict[str, Case] = {
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
    # the jar, as scripts use it
    "jar: set and sent": s(jar_set_and_sent),
    "jar: listed": s(jar_listed),
    "jar: cleared": s(jar_cleared),
    "jar: cleared by a rule": s(jar_cleared_by_rule),
    "jar: cleared by domain": s(jar_cleared_by_domain),
    "jar: filtered": s(jar_filtered),
    "jar: updated by url": s(jar_updated_by_url),
    "jar: morsels": s(jar_morsels),
    "jar: own, unsafe": s(jar_set_and_sent, lambda: {"cookie_jar": aiohttp.CookieJar(unsafe=True)}),
    "jar: own, unquoted": s(jar_unquoted, lambda: {"cookie_jar": aiohttp.CookieJar(quote_cookie=False)}),
    "jar: none": s(jar_set_and_sent, lambda: {"cookie_jar": aiohttp.DummyCookieJar()}),
    "jar: shared by two sessions": s(jar_shared),
    **{
        f"set-cookie {name}": s(received(*values))
        for name, values in {
            "plain": ("a=1",),
            "two": ("a=1", "b=2"),
            "replaced": ("a=1", "a=2"),
            "removed": ("a=1", "a=; Max-Age=0"),
            "expired": ("a=1; Expires=Thu, 01 Jan 1970 00:00:10 GMT",),
            "kept": ("a=1; Expires=Fri, 01 Jan 2100 00:00:00 GMT",),
            "max-age": ("a=1; Max-Age=1000",),
            "max-age before expires": ("a=1; Max-Age=1000; Expires=Thu, 01 Jan 1970 00:00:10 GMT",),
            "secure": ("a=1; Secure",),
            "http only": ("a=1; HttpOnly; SameSite=Lax",),
            "path": ("a=1; Path=/set-cookie",),
            "another path": ("a=1; Path=/elsewhere",),
            "path without slash": ("a=1; Path=x",),
            "domain": ("a=1; Domain=localhost",),
            "domain with a dot": ("a=1; Domain=.localhost",),
            "another domain": ("a=1; Domain=example.com",),
            "empty": ("a=",),
            "no value": ("a",),
            "quoted": ('a="x y"',),
            "quoted with escapes": ('a="x\\054y"',),
            "spaces around": (" a = 1 ; Path = / ",),
            "equal signs": ("a=b=c=d",),
            "json": ('a={"x":1}',),
            "comma": ("a=1,2",),
            "unknown attribute": ("a=1; Priority=High; Partitioned",),
            "attribute as name": ("path=1; Path=/",),
            "odd name": ("a[1]=2",),
            "non-ascii": ("a=caf\xe9",),
            "many": tuple(f"c{n}={n}" for n in range(40)),
        }.items()
    },
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
