"""One step of critic-free policy gradients, piece by piece."""

import re

import jax
import numpy as np
import pytest

from rljax.objectives.temperatures import by_entropy
from rljax.parallel.rules import put_rows
from rljax.sampling.request import StopReason
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.update.rows import per_sample
from tests.training.steps import take_step


def perturbed(params, scale=0.02):
    """The parameters of a policy that has moved on."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    moved = [x + scale * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def loss_of(made, family, batch, params=None):
    """Loss and metrics of an update's batch as one part."""
    params = made.params if params is None else params

    def whole(params, batch):
        return family.loss_fn(params, family.prepare(params, batch))

    return jax.jit(whole)(params, put_rows(batch, made.context.mesh))


def mean(pair) -> float:
    return float(pair.total / pair.count)


@pytest.fixture
def step(pieces):
    """step(variant, *overrides, reference=...) -> made pieces, family, state after, experience."""

    def run(variant, *overrides, reference=None, number=1):
        made = pieces(variant, *overrides)
        if reference == "perturbed":
            reference = perturbed(made.params)
        elif reference == "start":
            reference = made.params
        family = PolicyGradient(made.context, made.stage, reference, 0)
        state, experience = take_step(family, made.state, number)
        return made, family, state, experience

    return run


def test_the_first_update_is_on_policy(step):
    """The ratio is 1, the sampler's log-probabilities are the trainer's, the KL is 0."""
    made, family, _, experience = step("grpo", reference="start")
    assert len(experience.batches) == 2
    for batch in experience.batches:
        loss, metrics = loss_of(made, family, batch)
        assert mean(metrics["ratio_mean"]) == pytest.approx(1.0, abs=1e-6)
        assert mean(metrics["sampler_trainer_gap"]) < 1e-5
        assert abs(mean(metrics["kl_to_start"])) < 1e-7
        gap = np.abs(batch["old_logprobs"] - batch["behavior_logprobs"])[batch["mask"]]
        assert gap.max() < 1e-5
        assert np.isfinite(loss)


WHAT_IS_DRAWN = {
    "bias": ["sampling.logit_bias=((49,1.5),(50,-1.0))", "sampling.forbidden_tokens=(51,)"],
    "entropy": ["sampling.entropy_theta=0.5", "sampling.top_k=20"],
    "stop string": [f"sampling.stop_strings={(*'abcdefghijklmnopqrstuvwxyz', '+2')}"],
}


@pytest.mark.parametrize("words", WHAT_IS_DRAWN.values(), ids=WHAT_IS_DRAWN)
def test_the_trainer_follows_what_the_stage_draws_from(step, words):
    words = [f"--config.grpo.{word}" for word in words]
    made, family, _, experience = step("grpo", *words, reference="start")
    for batch in experience.batches:
        gap = np.abs(batch["old_logprobs"] - batch["behavior_logprobs"])[batch["mask"]]
        assert gap.max() < 1e-5
        _, metrics = loss_of(made, family, batch)
        assert mean(metrics["ratio_mean"]) == pytest.approx(1.0, abs=1e-5)
    samples = experience.detail.samples
    tokens, kept = samples.flat("tokens"), samples.flat("mask")
    if "forbidden" in words[-1]:
        assert not (tokens[kept] == 51).any() and (tokens[kept] == 49).any()
    if "entropy_theta" in words[0]:
        used = samples.flat("temperature")[kept]
        assert used.min() >= 0.1 and used.max() < 1.0 and used.std() > 0
    if "stop_strings" in words[0]:
        ended = samples.flat("stop_reason") == StopReason.STOP_STRING
        found = [bool(re.search(r"[a-z]|\+2", text)) for text in samples.texts]
        assert ended.tolist() == found and any(found)


def test_the_sampler_may_have_slots_a_mesh_and_a_precision_of_its_own(step):
    """Slots do not change samples; int8 weights and cache move log-probabilities a little."""
    _, _, _, base = step("grpo", reference="start")
    words = ["slots=8", "refill_every=2", "prefill_tokens=32", "mesh.tensor=1"]
    _, _, _, queued = step(
        "grpo", *(f"--config.sampler.{word}" for word in words), reference="start"
    )
    one, other = base.detail.samples.rollouts, queued.detail.samples.rollouts
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=0, atol=1e-5)
    words = ["--config.sampler.weights=int8", "--config.sampler.cache=int8"]
    _, _, _, rough = step("grpo", *words, reference="start")
    for batch in rough.batches:
        gap = np.abs(batch["old_logprobs"] - batch["behavior_logprobs"])[batch["mask"]]
        assert 1e-5 < gap.max() < 0.2


def test_old_logprobs_are_stored_where_the_policy_moves_within_a_step(step):
    """After an update the ratio is that to the policy which the step started from."""
    made, family, _, experience = step("grpo", reference="start")
    moved = perturbed(made.params)
    batch = experience.batches[1]
    _, metrics = loss_of(made, family, batch, moved)
    score = family.learner.logprobs
    whole = put_rows(experience.detail.inputs, made.context.mesh)
    order = batch["row"].reshape(-1)
    new, old = (
        per_sample(np.asarray(score(params, whole)))[order].reshape(batch["mask"].shape)
        for params in (moved, made.params)
    )
    expected = np.exp(new - old)[batch["mask"]].mean()
    assert abs(expected - 1) > 1e-4
    assert mean(metrics["ratio_mean"]) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(batch["old_logprobs"][batch["mask"]], old[batch["mask"]], atol=1e-5)


def test_with_one_update_no_old_logprobs_are_needed(step):
    made, family, _, experience = step(
        "grpo", "--config.grpo.batch.sequences_per_update=32", reference="start"
    )
    (batch,) = experience.batches
    assert "old_logprobs" not in batch
    _, metrics = loss_of(made, family, batch)
    assert mean(metrics["ratio_mean"]) == 1.0
    # Here the gap compares with the log-probabilities of this very forward pass.
    assert mean(metrics["sampler_trainer_gap"]) < 1e-5


@pytest.mark.parametrize("shared", [True, False])
def test_the_updates_of_a_step_share_out_its_rows(step, shared):
    words = ["epochs_per_step=2", f"share_prompts={shared}"]
    overrides = [f"--config.grpo.batch.{word}" for word in words]
    _, _, _, experience = step("grpo", *overrides, reference="start")
    inputs, rows = experience.detail.inputs, experience.detail.rows
    assert len(experience.batches) == 4
    for epoch in (experience.batches[:2], experience.batches[2:]):
        order = np.concatenate([batch["row"].reshape(-1) for batch in epoch])
        assert sorted(order) == list(range(32))
        for name in ("mask", "advantages", "behavior_logprobs", "old_logprobs"):
            found = np.concatenate([per_sample(batch[name]) for batch in epoch])
            np.testing.assert_array_equal(found, rows[name][order], err_msg=name)
        tokens = np.concatenate([batch["tokens"] for batch in epoch])
        leading = order[::4] // 4 if shared else order
        np.testing.assert_array_equal(tokens, inputs["tokens"][leading])
        if shared:  # groups stay whole
            np.testing.assert_array_equal(order.reshape(8, 4), 4 * leading[:, None] + np.arange(4))
    assert experience.tokens == 2 * rows["mask"].sum()


@pytest.mark.parametrize(
    "aggregation", ["token_mean", "sequence_mean_token_mean", "sequence_mean_token_sum"]
)
def test_weights_belong_to_the_whole_update(step, aggregation):
    word = f"--config.grpo.objective.aggregation={aggregation}"
    made, family, _, experience = step("grpo", word, reference="start")
    for batch in experience.batches:
        prepared = jax.device_get(jax.jit(family.prepare)(made.params, batch))
        weights, mask = per_sample(prepared["weights"]), per_sample(batch["mask"])
        assert (weights[~mask] == 0).all() and (weights[mask] > 0).all()
        lengths = mask.sum(axis=1)
        total = lengths.mean() if aggregation == "sequence_mean_token_sum" else 1.0
        assert weights.sum() == pytest.approx(total, rel=1e-5)
        if aggregation == "token_mean":
            assert len(np.unique(weights[mask])) == 1


def test_advantages_are_z_scores_within_a_prompt(step):
    options = {"max_tokens": 6, "cache_tokens": 6}
    reward = f"--config.scoring.rewards=({{'name': 'length', 'options': {options}}},)"
    _, _, _, experience = step("grpo", reward, reference="start")
    detail = experience.detail
    lengths = detail.rows["mask"].sum(axis=1)
    rewards = -lengths.reshape(8, 4) / 6
    np.testing.assert_allclose(detail.scores.total.reshape(8, 4), rewards, rtol=1e-6)
    deviation = rewards.std(axis=1, ddof=1, keepdims=True)
    expected = (rewards - rewards.mean(axis=1, keepdims=True)) / (deviation + 1e-6)
    expected = np.where(deviation > 0, expected, 0.0).reshape(-1, 1) * detail.rows["mask"]
    np.testing.assert_allclose(detail.rows["advantages"], expected, atol=1e-4)
    assert experience.metrics["groups_without_signal"] == np.mean(deviation == 0)
    assert experience.metrics["reward"] == pytest.approx(rewards.mean(), rel=1e-5)


def test_kl_in_the_reward_is_taken_off_token_by_token(step):
    """k1 against a reference that is not the policy; the outcome is at the last token."""
    words = ["kl_placement=reward", "kl_estimator=k1", "kl_weight=0.5", "advantage=group_mean"]
    overrides = [f"--config.grpo.objective.{word}" for word in words]
    _, family, _, experience = step("grpo", *overrides, reference="perturbed")
    rows = experience.detail.rows
    kl = np.where(rows["mask"], rows["old_logprobs"] - rows["ref_logprobs"], 0.0)
    assert np.abs(kl).max() > 1e-3
    scores = (experience.detail.scores.total - 0.5 * kl.sum(axis=1)).reshape(8, 4)
    expected = (scores - scores.mean(axis=1, keepdims=True)).reshape(-1, 1) * rows["mask"]
    np.testing.assert_allclose(rows["advantages"], expected, atol=1e-5)
    assert family.learner.loss.kl is None  # once is enough


def test_the_moving_baseline_is_used_first_and_moved_then(step):
    _, family, state, experience = step("reinforce")
    rewards = experience.detail.scores.total
    assert 0 < rewards.mean() < 1
    mask = experience.detail.rows["mask"]
    np.testing.assert_allclose(experience.detail.rows["advantages"], rewards[:, None] * mask)
    assert float(state.carried["baseline"]) == pytest.approx(0.1 * rewards.mean(), rel=1e-5)
    after, second = take_step(family, state, 2)
    mask, rewards = second.detail.rows["mask"], second.detail.scores.total
    expected = (rewards - float(state.carried["baseline"]))[:, None] * mask
    np.testing.assert_allclose(second.detail.rows["advantages"], expected, atol=1e-6)
    moved = 0.9 * float(state.carried["baseline"]) + 0.1 * rewards.mean()
    assert float(after.carried["baseline"]) == pytest.approx(moved, rel=1e-5)


def test_the_temperature_of_a_step_follows_the_entropies_of_the_one_before(step):
    words = ["sampling_temperature=by_entropy", "temperature_slope=0.3"]
    overrides = [f"--config.grpo.objective.{word}" for word in words]
    _, family, state, first = step("grpo", *overrides)

    def used(experience):
        return experience.detail.samples.flat("temperature")

    rows = first.detail.rows
    np.testing.assert_allclose(used(first)[rows["mask"]], 1.0, rtol=1e-6)
    expected = by_entropy(rows["old_entropy"], rows["mask"], temperature_slope=0.3)
    np.testing.assert_allclose(state.carried["temperature_slopes"], expected, rtol=1e-5)
    _, second = take_step(family, state, 2)
    rows = second.detail.rows
    pivot, rise, fall, limit = (float(x) for x in expected)
    distance = np.log(np.maximum(rows["old_entropy"], 1e-6)) - pivot
    change = np.clip(np.where(distance > 0, rise, fall) * distance, -limit, limit)
    wanted = (1 + change)[rows["mask"]]
    assert np.ptp(wanted) > 0.2
    np.testing.assert_allclose(used(second)[rows["mask"]], wanted, atol=1e-4)
    # The trainer's log-probabilities are those at T0, the sampler's those that were drawn from.
    tempered = second.detail.samples.flat("model_logprobs")
    np.testing.assert_allclose(
        rows["old_logprobs"][rows["mask"]], tempered[rows["mask"]], atol=1e-4
    )
    gap = np.abs(rows["behavior_logprobs"] - rows["old_logprobs"])[rows["mask"]]
    assert gap.max() > 1e-2


def test_a_step_is_a_function_of_its_number(step):
    _, family, state, first = step("reinforce")
    again = take_step(family, state, 1)[1]
    other = take_step(family, state, 2)[1]
    np.testing.assert_array_equal(first.batches[0]["tokens"], again.batches[0]["tokens"])
    assert (first.batches[0]["tokens"] != other.batches[0]["tokens"]).any()


def test_the_record_shows_what_the_updates_did(step):
    """The second update of the step starts from moved parameters: its ratios are not 1."""
    made, family, state, experience = step("grpo", reference="start")
    first, second = experience.batches
    moved = state.replace(params=perturbed(made.params, 0.2))
    family.before_update(state, first, experience)
    family.before_update(moved, second, experience)
    record = family.record(1, experience)
    samples = [sample for prompt in record["prompts"] for sample in prompt["samples"]]
    at_start = [samples[row]["ratio"] for row in first["row"].reshape(-1)]
    np.testing.assert_allclose(np.concatenate(at_start), 1.0, atol=1e-5)
    updated = [samples[row] for row in second["row"].reshape(-1)]
    ratios, advantages, clipped = (
        np.concatenate([sample[name] for sample in updated])
        for name in ("ratio", "advantage", "clipped")
    )
    expected = (advantages > 0) & (ratios > 1.2) | (advantages < 0) & (ratios < 0.8)
    np.testing.assert_array_equal(clipped, expected)
    assert np.abs(ratios - 1).max() > 0.2
    # The update itself says the same.
    metrics = loss_of(made, family, second, moved.params)[1]
    shares = [metrics["clip_share_low"], metrics["clip_share_high"]]
    assert sum(float(share.total) for share in shares) == clipped.sum()


def test_corrections_reach_the_loss(step):
    """Weights of sampler against trainer are in the batch, and scale the surrogate."""
    words = ["correction=truncated", "correction_cap=0.5", "kl_placement=none"]
    overrides = [f"--config.grpo.objective.{word}" for word in words]
    made, family, _, experience = step("grpo", *overrides)
    rng = np.random.default_rng(0)
    for batch in experience.batches:
        # The sampler is the trainer: ratios of 1, cut at the cap.
        np.testing.assert_allclose(batch["correction"][batch["mask"]], 0.5, atol=1e-4)
        noise = rng.normal(size=batch["advantages"].shape).astype(np.float32)
        batch["advantages"] = np.where(batch["mask"], noise, 0.0).astype(np.float32)
        whole = batch | {"correction": np.ones_like(batch["correction"])}
        corrected, plain = (float(loss_of(made, family, rows)[0]) for rows in (batch, whole))
        assert abs(plain) > 1e-4 and corrected == pytest.approx(0.5 * plain, rel=1e-3)
