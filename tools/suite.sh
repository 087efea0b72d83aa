#!/usr/bin/env bash
# Runs the Python tests with one virtual environment and shows its output in one piece at the end, so that
# several can run side by side.
set -euo pipefail

python=$1
shift
output=$(mktemp)
trap 'rm -f "$output"' EXIT
code=0
"$python" -m pytest -p no:cacheprovider "$@" >"$output" 2>&1 || code=$?
echo "-- $("$python" -VV 2>&1)"
cat "$output"
exit "$code"
