"""Samples of a policy and its guide (RLGF): whose tokens they are, and what is learned of them."""

import dataclasses

import numpy as np
import pytest

from rljax.config.guide import guide_plan
from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.training.collect import guide_rollouts
from rljax.training.collect.guide_rollouts import prefix_lengths
from rljax.training.collect.rollouts import NO_VERSION
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.learner.compare import compare_samples
from rljax.training.learner.critics import GUIDE_VALUES, UpdateOfCritics, marked, with_critic
from rljax.training.run.models import Model
from rljax.training.update.state import TrainState
from tests.training.steps import source_state, take_step

PPO = ("--config.grpo.method=ppo", "--config.grpo.batch.sequences_per_update=32")
GUIDE = ("--config.grpo.models.guide.start_from=model",)


def stage_of(method="ppo_plus_plus", **objective):
    rl = {
        "method": method,
        "steps": 4,
        "batch": {"prompts_per_step": 2, "samples_per_prompt": 1},
        "models": {"guide": {"start_from": "model"}},
        "objective": objective,
    }
    return validate(complete({"stages": ("rl",), "rl": rl}))[0]


@pytest.mark.contract
def test_prefixes_are_uniform_and_leave_the_last_token():
    drawn = np.random.default_rng(0).random((30_000, 2))
    lengths = prefix_lengths(drawn, np.full(30_000, 4), 0.6)
    counts = np.bincount(lengths, minlength=5)
    # A fraction 0.4 without a prefix, and a third each of lengths 1, 2, 3 of the others.
    np.testing.assert_allclose(counts / 30_000, [0.4, 0.2, 0.2, 0.2, 0.0], atol=0.01)
    edge = np.array([[0.0, np.nextafter(1.0, 0.0)], [0.0, 0.0], [0.59, 0.5], [0.6, 0.5]])
    assert prefix_lengths(edge, np.array([7, 7, 2, 2]), 0.6).tolist() == [6, 1, 1, 0]
    assert prefix_lengths(edge, np.array([1, 0, 1, 1]), 1.0).tolist() == [0] * 4
    assert not prefix_lengths(drawn, np.full(30_000, 4), 0.0).any()


def test_which_steps_the_guide_begins():
    switching = guide_plan(stage_of("d2lols", roll_out_steps=2))
    assert [switching.rolls_in(step, 0.0) for step in (1, 2, 3)] == [False, False, True]
    alternating = guide_plan(stage_of("lols"))
    assert alternating.rolls_in(1, 0.79) and not alternating.rolls_in(1, 0.8)
    assert guide_plan(stage_of("ppo_plus_plus")).rolls_in(1, 0.99)
    assert not guide_plan(stage_of("aggrevated")).rolls_in(9, 0.0)


def step_of(guide, values_of_guide):
    """Two samples of three and two tokens; True: the guide wrote it. Score 1 and 0."""
    mask = np.array([[1, 1, 1], [1, 1, 0]], bool)
    return {
        "tokens": np.ones((2, 3), np.int32),
        "mask": mask,
        "behavior_logprobs": np.zeros((2, 3), np.float32),
        "finished": np.ones(2, bool),
        "scores": np.array([1, 0], np.float32),
        "correct": np.array([1, 0], bool),
        "group_ids": np.arange(2, dtype=np.int32),
        "old_logprobs": np.full((2, 3), -1.0, np.float32),
        "ref_logprobs": np.full((2, 3), -3.0, np.float32),
        "values": np.array([[0.5, 0.25, 0.75], [0.5, 0.5, 9.0]], np.float32),
        "guide_tokens": np.array(guide, bool) & mask,
        "guide_values": np.full(2, values_of_guide),
    }


@pytest.mark.contract
def test_behind_a_prefix_of_the_guide_the_policy_and_its_critic_learn():
    """The KL to the reference, 2 nats a token, costs where the policy wrote."""
    objective = stage_of(kl_weight=0.1, gamma=1.0, gae_lambda=1.0, value_lambda=1.0).objective
    found = compare_samples(objective, step_of([[1, 1, 0], [0, 0, 0]], False)).trained
    assert np.asarray(found["mask"]).tolist() == [[False, False, True], [True, True, False]]
    # Sample 0: 1 - 0.2 - 0.75 on its last token. Sample 1: -0.2 for each token to come, less 0.5.
    expected = [[0, 0, 0.05], [-0.9, -0.7, 0]]
    np.testing.assert_allclose(found["advantages"], expected, atol=1e-6)
    assert (np.asarray(found["value_mask"]) == np.asarray(found["mask"])).all()
    np.testing.assert_allclose(np.asarray(found["returns"])[0, 2], 0.8, atol=1e-6)


@pytest.mark.contract
def test_behind_a_prefix_of_the_policy_its_tokens_have_what_the_guide_made_of_them():
    """The second sample has no prefix: the guide wrote all of it, and the policy learns nothing."""
    objective = stage_of(
        "aggrevated", kl_weight=0.1, gamma=1.0, gae_lambda=1.0, value_lambda=1.0
    ).objective
    found = compare_samples(objective, step_of([[0, 1, 1], [1, 1, 1]], True)).trained
    assert np.asarray(found["mask"]).tolist() == [[True, False, False], [False] * 3]
    # The first token costs 0.2 of KL; the guide's tokens cost none.
    np.testing.assert_allclose(found["advantages"], [[0.3, 0, 0], [0] * 3], atol=1e-6)
    learnt = [[False, True, True], [True, True, False]]
    assert np.asarray(found["value_mask"]).tolist() == learnt
    np.testing.assert_allclose(np.asarray(found["returns"])[0, 1:], [1, 1], atol=1e-6)
    np.testing.assert_allclose(np.asarray(found["returns"])[1], 0, atol=1e-6)


def with_guide(made, params):
    guide = Model("guide", made.context.network, "model", False, params)
    context = dataclasses.replace(made.context, models={"guide": guide})
    return PolicyGradient(context, made.stage, None, 0)


def sampled(family, state, step=1):
    experience, _ = family.source.collect(
        family.policy(state, step), source_state(family, step), step
    )
    return experience


def test_without_prefixes_it_is_ppo_bit_for_bit(pieces):
    # A KL needs a reference that only a whole run reads.
    ppo = (*PPO, "--config.grpo.objective.kl_weight=0")
    plain = pieces("grpo", *ppo)
    expected = take_step(PolicyGradient(plain.context, plain.stage, None, 0), plain.state, 1)[1]
    rolled = ("--config.grpo.objective.rollouts=guide_roll_in",)
    made = pieces("grpo", *ppo, *GUIDE, *rolled, "--config.grpo.objective.guide_share=0")
    batches = take_step(with_guide(made, made.params), made.state, 1)[1]
    assert batches.metrics["guide_token_share"] == 0
    (found,), (batch,) = batches.batches, expected.batches
    assert found.keys() == batch.keys()
    for name, array in batch.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("scheme", ["guide_roll_in", "guide_roll_out"])
def test_a_guide_that_is_the_policy_writes_what_the_policy_had_written(pieces, monkeypatch, scheme):
    """With the policy's noise too, whoever begins and wherever the other goes on."""
    monkeypatch.setattr(guide_rollouts, "OF_GUIDE", guide_rollouts.OF_POLICY)
    ppo = (*PPO, "--config.grpo.objective.kl_weight=0")
    plain = pieces("grpo", *ppo)
    alone = sampled(PolicyGradient(plain.context, plain.stage, None, 0), plain.state)
    words = (
        f"--config.grpo.objective.rollouts={scheme}",
        "--config.grpo.objective.guide_share=0.7",
    )
    made = pieces("grpo", *ppo, *GUIDE, *words)
    experience = sampled(with_guide(made, made.params), made.state)
    found, expected = experience.samples, alone.samples
    for name in ("tokens", "mask", "stop_reason"):
        np.testing.assert_array_equal(
            getattr(found.rollouts, name), getattr(expected.rollouts, name), err_msg=name
        )
    np.testing.assert_allclose(found.rollouts.logprobs, expected.rollouts.logprobs, atol=1e-5)
    assert found.texts == expected.texts
    guide, mask = experience.arrays["guide_tokens"], found.flat("mask")
    whose = guide if scheme == "guide_roll_in" else ~guide & mask
    own = whose.sum(axis=1)
    lengths = mask.sum(axis=1)
    # Prefixes are at the beginning, and no sample has one that is whole.
    assert (whose == (np.arange(mask.shape[1]) < own[:, None])).all()
    assert (own < lengths).all() and 0.4 < (own[lengths > 1] > 0).mean() < 0.95
    assert (found.versions.reshape(guide.shape)[guide] == NO_VERSION).all()
    assert (experience.arrays[GUIDE_VALUES] == (scheme == "guide_roll_out")).all()
    share = (guide & mask).sum() / mask.sum()
    assert experience.metrics["guide_token_share"] == pytest.approx(share)
    # What was thrown away behind the prefixes was sampled, too.
    assert experience.metrics["sampled_tokens"] > mask.sum()


def state_with(critic, guide):
    return TrainState({}, (), 0, 0, 0, {"critic": critic, "guide_critic": guide})


def test_each_critic_learns_in_its_own_steps():
    def program(state, frozen, batch):
        assert GUIDE_VALUES not in batch
        changed = {**state.carried, "critic": state.carried["critic"] + "+"}
        return state.replace(carried=changed), {}

    update, batch = UpdateOfCritics(program), {"mask": np.ones((2, 3), bool)}
    guide = {GUIDE_VALUES: np.ones(2, bool)}
    state = state_with("p", "g")
    assert with_critic(state, guide).carried["critic"] == "g"
    assert with_critic(state, {GUIDE_VALUES: np.zeros(2, bool)}) is state
    (of_guide,) = marked([batch], state, guide)
    (of_policy,) = marked([batch], state, {GUIDE_VALUES: np.zeros(2, bool)})
    for each in (of_guide, of_policy, of_guide):
        state, _ = update(state, {}, each)
    assert state.carried == {"critic": "p+", "guide_critic": "g++"}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"models": {}}, "names none.*models.guide.start_from"),
        ({"method": "ppo", "objective": {}}, "never read by method 'ppo'.*alone"),
        ({"objective": {"guide_share": 1.5}}, r"guide_share.*in \[0, 1\]"),
        ({"objective": {"advantage": "group_zscore"}}, "group_zscore"),
        ({"objective": {"curriculum": "vade"}}, "counts right samples.*a guide's"),
        ({"objective": {"truncation": "drop"}}, "'terminal' or 'hold'"),
        (
            {"objective": {"group_filter": "mixed"}},
            "group_filter='mixed' does not go with rollouts",
        ),
    ],
)
def test_what_does_not_go_with_a_guide_is_refused(changes, message):
    rl = {
        "method": "ppo_plus_plus",
        "models": {"guide": {"start_from": "model"}},
        "batch": {"prompts_per_step": 2, "samples_per_prompt": 2},
    }
    with pytest.raises(ValueError, match=message):
        validate(complete({"stages": ("rl",), "rl": rl | changes}))
