"""Problems of the symbol tasks as arrays: shapes, splits, seeds, fields."""

import dataclasses
import itertools

import numpy as np
import pytest

from rljax.tasks.symbols import TASKS, alphabet, make_task
from rljax.tasks.symbols.edit import apply_edit
from rljax.tasks.symbols.modchain import chain_values
from rljax.tasks.symbols.sudoku4 import SHOWN_SOLUTIONS, grids, solve

ENTRIES = [
    *TASKS,
    {"name": "countdown3", "high": 25, "operators": "+-*/", "parentheses": True, "partial": 0.1},
    {"name": "countdown4", "operators": "+-*/", "parentheses": True},
    {"name": "edit", "min_edits": 2, "max_edits": 3},
    {"name": "modchain", "worked_share": 0.5, "max_operations": 6},
    {"name": "modchain", "min_operations": 1, "max_operations": 1},
]
COUNT = 60


def each_task(test):
    return pytest.mark.parametrize("entry", ENTRIES, ids=str)(test)


def texts(tokens, mask):
    return [alphabet.decode(row[kept]) for row, kept in zip(tokens, mask, strict=True)]


@each_task
def test_rows_hold_a_prompt_to_the_left_and_a_right_answer_to_the_right(entry):
    task = make_task(entry)
    problems = task.generate(0, COUNT, "train")
    prompts, mask = problems.prompts, problems.prompt_mask
    assert prompts.shape == (COUNT, task.prompt_tokens) and prompts.dtype == np.int32
    assert mask.dtype == bool and np.all(mask == (prompts != alphabet.PAD_ID))
    assert np.all(np.diff(mask.astype(int), axis=1) >= 0) and mask.any(axis=1).all()
    assert problems.solutions.shape == (COUNT, task.completion_tokens)
    assert np.all(np.diff(problems.solution_mask.astype(int), axis=1) <= 0)
    assert all(len(fact) == COUNT for fact in problems.facts.values())
    assert {str(fact.dtype) for fact in problems.facts.values()} <= {"int32", "float32", "bool"}
    for row, text in enumerate(texts(problems.solutions, problems.solution_mask)):
        assert text.index(alphabet.EOS) == len(text) - 1
        facts = {name: fact[row] for name, fact in problems.facts.items()}
        verdict = task.verify_text(facts, text[:-1])
        assert verdict.correct is True and verdict.reward == 1.0
        assert not task.verify_text(facts, text[:-1], finished=False).correct


@each_task
def test_splits_share_no_problem_whatever_the_seeds(entry):
    task = make_task(entry)
    train = [drawn for seed in (0, 1) for drawn in task.texts(seed, COUNT, "train")]
    heldout = [drawn for seed in (0, 2) for drawn in task.texts(seed, COUNT, "heldout")]
    assert not {drawn.key for drawn in train} & {drawn.key for drawn in heldout}
    assert not {drawn.prompt for drawn in train} & {drawn.prompt for drawn in heldout}


@each_task
def test_a_seed_names_one_order_which_a_longer_set_goes_on(entry):
    task = make_task(entry)
    short, long = (task.generate(3, count, "train") for count in (COUNT // 2, COUNT))
    for name in ("prompts", "solutions"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[: COUNT // 2])
    other = task.generate(4, COUNT, "train")
    assert np.any(other.prompts != long.prompts)
    assert len(np.unique(long.prompts, axis=0)) == COUNT


def test_a_used_up_space_repeats_from_its_beginning():
    task = make_task({"name": "sort", "min_length": 1, "max_length": 2, "max_digit": 4})
    both = {split: task.texts(0, 70, split) for split in ("train", "heldout")}
    prompts = {split: [drawn.prompt for drawn in found] for split, found in both.items()}
    assert len(set(prompts["train"]) | set(prompts["heldout"])) == 5 + 25
    size = len(set(prompts["train"]))
    assert prompts["train"][size : 2 * size] == prompts["train"][:size]


def test_chains_and_edits_say_what_their_prompts_ask():
    for drawn in make_task({"name": "modchain", "max_operations": 5}).texts(0, 40, "train"):
        chain, modulus = drawn.prompt[:-1].split("%")
        values = chain_values([int(n) for n in chain[::2]], list(chain[1::2]), int(modulus))
        line, answer = drawn.solution.split(">")
        assert [*map(int, line + answer)] == values
    for drawn in make_task({"name": "edit", "max_edits": 3}).texts(0, 40, "train"):
        instructions, string = drawn.prompt[:-1].split(":")
        for instruction in instructions.split(","):
            string = apply_edit(instruction, string)
        assert string == drawn.solution


@pytest.mark.parametrize(
    "instruction, result",
    [("r", "bcba"), ("l1", "bcba"), ("l3", "babc"), ("xb", "ac"), ("sbd", "adcd"), ("w", "bbca")],
)
def test_edits_by_hand(instruction, result):
    assert apply_edit(instruction, "abcb") == result


def test_chain_by_hand():
    assert chain_values([7, 5, 3, 2], ["+", "*", "-"], 9) == [3, 0, 7]


def test_fields_of_countdown_bound_what_is_drawn():
    entry = {"name": "countdown4", "operators": "+-", "low": 2, "high": 12, "max_target": 20}
    for drawn in make_task(entry).texts(0, 40, "train"):
        assert set("*/(") & set(drawn.solution) == set()
        assert all(2 <= number <= 12 for number in drawn.facts["numbers"])
        assert 1 <= drawn.facts["target"] <= 20
        given = ",".join(map(str, drawn.facts["numbers"]))
        assert drawn.prompt == f"{given}:{drawn.facts['target']}="
    levels = make_task({"name": "countdown3", "operators": "+-*/", "parentheses": True})
    solutions = "".join(drawn.solution for drawn in levels.texts(0, 300, "train"))
    assert {"+", "-", "*", "/", "("} <= set(solutions)


def test_there_are_288_grids_and_200_of_them_are_for_training():
    assert len(grids()) == len(np.unique(grids(), axis=0)) == 288
    task = make_task("sudoku4")
    train = {"".join(map(str, grid)) for grid in grids()}
    heldout = {solution for solution in train if task.in_heldout(solution)}
    assert len(heldout) == 88 and not heldout & set(SHOWN_SOLUTIONS)


def test_every_puzzle_has_one_solution_and_the_numbers_of_empty_cells_asked_for():
    entry = {"name": "sudoku4", "empty_cells": (5, 10), "empty_weights": (3, 1)}
    problems = make_task(entry).generate(0, 80, "heldout")
    empty = (problems.facts["puzzle"] == 0).sum(axis=1)
    assert set(empty) == {5, 10} and 50 <= (empty == 5).sum() <= 70
    for puzzle, solution in zip(problems.facts["puzzle"], problems.facts["solution"], strict=True):
        np.testing.assert_array_equal(solve(puzzle), [solution])
    np.testing.assert_array_equal(problems.prompts - alphabet.ZERO_ID, problems.facts["puzzle"])


def test_the_papers_puzzles_are_solved():
    puzzles = ("3014002020004130", "0000100420013142", "2001403002001420")
    for puzzle, solution in zip(puzzles, SHOWN_SOLUTIONS, strict=True):
        (found,) = solve(np.array([*map(int, puzzle)]))
        assert "".join(map(str, found)) == solution


@pytest.mark.parametrize(
    "entry, message",
    [
        ("sorting", "Unknown symbol task 'sorting'.*Did you mean 'sort'"),
        ({"name": "sort", "length": 3}, "Unknown field of the task 'sort' 'length'"),
        ({"name": "sort", "min_length": 7}, "min_length=7 of sort is above max_length=6"),
        ({"name": "sort", "max_length": 0}, "max_length of sort must be a whole number from 1"),
        ({"name": "sort", "max_digit": 2.0}, "max_digit of sort must be a whole number"),
        ({"name": "sort", "max_digit": True}, "max_digit of sort"),
        ({"name": "countdown3", "high": 100}, "high of countdown3 .* from 1 to 99, got 100"),
        ({"name": "countdown3", "low": 5, "high": 4}, "low=5 of countdown3 is above high=4"),
        ({"name": "countdown4", "operators": "+%"}, "operators of countdown4 must be"),
        ({"name": "countdown4", "operators": "++"}, "operators of countdown4 must be"),
        ({"name": "countdown4", "parentheses": 1}, "parentheses of countdown4"),
        ({"name": "countdown4", "partial": 2}, "partial of countdown4 must be a number"),
        ({"name": "modchain", "max_modulus": 10}, "max_modulus of modchain"),
        ({"name": "modchain", "min_operations": 5}, "min_operations=5 .* above max_operations=4"),
        ({"name": "modchain", "worked_share": float("nan")}, "worked_share of modchain"),
        ({"name": "edit", "edits": ()}, "edits of edit must be a tuple"),
        ({"name": "edit", "edits": ("upper",)}, "Unknown edit 'upper'"),
        ({"name": "edit", "letters": 9}, "letters of edit"),
        ({"name": "sudoku4", "empty_cells": (13,), "empty_weights": (1,)}, "empty_cells .* to 12"),
        ({"name": "sudoku4", "empty_cells": (7,)}, "a weight for each number of empty cells"),
        ({"name": "sudoku4", "empty_weights": 5}, "empty_weights of sudoku4 must be a tuple"),
    ],
)
def test_bad_entries_are_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        make_task(entry)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 5, "test"), "Unknown split 'test'"),
        ((-1, 5, "train"), "seed >= 0 and count >= 1"),
        ((0, 0, "train"), "seed >= 0 and count >= 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_task("sort").generate(*arguments)


def test_a_split_without_any_problem_is_refused():
    entry = {"name": "countdown3", "low": 9, "operators": "*", "max_target": 5}
    with pytest.raises(ValueError, match="has no problem in the split 'train'"):
        make_task(entry).generate(0, 5, "train")


def test_lists_of_a_config_become_tuples_and_tasks_are_hashable():
    listed = make_task({"name": "edit", "edits": ["reverse", "swap"]})
    assert listed == make_task({"name": "edit", "edits": ("reverse", "swap")})
    assert len({hash(listed), hash(make_task("edit"))}) == 2


def test_symbols_are_different_and_ids_are_places():
    assert len(set(alphabet.SYMBOLS)) == alphabet.VOCAB_SIZE
    assert alphabet.encode("09a%") == [2, 11, 12, alphabet.VOCAB_SIZE - 1]
    assert alphabet.decode([0, 1, 2]) == "_$0"
    with pytest.raises(ValueError, match="'A' in '1A' is no symbol"):
        alphabet.encode("1A")
    with pytest.raises(ValueError, match="Token id 37 is outside"):
        alphabet.decode([37])
    with pytest.raises(ValueError, match="'123' has 3 symbols, a row has room for 2"):
        alphabet.rows(["123"], 2, left=True)


def test_every_task_writes_symbols_of_the_alphabet_only():
    for task, split in itertools.product(TASKS, ("train", "heldout")):
        for drawn in make_task(task).texts(1, 20, split):
            assert not set(drawn.prompt + drawn.solution) & {alphabet.PAD, alphabet.EOS}
        assert dataclasses.is_dataclass(TASKS[task]) and make_task(task).name == task
