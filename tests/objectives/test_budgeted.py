import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.advantages.budgeted import budgeted_choice
from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.ratios import RATIOS
from rljax.objectives.surrogates import SURROGATES

PROMPTS, LONG = 8, 3
# Two short and two long samples of each of eight prompts, in mixed order.
ORDER = np.random.default_rng(0).permutation(4 * PROMPTS)
GROUPS = np.repeat(np.arange(PROMPTS), 4)[ORDER] * 5 - 3
LENGTHS = np.tile([1, 2, 3, 4], PROMPTS)[ORDER]
MASK = np.arange(4) < LENGTHS[:, None]


# Fields that are numbers may be traced.
BUDGETED = jax.jit(ADVANTAGES["budgeted"], static_argnames="long_gain")
CHOICE = jax.jit(budgeted_choice, static_argnames="gain")


def weights(scores, correct, budget, gain="best"):
    rewards = np.where(np.arange(4) == 0, scores[:, None], np.float32(0))
    fields = dict(long_from=LONG, long_budget=budget, long_gain=gain)
    return np.asarray(BUDGETED(rewards, MASK, GROUPS, correct, **fields))[:, 0]


def draw(seed, graded=True):
    rng = np.random.default_rng(seed)
    correct = rng.uniform(size=len(GROUPS)) < 0.5
    scores = np.where(correct, rng.integers(1, 5, len(GROUPS)) / 4 if graded else 1.0, 0.0)
    return scores.astype(np.float32), correct


def mode_values(scores, gain):
    """[prompt, mode] best or mean reward."""
    reduce = {"best": np.max, "mean": np.mean}[gain]
    is_long = LENGTHS >= LONG
    return np.array(
        [
            [reduce(scores[(GROUPS == g) & (is_long == mode)]) for mode in (False, True)]
            for g in np.unique(GROUPS)
        ]
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gain", ["best", "mean"])
def test_the_choice_is_the_optimum_of_all_choices(seed, gain):
    scores, correct = draw(seed)
    values = mode_values(scores, gain)
    present = np.ones(len(GROUPS), bool)
    for budget in (0.25, 0.5, 0.8):
        choice = CHOICE(
            scores, present, GROUPS, LENGTHS, correct, long_from=LONG, budget=budget, gain=gain
        )
        extended = np.array(
            [np.asarray(choice.extended)[GROUPS == g][0] for g in np.unique(GROUPS)]
        )
        assert extended.sum() <= budget * PROMPTS
        rows = np.arange(PROMPTS)
        allowed = [
            c for c in itertools.product((0, 1), repeat=PROMPTS) if sum(c) <= budget * PROMPTS
        ]
        best = values[rows, np.array(allowed)].sum(axis=1).max()
        np.testing.assert_allclose(values[rows, extended.astype(int)].sum(), best)
        # Kept: right samples of the chosen mode. A gain of nothing is not worth the budget.
        chosen = extended[np.searchsorted(np.unique(GROUPS), GROUPS)]
        np.testing.assert_array_equal(choice.kept, correct & ((LENGTHS >= LONG) == chosen))
        assert (values[extended, 1] > values[extended, 0]).all()


def test_without_a_budget_short_samples_only_and_with_all_of_it_each_prompts_better_mode():
    scores, correct = draw(5, graded=False)
    is_long = LENGTHS >= LONG
    np.testing.assert_array_equal(weights(scores, correct, 0.0) > 0, correct & ~is_long)
    values = mode_values(scores, "best")[np.searchsorted(np.unique(GROUPS), GROUPS)]
    better = is_long == (values[:, 1] > values[:, 0])
    kept = weights(scores, correct, 1.0) > 0
    np.testing.assert_array_equal(kept, correct & better)
    # Plain rejection fine-tuning: every prompt with a right sample is trained on.
    assert set(GROUPS[kept]) == set(GROUPS[correct])


def test_nothing_right_is_nothing_learnt():
    nothing = np.zeros(len(GROUPS))
    got = weights(nothing.astype(np.float32), nothing > 0, 0.5)
    np.testing.assert_array_equal(got, 0.0)


def test_a_budget_that_rounds_down_in_floating_point_is_not_a_prompt_short():
    n = 100
    is_long = np.ones(n, bool)
    choice = budgeted_choice(
        np.ones(n, np.float32), is_long, np.arange(n), np.full(n, 9), is_long,
        long_from=1, budget=0.29, gain="best",
    )  # fmt: skip
    assert int(choice.extended.sum()) == 29


def test_the_loss_is_the_weighted_mean_of_sequence_means():
    scores, correct = draw(2)
    rng = np.random.default_rng(3)
    logprobs = jnp.asarray(-rng.exponential(size=MASK.shape), jnp.float32)
    row = weights(scores, correct, 0.5)
    arrays = {"mask": MASK, "advantages": jnp.where(MASK, row[:, None], 0.0)}
    loss, _ = policy_gradient_loss(
        arrays | {"logprobs": logprobs, "old_logprobs": logprobs},
        ratio=RATIOS["none"],
        surrogate=SURROGATES["policy_gradient"],
    )
    total = (AGGREGATIONS["sequence_mean_token_mean"](MASK) * loss).sum()
    kept = row > 0
    means = np.where(MASK, logprobs, 0.0).sum(axis=1) / LENGTHS
    np.testing.assert_allclose(total, -means[kept].mean(), rtol=1e-5)
