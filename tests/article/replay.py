"""The article's question asked of the rig: which instance type does Kinto need? One command answers it.

    tests/rig/run.sh RIG_PYTHON python tests/article/replay.py --binary MOLOTOV [--html FILE] [--cpus N]

`make article` runs it and leaves the page. The rig's instances are containers on this machine, so its
instance types differ in their names and prices only: what is shown is the way, not which type is faster.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rig import TREE, Rig, Unusable, kinto_image, make_kinto_image

TYPES = "t3.medium,c8g.large"


def command(rig: Rig, port: int, cpus: str, files: dict[str, str], load: list[str]) -> list[str]:
    """Return the words of the one command. On another port than the image's own Kinto is told so."""
    words = [
        *("autosizer", "run", "--image", kinto_image.NAME, "--port", str(port)),
        *("--scenario", "scenarios/kinto.py", "--server-path", "/v1/"),
        *("--on", "ssm", "--instance-type", TYPES, "--region", rig.about["region"]),
        *("--bucket", rig.about["bucket"], "--instance-profile", rig.about["profile"], "--cpus", cpus),
    ]
    if port != kinto_image.PORT:
        words += ["--command", f"--port {port}"]
    for name, path in files.items():
        words += [f"--{name}", path]
    return [*words, "--", *load]


def as_autosizer(binary: Path, folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Return the environment in which `autosizer` is this binary, with the packages of this Python."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "autosizer").symlink_to(binary.resolve())
    path = f"{programs}{os.pathsep}{environment['PATH']}"
    # The binary takes aiohttp from there.
    return environment | {"PATH": path, "VIRTUAL_ENV": sys.prefix}


def main() -> int:
    parser = argparse.ArgumentParser(description="Replay the article on the test rig")
    parser.add_argument("--binary", type=Path, required=True, help="the molotov binary, built with AWS")
    parser.add_argument("--html", default="sizing.html")
    parser.add_argument("--cpus", default="0.5")
    parser.add_argument("--budget", default="60", help="seconds of each row's search")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rig").mkdir()
        try:
            make_kinto_image()
            rig = Rig(folder / "rig")
        except Unusable as why:
            print(f"make article: {why}", file=sys.stderr)
            return 1
        with rig:
            environment = as_autosizer(args.binary, folder, rig.environment)
            files = {"html": args.html, "json": str(Path(args.html).with_suffix(".json"))}
            load = ["-q", "--sizing-budget", args.budget]
            words = command(rig, kinto_image.PORT, args.cpus, files, load)
            print(f"$ {shlex.join(words)}", flush=True)
            code = subprocess.run(words, env=environment, cwd=TREE, check=False).returncode
            left = rig.left()
    print("Left behind: " + (", ".join(left) if left else "nothing"))
    return code or int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
