"""The rig's instances: a container each where Podman works, else a folder and processes each.

Owns starting and ending them, running shells inside, and what is left of them. Both kinds have `docker`,
`dnf`, `systemctl` and `systemd-run`: in a container `docker` is Podman's own command, in a folder it is
`docker_shim.py`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _tools(folder: Path, instance: str, endpoint: str) -> None:
    """What Amazon Linux has and a test machine may not: stands in the instance's own folder of programs."""
    _write(folder / "dnf", "#!/bin/sh\nexit 0\n")
    power = f"{sys.executable} {HERE / 'power_off.py'} {endpoint} {instance}"
    _write(folder / "systemctl", f'#!/bin/sh\nRIG_POWER="{power}" exec sh {HERE / "systemctl.sh"} "$@"\n')
    # The instance's own disk: full when the test says so.
    _write(
        folder / "df",
        '#!/bin/sh\n[ -e "$HOME/full" ] && free=0 || free=9999999\n'
        'echo "Filesystem 1024-blocks Used Available Capacity Mounted on"\n'
        'echo "/dev/xvda1 20000000 1 $free 1% /"\n',
    )
    # --on-active=SECONDS --unit=NAME COMMAND...
    _write(
        folder / "systemd-run",
        '#!/bin/sh\nwait=0 unit=run\nwhile :; do case "$1" in\n'
        "  --on-active=*) wait=${1#*=}; wait=${wait%s} ;;\n"
        "  --unit=*) unit=${1#*=} ;;\n  --*) ;;\n  *) break ;;\nesac; shift; done\n"
        'setsid sh -c \'echo $$ >"$HOME/$0.unit"; sleep "$1"; shift; exec "$@"\' "$unit" "$wait" "$@" '
        "</dev/null >/dev/null 2>&1 &\n",
    )


class Machine:
    """One instance."""

    def __init__(self, instance: str, folder: Path, endpoint: str, images: Path) -> None:
        self.instance = instance
        self.folder = folder / instance
        self.images = images
        self.is_on = True
        self.is_lost = False
        self.registered_at = 0.0
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        (self.folder / "bin").mkdir(parents=True)
        _tools(self.folder / "bin", instance, endpoint)

    def boot(self, user_data: str) -> None:
        """Runs the script of the first boot, as cloud-init does."""
        if user_data:
            script = base64.b64decode(user_data).decode()
            process = self.shell(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            process.wait()
            self.forget(process.pid)

    def environment(self) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        environment["PATH"] = f"{self.folder / 'bin'}:{environment['PATH']}"
        environment["HOME"] = str(self.folder)
        environment["AUTOSIZER_FOLDER"] = str(self.folder / "lib")
        environment["AUTOSIZER_UNITS"] = str(self.folder / "units")
        environment["RIG_IMAGES"] = str(self.images)
        environment["RIG_INSTANCE"] = self.instance
        return environment

    def shell(self, script: str, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        """Runs a script in a process group of its own, as the agent does: by file, joined lines."""
        path = self.folder / f"_script-{len(self._groups)}-{threading.get_ident()}.sh"
        path.write_text(script)
        process = self._start(path, stdout, stderr)
        with self._lock:
            self._groups.add(process.pid)
            on = self.is_on
        if not on:
            self.kill(process.pid)
        return process

    def forget(self, pid: int) -> None:
        with self._lock:
            self._groups.discard(pid)

    def kill(self, pid: int) -> None:
        """Kills the script's process group, as the agent does at a timeout or when cancelled."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def end(self) -> None:
        with self._lock:
            self.is_on = False
            groups = set(self._groups)
        for pid in groups:
            self.kill(pid)

    def left(self) -> list[str]:
        return []

    def files(self) -> list[str]:
        """What runs have put on its disk: files of steps, containers, images."""
        return []

    def lose(self, seconds: float | None) -> None:
        """The agent is heard of no more, for a while or for ever."""
        self.is_lost = True
        if seconds is not None:
            threading.Timer(seconds, lambda: setattr(self, "is_lost", False)).start()

    def fill(self) -> None:
        """Nothing can be written any more: neither to the disk nor where results go."""
        (self.folder / "full").touch()

    def _start(self, path: Path, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        raise NotImplementedError


def _without_room() -> None:
    # Writing fails, as with a full disk, instead of ending the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


class FolderMachine(Machine):
    """Processes of this machine with a folder of their own, marked by a variable in their environment."""

    def __init__(self, instance: str, folder: Path, endpoint: str, images: Path) -> None:
        super().__init__(instance, folder, endpoint, images)
        _write(
            self.folder / "bin" / "docker",
            f'#!/bin/sh\nexec {sys.executable} -S -E {HERE / "docker_shim.py"} "$@"\n',
        )

    def _start(self, path: Path, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=self.environment(),
            cwd=self.folder,
            start_new_session=True,
            preexec_fn=_without_room if (self.folder / "full").exists() else None,
        )

    def _processes(self) -> list[int]:
        mark = f"RIG_INSTANCE={self.instance}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Power off: everything that runs on it is gone, whatever it detached itself from."""
        super().end()
        self._kill_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill_all(self) -> None:
        for _ in range(100):
            running = self._processes()
            if not running:
                break
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            threading.Event().wait(0.02)

    def stop_and_start(self) -> None:
        """Everything that ran is gone, what is on the disk stays, and enabled units start."""
        self._kill_all()
        process = self.shell("systemctl rig-boot", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process.wait()
        self.forget(process.pid)

    def fill(self) -> None:
        """By the kernel's limit on the size of files: for the collector, and for what starts from now on."""
        super().fill()
        for pid in self._processes():
            with contextlib.suppress(OSError):
                if b"metrics" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))

    def left(self) -> list[str]:
        return [f"process {pid} of {self.instance}" for pid in self._processes()]

    def files(self) -> list[str]:
        try:
            return self._files() if self.is_on else []
        except FileNotFoundError:
            # One of them went in the middle.
            return self.files()

    def _files(self) -> list[str]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        ours = [path.relative_to(self.folder) for path in found]
        pulled = self.folder / "docker" / "pulled"
        images = sorted(set(pulled.read_text().split())) if pulled.exists() else []
        is_ours = [str(path) for path in ours if path.parts[0] in ("lib", "docker") and path.name != "pulled"]
        empty = ["lib"] if (self.folder / "lib").exists() else []
        return [f"{self.instance}/{name}" for name in empty + is_ours + images]


class PodmanMachine(Machine):
    """A container per instance; the services that it starts are containers beside it, with its label."""

    IMAGE = "localhost/rig-instance:1"

    def __init__(self, instance: str, folder: Path, endpoint: str, images: Path) -> None:
        super().__init__(instance, folder, endpoint, images)
        socket = os.environ["RIG_PODMAN_SOCKET"]
        _write(
            self.folder / "bin" / "docker",
            # A label to find the container by, and no port but on this machine's loopback.
            f"#!/bin/sh\ncommand=$1; shift\n"
            'if [ "$command" = run ]; then\n  count=$# published=\n  while [ $count -gt 0 ]; do\n'
            '    word=$1; shift; [ -n "$published" ] && word=127.0.0.1:$word; published=\n'
            f'    case "$word" in /var/run/docker.sock:*) word={socket}:/var/run/docker.sock ;; esac\n'
            '    [ "$word" = -p ] && published=yes\n    set -- "$@" "$word"; count=$((count - 1))\n  done\n'
            f'  set -- --label rig.instance={instance} "$@"\nfi\n'
            f'exec podman --remote --url unix://{socket} "$command" "$@"\n',
        )
        mounts = [
            f"{path}:{path}:{mode}"
            for path, mode in [
                ("/usr", "ro"),
                ("/etc/alternatives", "ro"),
                (sys.base_prefix, "ro"),
                (sys.prefix, "ro"),
                (str(HERE), "ro"),
                ("/sys/fs/cgroup", "ro"),
                (str(Path(socket).parent), "rw"),
                (str(self.folder), "rw"),
            ]
        ]
        subprocess.run(
            ["podman", "run", "-d", "--name", instance, "--network", "host", "--pid", "host"]
            + ["--cgroupns", "host", "--privileged"]
            + [option for mount in mounts for option in ("-v", mount)]
            + [self.IMAGE, "/usr/bin/sleep", "infinity"],
            check=True,
            capture_output=True,
        )

    def _start(self, path: Path, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        environment = self.environment()
        options = ["HOME", "PATH", "AUTOSIZER_FOLDER", "AUTOSIZER_UNITS", "RIG_INSTANCE"]
        command = ["podman", "exec", "-w", str(self.folder)]
        for name in options:
            command += ["-e", f"{name}={environment[name]}"]
        # The group's number is that of the shell inside, which shares this machine's processes.
        inner = f'echo $$ >"{path}.pid"; exec sh "{path}"'
        command += [self.instance, "setsid", "--wait", "sh", "-c", inner]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
        )

    def kill(self, pid: int) -> None:
        for file in self.folder.glob("_script-*.pid"):
            with contextlib.suppress(ValueError, ProcessLookupError, OSError):
                os.killpg(int(file.read_text()), signal.SIGKILL)
        super().kill(pid)

    def _services(self) -> list[str]:
        listing = subprocess.run(
            ["podman", "ps", "-a", "--filter", f"label=rig.instance={self.instance}", "--format", "json"],
            check=True,
            capture_output=True,
        )
        return [entry["Id"] for entry in json.loads(listing.stdout or b"[]")]

    def end(self) -> None:
        super().end()
        for name in [*self._services(), self.instance]:
            subprocess.run(["podman", "rm", "-f", "-t", "0", name], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def left(self) -> list[str]:
        exists = subprocess.run(["podman", "container", "exists", self.instance], check=False)
        own = [f"container {self.instance}"] if exists.returncode == 0 else []
        return own + [f"container {name}" for name in self._services()]
