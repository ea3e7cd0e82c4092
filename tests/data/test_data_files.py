"""Files, folders and patterns: read in the order of their names, and placed where they stand."""

import json

import pytest

from rljax.data.data_files import data_files, kind_of_files
from rljax.data.sources import open_source, place_of


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "more").mkdir(parents=True)
    for name, numbers in (("b.jsonl", [2, 3]), ("a.jsonl", [0, 1]), ("more/c.jsonl", [4])):
        lines = "".join(json.dumps({"n": number}) + "\n" for number in numbers)
        (tmp_path / "data" / name).write_text(lines)
    (tmp_path / "data" / "notes.txt").write_text("no data")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        ("", [0, 1, 2, 3]),
        ("*.jsonl", [0, 1, 2, 3]),
        ("[b-z].jsonl", [2, 3]),
        ("**/?.jsonl", [0, 1, 2, 3, 4]),
        ("more", [4]),
    ],
)
def test_records_of_all_files_that_are_meant(folder, path, numbers):
    source = open_source("jsonl", path=folder / path)
    assert [record["n"] for record in source] == numbers
    assert source[-1]["n"] == numbers[-1]
    with pytest.raises(IndexError):
        source[len(numbers)]


def test_places_and_names(folder):
    source = open_source("jsonl", path=folder / "**/*.jsonl")
    assert place_of(source, 3) == f"{folder}/b.jsonl, line 2"
    assert place_of(source, 4) == f"{folder}/more/c.jsonl, line 1"
    assert list(data_files(folder, "jsonl", "f")) == ["a.jsonl", "b.jsonl"]
    assert list(data_files(folder / "m*/*.jsonl", "jsonl", "f")) == ["more/c.jsonl"]
    assert list(data_files(folder / "b.jsonl", "jsonl", "f")) == ["b.jsonl"]


def test_a_file_whose_name_is_a_pattern_is_that_file(folder):
    (folder / "[b].jsonl").write_text('{"n": 9}\n')
    assert open_source("jsonl", path=folder / "[b].jsonl")[0] == {"n": 9}


def test_a_bad_line_of_any_file_is_named(folder):
    (folder / "b.jsonl").write_text('{"n": 4}\n[\n')
    with pytest.raises(ValueError, match=r"data/b.jsonl, line 2"):
        open_source("jsonl", path=folder)


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("", "parquet", r"No .parquet file in the folder '.*data/?' \(from .*; give .*\(config.d"),
        ("*.json", "jsonl", r"No file '.*\*.json' .*a folder of them or a pattern"),
        ("gone.jsonl", "jsonl", "No file '.*gone.jsonl'"),
    ],
)
def test_nothing_is_an_error(folder, path, kind, message):
    with pytest.raises(ValueError, match=message):
        open_source(kind, path=folder / path)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "jsonl"),
        ("notes.txt", "jsonl"),
        ("**/*.jsonl", "jsonl"),
        ("tables", "parquet"),
        ("tables/*", "parquet"),
        ("t*/**", "parquet"),
        ("tables/part-?.parquet", "parquet"),
        ("gone.parquet", "parquet"),
    ],
)
def test_the_kind_of_files_by_their_names(folder, path, kind):
    (folder / "tables/old").mkdir(parents=True)
    for name in ("part-0.parquet", "part-1.parquet"):
        (folder / "tables" / name).touch()
    assert kind_of_files(folder / path, "f") == kind


def test_files_of_both_kinds_or_none_have_no_kind(folder):
    (folder / "d.parquet").touch()
    for path in ("", "?.*"):
        with pytest.raises(ValueError, match=r"holds both .jsonl and .parquet files; .* \(f\)"):
            kind_of_files(folder / path, "f")
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty' holds no .jsonl or .parquet file"):
        kind_of_files(folder / "empty", "f")
