"""``--png`` and ``--svg``: a picture of a run, by the run itself and by ``molotov-report``."""

from __future__ import annotations

import json
import struct
import zlib
from xml.etree import ElementTree

import jsonschema
from _services import TREE, Handler, serving, tool
from command import run, write

SCRIPT = """
import os, molotov

@molotov.scenario()
async def browse(session):
    async with session.get(os.environ["URL"] + "/items/1") as response:
        assert response.status == 200, "<b>&\\u202e"
"""


class Failing(Handler):
    def serve(self, body):
        self.answer(200 if len(self.server.seen) % 5 else 500, {"ok": True})


def pixels(png):
    """Width, height and the raw rows of a PNG, after its checksums."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    place, packed, size = 8, b"", None
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind, content = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack(">I", png[place + 8 + length : place + 12 + length])
        assert zlib.crc32(kind + content) == checksum
        if kind == b"IHDR":
            size = struct.unpack(">II", content[:8])
        elif kind == b"IDAT":
            packed += content
        place += 12 + length
    return size, zlib.decompress(packed)


def test_a_run_draws_itself(tmp_path):
    write(tmp_path, SCRIPT)
    with serving(Failing) as (url, _):
        words = ("--png", "out.png", "--svg", "out.svg", "--json", "out.json", "--threshold", "error-rate<1%")
        done = run(tmp_path, "-c", *words, "-w", "2", "-r", "20", URL=url)
    assert done.returncode == 99, done.stdout + done.stderr
    assert "Results written to out.png, out.svg, out.json" in done.stdout
    document = json.loads((tmp_path / "out.json").read_text())
    schema = json.loads((TREE / "docs" / "results.schema.json").read_text())
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
    assert {"kind": "png", "path": "out.png"} in document["files"]

    png = (tmp_path / "out.png").read_bytes()
    size, raw = pixels(png)
    assert size == (1200, 800) and len(raw) == 800 * (1200 * 3 + 1)
    assert len(set(raw)) > 50
    drawing = ElementTree.parse(tmp_path / "out.svg").getroot()
    assert (drawing.get("width"), drawing.get("height")) == ("1200", "800")
    words = {text.strip() for text in drawing.itertext()}
    assert {"FAILED", "Failures", "Service time of requests", "loadtest.py"} <= words
    assert any(word.startswith("Not held: error-rate<1%") for word in words)

    again = tool("report", "png", tmp_path / "out.json", "-o", tmp_path / "again.png")
    assert again.returncode == 0, again.stderr
    assert pixels((tmp_path / "again.png").read_bytes())[0] == (1200, 800)
    svg = tool("report", "svg", tmp_path / "out.json")
    assert svg.stdout.startswith("<svg ")


def test_a_picture_needs_a_file(tmp_path):
    write(tmp_path, SCRIPT)
    done = run(tmp_path, "-c", "--png", "-", URL="http://127.0.0.1:9")
    assert done.returncode == 104 and "name a file" in done.stdout + done.stderr
    (tmp_path / "x.json").write_text("{}")
    done = tool("report", "png", tmp_path / "x.json", "-o", tmp_path / "x.png")
    assert done.returncode == 1 and '"schema" is missing' in done.stderr
    assert not (tmp_path / "x.png").exists()
