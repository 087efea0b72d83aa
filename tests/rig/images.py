"""Makes the images that the rig's containers run, out of this machine's files: there is no registry to ask.

    python images.py

`rig-instance` is nothing but mount points (an instance borrows this machine's programs, read-only);
`rig-service` is this Python with its libraries and `service.py`. What both are made with also makes
`kinto_image.py`'s.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Collection, Iterable
from pathlib import Path

HERE = Path(__file__).parent
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "ensurepip", "site-packages", "lib2to3"}
# The library for linking Python into other programs is as large as all the rest.
LEFT_OUT.add(Path(sysconfig.get_config_var("LIBPL") or "config").name)
COMPILED = "__pycache__"


def add_folder(tar: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    tar.addfile(entry)


def add_link(tar: tarfile.TarFile, name: str, to: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, to
    tar.addfile(entry)


def add_text(tar: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text.encode()), mode
    tar.addfile(entry, io.BytesIO(text.encode()))


def add_tree(tar: tarfile.TarFile, source: Path, name: str, left_out: Collection[str]) -> None:
    """A folder without what has one of these names, at any depth, and without what `python -O` would use."""

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        inside = Path(entry.name).relative_to(name).parts
        is_other = entry.name.endswith((".opt-1.pyc", ".opt-2.pyc"))
        return None if is_other or set(left_out) & set(inside) else entry

    tar.add(source, name, filter=wanted)


def add_python(tar: tarfile.TarFile, left_out: Collection[str], more: Iterable[Path] = ()) -> str:
    """This Python, its standard library, and what they and `more` are linked to; returns its program."""
    standard = Path(sysconfig.get_path("stdlib"))
    program = Path(os.path.realpath(sys.executable))
    modules = list((standard / "lib-dynload").glob("*.so"))
    add_folder(tar, "tmp")
    tar.add(program, str(program).lstrip("/"))
    for path in sorted(_libraries([program, *modules, *more])):
        tar.add(os.path.realpath(path), str(path).lstrip("/"))
    add_tree(tar, standard, str(standard).lstrip("/"), left_out)
    return str(program)


def _libraries(files: list[Path]) -> set[Path]:
    """Everything that the dynamic linker would load for these."""
    found = set()
    listing = subprocess.run(["ldd", *map(str, files)], check=False, capture_output=True, text=True)
    for line in listing.stdout.splitlines():
        words = line.split()
        path = words[2] if "=>" in words and len(words) > 2 else words[0] if words else ""
        if path.startswith("/") and not path.endswith(":"):
            found.add(Path(path))
    return found


def _import(tag: str, content: bytes, *changes: str) -> None:
    options = [option for change in changes for option in ("--change", change)]
    subprocess.run(
        ["podman", "import", "-q", *options, "-", tag], input=content, check=True, capture_output=True
    )


def instance() -> bytes:
    """Mount points and the links that a merged /usr needs."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("usr", "etc", "tmp", "var", "var/lib", "root", "run", "proc", "sys", "dev"):
            add_folder(tar, name)
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                add_link(tar, name, os.readlink(f"/{name}"))
    return content.getvalue()


def service() -> bytes:
    """Python, its standard library and what both are linked to."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        add_python(tar, {*LEFT_OUT, COMPILED})
        tar.add(HERE / "service.py", "service.py")
    return content.getvalue()


def main() -> None:
    program = os.path.realpath(sys.executable)
    _import("localhost/rig-instance:1", instance())
    _import(
        "localhost/rig-service:1",
        service(),
        f'ENTRYPOINT ["{program}", "-S", "-E", "/service.py"]',
        "ENV SERVICE_BIND=0.0.0.0",
        f"ENV PYTHONHOME={sys.base_prefix}",
    )


if __name__ == "__main__":
    main()
