"""How big a node does Kinto need? Sizes it with two backends, side by side: what `make kinto` runs.

    python tools/kinto.py [--case NAME ...] [--budget 180] [--write] [--cache DIR]

One Kinto process (waitress, four threads) on this machine, sized with scenarios/kinto.py:

- `memory` keeps its records in memory.
- `postgresql` keeps them in a PostgreSQL that is made for it, on a port of its own, with Debian's defaults;
  it needs the package postgresql and, as root, the user postgres.
- `nginx` is the first one behind an nginx with `limit_conn 30`: there the answer is known, 30 workers.

`--write` puts the table into the README, between its marks. Molotov and Kinto are installed as by
tools/demo.py.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demo import (
    DemoError,
    default_cache,
    find_molotov,
    free_port,
    install_kinto,
    pip,
    run_quietly,
    running_kinto,
)

_TREE = Path(__file__).resolve().parent.parent
_README = _TREE / "README.md"
_MARKS = ("<!-- kinto: made by `make kinto` -->\n", "<!-- kinto: end -->\n")
_SCENARIO = _TREE / "scenarios" / "kinto.py"
_WORKERS = 200
_CONNECTIONS = 30
_SECONDS_TO_START = 60
_DRIVERS = ["psycopg2-binary", "SQLAlchemy", "zope.sqlalchemy", "transaction"]

_NGINX = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  limit_conn_zone $server_name zone=all:1m;
  upstream kinto {{ server 127.0.0.1:{kinto_port}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    server_name kinto;
    limit_conn all {connections};
    location / {{
      proxy_pass http://kinto;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
    }}
  }}
}}
"""


@dataclass
class Target:
    """Where the load goes, and what is watched."""

    url: str
    monitor: list[str]


def _wait_for(what: str, ready: Callable[[], bool]) -> None:
    give_up = time.monotonic() + _SECONDS_TO_START
    while not ready():
        if time.monotonic() > give_up:
            raise DemoError(f"{what} did not start within {_SECONDS_TO_START} s")
        time.sleep(0.1)


@contextmanager
def _running(command: list[str], directory: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "output.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **options
        )
        try:
            yield process
        finally:
            # PostgreSQL's fast way down; nginx takes it as well.
            process.send_signal(signal.SIGINT)
            process.wait()


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def _port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@contextmanager
def _memory(kinto: Path) -> Iterator[Target]:
    with running_kinto(kinto) as url:
        yield Target(url, [f"port:{_port_of(url)}"])


@contextmanager
def _nginx(kinto: Path) -> Iterator[Target]:
    if shutil.which("nginx") is None:
        raise DemoError("the case nginx needs nginx")
    with running_kinto(kinto) as url, _directory() as directory:
        directory.chmod(0o755)
        port = free_port()
        file = directory / "nginx.conf"
        file.write_text(
            _NGINX.format(directory=directory, port=port, kinto_port=_port_of(url), connections=_CONNECTIONS)
        )
        with _running(["nginx", "-c", str(file), "-p", str(directory)], directory) as nginx:
            _wait_for("nginx", lambda: (directory / "nginx.pid").exists() or nginx.poll() is not None)
            yield Target(f"http://127.0.0.1:{port}/v1/", [f"port:{_port_of(url)}", f"pid:{nginx.pid}"])


def _postgresql_folder() -> Path:
    found = shutil.which("initdb")
    folders = (
        sorted(Path("/usr/lib/postgresql").glob("*/bin")) if found is None else [Path(found).resolve().parent]
    )
    if not folders:
        raise DemoError("the case postgresql needs PostgreSQL: apt-get install postgresql")
    return folders[-1]


@contextmanager
def _database() -> Iterator[tuple[int, int]]:
    """Run a PostgreSQL of its own; its process and its port."""
    programs = _postgresql_folder()
    with _directory() as directory:
        # It refuses to run as root.
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(directory, entry.pw_uid, entry.pw_gid)
            user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        data = directory / "data"
        run_quietly(
            [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "kinto"], "initdb failed", **user
        )
        port = free_port()
        options = ["-p", str(port), "-k", str(directory), "-c", "listen_addresses=127.0.0.1"]
        with _running([str(programs / "postgres"), "-D", str(data), *options], directory, **user) as server:
            address = ["-h", "127.0.0.1", "-p", str(port), "-U", "kinto"]
            ready = [str(programs / "pg_isready"), "-q", *address]
            _wait_for("PostgreSQL", lambda: subprocess.run(ready, check=False).returncode == 0)
            run_quietly([str(programs / "createdb"), *address, "kinto"], "createdb failed")
            utc = "ALTER DATABASE kinto SET TIMEZONE TO UTC"
            run_quietly([str(programs / "psql"), *address, "-c", utc, "kinto"], "psql failed")
            yield server.pid, port


@contextmanager
def _postgresql(kinto: Path) -> Iterator[Target]:
    drivers = kinto.parent.parent / "postgresql"
    if not drivers.exists():
        run_quietly([*pip(kinto.parent.parent), *_DRIVERS], "Can't install PostgreSQL's drivers")
        drivers.touch()
    with _database() as (pid, port), _directory() as directory:
        text = (_TREE / "tools" / "kinto-memory.ini").read_text()
        for store in ("storage", "cache", "permission"):
            memory = f"kinto.{store}_backend = kinto.core.{store}.memory\n"
            assert memory in text
            text = text.replace(
                memory,
                f"kinto.{store}_backend = kinto.core.{store}.postgresql\n"
                f"kinto.{store}_url = postgresql://kinto@127.0.0.1:{port}/kinto\n",
            )
        ini = directory / "kinto.ini"
        ini.write_text(text)
        run_quietly([str(kinto), "migrate", "--ini", str(ini)], "kinto migrate failed")
        with running_kinto(kinto, ini=ini) as url:
            yield Target(url, [f"port:{_port_of(url)}", f"pid:{pid}"])


CASES = {"memory": _memory, "postgresql": _postgresql, "nginx": _nginx}
_NAMES = {
    "memory": "in memory",
    "postgresql": "PostgreSQL",
    "nginx": f"in memory, nginx with `limit_conn {_CONNECTIONS}`",
}


def _size(molotov: list[str], target: Target, budget: float) -> dict[str, Any]:
    """Size a target; returns the document with the results."""
    with _directory() as directory:
        results = directory / "results.json"
        monitors = [word for what in target.monitor for word in ("--monitor", what)]
        command = [
            *[*molotov, "-c", "--sizing", "-w", str(_WORKERS), "--sizing-budget", f"{budget:g}"],
            *[*monitors, "--json", str(results), str(_SCENARIO)],
        ]
        print(f"SERVER_URL={target.url} {' '.join(['molotov', *command[len(molotov) :]])}", flush=True)
        done = subprocess.run(
            command,
            env={**os.environ, "SERVER_URL": target.url},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        # The end of it: what was found, without a line for each worker.
        print(done.stdout[max(done.stdout.rfind("**** Molotov"), 0) :], flush=True)
        if not results.exists():
            raise DemoError(f"Molotov ended with exit code {done.returncode}")
        document: dict[str, Any] = json.loads(results.read_text())
        return document


def _cores(document: dict[str, Any], source: str) -> float | None:
    """Return the cores that a target used in the mean while the capacity was held."""
    level = document["verdict"]["level"]
    for series in document["monitor"]:
        if series["source"] == source and level:
            values = series["columns"].get("cpu_cores_used", [])
            held = [
                value
                for at, value in zip(series["times_seconds"], values, strict=False)
                if value is not None and level["from_seconds"] <= at <= level["to_seconds"]
            ]
            if held:
                return sum(held) / len(held)
    return None


def _sum(used: list[float | None], factor: float, digits: int) -> str:
    """Show what each of the monitored targets used, Kinto first."""
    return " + ".join("?" if cores is None else f"{factor * cores:.{digits}f}" for cores in used)


def _row(case: str, target: Target, document: dict[str, Any]) -> str:
    capacity = document["sizing"]["search"]["capacity"]
    if capacity is None:
        return f"| {_NAMES[case]} | none found | | | | | | |"
    runs, requests, times = (
        capacity["runs_per_second"],
        capacity["requests_per_second"],
        capacity["service_times"],
    )
    used = [_cores(document, source) for source in target.monitor]
    verdict = document["verdict"]
    growth = [one["bytes_per_thousand_requests"] for one in verdict["memory_growth"]]
    bound = "at least " if verdict["resource"] == "generator" else ""
    cells = [
        _NAMES[case],
        f"{bound}{requests['mean']:.0f} req/s ({requests['low']:.0f}–{requests['high']:.0f})",  # noqa: RUF001
        f"{runs['mean']:.0f}",
        f"{capacity['level']:.0f}",
        " / ".join(f"{1000 * times[name]:.0f}" for name in ("p50_seconds", "p95_seconds", "p99_seconds")),
        _sum(used, 1.0, 2),
        _sum(used, 1000.0 / requests["mean"], 1),
        f"{max(growth) / 2**20:.1f} MiB" if growth else "–",  # noqa: RUF001
    ]
    return f"| {' | '.join(cells)} |"


_COLUMNS = [
    "Kinto",
    "capacity (95 %)",
    "runs/s",
    "workers",
    "p50 / p95 / p99, ms",
    "cores used",
    "CPU per request, ms",
    "memory per 1,000 requests",
]
_HEAD = f"| {' | '.join(_COLUMNS)} |\n|---{'|--:' * (len(_COLUMNS) - 1)}|\n"


def _write(table: str) -> None:
    text = _README.read_text()
    begin, end = (text.index(mark) for mark in _MARKS)
    _README.write_text(f"{text[: begin + len(_MARKS[0])]}{table}{text[end:]}")


def main() -> int:
    """Run the cases, print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Size Kinto with several backends")
    parser.add_argument("--case", action="append", choices=CASES, help="only this one; repeatable")
    parser.add_argument("--budget", type=float, default=180.0, help="seconds of the search after the ramp")
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where Kinto is kept")
    args = parser.parse_args()
    try:
        molotov, kinto = find_molotov(args.cache), install_kinto(args.cache)
        rows, said = [], []
        for case in args.case or CASES:
            with CASES[case](kinto) as target:
                document = _size(molotov, target, args.budget)
            rows.append(_row(case, target, document))
            said.append(f"{_NAMES[case]}: {document['verdict']['sentence']}")
    except DemoError as error:
        print(f"make kinto: {error}", file=sys.stderr)
        return 1
    table = _HEAD + "\n".join(rows) + "\n"
    print(table + "\n" + "\n".join(said))
    if args.write:
        _write(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
