"""``molotov-report compare``: verdicts, formats, exit codes, and what it cannot read."""

from __future__ import annotations

import copy
import json
import random

import jsonschema
import pytest
from _services import TREE, Handler, serving, tool
from command import run, write

SCRIPT = """
import os, molotov

@molotov.scenario()
async def browse(session):
    async with session.get(os.environ["URL"] + "/items/1") as response:
        await response.read()
"""


class Small(Handler):
    def serve(self, body):
        self.answer(200, {"ok": True})


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The results of a real run; what happened in each second is put in by :func:`made`."""
    folder = tmp_path_factory.mktemp("run")
    write(folder, SCRIPT)
    with serving(Small) as (url, _):
        done = run(folder, "-c", "--json", "out.json", "-w", "2", "-r", "100", URL=url)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "out.json").read_text())


def made(document, path, rate, failed=0, seed=1, seconds=60, name="loadtest.py"):
    """Write a run of that many requests per second, with some noise."""
    one = copy.deepcopy(document)
    noise = random.Random(seed)
    requests = [round(rate * noise.gauss(1, 0.02)) for _ in range(seconds)]
    column = {
        "time_seconds": [float(second) for second in range(1, seconds + 1)],
        "workers": [2] * seconds,
        "started": requests,
        "succeeded": [count - failed for count in requests],
        "failed": [failed] * seconds,
        "interrupted": [0] * seconds,
        "requests": requests,
        "bytes": [0] * seconds,
        "transfer_seconds": [None] * seconds,
        "event_loop_lag_seconds": [0.001] * seconds,
    }
    for name_of, middle in (("p50_seconds", 0.01), ("p95_seconds", 0.02), ("p99_seconds", 0.03)):
        column[name_of] = [middle * noise.gauss(1, 0.02) for _ in range(seconds)]
    assert set(column) == set(one["series"])
    one["series"] = column
    one["counts"].update(
        started=sum(requests),
        succeeded=sum(requests) - failed * seconds,
        failed=failed * seconds,
        requests=sum(requests),
    )
    one["meta"].update(elapsed_seconds=float(seconds), scenario_file=name)
    path.write_text(json.dumps(one))
    return path


@pytest.fixture
def runs(document, tmp_path):
    return [
        made(document, tmp_path / "a.json", 1000, seed=1),
        made(document, tmp_path / "same.json", 1000, seed=2),
        made(document, tmp_path / "worse.json", 700, failed=20, seed=3),
    ]


def metric(comparison, identity):
    (found,) = [one for one in comparison["metrics"] if one["id"] == identity and one["of"] is None]
    return found


def test_a_worse_run_has_regressed_and_the_same_has_not(runs):
    baseline, _, worse = runs
    done = tool("report", "compare", *runs)
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    against = [line for line in lines if " against A: " in line]
    assert against[0].startswith("B against A: 0 regressed, 0 improved,")
    assert against[1].startswith("C against A: ") and not against[1].startswith("C against A: 0 regressed")
    (throughput,) = [line for line in lines[lines.index(against[1]) :] if " throughput " in line]
    assert "✗ regressed" in throughput and "req/s" in throughput and "\N{MINUS SIGN}30." in throughput
    turned = tool("report", "compare", worse, baseline).stdout
    assert "✓ improved" in turned and "regressed  " not in turned


def strict(schema):
    """Refuse what the schema does not describe: a new field has to be described, too."""
    if isinstance(schema, dict):
        closed = {"additionalProperties": False} if "properties" in schema else {}
        return {**{name: strict(part) for name, part in schema.items()}, **closed}
    return [strict(part) for part in schema] if isinstance(schema, list) else schema


def validate(comparison):
    schema = json.loads((TREE / "docs" / "comparison.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(comparison, strict(schema), jsonschema.Draft202012Validator)


def paced(folder, url, name, workers):
    """Run at a rate; return where the results are."""
    words = ("--rate", "150", "-d", "3", "-w", str(workers), "--rate-seed", "7")
    done = run(folder, "-c", "--json", f"{name}.json", *words, URL=url)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / f"{name}.json"


def test_response_times_of_runs_at_a_rate_are_compared(tmp_path):
    write(tmp_path, SCRIPT)
    with serving(Small) as (url, _):
        one, other = (paced(tmp_path, url, name, 20) for name in ("one", "other"))
    done = tool("report", "compare", one, other, "--json", "-")
    assert done.returncode == 0, done.stderr
    comparison = json.loads(done.stdout)
    validate(comparison)
    for identity in ("response_p50", "response_p95", "response_p99", "p95"):
        found = metric(comparison, identity)
        assert found["unit"] == "seconds" and not found["more_is_better"]
        assert all(value["value"] > 0 for value in found["values"]), found
    assert not [caution for caution in comparison["cautions"] if "rate" in caution]


def test_the_exit_code_is_asked_for(runs):
    baseline, same, worse = runs
    assert tool("report", "compare", baseline, worse).returncode == 0
    assert tool("report", "compare", baseline, worse, "--fail-on", "regressed").returncode == 99
    assert tool("report", "compare", baseline, same, "--fail-on", "regressed").returncode == 0
    assert tool("report", "compare", worse, baseline, "--fail-on", "regressed").returncode == 0
    # Within the margin nothing matters.
    words = ("--fail-on", "regressed", "--margin", "60%")
    assert tool("report", "compare", baseline, worse, *words).returncode == 0


def test_json_has_every_number(runs, tmp_path):
    done = tool("report", "compare", *runs, "--json", tmp_path / "out.json", "--margin", "4")
    assert done.returncode == 0, done.stderr
    comparison = json.loads((tmp_path / "out.json").read_text())
    validate(comparison)
    assert (comparison["schema"], comparison["margin"], comparison["confidence"]) == (1, 0.04, 0.95)
    assert [one["letter"] for one in comparison["runs"]] == ["A", "B", "C"]
    throughput = metric(comparison, "throughput")
    assert throughput["unit"] == "requests_per_second" and throughput["more_is_better"]
    for value in throughput["values"]:
        assert value["low"] < value["value"] < value["high"]
    same, worse = throughput["changes"]
    assert same["verdict"] == "unchanged" and same["low"] < 0.02 and same["high"] > -0.02
    assert worse["verdict"] == "regressed"
    assert worse["low"] < worse["change"] < worse["high"] < -0.25 and worse["chance"] < 1e-6
    failed = metric(comparison, "failed_runs")
    assert failed["changes"][1]["verdict"] == "regressed" and failed["unit"] == "ratio"
    assert failed["changes"][1]["change"] == pytest.approx(0.0286, abs=0.005)
    # One of them may go to stdout; then nothing else does.
    again = tool("report", "compare", *runs, "--json", "-", "--margin", "4")
    assert json.loads(again.stdout) == comparison


def test_markdown_and_the_page_hold_hostile_names(document, tmp_path):
    name = "</script><script>alert(1)</script>|@everyone\u202e.py"
    one = made(document, tmp_path / "a|b.json", 1000, name=name)
    other = made(document, tmp_path / "b.json", 500, seed=2, name=name)
    words = ("--html", tmp_path / "out.html", "--markdown", tmp_path / "out.md")
    done = tool("report", "compare", one, other, *words)
    assert done.returncode == 0, done.stderr
    markdown = (tmp_path / "out.md").read_text()
    assert "❌ **B against A: " in markdown and "a\\|b.json" in markdown
    tables = [line for line in markdown.splitlines() if line.startswith("| ✗ regressed")]
    assert tables and all(line.replace("\\|", "").count("|") == 6 for line in tables)
    # What did not change is folded; several pairs have a heading each.
    assert "<details><summary>" in markdown and "| = unchanged |" in markdown
    assert "5 % do not matter" in markdown and "###" not in markdown
    three = tool("report", "compare", one, other, one, "--markdown", "-").stdout
    assert [line for line in three.splitlines() if line.startswith("###")] == [
        "### B against A",
        "### C against A",
    ]
    page = (tmp_path / "out.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "alert(1)</script>" not in page
    assert "B against A: " in page and "Benjamini" in page
    assert len(page) < 5_000_000


def test_hard_comparisons_are_told(document, tmp_path):
    one = made(document, tmp_path / "a.json", 1000)
    content = json.loads(one.read_text())
    content["complete"] = False
    content["meta"]["scenario_sha256"] = "another"
    content["series"]["workers"] = [9] * len(content["series"]["workers"])
    (tmp_path / "b.json").write_text(json.dumps(content))
    text = tool("report", "compare", one, tmp_path / "b.json").stdout
    for caution in ("B did not come to its end", "the scenario files differ", "different numbers of workers"):
        assert f"!  {caution}" in text or caution in text


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "no result of a run"),
        ("{}", '"schema" is missing'),
        ('{"schema": 99}', "schema 99"),
        (None, "can't read"),
    ],
)
def test_what_cannot_be_read_is_one_line(runs, tmp_path, content, part):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    done = tool("report", "compare", runs[0], path)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("molotov-report: ") and done.stderr.count("\n") == 1
    assert part in done.stderr and "bad.json" in done.stderr


def test_misuse_is_refused(runs, tmp_path):
    for words in (
        ["compare", runs[0]],
        ["compare", *runs, "--margin", "x"],
        ["compare", *runs, "--fail-on", "x"],
    ):
        assert tool("report", *words).returncode == 2
    done = tool("report", "compare", *runs, "--json", "-", "--html", "-")
    assert done.returncode == 1 and "only one of the outputs" in done.stderr
    done = tool("report", "compare", *runs, "--html", tmp_path / "no" / "out.html")
    assert done.returncode == 1 and "can't write" in done.stderr and done.stderr.count("\n") == 1
