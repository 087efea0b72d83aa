"""`autosizer` on local services: results, failures, signals at every step, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from autosizing import Place, finish


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    assert place.leftovers() == []


def can_limit() -> bool:
    """Whether this user may make control groups here."""
    roots = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu")]
    return any(os.access(root, os.W_OK) and (root / "cgroup.procs").exists() for root in roots)


def document(place: Place, name: str = "out.json") -> Any:
    return json.loads((place.folder / name).read_text())


def test_a_service_is_started_measured_and_stopped(place: Place) -> None:
    words = place.local(
        "ok", "--json", "out.json", "--markdown", "out.md", "--csv", "out.csv", "--html", "out.html"
    )
    outcome = place.call(*words, "-w", "4")
    assert outcome.code == 0, outcome
    found = document(place)
    assert found["counts"]["failed"] == 0
    assert found["counts"]["succeeded"] == 80
    assert found["service"]["ended"] is None
    assert found["autosizer"]["rows"][0]["load_exit_code"] == 0
    watched = [series["source"] for series in found["monitor"]]
    assert watched == ["generator", "service"]
    assert found["service"]["facts"]["measured_by"].startswith(("cgroup:/molotov-", "pid:"))
    # Nothing that people read names what the run had to make up.
    assert "molotov-" not in found["verdict"]["sentence"] + (place.folder / "out.md").read_text()
    assert "SUCCESSES: 80" in outcome.out
    assert "[now] Starting" in outcome.err and "It answers (status 200)" in outcome.err
    assert "no limits" in (place.folder / "out.md").read_text()
    assert (place.folder / "out.csv").read_text().count("\n") == 2
    assert "<html" in (place.folder / "out.html").read_text()
    # The other command reads it.
    report = [sys.executable, "-m", "molotov.report", "summary", "out.json"]
    shown = subprocess.run(report, cwd=place.folder, capture_output=True, text=True, check=True)
    assert "80" in shown.stdout


def test_the_command_that_is_shown_has_no_values_of_variables(place: Place) -> None:
    words = place.local("ok", "--env", "A=correct-horse", "--env=B=battery-staple", "--json", "out.json")
    assert place.call(*words).code == 0
    command = document(place)["meta"]["command"]
    assert command[:2] == ["autosizer", "run"] and command[-4:] == ["--", "--max-runs", "20", "-c"]
    assert command[command.index("--env") + 1] == "A" and "--env=B" in command
    text = (place.folder / "out.json").read_text()
    assert "correct-horse" not in text and "battery-staple" not in text


def test_steps_are_written_for_machines(place: Place) -> None:
    assert place.call(*place.local("ok")).code == 0
    lines = (place.folder / "steps.jsonl").read_text().splitlines()
    seen = [(entry.get("step"), entry["event"]) for entry in map(json.loads, lines)]
    for step in ("start", "ready", "stop"):
        assert seen.index((step, "begin")) < seen.index((step, "done")), seen


def test_a_sizing_finds_a_capacity_and_what_limits_it(place: Place) -> None:
    words = place.local("ok", "--json", "out.json", "--", "-w", "8", "--sizing", "--sizing-budget", "6", "-c")
    outcome = place.call(*[word for word in words if word != "--no-sizing"])
    assert outcome.code in (0, 98), outcome
    row = document(place)["autosizer"]["rows"][0]
    assert row["capacity_per_second"] > 0 and row["workers"] >= 1
    assert row["verdict"]


def test_values_of_the_environment_are_never_shown(place: Place) -> None:
    secret = "correct-horse-battery"
    words = place.local("dies-at-start", "--env", f"PASSPHRASE={secret}", "--json", "out.json")
    outcome = place.call(*words)
    assert outcome.code == 1
    everything = (
        outcome.out
        + outcome.err
        + "".join(path.read_text() for path in place.folder.glob("*") if path.is_file())
    )
    assert "secret is ***" in outcome.err
    assert secret not in everything


def test_a_service_in_the_background_is_found_and_stopped(place: Place) -> None:
    outcome = place.call(*place.local("daemon", "--json", "out.json"))
    assert outcome.code == 0, outcome
    assert document(place)["counts"]["succeeded"] == 20


def test_children_that_hide_are_stopped(place: Place) -> None:
    outcome = place.call(*place.local("children"))
    assert outcome.code == 0, outcome


@pytest.mark.parametrize(
    ("mode", "words", "parts"),
    [
        ("dies-at-start", (), ["ended with exit code 3 before it answered", "flux capacitor"]),
        ("never", ("--ready-timeout", "1"), ["did not answer", "--ready-timeout", "service says hello"]),
        ("unavailable", ("--ready-timeout", "1"), ["it answers with status 503"]),
    ],
)
def test_a_service_that_does_not_start(
    place: Place, mode: str, words: tuple[str, ...], parts: list[str]
) -> None:
    outcome = place.call(*place.local(mode, *words))
    assert outcome.code == 1, outcome
    for part in parts:
        assert part in outcome.err, outcome.err


def test_a_service_that_dies_during_the_test_is_the_verdict(place: Place) -> None:
    outcome = place.call(*place.local("dies-later", "--json", "out.json", "--", "-d", "2", "-w", "2", "-c"))
    assert outcome.code == 1, outcome
    found = document(place)
    assert found["service"]["ended"] == "ended with exit code 7"
    assert found["service"]["log"][-1] == "out of cheese"
    assert found["verdict"]["sentence"].startswith(
        "the service ended with exit code 7 during the test, its last words: out of cheese"
    )
    assert found["counts"]["succeeded"] > 0


def test_a_taken_port_is_said_before_anything_starts(place: Place) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", place.port))
        other.listen()
        outcome = place.call(*place.local("ok"))
    assert outcome.code == 104
    assert f"port {place.port} is taken" in outcome.err
    assert "Starting" not in outcome.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--command", "no-such-program-here"], "in the PATH"),
        (["--command", "/etc/passwd"], "not executable"),
        (["--directory", "/nonexistent"], "no directory"),
        (["--cpus", "many"], "--cpus is"),
        (["--memory", "1"], "--memory is"),
        (["--image", "x", "--on", "local"], "--image does not go with"),
        (["--prices", "/nonexistent.toml"], "--prices"),
        (["--baseline", "loadtest.py"], "no result of autosizer"),
        (["--env", "=x"], "--env needs"),
        (["--env", "NOT_THERE_AT_ALL"], "no such variable"),
        (["--scenario", "missing.py"], "no scenario file"),
        (["--port", "70000"], "--port needs"),
        (["--ready-path", "x"], "--ready-path is"),
    ],
)
def test_what_cannot_be_used_starts_nothing(place: Place, words: list[str], part: str) -> None:
    base = place.local("ok", *words)
    outcome = place.call(*base)
    assert outcome.code == 104, outcome
    assert part in outcome.err, outcome.err
    assert "Starting" not in outcome.err


def test_wrong_options_of_molotov_start_nothing(place: Place) -> None:
    assert place.call(*place.local("ok", "--", "--no-such-option")).code == 2
    assert place.call(*place.local("ok", "--", "--json", "x")).code == 104


def test_a_program_for_another_machine_is_refused(place: Place) -> None:
    # The head of an ELF file for IBM's S/390.
    foreign = place.folder / "foreign"
    foreign.write_bytes(b"\x7fELF\x02\x02\x01" + bytes(11) + b"\x00\x16" + bytes(44))
    foreign.chmod(0o755)
    outcome = place.call(*place.local("ok", "--command", str(foreign)))
    assert outcome.code == 104
    assert "was built for s390x" in outcome.err


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 128 KiB; the test is skipped where this user may not mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said(place: Place) -> None:
    with small_disk(place.folder / "tmp"):
        outcome = place.call(*place.local("chatty"))
        assert place.leftovers() == []
    assert outcome.code == 1, outcome
    assert "is full" in outcome.err and "TMPDIR" in outcome.err


def test_without_room_for_the_ledger_nothing_is_started(place: Place) -> None:
    state = place.folder / "state"
    with small_disk(state):
        with (state / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(bytes(4096))
        outcome = place.call(*place.local("ok"))
    assert outcome.code == 1, outcome
    assert "cannot write the ledger" in outcome.err and "XDG_STATE_HOME" in outcome.err
    assert "Starting" not in outcome.err


SIGNALS = [signal.SIGINT, signal.SIGTERM]
STEPS = [("never", ("ready",)), ("ok", ("Running the load test",))]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("mode", "step"), STEPS)
def test_a_signal_at_a_step_cleans_up(place: Place, mode: str, step: tuple[str, ...], number: int) -> None:
    process = place.start(*place.local(mode, "--json", "out.json", "--", "-d", "60", "-c"))
    place.wait_for(process, *step)
    process.send_signal(number)
    outcome = finish(process)
    assert outcome.code == 105, outcome
    assert "Traceback" not in outcome.err
    assert document(place)["autosizer"]["rows"][0]["failure"].startswith("interrupted")


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_while_cleaning_lets_it_finish(place: Place, number: int) -> None:
    process = place.start(*place.local("lingers", "--json", "out.json"))
    place.wait_for(process, "stop")
    process.send_signal(number)
    (place.folder / "go").touch()
    outcome = finish(process)
    assert outcome.code == 105, outcome
    # The load had come to its end.
    assert document(place)["counts"]["succeeded"] == 20


def test_the_third_signal_while_cleaning_ends_it_and_gc_does_the_rest(place: Place) -> None:
    process = place.start(*place.local("lingers", "--", "-d", "60", "-c"))
    place.wait_for(process, "Running the load test")
    process.send_signal(signal.SIGTERM)
    place.wait_for(process, "stop")
    for left in (2, 1):
        process.send_signal(signal.SIGINT)
        place.wait_for(process, f"Still removing what was started; {left} more")
    process.send_signal(signal.SIGINT)
    outcome = finish(process)
    assert outcome.code == 105, outcome
    assert "the cleaning was interrupted" in outcome.err and "autosizer gc" in outcome.err
    (place.folder / "go").touch()
    assert place.call("gc").code == 0


def test_metrics_of_an_interrupted_test_are_kept(place: Place) -> None:
    process = place.start(*place.local("ok", "--json", "out.json", "--", "-d", "60", "-w", "2", "-c"))
    place.wait_for(process, "Running the load test")
    results = place.folder / "tmp"
    while not any(path.stat().st_size for path in results.glob("*/results.json.partial")):
        assert process.poll() is None, finish(process)
    process.send_signal(signal.SIGINT)
    outcome = finish(process)
    assert outcome.code == 105, outcome
    found = document(place)
    assert found["complete"] and found["counts"]["succeeded"] > 0
    assert len(found["monitor"]) == 2


@pytest.mark.parametrize(("mode", "step"), STEPS)
def test_what_a_killed_autosizer_leaves_is_removed_by_gc(
    place: Place, mode: str, step: tuple[str, ...]
) -> None:
    process = place.start(*place.local(mode, "--", "-d", "60", "-c"))
    place.wait_for(process, *step)
    listed = place.call("list")
    assert "running as process" in listed.out
    # Nothing is taken from a run that goes on.
    assert place.call("gc").out == "Nothing to remove.\n"
    assert process.poll() is None
    process.kill()
    finish(process)
    assert place.leftovers()
    assert "autosizer gc" in place.call("list").out
    collected = place.call("gc")
    assert collected.code == 0, collected
    assert "removed process" in collected.out
    assert place.leftovers() == []
    assert place.call("gc").out == "Nothing to remove.\n"


def test_limits_are_kept_or_refused(place: Place) -> None:
    outcome = place.call(*place.local("ok", "--cpus", "0.5", "--memory", "256m", "--json", "out.json"))
    if not can_limit():
        assert outcome.code == 104
        assert "cannot be kept here" in outcome.err
        return
    assert outcome.code == 0, outcome
    found = document(place)
    columns = found["monitor"][1]["columns"]
    assert set(filter(None, columns["cpu_limit_cores"])) == {0.5}
    assert set(filter(None, columns["memory_limit_bytes"])) == {256 * 1024 * 1024}
    assert found["service"]["facts"]["limits_kept_by"].startswith(("control group", "systemd"))


def test_a_service_killed_for_memory_is_said(place: Place) -> None:
    if not can_limit():
        pytest.skip("this user may not make control groups")
    words = place.local("hungry", "--memory", "128m", "--json", "out.json", "--", "-d", "3", "-w", "1", "-c")
    outcome = place.call(*words)
    assert outcome.code == 1, outcome
    found = document(place)
    assert "out of memory" in found["service"]["ended"]
    assert found["verdict"]["resource"] == "memory"


def test_rows_are_compared_and_one_is_recommended(place: Place) -> None:
    if not can_limit():
        pytest.skip("this user may not make control groups")
    (place.folder / "prices.toml").write_text(
        'source = "list"\ndate = "2026-11-01"\n[resources]\ncpu_hour = 0.04\n'
    )
    words = place.local("ok", "--cpus", "0.5,1", "--prices", "prices.toml", "--json", "out.json")
    outcome = place.call(*words)
    assert outcome.code == 0, outcome
    found = document(place)
    assert [row["label"] for row in found["autosizer"]["rows"]] == ["0.5 CPU", "1 CPU"]
    assert [row["price"]["per_hour"] for row in found["autosizer"]["rows"]] == [0.02, 0.04]
    assert len(found["runs"]) == 2
    assert all(run["counts"]["succeeded"] == 20 for run in found["runs"])
    # Without a sizing there is no capacity, and nothing is made up.
    assert found["autosizer"]["recommendation"]["label"] is None
    again = place.call(*place.local("ok", "--cpus", "0.5", "--baseline", "out.json", "--json", "new.json"))
    assert again.code == 0, again
    assert document(place, "new.json")["autosizer"]["changes"][0]["outcome"] == "unclear"


def test_a_configuration_file_has_the_names_of_the_flags(place: Place) -> None:
    (place.folder / "autosizer.toml").write_text(
        f"""
[autosizer]
command = ["{sys.executable}", "service.py", "ok", "{place.port}"]
port = {place.port}
scenario = "loadtest.py"
no-sizing = true
molotov = ["--max-runs", "3", "-c"]
json = "out.json"

[autosizer.env]
ANSWER = "forty-two-is-it"
"""
    )
    outcome = place.call("run")
    assert outcome.code == 0, outcome
    assert document(place)["counts"]["succeeded"] == 3
    # The command line goes before it.
    assert place.call("run", "--json", "other.json").code == 0
    assert document(place, "other.json")["counts"]["succeeded"] == 3


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("autosizer.toml", "[autosizer]\ncpu = 1\n", "do you mean cpus?"),
        ("autosizer.toml", "[autosizer]\nport = \n", "Can't parse autosizer.toml: line 2"),
        ("autosizer.toml", "[autosizer]\nport = true\n", "must be a number"),
        ("molotov.json", '{"autosizer": {"env": {"A": []}}}', "env.A must be a text"),
        ("pyproject.toml", "[tool.autosizer]\ncommand = 3\n", "must be a list of words"),
    ],
)
def test_mistakes_in_a_configuration_file_are_named(place: Place, name: str, content: str, part: str) -> None:
    (place.folder / name).write_text(content)
    outcome = place.call("run")
    assert outcome.code == 104, outcome
    assert part in outcome.err


def test_init_writes_a_file_that_run_reads(place: Place) -> None:
    assert place.call("init").code == 0
    assert place.call("init").code == 1
    # Everything in it is understood: what fails is the command that this machine lacks, or its scenario.
    (place.folder / "loadtest.py").unlink()
    outcome = place.call("run")
    assert outcome.code == 104
    assert "no scenario file 'loadtest.py'" in outcome.err


def test_scenarios_come_from_a_repository(place: Place) -> None:
    repository = place.folder / "repository"
    repository.mkdir()
    (repository / "loadtest.py").write_text((place.folder / "loadtest.py").read_text())
    config = {"molotov": {"env": {"X": "1"}, "tests": {"big": {"max_runs": 7, "console": True}}}}
    (repository / "molotov.json").write_text(json.dumps(config))
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    words = ["run", "--command", place.command("ok"), "--port", str(place.port), "--json", "out.json"]
    outcome = place.call(*words, "--no-sizing", "--scenario-repo", f"{repository}#big")
    assert outcome.code == 0, outcome
    assert document(place)["counts"]["succeeded"] == 7
    outcome = place.call(*words, "--scenario-repo", f"{repository}#small")
    assert outcome.code == 104
    assert "Can't find 'small'" in outcome.err


def test_options_of_an_instance_reach_the_engine_apart(place: Place) -> None:
    from molotov.autosizer import _for_engine

    ours = _for_engine({"port": 8, "bucket": "b", "keep": True, "region": None})
    assert ours == {"port": 8, "target": {"bucket": "b", "keep": True}}
    for words in (["--all"], ["--run", "20261126-054000-3f9a1c", "--bucket", "evidence"]):
        swept = place.call("gc", *words)
        # Neither is about ledgers: it asks the account, without credentials here, or says that it cannot.
        assert swept.code == 1 and ("this build cannot do gc" in swept.err or "AWS" in swept.err), swept
    policy = place.call("iam-policy", "--bucket", "evidence")
    if policy.code:
        # A build without AWS, as the tests' own is: it says so.
        assert "this build cannot do iam-policy" in policy.err, policy
    else:
        assert "arn:aws:s3:::evidence/autosizer/*" in policy.out, policy
