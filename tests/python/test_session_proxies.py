"""Requests through proxies, by aiohttp and by us: same answers, same errors, the same words to the proxy."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from certificates import Certificates
from differential import attributes, differences, observe, without
from molotov.session import ClientSession
from proxy_server import Instead, ProxyServer
from session_server import Server, run, without_chance

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

with warnings.catch_warnings():
    # Deprecated in aiohttp 3.14, used by most scripts.
    warnings.simplefilter("ignore", DeprecationWarning)
    AUTH = aiohttp.BasicAuth("user", "secret")
    SITE = aiohttp.BasicAuth("site", "word")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: Any) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


class Place:
    """A server over http and over https, a proxy in front of both, and how a test names them."""

    def __init__(self, certificates: Certificates, proxy: ProxyServer) -> None:
        self.certificates = certificates
        self.proxy = proxy
        self.plain = Server()
        self.trusting = certificates.trusting()

    async def __aenter__(self) -> Place:
        await self.plain.__aenter__()
        await self.proxy.__aenter__()
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.plain._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.certificates.server())
        await site.start()
        self.secure = f"https://localhost:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.proxy.__aexit__()
        await self._runner.cleanup()
        await self.plain.__aexit__()

    def text(self, text: str) -> str:
        """Put this run's addresses in the place of the words that stand for them."""
        auth = self.proxy.url.replace("://", "://user:secret@")
        named = {"PLAIN": self.plain.base, "SECURE": self.secure, "AUTHPROXY": auth, "PROXY": self.proxy.url}
        for name, value in named.items():
            text = text.replace(name, value)
        return text


Case = dict[str, Any]


def c(url: str, proxy: str | None = "PROXY", *, session: dict[str, Any] | None = None, **kw: Any) -> Case:
    return {"url": url, "proxy": proxy, "session": session or {}, "method": "GET", "times": 1, **kw}


CASES: dict[str, Case] = {
    "plain": c("PLAIN/echo?a=1"),
    "plain, twice": c("PLAIN/echo", times=2),
    "post": c("PLAIN/echo", method="POST", data=b"body"),
    "credentials": c("PLAIN/echo", proxy_auth=AUTH),
    "credentials in the url": c("PLAIN/echo", "AUTHPROXY"),
    "site and proxy credentials": c("PLAIN/echo", proxy_auth=AUTH, auth=SITE),
    "headers for the proxy": c("PLAIN/echo", proxy_headers={"X-Proxy": "1"}),
    "redirect": c("PLAIN/redirect/302"),
    "fragment": c("PLAIN/echo#there"),
    "tunnel": c("SECURE/echo?a=1"),
    "tunnel, twice": c("SECURE/echo", times=2),
    "tunnel with credentials": c("SECURE/echo", proxy_auth=AUTH),
    "tunnel with credentials in the url": c("SECURE/echo", "AUTHPROXY"),
    "tunnel with headers": c("SECURE/echo", proxy_headers={"X-Proxy": "1", "User-Agent": "me"}),
    "tunnel with session headers": c("SECURE/echo", session={"headers": {"X-Session": "1"}}),
    "tunnel post": c("SECURE/echo", method="POST", json={"a": 1}),
    "tunnel redirect": c("SECURE/redirect/307", method="PUT", data=b"again"),
    "tunnel, not trusted": c("SECURE/echo", ssl=True),
    "session proxy": c("PLAIN/echo", None, session={"proxy": "PROXY"}),
    "session proxy, tunnel": c("SECURE/echo", None, session={"proxy": "PROXY", "proxy_auth": AUTH}),
    "not a url": c("PLAIN/echo", "http://[::1"),
    "unknown proxy": c("PLAIN/echo", "http://does-not-exist.invalid:3128"),
    "closed proxy": c("PLAIN/echo", "http://127.0.0.1:1"),
    "closed proxy, tunnel": c("SECURE/echo", "http://127.0.0.1:1"),
}

HOSTILE: dict[str, Instead] = {
    "407": lambda head, writer: writer.write(
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n"
        b"Content-Length: 2\r\n\r\nno"
    ),
    "502": lambda head, writer: writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
    "204": lambda head, writer: writer.write(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "garbage": lambda head, writer: writer.write(b"\x16\x03\x01 what\r\n\r\n"),
    "closes": lambda head, writer: None,
    "half a head": lambda head, writer: writer.write(b"HTTP/1.1 200 Connec"),
    "resets": lambda head, writer: writer.transport.abort(),
}


async def perform(case: Case, make: Any, place: Place) -> tuple[Any, Any, Any]:
    place.plain.seen.clear()
    place.proxy.seen.clear()
    accepted = place.proxy.accepted
    case = dict(case)
    url, proxy, method, times = (case.pop(name) for name in ("url", "proxy", "method", "times"))
    options = {
        name: place.text(value) if isinstance(value, str) else value
        for name, value in case.pop("session").items()
    }
    if proxy is not None:
        case["proxy"] = place.text(proxy)
    if url.startswith("SECURE"):
        case.setdefault("ssl", place.trusting)
    results = []
    async with make(**options) as session:
        for _ in range(times):
            try:
                async with session.request(method, place.text(url), **case) as response:
                    results.append(await observe(response))
            except Exception as error:
                results.append(attributes(error))
        if make is ClientSession:
            assert session._aiohttp_session is None
    seen = (place.proxy.seen, place.proxy.accepted - accepted, place.plain.seen)
    return without_chance(results), without_chance(list(seen[0])), seen[1:]


def told(case: Case, seen: list[Any]) -> list[Any]:
    # After a redirect aiohttp often ends the connection, whose body it has not read; ours reads it.
    return seen[:1] if "SECURE/redirect" in case["url"] else seen


def compare(case: Case, certificates: Certificates, proxy: ProxyServer, ignored: set[str]) -> None:
    async def both() -> Any:
        async with Place(certificates, proxy) as place:
            theirs = await perform(case, aiohttp.ClientSession, place)
            theirs = (*theirs[:2], theirs[2][0], without_chance(list(theirs[2][1])))
            ours = await perform(case, ClientSession, place)
            ours = (*ours[:2], ours[2][0], without_chance(list(ours[2][1])))
            return theirs, ours

    theirs, ours = run(both())
    found = [
        *differences(without(ignored, theirs[0]), without(ignored, ours[0]), "result"),
        *differences(told(case, theirs[1]), told(case, ours[1]), "told the proxy"),
        *differences(theirs[3], ours[3], "told the server"),
    ]
    if "redirect" not in case["url"]:
        found += differences(theirs[2], ours[2], "connections")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", CASES)
def test_proxies_are_told_the_same(name: str, certificates: Certificates):
    # The line of CPython's C source is part of aiohttp's text.
    ignored = {"text", "strerror"} if name == "tunnel, not trusted" else set()
    compare(CASES[name], certificates, ProxyServer(), ignored)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("url", ["PLAIN/echo", "SECURE/echo"])
def test_hostile_proxies_break_both_in_the_same_way(name: str, url: str, certificates: Certificates):
    # The parsers word what they refuse differently; ours points at the same byte.
    ignored = {"text", "message"} if name in ("garbage", "half a head") else set()
    compare(c(url, method="POST", data=b"x"), certificates, ProxyServer(HOSTILE[name]), ignored)


@pytest.mark.parametrize("url", ["PLAIN/echo", "SECURE/echo"])
@pytest.mark.parametrize("secret", [None, AUTH])
def test_a_proxy_may_speak_tls(url: str, secret: Any, certificates: Certificates):
    """TLS in TLS, which aiohttp has from Python 3.11 on: checked by what arrives instead."""

    async def main() -> None:
        async with Place(certificates, ProxyServer(context=certificates.server())) as place:
            async with ClientSession() as session:
                for _ in range(3):
                    async with session.get(
                        place.text(url),
                        proxy=place.proxy.url,
                        proxy_auth=secret,
                        ssl=certificates.trusting(),
                    ) as response:
                        assert (await response.json())["path"] == "/echo"
                assert session._aiohttp_session is None
                with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
                    await session.get(place.text(url), proxy=place.proxy.url)
                assert caught.value.port == place.proxy.port
            first, headers = place.proxy.seen[0]
            assert first.startswith("CONNECT" if url.startswith("SECURE") else "GET http://")
            assert ("Proxy-Authorization" in dict(headers)) == (secret is not None)

    run(main())


def test_connections_through_different_proxies_are_not_mixed_up(certificates: Certificates):
    async def main() -> None:
        async with Place(certificates, ProxyServer()) as place, ProxyServer() as other:
            async with ClientSession() as session:
                url = place.text("PLAIN/echo")
                for proxy in (place.proxy.url, other.url, None, place.proxy.url, other.url, None):
                    async with session.get(url, proxy=proxy) as response:
                        assert response.status == 200
            assert [place.proxy.accepted, len(place.proxy.seen)] == [1, 2]
            assert [other.accepted, len(other.seen)] == [1, 2]
            assert len(place.plain.seen) == 6

    run(main())


def test_the_limit_counts_tunnels_and_failed_ones_free_their_place(certificates: Certificates):
    async def main() -> None:
        refusing = ProxyServer(HOSTILE["407"])
        async with Place(certificates, ProxyServer()) as place, refusing:
            async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
                url = place.text("SECURE/echo")
                context = certificates.trusting()
                calls = [
                    session.get(url, proxy=proxy.url, ssl=context)
                    for proxy in (refusing, place.proxy, refusing, place.proxy)
                ]
                answers = await asyncio.gather(*calls, return_exceptions=True)
                assert [getattr(answer, "status", None) for answer in answers] == [407, 200, 407, 200]
                assert isinstance(answers[0], aiohttp.ClientHttpProxyError)
                assert place.proxy.accepted == 1

    run(main())


class Environment:
    """Environment variables for proxies and netrc, with this run's addresses."""

    def __init__(self, monkeypatch: Any, tmp_path: Any) -> None:
        self.patch = monkeypatch
        self.path = tmp_path
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ws_proxy", "wss_proxy"):
            self.patch.delenv(name, raising=False)
            self.patch.delenv(name.upper(), raising=False)
        self.patch.setenv("NETRC", str(tmp_path / "none"))

    def set(self, **values: str) -> None:
        for name, value in values.items():
            self.patch.setenv(name, value)

    def netrc(self, text: str) -> None:
        path = self.path / "netrc"
        path.write_text(text)
        path.chmod(0o600)
        self.patch.setenv("NETRC", str(path))


@pytest.fixture
def environment(monkeypatch: Any, tmp_path: Any) -> Environment:
    return Environment(monkeypatch, tmp_path)


ENVIRONMENTS: dict[str, tuple[dict[str, str], str | None]] = {
    "http": ({"HTTP_PROXY": "PROXY"}, None),
    "lower case": ({"http_proxy": "PROXY", "https_proxy": "PROXY"}, None),
    "https": ({"https_proxy": "AUTHPROXY"}, None),
    "both, one host excepted": (
        {"http_proxy": "PROXY", "https_proxy": "PROXY", "no_proxy": "localhost"},
        None,
    ),
    "everything excepted": ({"http_proxy": "PROXY", "https_proxy": "PROXY", "NO_PROXY": "*"}, None),
    "all": ({"ALL_PROXY": "PROXY"}, None),
    "an https proxy": ({"https_proxy": "https://127.0.0.1:1"}, None),
    "netrc": ({}, "machine 127.0.0.1 login joe password word\n"),
    "netrc default": ({}, "default login anybody password word\n"),
    "netrc for the proxy": (
        {"http_proxy": "PROXY", "https_proxy": "PROXY"},
        "machine 127.0.0.1 login joe password word\n",
    ),
    "broken netrc": ({}, "what is this\n"),
    "nothing": ({}, None),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("url", ["PLAIN/echo", "SECURE/echo", "PLAIN/redirect/302"])
def test_the_environment_is_trusted_on_request(
    name: str, url: str, certificates: Certificates, environment: Environment
):
    variables, netrc = ENVIRONMENTS[name]
    if netrc is not None:
        environment.netrc(netrc)

    async def both() -> Any:
        async with Place(certificates, ProxyServer()) as place:
            environment.set(**{name: place.text(value) for name, value in variables.items()})
            case = c(url, None, session={"trust_env": True})
            outcomes = []
            for make in (aiohttp.ClientSession, ClientSession):
                results, told, (connections, seen) = await perform(case, make, place)
                outcomes.append((results, told, connections, without_chance(list(seen))))
            return outcomes

    theirs, ours = run(both())
    found = [line for a, b in zip(theirs, ours, strict=True) for line in differences(a, b)]
    assert not found, "\n".join(found)


def test_a_netrc_file_is_read_again_when_it_changes(environment: Environment):
    async def main() -> None:
        environment.netrc("machine 127.0.0.1 login joe password one\n")
        async with Server() as server:
            async with ClientSession(trust_env=True) as session:
                await session.get(server.base + "/echo")
                environment.netrc("machine 127.0.0.1 login joe password other\n")
                await session.get(server.base + "/echo")
            sent = [dict(seen["headers"])["Authorization"] for seen in server.seen]
            assert sent[0] != sent[1]

    run(main())


def test_a_tunnel_that_never_opens_runs_into_the_timeouts(certificates: Certificates):
    silent: list[asyncio.StreamWriter] = []

    def nothing(head: bytes, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("not called")

    async def main(limits: Callable[[], aiohttp.ClientTimeout], kind: type[Exception]) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            silent.append(writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            for _ in range(2):
                with pytest.raises(kind):
                    await session.get("https://target.invalid/", proxy=proxy, timeout=limits())
        server.close()
        for writer in silent:
            writer.close()

    run(main(lambda: aiohttp.ClientTimeout(total=0.05), asyncio.TimeoutError))
    run(main(lambda: aiohttp.ClientTimeout(connect=0.05), aiohttp.ServerTimeoutError))


def test_tls_is_checked_inside_the_tunnel(certificates: Certificates):
    async def main() -> None:
        async with Place(certificates, ProxyServer()) as place, ClientSession() as session:
            url = place.text("SECURE/echo")
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
                await session.get(url, proxy=place.proxy.url)
            assert caught.value.host == "localhost"
            assert isinstance(caught.value.certificate_error, ssl.SSLCertVerificationError)
            with pytest.raises(aiohttp.ServerFingerprintMismatch) as mismatch:
                await session.get(url, proxy=place.proxy.url, ssl=aiohttp.Fingerprint(b"\0" * 32))
            assert (mismatch.value.host, mismatch.value.port) == ("127.0.0.1", place.proxy.port)
            good = aiohttp.Fingerprint(certificates.fingerprint())
            async with session.get(url, proxy=place.proxy.url, ssl=good) as response:
                assert response.status == 200

    run(main())
