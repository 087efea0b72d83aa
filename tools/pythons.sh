#!/usr/bin/env bash
# Prints the path of one working interpreter per requested minor version ("3.10 3.12"), skipping those
# this machine lacks. pyenv's shims exist for versions that are not active, so a candidate must start.
set -euo pipefail

find_python() {
  local version=$1 candidate
  for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/"python$version"; do
    "$candidate" -c 'import ensurepip, sys, venv; print(sys.executable)' 2>/dev/null && return
  done
  return 0
}

for version in "$@"; do
  find_python "$version"
done
