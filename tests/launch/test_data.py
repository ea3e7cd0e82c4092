"""launch/data.py: what a file holds, how each gold is read, and clear errors."""

import decimal
import importlib.util
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    {"prompt": "What is 48 + 24?", "reference": "48 + 24 = <<48+24=72>>72\n#### 72"},
    {"prompt": [{"role": "user", "content": "hi"}], "reference": 2.0, "level": 1},
    {"prompt": "a", "reference": "\\text{Yes}"},
]


@pytest.fixture(scope="module")
def data():
    spec = importlib.util.spec_from_file_location("data_command", ROOT / "launch/data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def show(data, capsys):
    """show(argument, ...) -> status, lines of standard output, standard error."""

    def run(*arguments) -> tuple[int, list[list[str]], str]:
        status = data.main(list(map(str, arguments)))
        printed = capsys.readouterr()
        # Cells are parted by two blanks or more.
        lines = [[c.strip() for c in x.split("  ") if c.strip()] for x in printed.out.splitlines()]
        return status, lines, printed.err

    return run


def jsonl(path, *rows):
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in rows))
    return path


def test_a_file_is_shown(show, tmp_path):
    status, lines, _ = show(jsonl(tmp_path / "rows.jsonl", *ROWS))
    assert status == 0
    assert lines[0] == [f"{tmp_path / 'rows.jsonl'}: 3 rows"]
    assert ["prompt", "2 text, 1 list", "'What is 48 + 24?'"] in lines
    assert ["level", "2 null, 1 whole number", "1"] in lines
    assert ["conversation: user", "1"] in lines
    assert ["line 1", "'48 + 24 = <<48+24=72>>72\\n#### 72'", "72", "number, after ####"] in lines
    assert ["line 2", "2.0", "2", "number"] in lines
    assert ["number, after ####", "1"] in lines


def test_refused_golds_have_their_line_and_status_1(show, tmp_path):
    rows = [*ROWS, "", {"prompt": "x", "reference": "He has 5 apples"}, {"prompt": "y"}]
    status, lines, _ = show(jsonl(tmp_path / "rows.jsonl", *rows), "--show=1")
    assert status == 1
    assert ["2 of 5 gold answers cannot be read by 'math':"] in lines
    refused = next(line for line in lines if line[:1] == ["line 5"])
    assert refused[1] == "'He has 5 apples'" and refused[2].startswith("words and mathematics")


def test_parquet_with_other_types(show, tmp_path):
    columns = {"question": ["a", "b"], "answer": [decimal.Decimal("1.50"), decimal.Decimal("2.00")]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    status, lines, _ = show(tmp_path / "rows.parquet", "--column=answer")
    assert status == 0
    assert ["answer", "2 decimal", "Decimal('1.50')"] in lines
    assert ["row 1", "Decimal('1.50')", "1.5", "number"] in lines
    assert ["row 2", "Decimal('2.00')", "2", "number"] in lines


@pytest.mark.parametrize("name", ["", "*.parquet", "*"])
def test_parquet_in_parts(show, tmp_path, name):
    for part, answer in enumerate(("4", "5")):
        path = tmp_path / f"part-{part}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a"], "reference": [answer]}), path)
    status, lines, error = show(tmp_path / name)
    assert (status, error) == (0, "")
    assert lines[0] == [f"{tmp_path / name}: 2 rows"]
    assert ["row 1", "'5'", "5", "number"] in lines


def test_columns_rewards_and_tokens_of_a_config(show):
    problems = "configs/examples/problems.jsonl"
    config = "--config=configs/examples/own_task.py"
    status, lines, _ = show(ROOT / problems, config, "--reward=exact_match", "--show=2")
    assert status == 0
    assert ["line 1", "'acgj'", "acgj", "text"] in lines
    assert ["text", "2048"] in lines
    assert ["greatest", "10"] in lines
    assert ["0 of 2048 have more than 10 (config.data.max_prompt_tokens)"] in lines


def test_prompts_that_a_tokenizer_cannot_read(show, tmp_path):
    status, lines, _ = show(jsonl(tmp_path / "rows.jsonl", *ROWS), "--tokenizer=byte")
    assert status == 1
    assert ["1 of 3 prompts cannot be read; the first one:"] in lines
    assert any(
        "line 2: this tokenizer (ByteTokenizer) has no chat template" in x[0] for x in lines if x
    )


def test_rewards_and_columns_that_are_not_there(show, tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", *ROWS)
    status, lines, _ = show(path, "--column=gold")
    assert status == 0 and ["No column 'gold': no gold answers (--column)."] in lines
    status, lines, _ = show(path, "--reward=format")
    assert ["The reward 'format' brings no reader of gold answers."] in lines


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["none.jsonl"], "No file 'none.jsonl'"),
        (["."], "'.' holds both .jsonl and .parquet files; .* \\(FILES\\)"),
        (["b*.jsonl"], "broken.jsonl, line 2 is no JSON"),
        (["rows.jsonl", "--reward=mth"], "Unknown reward 'mth'.*Did you mean 'math'"),
        (["rows.jsonl", "--config=none.py"], "none.py"),
        (["rows.jsonl", "--tokenizer=none"], "none"),
        (["broken.jsonl"], "broken.jsonl, line 2 is no JSON"),
        (["broken.parquet"], "broken.parquet is no Parquet file"),
        (["empty.jsonl"], "empty.jsonl holds no record"),
    ],
)
def test_errors_are_one_line(show, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "rows.jsonl", *ROWS)
    jsonl(tmp_path / "broken.jsonl", {}, "{")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.jsonl").touch()
    status, _, error = show(*arguments)
    assert status == 1 and error.startswith("error: ") and error.count("\n") == 1
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(error)


PAIRS = [
    {"prompt": "2+2=", "chosen": "4", "rejected": "5?", "margin": 1.0},
    {"prompt": "2+2=", "chosen": "5?", "rejected": "4", "margin": 3.0},
    {"prompt": "2+2=", "chosen": "4", "rejected": "5?", "margin": 1.0},
    {"prompt": "12345678+1=", "chosen": "<b>&12345679</b>", "rejected": "no", "margin": 2.0},
]


def test_pairs_are_described(show, tmp_path):
    bad = {"prompt": "1", "chosen": "2", "rejected": ""}
    train = jsonl(tmp_path / "train.jsonl", *PAIRS, bad)
    heldout = jsonl(tmp_path / "heldout.jsonl", PAIRS[0], {**PAIRS[3], "rejected": "?"})
    page = tmp_path / "page.html"
    status, lines, _ = show(train, heldout, f"--html={page}")
    assert status == 1  # a row is refused
    assert ["rows are pairs"] in lines
    assert ["- 1 of 4 rows repeat earlier ones: line 3 (as line 1)"] in lines
    assert [
        "- 2 of 4 rows contradict earlier ones: line 2 (as line 1), line 3 (as line 2)"
    ] in lines
    assert [f"{train}, line 5: rejected is empty, got '' (str); an answer has a text."] in lines
    # In bytes, with the end of each answer.
    assert ["tokens", "prompt", "chosen", "rejected"] in lines
    assert ["greatest", "11", "17", "3"] in lines
    assert ["longer than the other side", "2", "2"] in lines
    assert ["8", "1", "3", "1"] in lines  # one prompt of 11 loses 3; one answer is longer than 8
    assert [
        f"{heldout}: 2 prompts of the 2 held-out rows, 1 of them with the same answers, are in the "
        "training rows too"
    ] in lines
    text = page.read_text()
    assert "train.jsonl" in text and "heldout.jsonl" in text and "contradict others" in text
    assert "&lt;b&gt;" not in text  # tokens are bytes, each in its own element
    assert "<b>&12345679" not in text and 'title="id 60">&lt;</span>' in text


def test_what_the_rules_of_a_stage_would_cost(show, tmp_path):
    config = tmp_path / "config.py"
    file = jsonl(tmp_path / "pairs.jsonl", *PAIRS)
    config.write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config(arg=''):\n    c = ConfigDict()\n"
        "    c.stages = ('dpo',)\n    c.data = dict(kind='jsonl', path='x', heldout_path='y',"
        f" max_prompt_tokens=8)\n    c.dpo = dict(method='dpo', data=dict(path={str(file)!r},"
        " max_completion_tokens=20))\n    return c\n"
    )
    status, lines, _ = show(file, f"--config={config}")
    assert status == 0
    assert ["refuse", "1", "0", "0", "0"] in lines
    assert ["drop", "0", "1", "0", "0"] in lines
    assert ["keep_end_of_prompt", "0", "0", "1", "3"] in lines


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": "a", "completion": "b"}, "demonstrations"),
        (
            {"messages": [dict(role="user", content="a"), dict(role="assistant", content="b")]},
            "demonstrations",
        ),
        ({"prompt": "a", "completion": "b", "label": True}, "labelled completions"),
        ({"prompt": "a", "completions": ["b"], "labels": [True]}, "labelled steps"),
        ({"prompt": "a", "completions": ["b"], "scores": [1]}, "scored completions"),
        ({"prompt": "a", "completions": [{"response": "b", "score": 1}]}, "scored completions"),
    ],
)
def test_the_kind_of_a_set_follows_from_its_columns(show, tmp_path, row, kind):
    status, lines, _ = show(jsonl(tmp_path / "rows.jsonl", row))
    assert status == 0 and [f"rows are {kind}"] in lines


def test_there_is_no_page_of_problems_alone(show, tmp_path):
    status, _, errors = show(jsonl(tmp_path / "rows.jsonl", *ROWS), f"--html={tmp_path / 'x.html'}")
    assert status != 0 and "No file holds pairs, groups, labelled steps, scored" in errors
    assert not (tmp_path / "x.html").exists()
