"""Fixtures, events, contexts and sessions of a run, in their order."""

from __future__ import annotations

import socket

import pytest
from _services import Handler, serving
from command import counts, run, write


class Hello(Handler):
    def do_GET(self):
        self.answer(200, {"hello": "world"})

    do_POST = do_GET


ALL = """
import asyncio, os, molotov

def note(*words):
    print(*words, flush=True)

@molotov.global_setup()
def everything(args):
    note("global_setup", args.workers, hasattr(args, "shared_console"))

@molotov.setup()
async def worker(wid, args):
    note("setup", wid, args.max_runs, args.original_pid == os.getpid())
    return {"headers": {"X-Test": "1"}}

@molotov.setup_session()
async def session(wid, session):
    context = molotov.get_context(session)
    session.own = "own"
    context.attach("thing", "thing")
    note("setup_session", wid, context.worker_id, context.step, context.statsd, session.loop is not None)

@molotov.scenario()
async def step(session):
    context = molotov.get_context(session)
    note("step", context.worker_id, context.step, session.own, context.thing, context.args.max_runs)

@molotov.teardown_session()
async def session_done(wid, session):
    note("teardown_session", wid, session.closed)

@molotov.teardown()
def worker_done(wid):
    note("teardown", wid)

@molotov.global_teardown()
def done():
    note("global_teardown")
"""


def test_the_order_of_fixtures(tmp_path):
    write(tmp_path, ALL)
    done = run(tmp_path, "-q", "-r", "2")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "global_setup 1 True",
        "setup 0 2 True",
        "setup_session 0 0 None None True",
        "step 0 1 own thing 2",
        "step 0 2 own thing 2",
        "teardown_session 0 False",
        "teardown 0",
        "global_teardown",
    ]


@pytest.mark.parametrize(
    ("fixture", "words"),
    [
        ("@molotov.setup()\nasync def f(wid, args):\n    raise ValueError('bad setup')", "bad setup"),
        (
            "@molotov.setup()\nasync def f(wid, args):\n    return 1",
            "The setup function needs to return a dict",
        ),
        ("@molotov.setup_session()\nasync def f(wid, session):\n    raise ValueError('bad one')", "bad one"),
    ],
)
def test_a_failing_setup_exits_1_and_runs_nothing(tmp_path, fixture, words):
    write(
        tmp_path,
        f"""
import molotov

{fixture}

@molotov.teardown()
def down(wid):
    print("teardown", wid)

@molotov.scenario()
async def step(session):
    print("ran")
""",
    )
    done = run(tmp_path, "-c", "-w", "2")
    assert done.returncode == 1
    assert words in done.stdout
    assert "ran" not in done.stdout.splitlines()
    assert "teardown 0" in done.stdout
    assert counts(done.stdout) == (0, 0)


def test_a_failing_global_setup_shows_its_traceback(tmp_path):
    write(
        tmp_path,
        """
import molotov

@molotov.global_setup()
def f(args):
    raise ValueError("bad start")

@molotov.global_teardown()
def down():
    print("never")

@molotov.scenario()
async def step(session):
    pass
""",
    )
    done = run(tmp_path, "-c")
    assert done.returncode == 1
    assert done.stdout == "The global_setup() fixture failed\n"
    assert done.stderr.startswith("Traceback")
    assert "bad start" in done.stderr
    assert "runner.py" not in done.stderr


def test_failing_teardowns_are_printed_and_ignored(tmp_path):
    write(
        tmp_path,
        """
import molotov

@molotov.teardown_session()
async def a(wid, session):
    raise ValueError("one")

@molotov.teardown()
def b(wid):
    raise ValueError("two")

@molotov.global_teardown()
def c():
    raise ValueError("three")

@molotov.scenario()
async def step(session):
    pass
""",
    )
    done = run(tmp_path, "-c", "-r", "1")
    assert done.returncode == 0
    assert counts(done.stdout) == (1, 0)
    for word in ("one", "two", "three"):
        assert f"ValueError('{word}')" in done.stdout


def test_a_session_that_cannot_be_made_fails_its_runs_only(tmp_path):
    write(
        tmp_path,
        """
import molotov

@molotov.scenario()
async def plain(session):
    pass

@molotov.scenario()
async def special(session, session_factory="nobody_makes_these"):
    pass

@molotov.scenario()
async def zero(session, session_factory="http"):
    pass
""",
    )
    done = run(tmp_path, "-c", "--single-run")
    assert done.returncode == 0
    assert counts(done.stdout) == (2, 1)
    assert "[W:0] Session creation failure!\nKeyError('nobody_makes_these')\n" in done.stdout


def test_a_setup_that_fits_no_session_fails_every_run(tmp_path):
    write(
        tmp_path,
        """
import molotov

@molotov.setup()
async def f(wid, args):
    return {"no_such_option": 1}

@molotov.scenario()
async def step(session):
    pass
""",
    )
    done = run(tmp_path, "-c", "-r", "3")
    assert done.returncode == 0
    assert counts(done.stdout) == (0, 3)
    assert "no_such_option" in done.stdout


def test_events_of_scenarios_and_requests(tmp_path):
    write(
        tmp_path,
        """
import os, molotov

@molotov.events()
async def listen(event, **info):
    info.pop("session", None)
    if event == "scenario_failure":
        print(event, info["wid"], info["scenario"]["name"], repr(info["exception"]))
    elif event.startswith("scenario"):
        print(event, info["wid"], sorted(info["scenario"]))
    elif event == "response_received":
        print(event, info["response"].status, await info["response"].json(), info["request"].method)
    elif event == "current_workers":
        print(event, type(info["workers"]).__name__)
    else:
        print(event, sorted(info))

@molotov.scenario()
async def good(session):
    async with session.get(os.environ["URL"]) as response:
        assert (await response.json())["hello"] == "world"

@molotov.scenario()
async def wrong(session):
    raise ValueError("no")
""",
    )
    with serving(Hello) as (url, _):
        done = run(tmp_path, "-c", "--single-run", URL=url)
    assert counts(done.stdout) == (1, 1), done.stdout
    lines = done.stdout.splitlines()
    assert "current_workers int" in lines
    assert [line for line in lines if line.startswith(("scenario", "sending", "response"))] == [
        "scenario_start 0 ['args', 'delay', 'func', 'kw', 'name', 'weight']",
        "sending_request ['request']",
        "response_received 200 {'hello': 'world'} GET",
        "scenario_success 0 ['args', 'delay', 'func', 'kw', 'name', 'weight']",
        "scenario_start 0 ['args', 'delay', 'func', 'kw', 'name', 'weight']",
        "scenario_failure 0 wrong ValueError('no')",
    ]


def test_a_listener_that_raises_is_printed(tmp_path):
    write(
        tmp_path,
        """
import molotov

@molotov.events()
async def listen(event, **info):
    if event == "scenario_start":
        raise ValueError("bad listener")

@molotov.scenario()
async def step(session):
    pass
""",
    )
    done = run(tmp_path, "-c", "-r", "1")
    assert counts(done.stdout) == (1, 0)
    assert "bad listener" in done.stdout


def test_verbose_shows_requests_and_responses(tmp_path):
    write(
        tmp_path,
        """
import os, molotov

@molotov.scenario()
async def step(session):
    async with session.post(os.environ["URL"] + "/x", data="the body") as response:
        assert (await response.json()) == {"hello": "world"}
""",
    )
    with serving(Hello) as (url, _):
        done = run(tmp_path, "-cvv", "-r", "1", URL=url)
    assert counts(done.stdout) == (1, 0), done.stdout
    assert f"\nPOST {url}/x\n" in done.stdout
    assert "\nthe body\n" in done.stdout
    assert "\nHTTP/1.1 200 OK\n" in done.stdout
    assert '{"hello": "world"}' in done.stdout


def test_a_scenario_picker(tmp_path):
    write(
        tmp_path,
        """
import molotov

@molotov.scenario_picker()
def pick(worker_id, step_id):
    return ["one", "two", None][step_id - 1]

@molotov.scenario()
async def one(session):
    print("one")

@molotov.scenario()
async def two(session):
    print("two")
""",
    )
    done = run(tmp_path, "-c", "-r", "3")
    assert counts(done.stdout) == (2, 1)
    assert "Could not pick a scenario" in done.stdout
    assert [line for line in done.stdout.splitlines() if line in ("one", "two")] == ["one", "two"]


def test_session_factories(tmp_path):
    write(
        tmp_path,
        """
import molotov

class Own:
    def __init__(self, trace_config, options):
        self._trace_configs = [trace_config]
        self.options = options

    async def close(self):
        print("closed", self.options)

@molotov.session_factory("own")
def make(loop, console, verbose, statsd, trace_config, **options):
    return Own(trace_config, options)

@molotov.setup()
async def up(wid, args):
    return {"from_setup": 1}

@molotov.scenario()
async def step(session, session_factory="own", url="somewhere"):
    context = molotov.get_context(session)
    print("ran", type(session).__name__, context.worker_id, context.step)
""",
    )
    done = run(tmp_path, "-c", "-r", "2")
    assert counts(done.stdout) == (2, 0), done.stdout
    assert "[W:0] Setting up session of kind own" in done.stdout
    assert "ran Own 0 1\nran Own 0 2\n" in done.stdout
    assert "closed {'from_setup': 1, 'url': 'somewhere'}" in done.stdout


def test_shared_variables_and_requests(tmp_path):
    write(
        tmp_path,
        """
import asyncio, os, molotov

@molotov.global_setup()
def start(args):
    answer = molotov.request(os.environ["URL"])
    print(answer["status"], answer["content"], answer["headers"]["content-type"])
    molotov.set_var("answer", molotov.json_request(os.environ["URL"], verb="POST")["content"])

@molotov.scenario()
async def step(session):
    assert molotov.get_var("answer") == {"hello": "world"}
    assert molotov.get_var("event", factory=asyncio.Event) is molotov.get_var("event")
""",
    )
    with serving(Hello) as (url, _):
        done = run(tmp_path, "-c", "-w", "2", "-r", "1", URL=url)
    assert done.stdout.startswith('200 {"hello": "world"} application/json\n')
    assert counts(done.stdout) == (2, 0)


def test_delays_of_scenarios_and_of_the_command_line(tmp_path):
    write(
        tmp_path,
        """
import molotov, time

times = []

@molotov.scenario(delay=0.05)
async def step(session):
    times.append(time.monotonic())

@molotov.global_teardown()
def show():
    print("gap", times[1] - times[0] >= 0.1)
""",
    )
    done = run(tmp_path, "-c", "-r", "2", "--delay", "0.05")
    assert "gap True" in done.stdout


def test_statsd_gets_requests_and_own_metrics(tmp_path):
    write(
        tmp_path,
        """
import os, molotov

@molotov.scenario()
async def step(session):
    molotov.get_context(session).statsd.increment("own")
    async with session.get(os.environ["URL"] + "/x/y?z=1") as response:
        await response.read()
""",
    )
    with serving(Hello) as (url, _), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        address = f"udp://127.0.0.1:{server.getsockname()[1]}"
        done = run(tmp_path, "-c", "-r", "1", "--statsd", "--statsd-address", address, URL=url)
        assert counts(done.stdout) == (1, 0), done.stdout
        received = [server.recv(1000).decode() for _ in range(3)]
    name = f"molotov.{socket.gethostname()}.GET.127.0.0.1./x/y"
    assert received[0] == "own:1|c"
    assert received[1].startswith(f"{name}:") and received[1].endswith("|ms")
    assert received[2] == f"{name}.200:1|c"


def test_background_tasks_end_with_the_run(tmp_path):
    write(
        tmp_path,
        """
import asyncio, molotov

kept = []

@molotov.scenario()
async def step(session):
    kept.append(asyncio.ensure_future(asyncio.sleep(3600)))
""",
    )
    done = run(tmp_path, "-c", "-r", "1")
    assert counts(done.stdout) == (1, 0)
    assert done.stderr == ""


def test_a_hand_made_namespace_may_lack_options(tmp_path):
    write(
        tmp_path,
        """
import io, types
import molotov
from molotov.run import run

@molotov.scenario()
async def step(session):
    pass

if __name__ == "__main__":
    out = io.StringIO()
    results = run(types.SimpleNamespace(scenario="json", max_runs=2, quiet=False), stream=out)
    print(results["OK"], results["FAILED"], results["MAX_WORKERS"], "SUCCESSES: 2" in out.getvalue())
""",
        "program.py",
    )
    import subprocess
    import sys

    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "2 0 1 True"
