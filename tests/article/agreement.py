"""Is the same service the same everywhere? One Kinto as a process, in a container, and on the rig's instance.

    tests/rig/run.sh RIG_PYTHON python tests/article/agreement.py --binary MOLOTOV [--rounds 3] [--cpus 0.5]

Each is sized by the real command at the same CPU limit, a fresh Kinto every time, the three in alternation
and in a new order every round, because the machine may not be alone. `--write` puts the table into
docs/autosizer.md. `make agreement` runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from replay import as_autosizer
from rig import TREE, Rig, Unusable, kinto_image, make_kinto_image

PLACES = ("local", "container", "ssm")
NAMES = {"local": "a process", "container": "a container", "ssm": "an instance of the rig"}
DOCUMENT = TREE / "docs" / "autosizer.md"
MARKS = ("<!-- agreement: made by `make agreement` -->\n", "<!-- agreement: end -->\n")


@dataclass
class Found:
    """What the runs on one place found."""

    capacities: list[float] = field(default_factory=list)
    intervals: list[tuple[float, float]] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    load: list[float] = field(default_factory=list)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def words(place: str, rig: Rig, kinto: Path, cpus: str, load: list[str], results: Path) -> list[str]:
    """Return the command for one place."""
    port = _free_port()
    common = ["autosizer", "run", "--on", place, "--cpus", cpus, "--json", str(results)]
    common += ["--scenario", "scenarios/kinto.py", "--server-path", "/v1/", "--port", str(port)]
    if place == "local":
        common += ["--command", f"{kinto} start --ini {kinto_image.INI} --port {port}"]
    else:
        common += ["--image", kinto_image.NAME, "--command", f"--port {port}"]
    if place == "ssm":
        about = rig.about
        common += ["--region", about["region"], "--bucket", about["bucket"], "--instance-type", "t3.medium"]
        common += ["--instance-profile", about["profile"]]
    return [*common, "--", *load]


def _cores_used(document: dict[str, Any]) -> float | None:
    """Return the cores that the service used in the mean while the capacity was held."""
    level = document["verdict"]["level"]
    for series in document["monitor"]:
        if series["source"] == "service" and level:
            cores = zip(series["times_seconds"], series["columns"]["cpu_cores_used"], strict=False)
            held = [
                value
                for at, value in cores
                if value is not None and level["from_seconds"] <= at <= level["to_seconds"]
            ]
            return fmean(held) if held else None
    return None


def note(found: Found, document: dict[str, Any]) -> str:
    """Add what a run found; returns it in words."""
    (row,) = document["autosizer"]["rows"]
    capacity = row["capacity_per_second"]
    if capacity is None:
        return f"no capacity: {row['failure'] or row['verdict']}"
    cores = _cores_used(document)
    found.capacities.append(capacity)
    found.intervals.append((row["capacity_low"], row["capacity_high"]))
    found.p50_ms.append(1000 * row["p50_seconds"])
    found.limits.append(row["limit"])
    if cores is not None:
        found.cpu_ms.append(1000 * cores / capacity)
    return (
        f"{capacity:.1f} req/s ({row['capacity_low']:.0f} to {row['capacity_high']:.0f}) "
        f"at {row['workers']:.0f} workers, limited by {row['limit']}"
    )


def table(all_found: dict[str, Found], cpus: str) -> str:
    """Return the table, and below it how far apart they are."""
    whole = fmean(fmean(found.capacities) for found in all_found.values())
    heads = [
        *(f"Kinto at {cpus} CPU as", "capacity, req/s: mean (each run)", "to the mean of all"),
        *("p50, ms", "CPU per request, ms", "load average"),
    ]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    for place, found in all_found.items():
        mean = fmean(found.capacities)
        each = ", ".join(f"{one:.0f}" for one in found.capacities)
        cells = [
            f"{NAMES[place]} (`--on {place}`)",
            f"{mean:.0f} ({each})",
            f"{100 * (mean / whole - 1):+.1f} %",
            f"{fmean(found.p50_ms):.0f}",
            f"{fmean(found.cpu_ms):.2f}" if found.cpu_ms else "?",
            f"{fmean(found.load):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    means = [fmean(found.capacities) for found in all_found.values()]
    apart = 100 * (max(means) / min(means) - 1)
    limits = sorted({limit for found in all_found.values() for limit in found.limits})
    said = (
        f"The highest is {apart:.1f} % above the lowest. Every run named {' or '.join(limits)} as the limit. "
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} virtual cores, "
        f"Linux {platform.release().split('-')[0]}."
    )
    return "\n".join(lines) + "\n\n" + said + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Size the same Kinto on all three targets")
    parser.add_argument("--binary", type=Path, required=True, help="the molotov binary, built with AWS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", default="0.5")
    parser.add_argument("--budget", default="40", help="seconds of each search")
    parser.add_argument("--workers", default="24", help="most workers")
    parser.add_argument("--write", action="store_true", help="put the table into docs/autosizer.md")
    args = parser.parse_args()
    sys.path.insert(0, str(TREE / "tools"))
    import demo

    all_found = {place: Found() for place in PLACES}
    load = ["-q", "-w", args.workers, "--sizing-budget", args.budget]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rig").mkdir()
        try:
            make_kinto_image()
            rig = Rig(folder / "rig")
        except Unusable as why:
            print(f"make agreement: {why}", file=sys.stderr)
            return 1
        kinto = demo.install_kinto(demo.default_cache())
        with rig:
            environment = as_autosizer(args.binary, folder, rig.environment)
            environment["DOCKER_HOST"] = f"unix://{os.environ['RIG_PODMAN_SOCKET']}"
            for number in range(args.rounds):
                turn = number % len(PLACES)
                for place in PLACES[turn:] + PLACES[:turn]:
                    results = folder / "results.json"
                    results.unlink(missing_ok=True)
                    command = words(place, rig, kinto, args.cpus, load, results)
                    done = subprocess.run(
                        command, env=environment, cwd=TREE, capture_output=True, text=True, check=False
                    )
                    all_found[place].load.append(os.getloadavg()[0])
                    if not results.exists():
                        print(f"{place}: exit code {done.returncode}\n{done.stderr}", file=sys.stderr)
                        return 1
                    said = note(all_found[place], json.loads(results.read_text()))
                    print(f"round {number + 1}, {place}: {said}; load {os.getloadavg()[0]:.1f}", flush=True)
    if not all(found.capacities for found in all_found.values()):
        print("make agreement: not every place has a capacity", file=sys.stderr)
        return 1
    shown = table(all_found, args.cpus)
    print("\n" + shown)
    if args.write:
        text = DOCUMENT.read_text()
        begin, end = (text.index(mark) for mark in MARKS)
        DOCUMENT.write_text(f"{text[: begin + len(MARKS[0])]}{shown}{text[end:]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
