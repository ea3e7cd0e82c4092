"""The likelihood of a stage: one estimator for all of its numbers, and room for others."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.network import Network
from rljax.parallel.rules import put_rows
from rljax.registry import FAMILIES
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.keys import Purpose, purpose_key, row_keys
from rljax.training.families import preference
from rljax.training.families.preference_rows import preference_rows
from rljax.training.families.table import family_class
from rljax.training.learner.scoring import make_scores
from rljax.training.update.likelihood import (
    LIKELIHOODS,
    Likelihood,
    autoregressive,
    check_likelihoods,
    likelihood_of,
)
from rljax.training.update.logprobs import LIKELIHOOD_KEYS, make_score
from rljax.training.update.rows import completion_rows
from rljax.training.update.token_statistics import TokenStatistics, token_arrays
from tests.training.steps import take_step

SCORED = [name for name, family in FAMILIES.items() if "likelihood" in family.choices]


@pytest.mark.parametrize("family", SCORED)
def test_options_of_the_registry_are_those_of_the_table(family):
    assert set(FAMILIES[family].choices["likelihood"]) == set(LIKELIHOODS)
    assert FAMILIES[family].defaults["likelihood"] == "autoregressive"


def test_families_that_score_have_the_choice():
    assert SCORED == [
        "supervised",
        "policy_gradient",
        "preference",
        "unpaired",
        "evidence",
        "posterior",
    ]


@pytest.mark.parametrize("variant", ["grpo", "jepo", "dpo_file"])
def test_every_number_of_a_stage_comes_from_its_estimator(pieces, monkeypatch, variant):
    """With an estimator that says that every token is certain."""

    def certain(*given, key=None, top_k=0):
        found = autoregressive(*given, key=key, top_k=top_k)
        return found._replace(logprobs=jnp.zeros_like(found.logprobs))

    monkeypatch.setitem(LIKELIHOODS, "autoregressive", Likelihood(certain, causal=True))
    made = pieces(variant)
    family = family_class(made.stage)(made.context, made.stage, made.params, 12)
    _, experience = take_step(family, made.state, 1)
    batch = experience.batches[0]
    seen = {name: x for name, x in batch.items() if name.startswith(("ref_", "old_logprobs"))}
    assert seen and not any(np.any(x) for x in seen.values())
    placed = put_rows(batch, made.context.mesh)
    placed = family.prepare(made.params, placed)
    _, metrics = jax.jit(family.loss_fn)(made.params, placed)
    name = {"grpo": "kl", "jepo": "answer_nll", "dpo_file": "logprob_chosen"}[variant]
    assert float(metrics[name].mean()) == 0.0
    if variant == "grpo":
        rows = {name: batch[name] for name in ("tokens", "positions", "segment_ids", "mask")}
        scores = jax.jit(make_scores(made.context.network, made.stage))(made.params, rows)
        assert not scores["old_logprobs"].any() and scores["old_entropy"].any()


def test_demonstrations_are_scored_by_the_estimator(pieces, monkeypatch):
    def certain(*given, key=None, top_k=0):
        found = autoregressive(*given, key=key, top_k=top_k)
        return found._replace(logprobs=jnp.zeros_like(found.logprobs))

    monkeypatch.setitem(LIKELIHOODS, "autoregressive", Likelihood(certain, causal=True))
    made = pieces("dpo_file", "--config.stages=('warmup',)")
    family = family_class(made.stage)(made.context, made.stage, None, 0)
    (batch,) = take_step(family, made.state, 1)[1].batches
    loss, _ = jax.jit(family.loss_fn)(made.params, put_rows(batch, made.context.mesh))
    assert float(loss) == 0.0


# A masked-diffusion estimate as later ones will be: mean-field log-probabilities of completions
# of which each token is masked with probability 1/2, in mean over `masks` draws; and a bound.
MASK_TOKEN = 12


def masked_estimate(
    network, params, rows, token_filter, *, key=None, top_k=0, masks: int = 2
) -> TokenStatistics:
    length = rows["mask"].shape[1]

    def draw(number):
        keys = jax.vmap(lambda each: jax.random.fold_in(each, number))(key)
        hide = jax.vmap(lambda each: jax.random.bernoulli(each, 0.5, (length,)))(keys)
        masked = jnp.where(hide & rows["mask"], MASK_TOKEN, rows["tokens"][:, -length:])
        shown = jnp.asarray(rows["tokens"]).at[:, -length:].set(masked)
        model = network.bind(params)
        encoded = model(shown, rows["positions"], rows["segment_ids"])
        log_p = jax.nn.log_softmax(model.logits(encoded.hidden[:, -length:]))
        taken = rows["tokens"][:, -length:]
        own = jnp.take_along_axis(log_p, taken[..., None], -1)[..., 0]
        entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
        return jnp.where(hide, 2.0 * own, 0.0), entropy, log_p.argmax(-1) == taken

    shares, entropy, greedy = jax.vmap(draw)(jnp.arange(masks))
    mean = shares.mean(axis=0)
    upper = jax.nn.logsumexp(shares, axis=0)
    return TokenStatistics(mean, entropy.mean(axis=0), greedy[0], more={"upper_logprobs": upper})


def stage_of(made, option):
    objective = made.stage.objective
    objective = dataclasses.replace(
        objective,
        choices={**objective.choices, "likelihood": option},
        values={**objective.values, "masks": 3},
    )
    return dataclasses.replace(made.stage, objective=objective)


@pytest.fixture
def masked(monkeypatch):
    """The option "masked" of families that score."""
    entry = Likelihood(masked_estimate, causal=False, draws=True)
    monkeypatch.setitem(LIKELIHOODS, "masked", entry)
    for family in SCORED:
        monkeypatch.setitem(FAMILIES[family].choices["likelihood"], "masked", None)


def rows_with_keys(ids, seed=3, update=1):
    """Completions of a prompt by their number, each with the keys of its address."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 12, (8, 5)), rng.integers(0, 12, (8, 6))
    mask = np.arange(6) < np.arange(1, 9)[:, None] % 6 + 1
    rows = completion_rows(tokens[0][ids], np.ones((len(ids), 5), bool), tokens[1][ids], mask[ids])
    keys = row_keys(purpose_key(seed, Purpose.LIKELIHOOD), update, jnp.array(ids), 1)
    return rows | {LIKELIHOOD_KEYS: np.asarray(jax.random.key_data(keys))}


def test_masks_of_a_completion_depend_on_its_key_alone(pieces, tiny_network, one_device, masked):
    """Neither on its place, nor on other rows, nor on micro-batches."""
    stage = stage_of(pieces("grpo"), "masked")
    network = tiny_network(causal=False)
    params = network.init(jax.random.key(0), one_device)
    estimate = likelihood_of(stage)
    run = jax.jit(lambda rows: estimate(network, params, rows, TokenFilter()))
    whole = run(rows_with_keys(list(range(8))))
    few = run(rows_with_keys([5, 2]))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(few), strict=True):
        np.testing.assert_allclose(a[jnp.array([5, 2])], b, atol=1e-5)
    other = run(rows_with_keys([5, 2], update=2))
    assert (np.asarray(other.logprobs == 0) != np.asarray(few.logprobs == 0)).any()
    for parts in (1, 4):
        score = jax.jit(
            make_score(network, TokenFilter(), micro_batches=parts, likelihood=estimate)
        )
        scored = score(params, rows_with_keys(list(range(8))))
        np.testing.assert_allclose(scored, whole.logprobs, atol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_a_preference_stage_learns_from_an_estimate(pieces, masked, monkeypatch, shared):
    """Keys in its rows are all that a family needs; a reference with equal masks is at log 2."""
    made = pieces("dpo_file", "--config.dpo_file.batch.share_prompts=False")
    network = Network.create(dataclasses.replace(made.context.network.config, causal=False))
    context = dataclasses.replace(made.context, network=network)
    family = family_class(made.stage)(context, stage_of(made, "masked"), made.params, 12)

    def keyed_rows(*given, update=1):
        rows, targets = preference_rows(*given)
        stream = purpose_key(0, Purpose.LIKELIHOOD)
        keys = row_keys(stream, update, jnp.arange(len(rows["mask"]) // 2), 2)
        return rows | {LIKELIHOOD_KEYS: np.asarray(jax.random.key_data(keys))}, targets

    monkeypatch.setattr(preference, "preference_rows", keyed_rows)
    (batch,) = take_step(family, made.state, 1)[1].batches
    if not shared:
        batch[LIKELIHOOD_KEYS] = batch[LIKELIHOOD_KEYS][::-1].copy()
    placed = put_rows(batch, context.mesh)
    (loss, _), gradient = jax.jit(jax.value_and_grad(family.loss_fn, has_aux=True))(
        made.params, placed
    )
    assert (abs(float(loss) - np.log(2)) < 1e-6) == shared
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) > 1e-4


def test_an_estimator_that_draws_needs_keys(pieces, tiny_network, one_device, masked):
    estimate = likelihood_of(stage_of(pieces("grpo"), "masked"))
    rows = rows_with_keys([0])
    del rows[LIKELIHOOD_KEYS]
    with pytest.raises(ValueError, match=r"likelihood='masked' draws .*rows\['likelihood_keys'\]"):
        estimate(tiny_network(causal=False), {}, rows, TokenFilter())


def test_networks_that_an_estimator_cannot_serve_are_refused(pieces, tiny_network, masked):
    made = pieces("grpo")
    plain, other = made.stage, stage_of(made, "masked")
    causal = tiny_network().config
    both = tiny_network(causal=False, mask_token=MASK_TOKEN).config
    check_likelihoods([plain], causal)
    check_likelihoods([other], both)
    message = (
        r"likelihood='autoregressive' serves a causal .*by 'elbo', 'masked' \(config.grpo.objective"
    )
    with pytest.raises(ValueError, match=message):
        check_likelihoods([plain], both)
    with pytest.raises(ValueError, match="likelihood='masked' serves one that sees both ways"):
        check_likelihoods([other], causal)
    with pytest.raises(ValueError, match="Unknown likelihood 'mask'.*Did you mean 'masked'"):
        check_likelihoods([stage_of(made, "mask")], both)


def test_a_run_of_a_bidirectional_network_is_refused(pieces):
    message = r"likelihood='autoregressive' serves .*served by 'elbo' \(config.warmup.objective"
    with pytest.raises(ValueError, match=message):
        pieces("grpo", "--config.model.causal=False")


def test_what_an_estimator_says_besides_is_there_by_name():
    one = jnp.ones((2, 3))
    found = token_arrays(TokenStatistics(one, one, one > 0, more={"upper_logprobs": 2 * one}))
    assert list(found) == ["logprobs", "entropy", "greedy", "upper_logprobs"]
    assert list(token_arrays(TokenStatistics(one, one, one > 0))) == list(found)[:3]
