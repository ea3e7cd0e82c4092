import json

import pyarrow
import pyarrow.parquet
import pytest

from rljax.data.sources import open_source, records_for_step, stream
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
        (['{"a": 1}', "[1]"], "line 2 is a JSON list, not an object"),
        (['{"a": 1}', '{"b": 1, "c": 2}'], r"line 2 lacks the column 'a'; it has \['b', 'c'\]"),
        ([""], "bad.jsonl holds no record .*config.data.path"),
    ],
)
def test_bad_jsonl(tmp_path, lines, message):
    path = write(tmp_path / "bad.jsonl", lines)
    with pytest.raises(ValueError, match=message):
        open_source("jsonl", path=path, columns=("a",))


def test_text_that_is_no_utf8_names_its_line(tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        open_source("jsonl", path=tmp_path / "bad.jsonl")


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
        ("problems", {}, "needs 'records'"),
        ("jsonl", {"path": "/nowhere.jsonl"}, "No file '/nowhere.jsonl'"),
        ("memory", {"records": [{}], "path": "x"}, r"does not read \['path'\]"),
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
        return {step: records_for_step(dataset, step, 4) for step in steps}

    forward, alone = read(1, range(7)), read(1, [5])
    assert alone[5] == forward[5]
    assert read(2, range(7)) != forward
    ids = [record["id"] for step in range(5) for record in forward[step]]
    assert sorted(ids) == sorted(list(range(10)) * 2)


def test_without_shuffle_the_order_is_the_files(jsonl):
    dataset = stream(open_source("jsonl", path=jsonl), seed=0, shuffle=False)
    assert [record["id"] for record in records_for_step(dataset, 2, 4)] == [8, 9, 0, 1]
