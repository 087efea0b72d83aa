"""Bad scripts, signals in every phase, killed children, bad command lines: one clear end, nothing lost.

Longer than usual: a list of faults that share one way to run a script.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import servers
from runs import Outcome, Run, command, run
from servers import BadServer

pytestmark = pytest.mark.timeout(90)

SIGNALS = [signal.SIGINT, signal.SIGTERM]
PASS = """
@scenario()
async def passes(session):
    pass
"""


# Scenarios that misbehave


def test_base_exception_is_counted(tmp_path: Path) -> None:
    """A BaseException of the script's own fails its run; it neither ends the worker nor gets lost."""
    body = """
class Odd(BaseException):
    pass

@scenario()
@reports
async def odd(session):
    raise Odd("very odd")
"""
    outcome = run(tmp_path, body, "-w", "2", "-r", "3")
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (0, 6)
    assert "very odd" in outcome.out


@pytest.mark.parametrize(
    "error", ["asyncio.CancelledError()", "StopIteration(5)", "GeneratorExit()", "KeyError(1)"]
)
def test_awkward_exceptions_are_counted(error: str, tmp_path: Path) -> None:
    """Exceptions that event loops treat specially still fail just that run."""
    body = f"""
@scenario()
@reports
async def awkward(session):
    if marks("ran") % 2:
        mark("ran")
        return
    mark("ran")
    raise {error}
"""
    outcome = run(tmp_path, body, "-w", "1", "-r", "6")
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (3, 3)


def test_sys_exit_in_a_scenario(tmp_path: Path) -> None:
    """The exit code that a scenario asks for is the run's."""
    body = """
@scenario()
async def leaves(session):
    sys.exit(3)
"""
    outcome = run(tmp_path, body, "-w", "2", "-r", "3")
    outcome.assert_clean()
    assert outcome.code == 3


def test_sys_exit_in_global_setup(tmp_path: Path) -> None:
    """A script may refuse to start."""
    body = (
        """
@global_setup()
def leave(args):
    print("not today")
    sys.exit(7)
"""
        + PASS
    )
    outcome = run(tmp_path, body, "-r", "1")
    outcome.assert_clean()
    assert outcome.code == 7
    assert "not today" in outcome.out


def test_global_setup_fails(tmp_path: Path) -> None:
    """Its error is shown, nothing runs, global_teardown is not called."""
    body = """
@global_setup()
def fail(args):
    raise ValueError("no database")

@global_teardown()
def end():
    mark("ended")
""" + PASS.replace("pass\n", "mark('ran')\n")
    outcome = run(tmp_path, body, "-r", "1")
    outcome.assert_clean()
    assert outcome.code == 1
    assert "no database" in outcome.out + outcome.err
    assert not outcome.marked("ended")


@pytest.mark.parametrize("fixture", ["setup", "setup_session"])
def test_failing_fixture_runs_nothing(fixture: str, tmp_path: Path) -> None:
    """A worker that cannot be prepared runs no scenario, and the run says so with its exit code."""
    body = f"""
@{fixture}()
async def fail(worker_id, other):
    raise ValueError("no login")

@scenario()
async def never(session):
    mark("ran")
"""
    outcome = run(tmp_path, body, "-w", "2", "-r", "3")
    outcome.assert_clean()
    assert outcome.code == 1
    assert outcome.counts == (0, 0)
    assert "no login" in outcome.out + outcome.err
    assert not outcome.marked("ran")


def test_failing_teardowns_are_shown(tmp_path: Path) -> None:
    """Errors of the three teardowns are printed and change nothing."""
    body = (
        """
@teardown_session()
async def one(worker_id, session):
    raise ValueError("first teardown")

@teardown()
def two(worker_id):
    raise ValueError("second teardown")

@global_teardown()
def three():
    raise ValueError("third teardown")
"""
        + PASS
    )
    outcome = run(tmp_path, body, "-w", "1", "-r", "3")
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (3, 0)
    for text in ("first teardown", "second teardown", "third teardown"):
        assert text in outcome.out + outcome.err


def test_blocking_scenario(tmp_path: Path) -> None:
    """``time.sleep`` stalls the loop, and that is all it does."""
    body = """
@scenario()
async def blocks(session):
    time.sleep(0.3)
    async with session.get(URL) as response:
        assert (await response.json())["result"] == "OK"
"""
    with BadServer(servers.well_behaved) as server:
        outcome = run(tmp_path, body, "-w", "3", "-r", "2", url=server.url)
    outcome.assert_clean()
    assert outcome.counts == (6, 0)
    assert server.requests == 6


def test_force_shutdown_ends_a_scenario_that_waits_for_ever(tmp_path: Path) -> None:
    """With the option, the end of the duration cancels what still runs; nothing is counted as success."""
    body = """
@scenario()
async def waits(session):
    mark("waits")
    try:
        await asyncio.Event().wait()
    finally:
        mark("left")
"""
    outcome = run(tmp_path, body, "-w", "2", "-d", "1", "--force-shutdown")
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts[0] == 0
    assert outcome.marked("waits") == outcome.marked("left") == 2


def test_output_flood_loses_nothing(tmp_path: Path) -> None:
    """Every printed line arrives, and every failure is counted."""
    body = """
@scenario()
async def talks(session):
    print(f"line {marks('said')}")
    mark("said")
    assert marks("said") % 2, "even"
"""
    outcome = run(tmp_path, body, "-w", "1", "-r", "400")
    outcome.assert_clean()
    assert outcome.counts == (200, 200)
    assert len(re.findall(r"^line \d+$", outcome.out, re.M)) == 400
    assert "even" in outcome.out


def test_never_awaited_request(tmp_path: Path) -> None:
    """A request that nobody awaits is the script's bug: the worker goes on."""
    body = """
@scenario()
@reports
async def forgets(session):
    data = session.get(URL).json()
"""
    with BadServer(servers.well_behaved) as server:
        outcome = run(tmp_path, body, "-w", "2", "-r", "2", url=server.url)
    assert outcome.code == 0
    assert outcome.counts == (0, 4)
    assert all("AttributeError" in raised for raised in outcome.raised)


# Signals


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_while_running(number: signal.Signals, tmp_path: Path) -> None:
    """The step in flight ends, teardowns run, the counts agree with the server's."""
    body = """
@scenario()
async def fetch(session):
    async with session.get(URL) as response:
        await response.read()
    mark("done")

@teardown_session()
async def close(worker_id, session):
    assert not session.closed
    mark("closed")

@teardown()
def leave(worker_id):
    mark("left")

@global_teardown()
def end():
    mark("ended")
"""
    with (
        BadServer(servers.well_behaved) as server,
        Run(tmp_path, body, "-w", "5", url=server.url) as running,
    ):
        running.wait_for(lambda: server.requests > 100)
        running.signal(number)
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (outcome.marked("done"), 0)
    assert outcome.counts[0] == server.requests
    assert outcome.marked("closed") == outcome.marked("left") == 5
    assert outcome.marked("ended") == 1
    assert "*** Bye ***" in outcome.out


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_during_ramp_up(number: signal.Signals, tmp_path: Path) -> None:
    """Workers that have not started yet never do, and nobody waits for them."""
    body = """
@scenario()
async def step(session):
    mark("step")
    await asyncio.sleep(0.01)
"""
    with Run(tmp_path, body, "-w", "4", "--ramp-up", "4000") as running:
        running.wait_for("step")
        running.signal(number)
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (outcome.marked("step"), 0)


@pytest.mark.parametrize("option", [["--delay", "4000"], ["--delay", "4000", "-q"]], ids=["loud", "quiet"])
@pytest.mark.parametrize("number", SIGNALS)
def test_signal_during_a_delay(number: signal.Signals, option: list[str], tmp_path: Path) -> None:
    """The tester's own sleeps are cut short."""
    with Run(tmp_path, PASS.replace("pass\n", "mark('step')\n"), "-w", "2", *option) as running:
        running.wait_for(lambda: (running.marks / "step").exists())
        running.signal(number)
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.code == 0
    if "-q" not in option:
        assert outcome.counts == (outcome.marked("step"), 0)


def test_signal_during_a_scenario_delay(tmp_path: Path) -> None:
    """So is the delay that a scenario declares."""
    body = PASS.replace("@scenario()", "@scenario(delay=4000)").replace("pass\n", "mark('step')\n")
    with Run(tmp_path, body, "-w", "2") as running:
        running.wait_for("step")
        running.signal(signal.SIGTERM)
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.counts == (outcome.marked("step"), 0)


@pytest.mark.parametrize("fixture", ["setup", "setup_session"])
def test_signal_during_a_fixture(fixture: str, tmp_path: Path) -> None:
    """A signal while workers are being prepared: they finish preparing and stop."""
    body = f"""
@{fixture}()
async def prepare(worker_id, other):
    mark("preparing")
    while not marks("go on"):
        await asyncio.sleep(0.01)
    mark("prepared")
    return {{}}

@scenario()
async def step(session):
    mark("step")
    await asyncio.sleep(0.01)
"""
    with Run(tmp_path, body, "-w", "2") as running:
        running.wait_for("preparing")
        running.signal(signal.SIGTERM)
        (running.marks / "go on").write_text("x")
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (outcome.marked("step"), 0)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_during_teardown(number: signal.Signals, tmp_path: Path) -> None:
    """A signal that comes when the run is over anyway changes nothing."""
    body = (
        """
@teardown_session()
async def close(worker_id, session):
    mark("closing")
    while not marks("go on"):
        await asyncio.sleep(0.01)
    mark("closed")
"""
        + PASS
    )
    with Run(tmp_path, body, "-w", "1", "-r", "2") as running:
        running.wait_for("closing")
        running.signal(number)
        (running.marks / "go on").write_text("x")
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (2, 0)
    assert outcome.marked("closed") == 1


FOR_EVER = """
@scenario()
async def waits(session):
    mark("waits")
    try:
        await asyncio.Event().wait()
    finally:
        mark("left")

@teardown()
def leave(worker_id):
    mark("teardown")
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_second_signal_ends_at_once(number: signal.Signals, tmp_path: Path) -> None:
    """The first signal waits for the steps in flight, the second cancels them and still prints the counts."""
    with Run(tmp_path, FOR_EVER, "-w", "3") as running:
        running.wait_for(lambda: _marked(running, "waits") == 3)
        running.signal(number)
        time.sleep(0.5)  # signals that come together count as one
        assert running.process.poll() is None
        assert not _marked(running, "left")
        running.signal(number)
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.counts[0] == 0
    assert outcome.marked("left") == outcome.marked("teardown") == 3


def test_flood_of_signals_ends(tmp_path: Path) -> None:
    """Somebody who keeps the key pressed gets out too."""
    with Run(tmp_path, FOR_EVER, "-w", "3") as running:
        running.wait_for("waits")
        while running.process.poll() is None:
            running.signal(signal.SIGINT)
            time.sleep(0.02)
        outcome = running.finish()
    assert "panicked" not in outcome.out + outcome.err


def test_signal_with_processes(tmp_path: Path) -> None:
    """SIGTERM to the parent stops the children too, and their counts arrive."""
    body = """
@scenario()
async def fetch(session):
    async with session.get(URL) as response:
        await response.read()
"""
    with (
        BadServer(servers.well_behaved) as server,
        Run(tmp_path, body, "-w", "3", "-p", "2", url=server.url) as running,
    ):
        running.wait_for(lambda: server.requests > 50)
        running.signal(signal.SIGTERM)
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (server.requests, 0)


def test_interrupt_of_the_whole_group(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches parent and children together: one summary, every count."""
    body = """
@scenario()
async def fetch(session):
    async with session.get(URL) as response:
        await response.read()
"""
    with (
        BadServer(servers.well_behaved) as server,
        Run(tmp_path, body, "-w", "3", "-p", "2", url=server.url, start_new_session=True) as running,
    ):
        running.wait_for(lambda: server.requests > 50)
        os.killpg(running.process.pid, signal.SIGINT)
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (server.requests, 0)
    assert outcome.out.count("*** Bye ***") == 1


def test_interrupt_before_a_child_has_its_handlers(tmp_path: Path) -> None:
    """Ctrl-C may come in the moment of the fork: no child is lost by it."""
    body = """
import os
import signal


os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))


@scenario()
async def fetch(session):
    async with session.get(URL) as response:
        await response.read()
"""
    with (
        BadServer(servers.well_behaved) as server,
        Run(tmp_path, body, "-w", "3", "-p", "2", "-r", "5", url=server.url) as running,
    ):
        outcome = running.finish()
    outcome.assert_clean()
    assert outcome.code == 0
    assert outcome.counts == (2 * 3 * 5, 0)
    assert server.requests == 2 * 3 * 5


# Children


def test_killed_child(tmp_path: Path) -> None:
    """A child that is killed is named with its signal; all counts up to its death are there."""
    body = """
@scenario()
async def step(session):
    mark("step")
    if os.getpid() != marks("parent") and marks("step") > 20:
        try:
            os.close(os.open("killed", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
"""
    outcome = run(tmp_path, body, "-w", "2", "-r", "20", "-p", "3")
    outcome.assert_clean()
    assert outcome.code == 1
    assert "SIGKILL" in outcome.out + outcome.err
    successes, failures = outcome.counts
    assert failures <= 1
    assert 80 <= successes + failures < 120
    # Its step in flight was started and never ended.
    assert outcome.marked("step") - 1 <= successes + failures <= outcome.marked("step")


def test_exception_option_stops_every_process(tmp_path: Path) -> None:
    """``-x`` in one process stops the others."""
    body = """
@scenario()
async def step(session):
    mark("step")
    await asyncio.sleep(0.01)
    if marks("step") > 20 and not marks("failed"):
        mark("failed")
        raise ValueError("stop here")
"""
    outcome = run(tmp_path, body, "-w", "2", "-p", "2", "-x")
    outcome.assert_clean()
    assert outcome.code == 0
    assert sum(outcome.counts) == outcome.marked("step")
    assert outcome.counts[1] >= 1


def test_fail_option(tmp_path: Path) -> None:
    """``--fail`` decides the exit code, quiet or not."""
    body = """
@scenario()
async def fails(session):
    assert False
"""
    assert run(tmp_path, body, "-r", "2", "--fail", "2").code == 1
    assert run(tmp_path, body, "-r", "2", "--fail", "3").code == 0
    quiet = run(tmp_path, body, "-r", "2", "--fail", "2", "-q")
    assert quiet.code == 1
    assert quiet.out == ""


# Command lines


def _one_clear_line(outcome: Outcome, text: str, *codes: int) -> None:
    outcome.assert_clean()
    everything = outcome.out + outcome.err
    assert outcome.code in codes, everything
    assert text in everything
    assert "Traceback" not in everything


def test_missing_file(tmp_path: Path) -> None:
    """The name is repeated, with the hint of old."""
    outcome = command(tmp_path, "-c", "nothing_here.py")
    _one_clear_line(outcome, "Cannot import 'nothing_here.py'", 1)
    assert "*** Bye ***" in outcome.out


def test_directory(tmp_path: Path) -> None:
    """A directory is no script."""
    (tmp_path / "folder").mkdir()
    _one_clear_line(command(tmp_path, "-c", "folder"), "folder", 1)


def test_unreadable_file(tmp_path: Path) -> None:
    """A file without read permission (root reads everything, so a dangling link stands in for it there)."""
    script = tmp_path / "secret.py"
    if os.geteuid() == 0:
        script.symlink_to(tmp_path / "gone.py")
    else:
        script.write_text("")
        script.chmod(0)
    outcome = command(tmp_path, "-c", "secret.py")
    outcome.assert_clean()
    assert outcome.code == 1
    assert "secret.py" in outcome.out + outcome.err


def test_bytes_that_are_no_script(tmp_path: Path) -> None:
    """NUL bytes and broken UTF-8 in place of Python."""
    (tmp_path / "binary.py").write_bytes(b"\x00\xff\xfe\x7fELF")
    outcome = command(tmp_path, "-c", "binary.py")
    outcome.assert_clean()
    assert outcome.code == 1


def test_syntax_error(tmp_path: Path) -> None:
    """Python's own message with file and line is the clearest there is."""
    (tmp_path / "broken.py").write_text("from molotov import scenario\n\nasync def broken(:\n    pass\n")
    outcome = command(tmp_path, "-c", "broken.py")
    outcome.assert_clean()
    assert outcome.code == 1
    assert "SyntaxError" in outcome.err
    assert "broken.py" in outcome.err


def test_script_raises(tmp_path: Path) -> None:
    """An error while the script is imported keeps its own traceback."""
    (tmp_path / "broken.py").write_text("1 / 0\n")
    outcome = command(tmp_path, "-c", "broken.py")
    outcome.assert_clean()
    assert outcome.code == 1
    assert "ZeroDivisionError" in outcome.err


def test_no_scenario(tmp_path: Path) -> None:
    """A script without scenarios, or only with weight 0."""
    (tmp_path / "empty.py").write_text("")
    _one_clear_line(command(tmp_path, "-c", "empty.py"), "You need at least one scenario", 1)
    (tmp_path / "zero.py").write_text(
        "from molotov import scenario\n@scenario(weight=0)\nasync def off(session): pass\n"
    )
    _one_clear_line(command(tmp_path, "-c", "zero.py"), "A scenario with a weight of 0 is ignored", 1)


def test_unknown_option(tmp_path: Path) -> None:
    """A usage error."""
    outcome = command(tmp_path, "--no-such-option")
    _one_clear_line(outcome, "--no-such-option", 2)
    assert "usage:" in outcome.err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["-q", "-v"], "You can't use -q and -v at the same time"),
        (["-s", "nope"], "Can't find 'nope' in registered scenarii"),
        (["--single-run", "-s", "passes"], "and --single-run"),
        (["--use-extension=no_such_extension"], "Cannot import 'no_such_extension'"),
    ],
)
def test_options_that_do_not_fit(options: list[str], text: str, tmp_path: Path) -> None:
    """Each is named in one line."""
    (tmp_path / "script.py").write_text(
        "from molotov import scenario\n@scenario()\nasync def passes(session): pass\n"
    )
    outcome = command(tmp_path, "script.py", "-c", *options)
    outcome.assert_clean()
    assert outcome.code == 1
    assert text in outcome.out


CONFIGURATIONS = {
    "missing": (None, "Can't find 'molotov.json'"),
    "not JSON": ("{not json", "Can't parse 'molotov.json'"),
    "no molotov key": ("{}", "Bad config -- no molotov key"),
    "no tests": (json.dumps({"molotov": {}}), "Bad config -- no molotov/tests key"),
    "unknown test": (json.dumps({"molotov": {"tests": {"other": {}}}}), "Can't find 'mine' in the config"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_bad_configuration(name: str, tmp_path: Path) -> None:
    """The original's messages, with an exit code that CI notices."""
    content, text = CONFIGURATIONS[name]
    if content is not None:
        (tmp_path / "molotov.json").write_text(content)
    _one_clear_line(command(tmp_path, "--config", "molotov.json", "mine"), text, 104)


def _marked(running: Run, name: str) -> int:
    path = running.marks / name
    return path.stat().st_size if path.exists() else 0
