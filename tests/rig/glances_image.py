"""Makes the image of a real Glances, out of this Python and the packages beside it, unless it is there.

    python glances_image.py

Like the project's own image it is told what to do by `GLANCES_OPT`.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import sysconfig
import tarfile
from importlib import metadata
from pathlib import Path

TAG = "localhost/rig-glances"
HOME = "/opt/glances"
START = """\
import os, runpy, shlex, sys
sys.path.insert(0, "/opt/glances")
sys.argv = ["glances", *shlex.split(os.environ["GLANCES_OPT"])]
runpy.run_module("glances", run_name="__main__")
"""
USERS = "root:x:0:0:root:/root:/bin/sh\n"
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "ensurepip", "site-packages", "lib2to3", "__pycache__"}
#: The rig's own packages.
OTHERS = {"moto", "boto3", "botocore", "s3transfer", "pip", "setuptools"}


def _libraries(files: list[Path]) -> set[Path]:
    listing = subprocess.run(["ldd", *map(str, files)], check=False, capture_output=True, text=True)
    words = [line.split() for line in listing.stdout.splitlines()]
    found = {line[2] if "=>" in line and len(line) > 2 else line[0] for line in words if line}
    return {Path(path) for path in found if path.startswith("/") and not path.endswith(":")}


def image() -> bytes:
    """Python, its standard library, Glances and what it needs, and what all of them are linked to."""
    standard = Path(sysconfig.get_path("stdlib"))
    packages = Path(sysconfig.get_path("purelib"))
    program = Path(os.path.realpath(sys.executable))
    native = [path for path in packages.rglob("*.so*") if path.parts[len(packages.parts)] not in OTHERS]
    modules = list((standard / "lib-dynload").glob("*.so"))
    content = io.BytesIO()

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if LEFT_OUT & set(Path(entry.name).parts) else entry

    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("tmp", "evidence", "var", "var/run"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
        tar.add(program, str(program).lstrip("/"))
        for path in sorted(_libraries([program, *modules, *native])):
            tar.add(os.path.realpath(path), str(path).lstrip("/"))
        tar.add(standard, str(standard).lstrip("/"), filter=wanted)
        for path in sorted(packages.iterdir()):
            if path.name not in OTHERS and path.name != "__pycache__":
                tar.add(path, f"{HOME.lstrip('/')}/{path.name}", filter=wanted)
        for name, text in (("start.py", START), ("etc/passwd", USERS)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


def main() -> None:
    made_of = Path(__file__).read_bytes() + metadata.version("glances").encode() + sys.version.encode()
    tag = f"{TAG}:{hashlib.sha256(made_of).hexdigest()[:12]}"
    if subprocess.run(["podman", "image", "exists", tag], check=False).returncode:
        program = os.path.realpath(sys.executable)
        changes = [
            f'ENTRYPOINT ["{program}", "-S", "-E", "/start.py"]',
            f"ENV PYTHONHOME={sys.base_prefix}",
        ]
        options = [option for change in changes for option in ("--change", change)]
        subprocess.run(
            ["podman", "import", "-q", *options, "-", tag], input=image(), check=True, capture_output=True
        )
    print(tag)


main()
