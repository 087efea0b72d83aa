"""What the binary runs in the Python it has started: the package it carries, then its command.

The package's modules come from inside the binary, ahead of any installed copy, which could not match the
native half that is linked in. Their sources are there too, so that tracebacks show lines.
"""

import importlib
import marshal
import os
import sys
from importlib._bootstrap_external import MAGIC_NUMBER
from importlib.machinery import BuiltinImporter, ModuleSpec

ENTRIES = {
    "autosizer": "molotov.autosizer",
    "moloslave": "molotov.slave",
    "molostart": "molotov.quickstart",
    "molotov-report": "molotov.report",
}


class CarriedPackage:
    """Finds and loads the modules inside the binary, by dotted name."""

    def __init__(self, modules, bytecode_fits):
        self.modules = modules
        self.bytecode_fits = bytecode_fits

    def find_spec(self, name, path=None, target=None):
        if name == "molotov._core":
            return ModuleSpec(name, BuiltinImporter, origin="built-in")
        if name not in self.modules:
            return None
        package, file, _, _ = self.modules[name]
        spec = ModuleSpec(name, self, origin=file, is_package=package)
        spec.has_location = True
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name):
        _, file, source, code = self.modules[name]
        if self.bytecode_fits:
            return marshal.loads(code)
        return compile(source, file, "exec", dont_inherit=True)

    def get_source(self, name):
        return self.modules[name][2].decode() if name in self.modules else None

    def is_package(self, name):
        return self.modules[name][0]


class MissingAiohttp:
    """Last in line: only asked for aiohttp when no other finder has it."""

    def find_spec(self, name, path=None, target=None):
        if name == "aiohttp":
            raise ModuleNotFoundError(
                f"No module named 'aiohttp': install it with {sys.executable} -m pip install aiohttp",
                name=name,
            )
        return None


def restore_environment(library_folder):
    """Take back what the first stage set, so that programs started by a scenario do not see it."""
    os.environ.pop("MOLOTOV_LAUNCH", None)
    if library_folder:
        rest = os.environb[b"LD_LIBRARY_PATH"].removeprefix(library_folder).removeprefix(b":")
        if rest:
            os.environb[b"LD_LIBRARY_PATH"] = rest
        else:
            del os.environb[b"LD_LIBRARY_PATH"]


def exit_code(value):
    """Return the process's exit code for the argument of a SystemExit, by Python's own rules."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFF
    print(value, file=sys.stderr)
    return 1


def print_error(error):
    """Print as the interpreter does, with the source lines that only the import hook knows."""
    import traceback

    traceback.print_exception(error.with_traceback(error.__traceback__.tb_next))


def main(modules, magic, arguments, library_folder):
    """Run the command; return the exit code."""
    restore_environment(library_folder)
    sys.argv = [os.fsdecode(argument) for argument in arguments]
    sys.meta_path.insert(0, CarriedPackage(modules, magic == MAGIC_NUMBER))
    sys.meta_path.append(MissingAiohttp())
    entry = ENTRIES.get(os.path.basename(sys.argv[0]), "molotov.run")
    try:
        return exit_code(importlib.import_module(entry).main())
    except SystemExit as error:
        return exit_code(error.code)
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if error.name == "aiohttp":
            print(f"molotov: {error}", file=sys.stderr)
        else:
            print_error(error)
        return 1
    except BaseException as error:
        print_error(error)
        return 1
