"""`molotov --demo`, its server, and the demo of tools/."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from _services import TREE, molotov
from molotov._demo import CAPACITY, demo_server

ENTRY = "import sys; from molotov.run import main; sys.exit(main())"


@pytest.fixture
def demo_tool():
    spec = importlib.util.spec_from_file_location("demo_tool", TREE / "tools" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _connect(url):
    return closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30))


def _ask(connection, method, path, body=None, headers=None):
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def _counts(result):
    found = re.search(r"SUCCESSES: (\d+) \| FAILURES: (\d+)", result.stdout)
    assert found, result.stdout + result.stderr
    return int(found[1]), int(found[2])


def test_the_server_keeps_notes():
    with demo_server() as url, _connect(url) as connection:
        assert _ask(connection, "GET", "/notes/0") == (200, {"id": 0, "text": "Happy breaking!"})
        assert _ask(connection, "POST", "/notes", '{"text": "one"}') == (201, {"id": 1, "text": "one"})
        assert _ask(connection, "GET", "/notes/1") == (200, {"id": 1, "text": "one"})
        assert _ask(connection, "GET", "/") == (200, {"service": "notes", "notes": 2})


def test_the_server_refuses_what_it_does_not_know():
    with demo_server() as url, _connect(url) as connection:
        assert _ask(connection, "GET", "/notes/77")[0] == 404
        assert _ask(connection, "GET", "/notes/x")[0] == 404
        assert _ask(connection, "DELETE", "/")[0] == 404
        assert _ask(connection, "POST", "/notes", "[]")[0] == 400
        assert _ask(connection, "POST", "/notes", "{")[0] == 400


def test_the_server_forgets_old_notes_but_never_the_first():
    with demo_server() as url, _connect(url) as connection:
        # Many requests at once in one connection: they are answered in turn.
        for number in range(1, 1003):
            assert _ask(connection, "POST", "/notes", '{"text": "x"}')[1]["id"] == number
            if number == 1:
                assert _ask(connection, "GET", "/notes/1")[0] == 200
        assert _ask(connection, "GET", "/notes/1")[0] == 404
        assert _ask(connection, "GET", "/notes/1002")[0] == 200
        assert _ask(connection, "GET", "/notes/0")[0] == 200


def test_the_server_takes_so_many_at_once():
    request = b"GET /notes/0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with demo_server() as url:
        address = (urlsplit(url).hostname, urlsplit(url).port)
        clients = [socket.create_connection(address, 30) for _ in range(CAPACITY * 4)]
        for client in clients:
            client.sendall(request)
        statuses = []
        for client in clients:
            with client, client.makefile("rb") as answer:
                statuses.append(int(answer.readline().split()[1]))
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= CAPACITY


@pytest.mark.parametrize("junk", [b"\x00\xff\r\n\r\n", b"GET /\r\n\r\n", b"x" * 200_000])
def test_the_server_survives_junk(junk):
    with demo_server() as url:
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 30) as client:
            try:
                client.sendall(junk)
                assert client.recv(100).startswith((b"HTTP/1.1 400", b""))
            except ConnectionError:
                pass
        with _connect(url) as connection:
            assert _ask(connection, "GET", "/")[0] == 200


def test_the_server_ends_with_its_context():
    with demo_server() as url:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 30)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_demo_works_offline(tmp_path):
    result = molotov("--demo", "-c", "--max-runs", 20, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert _counts(result) == (200, 0), "ten workers, unless asked otherwise"
    assert "A small server answers on http://127.0.0.1:" in result.stdout
    assert "molostart" in result.stdout
    assert not list(tmp_path.iterdir())


def test_the_demo_ends_by_itself():
    result = molotov("--demo", "-c", "-d", "1")
    succeeded, failed = _counts(result)
    assert succeeded > 0 and failed == 0


def test_the_demo_takes_the_usual_options():
    result = molotov("--demo", "-c", "-w", 3, "-p", 2, "-r", 5)
    assert _counts(result) == (30, 0), result.stdout + result.stderr
    result = molotov("--demo", "-q", "-w", 1, "-r", 5)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_demo_can_be_sized():
    result = molotov("--demo", "-c", "--sizing", "--ramp-up", "6", "--sizing-budget", "3")
    assert result.returncode == 0, result.stderr
    assert "Sizing is over!" in result.stdout, result.stdout[-2000:]
    workers = re.search(r"Error Ratio [0-9.]+ % obtained with (\d+) workers\.", result.stdout)
    # It refuses the 31st request, and not before.
    assert int(workers[1]) > CAPACITY


def test_an_interrupted_demo_stops_its_server():
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", ENTRY, "--demo", "-c", "-d", "60"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with process:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if "Ran " in line:
                # As a terminal does it: everybody in the group gets the signal.
                os.killpg(process.pid, signal.SIGINT)
                break
        rest = process.stdout.read()
    assert "SUCCESSES" in rest, rest
    port = int(re.search(r"http://127.0.0.1:(\d+)", "".join(seen))[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 30)


def test_the_tool_names_what_is_missing(demo_tool, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    previous = signal.getsignal(signal.SIGTERM)
    try:
        assert demo_tool.main() == 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    expected = "make demo: building Molotov needs Rust's cargo: see https://rustup.rs\n"
    assert capsys.readouterr().err == expected


def test_the_tool_says_why_kinto_did_not_start(demo_tool, tmp_path):
    broken = tmp_path / "kinto"
    broken.write_text("#!/bin/sh\necho something is wrong\nexit 3\n")
    broken.chmod(0o755)
    with (
        pytest.raises(demo_tool.DemoError, match="exit code 3: something is wrong"),
        demo_tool.running_kinto(broken),
    ):
        raise AssertionError("it never answered")


def test_the_tool_stops_kinto_when_interrupted(demo_tool, tmp_path):
    kinto = demo_tool.kinto_command(demo_tool.default_cache())
    if not (kinto.exists() and (kinto.parent.parent / demo_tool.KINTO).exists()):
        pytest.skip("no Kinto in the cache: `make demo` installs one")
    if not (Path(sys.executable).parent / "molotov").exists():
        pytest.skip("Molotov isn't installed next to this interpreter")
    report = tmp_path / "kinto.html"
    words = ["--workers", "4", "--seconds", "60", "--html", str(report)]
    process = subprocess.Popen(
        [sys.executable, "-u", str(TREE / "tools" / "demo.py"), *words],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with process:
        port = None
        for line in process.stdout:
            found = re.search(r"Kinto answers on http://127.0.0.1:(\d+)/", line)
            port = int(found[1]) if found else port
            if "Running scenarios" in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        rest = process.stdout.read()
    assert "Sizing was not finished. (interrupted)" in rest, rest
    assert "Kinto was stopped." in rest
    assert f"The report is {report}" in rest and "<html" in report.read_text()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 30)
