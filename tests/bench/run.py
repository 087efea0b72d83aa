"""Compare the original Molotov, this one, plain aiohttp and wrk: requests per CPU-second, memory, start-up.

    python tests/bench/run.py                              everything, about half an hour
    python tests/bench/run.py --workers 100 --rounds 1 --only get

Run it on a machine that does nothing else, with the interpreter of an environment that has this Molotov, or
with any other after `make wheel`: then the wheel in dist/ is installed into a virtualenv. All load one nginx;
generator and nginx have a core each, and the generators take turns. The table is Markdown. The exit code is 1
when a run failed or its count isn't the server's own; a missed bar is only named.

Needs nginx, wrk and openssl (installed with apt when missing, as root); the original Molotov comes from PyPI.
Virtualenvs are below $HOME/.cache/molotov.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from generators import CALLS, Generator, all_generators, find_ours, original_environment
from measure import Sample, first_request, measure
from target import Nginx

TITLES = {
    "get": "GET, status and JSON checked",
    "post": "POST of 1 KB of JSON, status and JSON checked",
    "tls": "GET over TLS (self-signed, `ssl=False`), status and JSON checked",
}
Rounds = dict[tuple[str, int, str], list[Sample]]


def _install_what_is_missing() -> None:
    missing = [program for program in ("nginx", "wrk", "openssl") if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(f"install {' and '.join(missing)} first")
    print(f"Installing {' and '.join(missing)}...", file=sys.stderr, flush=True)
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        if subprocess.run(["apt-get", *words], stdout=subprocess.DEVNULL, check=False).returncode:
            raise SystemExit(f"apt-get {words[0]} failed; install {' and '.join(missing)} first")


def _cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("the bench needs two cores: one for the generator, one for nginx")
    return cores[0], cores[1]


def _ratio(rounds: Rounds, mode: str, workers: int, name: str, to: str) -> float | None:
    """Return the median over the rounds of the ratio to another generator of the same round."""
    mine, others = rounds.get((mode, workers, name)), rounds.get((mode, workers, to))
    if not mine or not others:
        return None
    return statistics.median(
        one.per_cpu_second / max(other.per_cpu_second, 1e-9) for one, other in zip(mine, others, strict=True)
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _table(rounds: Rounds, mode: str) -> list[str]:
    lines = [
        f"### {TITLES[mode]}",
        "",
        "| workers | generator | requests per CPU-second | µs of CPU per request | requests/s | peak RSS, MB "
        "| to Molotov | to wrk | failures and counts |",
        "|--:|--|--:|--:|--:|--:|--:|--:|--|",
    ]
    for (row_mode, workers, name), samples in rounds.items():
        if row_mode != mode:
            continue
        rate = statistics.median(sample.per_cpu_second for sample in samples)
        problems = sorted({problem for sample in samples for problem in sample.problems})
        cells = [
            str(workers),
            f"**{name}**" if name == "this" else name,
            f"{rate:,.0f}",
            f"{1e6 / rate:.1f}" if rate else "",
            f"{statistics.median(sample.per_second for sample in samples):,.0f}",
            f"{statistics.median(sample.peak_rss_mb for sample in samples):.0f}",
            _number(_ratio(rounds, mode, workers, name, "Molotov"), ".2f"),
            _number(_ratio(rounds, mode, workers, name, "wrk"), ".2f"),
            "; ".join(problems).replace("|", "/").replace("\n", " ") or "none, equal",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _bars(rounds: Rounds, start: float | None) -> list[str]:
    def rss(workers: int) -> float | None:
        samples = rounds.get(("get", workers, "this"))
        return max(sample.peak_rss_mb for sample in samples) if samples else None

    at_least: Callable[[float, float], bool] = lambda value, bar: value >= bar  # noqa: E731
    at_most: Callable[[float, float], bool] = lambda value, bar: value <= bar  # noqa: E731
    rows = [
        ("GET to Molotov, 100 workers", _ratio(rounds, "get", 100, "this", "Molotov"), at_least, 15, "x"),
        ("GET to Molotov, 2000 workers", _ratio(rounds, "get", 2000, "this", "Molotov"), at_least, 18, "x"),
        ("GET to wrk, 100 workers", _ratio(rounds, "get", 100, "this", "wrk"), at_least, 0.70, "x"),
        ("POST to Molotov, 100 workers", _ratio(rounds, "post", 100, "this", "Molotov"), at_least, 12, "x"),
        ("TLS to Molotov, 100 workers", _ratio(rounds, "tls", 100, "this", "Molotov"), at_least, 8, "x"),
        ("peak RSS, 100 workers", rss(100), at_most, 45, " MB"),
        ("peak RSS, 2000 workers", rss(2000), at_most, 70, " MB"),
        ("start to first request", start, at_most, 0.20, " s"),
    ]
    lines = ["### Bars", "", "| what | measured | bar | |", "|--|--:|--:|--|"]
    for what, value, holds, bar, unit in rows:
        if value is not None:
            sign = "≥" if holds is at_least else "≤"
            verdict = "met" if holds(value, bar) else "**missed**"
            lines.append(f"| {what} | {value:.2f}{unit} | {sign} {bar:g}{unit} | {verdict} |")
    return [*lines, ""]


def _heading(generators: list[Generator], args: argparse.Namespace) -> list[str]:
    model = next(
        (line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    shown = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr
    versions = [f"{generator.name} {generator.version()}" for generator in generators]
    return [
        f"Measured on {datetime.date.today()} with {model}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}; {', '.join(versions)}, "
        f"nginx {shown.strip().rpartition('/')[2]}. Medians of {args.rounds} rounds with windows of "
        f"{args.window:g} s; generator and nginx pinned to a core each.",
        "",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", default="1,10,100,500,2000", help="for GET (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=5.0, help="seconds (default: %(default)s)")
    parser.add_argument("--only", default="get,post,tls,start", help="default: %(default)s")
    parser.add_argument("--without", default="", help="generators to leave out, e.g. aiohttp,wrk")
    parser.add_argument("--original", type=Path, help="bin directory of an environment with the original")
    parser.add_argument("--ours", type=Path, help="this Molotov's command")
    return parser


def _measure_all(args: argparse.Namespace, generators: list[Generator]) -> Rounds:
    generator_core, server_core = _cores()
    # Ours too, for asking nginx and reading /proc takes some CPU.
    os.sched_setaffinity(0, {server_core})
    chosen = args.only.split(",")
    plan = [("get", int(workers)) for workers in args.workers.split(",")] + [("post", 100), ("tls", 100)]
    rounds: Rounds = {}
    with tempfile.TemporaryDirectory() as directory:
        nginx = Nginx(Path(directory), server_core)
        try:
            for mode, workers in plan:
                for number in range(args.rounds if mode in chosen else 0):
                    for generator in generators:
                        sample = measure(generator, nginx, mode, workers, args.window, generator_core)
                        rounds.setdefault((mode, workers, generator.name), []).append(sample)
                        print(
                            f"{mode} w={workers} round {number + 1} {generator.name}: "
                            f"{sample.per_cpu_second:.0f}/CPU-s {sample.peak_rss_mb:.0f} MB "
                            f"{'; '.join(sample.problems)}",
                            file=sys.stderr,
                            flush=True,
                        )
        finally:
            nginx.stop()
    return rounds


def main() -> int:
    """Run the bench and print its tables; returns the exit code."""
    args = _parser().parse_args()
    # So that nginx is stopped whatever ends the bench.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if unknown := set(args.only.split(",")) - {*CALLS, "start"}:
        raise SystemExit(f"--only doesn't know {', '.join(sorted(unknown))}")
    _install_what_is_missing()
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_limit != hard_limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "molotov"
    original = args.original or original_environment(cache)
    ours = args.ours or find_ours(cache)
    left_out = args.without.split(",")
    generators = [one for one in all_generators(original, ours) if one.name not in left_out]

    starts: dict[str, list[float]] = {}
    if "start" in args.only.split(","):
        core, _ = _cores()
        for _ in range(5):
            for generator in generators[:2]:
                starts.setdefault(generator.name, []).append(first_request(generator, core))
    rounds = _measure_all(args, generators)

    lines = _heading(generators, args)
    for mode in CALLS:
        if any(key[0] == mode for key in rounds):
            lines += _table(rounds, mode)
    if starts:
        shown = ", ".join(f"{name} {statistics.median(runs):.2f} s" for name, runs in starts.items())
        lines += [f"From start to the first request (median of 5): {shown}.", ""]
    lines += _bars(rounds, statistics.median(starts["this"]) if "this" in starts else None)
    print("\n".join(lines))
    return 1 if any(sample.problems for samples in rounds.values() for sample in samples) else 0


if __name__ == "__main__":
    sys.exit(main())
