"""The command: what it loads, what it prints, how it exits."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from command import counts, run, write
from molotov import __version__

PASSING = """
import molotov

@molotov.scenario()
async def passing(session):
    pass
"""
FAILING = """
import molotov

@molotov.scenario()
async def failing(session):
    raise ValueError("no luck")
"""


def test_version(tmp_path):
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_lines_of_a_plain_run(tmp_path):
    write(tmp_path, PASSING)
    done = run(tmp_path, "--single-run", "-c")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.encode().startswith(
        b"Preparing 1 worker...\n"
        b"OK\n"
        b"[W:0] Starting\n"
        b"[W:0] Running scenarios\n"
        b"[W:0] Setting up session of kind http\n"
        b"[W:0] Done!\n"
        b"**** Molotov v%s. Happy breaking! ****\n"
        b"SUCCESSES: 1 | FAILURES: 0\n"
        b"*** Bye ***\n" % __version__.encode()
    )
    assert "passing" in done.stdout.split("*** Bye ***")[1]


def test_the_closing_line_keeps_its_carriage_return(tmp_path):
    write(tmp_path, PASSING)
    command = [sys.executable, "-m", "molotov", "-c", "-r", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert b"SUCCESSES: 1 | FAILURES: 0\r\n*** Bye ***\n" in done.stdout


def test_progress_is_told_before_the_tenth_run(tmp_path):
    write(tmp_path, PASSING)
    assert " Ran " not in run(tmp_path, "-c", "-r", "9").stdout
    # At most once a second after that.
    assert "[W:0] Ran 10 scenarios\n" in run(tmp_path, "-c", "-r", "19").stdout


def test_quiet_prints_nothing_and_still_fails(tmp_path):
    write(tmp_path, FAILING)
    done = run(tmp_path, "-q", "-r", "2", "--fail", "1")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize(("limit", "code"), [(0, 1), (2, 1), (3, 0)])
def test_fail_counts_failures(tmp_path, limit, code):
    write(tmp_path, FAILING)
    done = run(tmp_path, "-c", "-r", "2", "--fail", limit)
    assert counts(done.stdout) == (0, 2)
    assert done.returncode == code


def test_a_run_with_failures_exits_with_0(tmp_path):
    write(tmp_path, FAILING)
    done = run(tmp_path, "-c", "-r", "2")
    assert done.returncode == 0
    assert counts(done.stdout) == (0, 2)
    assert "[W:0] Failure!\nValueError('no luck')\n" in done.stdout
    assert 'raise ValueError("no luck")' in done.stdout
    assert os.sep + "molotov" + os.sep not in done.stdout.split("Failure!")[1]


@pytest.mark.parametrize(
    "words", [("-r", "3"), ("-cr3",), ("loadtest.py", "-r", "3"), ("-r", "3", "loadtest.py")]
)
def test_options_in_any_position(tmp_path, words):
    write(tmp_path, PASSING)
    assert counts(run(tmp_path, *words).stdout) == (3, 0)


def test_missing_scenario(tmp_path):
    done = run(tmp_path, "nothing.py")
    assert done.returncode == 1
    assert done.stdout == "Cannot import 'nothing.py'\nTry `molotov molotov.dummy`\n*** Bye ***\n"
    assert done.stderr == ""


def test_directory_and_other_files(tmp_path):
    (tmp_path / "inner").mkdir()
    done = run(tmp_path, "inner")
    assert (done.returncode, done.stdout) == (1, "Cannot import 'inner'\n")
    write(tmp_path, "text", "notes.txt")
    done = run(tmp_path, "notes.txt")
    assert (done.returncode, done.stdout) == (1, "Cannot import 'notes.txt'\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable_file(tmp_path):
    write(tmp_path, PASSING).chmod(0)
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("Cannot import 'loadtest.py': ")


def test_syntax_error_shows_only_the_script(tmp_path):
    write(tmp_path, "def broken(:\n")
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "SyntaxError" in done.stderr
    assert "molotov/run.py" not in done.stderr


def test_a_module_that_fails_to_import_says_why(tmp_path):
    write(tmp_path, "import not_a_module_at_all\n", "broken.py")
    done = run(tmp_path, "broken")
    assert done.returncode == 1
    assert done.stdout.startswith("Cannot import 'broken'\n")
    assert "not_a_module_at_all" in done.stderr


def test_dotted_module_of_the_working_directory(tmp_path):
    (tmp_path / "package").mkdir()
    write(tmp_path / "package", PASSING, "inner.py")
    write(tmp_path / "package", "", "__init__.py")
    assert counts(run(tmp_path, "-r", "1", "package.inner").stdout) == (1, 0)


def test_neighbours_and_the_name_molotov(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    write(inner, "VALUE = 1\n", "neighbour.py")
    write(inner, f"import neighbour\n{PASSING}", "molotov.py")
    assert counts(run(tmp_path, "-r", "1", "inner/molotov.py").stdout) == (1, 0)


def test_dataclasses_work_in_a_script(tmp_path):
    write(
        tmp_path,
        """
        from __future__ import annotations
        from dataclasses import KW_ONLY, dataclass
        import molotov

        @dataclass
        class Note:
            _: KW_ONLY
            text: str = ""

        @molotov.scenario()
        async def passing(session):
            assert Note(text="x").text == "x"
        """,
    )
    assert counts(run(tmp_path, "-r", "1").stdout) == (1, 0)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("-q", "-v"), "You can't use -q and -v at the same time"),
        (("-s", "nope"), "Can't find 'nope' in registered scenarii"),
        (("-s", "passing", "--single-run"), "You can't use --single-mode and --single-run at the same time"),
    ],
)
def test_options_that_do_not_fit(tmp_path, words, line):
    write(tmp_path, PASSING)
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout, done.stderr) == (1, f"{line}\n", "")


def test_no_scenario(tmp_path):
    write(tmp_path, PASSING.replace("scenario()", "scenario(weight=0)"))
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stdout == (
        "You need at least one scenario. No scenario was found.\nA scenario with a weight of 0 is ignored\n"
    )


@pytest.mark.parametrize(
    "words", [("--nope",), ("-d", "soon"), ("-w", "1.5"), ("--ramp-up", "-1"), ("--delay", "nan")]
)
def test_usage_errors(tmp_path, words):
    write(tmp_path, PASSING)
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.parametrize("value", ["1", "0.2", "200ms"])
def test_durations(tmp_path, value):
    write(tmp_path, PASSING)
    done = run(tmp_path, "-c", "-d", value)
    assert done.returncode == 0
    assert counts(done.stdout)[0] > 0


def test_no_workers_run_nothing(tmp_path):
    write(tmp_path, PASSING)
    done = run(tmp_path, "-c", "-w", "0")
    assert done.returncode == 0
    assert counts(done.stdout) == (0, 0)


def test_negative_max_runs_run_nothing_and_0_is_unlimited(tmp_path):
    write(tmp_path, PASSING)
    assert counts(run(tmp_path, "-c", "-r", "-1").stdout) == (0, 0)
    assert counts(run(tmp_path, "-c", "-r", "0", "-d", "0.2").stdout)[0] > 1


@pytest.mark.parametrize("words", [("ext.py", "loadtest.py"), ("ext.py",), ("ext.py", "other.py")])
def test_extension_gives_the_scenario_back(tmp_path, words):
    write(tmp_path, "print('extended')\n", "ext.py")
    write(tmp_path, PASSING, "other.py" if "other.py" in words else "loadtest.py")
    done = run(tmp_path, "-c", "-r", "1", "--use-extension", *words)
    assert done.stdout.startswith("Loading extension 'ext.py'\nextended\nPreparing")
    assert counts(done.stdout) == (1, 0)


def test_missing_extension(tmp_path):
    write(tmp_path, PASSING)
    done = run(tmp_path, "--use-extension=nothing_here", "-r", "1")
    assert done.returncode == 1
    assert "Cannot import 'nothing_here'\n" in done.stdout


def test_every_printed_line_is_shown(tmp_path):
    write(
        tmp_path,
        """
        import molotov

        @molotov.scenario()
        async def talking(session):
            session.print(f"line {molotov.get_context(session).step}")
        """,
    )
    done = run(tmp_path, "-c", "-r", "400")
    assert [line for line in done.stdout.splitlines() if line.startswith("line ")] == [
        f"line {number}" for number in range(1, 401)
    ]


def test_a_flood_of_failures_is_grouped_with_its_count(tmp_path):
    write(tmp_path, FAILING)
    done = run(tmp_path, "-c", "-r", "1000")
    assert counts(done.stdout) == (0, 1000)
    assert done.stdout.count("[W:0] Failure!") == 100
    grouped = [line.split()[1] for line in done.stdout.splitlines() if "more times: ValueError" in line]
    assert sum(map(int, grouped)) == 900


def test_debug_mode(tmp_path):
    write(tmp_path, PASSING)
    done = run(tmp_path, "-c", "-r", "1", "--debug")
    assert "**** RUNNING IN DEBUG MODE == SLOW ****" in done.stdout
    assert counts(done.stdout) == (1, 0)


def test_nothing_heavy_is_imported_before_the_script(tmp_path):
    write(tmp_path, f"import sys\nprint(sorted(sys.modules))\n{PASSING}")
    done = run(tmp_path, "-q", "-r", "1")
    assert done.returncode == 0, done.stderr
    for name in ("aiohttp", "yarl", "multidict", "multiprocessing", "json", "importlib.metadata"):
        assert f"'{name}'" not in done.stdout, name


def test_sys_exit_in_a_scenario_ends_the_run_with_its_code(tmp_path):
    write(
        tmp_path,
        """
        import sys, molotov

        @molotov.scenario()
        async def leaving(session):
            sys.exit(3)

        @molotov.global_teardown()
        def bye():
            print("torn down")
        """,
    )
    done = run(tmp_path, "-c", "-w", "3")
    assert done.returncode == 3
    assert "torn down" in done.stdout
    assert "SUCCESSES" not in done.stdout


def test_a_base_exception_is_a_counted_failure(tmp_path):
    write(
        tmp_path,
        """
        import molotov

        class Odd(BaseException):
            pass

        @molotov.scenario()
        async def odd(session):
            raise Odd()
        """,
    )
    done = run(tmp_path, "-c", "-r", "3")
    assert counts(done.stdout) == (0, 3)
    assert "Odd()" in done.stdout


def test_single_mode_repeats_and_single_run_runs_each_once(tmp_path):
    write(
        tmp_path,
        """
        import molotov

        @molotov.scenario(weight=1)
        async def b(session):
            session.print("ran b")

        @molotov.scenario(weight=100)
        async def a(session):
            session.print("ran a")
        """,
    )
    done = run(tmp_path, "-c", "-s", "b", "-r", "3")
    assert done.stdout.count("ran b") == 3
    assert "ran a" not in done.stdout
    done = run(tmp_path, "-c", "--single-run", "-w", "2")
    assert counts(done.stdout) == (4, 0)
    assert done.stdout.index("ran a") < done.stdout.index("ran b")


def test_the_exception_option_stops_at_the_first_failure(tmp_path):
    write(tmp_path, FAILING)
    assert counts(run(tmp_path, "-cx").stdout) == (0, 1)


def test_uvloop_that_is_missing(tmp_path):
    write(tmp_path, PASSING)
    write(tmp_path, "raise ImportError('no')\n", "uvloop.py")
    done = run(tmp_path, "--uvloop", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "You need to install uvloop when using --uvloop\n")


def test_a_script_with_its_own_loop_runs_through_the_bridge(tmp_path):
    write(
        tmp_path,
        """
        import asyncio, molotov

        class Policy(asyncio.DefaultEventLoopPolicy):
            pass

        asyncio.set_event_loop_policy(Policy())

        @molotov.scenario()
        async def passing(session):
            await asyncio.sleep(0)
        """,
    )
    done = run(tmp_path, "-c", "-r", "2")
    assert counts(done.stdout) == (2, 0)
    assert "through the bridge" in done.stdout


@pytest.mark.parametrize("words", ["-c -r 5000", "-c -p 2 -r 5000"])
@pytest.mark.parametrize("output", ["-", "full", "reader"])
def test_an_output_that_cannot_be_written_does_not_end_the_run(tmp_path, words, output):
    write(
        tmp_path,
        """
        import molotov

        @molotov.scenario()
        async def talking(session):
            session.print("a line")

        @molotov.global_teardown()
        def end():
            open("ended", "w").close()
        """,
    )
    target = {"-": ">&-", "full": "> /dev/full", "reader": "| head -1"}[output]
    command = f"set -o pipefail; '{sys.executable}' -m molotov {words} {target}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ended").exists()
    assert done.stderr == ("Can't write the output: No space left on device\n" if output == "full" else "")


def test_python_dash_m(tmp_path):
    command = [sys.executable, "-m", "molotov", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{__version__}\n"
