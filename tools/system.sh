#!/usr/bin/env bash
# Installs the Debian packages that a check or a bench needs and this machine lacks. Without root it only
# names them: whoever needs one fails there with its own message.
set -euo pipefail

# What to look for on the machine, and the package that brings it.
missing=()
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
has_libpython() {
  python3 - <<'PYTHON'
import pathlib, sys, sysconfig
library = pathlib.Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LDLIBRARY"))
sys.exit(not library.exists())
PYTHON
}

has_postgresql() {
  compgen -G '/usr/lib/postgresql/*/bin/initdb'
}

for package in "$@"; do
  case $package in
    python3-dev) need python3-dev has_libpython ;;
    python3-venv) need python3-venv python3 -c 'import ensurepip, venv' ;;
    busybox-static) need busybox-static command -v busybox ;;
    netavark) need netavark test -x /usr/lib/podman/netavark ;;
    nodejs) need nodejs command -v node ;;
    postgresql) need postgresql has_postgresql ;;
    build-essential) need build-essential command -v cc ;;
    *) need "$package" command -v "$package" ;;
  esac
done

[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "please install: ${missing[*]}" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}"
