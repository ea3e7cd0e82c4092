"""Rules of guided decoding: their limits, optima known in closed form, and rows on their own."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.sampling.guide_rules import (
    REMOVAL,
    ClassSums,
    desired_logprobs,
    discriminator_guided,
    fused_logits,
    penalised_repetitions,
    reward_guided,
    shifted_to_peak,
    value_augmented,
)
from rljax.sampling.guides import (
    Combined,
    DiscriminatorGuided,
    LogitFusion,
    RewardGuided,
    ValueAugmented,
)

ROWS, VOCABULARY = 3, 7


def drawn(seed, *shape):
    return jnp.asarray(
        np.random.default_rng(seed).normal(size=shape or (ROWS, VOCABULARY)) * 2, jnp.float32
    )


def log_softmax(logits):
    """In float64, independent of jax."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def table_peek(*tables):
    """Values of model 1, 2, ... looked up in [N, V] tables."""
    return lambda model, candidates: jnp.take_along_axis(tables[model - 1], candidates, axis=-1)


def no_peek(model, candidates):
    raise AssertionError("no value head")


# --- Every guide ---------------------------------------------------------------------------------

GUIDES = {
    "value": ValueAugmented(beta=2.0, top_k=3),
    "two_values": ValueAugmented(beta=(2.0, -0.5), top_k=4),
    "reward": RewardGuided(alphas=(0.7, -0.2), beta=0.5),
    "discriminator": DiscriminatorGuided(strength=3.0, filter_p=0.5, biases=(0.1, -0.3)),
    "penalty": DiscriminatorGuided(repetition_penalty=1.3, vocabulary_size=VOCABULARY),
    "fusion": LogitFusion(experts=2),
    "combined": Combined(lambda logits: 1.5 * logits[0] - 0.5 * logits[1], models=2),
}


@jax.jit
def decode(guide, tables, values):
    """Greedy tokens [steps, N] and guided logits [steps, N, V] of fixed logits and values."""

    def step(state, inputs):
        logits, scores = list(inputs[0]), inputs[1]
        guided = guide.combine(logits, state, table_peek(*scores))
        tokens = jnp.argmax(guided, axis=-1)
        return guide.advance(logits, state, tokens), (tokens, guided)

    return jax.lax.scan(step, guide.start(tables.shape[2]), (tables, values))[1]


def fixed(guide, steps=3):
    """[steps, models, N, V] logits of the language models, and values."""
    language_models = guide.heads.count("language_model")
    shapes = [(steps, models, ROWS, VOCABULARY) for models in (language_models, guide.models)]
    return [np.asarray(drawn(seed, *shape)) for seed, shape in enumerate(shapes)]


@pytest.mark.parametrize("guide", GUIDES.values(), ids=GUIDES)
def test_a_batch_equals_its_rows_alone(guide):
    tables, values = fixed(guide)
    tokens, guided = decode(guide, tables, values)
    for row in range(ROWS):
        alone = slice(row, row + 1)
        one_token, one_guided = decode(guide, tables[:, :, alone], values[:, :, alone])
        np.testing.assert_array_equal(np.asarray(one_token)[:, 0], np.asarray(tokens)[:, row])
        np.testing.assert_allclose(
            np.asarray(one_guided)[:, 0], np.asarray(guided)[:, row], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", ["two_values", "penalty"])
def test_jit_changes_nothing(name):
    guide = GUIDES[name]
    tables, values = fixed(guide)
    tokens, guided = decode(guide, tables, values)
    state = guide.start(ROWS)
    for step in range(len(tables)):
        logits = [jnp.asarray(table) for table in tables[step]]
        eager = guide.combine(logits, state, table_peek(*jnp.asarray(values[step])))
        np.testing.assert_allclose(eager, guided[step], rtol=1e-5, atol=1e-4)
        state = guide.advance(logits, state, tokens[step])


@pytest.mark.parametrize("guide", GUIDES.values(), ids=GUIDES)
def test_a_guide_is_a_static_pytree_whose_heads_count_its_models(guide):
    assert jax.tree.leaves(guide) == [] and jax.tree.map(lambda x: x, guide) == guide
    assert hash(guide) == hash(guide.replace())
    assert len(guide.heads) == guide.models and guide.heads[0] == "language_model"
    assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(guide.start(5)))


def test_heads():
    assert ValueAugmented().heads == ("language_model", "value")
    assert ValueAugmented(beta=(1.0, 2.0)).heads == ("language_model", "value", "value")
    assert RewardGuided(alphas=(1.0, 1.0)).heads == ("language_model",) * 3
    assert DiscriminatorGuided().models == 3 and LogitFusion(experts=2).models == 4


@pytest.mark.parametrize(
    "guide",
    [
        ValueAugmented(beta=0.0, top_k=3),
        RewardGuided(alphas=(0.0, 0.0)),
        LogitFusion(alphas=(0.0,)),
        Combined(lambda logits: logits[0]),
    ],
    ids=lambda guide: type(guide).__name__,
)
def test_strength_zero_gives_the_policy_bit_for_bit(guide):
    logits = [drawn(seed) for seed in range(guide.heads.count("language_model"))]
    guided = guide.combine(logits, guide.start(ROWS), table_peek(drawn(9)))
    np.testing.assert_array_equal(guided, logits[0])


def test_a_discriminator_of_strength_zero_gives_the_policys_log_softmax_bit_for_bit():
    guide = DiscriminatorGuided(strength=0.0, filter_p=0.0)
    guided = guide.combine([drawn(0), drawn(1), drawn(2)], guide.start(ROWS), no_peek)
    np.testing.assert_array_equal(guided, jax.nn.log_softmax(drawn(0)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ValueAugmented(top_k=-1), "ValueAugmented.top_k must be an integer >= 1, got -1"),
        (lambda: ValueAugmented(top_k=2.5), "top_k must be .* got 2.5"),
        (lambda: ValueAugmented(beta=float("nan")), "beta must be a finite number.* got nan"),
        (lambda: ValueAugmented(beta=()), r"beta must be .* got \(\)"),
        (lambda: RewardGuided(alphas=(1.0, float("inf"))), "alphas must be a tuple of finite"),
        (lambda: RewardGuided(alphas=[1.0]), "alphas must be a tuple"),
        (lambda: RewardGuided(beta=0.0), "RewardGuided.beta must be finite and > 0, got 0.0"),
        (lambda: DiscriminatorGuided(strength=float("inf")), "strength must be a finite"),
        (lambda: DiscriminatorGuided(filter_p=1.5), r"filter_p must be in \[0, 1\], got 1.5"),
        (lambda: DiscriminatorGuided(target_p=-0.1), r"target_p must be in \[0, 1\], got -0.1"),
        (lambda: DiscriminatorGuided(scale=float("nan")), "scale must be a finite number"),
        (lambda: DiscriminatorGuided(biases=(0.0,)), "biases must be a tuple of two"),
        (lambda: DiscriminatorGuided(repetition_penalty=0.0), "repetition_penalty must be"),
        (lambda: DiscriminatorGuided(repetition_penalty=1.2), "vocabulary_size must be"),
        (lambda: DiscriminatorGuided(vocabulary_size=-1), "vocabulary_size must be an integer"),
        (lambda: LogitFusion(experts=0), "experts must be >= 1, got 0"),
        (lambda: LogitFusion(alphas=()), "alphas must be an ascending tuple"),
        (lambda: LogitFusion(alphas=(0.0, 1.0, 1.0)), "alphas must be an ascending tuple"),
        (lambda: LogitFusion(alphas=(-1.0, 0.0)), "alphas must be an ascending tuple"),
        (lambda: Combined("sum"), "function must be a function"),
        (lambda: Combined(sum, models=0), "models must be an integer >= 1, got 0"),
    ],
)
def test_impossible_settings_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "guide, shapes, message",
    [
        (RewardGuided(), [(2, 7)], "of 2 language models"),
        (RewardGuided(), [(2, 7), (2, 8)], r"one vocabulary; got shapes \[\(2, 7\), \(2, 8\)\]"),
        (ValueAugmented(top_k=3), [(2, 7), (2, 7)], "of 1 language models"),
        (ValueAugmented(top_k=8), [(2, 7)], r"top_k must be <= 7 \(vocabulary\), got 8"),
        (DiscriminatorGuided(repetition_penalty=2.0, vocabulary_size=8), [(2, 7)] * 3,
         "vocabulary_size must be 7, got 8"),
        (Combined(lambda logits: logits[0][:, :3]), [(2, 7)], r"giving \(2, 7\)"),
    ],
)  # fmt: skip
def test_logits_that_do_not_fit_are_errors(guide, shapes, message):
    with pytest.raises(ValueError, match=message):
        guide.combine([jnp.zeros(shape) for shape in shapes], guide.start(2), no_peek)


def test_weights_and_experts_are_counted():
    with pytest.raises(ValueError, match="2 weights for 1 reward models"):
        reward_guided(drawn(0), [drawn(1)], (1.0, 2.0))
    with pytest.raises(ValueError, match="at least one expert"):
        fused_logits(drawn(0), drawn(1), [], alphas=(0.0,))


# --- Values --------------------------------------------------------------------------------------

# Two decisions of three tokens each; the policy's second one depends on the first.
POLICY = log_softmax(np.random.default_rng(3).normal(size=(4, 3)))  # state 0 and its successors
REWARD = np.random.default_rng(4).normal(size=(3, 3))  # of both tokens together
Q_FIRST = (np.exp(POLICY[1:]) * REWARD).sum(axis=1)  # value of the policy after the first token


def test_all_values_give_the_solution_of_the_regularised_problem():
    beta = 1.7
    guide = ValueAugmented(beta=beta, top_k=3)
    policy = jnp.asarray(POLICY, jnp.float32)
    q = jnp.asarray(np.vstack([Q_FIRST, REWARD]), jnp.float32)
    guided = jax.nn.softmax(guide.combine([policy], (), table_peek(q)))
    tilted = np.exp(POLICY + beta * np.vstack([Q_FIRST, REWARD]))
    np.testing.assert_allclose(guided, tilted / tilted.sum(axis=1, keepdims=True), rtol=1e-5)


def test_the_mean_reward_grows_with_beta():
    policy = jnp.asarray(POLICY, jnp.float32)
    q = jnp.asarray(np.vstack([Q_FIRST, REWARD]), jnp.float32)
    means = []
    for beta in (0.0, 0.5, 1.0, 2.0, 50.0):
        guided = ValueAugmented(beta=beta, top_k=3).combine([policy], (), table_peek(q))
        first, *second = np.exp(log_softmax(guided))
        means.append(sum(first[a] * second[a] @ REWARD[a] for a in range(3)))
    assert (np.diff(means) > 1e-3).all()
    np.testing.assert_allclose(means[0], np.exp(POLICY[0]) @ Q_FIRST, rtol=1e-5)
    # One-step improvement: the second choice is the best one, the first is best on average.
    assert means[-1] == pytest.approx(REWARD[Q_FIRST.argmax()].max(), abs=1e-3)


def test_only_candidates_move_and_by_centred_values():
    logits = jnp.array([[0.0, 3.0, 1.0, 2.0]])
    q = jnp.array([[9.0, 1.0, 9.0, 4.0]])
    seen = []

    def peek(model, candidates):
        seen.append((model, candidates.shape))
        return table_peek(q)(model, candidates)

    guided = ValueAugmented(beta=2.0, top_k=2).combine([logits], (), peek)
    np.testing.assert_allclose(guided, [[0.0, 3.0 - 3.0, 1.0, 2.0 + 3.0]])
    assert seen == [(1, (1, 2))]
    # A constant in the values changes nothing.
    np.testing.assert_allclose(
        value_augmented(logits, q[:, :2] + 5.0, jnp.array([[3, 0]]), beta=0.5),
        value_augmented(logits, q[:, :2], jnp.array([[3, 0]]), beta=0.5),
    )


def test_several_values_are_added_up():
    logits, first, second = drawn(0), drawn(1), drawn(2)
    both = ValueAugmented(beta=(2.0, -0.5), top_k=4).combine(
        [logits], (), table_peek(first, second)
    )
    total = table_peek(2.0 * first - 0.5 * second)
    one = ValueAugmented(beta=1.0, top_k=4).combine([logits], (), total)
    np.testing.assert_allclose(both, one, rtol=1e-5, atol=1e-5)


# --- Reward models -------------------------------------------------------------------------------


def test_a_uniform_reward_model_changes_nothing():
    guided = RewardGuided(alphas=(2.0,), beta=0.3).combine(
        [drawn(0), jnp.full((ROWS, VOCABULARY), 4.0)], (), no_peek
    )
    np.testing.assert_allclose(log_softmax(guided), log_softmax(drawn(0)), rtol=1e-5, atol=1e-6)


def test_the_reward_model_of_the_optimum_gives_the_optimum():
    """p_r proportional to (optimum / policy)^beta; with two copies at half weight as well."""
    policy, optimum, beta = log_softmax(drawn(0)), log_softmax(drawn(1)), 0.4
    arm = jnp.asarray(beta * (optimum - policy) + 3.0, jnp.float32)  # raw logits, not normalised
    for alphas in ((1.0,), (0.5, 0.5)):
        guided = RewardGuided(alphas, beta).combine([drawn(0), *[arm] * len(alphas)], (), no_peek)
        np.testing.assert_allclose(log_softmax(guided), optimum, rtol=1e-4, atol=1e-5)


def test_reward_models_are_added_not_averaged():
    base, first, second = drawn(0), drawn(1), drawn(2)
    expected = np.asarray(base, np.float64) + 3 * log_softmax(first) - log_softmax(second)
    guided = reward_guided(base, [first, second], (1.5, -0.5), beta=0.5)
    np.testing.assert_allclose(guided, expected, rtol=1e-5, atol=1e-5)


# --- Discriminators ------------------------------------------------------------------------------


def class_sums(desired=(0.0,) * ROWS, undesired=(0.0,) * ROWS, tokens=0):
    return ClassSums(jnp.array(desired), jnp.array(undesired), jnp.full(ROWS, tokens))


def test_swapping_the_codes_gives_the_other_class():
    one, two = class_sums((-1.0, -5.0, -2.0), (-2.0, -3.0, -2.0), 3), drawn(1)
    swapped = ClassSums(one.undesired, one.desired, one.tokens)
    p = jnp.exp(desired_logprobs(drawn(0), two, one, scale=1.5, biases=(0.2, -0.7)))
    q = jnp.exp(desired_logprobs(two, drawn(0), swapped, scale=1.5, biases=(-0.7, 0.2)))
    np.testing.assert_allclose(p, 1 - q, rtol=1e-5)
    assert np.ptp(p) > 0.3


def test_scale_zero_knows_no_class():
    logprobs = desired_logprobs(drawn(0), drawn(1), class_sums(), scale=0.0)
    np.testing.assert_allclose(jnp.exp(logprobs), 0.5, rtol=1e-6)
    guided, removed = discriminator_guided(drawn(2), logprobs, filter_p=0.0)
    assert not removed.any()
    np.testing.assert_allclose(log_softmax(guided), log_softmax(drawn(2)), rtol=1e-5, atol=1e-5)


def test_the_running_sums_are_those_of_the_whole_text():
    """Four steps against the formula on the whole text, in float64."""
    guide = DiscriminatorGuided(scale=2.0, biases=(0.1, -0.1), strength=5.0, filter_p=0.0)
    logits, tokens = drawn(5, 4, 3, ROWS, VOCABULARY), np.array([[1, 0, 6], [2, 2, 3], [5, 0, 0]])
    state = guide.start(ROWS)
    for step in range(3):
        state = guide.advance(list(logits[step]), state, jnp.asarray(tokens[step]))
    guided = guide.combine(list(logits[3]), state, no_peek)
    logp = log_softmax(logits)
    taken = [logp[s, 1:, range(ROWS), tokens[s]] for s in range(3)]  # [N, 2] each
    mean = (np.sum(taken, axis=0).T[:, :, None] + logp[3, 1:]) / 4  # [2, N, V]
    margin = (2.0 * mean[0] + 0.1) - (2.0 * mean[1] - 0.1)
    expected = logp[3, 0] - 5.0 * np.log1p(np.exp(-margin))
    np.testing.assert_allclose(guided, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(state.sums.tokens, 3)


@pytest.mark.parametrize(
    "filter_p, target_p, removed",
    [
        (0.0, 1.0, [0, 0, 0, 0]),
        (0.35, 1.0, [1, 0, 0, 1]),  # cumulated mass: 0.1, 0.3, 0.7, 1.0
        (0.3001, 1.0, [1, 0, 0, 1]),
        (0.2999, 1.0, [0, 0, 0, 1]),
        (0.8, 1.0, [1, 0, 1, 1]),
        (0.8, 0.3, [0, 0, 0, 1]),  # the others reach the target
        (1.0, 1.0, [1, 0, 1, 1]),  # the best one stays whatever its own probability
        (1.0, 0.0, [0, 0, 0, 0]),
    ],
)
def test_the_filter(filter_p, target_p, removed):
    desired = jnp.log(jnp.array([[0.3001, 0.9, 0.5, 0.1]]))  # the order is 3, 0, 2, 1
    logits = jnp.log(jnp.array([[0.2, 0.3, 0.4, 0.1]]))
    guided, gone = discriminator_guided(
        logits, desired, strength=0.0, filter_p=filter_p, target_p=target_p
    )
    np.testing.assert_array_equal(gone, [np.array(removed, bool)])
    expected = logits - REMOVAL * jnp.array(removed)
    np.testing.assert_allclose(guided, expected, rtol=1e-6)


def test_the_filter_weighs_with_the_guided_distribution():
    desired = jnp.log(jnp.array([[0.2, 0.4]]))
    logits = jnp.log(jnp.array([[0.5, 0.5]]))
    # Guided masses are 1/3 and 2/3, the policy's 1/2.
    removed = [
        bool(discriminator_guided(logits, desired, strength=1.0, filter_p=p, target_p=1.0)[1][0, 0])
        for p in (0.3, 0.4)
    ]
    assert removed == [False, True]


def test_a_class_bias_moves_the_target_along():
    """Which tokens are removed for their own probability does not depend on it."""
    logits = [drawn(seed) for seed in range(3)]
    settings = dict(strength=0.0, filter_p=1.0, target_p=0.5)
    plain = DiscriminatorGuided(**settings)
    biased = DiscriminatorGuided(**settings, class_bias=2.0)
    guided = plain.combine(logits, plain.start(ROWS), no_peek)
    np.testing.assert_allclose(
        biased.combine(logits, biased.start(ROWS), no_peek), guided, rtol=1e-6
    )
    assert 0 < (guided < -REMOVAL / 2).sum() < guided.size - ROWS
    by_bias = DiscriminatorGuided(**settings, biases=(2.0, 0.0))
    more = by_bias.combine(logits, by_bias.start(ROWS), no_peek)
    assert (more < -REMOVAL / 2).sum() < (guided < -REMOVAL / 2).sum()


def test_peak_and_repetition_penalty():
    peaked = shifted_to_peak(jnp.array([[-3.0, 1.0, -12.0]]), 10.0)
    np.testing.assert_allclose(peaked, [[6.0, 10.0, -3.0]])
    seen = jnp.array([[False, True, True]])
    np.testing.assert_allclose(penalised_repetitions(peaked, seen, 2.0), [[6.0, 5.0, -6.0]])
    np.testing.assert_array_equal(penalised_repetitions(peaked, seen, 1.0), peaked)


def test_a_repeated_token_loses_once_and_only_in_its_row():
    guide = DiscriminatorGuided(
        strength=0.0, filter_p=0.0, repetition_penalty=2.0, peak=8.0, vocabulary_size=3
    )
    logits = [jnp.array([[2.0, 0.0, 1.0]] * 2), jnp.zeros((2, 3)), jnp.zeros((2, 3))]
    state = guide.start(2)
    for _ in range(2):
        state = guide.advance(logits, state, jnp.array([0, 2]))
    guided = guide.combine(logits, state, no_peek)
    np.testing.assert_allclose(guided, [[4.0, 6.0, 7.0], [8.0, 6.0, 3.5]], rtol=1e-6)


# --- Fusion --------------------------------------------------------------------------------------


def test_with_the_small_model_as_large_the_expert_comes_out():
    fusion = fused_logits(drawn(0), drawn(0), [drawn(1)], alphas=LogitFusion().alphas)
    np.testing.assert_array_equal(fusion.weights, 1.0)
    np.testing.assert_allclose(fusion.objective[10], 0.0, atol=1e-8)
    np.testing.assert_allclose(log_softmax(fusion.logits), log_softmax(drawn(1)), atol=1e-5)


def test_an_alpha_of_one_is_proxy_tuning():
    large, small, expert = drawn(0), drawn(1), drawn(2)
    guided = LogitFusion(alphas=(1.0,)).combine([large, small, expert], (), no_peek)
    np.testing.assert_allclose(guided, large + (expert - small), rtol=1e-6)


def test_an_expert_that_learned_nothing_changes_nothing():
    """All alphas tie, the smallest wins."""
    large, small = drawn(0), drawn(1)
    fusion = fused_logits(large, small, [small], alphas=(0.0, 0.5, 1.0))
    np.testing.assert_array_equal(fusion.weights, 0.0)
    np.testing.assert_array_equal(fusion.objective, 0.0)
    np.testing.assert_array_equal(fusion.logits, large)


def test_several_experts_against_enumeration():
    """All pairs of alpha and expert in float64; each row takes its own best one."""
    large, small, experts = drawn(0), drawn(1), [drawn(2), drawn(3), 0.5 * drawn(4)]
    alphas = (0.0, 0.4, 0.8, 1.2)
    fusion = fused_logits(large, small, experts, alphas=alphas)

    def kl(p, q):
        return (np.exp(p) * (p - q)).sum(axis=-1)

    p, q, others = log_softmax(large), log_softmax(small), [log_softmax(e) for e in experts]
    objective = np.empty((len(alphas), len(experts), ROWS))
    for (a, alpha), e in itertools.product(enumerate(alphas), range(len(experts))):
        shift = np.asarray(experts[e], np.float64) - np.asarray(small, np.float64)
        fused = log_softmax(np.asarray(large, np.float64) + alpha * shift)
        objective[a, e] = sum(
            (kl(fused, p) - kl(t, q)) ** 2 + (kl(p, fused) - kl(q, t)) ** 2 for t in others
        )
    np.testing.assert_allclose(fusion.objective, objective, rtol=1e-3)
    best = objective.reshape(-1, ROWS).argmin(axis=0)
    expected = np.zeros((ROWS, 3))
    expected[range(ROWS), best % 3] = np.array(alphas)[best // 3]
    np.testing.assert_allclose(fusion.weights, expected, rtol=1e-6)
    assert len(set(map(tuple, expected))) > 1  # the rows differ
    moved = sum(w[:, None] * (e - small) for w, e in zip(fusion.weights.T, experts, strict=True))
    np.testing.assert_allclose(fusion.logits, large + moved, rtol=1e-5, atol=1e-5)


def test_copies_of_an_expert_tie_and_the_first_acts():
    large, small, expert = drawn(0), drawn(1), drawn(2)
    fusion = fused_logits(large, small, [expert, expert], alphas=(0.5, 1.0))
    np.testing.assert_array_equal(fusion.weights[:, 1], 0.0)
    assert (fusion.weights[:, 0] > 0).all()
