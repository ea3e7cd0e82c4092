"""The verdicts on the device: the same as those on texts, whatever the completion."""

import functools
import itertools

import jax
import numpy as np
import pytest

from rljax.tasks.symbols import TASKS, make_task
from rljax.tasks.symbols.alphabet import EOS_ID, IDS, VOCAB_SIZE, decode, rows
from rljax.verifiers import VERIFIERS, find_verifier

ENTRIES = [
    *TASKS,
    {"name": "countdown3", "operators": "+-*/", "parentheses": True, "partial": 0.1},
    {"name": "countdown4", "high": 99, "operators": "+-*/", "parentheses": True, "max_target": 999},
    {"name": "modchain", "min_operations": 1, "worked_share": 0.5, "line_credit": 0.25},
    {"name": "modchain", "min_operations": 1, "max_operations": 1},
    {"name": "edit", "max_edits": 3},
]
COUNT, VARIANTS = 128, 4


@functools.cache
def mapped(name):
    return jax.jit(jax.vmap(VERIFIERS[name]))


def on_texts(task, facts, tokens, mask):
    """The verdicts of `verify_text`, with an end that is looked for in plain Python."""
    verdicts = []
    for row in range(len(tokens)):
        pairs = zip(tokens[row], mask[row], strict=True)
        kept = list(itertools.takewhile(lambda pair: pair[1], pairs))
        ids = [int(token) for token, _ in kept]
        finished = EOS_ID in ids
        text = decode(ids[: ids.index(EOS_ID)] if finished else ids)
        own = {name: fact[row] for name, fact in facts.items()}
        verdicts.append(task.verify_text(own, text, finished=finished))
    return verdicts


def assert_agree(task, facts, tokens, mask):
    """Compares all verdicts and returns how many rows are correct."""
    ours, texts = mapped(task.name)(facts, tokens, mask), on_texts(task, facts, tokens, mask)
    assert ours.reward.dtype == np.float32 and ours.correct.dtype == bool
    np.testing.assert_array_equal(ours.correct, [verdict.correct for verdict in texts])
    rewards = np.array([verdict.reward for verdict in texts], np.float32)
    np.testing.assert_allclose(ours.reward, rewards, rtol=1e-6, atol=0)
    for check, values in ours.checks.items():
        np.testing.assert_array_equal(values, [verdict.checks[check] for verdict in texts])
    return int(np.sum(ours.correct))


def spoiled(rng, tokens, mask):
    """Copies of right rows with 0 to 3 changes; near the right answer is where verdicts differ."""
    tokens, mask = tokens.copy(), mask.copy()
    for row in range(len(tokens)):
        for _ in range(rng.integers(0, 4)):
            place, symbol = rng.integers(0, tokens.shape[1]), rng.integers(0, VOCAB_SIZE)
            kind = rng.integers(0, 6)
            if kind == 0:
                tokens[row, place] = symbol
            elif kind == 1:  # of the symbols that the answer has
                tokens[row, place] = rng.choice(tokens[row])
            elif kind == 2:
                tokens[row, place:] = np.roll(tokens[row, place:], 1)
            elif kind == 3:
                tokens[row, place:] = np.roll(tokens[row, place:], -1)
            elif kind == 4:
                mask[row, place:] = False
            else:
                mask[row] = True
    # What is not there may be anything.
    tokens[~mask] = rng.integers(-5, 2 * VOCAB_SIZE, (~mask).sum())
    return tokens, mask


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_both_verdicts_agree_on_right_and_spoiled_completions(entry):
    rng, task = np.random.default_rng(0), make_task(entry)
    problems = task.generate(0, COUNT, "train")
    facts = {name: np.repeat(fact, VARIANTS, axis=0) for name, fact in problems.facts.items()}
    tokens = np.repeat(problems.solutions, VARIANTS, axis=0)
    mask = np.repeat(problems.solution_mask, VARIANTS, axis=0)
    assert assert_agree(task, facts, tokens, mask) == COUNT * VARIANTS
    correct = assert_agree(task, facts, *spoiled(rng, tokens, mask))
    assert 0.2 * len(tokens) < correct < 0.8 * len(tokens)


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_both_verdicts_agree_on_random_symbols(entry):
    rng, task = np.random.default_rng(1), make_task(entry)
    problems = task.generate(1, COUNT * VARIANTS, "train")
    seen = np.unique(problems.solutions)
    tokens = rng.choice(seen, problems.solutions.shape)
    assert_agree(task, problems.facts, tokens, rng.random(tokens.shape) < 0.97)


def repeated(facts, count):
    return {name: np.repeat(np.asarray(fact)[None], count, axis=0) for name, fact in facts.items()}


@pytest.mark.parametrize(
    "symbols, lengths, numbers, target",
    [
        ("012+-*/()", range(5), [1, 2, 1], 2),
        ("123+*/", range(5, 6), [1, 2, 3], 5),
        ("1-/()", range(7, 8), [1, 1, 1], 0),  # (1-1)/1, but not 1/(1-1)
    ],
)
def test_both_verdicts_of_countdown_agree_on_every_short_text(symbols, lengths, numbers, target):
    facts = {"numbers": np.int32(numbers), "target": np.int32(target)}
    facts |= {"allowed": np.ones(6, bool), "partial": np.float32(0.1)}
    texts = ["".join(t) for n in lengths for t in itertools.product(symbols, repeat=n)]
    if lengths.start == 7:  # of the long ones, those with the right numbers
        texts = [text for text in texts if text.count("1") == 3]
    tokens, mask = rows([text + "$" for text in texts], 8, left=False)
    found = mapped("countdown3")(repeated(facts, len(texts)), tokens, mask)
    task = make_task("countdown3")
    plain = [task.verify_text(facts, text) for text in texts]
    np.testing.assert_array_equal(found.correct, [verdict.correct for verdict in plain])
    well_used = [verdict.checks["well_used"] for verdict in plain]
    np.testing.assert_array_equal(found.checks["well_used"], well_used)
    assert np.any(found.correct) == (lengths.stop > 5)


def test_the_largest_numbers_do_not_overflow():
    facts = {"numbers": np.int32([99, 98, 97, 99]), "target": np.int32(1)}
    facts |= {"allowed": np.ones(6, bool), "partial": np.float32(0)}
    texts = ["".join(pieces) for pieces in _expressions(["99", "98", "97", "99"])]
    tokens, mask = rows([text + "$" for text in texts], 16, left=False)
    task = make_task({"name": "countdown4", "high": 99})
    for target in (1, 9999, 99 * 98 - 97 * 99, 99 * 98 * 97 * 99, 99 * 98 + 97 * 99):
        given = repeated(facts | {"target": np.int32(target)}, len(texts))
        assert_agree(task, given, tokens, mask)


def _expressions(numbers):
    """All expressions of four numbers in order, three operators and one or no parenthesis pair."""
    a, b, c, d = numbers
    for x, y, z in itertools.product("+-*/", repeat=3):
        yield [a, x, b, y, c, z, d]
        yield [a, x, "(", b, y, c, ")", z, d]
        yield ["(", a, x, b, ")", y, "(", c, z, d, ")"]
        yield [a, x, "(", b, y, "(", c, z, d, "))"]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("width", [2, 40])
def test_rows_may_be_shorter_or_longer_than_a_solution(name, width):
    task = make_task(name)
    problems = task.generate(0, 8, "train")
    tokens = np.full((8, width), IDS["9"], np.int32)
    shared = min(width, task.completion_tokens)
    tokens[:, :shared] = problems.solutions[:, :shared]
    mask = np.ones_like(tokens, bool)
    correct = assert_agree(task, problems.facts, tokens, mask)
    assert correct == (problems.solution_mask.sum(axis=1) <= width).sum()


@pytest.mark.parametrize("name", TASKS)
def test_an_empty_row_is_wrong(name):
    task = make_task(name)
    problems = task.generate(0, 4, "train")
    nothing = np.zeros_like(problems.solution_mask)
    verdict = mapped(name)(problems.facts, problems.solutions, nothing)
    assert not verdict.correct.any() and not verdict.reward.any()


def test_every_task_has_a_verifier():
    assert set(VERIFIERS) == set(TASKS)
    assert find_verifier("sort") is VERIFIERS["sort"]
    with pytest.raises(ValueError, match="Unknown verifier 'sorts'.*Did you mean 'sort'"):
        find_verifier("sorts")
