"""A Podman of the tests' own: storage and socket in a temporary folder, images made from local files.

The two settings are what Podman 4 needs in a virtual machine without systemd: without limits of its own it
asks for more open files than allowed, and its default runtime refuses hybrid control groups.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from pathlib import Path

SETTINGS = """\
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]
[engine]
runtime = "runc"
events_logger = "file"
cgroup_manager = "cgroupfs"
"""
APPLETS = ("sh", "httpd", "sleep", "cat", "echo", "dd", "env", "kill", "tail")
IMAGE = "localhost/molotov-test:1"
FOREIGN_IMAGE = "localhost/molotov-foreign:1"
DEADLINE = 60.0  # seconds


class Unusable(Exception):
    """Podman cannot run here; the text says why."""


class Podman:
    """The engine; `close` ends it and removes everything that it has made."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("podman") is None:
            raise Unusable("podman is not installed")
        busybox = shutil.which("busybox")
        if busybox is None or os.geteuid() != 0:
            raise Unusable("busybox is not installed" if busybox is None else "not the superuser")
        self.folder = folder
        self.socket = folder / "podman.sock"
        (folder / "containers.conf").write_text(SETTINGS)
        self._service: subprocess.Popen[bytes] | None = None
        try:
            self._import(IMAGE, busybox)
            self._import(FOREIGN_IMAGE, busybox, "--arch=s390x")
            self.call("run", "--rm", "--memory=64m", "--cpus=0.5", IMAGE, "echo", "works")
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.socket}"}

    def _command(self) -> list[str]:
        return ["podman", f"--root={self.folder / 'root'}", f"--runroot={self.folder / 'run'}"]

    def _variables(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self.folder / "containers.conf")}

    def call(self, *words: str, content: bytes | None = None) -> str:
        try:
            done = subprocess.run(
                [*self._command(), *words],
                input=content,
                env=self._variables(),
                capture_output=True,
                check=True,
                timeout=DEADLINE,
            )
        except subprocess.CalledProcessError as error:
            raise Unusable(f"podman {words[0]}: {error.stderr.decode().strip()}") from None
        except subprocess.TimeoutExpired:
            raise Unusable(f"podman {words[0]} hangs") from None
        return done.stdout.decode()

    def _import(self, name: str, busybox: str, *options: str) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(os.path.realpath(busybox), "bin/busybox")
            for applet in APPLETS:
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
            for folder in ("tmp", "proc", "sys", "dev", "etc"):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
        self.call("import", *options, "-", name, content=packed.getvalue())

    def _start(self) -> None:
        with (self.folder / "service.log").open("wb") as log:
            self._service = subprocess.Popen(
                [*self._command(), "system", "service", "--time=0", f"unix://{self.socket}"],
                env=self._variables(),
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        give_up = time.monotonic() + DEADLINE
        while time.monotonic() < give_up and self._service.poll() is None:
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(self.socket))
                    return
                except OSError:
                    time.sleep(0.02)
        raise Unusable(f"podman's service does not answer: {(self.folder / 'service.log').read_text()}")

    def containers(self) -> list[str]:
        found = json.loads(self.call("ps", "--all", "--format=json"))
        return [container["Names"][0] for container in found]

    def close(self) -> None:
        if self._service is not None:
            self._service.terminate()
            self._service.wait(DEADLINE)
        for words in (["rm", "--all", "--force", "--time=0"], ["system", "reset", "--force"]):
            subprocess.run(
                [*self._command(), *words], env=self._variables(), capture_output=True, timeout=DEADLINE
            )
