"""The article from end to end: one command launches instances, runs a real Kinto there, says what it needs.

Everything runs for real, on this machine: the rig's instances are containers, its Run Command executes, and
Kinto serves real requests within a real limit.
"""

from __future__ import annotations

import json
import socket
import subprocess

import pytest
from replay import as_autosizer, command
from rig import TREE, Rig, Unusable, make_kinto_image

# A run of two rows takes some 50 s on a quiet machine.
pytestmark = pytest.mark.timeout(600)
#: So little that Kinto gets it on a busy machine too, and reaches it with a few workers.
CPUS = "0.3"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def replayed(request, tmp_path_factory):
    """Run it once; the tests look at what came of it."""
    folder = tmp_path_factory.mktemp("article")
    binary = request.config.getoption("--binary")
    assert binary is not None and binary.exists(), "--binary names the command: make test-containers does it"
    (folder / "rig").mkdir()
    try:
        make_kinto_image()
        rig = Rig(folder / "rig")
    except Unusable as why:
        pytest.skip(f"no rig here: {why}")
    files = {name: folder / f"sizing.{name}" for name in ("html", "json", "markdown", "log")}
    load = ["-w", "12", "--sizing-budget", "7", "-q"]
    with rig:
        shown = {name: str(path) for name, path in files.items()}
        environment = as_autosizer(binary, folder, rig.environment)
        words = command(rig, free_port(), CPUS, shown, load)
        done = subprocess.run(
            words, env=environment, cwd=TREE, capture_output=True, text=True, timeout=500, check=False
        )
        left, state = rig.left(), rig.state()
    # 98: on a machine without a core to spare the generator may not have kept up, which it then says.
    assert done.returncode in (0, 98), done.stdout + done.stderr
    document = json.loads(files["json"].read_text())
    return {"files": files, "document": document, "left": left, "state": state, "done": done}


def test_nothing_is_left(replayed):
    assert replayed["left"] == []
    assert len(replayed["state"]["launched"]) == 2
    assert replayed["state"]["commands_running"] == 0


def test_every_type_has_a_row(replayed):
    rows = replayed["document"]["autosizer"]["rows"]
    assert [row["label"] for row in rows] == [f"t3.medium, {CPUS} CPU", f"c8g.large, {CPUS} CPU"]
    assert [row["failure"] for row in rows] == [None, None]
    assert all(row["capacity_per_second"] > 0 for row in rows)


def test_cpu_is_what_limits_kinto(replayed):
    for run in replayed["document"]["runs"]:
        assert run["counts"]["failed"] == 0 and run["counts"]["succeeded"] > 0
        found = {(one["resource"], one["source"]) for one in run["verdict"]["findings"]}
        assert ("cpu", "service") in found, run["verdict"]
        if replayed["done"].returncode == 0:
            assert run["verdict"]["resource"] == "cpu", run["verdict"]
            assert "limited by CPU of the service" in run["verdict"]["sentence"]
        service = next(series for series in run["monitor"] if series["source"] == "service")
        assert set(filter(None, service["columns"]["cpu_limit_cores"])) == {float(CPUS)}


def test_growing_memory_is_named(replayed):
    for run in replayed["document"]["runs"]:
        (growth,) = (one for one in run["verdict"]["memory_growth"] if one["source"] == "service")
        # Records that were deleted leave tombstones, and every worker has a bucket of its own.
        assert growth["bytes_per_thousand_requests"] > 50_000, growth


def test_prices_come_from_the_pricing_api(replayed):
    rows = replayed["document"]["autosizer"]["rows"]
    assert [row["price"]["per_hour"] for row in rows] == [0.0456, 0.087]
    assert {row["price"]["source"] for row in rows} == {"AWS Pricing API, on demand, Linux, eu-west-1"}
    assert {row["price"]["date"] for row in rows} == {"2026-11-01"}
    assert replayed["state"]["calls"].count("GetProducts") == 2


def test_the_page_says_it(replayed):
    page = replayed["files"]["html"].read_text()
    heading = page[page.index("<h1>") : page.index("</h1>")]
    assert "Take " in heading, heading
    for words in ("Sizing of localhost/kinto:1", "limited by CPU", "per 1,000 requests", "USD 0.0456"):
        assert words in page, words
    # One plotly.js for all runs, and no made-up name of a run where people read.
    assert page.count('id="plotly"') == 1
    assert "molotov-2" not in page


def test_the_steps_are_told(replayed):
    steps = [json.loads(line) for line in replayed["files"]["log"].read_text().splitlines()]
    begun = [entry["step"] for entry in steps if entry["event"] == "begin"]
    one = "connect launch register engine pull start ready collector metrics clean"
    assert begun == one.split() * 2
    assert "seconds ago]" in replayed["done"].stderr
