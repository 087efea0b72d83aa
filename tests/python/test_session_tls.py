"""TLS by aiohttp and by us: whom it trusts, what it shows, how it fails."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from certificates import Certificates
from differential import attributes, differences
from molotov.session import ClientSession
from session_server import run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: Any) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.issue("expired", "DNS:localhost", start=2001, end=2002)
    made.issue("early", "DNS:localhost", start=2040, end=2041)
    made.issue("elsewhere", "DNS:elsewhere.test,IP:192.0.2.1")
    made.issue("common", None)
    made.issue("common elsewhere", "DNS:elsewhere.test")
    made.issue("client", None, subject="client")
    made.sign_itself("alone", "DNS:localhost")
    made.sign_itself("other", "DNS:localhost")
    made.issue("signed", "DNS:localhost", authority="alone")
    return made


class Secure:
    """A TLS server that tells what it was shown, and notes the names it was asked for."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.names: list[str | None] = []
        context.sni_callback = lambda connection, name, _: self.names.append(name)

    async def __aenter__(self) -> Secure:
        app = web.Application()
        app.router.add_get("/", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.context).start()
        self.port = self._runner.addresses[0][1]
        self.named, self.numbered = (f"https://{host}:{self.port}/" for host in ("localhost", "127.0.0.1"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        connection = request.transport.get_extra_info("ssl_object")
        shown = connection.getpeercert()
        subject = dict(pair for part in shown.get("subject", ()) for pair in part) if shown else {}
        return web.json_response(
            {
                "version": connection.version(),
                "protocol": connection.selected_alpn_protocol(),
                "client": subject.get("commonName"),
            }
        )


async def asked(make: Any, url: str, **kw: Any) -> Any:
    """Ask once; the answer, or what scripts read of the error without the lines of CPython's source."""
    async with make(**kw.pop("session", dict)()) as session:
        try:
            async with session.get(url, **kw) as response:
                assert response.status == 200
                return await response.json()
        except Exception as error:
            found = attributes(error)
            if isinstance(error, aiohttp.ClientConnectorError):
                found["os_error"] = (type(error.os_error).__name__, error.os_error.errno)
            return {
                name: re.sub(r" \(_ssl\.c:\d+\)", "", value) if isinstance(value, str) else value
                for name, value in found.items()
            }
        finally:
            assert getattr(session, "_aiohttp_session", None) is None or make is not ClientSession


def same(
    server: ssl.SSLContext,
    call: Callable[[Secure], dict[str, Any]],
    ignored: tuple[str, ...] = (),
    *,
    compare_names: bool = True,
) -> Any:
    """Let both ask the same; give the common outcome and the names that the server was asked for."""

    async def main() -> Any:
        async with Secure(server) as secure:
            kw = call(secure)
            url = kw.pop("url")
            outcomes = []
            for make in (aiohttp.ClientSession, ClientSession):
                secure.names.clear()
                outcomes.append((await asked(make, url, **dict(kw)), list(secure.names)))
            return outcomes

    theirs, ours = run(main())
    for outcome in (theirs[0], ours[0]):
        for name in ignored:
            outcome.pop(name, None)
    if not compare_names:
        # aiohttp asks once more when a server leaves that has taken the handshake for done.
        theirs = (theirs[0], ours[1])
    assert not (found := differences(theirs, ours)), "\n".join(found)
    return ours


TRUST = ["authority", "default", "nobody", "names ignored", "off", "pinned", "mispinned"]


@pytest.mark.parametrize("server", ["server", "expired", "early", "elsewhere", "common", "common elsewhere"])
@pytest.mark.parametrize("place", ["named", "numbered"])
@pytest.mark.parametrize(
    "trust", ["authority", "default", "nobody", "names ignored", "off", "pinned", "mispinned"]
)
def test_the_same_certificates_are_accepted(server: str, place: str, trust: str, certificates: Certificates):
    context = certificates.trusting()
    if trust == "names ignored":
        context.check_hostname = False
    if trust == "nobody":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    chosen: Any = {
        "default": True,
        "off": False,
        "pinned": aiohttp.Fingerprint(certificates.fingerprint(server)),
        "mispinned": aiohttp.Fingerprint(b"\1" * 32),
    }.get(trust, context)
    same(certificates.server(server), lambda secure: {"url": getattr(secure, place), "ssl": chosen})

    def connected() -> dict[str, Any]:
        return {"connector": aiohttp.TCPConnector(ssl=chosen)}

    outcomes = same(
        certificates.server(server),
        lambda secure: {"url": getattr(secure, place), "session": connected},
    )
    assert outcomes


@pytest.mark.parametrize("place", ["named", "numbered"])
@pytest.mark.parametrize("name", [None, "localhost", "elsewhere.test", "127.0.0.1"])
def test_the_server_is_asked_for_the_same_name(place: str, name: str | None, certificates: Certificates):
    context = certificates.trusting()
    _, names = same(
        certificates.server("elsewhere"),
        lambda secure: {
            "url": getattr(secure, place),
            "ssl": context,
            "server_hostname": name,
        },
    )
    shown = name or ("localhost" if place == "named" else "127.0.0.1")
    assert names == [None if shown == "127.0.0.1" else shown]


def test_a_final_dot_is_not_part_of_the_name(certificates: Certificates):
    _, names = same(
        certificates.server(),
        lambda secure: {"url": secure.numbered, "ssl": False, "server_hostname": "localhost."},
    )
    assert names == ["localhost"]


VERSIONS = [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("least", VERSIONS)
@pytest.mark.parametrize("most", VERSIONS)
@pytest.mark.parametrize("served", VERSIONS)
def test_the_same_versions_are_spoken(least: Any, most: Any, served: Any, certificates: Certificates):
    if (least, most) == (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        pytest.skip("no version is left")
    server = certificates.server()
    if served is not None:
        server.minimum_version = server.maximum_version = served
    context = certificates.trusting()
    if least is not None:
        context.minimum_version = least
    if most is not None:
        context.maximum_version = most
    # What an alert is called is the library's business.
    ignored = ("text", "strerror")
    same(server, lambda secure: {"url": secure.named, "ssl": context}, ignored)


@pytest.mark.parametrize("protocols", [["http/1.1"], ["http/1.0", "http/1.1"], ["other"], None])
def test_the_same_protocols_are_offered(protocols: list[str] | None, certificates: Certificates):
    server = certificates.server()
    server.set_alpn_protocols(["other", "http/1.1", "http/1.0"])
    context = certificates.trusting()
    if protocols is not None:
        context.set_alpn_protocols(protocols)
    outcome, _ = same(server, lambda secure: {"url": secure.named, "ssl": context}, ("protocol",))
    assert outcome["version"] == "TLSv1.3"


@pytest.mark.parametrize("one_file", [False, True])
@pytest.mark.parametrize("version", VERSIONS[1:])
def test_client_certificates_are_shown(version: Any, one_file: bool, certificates: Certificates):
    server = certificates.server()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(certificates.path("ca.pem"))
    server.maximum_version = version
    context = certificates.trusting()
    pair = [certificates.path("client.pem"), certificates.path("client.key")]
    if one_file:
        both = Path(certificates.path("both.pem"))
        both.write_text("".join(Path(path).read_text() for path in pair))
        context.load_cert_chain(both)
    else:
        context.load_cert_chain(*pair)
    outcome, _ = same(server, lambda secure: {"url": secure.named, "ssl": context})
    assert outcome["client"] == "client"
    # Without one: how the refusal is worded, and when it is noticed, is the library's business.
    ignored = ("text", "strerror", "errno", "class", "bases", "host", "port", "ssl", "os_error", "message")
    ignored += ("connection_key",)
    anonymous = certificates.trusting()
    outcome, _ = same(
        server, lambda secure: {"url": secure.named, "ssl": anonymous}, ignored, compare_names=False
    )
    assert outcome == {}


def test_a_password_keeps_a_client_certificate_with_aiohttp(certificates: Certificates):
    subprocess.run(
        ["openssl", "ec", "-aes128", "-passout", "pass:word", "-in", "client.key", "-out", "locked.key"],
        cwd=certificates.directory,
        check=True,
        capture_output=True,
    )
    context = certificates.trusting()
    context.load_cert_chain(certificates.path("client.pem"), certificates.path("locked.key"), "word")

    async def main() -> None:
        async with Secure(certificates.server()) as secure:
            async with ClientSession() as session:
                async with session.get(secure.named, ssl=context) as response:
                    assert response.status == 200
                assert session._aiohttp_session is not None
            async with ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
                async with session.get(secure.named) as response:
                    assert response.status == 200
                assert session._foreign_reason == "an SSLContext with a client certificate"

    run(main())


def test_authorities_come_from_directories_and_on_top_of_the_defaults(
    certificates: Certificates, tmp_path: Path
):
    shutil.copy(certificates.path("ca.pem"), tmp_path / "ca.pem")
    subprocess.run(["openssl", "rehash", "."], cwd=tmp_path, check=True, capture_output=True)
    from_directory = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    from_directory.load_verify_locations(capath=tmp_path)
    on_top = ssl.create_default_context()
    on_top.load_verify_locations(certificates.path("ca.pem"))
    for context in (from_directory, on_top):
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        outcome, _ = same(
            certificates.server(), lambda secure, context=context: {"url": secure.named, "ssl": context}
        )
        assert outcome["client"] is None


HANDSHAKES: dict[str, Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]] = {}


def _loading(how: str, path: Path, context: ssl.SSLContext) -> None:
    text = path.read_text()
    if how == "file":
        context.load_verify_locations(path)
    elif how == "directory":
        directory = path.parent / f"only-{path.stem}"
        if not directory.exists():
            directory.mkdir()
            shutil.copy(path, directory)
            subprocess.run(["openssl", "rehash", "."], cwd=directory, check=True, capture_output=True)
        context.load_verify_locations(capath=directory)
    elif how == "text":
        context.load_verify_locations(cadata=text)
    else:
        context.load_verify_locations(cadata=ssl.PEM_cert_to_DER_cert(text) * 2)


@pytest.mark.parametrize("place", ["named", "numbered"])
@pytest.mark.parametrize("how", ["file", "text", "bytes", "directory"])
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("trusted", "server", "accepted"),
    [
        ("alone", "alone", True),
        ("alone", "other", False),
        ("alone", "server", False),
        # Not self-signed: a part of a chain.
        ("server", "server", None),
        ("expired", "expired", False),
        # Signed by a server's certificate, which is no authority though it is trusted.
        ("alone", "signed", False),
    ],
)
def test_the_certificate_of_a_server_may_be_trusted_itself(
    trusted: str,
    server: str,
    accepted: bool | None,
    partial: bool,
    how: str,
    place: str,
    certificates: Certificates,
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    if partial:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _loading(how, Path(certificates.path(f"{trusted}.pem")), context)
    outcome, _ = same(
        certificates.server(server),
        lambda secure: {"url": getattr(secure, place), "ssl": context},
        # Both name a reason, but not the same: what signed it is no authority, or not known as one.
        ("text", "strerror") if server == "signed" else (),
    )
    if place == "named":
        assert ("version" in outcome) == (partial if accepted is None else accepted)


def handshake(function: Any) -> Any:
    HANDSHAKES[function.__name__] = function
    return function


@handshake
async def closes_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Leave before a word was said."""


@handshake
async def closes_after_the_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)


@handshake
async def half_a_record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"\x16\x03\x03\x00\x7a\x02\x00")


@handshake
async def speaks_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@handshake
async def fatal_alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x28")


@pytest.mark.parametrize("name", HANDSHAKES)
def test_broken_handshakes_end_alike(name: str):
    async def main() -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await HANDSHAKES[name](reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        outcomes = []
        for make in (aiohttp.ClientSession, ClientSession):
            outcome = await asked(make, url, ssl=False)
            for text in ("text", "strerror", "errno", "os_error"):
                outcome.pop(text, None)
            outcomes.append(outcome)
        server.close()
        return outcomes

    theirs, ours = run(main())
    assert not (found := differences(theirs, ours)), "\n".join(found)
