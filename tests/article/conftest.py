"""Where the command is."""

from __future__ import annotations

from pathlib import Path


def pytest_addoption(parser):
    parser.addoption("--binary", type=Path, help="the molotov binary, built with AWS")
