"""write_comparison: the files, what it returns, and a page that is whole and loads nothing."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from rljax.comparison import Claim, page, picture, write_comparison

EIGHT = np.linspace(0.3, 0.6, 8)
NASTY = '<img src="http://x.invalid/a.png">{title}</script>'
VOID = {"meta", "img", "rect", "path", "circle"}


class Page(HTMLParser):
    """Collects tags, ids, scripts and texts; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: dict[str, str] = {}
        self.texts: list[str] = []
        self._open: list[tuple[str, dict]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        if self._open and self._open[-1][0] == "script":
            name = self._open[-1][1].get("id", "code")
            self.scripts[name] = self.scripts.get(name, "") + data
        elif self._open and self._open[-1][0] != "style":
            self.texts.append(data)


@pytest.fixture
def write(make_runs, tmp_path):
    def call(count: int = 3, **options):
        runs = [make_runs("grpo", EIGHT)]
        runs += [make_runs(f"m{i}", EIGHT + 0.03 * i) for i in range(1, count)]
        runs[-1] = make_runs("dapo", EIGHT + 0.3, point={"clip": NASTY})
        found = write_comparison(tmp_path, runs, "grpo", 0.5, **options)
        return found, tmp_path, Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return call


CLAIMS = [Claim("dapo", ">", "grpo", "accuracy", NASTY)]


def test_files_and_what_is_returned(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    found, folder, _ = write(claims=CLAIMS)
    assert sorted(file.name for file in folder.iterdir()) == sorted(found["files"])
    assert set(found["files"]) == {
        "table.md",
        "table.csv",
        "claims.csv",
        "curves.svg",
        "report.html",
    }
    assert found["baseline"] == "grpo" and found["claims"][0]["verdict"] == "yes"
    with open(folder / "table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [row["label"] for row in found["rows"]]
    assert rows[0]["method"] == "dapo" and rows[0]["verdict"] == "better"
    json.dumps(found)
    # Without claims and without the package, what an earlier call left goes.
    (folder / "curves.png").write_bytes(b"old")
    found, folder, _ = write()
    assert {"claims.csv", "curves.png"}.isdisjoint(file.name for file in folder.iterdir())


def test_the_same_runs_give_the_same_bytes(write):
    def read(folder, names):
        return [(folder / name).read_bytes() for name in names]

    found, folder, _ = write()
    first = read(folder, found["files"])
    found, folder, _ = write()
    assert read(folder, found["files"]) == first


@pytest.mark.parametrize("count", [2, picture.ONE_CHART + 1])
def test_the_page_is_whole_and_loads_nothing(write, count):
    _, folder, found = write(count, claims=CLAIMS, title="<i>sort</i>")
    for tag, attributes in found.tags:
        assert tag not in ("img", "link", "iframe", "i-frame")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value.startswith("#")
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [a["href"][1:] for tag, a in found.tags if tag == "a"]
    assert set(links) == {"results", "claims", "accuracy", "training"} <= set(ids)
    assert not re.search(r"\{(title|body|style)\}", "".join(found.texts).replace(NASTY, ""))
    charts = json.loads(found.scripts["chart-data"])
    drawn = [a["data-chart"] for _, a in found.tags if "data-chart" in a]
    assert drawn == [str(index) for index in range(len(charts))]
    svg_text = (folder / "curves.svg").read_text(encoding="utf-8")
    assert "<img" not in svg_text


def test_the_page_says_what_the_table_says(write):
    found, _, shown = write(claims=CLAIMS)
    texts = " ".join(shown.texts)
    for row in found["rows"]:
        assert row["label"] in texts
    assert "dapo > grpo" in texts and NASTY in texts and "better" in texts
    charts = json.loads(shown.scripts["chart-data"])
    assert {chart["across"] for chart in charts} == {"step", "tokens"}
    by_step = charts[0]["lines"]
    base = next(line for line in by_step if line["name"] == "grpo")
    assert base["steps"] == [0, 10, 20] and base["values"][-1].startswith("0.45 [")


def test_the_script_names_the_axis_of_a_chart(write):
    _, _, found = write()
    assert page.ACROSS_NAME in found.scripts["code"] and page.STEP_NAME not in found.scripts["code"]
    if node := shutil.which("node"):
        done = subprocess.run([node, "--check", "-"], input=found.scripts["code"], text=True)
        assert done.returncode == 0


def test_what_is_wrong_is_found_before_anything_is_written(make_runs, tmp_path):
    runs = [make_runs("grpo", EIGHT)]
    with pytest.raises(ValueError, match="Unknown method 'gprp'"):
        write_comparison(tmp_path, runs, "gprp", 0.5)
    with pytest.raises(ValueError, match="Unknown method 'dapo'"):
        write_comparison(tmp_path, runs, "grpo", 0.5, CLAIMS)
    assert not list(tmp_path.iterdir())


def test_one_method_alone_is_a_comparison_too(make_runs, tmp_path):
    found = write_comparison(tmp_path, [make_runs("grpo", [0.5])], "grpo", 0.5)
    assert len(found["rows"]) == 1 and "Fewer than 6 seeds have no interval." in found["notes"]
    Page((tmp_path / "report.html").read_text(encoding="utf-8"))
