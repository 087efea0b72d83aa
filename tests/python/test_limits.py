"""The limit of open files, before a run that needs more of them."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

_RUN = """
import resource, sys
from molotov._limits import make_room_for
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
said = make_room_for({workers})
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], said, sep="|")
"""


def _with(soft, hard, workers):
    # In a process of its own: a hard limit never comes back.
    code = _RUN.format(soft=soft, hard=hard, workers=workers)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    limit, said = done.stdout.strip().split("|")
    return int(limit), said


@pytest.fixture(autouse=True)
def _room():
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1000:
        pytest.skip("the hard limit of this machine is too low")


def test_a_limit_that_suffices_is_left_alone():
    assert _with(500, 1000, 100) == (500, "None")


def test_a_limit_is_raised_as_far_as_needed():
    limit, said = _with(200, 1000, 500)
    assert 500 < limit < 1000
    assert said == "None"


def test_a_hard_limit_that_is_too_low_is_said():
    limit, said = _with(200, 300, 500)
    assert limit == 300
    assert said.startswith("A process may open 300 files (ulimit -n), and 500 workers need about 5"), said
