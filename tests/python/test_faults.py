"""Bad servers: counted failures with the exceptions that scripts expect; no hang, no lost count."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import servers
from runs import Run, run
from servers import OK, BadServer, Connection

pytestmark = pytest.mark.timeout(90)

GET = """
@scenario()
@reports
async def fetch(session):
    async with session.get(URL) as response:
        assert response.status == 200, response.status
        await response.read()
"""
POST = GET.replace("session.get(URL)", "session.post(URL, data=b'payload')")
# aiohttp's own limit for one header line, which ours follows.
HEADER_LIMIT = 8190


def with_timeout(timeout: str) -> str:
    """Return the GET scenario with a session timeout."""
    return (
        f"""
import aiohttp
@setup()
async def limits(worker_id, args):
    return {{"timeout": aiohttp.ClientTimeout({timeout})}}
"""
        + GET
    )


def response(headers: bytes, body: bytes = b"") -> bytes:
    """Make a 200 response with these header lines."""
    return b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n" + body


FAILURES = {
    "closes before the head": (servers.answering(b""), "ServerDisconnectedError"),
    "resets before the head": (servers.answering(b"", reset=True), "ClientOSError"),
    "closes in the head": (servers.answering(b"HTTP/1.1 200 OK\r\nContent-Le"), "ServerDisconnectedError"),
    "resets in the head": (servers.answering(b"HTTP/1.1 200 OK\r\nCon", reset=True), "ClientOSError"),
    "closes in the body": (
        servers.answering(response(b"Content-Length: 100\r\n", b"half")),
        "ClientPayloadError",
    ),
    "closes in a chunk": (
        servers.answering(response(b"Transfer-Encoding: chunked\r\n", b"64\r\nhalf")),
        "ClientPayloadError",
    ),
    "never ends the chunks": (
        servers.answering(response(b"Transfer-Encoding: chunked\r\n", b"4\r\nhalf\r\n")),
        "ClientPayloadError",
    ),
    "sends a bad chunk size": (
        servers.answering(response(b"Transfer-Encoding: chunked\r\n", b"zz\r\nhalf\r\n0\r\n\r\n")),
        "ClientError",
    ),
    "speaks no HTTP": (servers.answering(b"220 mail.example.org ESMTP\r\n\r\n"), "ClientResponseError"),
    "sends a bad status": (servers.answering(b"HTTP/1.1 abc OK\r\n\r\n"), "ClientResponseError"),
    "sends a header without a colon": (
        servers.answering(response(b"this is no header\r\nContent-Length: 0\r\n")),
        "ClientResponseError",
    ),
    "sends two lengths": (
        servers.answering(response(b"Content-Length: 2\r\nContent-Length: 3\r\n", b"abc")),
        "ClientResponseError",
    ),
    "sends a negative length": (
        servers.answering(response(b"Content-Length: -5\r\n", b"abc")),
        "ClientResponseError",
    ),
    "sends a NUL in a header": (
        servers.answering(response(b"X-Odd: a\0b\r\nContent-Length: 0\r\n")),
        "ClientResponseError",
    ),
    "sends a huge header": (
        servers.answering(response(b"X-Huge: " + b"h" * (20 * HEADER_LIMIT) + b"\r\nContent-Length: 0\r\n")),
        "ClientResponseError",
    ),
    "sends bytes that are no gzip": (
        servers.answering(response(b"Content-Encoding: gzip\r\nContent-Length: 9\r\n", b"not gzip!")),
        "ClientPayloadError",
    ),
}

BEFORE_THE_HEAD_ENDS = list(FAILURES)[:4]


@pytest.mark.parametrize("name", FAILURES)
def test_bad_answer_is_a_counted_failure(name: str, tmp_path: Path) -> None:
    """Every request meets the same fault; every run fails with the same class."""
    behave, error = FAILURES[name]
    with BadServer(behave) as server:
        outcome = run(tmp_path, GET, "-w", "2", "-r", "3", url=server.url)
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (0, 6)
    assert len(outcome.raised) == 6
    assert all(error in raised.split("|")[0].split() for raised in outcome.raised), outcome.raised
    # aiohttp sends a GET once more when the connection ends before the head was complete.
    assert server.requests in ((6, 12) if name in BEFORE_THE_HEAD_ENDS else (6,))


def test_reset_in_the_body(tmp_path: Path) -> None:
    """A reset instead of the rest of a body is a connection or payload error of aiohttp's family."""
    with BadServer(servers.answering(response(b"Content-Length: 100\r\n", b"half"), reset=True)) as server:
        outcome = run(tmp_path, GET, "-w", "2", "-r", "3", url=server.url)
    outcome.assert_clean()
    assert outcome.counts == (0, 6)
    assert all("ClientError" in raised for raised in outcome.raised), outcome.raised
    assert server.requests == 6


def test_refused(tmp_path: Path) -> None:
    """Nobody listens."""
    with servers.refused_port() as port:
        outcome = run(tmp_path, GET, "-w", "3", "-r", "2", url=f"http://127.0.0.1:{port}")
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (0, 6)
    assert all("ClientConnectorError" in raised for raised in outcome.raised)
    assert all("Cannot connect to host 127.0.0.1" in raised for raised in outcome.raised)


def test_unknown_host(tmp_path: Path) -> None:
    """A name that does not resolve (``.invalid`` never does)."""
    outcome = run(tmp_path, GET, "-r", "2", url="http://no-such-host.invalid/")
    outcome.assert_clean()
    assert outcome.counts == (0, 2)
    assert all("ClientConnectorDNSError" in raised for raised in outcome.raised)


def test_server_goes_down(tmp_path: Path) -> None:
    """The server dies in the middle of a run: what it answered is a success, the rest fails."""
    answered = threading.Event()

    def behave(connection: Connection) -> None:
        while connection.read_request() is not None:
            if connection.server.requests > 20:
                answered.set()
                return
            connection.send(OK)

    with BadServer(behave) as server, Run(tmp_path, GET, "-w", "4", "-r", "50", url=server.url) as running:
        running.wait_for(answered.is_set)
        server.stop()
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.code == 0
    assert sum(outcome.counts) == 200
    assert outcome.counts[1] == len(outcome.raised)
    assert 16 <= outcome.counts[0] <= 20


def test_closing_between_requests(tmp_path: Path) -> None:
    """GETs survive a server that closes its kept-alive connections: a stale connection is tried again."""
    with BadServer(servers.closing_between_requests) as server:
        outcome = run(tmp_path, GET, "-w", "2", "-r", "20", url=server.url)
    outcome.assert_clean()
    assert outcome.counts == (40, 0)
    assert server.requests == 40
    assert server.connections >= 40


def test_closing_between_posts(tmp_path: Path) -> None:
    """POSTs are never sent twice: one that meets a stale connection may fail, and is counted once."""
    with BadServer(servers.closing_between_requests) as server:
        outcome = run(tmp_path, POST, "-w", "2", "-r", "20", url=server.url)
    outcome.assert_clean()
    assert sum(outcome.counts) == 40
    assert outcome.counts[0] == server.requests
    assert all(
        "ServerDisconnectedError" in raised or "ClientOSError" in raised for raised in outcome.raised
    ), outcome.raised


def test_resetting_kept_alive_posts(tmp_path: Path) -> None:
    """A reset in place of every third answer of a connection fails that POST and only that."""
    with BadServer(servers.keeping_every(2)) as server:
        outcome = run(tmp_path, POST, "-w", "1", "-r", "9", url=server.url)
    outcome.assert_clean()
    assert outcome.counts == (6, 3)
    assert server.requests == 9
    assert all("ClientOSError" in raised for raised in outcome.raised), outcome.raised


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK,
    ],
    ids=["100", "103 and 102"],
)
def test_interim_answers_are_skipped(answer: bytes, tmp_path: Path) -> None:
    """1xx heads come before the real one."""

    def behave(connection: Connection) -> None:
        while connection.read_request() is not None:
            connection.send(answer)

    with BadServer(behave) as server:
        outcome = run(tmp_path, GET, "-w", "1", "-r", "4", url=server.url)
    outcome.assert_clean()
    assert outcome.counts == (4, 0)
    assert server.requests == 4


def test_length_shorter_than_the_body(tmp_path: Path) -> None:
    """Bytes after the announced length are nobody's answer: they never turn up in the next response."""
    read = GET.replace("await response.read()", "assert await response.read() == b'ok'")
    with BadServer(
        servers.answering(response(b"Content-Length: 2\r\n", b"okand more"), linger=True)
    ) as server:
        outcome = run(
            tmp_path, with_timeout("total=5").replace(GET, read), "-w", "1", "-r", "4", url=server.url
        )
    outcome.assert_clean()
    assert sum(outcome.counts) == 4
    assert all("AssertionError" not in raised for raised in outcome.raised), outcome.raised


ENDLESS: dict[str, Callable[[Connection], None]] = {
    "status line": servers.repeating(b"HTTP/1.1 200 ", b"x" * 65536),
    "header line": servers.repeating(b"HTTP/1.1 200 OK\r\nX-Endless: ", b"x" * 65536),
    "header lines": servers.repeating(b"HTTP/1.1 200 OK\r\n", b"X-One-More: of many\r\n" * 2000),
    "chunk extension": servers.repeating(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536
    ),
    "trailers": servers.repeating(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-One-More: of many\r\n" * 2000
    ),
    "interim answers": servers.repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_answer_is_bounded(name: str, tmp_path: Path) -> None:
    """A server that never ends its head is given up on after a bounded amount of data."""
    with BadServer(ENDLESS[name]) as server:
        outcome = run(tmp_path, with_timeout("total=20"), "-w", "1", "-r", "2", url=server.url)
    outcome.assert_clean()
    assert outcome.counts == (0, 2)
    assert all("ClientError" in raised for raised in outcome.raised), outcome.raised
    # Both sockets' buffers fill before the server notices: some megabytes on loopback.
    assert server.bytes_sent < 64 << 20


TIMEOUTS = {
    "silence, total": (servers.silent, "total=0.3", "TimeoutError"),
    "silence, sock_read": (servers.silent, "sock_read=0.3", "ServerTimeoutError"),
    "trickled head, total": (servers.trickling(OK, 0.05), "total=0.3", "TimeoutError"),
    "endless body, total": (
        servers.repeating(response(b"Transfer-Encoding: chunked\r\n"), b"4\r\nmore\r\n", 0.02),
        "total=0.3",
        "TimeoutError",
    ),
    # There is nearly always something to read when the timer rings.
    "hasty body, total": (
        servers.repeating(response(b"Transfer-Encoding: chunked\r\n"), b"4\r\nmore\r\n", 0.0001),
        "total=0.3",
        "TimeoutError",
    ),
    "half a body, sock_read": (
        servers.answering(response(b"Content-Length: 100\r\n", b"half"), linger=True),
        "sock_read=0.3",
        "ServerTimeoutError",
    ),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_timeout(name: str, tmp_path: Path) -> None:
    """A slow or silent server ends in the timeout that the script asked for, once per run."""
    behave, timeout, error = TIMEOUTS[name]
    with BadServer(behave) as server:
        outcome = run(tmp_path, with_timeout(timeout), "-w", "3", "-r", "2", url=server.url)
    outcome.assert_clean()
    assert outcome.counts == (0, 6)
    assert all(error in raised.split("|")[0].split() for raised in outcome.raised), outcome.raised
    assert server.requests == 6
    assert server.connections == 6


def test_slow_trickle_without_a_timeout(tmp_path: Path) -> None:
    """A head and body that arrive byte by byte are one good answer."""
    with BadServer(servers.trickling(OK, 0.001)) as server:
        outcome = run(tmp_path, GET, "-w", "2", "-r", "2", url=server.url)
    outcome.assert_clean()
    assert outcome.counts == (4, 0)
    assert server.requests == 4


def test_cancelled_request_frees_its_connection(tmp_path: Path) -> None:
    """After ``wait_for`` gave up on an answer, the late answer is never taken for the next request's."""
    body = """
@scenario()
@reports
async def impatient(session):
    async def slow():
        async with session.get(URL + "/slow") as response:
            await response.read()
    try:
        await asyncio.wait_for(slow(), 0.2)
    except asyncio.TimeoutError:
        pass
    async with session.get(URL + "/quick") as response:
        assert await response.read() == b"quick"
"""

    def behave(connection: Connection) -> None:
        while (head := connection.read_request()) is not None:
            if b"/slow" in head:
                connection.server.stopping.wait(0.4)
                connection.send(response(b"Content-Length: 4\r\n", b"slow"))
            else:
                connection.send(response(b"Content-Length: 5\r\n", b"quick"))

    with BadServer(behave) as server:
        outcome = run(tmp_path, body, "-w", "2", "-r", "3", url=server.url)
    outcome.assert_clean()
    assert outcome.counts == (6, 0), outcome.raised


def test_out_of_file_descriptors(tmp_path: Path) -> None:
    """More workers than descriptors: some runs fail with the system's error, every run is counted."""

    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))

    body = """
@scenario()
@reports
async def hold(session):
    async with session.get(URL) as response:
        await response.read()
        await asyncio.sleep(0.2)
"""
    with BadServer(servers.well_behaved) as server:
        outcome = run(tmp_path, body, "-w", "100", "-r", "2", url=server.url, preexec_fn=few_descriptors)
    outcome.assert_clean()
    assert outcome.code == 0
    assert sum(outcome.counts) == 200
    assert outcome.counts[1] == len(outcome.raised) > 0
    assert outcome.counts[0] == server.requests > 0
    assert all("ClientConnectorError" in raised for raised in outcome.raised), outcome.raised[:3]
    assert all("Too many open files" in raised for raised in outcome.raised), outcome.raised[:3]


def test_counts_agree_over_processes(tmp_path: Path) -> None:
    """A flaky server and several processes: successes and failures add up to what was asked for and seen."""

    def behave(connection: Connection) -> None:
        while connection.read_request() is not None:
            if connection.number % 3 == 0:
                return
            connection.send(OK.replace(b"200 OK", b"500 NO") if connection.number % 2 else OK)

    with BadServer(behave) as server:
        outcome = run(tmp_path, POST, "-w", "5", "-r", "10", "-p", "3", url=server.url)
    outcome.assert_clean()
    assert sum(outcome.counts) == 150
    assert server.requests == 150
    assert outcome.counts[1] == len(outcome.raised)
