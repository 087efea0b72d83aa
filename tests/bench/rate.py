"""What it costs to start runs at a rate: CPU per run of the open and the closed model, in alternation.

By hand: ``.venv/main/bin/python tests/bench/rate.py [RATE [SECONDS [ROUNDS]]]``. The closed model comes
twice: as fast as it can, and with a pause after each run that gives about the same rate. CPU is that of the
generator's process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from target import Nginx

_SCENARIO = """
import os, molotov

@molotov.scenario()
async def get(session):
    async with session.get(os.environ["URL"]) as response:
        assert response.status == 200
        await response.read()
"""
_COMMAND = [sys.executable, "-c", "import sys; from molotov.run import main; sys.exit(main())"]


def _measure(directory: Path, url: str, words: list[str]) -> tuple[float, dict]:
    """Run once; returns CPU in µs per run, and the results."""
    output = directory / "out.json"
    before = os.times()
    subprocess.run(
        [*_COMMAND, "-q", "--json", str(output), *words],
        cwd=directory,
        env={**os.environ, "URL": url},
        check=True,
    )
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    results = json.loads(output.read_text())
    return 1e6 * used / results["counts"]["started"], results


def main() -> None:
    """Print a table."""
    rate, seconds, rounds = ([float(word) for word in sys.argv[1:]] + [5000.0, 8.0, 3.0])[:3]
    modes = {
        "closed, 50 workers": ["-w", "50"],
        "closed, paced": ["-w", "50", "--delay", str(50 / rate)],
        "constant": ["-w", "500", "--rate", str(rate), "--rate-shape", "constant"],
        "poisson": ["-w", "500", "--rate", str(rate)],
    }
    found: dict[str, list[tuple[float, dict]]] = {name: [] for name in modes}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "loadtest.py").write_text(_SCENARIO)
        nginx = Nginx(directory, 1)
        os.sched_setaffinity(0, {0})
        try:
            for _ in range(int(rounds)):
                for mode, words in modes.items():
                    before = nginx.answered()
                    measured = _measure(directory, nginx.url, [*words, "-d", str(seconds)])
                    assert nginx.answered() - before == measured[1]["counts"]["succeeded"]
                    found[mode].append(measured)
        finally:
            nginx.stop()
    for mode, runs in found.items():
        cpu = statistics.median(cost for cost, _ in runs)
        started = statistics.median(results["counts"]["started"] for _, results in runs) / seconds
        line = f"{mode:20} {cpu:6.1f} µs/run  {started:8.0f} runs/s"
        starts = [results["starts"] for _, results in runs if "starts" in results]
        if starts:
            shares = [f"{one['started']}/{one['intended']}, {one['late']} late" for one in starts]
            rows = [results["response_times"][0] for _, results in runs]
            p50 = statistics.median(row["p50_seconds"] for row in rows) * 1000
            p99 = statistics.median(row["p99_seconds"] for row in rows) * 1000
            line += f"  response p50 {p50:.2f} ms p99 {p99:.2f} ms  {'; '.join(shares)}"
        print(line)


if __name__ == "__main__":
    main()
