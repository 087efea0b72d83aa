"""Results to make pages of: that of a real sizing run, stretched, emptied and filled with hostile texts.

``sizing.json`` was written by a run against a real Kinto on a machine of two cores. The others are made
from it, so they have whatever a real document has.
"""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

SIZING = Path(__file__).with_name("sizing.json")

#: What a page must show as text. Each calls `injected`, which the browser counts.
HOSTILE = [
    "</script><script>injected()</script>",
    "<img src=x onerror=injected()>",
    "\"'><svg onload=injected()>",
    "<a href='javascript:injected()'>link</a>",
    "]]><!--<script>injected()//-->",
    "{{script}}${injected()}`+injected()+`",
    "\u202e\u2066\u05e0\u05e1\u05ea\u05e8 \u0645\u062e\u0641\u064a\u2069",
    "\u0000\u2028\u2029\ufeff",
    "<b>" + "long " * 2_000,
]


def sizing():
    """Return the document of a real sizing run."""
    return json.loads(SIZING.read_text())


def matrix(document):
    """Return what `autosizer run --cpus 0.5,1,2` would write if two of its rows had come to this document."""
    runs, rows = [], []
    capacity = document["sizing"]["search"]["capacity"]
    blank = {"run": "", "at_least": False, "confirmed": False, "headroom": {}}
    price = {"currency": "USD", "source": "a list", "date": "2026-11-01"}
    rate = capacity["requests_per_second"]
    for cpus, share in ((0.5, 0.5), (1.0, 1.0)):
        run = copy.deepcopy(document)
        facts = {"measured_by": "container:molotov-1", "engine": "unix:///run/podman.sock"}
        service = {"target": "container", "name": "localhost/kinto:1", "cpus": cpus, "facts": facts}
        run["service"] = service | {"ended": None, "out_of_memory": False, "log": []}
        runs.append(run)
        rows.append(
            blank
            | {
                "label": f"{cpus:g} CPU",
                "cpus": cpus,
                "capacity_per_second": share * rate["mean"],
                "capacity_low": share * rate["low"],
                "capacity_high": share * rate["high"],
                "confirmed": capacity["confirmed"],
                "workers": capacity["level"],
                "p50_seconds": 0.03,
                "p95_seconds": 0.2,
                "limit": document["verdict"]["resource"],
                "verdict": document["verdict"]["sentence"],
                "headroom": {"cpu": 0.02, "memory": 0.93},
                "price": price | {"per_hour": 0.04 * cpus},
                "price_per_million": 1e6 / 3600 * 0.04 * cpus / (share * rate["mean"]),
            }
        )
    rows.append(blank | {"label": "2 CPU", "cpus": 2.0, "failure": "the service did not answer within 60 s"})
    reason = "0.5 CPU is the cheapest: USD 0.1000 per million requests; 1 CPU costs 3 % more"
    autosizer = {
        **{"molotov": "1", "target": "container", "service": "localhost/kinto:1", "rows": rows},
        "recommendation": {"label": "0.5 CPU", "reason": reason},
    }
    return {"schema": document["schema"], "autosizer": autosizer, "runs": runs}


def stretched(document, seconds):
    """Return a run of that many seconds, its series repeated."""
    document = copy.deepcopy(document)
    for columns in (document["series"], *(one["columns"] for one in document["monitor"])):
        for name, values in columns.items():
            columns[name] = [values[second % len(values)] for second in range(seconds)]
    for one in document["monitor"]:
        one["times_seconds"] = [second + 0.5 for second in range(seconds)]
        cores = one.get("core_busy_ratios", [])
        one["core_busy_ratios"] = [[core[s % len(core)] for s in range(seconds)] for core in cores]
    document["series"]["time_seconds"] = [second + 1.0 for second in range(seconds)]
    columns = document["service_time_map"]["columns"]
    document["service_time_map"]["columns"] = [columns[second % len(columns)] for second in range(600)]
    document["service_time_map"]["column_seconds"] = seconds / 600
    document["meta"]["elapsed_seconds"] = float(seconds)
    return document


def emptied(document, points):
    """Return a run of which only so many points are left, and nothing else is known."""
    document = copy.deepcopy(document)
    for columns in (document["series"], *(one["columns"] for one in document["monitor"])):
        for name in columns:
            columns[name] = columns[name][:points]
    for one in document["monitor"]:
        one["times_seconds"] = one["times_seconds"][:points]
    for name in ("sizing", "verdict"):
        document[name] = None
    del document["service_time_map"]
    document["service_times"] = []
    return document


def full_of_gaps(document):
    """Return a run where nothing could be measured: every value that may be missing is."""
    document = copy.deepcopy(document)
    series = document["series"]
    for name in ("p50_seconds", "p95_seconds", "p99_seconds", "event_loop_lag_seconds"):
        series[name] = [None] * len(series[name])
    for one in document["monitor"]:
        for name, values in one["columns"].items():
            one["columns"][name] = [None if place % 3 else value for place, value in enumerate(values)]
    return document


def hostile(document):
    """Return a run whose every text is hostile."""
    document = copy.deepcopy(document)
    texts = iter(HOSTILE * 100)
    row = document["service_times"][-1]
    document["service_times"] += [{**row, "name": text} for text in HOSTILE]
    document["errors"] = [
        {
            "kind": next(texts),
            "place": next(texts),
            "count": 3,
            "first_seconds": 1.0,
            "last_seconds": 2.0,
            "message": next(texts),
            "example": next(texts),
        }
        for _ in HOSTILE
    ]
    meta = document["meta"]
    for name in ("host", "kernel", "python", "molotov", "started_at", "scenario_file"):
        meta[name] = next(texts)
    meta["command"] = ["molotov", *HOSTILE]
    document["counts"]["lost_processes"] = list(HOSTILE)
    document["counts"]["statuses"] = dict.fromkeys(HOSTILE, 1)
    document["monitor"][-1]["source"] = next(texts)
    verdict = document["verdict"]
    verdict["source"] = verdict["sentence"] = document["monitor"][-1]["source"]
    for finding in verdict["findings"]:
        for evidence in finding["evidence"]:
            evidence["text"] = next(texts)
    document["thresholds"] = [
        {"threshold": text, "passed": False, "value": None, "limit": 1.0, "unit": text, "message": text}
        for text in HOSTILE
    ]
    document["sizing"]["search"]["unconfirmed"] = list(HOSTILE)
    return document


def many_names(document, names):
    """Return a run with that many kinds of requests."""
    document = copy.deepcopy(document)
    row = document["service_times"][-1]
    document["service_times"] = [
        {**row, "name": f"GET host/{number}", "count": number + 1} for number in range(names)
    ]
    return document


def plain(document, slower=1.0):
    """Return a run that sized nothing: its workers at once, each second that much slower."""
    document = copy.deepcopy(document)
    for name in ("sizing", "verdict"):
        document[name] = None
    series = document["series"]
    series["workers"] = [4] * len(series["workers"])
    for name in ("p50_seconds", "p95_seconds", "p99_seconds"):
        series[name] = [value and value * slower for value in series[name]]
    for name in ("requests", "started", "succeeded"):
        series[name] = [round(value / slower) for value in series[name]]
    return document


def refused(document):
    """Return a run whose every request was refused."""
    document = plain(document)
    counts, series = document["counts"], document["series"]
    counts.update(requests=0, succeeded=0, failed=counts["started"], interrupted=0)
    counts["statuses"] = dict.fromkeys(counts["statuses"], 0)
    series.update(failed=series["started"], succeeded=[0] * len(series["started"]))
    series["requests"] = [0] * len(series["started"])
    for row in document["service_times"]:
        row["failed"] = row["count"]
    return document


def glances(path, name):
    """Write what Glances exports of a container of that name: a row every two seconds for three minutes."""
    kinds = "name cpu_percent memory_usage memory_limit network_rx network_tx io_rx io_wx".split()
    columns = ["timestamp", "cpu.total", "cpu.cpucore", *(f"containers.{name}.{kind}" for kind in kinds)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for second in range(0, 180, 2):
            busy = 150 if 60 <= second < 120 else 20
            amounts = (10_000 * busy, 20_000 * busy, 100_000, 5_000 * busy)
            memory = 200_000_000 + second * 1_000_000
            time = f"2026-11-25 10:{second // 60:02}:{second % 60:02}"
            writer.writerow([time, "40.0", "2", name, busy + second % 7, memory, 1_000_000_000, *amounts])
