"""Rows that share a prompt give the loss, the gradient and the curves of separate rows."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

from rljax.parallel.rules import put_rows
from rljax.reporting.files import read_rows
from rljax.training import loop
from rljax.training.families.evidence import Evidence
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.preference import Preference
from rljax.training.update.metrics import step_numbers
from tests.training.steps import take_step

FAMILIES = {"grpo": PolicyGradient, "jepo": Evidence, "dpo_file": Preference}


def moved(params, scale=0.05):
    """Parameters away from those that sampled: ratios, KL and margins are not at their start."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    noise = [scale * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, [x + n for x, n in zip(leaves, noise, strict=True)])


@pytest.fixture
def collect(pieces):
    """collect(variant, shared, override, ...) -> made pieces, family, first step's experience."""

    def run(variant, shared, *overrides):
        words = (f"--config.{variant}.batch.share_prompts={shared}", *overrides)
        made = pieces(variant, *words)
        family = FAMILIES[variant](made.context, made.stage, made.params, 12)
        return made, family, take_step(family, made.state, 1)[1]

    return run


def loss_of(made, family, batch):
    def whole(params, batch):
        return family.loss_fn(params, family.prepare(params, batch))

    evaluate = jax.jit(jax.value_and_grad(whole, has_aux=True))
    return jax.device_get(evaluate(moved(made.params), put_rows(batch, made.context.mesh)))


def assert_same(one, other):
    """(loss, metrics), gradient of two layouts."""
    ((loss, metrics), gradient), ((loss_2, metrics_2), gradient_2) = one, other
    assert loss == pytest.approx(loss_2, rel=1e-5, abs=1e-6)
    # What is logged: a log-ratio of rounding alone, 1e-6, may be counted in the bin beside.
    logged, logged_2 = step_numbers(metrics), step_numbers(metrics_2)
    assert logged.keys() == logged_2.keys()
    for name in logged:
        np.testing.assert_allclose(logged[name], logged_2[name], rtol=1e-5, atol=1e-5)
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient))
    assert size > 1e-4

    def close(a, b):
        return np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * size)

    jax.tree.map(close, gradient, gradient_2)


@pytest.mark.contract
@pytest.mark.parametrize("variant", FAMILIES)
def test_loss_and_gradient_are_those_of_separate_rows(collect, variant):
    one_update = ["--config.grpo.batch.sequences_per_update=32"] if variant == "grpo" else []
    found = []
    for shared in (True, False):
        made, family, experience = collect(variant, shared, *one_update)
        (batch,) = experience.batches
        assert (batch["mask"].ndim == 3 and batch["tokens"].ndim == 2) == shared
        found.append((batch["tokens"].size, loss_of(made, family, batch)))
    (shared_slots, one), (separate_slots, other) = found
    assert shared_slots < separate_slots
    assert_same(one, other)


@pytest.mark.slow
def test_updates_of_part_of_a_step_are_the_same_for_the_same_samples(collect):
    """Two updates: what was stored of the step before is looked up sample by sample."""
    made, family, experience = collect("grpo", True)
    _, separate_family, separate = collect("grpo", False)
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), *separate.batches)
    where = np.argsort(rows["row"])
    for batch in experience.batches:
        order = where[batch["row"].reshape(-1)]
        same = {name: array[order] for name, array in rows.items()}
        assert "old_logprobs" in same and len(order) == 16
        assert_same(loss_of(made, family, batch), loss_of(made, separate_family, same))


def test_records_do_not_depend_on_the_layout(collect):
    records = []
    for shared in (True, False):
        made, family, experience = collect("grpo", shared)
        state = made.state.replace(params=moved(made.params))
        for batch in experience.batches:
            family.before_update(state, batch, experience)
        records.append(family.record(1, experience))
    for one, other in zip(*(record["prompts"] for record in records), strict=True):
        for a, b in zip(one["samples"], other["samples"], strict=True):
            assert a["tokens"] == b["tokens"]
            np.testing.assert_allclose(a["ratio"], b["ratio"], atol=1e-5)
            assert np.abs(np.array(a["ratio"]) - 1).max(initial=0) > 1e-3


@pytest.mark.slow
def test_whole_runs_have_the_same_curves(one_device_runs, tiny_config, tmp_path):
    """One update a step, so that both layouts update on the same samples."""
    options = {"max_tokens": 6, "cache_tokens": 6}  # a reward with signal from the start
    words = [
        "--config.seed=1",  # whose first step has groups with a signal
        "--config.grpo.batch.sequences_per_update=32",
        f"--config.scoring.rewards=({{'name': 'length', 'options': {options}}},)",
    ]
    curves = []
    for shared in (True, False):
        word = f"--config.grpo.batch.share_prompts={shared}"
        folder = tmp_path / str(shared)
        loop.run(tiny_config("grpo", *words, word), folder, Console(file=io.StringIO()))
        rows = read_rows(folder / "metrics.jsonl")
        curves.append([row for row in rows if row["kind"] in ("train", "heldout")])
    for one, other in zip(*curves, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            expected = other[name]
            if not isinstance(expected, str):
                expected = pytest.approx(expected, rel=1e-5, abs=1e-5, nan_ok=True)
            assert value == expected, name
    norms = [row["gradient_norm"] for row in curves[0] if row["stage"] == "grpo" and "loss" in row]
    assert len(norms) == 5 and min(norms) > 1e-3
