"""``molotov-report glances``: a report from what Glances exported, in both of its formats."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import jsonschema
import pytest
from _services import TREE, tool


def today(path, busy=150.0, containers=("tested", "other"), seconds=180):
    """As Glances 4 writes it: dotted columns, a row every two seconds, busy in the second minute."""
    columns = ["timestamp", "cpu.total", "cpu.cpucore", "mem.total", "mem.available"]
    for name in containers:
        columns += [
            f"containers.{name}.{column}"
            for column in ("name", "cpu_percent", "memory_usage", "memory_limit", "network_rx", "network_tx")
        ]
    rows = [",".join(columns)]
    for second in range(0, seconds, 2):
        time = f"2026-11-25 10:{second // 60:02}:{second % 60:02}"
        percent = busy if 60 <= second < 120 else 5.0
        row = [time, "99.0" if busy > 150 and 60 <= second < 120 else "9.0", "2", "8000000000", "4000000000"]
        for name in containers:
            row += [name, str(percent), str(200_000_000 + second * 1000), "1000000000", "1000", "2000"]
        rows.append(",".join(row))
    path.write_text("\n".join(rows) + "\n")
    return path


def old(path):
    """As Glances 2 wrote it: one cell with a dictionary for each plugin of the container."""
    rows = ["timestamp,sensors_tested_cpu,sensors_tested_memory,sensors_tested_network"]
    for second in range(0, 60, 3):
        cpu, memory = "\"{'total': 80.0}\"", f"\"{{'usage': {5_000_000 + second}, 'limit': 9000000}}\""
        network = f"\"{{'rx': 300, 'tx': 0, 'cumulative_rx': {second * 100}, 'cumulative_tx': {second}}}\""
        rows.append(f"2017-05-01 10:00:{second:02},{cpu},{memory},{network}")
    path.write_text("\n".join(rows) + "\n")
    return path


def test_todays_export_becomes_every_format(tmp_path):
    path = today(tmp_path / "out.csv")
    names = ("html", "png", "svg", "json", "markdown")
    words = [word for name in names for word in (f"--{name}", tmp_path / f"out.{name}")]
    done = tool("report", "glances", path, "--container", "tested", *words)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith("Not enough evidence") and "cpu cores used" in done.stdout
    assert "1.50" in done.stdout and "Runs" not in done.stdout
    document = json.loads((tmp_path / "out.json").read_text())
    schema = json.loads((TREE / "docs" / "results.schema.json").read_text())
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
    assert document["meta"]["started_at"] == "2026-11-25 10:00:00"
    assert document["meta"]["elapsed_seconds"] == 178
    assert document["verdict"]["level"]["from_seconds"] == pytest.approx(60, abs=4)
    (series,) = document["monitor"]
    assert series["source"].endswith("#tested")
    page = (tmp_path / "out.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "Resources of " in page and "No run ended" not in page
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    texts = {text.strip() for text in ElementTree.parse(tmp_path / "out.svg").getroot().itertext()}
    assert {"CPU", "Memory", "Disk", "Network", "RESOURCES"} <= texts
    assert (tmp_path / "out.markdown").read_text().startswith("## Resources of ")
    # The document is one as any other: the formats can be made of it again.
    again = tool("report", "summary", tmp_path / "out.json")
    assert again.stdout == done.stdout


def test_what_gave_out_is_told(tmp_path):
    path = today(tmp_path / "out.csv", busy=198.0, containers=())
    done = tool("report", "glances", path)
    assert done.stdout.startswith("Limited by CPU of glances:"), done.stdout
    assert re.search(r"Judged from (58|60) s to (118|120) s of 178 s", done.stdout), done.stdout


def test_the_old_format_is_read(tmp_path):
    path = old(tmp_path / "old.csv")
    for words in ([], ["--container", "tested"]):
        done = tool("report", "glances", path, *words, "--markdown", "-")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("## Resources of glances:")
    assert "0.80" in tool("report", "glances", path).stdout


def test_what_cannot_be_read_is_one_line(tmp_path):
    several = today(tmp_path / "out.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    for words, part in [
        ([several], "several containers; --container takes one of tested, other, host"),
        ([several, "--container", "nobody"], 'no container "nobody"'),
        ([tmp_path / "other.csv"], "no CSV file of Glances"),
        ([tmp_path / "empty.csv"], "no rows with a time"),
        ([tmp_path / "none.csv"], "can't read"),
        ([several, "--container", "tested", "--png", "-"], "a picture needs a file"),
    ]:
        done = tool("report", "glances", *words)
        assert done.returncode == 1 and not done.stdout, (words, done)
        assert done.stderr.startswith("molotov-report: ") and done.stderr.count("\n") == 1
        assert part in done.stderr, done.stderr
    assert tool("report", "glances").returncode == 2
