"""Where the browser's driver is."""

from __future__ import annotations

from pathlib import Path


def pytest_addoption(parser):
    parser.addoption(
        "--node-modules",
        type=Path,
        default=Path.home() / ".cache" / "molotov" / "node",
        help="folder with node_modules",
    )
