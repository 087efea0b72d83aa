"""The rig as these tests use it: started with Podman, asked what is left in it, ended.

Needs the environment that `tests/rig/run.sh` makes. Also the image of Kinto, in the rig's own Podman.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "rig"))

import kinto_image as kinto_image  # noqa: E402

SECONDS = 120.0


class Unusable(Exception):
    """The rig cannot run here; the text says why."""


def podman(*words: str) -> str:
    """Run Podman on the rig's storage; returns what it printed."""
    done = subprocess.run(["podman", *words], capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise Unusable(f"podman {words[0]}: {done.stderr.strip()}")
    return done.stdout


def containers() -> list[str]:
    """Return the names of all containers of the rig's Podman, running or not."""
    return podman("ps", "--all", "--format", "{{.Names}}").split()


def make_kinto_image() -> str:
    """Make the image unless it is there as its recipe says; returns its name."""
    made = kinto_image.archive()
    label = f"label={kinto_image.mark(made)}"
    found = podman("images", "--filter", label, "--format", "{{.Repository}}:{{.Tag}}")
    if kinto_image.NAME not in found.split():
        podman(*kinto_image.import_words(made))
    return kinto_image.NAME


class Rig:
    """An account with nothing in it but a bucket and a role; ends with the block."""

    def __init__(self, folder: Path) -> None:
        for name in ("RIG_PYTHON", "RIG_PODMAN_SOCKET"):
            if name not in os.environ:
                raise Unusable(f"{name} is not set: tests/rig/run.sh sets it where Podman works")
        self.folder = folder
        #: Of other runs that use the same Podman, or were killed.
        self._others = set(containers())
        (folder / "images.json").write_text("{}")
        serve = TREE / "tests" / "rig" / "serve.py"
        words = [os.environ["RIG_PYTHON"], str(serve), "--machines", "podman", "--folder", str(folder)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise Unusable("the rig does not start")
        self.about: dict[str, str] = json.loads(line)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """What an operator's shell has: credentials, and where Amazon is."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        endpoint = self.about["endpoint"]
        return kept | {
            "AWS_ENDPOINT_URL": endpoint,
            "AUTOSIZER_ADDRESS_URL": f"{endpoint}/rig/address",
            "AWS_ACCESS_KEY_ID": self.about["access_key"],
            "AWS_SECRET_ACCESS_KEY": self.about["secret_key"],
            "AWS_EC2_METADATA_DISABLED": "true",
            # No settings of whoever runs this; the ledgers go there too.
            "HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    def state(self) -> dict[str, Any]:
        """Return what there is in the account."""
        with urllib.request.urlopen(
            f"{self.about['endpoint']}/rig/state", data=b"{}", timeout=SECONDS
        ) as answer:
            state: dict[str, Any] = json.load(answer)
        return state

    def left(self) -> list[str]:
        """Return everything that a run has left: in the account, in Podman, in its ledger."""
        state = self.state()
        kinds = ("instances", "groups", "objects", "processes")
        found = [f"{kind}: {one}" for kind in kinds for one in state[kind]]
        found += [f"container: {name}" for name in containers() if name not in self._others]
        found += [f"ledger: {path.name}" for path in (self.folder / "state").rglob("*.jsonl")]
        return found
