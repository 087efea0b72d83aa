"""`docker` of an instance that is a folder: containers are processes, images are commands in a JSON file.

Knows the few commands that autosizer's scripts use, with Docker's own exit codes and messages. `RIG_IMAGES`
names a JSON object: image to `argv` (in which `{port}` is the published port), `architecture`, and
`pull_seconds`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ["HOME"]) / "docker"


def fail(message, code=1):
    """Docker's way to say no."""
    print(f"Error response from daemon: {message}", file=sys.stderr)
    sys.exit(code)


def images():
    return json.loads(Path(os.environ["RIG_IMAGES"]).read_text())


def load(name):
    path = HOME / name / "state.json"
    if not path.exists():
        fail(f"No such container: {name}")
    state = json.loads(path.read_text())
    status = HOME / name / "exit"
    state["exit"] = int(status.read_text()) if status.exists() else None
    return state


def pull(arguments):
    image = images().get(arguments[-1])
    if image is None:
        fail(f"manifest for {arguments[-1]} not found: manifest unknown")
    time.sleep(image.get("pull_seconds", 0))
    if image.get("architecture", "x86_64") != os.environ.get("RIG_ARCHITECTURE", "x86_64"):
        fail("no matching manifest for linux/amd64 in the manifest list entries")
    if image.get("disk_full"):
        fail("write /var/lib/docker/tmp/x: no space left on device")
    HOME.mkdir(exist_ok=True)
    (HOME / "pulled").open("a").write(arguments[-1] + "\n")


def image_inspect(arguments):
    pulled = HOME / "pulled"
    if arguments[-1] not in (pulled.read_text().split() if pulled.exists() else []):
        fail(f"No such image: {arguments[-1]}")
    print("sha256:" + "0" * 64)


def run(arguments):
    name = port = None
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-d", "--init"):
            continue
        value = rest.pop(0)
        if option == "--name":
            name = value
        elif option in ("-p", "--publish"):
            port = value.split(":")[-2]
    image, command = rest[0], rest[1:]
    if (HOME / name).exists():
        fail(f'Conflict. The container name "/{name}" is already in use', 125)
    known = images()[image]
    if known.get("port_taken"):
        fail(
            f"driver failed programming external connectivity: Bind for 0.0.0.0:{port} failed: "
            "port is already allocated",
            125,
        )
    (HOME / name).mkdir(parents=True)
    argv = [part.replace("{port}", port) for part in known["argv"] + command]
    log = (HOME / name / "log").open("wb")
    # A parent that stays and writes down how it ended, as the engine does.
    keeper = subprocess.Popen(
        ["sh", "-c", '"$@" & echo $! >"$0/pid"; wait $!; echo $? >"$0/exit"', str(HOME / name), *argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    while not (HOME / name / "pid").exists() or not (HOME / name / "pid").read_text().strip():
        time.sleep(0.01)
    pid = int((HOME / name / "pid").read_text())
    (HOME / name / "state.json").write_text(json.dumps({"pid": pid, "keeper": keeper.pid}))
    print("f" * 64)


def inspect(arguments):
    state = load(arguments[-1])
    ended = state["exit"]
    values = {
        "{{.State.Pid}}": 0 if ended is not None else state["pid"],
        "{{.State.Running}}": "true" if ended is None else "false",
        "{{.State.ExitCode}}": ended or 0,
        "{{.State.OOMKilled}}": "true" if ended == 137 else "false",
    }
    if "-f" not in arguments:
        return print(json.dumps([state]))
    text = arguments[arguments.index("-f") + 1]
    for key, value in values.items():
        text = text.replace(key, str(value))
    print(text)


def logs(arguments):
    load(arguments[-1])
    lines = (HOME / arguments[-1] / "log").read_text(errors="replace").splitlines()
    count = int(arguments[arguments.index("--tail") + 1]) if "--tail" in arguments else len(lines)
    print("\n".join(lines[-count:]))


def remove(arguments):
    name = arguments[-1]
    if not (HOME / name / "state.json").exists():
        return
    state = load(name)
    try:
        os.killpg(state["keeper"], signal.SIGKILL)
    except ProcessLookupError:
        pass
    subprocess.run(["rm", "-rf", str(HOME / name)], check=True)


def remove_image(arguments):
    pulled = HOME / "pulled"
    names = pulled.read_text().split() if pulled.exists() else []
    if arguments[-1] not in names:
        fail(f"No such image: {arguments[-1]}")
    pulled.write_text("".join(f"{name}\n" for name in names if name != arguments[-1]))


def main():
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "info":
        print("process engine")
    elif command == "image" and arguments[0] == "inspect":
        image_inspect(arguments[1:])
    else:
        {
            "pull": pull,
            "run": run,
            "inspect": inspect,
            "logs": logs,
            "rm": remove,
            "rmi": remove_image,
        }[command](arguments)


main()
