"""The resource lab: sizes servers of known capacity, and compares what was found with the truth. `make lab`.

    KIND=slots RUNS=10 make lab
    python tests/lab/run.py [--kind NAME ...] [--runs N] [--jobs N] [--molotov PATH]

Writes the results into docs/resource-lab.md: without a kind all of them, else the lines of those kinds.
Kinds that sleep can be measured on a busy machine, and several at a time; those that need the CPU or the
disk run alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
_TREE = _HERE.parent.parent
_PAGE = _TREE / "docs" / "resource-lab.md"
_CORES = len(os.sched_getaffinity(0))
_SECONDS_TO_STOP = 20
_LONGEST_RUN_SECONDS = 480
_NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class Kind:
    """A server, and what has to be found."""

    what: str
    server: list[str]
    verdict: str
    #: A word of the evidence that tells this kind from its neighbours.
    says: str = ""
    exit_code: int = 0
    runs: int = 5
    #: How far the capacity may be off, as a share; None where only the verdict is judged.
    within: float | None = None
    workers: int = 100
    scenario_cpu_ms: float = 0.0
    #: Processes that take the generator's only core from it.
    rivals: int = 0
    alone: bool = True


KINDS: dict[str, Kind] = {
    "slots": Kind(
        "8 slots of 40 ms, 56 may wait, others get a 503",
        ["slots", "--slots", "8", "--service-ms", "40", "--queue", "56"],
        verdict="inside",
        runs=10,
        within=0.08,
        workers=500,
        alone=False,
    ),
    "abort": Kind(
        "30 slots of 50 ms, nobody may wait, others are hung up on",
        ["slots", "--slots", "30", "--service-ms", "50", "--queue", "0", "--abort"],
        verdict="inside",
        workers=500,
        alone=False,
    ),
    "pool": Kind(
        "a pool of 10 connections to a service that takes 40 ms",
        ["pool", "--connections", "10", "--service-ms", "40"],
        verdict="inside",
        within=0.08,
        alone=False,
    ),
    "bandwidth": Kind(
        "answers of 100 KiB, 100 Mbit/s for all of them together",
        ["bandwidth", "--size-kib", "100", "--mbit", "100"],
        verdict="network",
        within=0.08,
        alone=False,
    ),
    "memory": Kind(
        "48 KiB kept with every request, 384 MiB allowed (RLIMIT_AS)",
        ["memory", "--keep-kib", "48", "--limit-mib", "384"],
        verdict="memory",
        alone=False,
    ),
    "cpu": Kind(
        f"10 ms of CPU per request, {_CORES} processes on {_CORES} cores",
        ["cpu", "--processes", str(_CORES), "--burn-ms", "10"],
        verdict="cpu",
    ),
    "single core": Kind(
        f"5 ms of CPU per request, one thread on {_CORES} cores",
        ["cpu", "--burn-ms", "5"],
        verdict="cpu",
        says="single-threaded",
    ),
    "disk": Kind(
        "4 MiB written and synced per request, by 8 threads",
        ["disk", "--write-kib", "4096", "--threads", "8"],
        verdict="disk",
    ),
    "generator": Kind(
        "a scenario that costs the generator 4 ms of CPU, a server that could do much more",
        ["slots", "--slots", "4096", "--service-ms", "10"],
        verdict="generator",
        exit_code=98,
        scenario_cpu_ms=4.0,
    ),
    "starved": Kind(
        "a scenario that costs the generator 2 ms of CPU, on a core that it shares with three others",
        ["slots", "--slots", "4096", "--service-ms", "10"],
        verdict="generator",
        says="waited",
        exit_code=98,
        scenario_cpu_ms=2.0,
        rivals=3,
    ),
}


@dataclass
class Outcome:
    """What one run found."""

    truth: float | None
    verdict: str
    sentence: str
    exit_code: int
    seconds: float
    found: float | None = None
    low: float = 0.0
    high: float = 0.0
    workers: float = 0.0
    confirmed: bool = False
    counts_agree: bool = True
    problems: list[str] = field(default_factory=list)

    @property
    def error(self) -> float | None:
        """How far the capacity is off, as a share."""
        return None if self.found is None or not self.truth else self.found / self.truth - 1.0

    @property
    def covers(self) -> bool:
        """Whether the interval holds the truth."""
        return self.truth is not None and self.low <= self.truth <= self.high


@contextmanager
def serving(arguments: list[str]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Start a server; what it says of itself, and what it counted once it has ended."""
    with tempfile.TemporaryDirectory(dir=_TREE) as directory:
        extra = ["--directory", directory] if arguments[0] == "disk" else []
        server = subprocess.Popen(
            [sys.executable, str(_HERE / "server.py"), *arguments, *extra], stdout=subprocess.PIPE, text=True
        )
        ended: dict[str, Any] = {}
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline()), ended
        finally:
            server.terminate()
            try:
                rest, _ = server.communicate(timeout=_SECONDS_TO_STOP)
                ended.update(json.loads(rest or "{}"))
            except subprocess.TimeoutExpired:
                server.kill()
                server.communicate()


@contextmanager
def _rivals(number: int, core: int) -> Iterator[None]:
    """Keep a core busy with so many processes."""
    code = "while True: pass"
    rivals = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(number)]
    try:
        for rival in rivals:
            os.sched_setaffinity(rival.pid, {core})
        yield
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()


def run(kind: Kind, molotov: str, budget: float) -> Outcome:
    """Size one server."""
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory, serving(kind.server) as (said, counts):
        results = Path(directory) / "results.json"
        command = [
            *([sys.executable, "-c", _PINNED, str(core)] if kind.rivals else []),
            *[molotov, "-q", "--sizing", "-w", str(kind.workers), "--sizing-budget", f"{budget:g}"],
            *["--monitor", f"pid:{said['pid']}", "--json", str(results), str(_HERE / "scenario.py")],
        ]
        environment = {
            **os.environ,
            "LAB_URL": f"http://127.0.0.1:{said['port']}/",
            "LAB_CPU_MS": str(kind.scenario_cpu_ms),
        }
        began = time.monotonic()
        with _rivals(kind.rivals, core):
            code = subprocess.run(
                command, env=environment, check=False, timeout=_LONGEST_RUN_SECONDS
            ).returncode
        seconds = time.monotonic() - began
        document = json.loads(results.read_text())
    verdict = document["verdict"]
    truth = counts.get("measured") or said["capacity_per_second"]
    outcome = Outcome(truth, verdict["resource"], verdict["sentence"], code, seconds)
    findings = document["sizing"]["search"]
    capacity = findings and findings["capacity"]
    if capacity:
        rate = capacity["runs_per_second"]
        outcome.found, outcome.low, outcome.high = rate["mean"], rate["low"], rate["high"]
        outcome.workers, outcome.confirmed = capacity["level"], capacity["confirmed"]
    answered = document["counts"]["statuses"]
    if counts and (answered["2xx"], answered["5xx"]) != (counts["served"], counts["refused"]):
        # Connections that were hung up on have no status.
        outcome.counts_agree = "--abort" in kind.server and answered["2xx"] == counts["served"]
    if outcome.verdict != kind.verdict or kind.says not in outcome.sentence:
        outcome.problems.append("verdict")
    if outcome.exit_code != kind.exit_code:
        outcome.problems.append(f"exit code {outcome.exit_code}")
    if not outcome.counts_agree:
        outcome.problems.append("counts")
    if kind.within is not None and (outcome.error is None or abs(outcome.error) > kind.within):
        outcome.problems.append("capacity")
    return outcome


_PINNED = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"


def measure(name: str, args: argparse.Namespace) -> list[Outcome]:
    """Run one kind as often as it needs, and say what each run found."""
    kind = KINDS[name]

    def one(number: int) -> Outcome:
        outcome = run(kind, args.molotov, args.budget)
        off = "" if outcome.error is None else f" ({100 * outcome.error:+.1f} %)"
        found = "none" if outcome.found is None else f"{outcome.found:.1f}"
        truth = "?" if outcome.truth is None else f"{outcome.truth:.1f}"
        wrong = f"  WRONG: {', '.join(outcome.problems)}" if outcome.problems else ""
        print(
            f"{name} {number}: {found}{off} in {outcome.low:.1f} to {outcome.high:.1f} at "
            f"{outcome.workers:.0f} workers, truth {truth}, {outcome.seconds:.0f} s, "
            f"exit {outcome.exit_code}{wrong}\n"
            f"    {outcome.sentence}",
            flush=True,
        )
        return outcome

    with ThreadPoolExecutor(1 if kind.alone else args.jobs) as pool:
        return list(pool.map(one, range(1, (args.runs or kind.runs) + 1)))


def _row(name: str, outcomes: list[Outcome]) -> str:
    kind = KINDS[name]
    right = sum("verdict" not in outcome.problems for outcome in outcomes)
    seconds = statistics.median(outcome.seconds for outcome in outcomes)
    known = [outcome for outcome in outcomes if outcome.error is not None]
    truths = [outcome.truth for outcome in outcomes if outcome.truth is not None]
    cells = [name, kind.what, *[_NONE] * 3]
    if kind.within is not None and known and truths:
        errors = sorted(100 * (outcome.error or 0.0) for outcome in known)
        half = statistics.median((one.high - one.low) / 2 / (one.found or 1.0) for one in known)
        covered = sum(outcome.covers for outcome in known)
        cells[2:] = [
            f"{statistics.median(truths):.0f}",
            f"{statistics.median(errors):+.1f} % ({errors[0]:+.1f} % to {errors[-1]:+.1f} %)",
            f"{covered} of {len(outcomes)}, ±{100 * half:.1f} %",
        ]
    ends = sorted({outcome.exit_code for outcome in outcomes})
    cells += [
        f"{kind.verdict}: {right} of {len(outcomes)}",
        f"{seconds:.0f} s",
        ", ".join(map(str, ends)),
    ]
    return f"| {' | '.join(cells)} |"


_HEAD = """# The resource lab

Real servers on the loopback interface, whose capacity and bottleneck are set by flags
(`tests/lab/server.py`), sized with `molotov --sizing --monitor pid:N`. `make lab` makes this page anew;
`KIND=slots RUNS=10 make lab` runs one kind.

- *Truth*: what the server can do, in runs per second, by its flags.
- *Found*: the capacity that was found by the truth, less one: the median, the lowest and the highest.
- *Covers*: in how many runs the 95 % interval holds the truth, and half its width (median).
- *Verdict*: what has to be named, and in how many runs it was. "inside" is the service itself or one behind
  it, that is: no resource that can be seen from outside.
- *Time*: from the start of the command to its end, with `--sizing-budget {budget:g}` (median).

Server, generator and whatever else the machine had to do shared {cores} cores.

| kind | server | truth | found | covers | verdict | time | exit code |
|---|---|--:|--:|--:|---|--:|--:|
"""


def page(results: dict[str, list[Outcome]], budget: float, before: str = "") -> str:
    """Return the page: the table, and one sentence of each kind; lines of other kinds stay as they were."""
    old = before.splitlines()
    rows: list[str] = []
    said: list[str] = []
    for name in KINDS:
        if name in results:
            rows.append(_row(name, results[name]))
            said.append(f"- **{name}**: {results[name][0].sentence}")
        else:
            rows += [line for line in old if line.startswith(f"| {name} |")]
            said += [line for line in old if line.startswith(f"- **{name}**:")]
    text = _HEAD.format(budget=budget, cores=_CORES) + "\n".join(rows)
    return (
        f"{text}\n\n## What was said\n\nThe verdict of the first run of each kind.\n\n"
        + "\n".join(said)
        + "\n"
    )


def main() -> int:
    """Run the lab; 1 when something was not as it has to be."""
    parser = argparse.ArgumentParser(description="Size servers of known capacity")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this one; repeatable")
    parser.add_argument(
        "--runs", type=int, default=0, help="of each kind (default: 10 of slots, 5 of others)"
    )
    parser.add_argument("--jobs", type=int, default=5, help="runs at a time, of kinds that only sleep")
    parser.add_argument("--budget", type=float, default=90.0, help="--sizing-budget in seconds")
    parser.add_argument("--molotov", default=str(Path(sys.executable).parent / "molotov"))
    args = parser.parse_args()
    results = {name: measure(name, args) for name in args.kind or KINDS}
    text = page(results, args.budget, _PAGE.read_text())
    print(text[text.index("| kind") :])
    _PAGE.write_text(text)
    print(f"Written: {_PAGE.relative_to(_TREE)}")
    return int(any(outcome.problems for outcomes in results.values() for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
