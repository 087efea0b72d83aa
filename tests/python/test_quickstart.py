"""molostart: its questions and files."""

from __future__ import annotations

import json
import subprocess

import pytest
from _services import Handler, molotov, serving, tool


class Echo(Handler):
    """A page at /, which also takes JSON."""

    def serve(self, body):
        if self.command == "POST":
            return self.answer(200, json.loads(body))
        return self.answer(200, "<p>hello</p>", "text/html")


def test_answers_are_asked_for_and_files_written(tmp_path):
    result = tool("quickstart", input="new/place\nmaybe\nyes\n", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("**** Molotov Quickstart ****\n")
    assert "> Target directory [.]: " in result.stdout
    assert result.stdout.count("> Create Makefile [y]: ") == 2
    assert "Please enter either 'y' or 'n'." in result.stdout
    assert "…copying 'loadtest.py' in 'new/place'" in result.stdout
    assert "Run 'make build' to get started..." in result.stdout
    written = sorted(path.name for path in (tmp_path / "new" / "place").iterdir())
    assert written == ["Makefile", "loadtest.py", "molotov.json"]


def test_defaults_are_here_and_with_a_makefile(tmp_path):
    assert tool("quickstart", input="\n\n", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Makefile", "loadtest.py", "molotov.json"]


def test_no_makefile(tmp_path):
    result = tool("quickstart", input="\nn\n", cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loadtest.py", "molotov.json"]
    assert "make build" not in result.stdout


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    (tmp_path / "loadtest.py").write_text("mine")
    result = tool("quickstart", input=f"{tmp_path}\ny\n")
    assert result.returncode == 1
    assert f"'{tmp_path}/loadtest.py' already exists. Cowardly stopping here" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["loadtest.py"]
    assert (tmp_path / "loadtest.py").read_text() == "mine"


@pytest.mark.parametrize("answers", ["", "somewhere\n"])
def test_an_early_end_is_one_clear_line(tmp_path, answers):
    result = tool("quickstart", input=answers, cwd=tmp_path)
    assert result.returncode == 1
    assert "molostart asks two questions" in result.stdout
    assert result.stderr == ""
    assert not list(tmp_path.iterdir())


def test_a_target_that_is_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    result = tool("quickstart", input="file/x\ny\n", cwd=tmp_path)
    assert result.returncode == 1
    assert "Can't write into 'file/x'" in result.stdout
    assert result.stderr == ""


def test_the_generated_scenario_works(tmp_path):
    tool("quickstart", input="\nn\n", cwd=tmp_path)
    with serving(Echo) as (url, server):
        result = molotov("-x", "-c", "--max-runs", 1, "-w", 3, cwd=tmp_path, env={"SERVER_URL": url})
        assert "SUCCESSES: 3 | FAILURES: 0" in result.stdout, result.stdout + result.stderr
        result = molotov("-c", "--single-run", cwd=tmp_path, env={"SERVER_URL": url})
        assert "SUCCESSES: 2 | FAILURES: 0" in result.stdout, result.stdout + result.stderr
        result = molotov("-c", "--config", "molotov.json", "smoke", cwd=tmp_path, env={"SERVER_URL": url})
        assert "FAILURES: 0" in result.stdout, result.stdout + result.stderr
    assert ("POST", "/") in server.seen


def test_the_configuration_has_three_tests(tmp_path):
    tool("quickstart", input="\nn\n", cwd=tmp_path)
    tests = json.loads((tmp_path / "molotov.json").read_text())["molotov"]["tests"]
    assert sorted(tests) == ["big", "small", "smoke"]


def test_the_makefile_is_one(tmp_path):
    tool("quickstart", input="\n\n", cwd=tmp_path)
    printed = subprocess.run(
        ["make", "-n", "test", "TESTNAME=big"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "python3 -m venv venv" in printed.stdout
    assert "venv/bin/molotov --config molotov.json big" in printed.stdout


def test_version():
    from molotov import __version__

    result = tool("quickstart", "--version")
    assert (result.returncode, result.stdout.strip()) == (0, __version__)
