"""The files that `molostart` writes."""

from __future__ import annotations

import json
from importlib import metadata

_DISTRIBUTION = "molotov-rs"

_MAKEFILE = """\
# make build   install Molotov into ./venv
# make test    run a test of molotov.json: make test TESTNAME=big
PYTHON ?= python3
TESTNAME ?= smoke
MOLOTOV ?= {requirement}

.PHONY: build test clean

venv/bin/molotov:
	$(PYTHON) -m venv venv
	venv/bin/pip install --upgrade "$(MOLOTOV)"

build: venv/bin/molotov

test: build
	venv/bin/molotov --config molotov.json $(TESTNAME)

clean:
	rm -rf venv
"""

_LOADTEST = '''\
"""A first load test.

    molotov -x --max-runs 1 loadtest.py      one run, stops at the first failure
    molotov -w 10 -d 30 loadtest.py          10 workers for 30 seconds
    molotov --sizing loadtest.py             how many workers does the service stand?

The service is the one at SERVER_URL, http://localhost:8080 by default.
"""

import os

from molotov import global_setup, global_teardown, scenario, setup, setup_session, teardown, teardown_session

SERVER_URL = os.environ.get("SERVER_URL", "http://localhost:8080").rstrip("/")


@global_setup()
def before_everything(args):
    """Runs once, before the workers start. Not a coroutine."""


@setup()
async def before_a_worker(worker_id, args):
    """Runs once per worker. What it returns goes to the worker's session: headers, auth, timeout..."""
    return {"headers": {"X-Load-Test": f"worker {worker_id}"}}


@setup_session()
async def after_the_session_opened(worker_id, session):
    """Runs once per worker, with the session it will use: log in here, for instance."""


@teardown_session()
async def before_the_session_closes(worker_id, session):
    """Runs once per worker, with the session still open."""


@teardown()
def after_a_worker(worker_id):
    """Runs once per worker, at its end. Not a coroutine."""


@global_teardown()
def after_everything():
    """Runs once, when all the workers are done. Not a coroutine."""


# The weights say how often each scenario is picked: 7 times out of 10 for this one.
@scenario(weight=70)
async def read_the_home_page(session):
    async with session.get(SERVER_URL + "/") as response:
        assert response.status == 200, response.status
        assert await response.text()


@scenario(weight=30)
async def post_some_json(session):
    async with session.post(SERVER_URL + "/", json={"OK": 1}) as response:
        # An assertion that fails makes the run a failed one; the worker goes on with the next.
        assert response.status < 400, response.status
'''

_CONFIG = {
    "molotov": {
        "tests": {
            "big": {"scenario": "loadtest.py", "duration": 60, "workers": 100, "processes": 10},
            "small": {"scenario": "loadtest.py", "duration": 60},
            "smoke": {"scenario": "loadtest.py", "duration": 1},
        }
    }
}


def _requirement() -> str:
    """Say what pip has to be given to install this package again."""
    try:
        installed = metadata.distribution(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return _DISTRIBUTION
    origin = installed.read_text("direct_url.json")
    if origin:
        source = json.loads(origin)
        commit = source.get("vcs_info", {}).get("commit_id")
        return f"git+{source['url']}@{commit}" if commit else str(source["url"])
    return f"{_DISTRIBUTION}=={installed.version}"


def content(name: str) -> str:
    """Return the text of one of the files: Makefile, loadtest.py or molotov.json."""
    if name == "Makefile":
        # $ is make's own sign for variables.
        return _MAKEFILE.format(requirement=_requirement().replace("$", "$$"))
    if name == "loadtest.py":
        return _LOADTEST
    return json.dumps(_CONFIG, indent=4) + "\n"
