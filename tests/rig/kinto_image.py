"""A real Kinto as a container image, made of its virtual environment: no registry of images is asked.

As a module it offers `archive`, which makes the image's file system once and keeps it beside the
environment, and `CHANGES`, the image's settings, for whoever imports it into an engine. As a program, run by
the environment's own Python, it writes that file system:

    kinto-env/bin/python kinto_image.py ARCHIVE.tar
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import images

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parent.parent / "tools"
INI = TOOLS / "kinto-memory.ini"
NAME = "localhost/kinto:1"
PORT = 8888
ROOT = "kinto"
# Nothing that a Kinto in memory runs.
PACKAGES_LEFT_OUT = {"pip", "psycopg2", "psycopg2_binary.libs", "sqlalchemy", "test", "tests"}
CHANGES = [
    f"ENV PATH=/{ROOT}/bin",
    "ENV LANG=C.UTF-8",
    f'ENTRYPOINT ["kinto", "start", "--ini", "/{ROOT}/kinto.ini"]',
    f'CMD ["--port", "{PORT}"]',
    f"EXPOSE {PORT}",
    # As the container's first process it does not hear SIGTERM: Python leaves that to the kernel.
    "STOPSIGNAL SIGINT",
]
_START = f"""#!/{ROOT}/bin/python
import sys

from kinto.__main__ import main

sys.exit(main())
"""


def write(path: Path) -> None:
    """Write the file system of an image with this environment's Kinto."""
    packages = Path(sysconfig.get_path("purelib"))
    with tarfile.open(path, "w") as tar:
        # With what is compiled already: at a part of a core Kinto would be seconds longer in coming up.
        program = images.add_python(tar, images.LEFT_OUT, packages.rglob("*.so"))
        settings = [
            f"home = {Path(program).parent}",
            "include-system-site-packages = false",
            f"version = {'.'.join(map(str, sys.version_info[:3]))}",
        ]
        folder = f"{ROOT}/lib/python{sysconfig.get_python_version()}/site-packages"
        images.add_tree(tar, packages, folder, PACKAGES_LEFT_OUT)
        images.add_text(tar, f"{ROOT}/pyvenv.cfg", "\n".join([*settings, ""]))
        images.add_link(tar, f"{ROOT}/bin/python", program)
        images.add_text(tar, f"{ROOT}/bin/kinto", _START, 0o755)
        # In the container's own network: the engine publishes the port, on the loopback interface only.
        text = INI.read_text()
        assert "host = 127.0.0.1" in text
        images.add_text(tar, f"{ROOT}/kinto.ini", text.replace("host = 127.0.0.1", "host = 0.0.0.0"))


def archive() -> Path:
    """Return the image's file system; installs Kinto and makes it when there is none of this recipe yet."""
    sys.path.insert(0, str(TOOLS))
    import demo

    cache = demo.default_cache()
    kinto = demo.install_kinto(cache)
    python = kinto.parent / "python"
    recipe = hashlib.sha256(os.path.realpath(python).encode())
    for path in (HERE / "images.py", Path(__file__), INI):
        recipe.update(path.read_bytes())
    made = kinto.parent.parent / f"image-{recipe.hexdigest()[:16]}.tar"
    if not made.exists():
        for old in made.parent.glob("image-*.tar*"):
            old.unlink(missing_ok=True)
        # Several test runs may get here at once.
        partial = made.with_suffix(f".tar.{os.getpid()}")
        subprocess.run([str(python), __file__, str(partial)], check=True)
        partial.replace(made)
    return made


def import_words(made: Path) -> list[str]:
    """Return the words that make the image of an archive: `podman` goes before them."""
    changes = [word for change in [*CHANGES, f"LABEL {mark(made)}"] for word in ("--change", change)]
    return ["import", "--quiet", *changes, str(made), NAME]


def mark(made: Path) -> str:
    """Return the label by which an image is known to be of this archive."""
    return f"made-of={made.stem}"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
