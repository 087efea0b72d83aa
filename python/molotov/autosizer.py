"""The ``autosizer`` command: start a service, find how much it takes, leave nothing behind.

Owns the command line, and the load: the ``molotov`` command in this process, on a scenario file or on a test
of a repository. Configuration files are read by :mod:`molotov._autosizer_config`; the flow itself is the
engine's, ``_core.autosize``. The command line is argparse's, as that of the other commands: the load's
options are parsed by molotov's own parser before anything is started, and the binary carries this package
anyway.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from molotov import __version__, _results, _signals, api, util
from molotov._autosizer_config import SAMPLE, names_of, read_config
from molotov._options import duration, make_parser
from molotov.exceptions import OptionError

__all__ = ["main"]

_CONFIGURATION_ERROR = 104
_INTERRUPTED = 105
_DEFAULT_READY_SECONDS = 60.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What the flow sets itself, so that it can't be among the load's options.
_OURS = ("--json", "--monitor", "--config", "--demo")

_DEFAULTS: dict[str, Any] = {
    "ready_path": "/",
    "ready_timeout": _DEFAULT_READY_SECONDS,
    "server_path": "",
    "test": "test",
}


def _add_run(parser: argparse.ArgumentParser) -> None:
    def add(*flags: str, **options: Any) -> None:
        # None is "not given": a configuration file may say more.
        parser.add_argument(*flags, **{"default": None, **options})

    add("repo_image", nargs="?", metavar="REPO#IMAGE", help="scenarios' repository and the service's image")
    add("--on", choices=["local", "container", "ssm"], help="where the service runs (default: local)")
    add("--command", metavar="'PROGRAM ARGS'", help="what to start; no shell reads it")
    add("--image", metavar="NAME", help="container image to start")
    add("--port", type=int, metavar="N", help="TCP port that the service listens on")
    add("--env", action="append", metavar="NAME[=VALUE]", help="variable for the service; repeatable")
    add("--env-file", metavar="FILE", help="variables for the service, one NAME=VALUE per line")
    add("--directory", metavar="DIR", help="where the command runs")
    add("--ready-path", metavar="PATH", help="path that answers when it is ready (default: /)")
    add("--ready-timeout", type=duration, metavar="T", help="time until it has to answer (default: 60)")
    add("--service-log", metavar="FILE", help="keep the service's log")
    add("--server-path", metavar="PATH", help="what follows the port in SERVER_URL, e.g. /v1/")
    add("--cpus", metavar="N[,N]", help="cores that it may use; several are tried one after another")
    add("--memory", metavar="SIZE[,SIZE]", help="memory that it may use, e.g. 512m,1g")
    add("--instance-type", metavar="NAME[,NAME]", help="with --on ssm")
    _add_ssm(parser)
    add("--scenario", metavar="FILE", help="scenarios of the load test")
    add("--scenario-repo", metavar="URL[#TEST]", help="repository of the load test, as moloslave takes it")
    add("--no-sizing", action="store_true", help="run the load as its options say, without --sizing")
    add("--need", type=float, metavar="N", help="requests per second that are needed: recommend for these")
    add("--prices", metavar="FILE", help="prices, as docs/autosizer.md describes them")
    add("--baseline", metavar="FILE", help="compare with what an earlier --json wrote")
    add("--json", metavar="FILE", help="write everything that was found")
    add("--html", metavar="FILE", help="write a page")
    add("--markdown", metavar="FILE", help="write the table")
    add("--csv", metavar="FILE", help="write the table")
    add("--log", metavar="FILE", help="write the steps as JSON lines")
    add(
        "--config",
        metavar="FILE",
        help="autosizer.toml, pyproject.toml or molotov.json (default: what is here)",
    )


#: Options of ``--on ssm`` only, by which the engine finds them in ``target``.
_SSM = (
    "region",
    "profile",
    "bucket",
    "prefix",
    "instance_profile",
    "instance_id",
    "ami",
    "subnet",
    "private_address",
    "allow_from",
    "keep",
    "time_to_live",
    "owner",
    "disk",
    "collector",
    "glances_image",
    "all",
    "run",
)


def _add_ssm(parser: argparse.ArgumentParser) -> None:
    def add(*flags: str, **options: Any) -> None:
        parser.add_argument(*flags, **{"default": None, **options})

    add("--region", metavar="NAME", help="AWS region (default: AWS_REGION or the profile's)")
    add("--profile", metavar="NAME", help="AWS profile (default: AWS_PROFILE)")
    add("--bucket", metavar="NAME", help="S3 bucket that the instance may write its output to")
    add("--prefix", metavar="PATH", help="where in it (default: autosizer)")
    add("--instance-profile", metavar="NAME", help="instance profile with the role for the instance")
    add("--instance-id", metavar="ID", help="use this instance instead of launching one")
    add("--ami", metavar="ID", help="image instead of the newest Amazon Linux 2023")
    add("--subnet", metavar="ID", help="subnet instead of the default ones")
    add("--private-address", action="store_true", help="reach the instance inside the VPC")
    add("--allow-from", metavar="CIDR", help="who may connect to the service (default: this machine)")
    add("--keep", action="store_true", help="leave the instance for the next run")
    add("--time-to-live", type=duration, metavar="T", help="when the instance ends itself (default: 4h)")
    add("--owner", metavar="NAME", help="whose it is, for the tag (default: USER)")
    add("--disk", type=int, metavar="GIB", help="size of its disk (default: 20)")
    add("--collector", choices=["native", "glances"], help="what measures on the instance (default: native)")
    add("--glances-image", metavar="NAME", help="image of Glances (default: nicolargo/glances:latest)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autosizer",
        description="Start a service, find how much it takes and what gives out first, and remove it again.",
        epilog="Options after -- are molotov's: autosizer run ... -- --sizing-budget 60 -w 200",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="start, size, report, clean up", epilog=parser.epilog))
    init = commands.add_parser("init", help="write a commented autosizer.toml")
    init.add_argument("file", nargs="?", default="autosizer.toml", metavar="FILE")
    for name, text in [
        ("list", "show what runs have made and not removed; with --region in the account too"),
        ("gc", "remove what crashed runs have left; with --region what is over in the account too"),
    ]:
        at_account = commands.add_parser(name, help=text)
        at_account.add_argument("--region", metavar="NAME", help="AWS region to look at")
        at_account.add_argument("--profile", metavar="NAME", help="AWS profile")
        if name == "gc":
            at_account.add_argument("--run", metavar="ID", help="in the account: all that this run has made")
            at_account.add_argument(
                "--all",
                action="store_true",
                default=None,
                help="in the account: all of ours, also of runs that may still go on elsewhere",
            )
            at_account.add_argument(
                "--bucket", metavar="NAME", help="S3 bucket whose folders of runs are removed"
            )
            at_account.add_argument("--prefix", metavar="PATH", help="where in it (default: autosizer)")
    for name, text in [
        ("check", "whether a run with --on ssm would be allowed; makes nothing"),
        ("iam-policy", "the permissions that --on ssm needs"),
    ]:
        look = commands.add_parser(name, help=text)
        look.add_argument("--instance-type", metavar="NAME")
        _add_ssm(look)
    return parser


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return our own words and those for molotov, which follow ``--``."""
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _environment(given: list[str], file: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    lines = []
    if file is not None:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise OptionError(f"--env-file {file}: {error.strerror}") from None
        lines = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for item in [*lines, *given]:
        name, separator, value = item.partition("=")
        if not name or name != name.strip():
            # The value may be a secret.
            raise OptionError(f"--env needs NAME=VALUE, not {name + separator!r}...")
        if separator:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
        else:
            raise OptionError(f"--env {name}: there is no such variable here, and no value was given")
    return found


def _merge(args: argparse.Namespace, load: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return all options, the command line's before the file's before the defaults, and those for molotov."""
    given = {name: value for name, value in vars(args).items() if name != "what" and value is not None}
    config = read_config(given.pop("config", None), names_of(_parser_of_run()))
    load = [*[str(word) for word in config.pop("molotov", [])], *load]
    if "env" in config and "env" in given:
        given["env"] = [*config["env"], *given["env"]]
    options = {**_DEFAULTS, **config, **given}
    whole = options.pop("repo_image", None)
    if whole is not None:
        repo, separator, image = whole.rpartition("#")
        if not separator or not repo or not image:
            raise OptionError(f"{whole!r} is not REPO#IMAGE")
        options.setdefault("scenario_repo", repo)
        options.setdefault("image", image)
    options.setdefault("on", "container" if options.get("image") else "local")
    command = options.get("command") or []
    try:
        options["command"] = shlex.split(command) if isinstance(command, str) else [str(w) for w in command]
    except ValueError as error:
        raise OptionError(f"--command: {error}") from None
    options["env"] = _environment(options.get("env") or [], options.pop("env_file", None))
    port = options.get("port") or 0
    if not isinstance(port, int) or not 0 < port < 65536:
        raise OptionError("--port needs the port that the service listens on, 1 to 65535")
    return options, load


def _parser_of_run() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="autosizer run")
    _add_run(parser)
    return parser


class _Load:
    """Runs molotov in this process, as often as the flow asks for it."""

    def __init__(self, options: dict[str, Any], words: list[str]) -> None:
        self._server_path = str(options.get("server_path") or "")
        self._words = list(words)
        self._from_repo: list[str] = []
        self._scenario = options.get("scenario")
        self._repo = options.get("scenario_repo")
        self._test = str(options.get("test"))
        self._folder: str | None = None
        self._interruptions = 0
        self._running = False
        self._installed = 0
        if not options.get("no_sizing") and "--sizing" not in self._words:
            self._words.insert(0, "--sizing")
        self._check()

    def _check(self) -> None:
        if (self._scenario is None) == (self._repo is None):
            raise OptionError("One of --scenario and --scenario-repo is needed")
        for word in self._words:
            flag = word.split("=", 1)[0]
            if flag in _OURS:
                raise OptionError(f"{flag} can't be among molotov's options: autosizer sets it")
        if self._scenario is not None and not os.path.isfile(self._scenario):
            raise OptionError(f"There is no scenario file {self._scenario!r}")
        # Exits with 2, before anything is started.
        make_parser().parse_args([*self._words, self._scenario or "loadtest.py"])

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Fetch the scenarios, and take the signals, while the flow runs."""
        here = os.getcwd()
        previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            if self._repo is not None:
                self._fetch()
            yield
        finally:
            os.chdir(here)
            for number, handler in previous.items():
                signal.signal(number, handler)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._interruptions += 1
        if self._running and _signals.installed == self._installed:
            # Molotov imports the scenarios, or is in their global_setup: nothing there asks whether to stop.
            raise KeyboardInterrupt
        if self._running and number == signal.SIGHUP:
            # The one that molotov does not take.
            util.stop()

    def interruptions(self) -> int:
        """Return how often the user has asked to stop."""
        return self._interruptions + _signals.received

    def _fetch(self) -> None:
        from molotov import slave

        repo, _, test = str(self._repo).partition("#")
        test = test or self._test
        shown = _without_user(repo)
        if os.path.exists(repo):
            repo = os.path.abspath(repo)
        self._folder = tempfile.mkdtemp(prefix="molotov-scenarios-")
        os.chdir(self._folder)
        print(f"Cloning {shown}", file=sys.stderr, flush=True)
        try:
            slave.clone_repo(repo)
            config, options = slave._read_test(Path("molotov.json"), "molotov.json", test)
            requirements = config.get("requirements")
            if requirements:
                slave.create_virtualenv("virtualenv", sys.executable)
                slave.install_reqs(requirements)
                slave._use_packages(Path(self._folder), needed=True)
            slave._set_environment(config.get("env", {}))
            self._from_repo = slave._command_line(options)
        except slave.SlaveError as error:
            raise OptionError(str(error).replace(repo, shown)) from None
        self._scenario = str(options.get("scenario", "loadtest.py"))
        # The scenario stands in the middle of that command line; what follows takes several values.
        at = self._from_repo.index(self._scenario)
        self._from_repo = [*self._from_repo[:at], *self._from_repo[at + 1 :]]

    def __call__(self, environment: list[tuple[str, str]], monitor: list[str], results: str) -> int:
        """Make the load; returns molotov's exit code."""
        from molotov.run import main as molotov

        words = [*self._from_repo, *self._words, f"--json={results}"]
        words += [f"--monitor={source}" for source in monitor]
        words.append(str(self._scenario))
        # What an earlier row has left: the scenarios read SERVER_URL when they are imported.
        for left in (api._SCENARIO, api._FIXTURES, util._VARS):
            left.clear()
        sys.modules.pop(str(self._scenario), None)
        saved = {name: os.environ.get(name) for name, _ in environment}
        argv = sys.argv
        # The command that the results show; ours may hold values of the service's environment.
        sys.argv = ["molotov", *words]
        os.environ.update({name: value + self._server_path for name, value in environment})
        _results.private.add(results)
        self._installed = _signals.installed
        try:
            self._running = True
            # From now on a signal ends it; one that came before, since the last step, would be lost.
            return _INTERRUPTED if self._interruptions else molotov()
        except SystemExit as error:
            return _exit_code(error)
        except KeyboardInterrupt:
            return _INTERRUPTED
        finally:
            self._running = False
            sys.argv = argv
            sys.stdout.flush()
            for name, value in saved.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    if parts.hostname is None or "@" not in parts.netloc:
        return url
    return url.replace(parts.netloc, f"***@{parts.netloc.rpartition('@')[2]}")


def _run(args: argparse.Namespace, words: list[str]) -> int:
    from molotov import _core

    options, words = _merge(args, words)
    load = _Load(options, words)
    if options["on"] == "local":
        # The load may run in a repository's folder.
        options.setdefault("directory", os.getcwd())
    ours = _for_engine(options)
    ours["invocation"] = ["autosizer", *_shown(sys.argv[1:])]
    with load.ready():
        code, table, failures = _core.autosize(json.dumps(ours), load, load.interruptions)
    if table:
        print(table, end="", flush=True)
    for failure in failures:
        print(f"autosizer: {failure}", file=sys.stderr)
    files = [str(options[name]) for name in ("json", "html", "markdown", "csv") if options.get(name)]
    if table and files:
        print(f"Results written to {', '.join(files)}", flush=True)
    return int(code)


def _shown(words: list[str]) -> list[str]:
    """Return a command line without the values of the service's variables and without users of URLs."""
    shown = []
    is_variable = False
    for word in words:
        flag = "--env=" if word.startswith("--env=") else ""
        if is_variable or flag:
            word = flag + word[len(flag) :].partition("=")[0]
        is_variable = word == "--env"
        shown.append(_without_user(word) if "://" in word else word)
    return shown


def _for_engine(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as the engine takes them: those of one target apart."""
    given = {name: value for name, value in options.items() if value is not None}
    ours = {name: _absolute(name, value) for name, value in given.items() if name not in _SSM}
    ours["target"] = {name: value for name, value in given.items() if name in _SSM}
    return ours


_PATHS = ("directory", "service_log", "prices", "baseline", "json", "html", "markdown", "csv", "log")


def _absolute(name: str, value: Any) -> Any:
    """Return paths as seen from here: the load may run in a repository's folder."""
    return os.path.abspath(value) if name in _PATHS else value


def _init(path: str) -> int:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(SAMPLE)
    except FileExistsError:
        print(f"autosizer: {path} is there already", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"autosizer: can't write {path}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"Wrote {path}")
    return 0


def _account(args: argparse.Namespace) -> tuple[list[str], bool]:
    """Look at the AWS account, as ``args.what`` says."""
    from molotov import _core

    options = {name: value for name, value in vars(args).items() if name != "what"}
    return _core.autosizer_account(args.what, json.dumps(_for_engine(options)))


def _show_account(args: argparse.Namespace) -> int:
    lines, is_fine = _account(args)
    print("\n".join(lines))
    return 0 if is_fine else 1


def _list(args: argparse.Namespace) -> int:
    from molotov import _core

    lines = _core.autosizer_list()
    if args.region or args.profile:
        lines += _account(args)[0]
    print("\n".join(lines) if lines else "Nothing is left of any run.")
    return 0


def _gc(args: argparse.Namespace) -> int:
    from molotov import _core

    lines, all_gone = _core.autosizer_gc()
    if args.region or args.profile or args.run or args.all or args.bucket:
        lines += _account(args)[0]
    print("\n".join(lines) if lines else "Nothing to remove.")
    return 0 if all_gone else 1


def main() -> int:
    """Run the command; returns the exit code, which docs/autosizer.md lists. Exits with 2 when misused."""
    ours, words = _split(sys.argv[1:])
    args = _parser().parse_args(ours)
    try:
        if args.what == "run":
            return _run(args, words)
        if args.what == "init":
            return _init(args.file)
        if args.what in ("check", "iam-policy"):
            return _show_account(args)
        return _list(args) if args.what == "list" else _gc(args)
    except OptionError as error:
        print(f"autosizer: {error}", file=sys.stderr)
        return _CONFIGURATION_ERROR
    except OSError as error:
        print(f"autosizer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
