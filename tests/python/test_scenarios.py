"""Every file of scenarios/ runs against a server, and fails when the server is wrong."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import ExitStack

import pytest
from _services import SCENARIOS, TREE, KintoStub, Shop, molotov, serving

TESTED = {"kinto.py", "many.py", "grpc_echo.py", "websocket.py"}


def _demo_tool():
    spec = importlib.util.spec_from_file_location("demo_tool", TREE / "tools" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _counts(result):
    found = re.search(r"SUCCESSES: (\d+) \| FAILURES: (\d+)", result.stdout)
    assert found, result.stdout + result.stderr
    return int(found[1]), int(found[2])


def test_every_scenario_is_tested_here():
    assert {path.name for path in SCENARIOS.glob("*.py")} == TESTED


@pytest.mark.parametrize("name", sorted(TESTED))
def test_every_scenario_says_how_to_run_it(name):
    assert f"scenarios/{name}" in (SCENARIOS / name).read_text().split('"""')[1]


def test_kinto_against_its_documented_answers():
    with serving(KintoStub) as (url, server):
        env = {"SERVER_URL": url + "/v1/"}
        result = molotov("-c", "-w", 3, "--max-runs", 2, SCENARIOS / "kinto.py", env=env)
    assert result.returncode == 0, result.stderr
    assert _counts(result) == (6, 0)
    methods = [method for method, _ in server.seen]
    assert {method: methods.count(method) for method in set(methods)} == {"GET": 18, "POST": 12, "DELETE": 6}
    # The stub sends heads and bodies apart: a redirect counts although its body is left behind.
    assert re.search(r"HTTP responses +2xx: 30 +3xx: 6$", result.stdout, re.MULTILINE), result.stdout
    assert len(server.data) == 3, "each worker has a bucket of its own"
    assert not any(server.data.values()), "every record was deleted"


@pytest.mark.parametrize("broken", ["root", "redirect", "authorization", "read", "list", "delete"])
def test_kinto_notices_wrong_answers(broken):
    with serving(KintoStub, broken=broken) as (url, _):
        env = {"SERVER_URL": url + "/v1/"}
        result = molotov("-c", "--max-runs", 2, "--fail", 1, SCENARIOS / "kinto.py", env=env)
    assert _counts(result) == (0, 2)
    assert "AssertionError" in result.stdout
    assert result.returncode == 1


def test_kinto_against_the_real_one():
    tool = _demo_tool()
    kinto = tool.kinto_command(tool.default_cache())
    if not kinto.exists():
        pytest.skip("no Kinto in the cache: `make demo` installs one")
    with tool.running_kinto(kinto) as url:
        env = {"SERVER_URL": url}
        result = molotov("-c", "-w", 4, "--max-runs", 3, SCENARIOS / "kinto.py", env=env)
    assert result.returncode == 0, result.stderr
    assert _counts(result) == (12, 0), result.stdout


def test_many_runs_its_fixtures():
    with serving(Shop) as (url, server):
        result = molotov("-c", "-w", 2, "--single-run", SCENARIOS / "many.py", env={"URL": url})
    assert result.returncode == 0, result.stderr
    # Five scenarios; the sixth has no weight.
    assert _counts(result) == (10, 0), result.stdout
    assert server.seen[0] == ("GET", "/items"), "global_setup comes first"
    assert server.seen.count(("POST", "/login")) == 2
    assert server.seen.count(("DELETE", "/login")) == 2
    assert not server.data, "everybody logged out"
    assert re.search(r"Slowest answer: [0-9.]+ ms for http://127.0.0.1:", result.stdout)


def test_many_picks_by_weight():
    with serving(Shop) as (url, server):
        result = molotov("-c", "--max-runs", 60, SCENARIOS / "many.py", env={"URL": url})
    assert _counts(result) == (60, 0), result.stdout
    # 40 and 30 of 100: for either to be missed 60 times is a chance of one in 10^9.
    assert ("GET", "/") in server.seen
    assert ("GET", "/items?page=1") in server.seen


def test_many_runs_one_scenario_by_name():
    with serving(Shop) as (url, server):
        result = molotov("-c", "-s", "checkout", "--max-runs", 4, SCENARIOS / "many.py", env={"URL": url})
    assert _counts(result) == (4, 0), result.stdout
    assert [request for request in server.seen if request[1] == "/checkout"] == [("POST", "/checkout")] * 4


def test_many_ends_at_once_without_its_service():
    with serving(Shop) as (url, _):
        pass
    result = molotov("-c", "--max-runs", 1, SCENARIOS / "many.py", env={"URL": url})
    assert result.returncode == 1
    assert "SUCCESSES" not in result.stdout


def test_grpc_echo_with_its_server():
    pytest.importorskip("grpc")
    with ExitStack() as stack:
        server = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(SCENARIOS / "grpc_echo.py")],
                env={**os.environ, "GRPC_URL": "127.0.0.1:0"},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(server.terminate)
        port = server.stdout.readline().split()[-1]
        env = {"GRPC_URL": f"127.0.0.1:{port}"}
        result = molotov("-c", "-w", 2, "--max-runs", 5, SCENARIOS / "grpc_echo.py", env=env)
    assert result.returncode == 0, result.stderr
    assert _counts(result) == (10, 0), result.stdout + result.stderr


def test_websocket_with_its_server():
    with ExitStack() as stack:
        server = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(SCENARIOS / "websocket.py")],
                env={**os.environ, "WS_URL": "ws://127.0.0.1:0/"},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(server.terminate)
        port = server.stdout.readline().split()[-1]
        env = {"WS_URL": f"ws://127.0.0.1:{port}/"}
        result = molotov("-c", "-w", 3, "--single-run", SCENARIOS / "websocket.py", env=env)
    assert result.returncode == 0, result.stderr
    assert _counts(result) == (6, 0), result.stdout + result.stderr
    assert "served by aiohttp" not in result.stdout + result.stderr
    # Handshakes are requests, with one answer each; messages are neither.
    assert re.search(r"HTTP responses +1xx: 6$", result.stdout, re.MULTILINE), result.stdout
    assert re.search(rf"Requests to 127.0.0.1:{port}\n +GET / +6 ", result.stdout), result.stdout


def test_websocket_notices_a_wrong_server():
    with serving(Shop) as (url, _):
        env = {"WS_URL": url.replace("http:", "ws:") + "/"}
        result = molotov("-c", "--single-run", "--fail", 1, SCENARIOS / "websocket.py", env=env)
    assert result.returncode == 1
    assert _counts(result) == (0, 2)
    assert "WSServerHandshakeError" in result.stdout
