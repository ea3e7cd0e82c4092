"""CoPG: its gradient, its minimum, and what it is on the policy's own samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rljax.objectives.arrays import PREFERENCE_ARRAYS
from rljax.objectives.parts import inputs_of
from rljax.objectives.preference import RATED_LINKS, RATED_METRICS
from rljax.registry import resolve_objective
from rljax.training.families.preference import loss_of

CONTRASTIVE = RATED_LINKS["contrastive"]
BETA = 0.4
RNG = np.random.default_rng(0)
RATIOS, RATINGS = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4))
THERE = np.ones((5, 4), bool)


def loss(ratios, ratings=RATINGS, present=THERE, beta=BETA):
    return CONTRASTIVE(jnp.asarray(ratios), ratings, present, beta=beta)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_of_two_completions_it_is_the_squared_distance():
    d, dr = RATIOS[:, 0] - RATIOS[:, 1], RATINGS[:, 0] - RATINGS[:, 1]
    found = loss(RATIOS[:, :2], RATINGS[:, :2], THERE[:, :2])
    np.testing.assert_allclose(found, (dr - BETA * d) ** 2 / (2 * BETA), rtol=1e-12)


def test_of_several_it_is_the_sum_over_their_pairs():
    r = RATINGS - BETA * RATIOS
    pairs = sum((r[:, i] - r[:, j]) ** 2 for i in range(4) for j in range(i))
    np.testing.assert_allclose(loss(RATIOS), pairs / 3 / (2 * BETA), rtol=1e-12)


def test_the_gradient_is_that_of_the_paper_s_objective_and_of_its_explicit_form():
    """Maximised: (R_{b/2}(y) - R_{b/2}(y')) (log rho(y) - log rho(y')), differentiated through."""
    two, ratings = RATIOS[:, :2], RATINGS[:, :2]

    def objective(ratios):
        r = ratings - BETA / 2 * ratios
        return ((r[:, 0] - r[:, 1]) * (ratios[:, 0] - ratios[:, 1])).sum()

    found = jax.grad(lambda x: loss(x, ratings, THERE[:, :2]).sum())(two)
    np.testing.assert_allclose(found, -jax.grad(objective)(two), rtol=1e-10)
    # With constant weights the whole beta counts.
    r = ratings - BETA * two
    explicit = (r[:, 0] - r[:, 1])[:, None] * np.array([1.0, -1.0])
    np.testing.assert_allclose(found, -explicit, rtol=1e-10)


def test_the_gradient_is_that_of_leave_one_out_advantages():
    """Those of RLOO, as its stage computes them, of rewards less beta times the log-ratio."""
    regularised = RATINGS - BETA * RATIOS
    advantage = resolve_objective("rloo", {}).part("advantage")
    rows = regularised.reshape(-1, 1)
    advantages = advantage(rows, np.ones(rows.shape, bool), np.repeat(np.arange(5), 4))
    found = jax.grad(lambda x: loss(x).sum())(RATIOS)
    np.testing.assert_allclose(found, -np.asarray(advantages).reshape(5, 4), rtol=1e-10)


def test_a_constant_of_the_prompt_changes_nothing():
    shift = RNG.normal(size=(5, 1))
    np.testing.assert_allclose(loss(RATIOS, RATINGS + shift), loss(RATIOS), rtol=1e-10)
    np.testing.assert_allclose(loss(RATIOS + shift), loss(RATIOS), rtol=1e-10)


def test_places_without_a_completion_say_nothing():
    ratios = np.concatenate([RATIOS, np.full((5, 2), 1e6)], axis=1)
    ratings = np.concatenate([RATINGS, np.full((5, 2), -1e6)], axis=1)
    present = np.broadcast_to(np.arange(6) < 4, ratios.shape)
    value, gradient = jax.value_and_grad(lambda x: loss(x, ratings, present).sum())(ratios)
    np.testing.assert_allclose(value, loss(RATIOS).sum(), rtol=1e-10)
    assert not np.asarray(gradient)[:, 4:].any()
    single = np.broadcast_to(np.arange(4) < 1, RATIOS.shape)
    np.testing.assert_array_equal(loss(RATIOS, RATINGS, single), 0.0)


def test_equal_ratings_pull_the_ratios_together():
    gradient = jax.grad(lambda x: loss(x, np.ones((5, 4))).sum())(RATIOS)
    centred = RATIOS - RATIOS.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, BETA * 4 / 3 * centred, rtol=1e-10)


def test_metrics():
    """Pairs of different ratings; a spread of 0 where ratings and ratios agree."""
    ratios = np.array([[2.0, 1.0, 0.0, 9.0], [1.0, 2.0, 3.0, 4.0]])
    ratings = np.array([[1.0, 0.5, 0.5, 7.0], [0.4, 0.8, 1.2, 1.6]])
    present = np.array([[True, True, True, False], [True] * 4])
    found = RATED_METRICS[0](ratios, ratings, present, beta=BETA)
    np.testing.assert_allclose(found["reward_accuracy"], [1.0, 1.0])
    r = ratings[0, :3] - BETA * ratios[0, :3]
    np.testing.assert_allclose(found["regularised_reward"], [r.mean(), 0.0], atol=1e-7)
    np.testing.assert_allclose(found["regularised_spread"], [r.std(), 0.0], atol=1e-7)
    backwards = RATED_METRICS[0](-ratios, ratings, present, beta=BETA)["reward_accuracy"]
    np.testing.assert_allclose(backwards, [0.0, 0.0])


def test_parts_name_described_arrays():
    parts = [*RATED_LINKS.values(), *RATED_METRICS]
    assert {name for part in parts for name in inputs_of(part)} <= set(PREFERENCE_ARRAYS)


def test_impossible_settings_are_errors():
    with pytest.raises(ValueError, match="beta is 0.0; it must be > 0"):
        loss(RATIOS, beta=0.0)


# The bandit of the paper: three arms, two writers that see the worst one most of the time.
ARMS, WRITERS = np.array([2.5, 2.0, 1.0]), np.array([[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]])
BANDIT_BETA = 0.5
BEST = np.exp(ARMS / BANDIT_BETA) / np.exp(ARMS / BANDIT_BETA).sum()  # the reference is uniform


def value(policy):
    return (policy * (ARMS - BANDIT_BETA * np.log(3 * policy))).sum()


def test_the_bandit_s_figures_are_those_of_the_sheet():
    np.testing.assert_allclose(BEST, (0.7054, 0.2595, 0.0351), atol=5e-5)
    np.testing.assert_allclose(value(BEST), 2.1252, atol=5e-5)
    np.testing.assert_allclose(value(BEST) - value(np.full(3, 1 / 3)), 0.2919, atol=5e-5)


def trained(method, draws, ratings=None, steps=2000, batch=512):
    """The policy after Adam's updates with a stage's own loss; regret against the best one."""
    objective = resolve_objective(method, {"beta": BANDIT_BETA})
    run, rule = loss_of(objective), optax.adam(1e-2)
    draws = jnp.asarray(draws)
    order = jax.random.split(jax.random.key(0), steps)

    def update(carry, key):
        logits, moments = carry
        rows = jax.random.randint(key, (batch,), 0, len(draws))

        def total(logits):
            logprobs = jax.nn.log_softmax(logits)[draws[rows]][..., None]
            arrays = {
                "mask": jnp.ones(logprobs.shape, bool),
                "logprobs": logprobs,
                "ref_sequence_logprobs": jnp.full(logprobs.shape[:2], -jnp.log(3.0)),
                "present": jnp.ones(logprobs.shape[:2], bool),
            }
            if ratings is not None:
                arrays["ratings"] = jnp.asarray(ratings)[rows]
            return run(arrays)[0].mean()

        change, moments = rule.update(jax.grad(total)(logits), moments)
        return (optax.apply_updates(logits, change), moments), None

    start = jnp.zeros(3)
    (logits, _), _ = jax.jit(functools.partial(jax.lax.scan, update))(
        (start, rule.init(start)), order
    )
    policy = np.asarray(jax.nn.softmax(logits))
    return policy, value(BEST) - value(policy)


def drawn(count=10_000):
    generator = np.random.default_rng(1)
    return np.stack([generator.choice(3, count, p=p) for p in WRITERS], axis=1)


def test_the_bandit_s_minimum_is_the_best_policy_whoever_drew():
    draws = drawn()
    policy, regret = trained("copg", draws, ARMS[draws])
    np.testing.assert_allclose(policy, BEST, atol=1e-6)
    assert regret < 1e-12
    # Three completions of each prompt have the same minimum.
    third = np.concatenate([draws, np.random.default_rng(2).integers(0, 3, (len(draws), 1))], 1)
    assert trained("copg", third, ARMS[third])[1] < 1e-12


def test_preferences_alone_give_another_policy():
    """IPO on the ordered pairs, of which equal ones say nothing: the sheet's regret is 0.093."""
    draws = drawn()
    ordered = np.take_along_axis(draws, np.argsort(draws, axis=1), axis=1)  # the first arm is best
    ordered = ordered[ordered[:, 0] != ordered[:, 1]]
    # The sheet's IPO is ours on sums: (d - 1 / (2 tau))^2.
    assert trained("ipo_sum", ordered)[1] == pytest.approx(0.093, abs=0.01)


def test_on_the_policy_s_own_samples_the_gradient_is_twice_that_of_the_value():
    """Expected over pairs of independent samples, by enumeration."""
    logits = jnp.array([0.3, -0.2, 0.5])
    first, second = np.array([(i, j) for i in range(3) for j in range(3)]).T
    policy = jax.nn.softmax(logits)

    def expected(logits):
        ratios = jax.nn.log_softmax(logits) + jnp.log(3.0)
        sides = np.stack([first, second], axis=1)
        each = CONTRASTIVE(ratios[sides], ARMS[sides], np.ones(sides.shape, bool), beta=BANDIT_BETA)
        return (policy[first] * policy[second] * each).sum()

    def objective(logits):
        p = jax.nn.softmax(logits)
        return (p * (ARMS - BANDIT_BETA * jnp.log(3 * p))).sum()

    np.testing.assert_allclose(
        jax.grad(expected)(logits), -2 * jax.grad(objective)(logits), rtol=1e-10
    )
