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
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "rig"))

import kinto_image

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
                # What watches over its containers leaves a file where it runs when one is out of memory.
                cwd=self.folder,
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

    def make_kinto_image(self) -> str:
        """Make the image of a real Kinto; returns its name."""
        self.call(*kinto_image.import_words(kinto_image.archive()))
        return kinto_image.NAME

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


class Gate:
    """Stands before the engine's socket, and holds back every removal of a container until it is opened."""

    def __init__(self, podman: Podman) -> None:
        self.path = podman.folder / "gate.sock"
        self.is_reached = threading.Event()
        self._decided = threading.Event()
        self._is_open = False
        self._engine = podman.socket
        self._server = socket.socket(socket.AF_UNIX)
        self._threads: list[threading.Thread] = []

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.path}"}

    def open(self) -> None:
        """Let everything pass, also what waits."""
        self._is_open = True
        self._decided.set()

    def __enter__(self) -> Gate:
        self._server.bind(str(self.path))
        self._server.listen()
        self._start(self._accept)
        return self

    def __exit__(self, *_: Any) -> None:
        # What waits is given up, unless it may pass.
        self._decided.set()
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        self._server.close()
        self.path.unlink()

    def _start(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(self._engine))
            answers = threading.Thread(target=_pass_on, args=(engine, client), daemon=True)
            answers.start()
            _pass_on(client, engine, self._may_pass)
            answers.join(DEADLINE)

    def _may_pass(self, content: bytes) -> bool:
        if content.startswith(b"DELETE "):
            self.is_reached.set()
            self._decided.wait(DEADLINE)
            return self._is_open
        return True


def _pass_on(source: socket.socket, to: socket.socket, may_pass: Any = lambda content: True) -> None:
    """Pass on what comes until either side ends."""
    try:
        while (content := source.recv(65536)) and may_pass(content):
            to.sendall(content)
    except OSError:
        pass
    for end in (source, to):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
