"""`autosizer --on container` on a real Podman: results, failures, signals, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _services import SCENARIOS
from autosizing import Outcome, Place, finish
from podman_service import DEADLINE, FOREIGN_IMAGE, IMAGE, Gate, Podman, Unusable

SERVES = "httpd -f -p 8080"


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    # Not below the tests' own folders: a unix socket's path may have 107 bytes.
    try:
        podman = Podman(tmp_path_factory.mktemp("podman"))
    except Unusable as why:
        pytest.skip(f"no podman here: {why}")
    yield podman
    podman.close()


@pytest.fixture
def place(tmp_path: Path, podman: Podman) -> Iterator[Place]:
    place = Place(tmp_path)
    # Every request is answered, also with 404: there is nothing at / in the image.
    (tmp_path / "loadtest.py").write_text(
        (tmp_path / "loadtest.py").read_text().replace("== 200", "in (200, 404)")
    )
    yield place
    assert podman.containers() == []
    assert place.leftovers() == []


def words(command: str, *more: str, load: tuple[str, ...] = ("--max-runs", "20", "-c")) -> list[str]:
    return [
        *("run", "--image", IMAGE, "--command", command, "--port", "8080", "--scenario", "loadtest.py"),
        *("--no-sizing", "--log", "steps.jsonl", "--json", "out.json"),
        *more,
        "--",
        *load,
    ]


def call(place: Place, podman: Podman, *arguments: str) -> Outcome:
    return place.call(*arguments, env=podman.environment)


def document(place: Place) -> Any:
    return json.loads((place.folder / "out.json").read_text())


def test_a_container_is_started_measured_and_removed(place: Place, podman: Podman) -> None:
    limits = ("--cpus", "0.5", "--memory", "64m", "--env", "PASSPHRASE=correct-horse", "--service-log", "log")
    outcome = call(place, podman, *words(SERVES, *limits, load=("-d", "3", "-w", "2", "-c")))
    assert outcome.code == 0, outcome
    found = document(place)
    assert found["counts"]["failed"] == 0 and found["counts"]["succeeded"] > 0
    series = found["monitor"][1]
    assert series["source"] == "service"
    assert found["service"]["facts"]["measured_by"].startswith("container:molotov-")
    assert set(filter(None, series["columns"]["cpu_limit_cores"])) == {0.5}
    assert set(filter(None, series["columns"]["memory_limit_bytes"])) == {64 * 1024 * 1024}
    assert any(filter(None, series["columns"]["cpu_cores_used"]))
    assert found["service"]["facts"]["image_digest"]
    assert "correct-horse" not in outcome.err + outcome.out + (place.folder / "out.json").read_text()
    assert (place.folder / "log").exists()


def test_a_real_kinto_is_limited_by_cpu_and_its_memory_grows(place: Place, podman: Podman) -> None:
    outcome = place.call(
        *("run", "--image", podman.make_kinto_image(), "--port", "8888", "--server-path", "/v1/"),
        *("--scenario", str(SCENARIOS / "kinto.py"), "--cpus", "0.3", "--no-sizing", "--json", "out.json"),
        *("--", "-d", "12", "-w", "4", "-c"),
        env=podman.environment,
    )
    # 98: the generator may not have had the core that it needed on a busy machine.
    assert outcome.code in (0, 98), outcome
    found = document(place)
    assert found["counts"]["failed"] == 0 and found["counts"]["succeeded"] > 0
    findings = {(one["resource"], one["source"]) for one in found["verdict"]["findings"]}
    assert ("cpu", "service") in findings, found["verdict"]
    assert [growth["source"] for growth in found["verdict"]["memory_growth"]] == ["service"]
    assert "Memory of the service grows by" in outcome.out


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (
            "sh -c 'echo no cheese today; exit 3'",
            ["ended with exit code 3 before it answered", "no cheese today"],
        ),
        ("sh -c 'echo waiting; sleep 1000'", ["did not answer", "| waiting"]),
        ("no-such-command", ["--command"]),
    ],
)
def test_a_container_that_does_not_start(
    place: Place, podman: Podman, command: str, parts: list[str]
) -> None:
    outcome = call(place, podman, *words(command, "--ready-timeout", "2"))
    assert outcome.code == 1, outcome
    for part in parts:
        assert part in outcome.err, outcome.err
    assert "Traceback" not in outcome.err


def test_a_container_that_dies_during_the_test_is_the_verdict(place: Place, podman: Podman) -> None:
    command = "sh -c 'httpd -p 8080; sleep 2; echo goodbye; exit 7'"
    outcome = call(place, podman, *words(command, load=("-d", "5", "-w", "1", "-c")))
    assert outcome.code == 1, outcome
    found = document(place)
    assert found["service"]["ended"] == "ended with exit code 7"
    assert found["verdict"]["sentence"].startswith("the service ended with exit code 7 during the test")
    assert "goodbye" in found["verdict"]["sentence"]


def test_a_container_killed_for_memory_is_said(place: Place, podman: Podman) -> None:
    # dd's buffer is larger than the container may have.
    command = "sh -c 'httpd -p 8080; sleep 2; exec dd if=/dev/zero of=/dev/null bs=256M count=100'"
    outcome = call(place, podman, *words(command, "--memory", "32m", load=("-d", "5", "-w", "1", "-c")))
    assert outcome.code == 1, outcome
    found = document(place)
    assert "out of memory" in found["service"]["ended"], found["service"]
    assert found["verdict"]["resource"] == "memory"


def test_a_missing_image_is_said(place: Place, podman: Podman) -> None:
    outcome = call(place, podman, *words(SERVES, "--image", "localhost:1/nothing/here:1"))
    assert outcome.code == 1
    assert "cannot pull localhost:1/nothing/here:1" in outcome.err


def test_an_image_for_another_machine_is_refused(place: Place, podman: Podman) -> None:
    outcome = call(place, podman, *words(SERVES, "--image", FOREIGN_IMAGE))
    assert outcome.code == 1
    assert "is for s390x, this engine runs" in outcome.err


@pytest.mark.parametrize(
    ("host", "part"),
    [
        ("unix:///nonexistent.sock", "no container engine answers"),
        ("tcp://127.0.0.1:1", "does not answer"),
        ("tcp://192.0.2.1:2375", "names another machine"),
        ("ssh://somewhere", "DOCKER_HOST is"),
    ],
)
def test_without_an_engine_it_is_said(place: Place, host: str, part: str) -> None:
    outcome = place.call(*words(SERVES), env={"DOCKER_HOST": host})
    assert outcome.code in (1, 104)
    assert part in outcome.err, outcome.err


def test_rows_are_run_one_after_another(place: Place, podman: Podman) -> None:
    outcome = call(place, podman, *words(SERVES, "--cpus", "0.5,1"))
    assert outcome.code == 0, outcome
    found = document(place)
    assert [row["label"] for row in found["autosizer"]["rows"]] == ["0.5 CPU", "1 CPU"]
    assert all(run["counts"]["succeeded"] == 20 for run in found["runs"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "step"),
    [
        (SERVES, ("start",)),
        ("sleep 1000", ("ready",)),
        (SERVES, ("Running the load test",)),
    ],
)
def test_a_signal_at_a_step_cleans_up(
    place: Place, podman: Podman, command: str, step: tuple[str, ...], number: int
) -> None:
    process = place.start(*words(command, load=("-d", "60", "-c")), env=podman.environment)
    place.wait_for(process, *step)
    process.send_signal(number)
    outcome = finish(process)
    assert outcome.code == 105, outcome
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_pull_ends_it(place: Place, podman: Podman, number: int) -> None:
    # A registry that takes connections and never says a word.
    with socket.create_server(("127.0.0.1", 0)) as registry:
        image = f"127.0.0.1:{registry.getsockname()[1]}/slow:1"
        process = place.start(*words(SERVES, "--image", image), env=podman.environment)
        place.wait_for(process, "pull")
        process.send_signal(number)
        outcome = finish(process)
    assert outcome.code == 105, outcome
    assert "Traceback" not in outcome.err
    assert document(place)["autosizer"]["rows"][0]["failure"].startswith("interrupted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_while_cleaning_lets_it_finish(place: Place, podman: Podman, number: int) -> None:
    with Gate(podman) as gate:
        process = place.start(*words(SERVES), env=gate.environment)
        assert gate.is_reached.wait(DEADLINE), finish(process)
        process.send_signal(number)
        gate.open()
        outcome = finish(process)
    assert outcome.code == 105, outcome
    assert document(place)["counts"]["succeeded"] == 20


def test_the_third_signal_while_cleaning_ends_it_and_gc_does_the_rest(place: Place, podman: Podman) -> None:
    with Gate(podman) as gate:
        process = place.start(*words("sleep 1000"), env=gate.environment)
        place.wait_for(process, "ready")
        process.send_signal(signal.SIGTERM)
        assert gate.is_reached.wait(DEADLINE), finish(process)
        for left in (2, 1):
            process.send_signal(signal.SIGINT)
            place.wait_for(process, f"Still removing what was started; {left} more")
        process.send_signal(signal.SIGINT)
        outcome = finish(process)
    assert outcome.code == 105, outcome
    assert "the cleaning was interrupted" in outcome.err and "autosizer gc" in outcome.err
    assert len(podman.containers()) == 1
    # The ledger knows the engine by the address of the run, which has gone with the gate.
    with Gate(podman) as gate:
        gate.open()
        collected = call(place, podman, "gc")
    assert collected.code == 0, collected


@pytest.mark.parametrize("forget", [False, True])
def test_what_a_killed_autosizer_leaves_is_removed_by_gc(place: Place, podman: Podman, forget: bool) -> None:
    process = place.start(*words("sleep 1000"), env=podman.environment)
    place.wait_for(process, "ready")
    assert call(place, podman, "gc").out == "Nothing to remove.\n"
    process.kill()
    finish(process)
    assert len(podman.containers()) == 1
    if forget:
        # Without a ledger the container's label is enough; the folder for the results is then anybody's.
        for path in (place.folder / "state").rglob("*.jsonl"):
            path.unlink()
        for path in (place.folder / "tmp").iterdir():
            os.rmdir(path)
    collected = call(place, podman, "gc")
    assert collected.code == 0, collected
    assert "removed container molotov-" in collected.out
