"""Every preference method through the family's own loss: no split of a batch changes its numbers.

The likelihood is that of a unigram model, a table of one logit a token: it compiles in no time, and
all that the family does to its log-probabilities is what it does to those of a network.
"""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.parts import fields_of
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import put_rows
from rljax.registry import METHODS, resolve_objective
from rljax.training.families.preference import Preference, loss_of
from rljax.training.update.token_statistics import TokenStatistics
from rljax.training.update.train_step import loss_and_gradient

ROWS = [name for name, row in METHODS.items() if row.family == "preference"]
# Of groups of completions and of rated ones a row has room for three; the third is often empty.
SEVERAL = ("mdpo", "mipo", "copg")
VOCABULARY, PAIRS, SLOTS = 7, 16, 5


def unigram(network, params, rows, token_filter, *, top_k=0):
    """Log-probabilities of the last tokens of each row under a table of logits."""
    tokens = rows["tokens"][..., -rows["mask"].shape[-1] :]
    logits = params["logits"] / token_filter.temperature
    logprobs = jax.nn.log_softmax(logits)[tokens]
    zeros = jnp.zeros(tokens.shape)
    return TokenStatistics(logprobs, zeros, zeros.astype(bool))


def family_of(method, micro_batches=1, **fields):
    """The family of a method, without a source, a reference or a model."""
    objective = resolve_objective(method, fields)
    family = object.__new__(Preference)
    family.context = SimpleNamespace(network=SimpleNamespace(config=SimpleNamespace(experts=0)))
    family.stage = SimpleNamespace(
        objective=objective, batch=SimpleNamespace(micro_batches=micro_batches)
    )
    family.likelihood, family.loss = unigram, loss_of(objective)
    return family


@functools.cache
def rows_of(padding=0, method="dpo"):
    """Pairs of 1 to 5 tokens a side with what a reference says; one pair has an empty side.

    Of `SEVERAL` methods a row has three sides, of which a third is empty in half of the rows.
    """
    rng = np.random.default_rng(0)
    sides = 3 if method in SEVERAL else 2
    lengths = rng.integers(1, SLOTS + 1, (PAIRS, sides))
    lengths[::2, 2:] = 0
    lengths[3, 1:] = 0
    tokens = rng.integers(0, VOCABULARY, (PAIRS, sides, SLOTS)).astype(np.int32)
    tokens = np.pad(tokens, ((0, 0), (0, 0), (0, padding)))
    mask = np.arange(SLOTS + padding) < lengths[..., None]
    ref = np.pad(rng.normal(-2, 0.5, (PAIRS, sides, SLOTS)), ((0, 0), (0, 0), (0, padding)))
    present = mask.any(axis=-1)
    usable = present[:, :2].all(axis=-1)
    more = {
        "present": present,
        "chosen_sides": present & (np.arange(sides) == 0),
        "ratings": rng.normal(size=present.shape).astype(np.float32),
    }
    kept = {"copg": ("present", "ratings"), "mdpo": ("present", "chosen_sides")}
    kept["mipo"] = kept["mdpo"]
    return {name: more[name] for name in kept.get(method, ())} | {
        "tokens": tokens,
        "positions": np.zeros_like(tokens),
        "segment_ids": np.ones_like(tokens),
        "mask": mask,
        "ref_logprobs": ref.astype(np.float32),
        "ref_sequence_logprobs": np.where(mask, ref, 0).sum(axis=-1).astype(np.float32),
        "usable": usable,
        "mean_chosen_length": np.full(PAIRS, lengths[usable, 0].mean(), np.float32),
        "weights": (usable / usable.sum()).astype(np.float32),
    }


PARAMS = {"logits": jnp.asarray(np.random.default_rng(1).normal(size=VOCABULARY), jnp.float32)}


def value_and_gradient(method, batch, micro_batches=1, **fields):
    """Loss and gradient of an update, as the train step computes them."""
    family = family_of(method, micro_batches, **fields)

    @jax.jit
    def update(params, batch):
        prepared = family.prepare(params, batch)
        loss, metrics, gradient = loss_and_gradient(family.loss_fn, params, prepared, micro_batches)
        return loss, gradient["logits"], {name: m.mean() for name, m in metrics.items()}

    return jax.device_get(update(PARAMS, batch))


@pytest.fixture(scope="module")
def whole():
    """whole(method): the numbers of the undivided batch on one device."""
    return functools.cache(lambda method: value_and_gradient(method, rows_of(0, method)))


def assert_same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-6)
    size = np.abs(expected[1]).max()
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=2e-6 * size)
    assert found[2].keys() == expected[2].keys()
    for name, value in expected[2].items():
        np.testing.assert_allclose(found[2][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("method", ROWS)
def test_neither_micro_batches_nor_padding_nor_devices_change_a_number(method, whole):
    assert np.isfinite(whole(method)[0]) and np.abs(whole(method)[1]).max() > 0
    rows = rows_of(0, method)
    assert_same(value_and_gradient(method, rows, micro_batches=4), whole(method))
    padded = rows_of(3, method)
    assert_same(value_and_gradient(method, padded), whole(method))
    mesh = make_mesh({"data": 8})
    with jax.set_mesh(mesh):
        found = value_and_gradient(method, put_rows(rows, mesh), micro_batches=2)
    assert_same(found, whole(method))


@pytest.mark.parametrize("method", ROWS)
def test_a_pair_with_an_empty_side_trains_nothing(method, whole):
    """Nor do its numbers reach other pairs: what it holds may be anything."""
    changed = {name: array.copy() for name, array in rows_of(0, method).items()}
    changed["tokens"][3] = (changed["tokens"][3] + 1) % VOCABULARY
    changed["ref_logprobs"][3] -= 50.0
    changed["ref_sequence_logprobs"][3] -= 50.0
    found = value_and_gradient(method, changed)
    assert_same((*found[:2], {}), (*whole(method)[:2], {}))


def test_weights_of_pairs_are_those_of_the_policy_before_the_update(whole):
    """exp(mean of log p - log sum p^2) of both sides, from the table of probabilities itself."""
    family, batch = family_of("wpo"), rows_of()
    prepared = family.prepare(PARAMS, batch)
    p = np.asarray(jax.nn.softmax(PARAMS["logits"]), np.float64)
    tokens = np.log(p[batch["tokens"]]) - np.log((p**2).sum())
    lengths = np.maximum(batch["mask"].sum(axis=-1), 1)
    means = np.where(batch["mask"], tokens, 0).sum(axis=-1) / lengths
    np.testing.assert_allclose(prepared["pair_weights"], np.exp(means.sum(axis=-1)), rtol=1e-5)


def test_sorted_partners_are_found_in_the_whole_batch():
    """AOT's value is that of the sorted samples of all usable pairs."""
    batch = rows_of()
    beta = resolve_objective("aot", {}).values["beta"]
    logprobs = np.asarray(jax.nn.log_softmax(PARAMS["logits"]))[batch["tokens"]]
    sums = np.where(batch["mask"], logprobs, 0).sum(axis=-1)[batch["usable"]]
    ref = batch["ref_sequence_logprobs"][batch["usable"]]
    margins = np.sort(sums[:, 0] - sums[:, 1]) - np.sort(ref[:, 0] - ref[:, 1])
    loss = value_and_gradient("aot", batch, micro_batches=4)[0]
    np.testing.assert_allclose(loss, np.log1p(np.exp(-beta * margins)).mean(), rtol=1e-5)


def test_the_likelihood_of_chosen_sides_is_a_mean_over_tokens_of_the_batch():
    batch = rows_of()
    logprobs = np.asarray(jax.nn.log_softmax(PARAMS["logits"]))[batch["tokens"]][:, 0]
    chosen = batch["mask"][:, 0] & batch["usable"][:, None]
    loss = value_and_gradient("orpo", batch, micro_batches=4, link_weight=1e-9)[0]
    np.testing.assert_allclose(loss, -logprobs[chosen].mean(), rtol=1e-5)


@pytest.mark.slow
def test_every_field_of_a_part_reaches_it():
    """A changed field changes the loss."""
    changed = dict(label_smoothing=0.2, beta=0.7, link_weight=2.0, second_weight=3.0)
    changed |= dict(nll_weight=2.0, tail_weight=0.1, target_margin=0.3, largest_reward=0.01)
    changed |= dict(blend_temperature=0.5, alpha=0.5)
    for method in ROWS:
        before = value_and_gradient(method, rows_of(0, method))[0]
        objective = resolve_objective(method, {})
        names = {name for part in objective.functions.values() for name in fields_of(part)}
        for name in names:
            after = value_and_gradient(method, rows_of(0, method), **{name: changed[name]})[0]
            assert after != before, (method, name)
