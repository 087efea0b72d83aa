#!/usr/bin/env bash
# Makes the corpus in the tree out of what fuzzing found: the fewest, shortest inputs that reach all code that any
# of them reaches. FUZZ_CORPUS is where `make fuzz-targets` keeps what it found.
set -eu -o pipefail
cd "$(dirname "$0")"
found="${FUZZ_CORPUS:-$HOME/.cache/molotov/fuzz}"
export RUSTC_BOOTSTRAP=1
for target in response_head body exchange content cookies websocket; do
  kept="$(mktemp -d)"
  mkdir -p "$found/$target" "corpus/$target"
  # Edges only: how often one is taken would keep hundreds of inputs.
  cargo fuzz run --fuzz-dir . "$target" -- -set_cover_merge=1 -use_counters=0 -max_len=1024 \
    "$kept" "corpus/$target" "$found/$target" 2> /dev/null
  rm -rf "corpus/$target"
  mkdir "corpus/$target"
  cp "$kept"/* "corpus/$target"
  rm -rf "$kept"
  echo "$target: $(find "corpus/$target" -type f | wc -l) inputs, $(du -bs "corpus/$target" | cut -f1) bytes"
done
