"""molotov.json: reading it, what wins, and what cannot be used."""

from __future__ import annotations

import argparse
import io
import json

import pytest
from command import counts, run, write
from molotov import _options
from molotov.util import OptionError, expand_options
from test_cli import PASSING


def config(directory, **options):
    (directory / "molotov.json").write_text(json.dumps({"molotov": {"tests": {"test": options}}}))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "Can't find 'molotov.json'"),
        ("{'1", "Can't parse 'molotov.json'"),
        ("{}", "Bad config -- no molotov key"),
        ("[]", "Bad config -- no molotov key"),
        ('{"molotov": {}}', "Bad config -- no molotov/tests key"),
        ('{"molotov": {"tests": {}}}', "Can't find 'test' in the config"),
        ('{"molotov": {"tests": {"test": {"max_runs": "many"}}}}', "Bad config -- max_runs can't be 'many'"),
        ('{"molotov": {"tests": {"test": {"quiet": "no"}}}}', "Bad config -- quiet can't be 'no'"),
        ('{"molotov": {"tests": {"test": {"workers": [1]}}}}', "Bad config -- workers can't be [1]"),
    ],
)
def test_a_bad_config_is_one_line_and_104(tmp_path, content, line):
    if content is not None:
        (tmp_path / "molotov.json").write_text(content)
    done = run(tmp_path, "--config", "molotov.json")
    assert (done.returncode, done.stdout, done.stderr) == (104, f"{line}\n", "")


def test_options_of_a_test(tmp_path):
    write(tmp_path, PASSING, "other.py")
    config(tmp_path, scenario="other.py", max_runs=3, workers=2, console=True, unknown=1)
    assert counts(run(tmp_path, "--config", "molotov.json", "test").stdout) == (6, 0)
    assert counts(run(tmp_path, "--config", "molotov.json").stdout) == (6, 0)


def test_the_command_line_wins_with_a_note(tmp_path):
    write(tmp_path, PASSING)
    config(tmp_path, max_runs=3, workers=2)
    done = run(tmp_path, "-c", "-r", "5", "--config", "molotov.json")
    assert counts(done.stdout) == (10, 0)
    assert done.stderr == "Note: --max-runs of the command line wins over max_runs = 3 in the config\n"


def test_an_option_given_at_its_default_wins_too(tmp_path):
    write(tmp_path, PASSING)
    config(tmp_path, workers=4, max_runs=2)
    assert counts(run(tmp_path, "-c", "-w", "1", "--config", "molotov.json").stdout) == (2, 0)


def test_numbers_written_as_text_are_read(tmp_path):
    write(tmp_path, PASSING)
    config(tmp_path, max_runs="3", duration=9.5, verbose=1)
    assert counts(run(tmp_path, "-c", "--config", "molotov.json").stdout) == (3, 0)


def test_expand_options_takes_files_and_reports_by_optionerror():
    args = argparse.Namespace()
    expand_options(io.StringIO('{"molotov": {"tests": {"t": {"duration": 1, "own": [2]}}}}'), "t", args)
    assert (args.duration, args.own) == (1, [2])
    with pytest.raises(OptionError, match="Can't parse 1"):
        expand_options(1, "t", args)
    with pytest.raises(OptionError, match="Can't find ''"):
        expand_options("", "t", args)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("2m", 120), ("500ms", 0.5), ("1h", 3600), (" 3 s ", 3)]
)
def test_durations(text, seconds):
    assert _options.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "soon", "1d", "nan", "inf", "1 2"])
def test_what_is_no_duration(text):
    with pytest.raises(argparse.ArgumentTypeError):
        _options.duration(text)


def test_whole_seconds_stay_integers():
    assert isinstance(_options.duration("90"), int)
