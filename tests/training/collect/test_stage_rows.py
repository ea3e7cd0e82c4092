"""Rows of a stage's file are cut or left out by the rule that the stage names, and counted."""

import dataclasses
import json

import pytest

from rljax import remarks
from rljax.data.pairs import pair_of
from rljax.data.sources import open_source, place_of
from rljax.data.values import UnusableRow
from rljax.training.collect.experience import Policy
from rljax.training.collect.pairs import PairSource
from rljax.training.collect.stage_rows import checked_rows, raise_all, rows_of_step
from rljax.training.families.preference import pair_rows
from rljax.training.families.reward import trained_and_heldout

# The tiny config has room for 6 tokens of a prompt and 8 of an answer, its end among them.
ROWS = [
    {"prompt": "1+1=", "chosen": "2", "rejected": "3"},
    {"prompt": "11111+1=", "chosen": "2", "rejected": "3"},  # 8 tokens
    {"prompt": "1+2=", "chosen": "3", "rejected": "12345678"},  # 9 tokens
    {"prompt": "1+3=", "chosen": "1234567", "rejected": "5"},
]


@pytest.fixture
def stage_of(pieces, tmp_path):
    """stage_of(rule, rows) -> the pieces of a stage of a file of pairs, and its records."""
    remarks.say_once.cache_clear()

    def make(rule: str, rows=ROWS):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [f"data.path={path}", f"data.truncation={rule}", "batch.sequences_per_update=4"]
        made = pieces("dpo_file", *(f"--config.dpo_file.{word}" for word in words))
        return made, open_source("jsonl", path=path)

    return make


@pytest.mark.parametrize(
    ("rule", "kept", "prompt", "said"),
    [
        ("drop", [0, 3], None, ["2 of 4 rows are too long and are left out"]),
        ("keep_end_of_prompt", [0, 1, 3], "111+1=", ["1 of 4 rows", "1 of 3 prompts lose 2 of 16"]),
        ("keep_start_of_prompt", [0, 1, 3], "11111+", ["1 of 4 rows", "1 of 3 prompts lose 2"]),
    ],
)
def test_every_rule(stage_of, capsys, rule, kept, prompt, said):
    made, records = stage_of(rule)
    rows = checked_rows(made.context, made.stage, records, pair_of)
    assert [place_of(rows, n).rpartition(" ")[2] for n in range(len(rows))] == [
        str(index + 1) for index in kept
    ]
    errors = capsys.readouterr().err
    assert all(f"note: {each}" in errors for each in said)
    assert errors.count("(config.dpo_file.data.truncation)") == len(said)
    read = rows_of_step(made.context, made.stage, [{**row, "id": 0} for row in rows], pair_of)
    if prompt:
        assert bytes(read[1].prompt).decode() == prompt
    # No answer is ever cut: the longest one that is kept still has its end.
    assert read[-1].sides[0] == [*b"1234567", made.context.tokenizer.eos_id]
    padded = pair_rows(made.context, made.stage, [{**row, "id": 0} for row in rows])
    assert padded["mask"].sum() == sum(len(ids) for pair in read for ids in pair.sides)


def test_a_step_never_sees_a_row_that_was_left_out(stage_of):
    made, _ = stage_of("drop")
    source = PairSource(made.context, made.stage)
    seen, state = [], source.first_state()
    for step in range(1, 5):
        experience, state = source.collect(Policy(made.params, 0), state, step)
        seen += [record["prompt"] for record in experience.records]
    assert len(seen) == 8 and seen.count("1+1=") == seen.count("1+3=") == 4


UNUSABLE = [
    {"prompt": "1+4=", "chosen": "5", "rejected": "5"},
    {"prompt": "1+5=", "chosen": "6", "rejected": " "},
]


def test_rows_that_say_nothing_are_refused_or_left_out(stage_of, capsys):
    rows = [UNUSABLE[0], ROWS[0], UNUSABLE[1], ROWS[0]]
    made, records = stage_of("drop", rows)
    with pytest.raises(
        ValueError, match="line 1: chosen and rejected are the same.* line 3.*unusable='drop'"
    ):
        checked_rows(made.context, made.stage, records, pair_of)
    stage = dataclasses.replace(made.stage, data={**made.stage.data, "unusable": "drop"})
    kept = checked_rows(made.context, stage, records, pair_of)
    assert [place_of(kept, n).rpartition(" ")[2] for n in range(len(kept))] == ["2", "4"]
    said = capsys.readouterr().err
    assert "2 of 4 rows say nothing to learn (empty answers, equal sides, no right step) " in said
    # Rows are named by their lines, whatever is left out before them.
    assert "repeat earlier ones: line 4 (as line 2)" in said
    made, records = stage_of("drop", [*UNUSABLE, ROWS[1]])
    with pytest.raises(ValueError, match="2 of 3 rows say nothing to learn and 1 are too long"):
        checked_rows(made.context, stage, records, pair_of)
    # What cannot be read is refused all the same.
    made, records = stage_of("drop", [ROWS[0], {"prompt": "1+1=", "chosen": "2"}])
    with pytest.raises(ValueError, match="line 2 lacks the column 'rejected'"):
        checked_rows(made.context, stage, records, pair_of)


def test_ids_that_the_model_cannot_read_are_refused(stage_of):
    """Bytes, three ids and the two tags of the tiny config: the embedding has nothing beyond."""
    row = {"prompt_tokens": [49, 61], "chosen_tokens": [50, 260], "rejected_tokens": [51, 258]}
    made, records = stage_of("refuse", [row, {**row, "chosen_tokens": [50, 261]}])
    with pytest.raises(ValueError, match="line 2: chosen holds the token id 261, .* below 261"):
        checked_rows(made.context, made.stage, records, pair_of)
    made, records = stage_of("refuse", [row, {**row, "rejected_tokens": []}])
    with pytest.raises(
        ValueError, match="line 2: rejected has no token; .*unusable='drop' leaves such a row out"
    ):
        checked_rows(made.context, made.stage, records, pair_of)


def test_a_stage_that_cannot_leave_a_row_out_promises_nothing(stage_of):
    made, _ = stage_of("drop")
    problem = UnusableRow("line 1: no step is right.")
    with pytest.raises(UnusableRow) as error:
        raise_all([("line 1", problem)])
    assert "='drop'" not in str(error.value)


@pytest.mark.parametrize("rule", ["refuse", "drop"])
def test_a_step_never_sees_a_row_that_says_nothing(stage_of, rule):
    good = [ROWS[0], ROWS[3]]
    made, _ = stage_of(rule, [*UNUSABLE, *good])
    stage = dataclasses.replace(made.stage, data={**made.stage.data, "unusable": "drop"})
    source = PairSource(made.context, stage)
    experience, _ = source.collect(Policy(made.params, 0), source.first_state(), 1)
    assert {record["prompt"] for record in experience.records} == {row["prompt"] for row in good}


def test_nothing_left_is_an_error(stage_of):
    made, records = stage_of("drop", ROWS[1:3])
    with pytest.raises(ValueError, match="jsonl: all 2 rows are too long .*file.data.truncation"):
        checked_rows(made.context, made.stage, records, pair_of)


def test_what_is_remarkable_is_said_once(stage_of, capsys):
    swapped = {"prompt": "1+1=", "chosen": "3", "rejected": "2"}
    made, records = stage_of("refuse", [ROWS[0], swapped, ROWS[0]])
    capsys.readouterr()
    for _ in range(2):
        assert checked_rows(made.context, made.stage, records, pair_of) is records
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("note: 1 of 3 rows repeat earlier ones: ")
    assert said[1].endswith(": line 2 (as line 1), line 3 (as line 2) (config.dpo_file.data.path)")


def test_held_out_pairs_that_are_learned_are_counted(pieces, tmp_path, capsys):
    rows = [{"prompt": f"{n}=", "chosen": f"{n}", "rejected": "-"} for n in range(9)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    context = pieces("rlhf", f"--config.rm.data.path={path}").context
    (stage,) = (stage for stage in context.stages if stage.name == "rm")
    trained, heldout = trained_and_heldout(context, stage)
    assert len(trained) == 9 and [place_of(heldout, 0)] == [f"{path}, line 10"]
    assert "1 prompts of the 1 held-out rows, 1 of them" in capsys.readouterr().err
