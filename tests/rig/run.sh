#!/usr/bin/env bash
# Runs a command with the rig's environment: RIG_PYTHON, and RIG_PODMAN_SOCKET where Podman works.
#
#   tests/rig/run.sh PYTHON COMMAND...
#
# Podman gets a storage and a configuration of its own, so that nothing of the user's is touched. Both settings are for
# virtual machines with a hybrid control group layout and without the right to raise limits; they do no harm elsewhere.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export RIG_PYTHON=$1
shift
state=$(mktemp -d)
service=
finish() {
  [ -n "$service" ] && kill "$service" 2>/dev/null && wait "$service" 2>/dev/null || true
  rm -rf "$state"
}
trap finish EXIT

prepare_podman() {
  command -v podman >/dev/null || return 1
  local cache=${RIG_CACHE:-$HOME/.cache/molotov/rig}
  mkdir -p "$cache"
  export CONTAINERS_CONF=$state/containers.conf CONTAINERS_STORAGE_CONF=$state/storage.conf
  local runtime=crun
  # crun refuses the hybrid layout.
  [ -f /sys/fs/cgroup/cgroup.controllers ] || runtime=runc
  cat >"$CONTAINERS_CONF" <<CONF
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]
[engine]
runtime = "$runtime"
events_logger = "file"
cgroup_manager = "cgroupfs"
[network]
network_backend = "netavark"
CONF
  cat >"$CONTAINERS_STORAGE_CONF" <<CONF
[storage]
driver = "overlay"
graphroot = "$cache/storage"
runroot = "$state/run"
CONF
  local made
  made=$(cat "$here/images.py" "$here/service.py" | sha256sum)
  if [ "$(cat "$cache/images" 2>/dev/null)" != "$made" ] || ! podman image exists localhost/rig-service:1; then
    "$RIG_PYTHON" "$here/images.py" && echo "$made" >"$cache/images"
  fi
  podman run --rm localhost/rig-service:1 --help >/dev/null 2>&1 || [ $? -eq 1 ] || return 1
  mkdir "$state/socket"
  podman system service --time=0 "unix://$state/socket/podman.sock" &
  service=$!
  for _ in $(seq 100); do
    [ -S "$state/socket/podman.sock" ] && export RIG_PODMAN_SOCKET=$state/socket/podman.sock && return 0
    sleep 0.1
  done
  return 1
}
prepare_podman || echo "Podman does not work here: the rig's machines are folders instead of containers" >&2

"$@"
