"""moloslave: cloning, configuration, what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from _services import tool

SCENARIO = """
import os
from molotov import scenario

@scenario()
async def run(session):
    print("TARGET is", os.environ.get("TARGET"), flush=True)

@scenario(weight=0)
async def unused(session):
    pass
"""
FAILING = """
from molotov import scenario

@scenario()
async def run(session):
    raise AssertionError("broken")
"""
QUICK = {"max_runs": 1, "console": True, "scenario": "loadtest.py"}


def _git(directory, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """Return a function that commits files and tests to a repository and gives its path."""

    def make(tests=None, files=None, **molotov):
        directory = tmp_path / "a repository"
        directory.mkdir()
        content = {"loadtest.py": SCENARIO, "failing.py": FAILING}
        if tests is not None:
            content["molotov.json"] = json.dumps({"molotov": {"tests": tests, **molotov}})
        for name, text in {**content, **(files or {})}.items():
            (directory / name).write_text(text)
        _git(directory, "init", "-q")
        _git(directory, "add", ".")
        _git(directory, "commit", "-q", "-m", "tests")
        return directory

    return make


@pytest.fixture
def scratch(tmp_path):
    """Return where temporary directories go, to see what is left of them."""
    path = tmp_path / "scratch"
    path.mkdir()
    return path


def _slave(scratch, *arguments, **options):
    return tool("slave", *arguments, env={"TMPDIR": str(scratch), **options.pop("env", {})}, **options)


def _ran(result):
    return next(line for line in result.stdout.splitlines() if line.startswith("Running: "))


def test_a_test_runs_in_a_clone_which_is_removed(repository, scratch):
    source = repository({"smoke": {"max_runs": 2, "workers": 2, "console": True, "verbose": 2}})
    result = _slave(scratch, source, "smoke")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Working directory is {scratch}" in result.stdout
    assert _ran(result) == "Running: molotov -r 2 -w 2 -c -v -v loadtest.py"
    assert "SUCCESSES: 4 | FAILURES: 0" in result.stdout
    assert not list(scratch.iterdir())


def test_false_and_null_leave_an_option_out(repository, scratch):
    test = {**QUICK, "quiet": False, "exception": False, "verbose": 0, "statsd": None, "nonsense": 3}
    result = _slave(scratch, repository({"smoke": test}), "smoke")
    assert _ran(result) == "Running: molotov -r 1 -c loadtest.py"
    assert "SUCCESSES: 1 | FAILURES: 0" in result.stdout


def test_lists_become_several_values_and_leave_the_scenario_alone(repository, scratch):
    files = {name: f"print('{name} was imported', flush=True)" for name in ("one.py", "two.py")}
    test = {"use_extension": ["one.py", "two.py"], **QUICK}
    result = _slave(scratch, repository({"smoke": test}, files), "smoke")
    assert _ran(result) == "Running: molotov -r 1 -c loadtest.py --use-extension one.py two.py"
    assert "one.py was imported" in result.stdout
    assert "two.py was imported" in result.stdout
    assert "SUCCESSES: 1 | FAILURES: 0" in result.stdout


def test_the_environment_is_set(repository, scratch):
    source = repository({"smoke": QUICK}, env={"TARGET": "http://example.org"})
    assert "TARGET is http://example.org" in _slave(scratch, source, "smoke").stdout


def test_failures_give_exit_code_1_and_leave_nothing(repository, scratch):
    source = repository({"smoke": {**QUICK, "scenario": "failing.py", "fail": 1}})
    result = _slave(scratch, source, "smoke")
    assert "SUCCESSES: 0 | FAILURES: 1" in result.stdout
    assert result.returncode == 1
    assert not list(scratch.iterdir())


def test_relative_paths_are_those_of_the_caller(repository, scratch, tmp_path):
    source = repository({"smoke": QUICK})
    result = _slave(scratch, source.name, "smoke", "--directory", "work here", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "work here" / "loadtest.py").exists(), "a directory that was asked for is kept"
    assert (tmp_path / "work here" / "venv" / "bin" / "python").exists()


def test_results_are_kept_where_the_command_was_typed(repository, scratch, tmp_path):
    source = repository({"smoke": {**QUICK, "json": "out.json", "markdown": "-"}})
    result = _slave(scratch, source.name, "smoke", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((tmp_path / "out.json").read_text())["counts"]["succeeded"] == 1
    assert list(scratch.iterdir()) == []
    assert "# " in result.stdout, "a dash is still stdout"


def test_requirements_are_installed_and_importable(repository, scratch):
    files = {
        "requirements.txt": "thing_of_the_test\n",
        "loadtest.py": "import thing_of_the_test\n" + SCENARIO,
    }
    source = repository({"smoke": QUICK}, files, requirements="requirements.txt")
    # pip is replaced, for this test has no network: it puts a module where the real one would.
    python = source.parent / "python"
    python.write_text(
        f"#!/bin/sh\n{sys.executable} -m venv --without-pip venv\n"
        "cat > venv/bin/pip <<'END'\n"
        f"#!{sys.executable}\nimport pathlib, sys\n"
        "if '-r' in sys.argv:\n"
        "    assert sys.argv[-1] == 'requirements.txt'\n"
        "    packages = next(pathlib.Path('venv/lib').glob('python*')) / 'site-packages'\n"
        "    (packages / 'thing_of_the_test.py').write_text('')\n"
        "END\nchmod +x venv/bin/pip\n"
    )
    python.chmod(0o755)
    result = _slave(scratch, source, "smoke", "--python", python)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCESSES: 1 | FAILURES: 0" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["nowhere-at-all", "smoke"], 1, "Can't clone 'nowhere-at-all' (exit code 128)"),
        (["{repository}", "zzz"], 104, "Can't find 'zzz' in the config"),
        (["{repository}", "smoke", "--config", "nope.json"], 104, "Can't find 'nope.json'"),
        (["{repository}", "smoke", "--config", "loadtest.py"], 104, "Can't parse 'loadtest.py'"),
        (["{repository}", "smoke", "--config", "empty.json"], 104, "Bad config -- no molotov key"),
        (["{repository}", "smoke", "--config", "few.json"], 104, "Bad config -- no molotov/tests key"),
        (["{repository}", "flag"], 104, "Bad config -- 'quiet' needs true or false, not 'no'"),
        (["{repository}", "count"], 104, "Bad config -- 'verbose' needs a number, not 'two'"),
        (["{repository}", "value"], 104, "Bad config -- 'workers' needs a value, not true"),
        (["{repository}", "list"], 104, "Bad config -- 'workers' takes one value, not a list"),
        (["{repository}", "smoke", "--python", "/no/python"], 1, "Can't create a virtualenv"),
    ],
)
def test_bad_input_is_one_clear_line(repository, scratch, arguments, code, line):
    tests = {
        "smoke": QUICK,
        "flag": {"quiet": "no"},
        "count": {"verbose": "two"},
        "value": {"workers": True},
        "list": {"workers": [1, 2]},
    }
    source = repository(tests, {"empty.json": "{}", "few.json": '{"molotov": {}}'})
    arguments = [argument.format(repository=source) for argument in arguments]
    result = _slave(scratch, *arguments, env={"GIT_TERMINAL_PROMPT": "0"})
    assert result.returncode == code, result.stdout + result.stderr
    assert [text for text in result.stdout.splitlines() if text.startswith(line)], result.stdout
    assert "Traceback" not in result.stderr
    assert not list(scratch.iterdir())


def test_a_value_that_does_not_fit_is_named(repository, scratch):
    result = _slave(scratch, repository({"smoke": {"workers": "many"}}), "smoke")
    assert result.returncode == 104
    assert "-w/--workers" in result.stdout and "many" in result.stdout


def test_arguments_are_never_a_command(repository, scratch, tmp_path):
    result = _slave(scratch, "x; touch injected", "smoke", cwd=tmp_path)
    assert result.returncode == 1
    result = _slave(scratch, "--", "--upload-pack=touch injected", "smoke", cwd=tmp_path)
    assert result.returncode == 1
    assert not list(Path(tmp_path).rglob("injected"))


def test_a_repository_and_a_test_are_needed(scratch):
    for arguments in ([], ["repository"]):
        result = _slave(scratch, *arguments)
        assert result.returncode == 2
        assert "a repository and the name of a test are needed" in result.stderr
        assert "Traceback" not in result.stderr


def test_version():
    from molotov import __version__

    result = tool("slave", "--version")
    assert (result.returncode, result.stdout.strip()) == (0, __version__)
