"""The files that a run writes: true, complete, valid, and there when the run is not any more."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from _services import TREE, Handler, molotov, serving, tool
from command import Running, counts, run, write

SCHEMA = json.loads((TREE / "docs" / "results.schema.json").read_text())
TOTALS = ("started", "succeeded", "failed", "interrupted", "requests", "bytes")


class Small(Handler):
    def serve(self, body):
        self.answer(404 if self.path == "/missing" else 200, {"ok": True})


def strict(schema):
    """Return the schema without room for fields that it does not describe."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {name: strict(value) for name, value in schema.items()}
    if "properties" in schema:
        copy["additionalProperties"] = False
    return copy


def check(document):
    """Validate a document, and what no schema can say: that its counts add up."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(document, strict(SCHEMA), jsonschema.Draft202012Validator)
    total = document["counts"]
    ended = total["succeeded"] + total["failed"] + total["interrupted"]
    assert total["started"] == ended + total["unfinished"]
    assert sum(total["statuses"].values()) == total["requests"]
    series = document["series"]
    assert len({len(column) for column in series.values()}) == 1
    if document["complete"]:
        assert total["unfinished"] == 0
        for name in TOTALS:
            assert sum(series[name]) == total[name], name
        assert sum(group["count"] for group in document["errors"]) == total["failed"]
    return document


def read(path):
    return check(json.loads(path.read_text()))


BROWSING = """
import os, molotov

URL = os.environ["URL"]

@molotov.scenario(weight=2)
async def browse(session):
    async with session.get(URL + "/items/42") as response:
        assert response.status == 200
        await response.read()

@molotov.scenario(weight=1)
async def stumble(session):
    async with session.get(URL + "/missing") as response:
        assert response.status == 200, "token=hunter2"
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_counts_are_those_of_the_summary_and_of_the_server(tmp_path, processes):
    write(tmp_path, BROWSING)
    with serving(Small) as (url, server):
        words = ("--json", "out.json", "-w", "3", "-r", "20", "-p", str(processes))
        done = run(tmp_path, "-c", *words, URL=url)
        seen = len(server.seen)
    assert done.returncode == 0, done.stdout + done.stderr
    document = read(tmp_path / "out.json")
    total = document["counts"]
    assert document["complete"] and document["schema"] == 1
    assert (total["succeeded"], total["failed"]) == counts(done.stdout)
    assert total["started"] == 60 * processes == seen == total["requests"]
    assert total["statuses"]["2xx"] == total["succeeded"]
    assert total["statuses"]["4xx"] == total["failed"]
    assert total["workers_started"] == 3 * processes
    rows = {row["name"]: row for row in document["service_times"]}
    host = url.removeprefix("http://")
    assert rows[f"GET {host}/items/{{id}}"]["count"] == total["succeeded"] == rows["browse"]["count"]
    assert rows["stumble"]["failed"] == rows["stumble"]["count"] == total["failed"]
    (group,) = document["errors"]
    assert (group["kind"], group["place"]) == ("AssertionError", "loadtest.py:15")
    assert group["first_seconds"] <= group["last_seconds"] <= document["meta"]["elapsed_seconds"]
    assert "in stumble" in group["example"]
    assert "hunter2" not in (tmp_path / "out.json").read_text()
    assert document["exit"] == {"code": 0, "reason": "the run ended"}
    assert document["files"] == [{"kind": "json", "path": "out.json"}]
    assert document["meta"]["processes"] == processes
    assert "Results written to out.json" in done.stdout
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.json"]


WAITING = """
import asyncio, os, molotov

@molotov.scenario()
async def step(session):
    async with session.get(os.environ["URL"]) as response:
        await response.read()
    print("step", flush=True)
    if molotov.get_context(session).step == 3:
        {what}
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_counts_after_an_interruption(tmp_path, processes):
    write(tmp_path, WAITING.format(what="await asyncio.sleep(3600)"))
    with serving(Small) as (url, server):
        words = ("-c", "--force-shutdown", "--json", "out.json", "-w", "2", "-p", str(processes))
        with Running(tmp_path, *words, URL=url) as running:
            running.wait_for("step", times=6 * processes)
            running.process.send_signal(signal.SIGINT)
            code, output = running.end()
        seen = len(server.seen)
    assert code == 0
    total = read(tmp_path / "out.json")["counts"]
    assert (total["succeeded"], total["failed"]) == counts(output) == (4 * processes, 0)
    assert total["interrupted"] == 2 * processes
    assert total["requests"] == seen == 6 * processes


DYING = """
import asyncio, os, signal, molotov

@molotov.scenario()
async def step(session):
    async with session.get(os.environ["URL"]) as response:
        await response.read()
    if molotov.get_context(session).step == 3:
        try:
            os.close(os.open("died", os.O_CREAT | os.O_EXCL))  # one of the two processes, never both
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_counts_after_a_child_was_killed(tmp_path):
    write(tmp_path, DYING)
    with serving(Small) as (url, server):
        words = ("-c", "--json", "out.json", "--junit", "out.xml", "-p", "2", "-r", "5")
        done = run(tmp_path, *words, URL=url)
        seen = len(server.seen)
    assert done.returncode == 1
    document = read(tmp_path / "out.json")
    total = document["counts"]
    assert (total["succeeded"], total["interrupted"]) == (7, 1)
    assert total["requests"] == seen == 8
    assert len(total["lost_processes"]) == 1 and "SIGKILL" in total["lost_processes"][0]
    assert document["exit"] == {"code": 1, "reason": "a process did not end by itself"}
    assert "exit code" in cases(tmp_path / "out.xml")


FAILING_FOREVER = """
import asyncio, molotov

@molotov.scenario()
async def step(session):
    await asyncio.sleep(0.01)
    raise ValueError("no")
"""


def wait_until(condition, running):
    deadline = time.monotonic() + 60
    while not condition():
        assert running.process.poll() is None, running.end()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_leaves_a_document_and_the_report_completes_it(tmp_path, processes):
    write(tmp_path, FAILING_FOREVER)
    path, journal = tmp_path / "out.json", tmp_path / "out.json.partial"
    with Running(tmp_path, "-q", "--json", "out.json", "-p", str(processes)) as running:
        # At any time there is a whole document, from the first moment on.
        wait_until(path.exists, running)
        assert not read(path)["complete"]
        wait_until(lambda: len(journal.read_text().splitlines()) >= 3, running)
        wait_until(lambda: read(path)["errors"], running)
        running.process.kill()
        running.process.wait()
        left = read(path)
        assert not left["complete"] and left["journal"] == "out.json.partial"
        seconds = len(journal.read_text().splitlines())
        done = tool("report", "json", path)
        assert done.returncode == 0, done.stderr
        whole = check(json.loads(done.stdout))
        running.end()
    assert len(whole["series"]["started"]) == seconds >= 3
    assert sum(whole["series"]["started"]) == whole["counts"]["started"]
    assert sum(whole["series"]["failed"]) == whole["counts"]["failed"] > 0
    assert whole["errors"][0]["kind"] == "ValueError"
    assert [target["source"] for target in whole["monitor"]] == ["generator"]
    assert "did not come to its end" in tool("report", "summary", path).stdout


def cases(path):
    """Return the names of the test cases of a JUnit file, and what failed in each."""
    suite = ElementTree.parse(path).getroot().find("testsuite")
    found = {}
    for case in suite:
        failure = case.find("failure")
        found[case.get("name")] = None if failure is None else failure.get("message")
    assert int(suite.get("tests")) == len(suite)
    assert int(suite.get("failures")) == sum(failed is not None for failed in found.values())
    return found


def test_thresholds_decide_the_exit_code(tmp_path):
    write(tmp_path, BROWSING)
    with serving(Small) as (url, _):
        rules = ["runs>=40", "max<1h", "error-rate<0.01% for GET /items/42", "p95<1m for GET /items/42"]
        words = [word for rule in rules[:1] + rules[2:] for word in ("--threshold", rule)]
        done = run(tmp_path, "-c", "-r", "40", "--junit", "out.xml", *words, URL=url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "✓ runs>=40" in done.stdout
        words += ["--threshold", "runs<40", "--threshold", "failures==0 for scenario stumble"]
        done = run(tmp_path, "-c", "-r", "40", "--json", "a.json", "--junit", "out.xml", *words, URL=url)
        assert done.returncode == 99
        assert "✗ runs<40" in done.stdout
        assert run(tmp_path, "-q", "-r", "40", *words, URL=url).returncode == 99
        # Molotov's own option wins.
        assert run(tmp_path, "-c", "-r", "40", "--fail", "1", *words, URL=url).returncode == 1
    document = read(tmp_path / "a.json")
    assert [outcome["passed"] for outcome in document["thresholds"]] == [True, True, True, False, False]
    assert document["exit"]["code"] == 99
    assert document["exit"]["reason"].startswith("2 thresholds failed: runs<40, ")
    found = cases(tmp_path / "out.xml")
    assert found["runs<40"] == "40"
    assert found["runs>=40"] is None and found["browse"] is None
    assert "runs failed" in found["stumble"]


@pytest.mark.parametrize(("threshold", "expected"), [("runs>=1", 105), ("runs<1", 99)])
@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupted_run_opens_no_gate(tmp_path, processes, threshold, expected):
    write(tmp_path, WAITING.format(what="await asyncio.sleep(0)"))
    with serving(Small) as (url, _):
        words = ("-c", "-p", str(processes), "--threshold", threshold)
        with Running(tmp_path, *words, URL=url) as running:
            running.wait_for("step", times=6 * processes)
            running.process.send_signal(signal.SIGTERM)
            code, output = running.end()
    assert code == expected, output


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--threshold", "latency<5"), "is not measured"),
        (("--threshold", "p95<5h"), "is no time"),
        (("--monitor", "fan"), "expected pid:1234"),
        (("--monitor", "pid:999999999"), "999999999"),
        (("--json", "nowhere/out.json"), "Can't write nowhere/out.json: there is no directory"),
        (("--csv", "."), "it is a directory"),
        (("--json", "-", "--csv", "-"), "Only one"),
    ],
)
def test_what_cannot_be_used_is_one_line_before_the_run(tmp_path, words, part):
    write(tmp_path, "import molotov\n@molotov.scenario()\nasync def step(session):\n    print('ran')\n")
    done = run(tmp_path, "-c", *words)
    assert done.returncode == 104
    said = done.stdout + done.stderr
    assert part in said and said.count("\n") == 1, said


def test_stdout_holds_nothing_but_the_results(tmp_path):
    write(tmp_path, FAILING_FOREVER.replace("await", "print('mine')\n    await"))
    done = run(tmp_path, "-c", "--json", "-", "-r", "2", "-p", "2")
    assert check(json.loads(done.stdout))["counts"]["failed"] == 4
    assert "mine" in done.stderr and "*** Bye ***" in done.stderr
    done = run(tmp_path, "-c", "--csv", "-", "-r", "2")
    assert sum(int(row["failed"]) for row in csv.DictReader(io.StringIO(done.stdout))) == 2


def test_the_report_makes_the_same_files_again(tmp_path):
    write(tmp_path, BROWSING)
    with serving(Small) as (url, _):
        files = ["--json", "a.json", "--csv", "a.csv", "--junit", "a.xml", "--markdown", "a.md"]
        files += ["--html", "a.html"]
        done = run(tmp_path, "-c", "-r", "30", *files, "--threshold", "p95<1m", URL=url)
    assert done.returncode == 0, done.stdout + done.stderr
    document = read(tmp_path / "a.json")
    assert [file["path"] for file in document["files"]] == [
        "a.csv",
        "a.html",
        "a.xml",
        "a.md",
        "a.json",
    ]
    for format, name in (("csv", "a.csv"), ("html", "a.html"), ("junit", "a.xml"), ("markdown", "a.md")):
        made = tool("report", format, tmp_path / "a.json", "-o", tmp_path / f"b.{format}")
        assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
        assert (tmp_path / f"b.{format}").read_bytes() == (tmp_path / name).read_bytes()
    again = tool("report", "json", tmp_path / "a.json")
    assert json.loads(again.stdout) == document
    summary = tool("report", "summary", tmp_path / "a.json").stdout
    assert "✓ p95<1m" in summary and "GET /items/{id}" in summary and "AssertionError" in summary
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert sum(int(row["requests"]) for row in rows) == document["counts"]["requests"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "can't read"),
        ("{}", '"schema" is missing'),
        ('{"schema": 9}', "reads up to 1"),
        ("x", "no result"),
    ],
)
def test_the_report_says_what_it_cannot_read(tmp_path, content, part):
    path = tmp_path / "out.json"
    if content is not None:
        path.write_text(content)
    done = tool("report", "summary", path)
    assert done.returncode == 1
    assert part in done.stderr and done.stderr.count("\n") == 1
    assert tool("report", "pdf", path).returncode == 2


def test_targets_are_monitored_and_judged(tmp_path):
    write(
        tmp_path, WAITING.format(what="await asyncio.sleep(0)").replace('    print("step", flush=True)\n', "")
    )
    with serving(Small) as (url, _):
        words = ("--monitor", f"pid:{os.getpid()}", "--monitor", "host", "--threshold", "target.memory<100%")
        done = run(tmp_path, "-c", "-d", "6", "--json", "out.json", *words, URL=url)
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout[done.stdout.index("\nResources ") :]
    assert re.search(r"^generator +CPU, cores +\d", table, re.M), table
    assert re.search(rf"^pid:{os.getpid()} +CPU, cores +\d", table, re.M), table
    document = read(tmp_path / "out.json")
    sources = [target["source"] for target in document["monitor"]]
    assert sources == ["generator", f"pid:{os.getpid()}", "host"]
    own = document["monitor"][1]
    assert len(own["times_seconds"]) >= 3 and max(filter(None, own["columns"]["memory_bytes"])) > 1e6
    lag = document["monitor"][0]["columns"]["event_loop_lag_seconds"]
    assert any(value is not None for value in lag)
    verdict = document["verdict"]
    # The first second settles, and of the rest a busy machine may leave too few samples to judge by.
    if len(lag) >= 6:
        assert verdict["generator"]["valid"] is not None
    assert verdict["level"]["active"] == 1


@pytest.mark.parametrize("words", [("--no-sizing-confirm", "--ramp-up", "2"), ("--sizing-budget", "3")])
def test_what_a_sizing_found_is_in_the_document(tmp_path, words):
    write(
        tmp_path,
        """
import asyncio, molotov

@molotov.scenario()
async def step(session):
    await asyncio.sleep(0.005)
    if molotov.get_context(session).worker_id >= 3:
        raise ValueError("too many")
""",
    )
    done = run(tmp_path, "-c", "--sizing", *words, "-w", "20", "--json", "out.json")
    # On a busy machine the generator may not keep up.
    assert done.returncode in (0, 98), done.stdout + done.stderr
    sizing = read(tmp_path / "out.json")["sizing"]
    assert sizing["ramp"]["reason"] == "failures"
    assert 0.05 < sizing["ramp"]["error_ratio"] <= 1
    assert sizing["ramp"]["sentence"] in done.stdout
    if words[0] == "--no-sizing-confirm":
        assert sizing["search"] is None and sizing["ramp"]["best_workers"] is not None
    else:
        assert sizing["search"]["trials"] and sizing["search_began_seconds"] >= 0


def test_a_configuration_may_name_several_thresholds(tmp_path):
    write(tmp_path, "import molotov\n@molotov.scenario()\nasync def step(session):\n    pass\n")
    test = {"max_runs": 2, "console": True, "threshold": ["runs>=2", "runs>2"], "json": "out.json"}
    (tmp_path / "molotov.json").write_text(json.dumps({"molotov": {"tests": {"test": test}}}))
    assert run(tmp_path, "--config", "molotov.json").returncode == 99
    assert [outcome["passed"] for outcome in read(tmp_path / "out.json")["thresholds"]] == [True, False]


def test_the_exit_code_of_the_script_is_kept(tmp_path):
    write(tmp_path, "import molotov, sys\n@molotov.scenario()\nasync def step(session):\n    sys.exit(3)\n")
    done = run(tmp_path, "-c", "--json", "out.json", "--threshold", "runs>9")
    assert done.returncode == 3
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["complete"]
    assert document["exit"] == {"code": 3, "reason": "a scenario called sys.exit"}


def test_a_file_that_cannot_be_written_at_the_end_is_an_error(tmp_path):
    write(
        tmp_path,
        "import molotov, os\n@molotov.scenario()\nasync def step(session):\n    os.mkdir('out.csv')\n",
    )
    done = run(tmp_path, "-c", "-r", "1", "--csv", "out.csv", "--json", "out.json")
    assert done.returncode == 1
    assert "Can't write out.csv" in done.stderr
    document = read(tmp_path / "out.json")
    assert document["exit"] == {"code": 1, "reason": "can't write out.csv"}
    assert [file["kind"] for file in document["files"]] == ["json"]


def test_without_the_options_nothing_is_collected(tmp_path):
    write(
        tmp_path,
        """
import sys, molotov

@molotov.scenario()
async def step(session):
    assert "molotov._results" not in sys.modules
""",
    )
    done = run(tmp_path, "-c", "-r", "1")
    assert counts(done.stdout) == (1, 0)
    assert list(tmp_path.glob("*.json*")) == []


def test_failures_are_grouped_at_the_line_of_the_script(tmp_path):
    code = """
from molotov.ui.failures import Failures
import json

def broken(text):
    json.loads(text)

def caught(work):
    try:
        work()
    except Exception as error:
        return error

class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")

def odd():
    raise Odd()

failures = Failures()
for _ in range(3):
    failures.add(caught(lambda: broken("{")))
failures.add(caught(lambda: broken("[")))
failures.add(caught(odd))
for group in failures.described(0.0):
    print(group["kind"], group["place"], group["count"], group["message"][:12])
print(failures.count)
"""
    path = Path(tmp_path) / "script.py"
    path.write_text(code)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "json.decoder.JSONDecodeError script.py:6 4 Expecting pr",
        "__main__.Odd script.py:19 1 RuntimeError",
        "5",
    ]


def test_report_is_a_command_with_help():
    done = tool("report", "--help")
    assert done.returncode == 0 and "RESULT.json" in done.stdout
    assert "--threshold" in molotov("--help").stdout
