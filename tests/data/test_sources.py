import gzip
import json
import os

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest

from rljax.data.sources import open_source, stream
from rljax.tasks.reasoning_gym import ReasoningGym

ROWS = [{"prompt": f"p{i}", "answer": i} for i in range(10)]
GYM = {"tasks": "chain_sum", "seed": 0, "size": 8}


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def jsonl(tmp_path):
    return write(tmp_path / "rows.jsonl", [json.dumps(row) for row in ROWS])


def test_jsonl_random_access_relative_path_and_blank_lines(tmp_path, monkeypatch):
    write(tmp_path / "rows.jsonl", ['{"a": "é"}', "", '{"a": 2}', "   "])
    monkeypatch.chdir(tmp_path)
    source = open_source("jsonl", path="rows.jsonl", columns=("a",))
    monkeypatch.chdir("/")
    assert len(source) == 2 and source[1] == {"a": 2} and source[0] == {"a": "é"}
    assert list(source) == [{"a": "é"}, {"a": 2}]


@pytest.mark.parametrize(
    "lines, message",
    [
        (['{"a": 1}', "", "{oops"], "bad.jsonl, line 3 is no JSON"),
        (['{"a": 1}', "[1]"], "line 2 begins as a JSON array does"),
        (['{"a": 1}', '{"b": 1, "c": 2}'], r"line 2 lacks the column 'a'; it has \['b', 'c'\]"),
        ([""], "bad.jsonl holds no record .*config.data.path"),
    ],
)
def test_bad_jsonl(tmp_path, lines, message):
    path = write(tmp_path / "bad.jsonl", lines)
    with pytest.raises(ValueError, match=message):
        open_source("jsonl", path=path, columns=("a",))


CHAT = [{"role": "user", "content": "hi"}]
TYPED = {"text_columns": ("completion",), "chat_columns": ("prompt",), "columns": ("reference",)}
FITS = {"prompt": "p", "completion": "c", "reference": {"answer": [1, None]}}
MISFITS = [
    ({"completion": 2}, r"'completion' must hold a text, got 2 \(int\)"),
    ({"completion": ["5", "6"]}, r"'completion' must hold a text, got \['5', '6'\] \(list\)"),
    ({"completion": None}, "'completion' must hold a text, got null"),
    ({"prompt": 2}, "'prompt' must hold a text, or a list of .*, got 2"),
    ({"prompt": []}, r"'prompt' must hold a list of messages, got \[\]"),
    ({"prompt": ["5", "6"]}, "'prompt', message 0 must be .*, got '5'"),
    ({"prompt": [{"role": "user"}]}, "'prompt', message 0 lacks content"),
    ({"prompt": [{"role": "user", "content": 3}]}, "'prompt', message 0 must have a text"),
    ({"reference": None}, "'reference' must hold anything but null, got null"),
]


@pytest.mark.parametrize("change, message", MISFITS)
def test_a_value_of_another_type_names_file_line_and_field(tmp_path, change, message):
    lines = [json.dumps(FITS), "", json.dumps({**FITS, "prompt": CHAT, "reference": 0})]
    path = write(tmp_path / "typed.jsonl", lines)
    assert open_source("jsonl", path=path, **TYPED)[1]["prompt"] == CHAT
    write(path, [*lines, json.dumps(FITS | change)])
    with pytest.raises(ValueError, match=f"typed.jsonl, line 4: the column {message}"):
        open_source("jsonl", path=path, **TYPED)
    with pytest.raises(ValueError, match=f"record 1: the column {message}"):
        open_source("memory", records=[FITS, FITS | change], **TYPED)


@pytest.mark.parametrize("change, message", MISFITS)
def test_parquet_types_name_file_row_and_field(tmp_path, change, message):
    path = tmp_path / "typed.parquet"
    (column,) = change
    # Parquet columns have one type: a misfit that is not null changes all of its column.
    rows = [{**FITS, "reference": "r"} | ({} if None in change.values() else change)] * 2
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([*rows, rows[0] | change]), path)
    row = 3 if None in change.values() else 1
    with pytest.raises(ValueError, match=f"typed.parquet, row {row}: the column {message}"):
        open_source("parquet", path=path, **TYPED)
    assert len(open_source("parquet", path=path)) == 3


def test_parquet_chats_and_large_texts_fit(tmp_path):
    path = tmp_path / "typed.parquet"
    rows = [{"prompt": CHAT, "completion": "c", "reference": 1}] * 3
    table = pyarrow.Table.from_pylist(rows)
    large = table.column("completion").cast(pyarrow.large_string())
    pyarrow.parquet.write_table(table.set_column(1, "completion", large), path, row_group_size=2)
    assert open_source("parquet", path=path, **TYPED)[2] == rows[2]


FILE_ERRORS = [
    ("jsonl", "", "holds no record"),
    ("jsonl", "{oops", "is no JSON"),
    ("jsonl", "[1]", "begins as a JSON array"),
    ("parquet", "no parquet", "is no Parquet file"),
]


@pytest.mark.parametrize("kind, text, message", FILE_ERRORS)
def test_errors_name_the_field_that_gave_the_file(tmp_path, kind, text, message):
    (tmp_path / "file").write_text(text)
    for field in ("config.data.path", "config.data.heldout_path", "config.dpo.data.path"):
        with pytest.raises(ValueError, match=rf"{message}.*\({field}\)"):
            open_source(kind, path=tmp_path / "file", path_field=field)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_errors_name_the_field_of_the_columns(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "jsonl":
        write(path, ['{"a": 1}'])
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"a": 1}]), path)
    for arguments, field in (
        ({}, "config.data.prompt_column, config.data.reference_column"),
        (
            {"path_field": "config.data.heldout_path"},
            "config.data.prompt_column, config.data.reference_column",
        ),
        ({"path_field": "config.dpo.data.path"}, "config.dpo.data.path"),
        ({"columns_field": "config.data.reference_column"}, "config.data.reference_column"),
    ):
        with pytest.raises(ValueError, match=rf"lacks the column 'b'.*\({field}\)"):
            open_source(kind, path=path, columns=("b",), **arguments)
        with pytest.raises(ValueError, match=rf"'a' must hold a text.*\({field}\)"):
            open_source(kind, path=path, text_columns=("a",), **arguments)


def test_text_that_is_no_utf8_names_its_line(tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        open_source("jsonl", path=tmp_path / "bad.jsonl")


@pytest.mark.parametrize(
    "content, kind",
    [
        ('{"a": 1}\n'.encode("utf-16"), "UTF-16"),
        (gzip.compress(b'{"a": 1}\n', mtime=0), "a gzip file"),
        (b"PAR1...", "a Parquet file"),
        (b'[\n{"a": 1},\n{"a": 2}]', "a JSON array"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, content, kind):
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=f"bad.jsonl, line 1 begins as {kind}.* does"):
        open_source("jsonl", path=tmp_path / "bad.jsonl")


def test_a_byte_order_mark_and_line_feeds_of_windows_are_read(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"a": "x"}\r\n{"a": "y"}\r\n')
    assert list(open_source("jsonl", path=tmp_path / "rows.jsonl")) == [{"a": "x"}, {"a": "y"}]


@pytest.mark.parametrize("line", ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}'])
def test_a_key_that_is_there_twice_is_refused(tmp_path, line):
    path = write(tmp_path / "bad.jsonl", ['{"a": 1}', line])
    with pytest.raises(ValueError, match="line 2 is no JSON: the key '[ab]' is there twice"):
        open_source("jsonl", path=path)


@pytest.mark.parametrize("kind", [pyarrow.float32(), pyarrow.float64()])
def test_parquet_numbers_are_the_decimals_that_were_written(tmp_path, kind):
    values = [0.1, 3.0, None, float("inf"), -2.5]
    array = pyarrow.array(np.array([v or 0 for v in values], kind.to_pandas_dtype()), kind)
    mask = pyarrow.array([v is not None for v in values])
    column = pyarrow.compute.if_else(mask, array, pyarrow.scalar(None, kind))
    pyarrow.parquet.write_table(pyarrow.table({"a": column}), tmp_path / "rows.parquet")
    assert [row["a"] for row in open_source("parquet", path=tmp_path / "rows.parquet")] == values


def test_parquet_maps_are_mappings(tmp_path):
    kind = pyarrow.map_(pyarrow.string(), pyarrow.string())
    table = pyarrow.table({"reference": pyarrow.array([[("answer", "1")]], kind)})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    source = open_source("parquet", path=tmp_path / "rows.parquet", columns=("reference",))
    assert source[0] == {"reference": {"answer": "1"}}


def test_parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    source = open_source("parquet", path=path, columns=("prompt",))
    assert len(source) == 10 and source[3] == ROWS[3] and source[-1] == ROWS[9]
    with pytest.raises(IndexError):
        source[10]
    with pytest.raises(ValueError, match=r"lacks the column 'x'; it has \['answer', 'prompt'\]"):
        open_source("parquet", path=path, columns=("x",))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS).slice(0, 0), path)
    with pytest.raises(ValueError, match="holds no record"):
        open_source("parquet", path=path)
    path.write_text("no parquet")
    with pytest.raises(ValueError, match="is no Parquet file"):
        open_source("parquet", path=path)


def test_memory_returns_copies():
    source = open_source("memory", records=ROWS)
    source[0]["prompt"] = "changed"
    assert source[0] == ROWS[0]
    with pytest.raises(ValueError, match="record 1 lacks the column 'a'"):
        open_source("memory", records=[{"a": 1}, {"b": 1}], columns=("a",))
    with pytest.raises(ValueError, match="is empty"):
        open_source("memory", records=[])


def test_reasoning_gym_records():
    source = open_source("reasoning_gym", gym=GYM, columns=("prompt", "demonstration"))
    assert len(source) == 8
    assert source[2]["answer"] == source[2]["reference"]["answer"]
    assert source[2]["demonstration"].endswith(f"<answer>{source[2]['answer']}</answer>")
    problems = ReasoningGym(**GYM)
    assert list(open_source("problems", records=problems)) == list(source)
    with pytest.raises(ValueError, match=r"problem 0 \(countdown\) lacks the column 'demonstrat"):
        open_source("reasoning_gym", gym={**GYM, "tasks": "countdown"}, columns=("demonstration",))


@pytest.mark.parametrize(
    "kind, arguments, message",
    [
        ("json", {}, "Unknown data source 'json'; known: .*Did you mean 'jsonl'"),
        ("jsonl", {}, "needs 'path'.*config.data.path"),
        ("jsonl", {"path_field": "config.data.heldout_path"}, "config.data.heldout_path"),
        ("problems", {}, r"needs 'records' \(the argument 'records' of open_source\)"),
        ("reasoning_gym", {}, r"needs 'gym' \(the argument 'gym' of open_source\)"),
        ("memory", {"records": []}, r"is empty \(the argument 'records' of open_source\)"),
        ("problems", {"records": []}, r"is empty \(the argument 'records' of open_source\)"),
        ("jsonl", {"path": "/nowhere.jsonl"}, "No file '/nowhere.jsonl'"),
        ("memory", {"records": [{}], "path": "x"}, r"not read \['path'\] \(the argument"),
    ],
)
def test_bad_source_arguments(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        open_source(kind, **arguments)


def test_every_epoch_holds_each_record_once_in_its_own_order(jsonl):
    dataset = stream(open_source("jsonl", path=jsonl), seed=3, shuffle=True)
    epochs = [[dataset[e * 10 + i]["id"] for i in range(10)] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != list(range(10))
    assert dataset[4] == {**ROWS[dataset[4]["id"]], "id": dataset[4]["id"]}


def test_a_step_is_a_pure_function_of_seed_and_step(jsonl):
    def read(seed, steps):
        dataset = stream(open_source("jsonl", path=jsonl), seed=seed, shuffle=True)
        return {step: [dataset[4 * step + k] for k in range(4)] for step in steps}

    forward, alone = read(1, range(7)), read(1, [5])
    assert alone[5] == forward[5]
    assert read(2, range(7)) != forward
    ids = [record["id"] for step in range(5) for record in forward[step]]
    assert sorted(ids) == sorted(list(range(10)) * 2)


def test_without_shuffle_the_order_is_the_files(jsonl):
    dataset = stream(open_source("jsonl", path=jsonl), seed=0, shuffle=False)
    assert [dataset[place]["id"] for place in range(8, 12)] == [8, 9, 0, 1]


@pytest.mark.parametrize("what", ["longer", "same size", "another file", "gone"])
def test_a_file_that_changes_while_it_is_read_gives_no_other_record(what, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    source = open_source("jsonl", path=path)
    assert source[1] == {"a": 2}
    if what == "longer":
        path.write_text('{"b": "x"}\n{"a": 1}\n{"a": 2}\n')
    elif what == "same size":
        path.write_text('{"a": 3}\n{"a": 4}\n')
        os.utime(path, (1, 1))  # as if a moment had passed
    elif what == "another file":
        (tmp_path / "new").write_text('{"a": 1}\n{"a": 2}\n')
        (tmp_path / "new").rename(path)
    else:
        path.unlink()
    with pytest.raises(ValueError, match=r"rows.jsonl.*config.data.path"):
        source[1]


def test_a_parquet_file_that_changes_while_it_is_read_gives_no_other_record(tmp_path):
    """Opening has read all of it."""
    path = tmp_path / "rows.parquet"
    write = pyarrow.parquet.write_table
    write(pyarrow.table({"a": [f"row {index}" for index in range(1000)]}), path)
    source = open_source("parquet", path=path)
    path.write_bytes(bytes(path.stat().st_size))
    assert [source[index]["a"] for index in (0, 999)] == ["row 0", "row 999"]
