"""The lab's servers, as far as they can be held to account on a machine that does other things meanwhile."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from _services import molotov

LAB = Path(__file__).resolve().parent.parent / "lab"


@pytest.fixture(scope="module")
def lab():
    spec = importlib.util.spec_from_file_location("lab_runner", LAB / "run.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def load(lab, tmp_path, server, *options):
    """Load a server; what it said of itself, its counts at the end, and the document with the results."""
    results = tmp_path / "results.json"
    with lab.serving(server) as (said, ended):
        url = f"http://127.0.0.1:{said['port']}/"
        done = molotov(
            *["-q", "--monitor", f"pid:{said['pid']}", "--json", results, *options, LAB / "scenario.py"],
            env={"LAB_URL": url},
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return said, ended, json.loads(results.read_text())


def columns(document, metric):
    """Return what the monitor saw of the server, without gaps."""
    values = document["monitor"][1]["columns"].get(metric, [])
    return [value for value in values if value is not None]


def test_slots_serve_as_much_as_they_say_and_refuse_the_rest(lab, tmp_path):
    server = ["slots", "--slots", "4", "--service-ms", "20", "--queue", "4"]
    said, ended, document = load(lab, tmp_path, server, "-w", 20, "-r", 30)
    statuses = document["counts"]["statuses"]
    assert (said["capacity_per_second"], said["workers"]) == (200.0, 4.0)
    assert (statuses["2xx"], statuses["5xx"]) == (ended["served"], ended["refused"])
    assert ended["served"] + ended["refused"] == 600
    assert ended["refused"] == document["counts"]["failed"] > 0
    # Late timers make it slower, nothing makes it faster.
    assert ended["served"] <= 200.0 * document["meta"]["elapsed_seconds"] + 4


def test_a_server_that_hangs_up_fails_runs(lab, tmp_path):
    server = ["slots", "--slots", "2", "--service-ms", "20", "--queue", "0", "--abort"]
    _, ended, document = load(lab, tmp_path, server, "-w", 8, "-r", 10)
    assert document["counts"]["statuses"]["2xx"] == ended["served"] == document["counts"]["succeeded"]
    assert document["counts"]["succeeded"] + document["counts"]["failed"] == 80
    # A request may have been sent again on a fresh connection.
    assert ended["refused"] >= document["counts"]["failed"] > 0


def test_processes_that_share_a_port_are_watched_and_counted_together(lab, tmp_path):
    server = ["cpu", "--processes", "2", "--burn-ms", "2"]
    said, ended, document = load(lab, tmp_path, server, "-w", 8, "-d", 3)
    assert said["workers"] == 2.0
    assert document["counts"]["statuses"]["2xx"] == ended["served"] > 0
    assert max(columns(document, "processes")) == 3.0
    assert max(columns(document, "wanted_thread_cores")) > 0.0
    assert all(0.0 <= ratio <= 1.0 for ratio in columns(document, "machine_busy_ratio"))


def test_a_full_address_space_is_found(lab, tmp_path):
    server = ["memory", "--keep-kib", "4096", "--limit-mib", "48", "--slots", "1", "--service-ms", "5"]
    _, ended, document = load(lab, tmp_path, server, "-w", 1, "-d", 4)
    assert ended["refused"] > 0
    used, limit = columns(document, "address_space_bytes"), columns(document, "address_space_limit_bytes")
    assert max(used) > 0.9 * limit[-1]
    found = [finding for finding in document["verdict"]["findings"] if finding["resource"] == "memory"]
    assert any("of address space in use" in one["text"] for one in found[0]["evidence"])


def test_narrow_answers_spend_their_time_after_the_head(lab, tmp_path):
    server = ["bandwidth", "--size-kib", "64", "--mbit", "10"]
    said, ended, document = load(lab, tmp_path, server, "-w", 2, "-r", 8)
    assert ended["served"] == 16
    assert said["capacity_per_second"] == pytest.approx(19.07, abs=0.01)
    series = document["series"]
    transfers = [time for time in series["transfer_seconds"] if time is not None]
    # An answer takes 52 ms alone, of which the first eighth may come with the head.
    assert min(transfers) > 0.04
    assert sum(series["requests"]) == 16


def test_a_pool_asks_its_downstream_service(lab, tmp_path):
    server = ["pool", "--connections", "2", "--service-ms", "10"]
    said, ended, document = load(lab, tmp_path, server, "-w", 6, "-r", 10)
    assert document["counts"]["succeeded"] == ended["served"] == 60
    assert said["capacity_per_second"] == 200.0
    assert 0.0 < ended["measured"] <= 201.0


def test_what_is_written_is_counted(lab, tmp_path):
    server = ["disk", "--write-kib", "4", "--threads", "2"]
    said, ended, document = load(lab, tmp_path, server, "-w", 4, "-r", 5)
    assert said["capacity_per_second"] > 0
    assert document["counts"]["succeeded"] == ended["served"] == 20


def test_a_row_of_the_page_says_what_was_right(lab):
    outcome = lab.Outcome(200.0, "inside", "limited", 0, 90.0, 198.0, 195.0, 201.0, 9.0, True)
    wrong = lab.Outcome(200.0, "cpu", "limited", 0, 92.0, 150.0, 140.0, 160.0, 9.0, True)
    wrong.problems.append("verdict")
    row = lab._row("slots", [outcome, wrong])
    assert "inside: 1 of 2" in row
    assert "1 of 2, ±" in row
    assert "-13.0 % (-25.0 % to -1.0 %)" in row
    page = lab.page({"slots": [outcome]}, 90.0)
    assert page.startswith("# The resource lab") and page.count("| slots |") == 1
