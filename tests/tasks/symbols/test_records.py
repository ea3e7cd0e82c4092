"""The same problems as texts, through a source of records."""

import json

import numpy as np
import pytest

from rljax.data.encode import pad_completions, pad_prompts
from rljax.data.sources import open_source
from rljax.data.tokenizers import load_tokenizer
from rljax.tasks.symbols import TASKS, make_task
from rljax.tasks.symbols.records import SymbolSet, symbol_splits


@pytest.mark.parametrize("name", TASKS)
def test_records_encode_to_the_arrays_of_the_device(name):
    task, tokenizer = make_task(name), load_tokenizer("symbols")
    problems = task.generate(5, 30, "heldout")
    arguments = {"task": name, "seed": 5, "size": 30, "split": "heldout"}
    records = open_source("symbols", symbols=arguments)
    prompts, prompt_mask = pad_prompts(
        [tokenizer.encode(record["prompt"]) for record in records],
        tokenizer.pad_id,
        max_prompt_tokens=task.prompt_tokens,
    )
    np.testing.assert_array_equal(prompts, problems.prompts)
    np.testing.assert_array_equal(prompt_mask, problems.prompt_mask)
    solutions, solution_mask = pad_completions(
        [[*tokenizer.encode(record["demonstration"]), tokenizer.eos_id] for record in records],
        tokenizer.pad_id,
        max_new_tokens=task.completion_tokens,
    )
    np.testing.assert_array_equal(solutions, problems.solutions)
    np.testing.assert_array_equal(solution_mask, problems.solution_mask)
    for row, record in enumerate(records):
        reference = json.loads(record["reference"])
        assert reference["task"] == name and set(reference["facts"]) == set(problems.facts)
        for fact, value in reference["facts"].items():
            np.testing.assert_array_equal(np.float32(value), np.float32(problems.facts[fact][row]))


def test_splits_are_disjoint_and_random_access():
    entry = {"name": "sort", "max_length": 4}
    sizes = {"train_size": 20, "heldout_size": 10}
    train, heldout = symbol_splits(entry, train_seed=0, heldout_seed=0, **sizes)
    assert (len(train), len(heldout)) == (20, 10)
    assert not {problem.prompt for problem in train} & {problem.prompt for problem in heldout}
    assert train[-1] == train[19] and train[19].id == 19
    with pytest.raises(IndexError):
        train[20]


def test_a_source_of_symbols_needs_its_arguments():
    with pytest.raises(ValueError, match="A 'symbols' source needs 'symbols'"):
        open_source("symbols")
    with pytest.raises(ValueError, match="Unknown symbol task"):
        SymbolSet("sum", seed=0, size=1, split="train")
