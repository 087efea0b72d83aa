"""`moloslave`: clone a repository, install what its tests need, run one of them.

Owns the command's options, the working directory and the translation of a test in `molotov.json` into a
command line. The run itself belongs to `molotov.run`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import site
import sys
import tempfile
from pathlib import Path
from subprocess import CalledProcessError, check_call
from typing import Any

from molotov import __version__
from molotov._options import RESULT_FILES
from molotov.run import _parser
from molotov.run import main as run
from molotov.util import OptionError

_CONFIGURATION_ERROR = 104


class SlaveError(Exception):
    """A step before the run failed; its text is the one line that the user reads."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def clone_repo(github: str) -> None:
    """Clone a URL or a local path into the current directory."""
    _step(f"git clone -- {shlex.quote(github)} .", f"Can't clone {github!r}")


def create_virtualenv(virtualenv: str, python: str, pip: bool = True) -> None:
    """Make `./venv` with the given interpreter; `virtualenv` is accepted for old command lines only.

    pip takes most of the time that it needs: leave it out when there is nothing to install.
    """
    options = "" if pip else " --without-pip"
    _step(f"{shlex.quote(python)} -m venv{options} venv", f"Can't create a virtualenv with {python!r}")


def install_reqs(reqfile: str) -> None:
    """Install a requirements file into `./venv`."""
    if not os.path.isfile(reqfile):
        raise SlaveError(f"Can't find the requirements file {reqfile!r}", _CONFIGURATION_ERROR)
    failure = f"Can't install the requirements of {reqfile!r}"
    _step("./venv/bin/pip install --upgrade pip", failure)
    _step(f"./venv/bin/pip install -r {shlex.quote(reqfile)}", failure)


def _step(command: str, failure: str) -> None:
    try:
        check_call(command, shell=True)
    except CalledProcessError as error:
        raise SlaveError(f"{failure} (exit code {error.returncode})") from error


def run_test(**options: Any) -> Any:
    """Run one test; the keywords are those of a test in `molotov.json`.

    Prints the equivalent command line first; ignores unknown options. Raises `OptionError` when a value
    doesn't fit its option.
    """
    arguments = _command_line(options)
    parser = _parser()

    def refuse(message: str) -> None:
        raise OptionError(message)

    # argparse would print its usage, which says nothing about the file that has the mistake.
    setattr(parser, "error", refuse)  # noqa: B010
    args = parser.parse_args(args=arguments)
    print("Running: molotov {}".format(" ".join(arguments)), flush=True)
    return run(args)


def _command_line(options: dict[str, Any]) -> list[str]:
    """Translate options, in their order, into arguments of `molotov`."""
    actions = {
        action.dest: action
        for action in _parser()._actions
        if action.option_strings and action.dest not in ("help", "scenario")
    }
    ordered: list[str] = []
    # An option that takes several values swallows the scenario when it stands before it.
    many: list[str] = []
    for name, value in options.items():
        action = actions.get(name)
        if action is None or value is None:
            continue
        if isinstance(value, list):
            many += _several(name, action, value)
        else:
            ordered += _one(name, action, value)
    return [*ordered, str(options.get("scenario", "loadtest.py")), *many]


def _one(name: str, action: argparse.Action, value: Any) -> list[str]:
    flag = action.option_strings[0]
    if isinstance(action, argparse._CountAction):
        if not isinstance(value, int):
            raise OptionError(f"Bad config -- {name!r} needs a number, not {value!r}")
        return [flag] * int(value)
    if action.nargs == 0:
        if not isinstance(value, int):
            raise OptionError(f"Bad config -- {name!r} needs true or false, not {value!r}")
        return [flag] if value else []
    if isinstance(value, (bool, dict)):
        raise OptionError(f"Bad config -- {name!r} needs a value, not {json.dumps(value)}")
    return _pair(action, str(value))


def _several(name: str, action: argparse.Action, values: list[Any]) -> list[str]:
    if action.nargs in ("+", "*"):
        return [action.option_strings[0], *map(str, values)] if values else []
    if isinstance(action, argparse._AppendAction):
        return [argument for value in values for argument in _pair(action, str(value))]
    raise OptionError(f"Bad config -- {name!r} takes one value, not a list")


def _pair(action: argparse.Action, value: str) -> list[str]:
    if value.startswith("-"):
        return [f"{action.option_strings[-1]}={value}"]
    return [action.option_strings[0], value]


def _read_test(path: Path, shown: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the `molotov` part of a configuration file and one of its tests."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"Can't find {shown!r}") from error
    except ValueError as error:
        raise OptionError(f"Can't parse {shown!r}") from error
    config = content.get("molotov") if isinstance(content, dict) else None
    if not isinstance(config, dict):
        raise OptionError("Bad config -- no molotov key")
    tests = config.get("tests")
    if not isinstance(tests, dict):
        raise OptionError("Bad config -- no molotov/tests key")
    test = tests.get(name)
    if not isinstance(test, dict):
        raise OptionError(f"Can't find {name!r} in the config")
    return config, test


def _set_environment(variables: Any) -> None:
    if not isinstance(variables, dict):
        raise OptionError("Bad config -- molotov/env must hold names and values")
    for name, value in variables.items():
        if isinstance(value, (dict, list)) or value is None:
            raise OptionError(f"Bad config -- the value of {name!r} in molotov/env must be a string")
        os.environ[name] = value if isinstance(value, str) else json.dumps(value)


def _use_packages(directory: Path, needed: bool) -> None:
    """Let the run import what was installed into the virtualenv of the working directory."""
    version = "python{}.{}".format(*sys.version_info[:2])
    packages = directory / "venv" / "lib" / version / "site-packages"
    if packages.is_dir():
        site.addsitedir(str(packages))
    elif needed:
        raise SlaveError(f"The virtualenv isn't one for {version}, which runs moloslave: see --python")


def _prepare_and_run(
    repository: str, name: str, directory: Path, start: str, args: argparse.Namespace
) -> Any:
    clone_repo(repository)
    config, test = _read_test(directory / args.config, args.config, name)
    requirements = config.get("requirements")
    if requirements is not None and not isinstance(requirements, str):
        raise OptionError("Bad config -- molotov/requirements must be the name of a file")
    # A mistake in the options costs no virtualenv.
    _command_line(test)
    create_virtualenv(args.virtualenv, args.python, pip=bool(requirements))
    if requirements:
        install_reqs(requirements)
    _use_packages(directory, needed=bool(requirements))
    _set_environment(config.get("env", {}))
    return run_test(**_kept(test, start))


def _kept(test: dict[str, Any], start: str) -> dict[str, Any]:
    """Make files with results relative to where the command was typed: the clone is removed at the end."""
    files = {
        name: os.path.join(start, value)
        for name in RESULT_FILES
        if isinstance(value := test.get(name), str) and value not in ("", "-")
    }
    return {**test, **files}


def _slave_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moloslave", description="Clone a git repository and run one of its load tests"
    )
    parser.add_argument("--version", action="store_true", default=False, help="print the version and exit")
    parser.add_argument(
        "--virtualenv", type=str, default="virtualenv", help="ignored; kept for old command lines"
    )
    parser.add_argument(
        "--python", type=str, default=sys.executable, help="interpreter of the virtualenv (default: this one)"
    )
    parser.add_argument(
        "--directory", type=str, default=None, help="where to clone (default: a temporary directory)"
    )
    parser.add_argument(
        "--config", type=str, default="molotov.json", help="configuration file in the repository"
    )
    parser.add_argument("repo", nargs="?", help="URL or path of the repository")
    parser.add_argument("run", nargs="?", help="name of the test in the configuration file")
    return parser


def main() -> Any:
    """Run the `moloslave` command; returns what `molotov.run.main` returned.

    Exits with 1 when cloning or installing fails, 2 on a usage error, 104 on a configuration error, otherwise
    as `molotov` would. A temporary working directory is removed whatever happens.
    """
    parser = _slave_parser()
    args = parser.parse_args()
    if args.version:
        print(__version__)
        sys.exit(0)
    if args.repo is None or args.run is None:
        parser.error("a repository and the name of a test are needed")

    # Both are relative to where the command was typed, which is not where the work happens.
    repository = os.path.abspath(args.repo) if os.path.exists(args.repo) else args.repo
    if os.sep in args.python:
        args.python = os.path.abspath(args.python)
    start = os.getcwd()
    temporary = args.directory is None
    directory = Path(tempfile.mkdtemp(prefix="moloslave-") if temporary else args.directory).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        os.chdir(directory)
        print(f"Working directory is {directory}", flush=True)
        return _prepare_and_run(repository, args.run, directory, start, args)
    except OptionError as error:
        print(error)
        sys.exit(_CONFIGURATION_ERROR)
    except SlaveError as error:
        print(error)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"Can't work in {str(directory)!r}: {error}")
        sys.exit(1)
    finally:
        os.chdir(start)
        if temporary:
            shutil.rmtree(directory, ignore_errors=True)
