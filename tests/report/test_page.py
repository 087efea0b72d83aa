"""The pages of ``molotov-report`` as a browser shows them, of a real sizing run and of what is made of it.

Those of one run, of runs compared, and of a recording by Glances. Chromium opens every page once, driven by
``observe.mjs``; the tests judge what it saw.
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
#: Of a page without data, and of one of eight hours; plotly.js is most of the first.
PAGE_BYTES = 800_000
LONG_PAGE_BYTES = 3_000_000


def made():
    sizing = documents.sizing()
    hostile = documents.hostile(sizing)
    return {
        "sizing": sizing,
        "matrix": documents.matrix(sizing),
        "ten_minutes": documents.stretched(sizing, 600),
        "eight_hours": documents.stretched(sizing, 8 * 3600),
        "hostile": hostile,
        "many_names": documents.many_names(sizing, 10_000),
        "gaps": documents.full_of_gaps(sizing),
        "one_sample": documents.emptied(sizing, 1),
        "no_samples": documents.emptied(sizing, 0),
        "refused": documents.refused(sizing),
        "plain": documents.plain(sizing),
        "slower": documents.plain(sizing, slower=1.5),
        "hostile_plain": documents.plain(hostile),
    }


#: Pages of other commands, with what they are made of.
COMMANDS = {
    "compared": ["compare", "plain.json", "slower.json", "hostile_plain.json"],
    "compared_sized": ["compare", "sizing.json", "hostile.json"],
    "glances": ["glances", "glances.csv"],
}

#: What the browser looks at on each page, beside errors, requests, width and charts; the slow ones first.
CHECKS = {
    "sizing": "audit,pointer,sorting,paper,phone",
    "matrix": "audit,paper,phone",
    "eight_hours": "pointer,paper",
    "hostile": "audit,paper,phone",
    "compared": "audit,pointer,paper,phone",
    "many_names": "sorting,phone",
    "glances": "audit,pointer,paper,phone",
    "compared_sized": "audit,phone",
    "refused": "audit,phone",
    "gaps": "phone",
    "one_sample": "phone",
    "ten_minutes": "",
    "no_samples": "audit,phone",
}
PAGES = list(CHECKS)
CHARTED = PAGES[:-1]
#: Of measured runs: whatever is drawn has something in it.
FILLED = ["sizing", "compared", "compared_sized", "glances"]


def checked(check):
    return [name for name, checks in CHECKS.items() if check in checks]


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Write all pages, with the command that users have."""
    folder = tmp_path_factory.mktemp("pages")
    for name, document in made().items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    documents.glances(folder / "glances.csv", documents.HOSTILE[0])
    for name in PAGES:
        words = COMMANDS.get(name, ["html", f"{name}.json"])
        option = "--html" if name in COMMANDS else "-o"
        command = [sys.executable, "-m", "molotov.report", *words, option, f"{name}.html"]
        subprocess.run(command, cwd=folder, check=True, timeout=300, stdout=subprocess.DEVNULL)
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


@pytest.mark.parametrize("name", FILLED)
def test_no_chart_of_a_real_run_is_empty(seen, name):
    assert [one["id"] for one in seen[name]["charts"] if one["empty"]] == []


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("sizing", "req/s"),
        ("compared", "B has regressed; C has no change that is certain"),
        ("compared_sized", "B has no change that is certain"),
        ("glances", "Not enough evidence"),
        ("refused", "Nothing worked: all 6,757 runs failed"),
        ("one_sample", "req/s"),
    ],
)
def test_the_answer_is_the_heading(seen, name, part):
    assert part in seen[name]["heading"]


def test_the_answer_of_several_rows_is_the_heading(seen):
    assert "Take 0.5 CPU: it takes 253" in seen["matrix"]["heading"]


@pytest.mark.parametrize("name", checked("pointer"))
def test_the_legend_hides_and_isolates(seen, name):
    legend = seen[name]["legend"]
    count = len(legend["before"])
    assert count > 1 and all(legend["before"])
    assert legend["hidden"]["pressed"] == [False] + [True] * (count - 1)
    assert legend["hidden"]["visible"] == legend["hidden"]["pressed"]
    assert legend["alone"]["pressed"] == [False, True] + [False] * (count - 2)
    assert legend["alone"]["visible"] == legend["alone"]["pressed"]
    assert all(legend["after"])


@pytest.mark.parametrize("name", checked("pointer"))
def test_charts_show_the_same_time(seen, name):
    zoom = seen[name]["zoom"]
    first = zoom["zoomed"][0]
    assert len(zoom["zoomed"]) > 3
    assert all(one == first for one in zoom["zoomed"])
    whole = zoom["whole"][0]
    assert all(one == whole for one in zoom["whole"])
    share = (first[1] - first[0]) / (whole[1] - whole[0])
    assert 0.15 < share < 0.35


@pytest.mark.parametrize(
    ("name", "part"), [("sizing", "requests answered"), ("compared", "req/s"), ("glances", "cores")]
)
def test_the_cursor_is_in_every_chart(seen, name, part):
    cursor = seen[name]["cursor"]
    assert part in cursor["readout"]
    assert cursor["cursors"] > 2
    assert cursor["values"] > 5


def test_tables_are_sorted(seen):
    sorting = seen["many_names"]["sorting"]
    assert sorting["up"][1] == "ascending"
    assert sorting["down"][1] == "descending"
    assert "GET host/9999" in sorting["down"][0]
    assert all(seen[name]["rows"] > 20 for name in checked("pointer"))


@pytest.mark.parametrize("name", checked("paper"))
def test_paper_has_every_chart_whole(seen, name):
    printed = seen[name]["printed"]
    assert printed["drawn"] == printed["charts"]
    assert printed["wide"] == []
    assert seen[name]["paper"]["bytes"] > 10_000


@pytest.mark.parametrize("name", ["sizing", "compared", "glances"])
def test_dark_is_dark(seen, name):
    assert seen[name]["ground"] != seen[name]["dark"]
    red, green, blue = (int(part) for part in seen[name]["dark"][4:-1].split(","))
    assert max(red, green, blue) < 60


def test_pages_are_small(pages):
    sizes = {name: (pages / f"{name}.html").stat().st_size for name in PAGES}
    assert sizes["no_samples"] < PAGE_BYTES
    assert sizes["ten_minutes"] < PAGE_BYTES
    assert sizes["compared"] < PAGE_BYTES
    assert sizes["eight_hours"] < LONG_PAGE_BYTES
