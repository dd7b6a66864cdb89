"""Names of strangers, with markup and line ends in them, in everything that a reader opens: they stay words."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest
from test_coco_mini import photograph, write_coco

from harmonylib import page_tools, report, slider, tables, your_own
from harmonylib.data import cache, coco_mini, realhm
from harmonylib.data.layout import read_entries
from harmonylib.evidence import Evidence
from harmonylib.paths import ROOT

SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'
NASTY = f"{SCRIPT}{IMAGE}'|\n&amp;%s\\input{{x}}<!--\x1b[2J=cmd()"


class Markup(HTMLParser):
    """The tags of a page, and the attributes that would run something."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.harm = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.harm += [
            (tag, key, value)
            for key, value in attributes
            if key in ("onerror", "onload", "onclick")
            or (key in ("src", "href") and not value.startswith(("data:image", "#")))
        ]

    def handle_comment(self, data):
        self.harm.append(("comment", data))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Four real runs, whose records say nasty things wherever they may say anything."""
    results = tmp_path_factory.mktemp("nasty") / "quick"
    for name in ("identity", "histogram", "unet", "s2am"):
        run = results / "runs" / name / "seed0"
        shutil.copytree(ROOT / "results/quick/runs" / name / "seed0", run, ignore=shutil.ignore_patterns("examples"))
        told = dict.fromkeys(("profile", "data", "device", "git_sha", "data_hash", "source_hash", "seconds"), NASTY)
        edit(run / "env.json", **told, packages={"torch": NASTY})
        edit(run / "config.json", size=NASTY, start=NASTY)
    strange = results / "runs" / NASTY.replace("/", "") / "seed0"
    shutil.copytree(results / "runs/s2am/seed0", strange)
    written = report.write_all(results)
    assert results / "report.html" in written
    return results


def edit(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_report_holds_words_only(results):
    text = (results / "report.html").read_text(encoding="utf-8")
    page = Markup(text)
    assert page.tags.count("script") == 1 and not page.harm
    assert text.count("alert(1)") > 10 and "<script>alert" not in text


def test_the_report_runs_nothing(results, browser):
    browser.get((results / "report.html").as_uri())
    assert browser.execute_script("return document.scripts.length") == 1
    assert browser.execute_script("return document.querySelectorAll('img[src=x], [onerror]').length") == 0


def test_tables_for_people_keep_their_rows_and_columns(results):
    text = (results / "tables/s2am_t4_runs.md").read_text(encoding="utf-8")
    rows = text.splitlines()[2:]
    columns = {len(re.split(r"(?<!\\)\|", row)) for row in rows}
    assert len(columns) == 1 and "<" not in "".join(rows) and "\x1b" not in text


def test_tables_for_papers_run_no_macro(tmp_path):
    table = pd.DataFrame({f"a {NASTY}": [NASTY], "b": ["50 %"]})
    csv, _, tex = tables.write(tmp_path, "nasty", table, "50 %")
    assert not re.search(r"\\input|(?<!\\)[%&](?!\s)", tex.read_text().replace(" & ", ""))
    assert pd.read_csv(csv).iloc[0, 0] == NASTY  # data stay as they are


def test_tools_in_notebooks_hold_words_only():
    page = page_tools.page("vote_tool", {"ballots": [{"picture": NASTY, "methods": [NASTY, "b"]}], "shown": {}}, "key")
    assert Markup(page).tags.count("script") == 1
    data = re.search(r'getElementById\("key"\), (.*), text => \{', page).group(1)
    assert json.loads(data)["ballots"][0]["picture"] == NASTY and "<" not in data


def test_sliders_and_downloads_hold_words_only(tmp_path):
    from PIL import Image

    picture = Image.new("RGB", (8, 8))
    page = Markup(
        slider.gallery(picture, {NASTY: picture}, {NASTY: NASTY}) + slider.slider(picture, picture, (NASTY, NASTY))
    )
    assert "script" not in page.tags and not page.harm
    file = tmp_path / f"{NASTY.replace('/', '')}.png"
    picture.save(file)
    shown = Markup(your_own.download(file).data)
    assert shown.tags == ["a"] and not shown.harm


def test_a_protocol_of_markup_heads_no_column(results, refused):
    run = results / "runs/identity/seed0/per_image.csv"
    before = run.read_bytes()
    run.write_bytes(before.replace(b"bcmi256@64", b"bcmi256@" + SCRIPT.encode()))
    try:
        with refused("none of this project"):
            Evidence(results).protocol()
    finally:
        run.write_bytes(before)


LATIN = os.fsdecode(b"caf\xe9")  # bytes that are no UTF-8, as old archives unpack to
linux = pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere hold text only")


@pytest.fixture
def latin(tmp_path):
    """Photographs whose names, and whose folder's, are no text."""
    folder = tmp_path / LATIN
    folder.mkdir()
    for seed in range(30, 32):
        for part in ("", "_fore", "_mask", "_gt"):
            photograph(seed).save(folder / f"{LATIN}{seed}{part}.jpg")
    return folder


@linux
def test_caches_hold_names_that_are_no_text(own_set, latin, tmp_path):
    entries = read_entries(own_set)
    made = cache.prepare(entries, 16)
    own_set.rename(tmp_path / f"{LATIN}set")
    other = cache.prepare(read_entries(tmp_path / f"{LATIN}set"), 16)
    assert other.data_hash == made.data_hash and other.folder != made.folder
    cache.prepare_photographs(sorted(latin.iterdir()), 16)
    (listed,) = tmp_path.glob(f"data/cache/{LATIN}-16-*/files.sha256")
    checked = subprocess.run(["sha256sum", "-c", "--quiet", listed], cwd=latin, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@linux
def test_sets_are_made_of_names_that_are_no_text(latin, tmp_path):
    realhm.convert(latin, tmp_path / "realhm")
    assert pd.read_csv(tmp_path / "realhm/manifest.csv")["example"].tolist() == [f"caf\\udce9{n}.jpg" for n in (30, 31)]
    write_coco(tmp_path / "coco")
    coco_mini.build(tmp_path / "coco", tmp_path / "set", unlabelled=latin)
    assert coco_mini.is_made_of(tmp_path / "set", coco_mini.Settings(), tmp_path / "coco", unlabelled=latin)
