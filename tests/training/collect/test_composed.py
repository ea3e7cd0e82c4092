"""Methods that read rewards one by one: constraints, a base answer, several that are weighed."""

import jax
import numpy as np
import pytest

from rljax.models.lora import drop_adapters
from rljax.parallel.rules import put_rows
from rljax.rewards.pool import Scores
from rljax.training.collect.grouped import composed_arrays
from rljax.training.families.policy_gradient import PolicyGradient

ANSWER = "{'name':'exact_match','options':{'tag':'answer'}}"
# What parts the samples of a policy that has learned nothing.
USER = """
def signs(prompt, completion, reference): return len(set(completion)) / 8
def even(prompt, completion, reference): return float(sum(map(ord, completion)) % 2 == 0)
"""


@pytest.fixture
def collected(pieces, tmp_path):
    """collected(method, more keys of the second reward) -> family, experience, batches, state."""
    file = tmp_path / "user_rewards.py"
    file.write_text(USER)

    def run(method, keys, *words, updates=1, adapters=0):
        first, second = (f"{{'name':'{file}:{name}'" for name in ("signs", "even"))
        made = pieces(
            "grpo",
            f"--config.grpo.method={method}",
            *(["--config.grpo.batch.sequences_per_update=None"] if updates == 1 else []),
            f"--config.scoring.rewards=({first}}},{second}{keys}}})",
            *(f"--config.grpo.objective.{word}" for word in words),
            f"--config.model.lora.rank={adapters}",
        )
        # Without the adapters, which are zero first, as a run makes it.
        family = PolicyGradient(made.context, made.stage, drop_adapters(made.params), 0)
        policy = family.policy(made.state, 1)
        experience, _ = family.source.collect(policy, family.source.first_state(), 1)
        state, batches = family.batches(made.state, experience, 1)
        return family, experience, batches, state

    return run


def z_scores(experience, values, epsilon):
    """Of values [N, C] in the group of each prompt."""
    groups = values.reshape(len(experience.records), -1, values.shape[1])
    centred = groups - groups.mean(axis=1, keepdims=True)
    return (centred / (groups.std(axis=1, ddof=1, keepdims=True) + epsilon)).reshape(values.shape)


def test_a_violator_is_pushed_down_and_the_base_is_the_start_s_own_answer(collected):
    family, experience, batches, _ = collected("crpg", ",'constraint':True")
    scores, mask = experience.scores, experience.samples.flat("mask")
    base = experience.arrays["base_scores"].reshape(len(experience.records), -1)
    assert (base == base[:, :1]).all() and len(np.unique(base * 8)) > 1
    even = [sum(map(ord, text)) % 2 == 0 for text in experience.samples.texts]
    assert scores.satisfied.tolist() == even
    assert 0 < scores.satisfied.sum() < len(scores.satisfied)
    rows = batches.detail.rows["advantages"][np.arange(len(mask)), mask.argmax(axis=1)]
    calibrated = 1 / (1 + np.exp(-(scores.total - base.reshape(-1))))
    paid = np.where(scores.satisfied, calibrated, 0.0)  # the policy is the reference: no KL
    np.testing.assert_allclose(rows, paid - paid.mean(), atol=1e-5)
    assert batches.metrics["constraints_satisfied"] == pytest.approx(scores.satisfied.mean())


def test_the_start_of_a_policy_with_adapters_is_sampled_without_them(collected):
    """The same answers as those of a policy whose adapters are all zero."""
    base = {}
    for method, name in (("crpg", "base_scores"), ("remax", "greedy_scores")):
        keys = ",'constraint':True" if method == "crpg" else ""
        _, experience, _, _ = collected(method, keys, adapters=2)
        base[method] = experience.arrays[name]
    assert len(np.unique(base["crpg"])) > 1
    # The score of crpg has no constraint in it; that of remax adds it, 0 or 1.
    assert set(np.unique((base["remax"] - base["crpg"]).round(6))) <= {0.0, 1.0}


def test_another_reference_is_not_the_start(pieces):
    words = [
        "--config.grpo.method=crpg",
        "--config.grpo.batch.sequences_per_update=None",
        f"--config.scoring.rewards=({ANSWER},{{'name':'format','constraint':True}})",
        "--config.grpo.models.reference.start_from=model",
    ]
    with pytest.raises(ValueError, match=r"compares with what the stage's start says.*start_from"):
        pieces("grpo", *words)


def test_the_front_begins_with_the_first_step(collected):
    _, experience, batches, state = collected("rloo_hypervolume", ",'weight':-0.5")
    front, components = np.asarray(state.carried["front"]), experience.scores.components
    np.testing.assert_allclose(front[0], components.mean(axis=0) * [1, -1], atol=1e-6)
    assert np.isnan(front[1:]).all() and float(state.carried["meta_reward"]) == 1.0
    np.testing.assert_allclose(components @ [1, -0.5], experience.scores.total, atol=1e-6)


@pytest.mark.parametrize("moves", ["update", "step"])
def test_multipliers_mix_the_advantages_of_an_update_and_move_with_it(collected, moves):
    """A value and a weight for each reward; both are in the state, and the KL is the first one."""
    words = [
        "thresholds=(0.1,0.9)",
        f"multiplier_step={moves}",
        *("gamma=1.0", "multiplier_rate=0.5"),
    ]
    family, experience, batches, state = collected("mu_ppo", "", *words, updates=2)
    components, rows = experience.scores.components, batches.detail.rows
    first = np.asarray(state.carried["multipliers"])
    assert rows["component_values"].shape == (*rows["mask"].shape, 3)
    whole = np.where(rows["mask"][..., None], components[:, None], 0.0)  # gamma 1: all the way
    reached = whole.sum(axis=(0, 1)) / rows["mask"].sum()
    given = reached if moves == "step" else whole
    np.testing.assert_allclose(
        rows["rewards_to_go"], np.broadcast_to(given, whole.shape), atol=1e-6
    )
    update = jax.jit(family.learner.make_update(None))
    seen = [first]
    for batch in batches.batches:
        state, metrics = update(state, {}, put_rows(batch, family.context.mesh))
        seen.append(np.asarray(state.carried["multipliers"]))
    weights = 1 / (1 + np.exp(-seen[-2]))
    for place in range(2):
        told = metrics[f"reward_weight/{place + 1}"]
        assert float(told.total) == pytest.approx(weights[place], abs=1e-6)
    assert len(batches.batches) == 2
    moved = [not np.array_equal(*pair) for pair in zip(seen, seen[1:], strict=False)]
    assert moved == [moves == "update", True]
    if moves == "step":  # one step of SGD by the mean over all samples of the step
        own = 1 / (1 + np.exp(-first))
        expected = first - 0.5 * own * (1 - own) * (reached - [0.1, 0.9])
        np.testing.assert_allclose(seen[-1], expected, atol=1e-6)


def test_the_meta_reward_multiplies_advantages_that_would_undo_it(collected):
    words = ("meta_applied_to=advantages", "advantage=group_zscore")
    family, experience, _, state = collected("rloo_hypervolume", "", *words)
    found = []
    for meta in (1.0, 0.5):
        carried = state.carried | {"meta_reward": meta * state.carried["meta_reward"]}  # of 1
        _, batches = family.batches(state.replace(carried=carried), experience, 2)
        found.append(batches.detail.rows["advantages"])
    assert np.abs(found[0]).max() > 0.1
    np.testing.assert_allclose(found[1], 0.5 * found[0], atol=1e-6)


@pytest.mark.parametrize("word", ["advantage=group_zscore", "advantage=pass_at_k"])
def test_advantages_that_undo_the_meta_reward_are_refused(pieces, word):
    words = [
        "--config.grpo.method=rloo_hypervolume",
        "--config.grpo.batch.sequences_per_update=None",
        f"--config.scoring.rewards=({ANSWER},{{'name':'format'}})",
        f"--config.grpo.objective.{word}",
    ]
    with pytest.raises(ValueError, match="stays the same when all rewards are multiplied.*'adv"):
        pieces("grpo", *words)


def test_weights_follow_the_gradients_of_each_reward_alone(collected):
    """A gradient for each reward, of z-scores by hand, on the samples and the loss of the step."""
    scale = 2e-5
    words = ("weight_layers=(0,0)", f"weight_scale={scale}")
    family, experience, batches, state = collected("grpo_gradient_weighted", "", *words)
    components, (batch,) = experience.scores.components, batches.batches
    rows = put_rows(batch, family.context.mesh)
    epsilon = family.objective.values["advantage_epsilon"]
    scores = z_scores(experience, components, epsilon)

    @jax.jit
    def slope(advantages):
        whole = rows | {"advantages": advantages.reshape(batch["mask"].shape)}

        def loss(params):
            return family.loss_fn(params, family.prepare(params, whole))[0]

        return jax.tree.leaves(jax.grad(loss)(state.params)["blocks"])

    mask = batches.detail.rows["mask"]
    slopes = [slope(np.where(mask, scores[:, k : k + 1], 0.0).astype(np.float32)) for k in (0, 1)]
    flat = np.stack([np.concatenate([np.ravel(x) for x in one]) for one in slopes])
    influence = flat @ flat.sum(axis=0)
    for place, number in enumerate(influence):
        told = batches.metrics[f"gradient_influence/{place + 1}"]
        assert told == pytest.approx(number, rel=1e-3)
    rate = family.learner.optimizer.schedule(0)
    push = np.exp(rate * (influence - influence.max()) / scale)
    found = np.asarray(state.carried["objective_weights"])
    np.testing.assert_allclose(found, push / push.sum(), rtol=1e-3)
    assert abs(found[0] - 0.5) > 0.01
    # The step itself is learned by the new weights.
    own = z_scores(experience, (components @ found)[:, None], epsilon)
    advantages = batches.detail.rows["advantages"][np.arange(len(mask)), mask.argmax(axis=1)]
    np.testing.assert_allclose(advantages, own.reshape(-1), atol=1e-3)


@pytest.mark.parametrize(
    "word, keys, message",
    [
        (
            "weight_layers=(0,1)",
            "",
            r"weight_layers=\(0, 1\) must be empty or .* the layers 0 to 0",
        ),
        ("weight_layers=(0,0)", ",'weight':0.5", "weight 0.5 of 'even' would never be read"),
        ("group_filter=mixed", "", "group_filter.*reward_shaping='gradient_weighted'"),
    ],
)
def test_what_does_not_go_with_weights_by_gradients(collected, word, keys, message):
    with pytest.raises(ValueError, match=message):
        collected("grpo_gradient_weighted", keys, word)


def test_the_losses_of_the_last_steps_are_in_the_state(collected):
    """A z-score for each reward, all of one weight while losses are missing."""
    words = ("loss_window=1", "largest_reward=2.0")
    family, experience, batches, state = collected("recap", "", *words)
    components = experience.scores.components
    assert experience.scores.applies.all()
    first = np.asarray(state.carried["loss_history"])
    np.testing.assert_allclose(first[:, 1], 2 - components.mean(axis=0), atol=1e-6)
    assert np.isnan(first[:, 0]).all()
    plain = batches.detail.rows["advantages"]
    earlier = state.carried["loss_history"].at[:, 1].set(9.0)
    made = state.replace(carried=state.carried | {"loss_history": earlier})
    state, batches = family.batches(made, experience, 2)
    second = np.asarray(state.carried["loss_history"])
    np.testing.assert_allclose(second, np.stack([np.full(2, 9.0), first[:, 1]], 1), atol=1e-6)
    ratio = (9 + 0.01) / (first[:, 1] + 0.01)
    spread = np.abs(9 - first[:, 1]) / (9 + first[:, 1] + 0.02)
    weight = np.exp((ratio + spread) / 5)
    weight *= 2 / weight.sum()
    shares = z_scores(experience, components, 1e-6)
    mask = batches.detail.rows["mask"]
    found = batches.detail.rows["advantages"][np.arange(len(mask)), mask.argmax(axis=1)]
    np.testing.assert_allclose(found, shares @ weight, atol=1e-3)
    before = plain[np.arange(len(mask)), mask.argmax(axis=1)]
    np.testing.assert_allclose(before, shares.sum(axis=1), atol=1e-3)


def test_arrays_are_those_that_are_read():
    yes = np.ones(2, bool)
    parts = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    scores = Scores(parts.sum(1), {}, yes, yes, ~yes, ~yes, None, components=parts)
    found = composed_arrays(scores, (1.0, 0.5), {"satisfied", "components", "mask"})
    assert set(found) == {"satisfied", "components"} and found["satisfied"].all()
    weights = composed_arrays(scores, (1.0, 0.5), {"component_weights"})["component_weights"]
    assert weights.dtype == np.float32 and weights.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    "method, rewards, message",
    [
        ("crpg", f"({ANSWER},)", "rewards what satisfies constraints, and there is none"),
        ("grpo_components", f"({ANSWER},)", "weighs several rewards, and there is one"),
        (
            "grpo",
            f"({ANSWER},{{'name':'format','constraint':True}})",
            r"'format' is a constraint, which no stage reads.*rewards\[format\].constraint",
        ),
    ],
)
def test_rewards_that_do_not_go_with_the_method(pieces, method, rewards, message):
    words = [
        f"--config.grpo.method={method}",
        "--config.grpo.batch.sequences_per_update=None",
        f"--config.scoring.rewards={rewards}",
    ]
    with pytest.raises(ValueError, match=message):
        pieces("grpo", *words)


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "holds each reward at a threshold, and there is none"),
        (["thresholds=(0.1,0.2,0.3)"], "must hold 2 numbers, .* trained on: exact_match, format"),
        (["thresholds=(0.1,)"], r"thresholds=\(0.1,\) must hold 2 numbers"),
        (["thresholds=(0.1,'a')"], r"thresholds\[1\] must be float, got 'a'"),
        (["thresholds=(0.1,0.2)", "kl_weight=0.0"], "kl_weight=0 leaves .* first component"),
        (["thresholds=(0.1,0.2)", "value_target=none"], "does not go with value_target='none'"),
        (["value_target=lambda_returns", "thresholds=(0.1,0.2)"], "teaches a critic, and neither"),
        (["thresholds=(0.1,0.2)", "advantage_sign=negative"], "advantage_sign='negative' is never"),
    ],
)
def test_thresholds_that_do_not_go_with_the_rewards(pieces, words, message):
    overrides = [f"--config.grpo.objective.{word}" for word in words]
    rewards = f"--config.scoring.rewards=({ANSWER},{{'name':'format'}})"
    with pytest.raises(ValueError, match=message):
        pieces("grpo", "--config.grpo.method=mu_ppo", rewards, *overrides)
