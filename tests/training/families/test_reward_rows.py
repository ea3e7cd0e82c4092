"""Every reward model's loss through the family: no split of a batch changes its numbers.

The states are those of a table of vectors, one a token: it compiles in no time, and all that the
family does to them is what it does to those of a network. Rows of pairs that share their prompts
are in test_reward.py.
"""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.arrays import REWARD_ARRAYS
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import put_rows
from rljax.registry import METHODS, resolve_objective
from rljax.training.families import reward
from rljax.training.families.goal_term import UNIFORMS, draws_goals, goal_draws
from rljax.training.families.reward import TERMS, RewardModel
from rljax.training.update.train_step import loss_and_gradient

ROWS = [name for name, row in METHODS.items() if row.family == "reward"]
VOCABULARY, COUNT, PROMPT, SLOTS, WIDTH = 7, 16, 2, 5, 4
VERDICTS = (1, 3)


class Table:
    """A language model and a reward head on the table's vectors."""

    config = SimpleNamespace(experts=0)

    def bind(self, params):
        return SimpleNamespace(
            scores=lambda states: states @ params["head"],
            logits=lambda states: states @ params["table"].T,
        )


def states_of(network, params, rows):
    return params["table"][rows["tokens"]][:, -rows["mask"].shape[-1] - 1 :], None


def family_of(method, micro_batches):
    """The family of a method, without a source or a network."""
    objective = resolve_objective(method, {})
    family = object.__new__(RewardModel)
    family.context = SimpleNamespace(network=Table())
    family.stage = SimpleNamespace(
        objective=objective, batch=SimpleNamespace(micro_batches=micro_batches)
    )
    pairs = {"chosen_scores", "goal_positive", "end_states"} & objective.inputs
    alone = {"step_scores", "good_logprobs"} & objective.inputs or method == "binary_reward"
    family.count = 2 if pairs else 1 if alone else 3
    family.loss = objective.part("reward_loss")
    term = TERMS[objective.choices["representation"]]
    family.term = None if term is None else term(family.stage)
    family.verdicts = VERDICTS if "good_logprobs" in objective.inputs else None
    family.of_steps = "step_scores" in objective.inputs
    return family


def rows_of(method, padding=0):
    """Completions of 1 to 5 tokens and what is said of them; a row has an empty completion."""
    family, rng = family_of(method, 1), np.random.default_rng(0)
    sides = family.count
    shape = (COUNT, sides, SLOTS)
    lengths = rng.integers(1, SLOTS + 1, shape[:2])
    lengths[3, -1] = 0
    tokens = rng.integers(0, VOCABULARY, (COUNT, sides, PROMPT + SLOTS)).astype(np.int32)
    mask = np.arange(SLOTS) < lengths[..., None]
    present = mask.any(axis=-1)
    usable = present.all(axis=1)
    ends = mask & ((rng.random(shape) < 0.4) | (np.arange(SLOTS) == lengths[..., None] - 1))
    said = {
        "present": present,
        "labels": rng.random(shape[:2]) < 0.5,
        "ratings": rng.normal(size=shape[:2]).astype(np.float32),
        "rated_margins": rng.random(COUNT).astype(np.float32),
        "step_ends": ends,
        "step_labels": ends & (rng.random(shape) < 0.5),
        "mean_steps": np.full(COUNT, ends.sum() / COUNT, np.float32),
    }
    batch = {
        "tokens": tokens,
        "positions": np.zeros_like(tokens),
        "segment_ids": np.ones_like(tokens),
        "mask": mask,
    } | {name: said[name] for name in said if name in family.stage.objective.inputs}
    slots = {"tokens", "positions", "segment_ids", "mask", "step_ends", "step_labels"}
    for name in slots & batch.keys():
        batch[name] = np.pad(batch[name], ((0, 0), (0, 0), (0, padding)))
    if draws_goals(family.stage):
        batch[UNIFORMS] = goal_draws(family.stage, COUNT, (0, 1))
    return batch | {"weights": (usable / usable.sum()).astype(np.float32)}


PARAMS = {
    "table": jnp.asarray(np.random.default_rng(1).normal(size=(VOCABULARY, WIDTH)), jnp.float32),
    "head": jnp.asarray(np.random.default_rng(2).normal(size=(WIDTH, 1)), jnp.float32),
}


def value_and_gradient(method, batch, micro_batches=1):
    """Loss and gradient of an update, as the train step computes them."""
    family = family_of(method, micro_batches)

    @jax.jit
    def update(params, batch):
        prepared = family.prepare(params, batch)
        loss, metrics, gradient = loss_and_gradient(family.loss_fn, params, prepared, micro_batches)
        return loss, gradient, {name: m.mean() for name, m in metrics.items()}

    return jax.device_get(update(PARAMS, batch))


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(reward, "completion_states", states_of)


@pytest.fixture(scope="module")
def whole():
    """whole(method): the numbers of the undivided batch on one device."""
    return functools.cache(lambda method: value_and_gradient(method, rows_of(method)))


def assert_same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-6)
    for name, value in expected[1].items():
        size = np.abs(value).max()
        np.testing.assert_allclose(found[1][name], value, rtol=1e-5, atol=2e-6 * size)
    assert found[2].keys() == expected[2].keys()
    for name, value in expected[2].items():
        np.testing.assert_allclose(found[2][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("method", ROWS)
def test_neither_micro_batches_nor_padding_nor_devices_change_a_number(method, whole):
    rows = rows_of(method)
    read = family_of(method, 1).stage.objective.inputs & REWARD_ARRAYS.keys()
    assert {name for name in read if REWARD_ARRAYS[name].level == "step"} <= rows.keys()
    assert np.isfinite(whole(method)[0]) and np.abs(whole(method)[1]["table"]).max() > 0
    assert_same(value_and_gradient(method, rows, micro_batches=4), whole(method))
    assert_same(value_and_gradient(method, rows_of(method, padding=3)), whole(method))
    mesh = make_mesh({"data": 8})
    with jax.set_mesh(mesh):
        found = value_and_gradient(method, put_rows(rows, mesh), micro_batches=2)
    assert_same(found, whole(method))


@pytest.mark.parametrize("method", ROWS)
def test_a_row_that_weighs_nothing_trains_nothing(method, whole):
    """What its completions hold may be anything; those of one completion are all counted."""
    rows = rows_of(method)
    changed = rows | {"tokens": rows["tokens"].copy()}
    changed["tokens"][3] = (changed["tokens"][3] + 1) % VOCABULARY
    assert rows["weights"][3] == 0
    loss, gradient, _ = value_and_gradient(method, changed)
    np.testing.assert_allclose(loss, whole(method)[0], rtol=1e-6)
    for name, value in whole(method)[1].items():
        np.testing.assert_allclose(gradient[name], value, atol=1e-6)
