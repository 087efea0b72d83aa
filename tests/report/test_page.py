"""The report's page as a browser shows it, of a real sizing run and of what is made of it.

Chromium opens every page once, driven by ``observe.mjs``; the tests judge what it saw.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import documents
import pytest

HERE = Path(__file__).parent
PAGE_BYTES = 5_000_000
LONG_PAGE_BYTES = 7_000_000


def made():
    sizing = documents.sizing()
    return {
        "sizing": sizing,
        "matrix": documents.matrix(sizing),
        "ten_minutes": documents.stretched(sizing, 600),
        "eight_hours": documents.stretched(sizing, 8 * 3600),
        "hostile": documents.hostile(sizing),
        "many_names": documents.many_names(sizing, 10_000),
        "gaps": documents.full_of_gaps(sizing),
        "one_sample": documents.emptied(sizing, 1),
        "no_samples": documents.emptied(sizing, 0),
    }


#: What the browser looks at on each page, beside errors, requests, width and charts.
CHECKS = {
    "sizing": "audit,pointer,sorting,paper,phone",
    "matrix": "audit,paper,phone",
    "ten_minutes": "",
    "eight_hours": "pointer,paper",
    "hostile": "audit,paper,phone",
    "many_names": "sorting,phone",
    "gaps": "phone",
    "one_sample": "audit,phone",
    "no_samples": "audit,phone",
}
PAGES = list(CHECKS)
CHARTED = PAGES[:-1]


def checked(check):
    return [name for name, checks in CHECKS.items() if check in checks]


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Write all pages, with the command that users have."""
    folder = tmp_path_factory.mktemp("pages")
    for name, document in made().items():
        (folder / f"{name}.json").write_text(json.dumps(document))
        page = folder / f"{name}.html"
        command = [sys.executable, "-m", "molotov.report", "html", folder / f"{name}.json", "-o", page]
        subprocess.run(command, check=True, timeout=300)
    return folder


@pytest.fixture(scope="session")
def seen(pages, request):
    """Return what the browser saw of each page."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: make system installs it"
    modules = request.config.getoption("--node-modules")
    files = [f"{pages / name}.html:{checks}" for name, checks in CHECKS.items()]
    done = subprocess.run(
        ["node", HERE / "observe.mjs", modules, chromium, *files],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (pages / "seen.json").write_text(done.stdout)
    return found


pytestmark = pytest.mark.timeout(1600)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wrong_and_nothing_is_asked_for(seen, name):
    assert seen[name]["errors"] == []
    assert seen[name]["requests"] == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_injected(seen, name):
    assert seen[name]["injected"] == 0


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_screen(seen, name):
    assert seen[name]["overflow"] <= 0


@pytest.mark.parametrize("name", checked("phone"))
def test_nothing_is_wider_than_a_phone(seen, name):
    assert seen[name]["phone"]["overflow"] <= 0


@pytest.mark.parametrize("name", checked("audit"))
def test_everybody_can_use_it(seen, name):
    found = [*seen[name]["axe"], *seen[name]["phone"]["axe"]]
    assert [one for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("name", CHARTED)
def test_every_chart_is_drawn(seen, name):
    charts = seen[name]["charts"]
    assert charts
    assert [one["id"] for one in charts if not one["drawn"]] == []


def test_no_chart_of_a_real_run_is_empty(seen):
    assert [one["id"] for one in seen["sizing"]["charts"] if one["empty"]] == []


def test_the_answer_is_the_heading(seen):
    assert "req/s" in seen["sizing"]["heading"]
    assert "No run ended" not in seen["sizing"]["heading"]


def test_the_answer_of_several_rows_is_the_heading(seen):
    assert "Take 0.5 CPU: it takes 67" in seen["matrix"]["heading"]


def test_the_legend_hides_and_isolates(seen):
    legend = seen["sizing"]["legend"]
    count = len(legend["before"])
    assert count > 2 and all(legend["before"])
    assert legend["hidden"]["pressed"] == [False] + [True] * (count - 1)
    assert legend["hidden"]["visible"] == legend["hidden"]["pressed"]
    assert legend["alone"]["pressed"] == [False, True] + [False] * (count - 2)
    assert legend["alone"]["visible"] == legend["alone"]["pressed"]
    assert all(legend["after"])


@pytest.mark.parametrize("name", ["sizing", "eight_hours"])
def test_charts_show_the_same_time(seen, name):
    zoom = seen[name]["zoom"]
    first = zoom["zoomed"][0]
    assert len(zoom["zoomed"]) > 5
    assert all(one == first for one in zoom["zoomed"])
    whole = zoom["whole"][0]
    assert all(one == whole for one in zoom["whole"])
    share = (first[1] - first[0]) / (whole[1] - whole[0])
    assert 0.15 < share < 0.35


def test_the_cursor_is_in_every_chart(seen):
    cursor = seen["sizing"]["cursor"]
    assert "requests" in cursor["readout"]
    assert cursor["cursors"] > 2
    assert cursor["values"] > 5


def test_tables_are_sorted(seen):
    sorting = seen["many_names"]["sorting"]
    assert sorting["up"][1] == "ascending"
    assert sorting["down"][1] == "descending"
    assert "GET host/9999" in sorting["down"][0]
    assert seen["sizing"]["rows"] > 20


@pytest.mark.parametrize("name", checked("paper"))
def test_paper_has_every_chart_whole(seen, name):
    printed = seen[name]["printed"]
    assert printed["drawn"] == printed["charts"]
    assert printed["wide"] == []
    assert seen[name]["paper"]["bytes"] > 10_000


def test_dark_is_dark(seen):
    assert seen["sizing"]["ground"] != seen["sizing"]["dark"]
    red, green, blue = (int(part) for part in seen["sizing"]["dark"][4:-1].split(","))
    assert max(red, green, blue) < 60


def test_pages_are_small(pages):
    sizes = {name: (pages / f"{name}.html").stat().st_size for name in PAGES}
    assert sizes["no_samples"] < PAGE_BYTES
    assert sizes["ten_minutes"] < PAGE_BYTES
    assert sizes["eight_hours"] < LONG_PAGE_BYTES
