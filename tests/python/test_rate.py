"""Runs that start at a rate: how many, when, by which workers, and what becomes of those that cannot."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal

import pytest
from _services import serving, tool
from command import Running, counts, run, write
from molotov import _core
from molotov._options import rate, stage_points
from test_results import Small, read

GETTING = """
import os, molotov

@molotov.scenario(weight=1)
async def get(session):
    async with session.get(os.environ["URL"] + "/x") as response:
        assert response.status == 200
        await response.read()
"""

# As many workers as starts: however late a busy machine is, there is one for each.
EVERY = ("-w", "100", "--rate-shape", "constant", "--json", "out.json", "-c")


def books(document):
    """Check that the starts add up, and return them."""
    starts, total = document["starts"], document["counts"]
    assert starts["intended"] == starts["started"] + starts["not_started"]
    assert (starts["waiting"], starts["started"]) == (0, total["started"])
    assert starts["late_without_worker"] <= starts["late"] <= starts["started"]
    for name in ("intended", "not_started", "late", "late_without_worker"):
        assert sum(document["series"][name]) == starts[name], name
    return starts


@pytest.mark.parametrize("processes", [1, 2])
def test_every_start_of_a_rate_is_made(tmp_path, processes):
    write(tmp_path, GETTING)
    with serving(Small) as (url, server):
        words = ("--rate", "50", "-d", "1.5", "-p", str(processes), "--csv", "out.csv")
        done = run(tmp_path, *EVERY, *words, URL=url)
        seen = len(server.seen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(done.stdout) == (75, 0)
    document = read(tmp_path / "out.json")
    starts = books(document)
    assert starts["intended"] == starts["started"] == seen == 75
    assert starts["most_workers"] == 100 * processes
    assert 1 <= document["counts"]["workers_started"] <= 75
    assert "75 of 75 intended starts were made." in done.stdout
    assert "Response times, from the intended start" in done.stdout
    (response,) = document["response_times"]
    service = {row["name"]: row for row in document["service_times"]}["get"]
    assert (response["kind"], response["name"], response["count"]) == ("response", "get", 75)
    assert response["mean_seconds"] >= service["mean_seconds"]
    assert response["max_seconds"] >= service["max_seconds"]
    asked = [target for target in document["series"]["target_per_second"] if target]
    assert set(asked) <= {50}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert sum(int(row["intended"]) for row in rows) == 75
    report = tool("report", "summary", "out.json", cwd=tmp_path)
    assert "75 of 75 intended starts were made." in report.stdout
    assert "Response times, from the intended start" in report.stdout
    markdown = tool("report", "markdown", "out.json", cwd=tmp_path).stdout
    assert "| response time in ms, from the intended start |" in markdown


def test_stages_start_as_many_as_their_area(tmp_path):
    write(tmp_path, GETTING)
    with serving(Small) as (url, server):
        done = run(tmp_path, *EVERY, "--stages", "0:0 0.5s:80 1s:80,1s:20 1500ms:20", URL=url)
        seen = len(server.seen)
    assert done.returncode == 0, done.stdout + done.stderr
    # A triangle, a plateau, and another after a jump.
    assert books(read(tmp_path / "out.json"))["started"] == seen == 20 + 40 + 10


def test_a_duration_cuts_the_stages(tmp_path):
    write(tmp_path, GETTING)
    with serving(Small) as (url, server):
        run(tmp_path, *EVERY, "--stages", "0:40 10m:40", "-d", "500ms", URL=url)
        seen = len(server.seen)
    assert books(read(tmp_path / "out.json"))["started"] == seen == 20


def test_a_seed_repeats_the_starts_over_any_number_of_processes(tmp_path):
    write(tmp_path, GETTING)
    found = []
    with serving(Small) as (url, server):
        for processes in ("1", "3"):
            before = len(server.seen)
            words = ("--rate", "60", "-d", "1", "--rate-seed", "7", "-w", "100", "-p", processes)
            run(tmp_path, "-c", *words, "--json", "out.json", URL=url)
            starts = books(read(tmp_path / "out.json"))
            assert (starts["shape"], starts["seed"]) == ("poisson", 7)
            assert starts["started"] == starts["intended"] == len(server.seen) - before
            found.append(starts["intended"])
    assert found[0] == found[1]
    assert 30 < found[0] < 100


SETTING_UP = """
import asyncio, molotov

@molotov.setup()
async def slow(worker_id, args):
    await asyncio.sleep(0.7)
    return {}
"""


def test_workers_that_are_being_set_up_when_the_schedule_ends_are_waited_for(tmp_path):
    write(tmp_path, SETTING_UP + GETTING)
    with serving(Small) as (url, server):
        run(tmp_path, *EVERY, "--rate", "40", "-d", "0.5", URL=url)
        seen = len(server.seen)
    starts = books(read(tmp_path / "out.json"))
    assert starts["started"] == seen == 20
    assert starts["late"] > starts["late_without_worker"] == 0


SLOW = """
import asyncio, molotov

@molotov.scenario()
async def slow(session):
    await asyncio.sleep(0.1)
"""


def test_starts_wait_for_busy_workers_and_are_counted(tmp_path):
    write(tmp_path, SLOW)
    words = ("--rate", "100", "--rate-shape", "constant", "-d", "1", "-w", "2", "--json", "out.json")
    limits = [
        word for rule in ("not-started==0", "late<1%", "response.max<1ms") for word in ("--threshold", rule)
    ]
    done = run(tmp_path, "-c", *words, *limits)
    assert done.returncode == 99
    document = read(tmp_path / "out.json")
    starts = books(document)
    # Two workers make twenty runs of 100 ms in a second, and start two more at its end.
    assert starts["intended"] == 100
    assert 2 <= starts["started"] <= 24
    assert starts["not_started"] >= 76
    assert starts["late_without_worker"] > 0
    assert starts["late_max_seconds"] >= starts["late_mean_seconds"] > 0.01
    assert document["counts"]["workers_started"] == 2
    assert "because all 2 workers were busy (-w)" in done.stdout
    assert f"{starts['not_started']} were not: no worker was free in time" in done.stdout
    (response,) = document["response_times"]
    (service,) = document["service_times"]
    assert response["max_seconds"] > service["max_seconds"]
    assert [outcome["passed"] for outcome in document["thresholds"]] == [False, False, False]


def test_runs_per_worker_end_a_run(tmp_path):
    write(tmp_path, GETTING)
    with serving(Small) as (url, server):
        words = ("--rate", "200", "-r", "2", "-w", "3", "--json", "out.json")
        done = run(tmp_path, "-c", *words, URL=url)
        assert len(server.seen) == 6
    assert counts(done.stdout) == (6, 0)
    document = read(tmp_path / "out.json")
    assert books(document)["started"] == 6
    assert document["counts"]["workers_started"] == 3


FAKING = """
async def no_sleep(seconds, result=None):
    return result

asyncio.sleep = no_sleep
"""
POLICY = """
class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return asyncio.SelectorEventLoop()

asyncio.set_event_loop_policy(Policy())
"""


@pytest.mark.parametrize("head", [FAKING, POLICY], ids=["faked sleep", "foreign loop"])
def test_it_works_on_other_loops_and_with_faked_time(tmp_path, head):
    write(tmp_path, f"import asyncio\n{head}\n{GETTING}")
    with serving(Small) as (url, server):
        done = run(tmp_path, *EVERY, "--rate", "40", "-d", "1", "--delay", "0.01", URL=url)
        seen = len(server.seen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert books(read(tmp_path / "out.json"))["started"] == seen == 40


PICKING = """
import molotov

@molotov.scenario_picker()
def pick(worker_id, step_id):
    return "one" if step_id % 2 else "two"

@molotov.scenario()
async def one(session):
    print("one", flush=True)

@molotov.scenario()
async def two(session):
    raise ValueError("two")
"""


def test_pickers_failures_and_single_mode(tmp_path):
    write(tmp_path, PICKING)
    done = run(tmp_path, *EVERY, "--rate", "40", "-d", "1", "--fail", "41")
    document = read(tmp_path / "out.json")
    assert books(document)["started"] == 40
    assert done.returncode == 0
    assert {row["name"] for row in document["response_times"]} <= {"one", "two"}
    done = run(tmp_path, *EVERY, "--rate", "40", "-d", "1", "-s", "two", "--fail", "40")
    assert (counts(done.stdout), done.returncode) == ((0, 40), 1)
    assert books(read(tmp_path / "out.json"))["started"] == 40


def test_a_configuration_file_sets_a_rate(tmp_path):
    write(tmp_path, GETTING)
    test = {"rate": 40, "rate_shape": "constant", "duration": 1, "workers": 100, "console": True}
    settings = {"molotov": {"tests": {"test": test, "bad": {**test, "rate": "fast"}}}}
    (tmp_path / "molotov.json").write_text(json.dumps(settings))
    with serving(Small) as (url, server):
        done = run(tmp_path, "--config", "molotov.json", "test", URL=url)
        assert len(server.seen) == 40
    assert counts(done.stdout) == (40, 0)
    done = run(tmp_path, "--config", "molotov.json", "bad")
    assert (done.returncode, done.stdout) == (104, "Bad config -- rate can't be 'fast'\n")


HANGING = """
import asyncio, molotov

@molotov.scenario()
async def hang(session):
    print("hanging", flush=True)
    await asyncio.sleep(3600)
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_a_forced_shutdown_interrupts_what_is_in_flight(tmp_path, processes):
    write(tmp_path, HANGING)
    words = ("--rate", "20", "-d", "1", "--force-shutdown", "-p", str(processes))
    done = run(tmp_path, *EVERY, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    document = read(tmp_path / "out.json")
    starts = books(document)
    assert starts["intended"] == 20
    assert document["counts"]["interrupted"] == starts["started"] > 0
    assert document["response_times"] == [] if "response_times" in document else True


@pytest.mark.parametrize("processes", [1, 2])
def test_the_books_are_closed_after_an_interruption(tmp_path, processes):
    write(tmp_path, HANGING)
    words = ("-c", "--rate", "50", "-w", "2", "-p", str(processes), "--force-shutdown", "--json", "out.json")
    with Running(tmp_path, *words) as running:
        running.wait_for("hanging", times=2 * processes)
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 0, output
    document = read(tmp_path / "out.json")
    starts = books(document)
    assert starts["started"] == document["counts"]["interrupted"] == 2 * processes


def test_a_killed_process_leaves_its_starts_unmade(tmp_path):
    write(
        tmp_path,
        HANGING.replace('"hanging"', '"pid", os.getpid()').replace("import asyncio", "import asyncio, os"),
    )
    words = ("--rate", "20", "-d", "2", "--force-shutdown", "-p", "2")
    with Running(tmp_path, *EVERY, *words) as running:
        running.wait_for("pid", times=4)
        victim = int(re.findall(r"pid (\d+)", running.output)[0])
        os.kill(victim, signal.SIGKILL)
        code, output = running.end()
    assert code == 1, output
    starts = books(read(tmp_path / "out.json"))
    # Also those that nobody was there for any more.
    assert starts["intended"] == 40
    assert starts["not_started"] > 0


def test_there_may_be_many_workers_unless_told_otherwise(tmp_path):
    write(tmp_path, GETTING)
    with serving(Small) as (url, _):
        for words, most in (((), 500), (("-w", "1"), 1)):
            run(tmp_path, "-c", "--rate", "10", "-d", "0.3", "--json", "out.json", *words, URL=url)
            assert books(read(tmp_path / "out.json"))["most_workers"] == most


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rate", "0"), "'0' is not a rate such as 300, 0.5 or 18000/m"),
        (("--rate", "fast"), "'fast' is not a rate"),
        (("--rate", "-5"), "'-5' is not a rate"),
        (("--rate", "3/x"), "'3/x' is not a rate"),
        (("--stages", "0:0"), "has less than two stages"),
        (("--stages", "0:0 30s"), "'30s' is not a stage such as 30s:200"),
        (("--stages", "0:0 later:5"), "'later' is not a duration"),
        (("--stages", "1s:0 30s:5"), "does not say the rate at 0"),
        (("--stages", "0:0 30s:5 20s:5"), "goes back in time"),
        (("--stages", "0:0 30s:0"), "never starts a run"),
        (("--rate-seed", "-1", "--rate", "5"), "'-1' is not a seed"),
        (("--rate-seed", "x", "--rate", "5"), "'x' is not a seed"),
        (("--rate-shape", "square", "--rate", "5"), "invalid choice"),
    ],
)
def test_what_is_no_rate_is_a_usage_error(tmp_path, words, message):
    write(tmp_path, GETTING)
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rate", "5", "--stages", "0:0 9:9"), "give one of them"),
        (("--rate", "5", "--single-run"), "--single-run"),
        (("--rate", "5", "--ramp-up", "5"), "--stages ramps up"),
        (("--rate", "5", "--sizing"), "--sizing-on rate"),
        (("--sizing-on", "rate"), "give both"),
        (("--sizing", "--sizing-on", "rate", "--stages", "0:0 9:9"), "leave --stages out"),
        (("--sizing", "--sizing-on", "rate", "--no-sizing-confirm"), "leave --no-sizing-confirm out"),
        (("--sizing", "--sizing-on", "rate", "--ramp-up", "5"), "up to --rate"),
        (("--rate-shape", "constant"), "needs --rate"),
        (("--rate-seed", "5"), "needs --rate"),
    ],
)
def test_what_cannot_be_combined_says_so_in_a_line(tmp_path, words, message):
    write(tmp_path, GETTING)
    done = run(tmp_path, "-c", *words)
    assert done.returncode == 104
    (line,) = (done.stdout + done.stderr).splitlines()
    assert message in line


def test_a_search_for_a_rate_finds_what_is_kept_up_with():
    """A service that ends 50 runs a second, in virtual time; each takes 20 ms when it does not wait."""
    search = _core.SizingSearch(rate=1000.0)
    state, recorder = _core.RunState(), _core.Recorder()
    # Started runs that have not ended, and what is left of whole numbers.
    queue, started, ended = 0.0, 0.0, 0.0
    for look in range(20_000):
        asked, _, over = search.step(look * 0.2, state, recorder)
        if over:
            break
        started += asked * 0.2
        queue += asked * 0.2
        done = min(queue, 10.0)
        queue -= done
        ended += done
        state.add("started", int(started) - state.started)
        state.add("succeeded", int(ended) - state.succeeded)
        state.add("workers", round(queue + 0.02 * asked) - state.workers)
    findings = json.loads(search.findings())
    capacity = findings["capacity"]
    assert findings["unit"] == "runs_per_second"
    assert capacity["confirmed"] and capacity["limit"] == "throughput"
    assert capacity["level"] == pytest.approx(50, rel=0.05)
    assert "runs/s offered, " in search.headline()
    with pytest.raises(ValueError, match="no rate"):
        _core.SizingSearch(rate=0.0)


def test_a_search_for_a_rate_can_be_interrupted(tmp_path):
    write(tmp_path, SLOW.replace("0.1", "0.01)\n    print('ran', flush=True"))
    words = ("-c", "--sizing", "--sizing-on", "rate", "--rate", "50", "-w", "20", "--json", "out.json")
    with Running(tmp_path, *words) as running:
        running.wait_for("ran", times=8)
        running.process.send_signal(signal.SIGINT)
        code, output = running.end()
    assert code == 0, output
    document = read(tmp_path / "out.json")
    assert books(document)["started"] >= 8
    assert document["sizing"]["search"]["unit"] == "runs_per_second"
    assert document["series"]["target_per_second"][-1] <= 50


def test_rates_and_stages_are_read():
    assert (rate("300"), rate("0.5"), rate("18000/m"), rate("2/s")) == (300, 0.5, 300, 2)
    assert stage_points("0:0 30s:200,5m:12000/m") == [(0, 0), (30, 200), (300, 200)]


def test_a_schedule_knows_its_rate():
    schedule = _core.Schedule([(0, 0), (10, 100)], duration=5)
    assert (schedule.end, schedule.total) == (5, 125)
    state = _core.RunState()
    assert schedule.asked(state) == 0
    followed = _core.Schedule()
    state.rate = 12.5
    assert followed.asked(state) == 12.5
    for arguments in ({"shape": "square"}, {"rate": -1.0}, {"stages": [(0, 1)]}):
        with pytest.raises(ValueError, match=r"shape|rate|points"):
            _core.Schedule(**arguments)


def test_the_live_line_shows_what_is_asked_for():
    from molotov.ui.status import LiveStatus

    status = LiveStatus(io.StringIO())
    now = 100.0
    status.line({"TARGET": 300, "STARTED": 0}, now)
    line = status.line({"TARGET": 300, "STARTED": 298}, now + 1)
    assert line.startswith("target 300 runs/s, started 298")
