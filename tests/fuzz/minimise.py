#!/usr/bin/env python3
"""Make the corpus in the tree out of what fuzzing found: a few dozen inputs a target that reach most code.

libFuzzer's own merge keeps hundreds. It is asked which code each input reaches, and those are taken that add
most, the shorter one of two alike. Looks where `make fuzz-targets` keeps what it found (FUZZ_CORPUS), and in
the tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = ["response_head", "body", "exchange", "content", "cookies", "websocket"]
#: Of one target; tests/rust/fuzz.rs holds the corpus to about that.
MOST_INPUTS = 60
LONGEST_BYTES = 1500


def reached(target: str, folders: list[Path], scratch: Path) -> dict[Path, set[int]]:
    """Give the edges of the program that each input reaches."""
    control = scratch / "control"
    unused = scratch / "merged"
    unused.mkdir()
    command = ["cargo", "fuzz", "run", "--fuzz-dir", str(HERE), target, "--", "-merge=1"]
    command += [
        f"-merge_control_file={control}",
        f"-max_len={LONGEST_BYTES}",
        str(unused),
        *map(str, folders),
    ]
    subprocess.run(command, check=True, env={**os.environ, "RUSTC_BOOTSTRAP": "1"}, capture_output=True)
    lines = control.read_text().splitlines()
    inputs = [Path(line) for line in lines[2 : 2 + int(lines[0])]]
    edges: dict[Path, set[int]] = {}
    for line in lines[2 + len(inputs) :]:
        kind, number, *rest = line.split()
        if kind == "COV":
            edges[inputs[int(number)]] = set(map(int, rest))
    # Only new edges are noted for each: the merge goes from the shortest input to the longest.
    return edges


def chosen(edges: dict[Path, set[int]]) -> list[Path]:
    """Choose the inputs that add most."""
    useful = [path for path in edges if edges[path]]
    by_worth = sorted(useful, key=lambda path: (-len(edges[path]), path.stat().st_size))
    return by_worth[:MOST_INPUTS]


def main() -> None:
    """Replace the corpus of every target."""
    found = Path(os.environ.get("FUZZ_CORPUS", Path.home() / ".cache/molotov/fuzz"))
    for target in TARGETS:
        corpus = HERE / "corpus" / target
        folders = [folder for folder in (corpus, found / target) if folder.is_dir()]
        with tempfile.TemporaryDirectory() as scratch:
            edges = reached(target, folders, Path(scratch))
            kept = {path.name: path.read_bytes() for path in chosen(edges)}
        shutil.rmtree(corpus, ignore_errors=True)
        corpus.mkdir(parents=True)
        for name, data in kept.items():
            (corpus / name).write_bytes(data)
        size = sum(map(len, kept.values()))
        print(f"{target}: {len(kept)} of {len(edges)} inputs, {size} bytes")


if __name__ == "__main__":
    main()
