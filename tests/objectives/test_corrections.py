import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.aggregation import token_mean
from rljax.objectives.corrections import (
    CORRECTIONS,
    REJECTIONS,
    corrected,
    proximal_logprobs,
)
from rljax.objectives.parts import apply
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.ratios import RATIOS
from rljax.objectives.surrogates import SURROGATES

NAN, INF = np.nan, np.inf

# Ratios trainer / sampler; the last slot is padding, the last row empty.
RATIO = np.array([[1.0, 4.0, 0.25, 1.0], [2.0, 2.0, 1.0, 1.0], [0.5, 1.0, 1.0, 1.0], [1, 1, 1, 1]])
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)


GEOMETRIC = dict(correction_level="geometric", correction_cap=1.5)


def arrays(ratio=RATIO, mask=MASK):
    """Padding holds what must not matter."""
    old = np.log(ratio) - 3.0
    behavior = np.where(mask, -3.0, [NAN, INF, -INF, NAN])
    return {
        "old_logprobs": jnp.asarray(np.where(mask, old, NAN)),
        "behavior_logprobs": jnp.asarray(behavior),
        "mask": jnp.asarray(mask),
    }


def weights_of(option, **fields):
    result = apply(functools.partial(CORRECTIONS[option], **fields), arrays())
    assert result.weights.shape == MASK.shape and not result.weights[~MASK].any()
    return result


def kept_by(option, given=None, **fields):
    result = apply(functools.partial(REJECTIONS[option], **fields), given or arrays())
    np.testing.assert_array_equal(result.weights, result.kept)
    return np.asarray(result.kept)


@pytest.mark.parametrize(
    "option, fields, expected",
    [
        ("none", {}, [1, 1, 1, 1, 1, 1]),
        ("truncated", {}, [1, 2, 0.25, 2, 2, 0.5]),
        ("truncated", dict(correction_cap=None), [1, 4, 0.25, 2, 2, 0.5]),
        ("truncated", dict(correction_cap=1e9), [1, 4, 0.25, 2, 2, 0.5]),
        ("truncated", dict(correction_cap=3.0, correction_floor=0.5), [1, 3, 0.5, 2, 2, 0.5]),
        ("zeroed", dict(correction_cap=3.0, correction_floor=0.5), [1, 0, 0, 2, 2, 0.5]),
        ("truncated", dict(correction_level="sequence"), [1, 1, 1, 2, 2, 0.5]),
        ("zeroed", dict(correction_level="sequence", correction_cap=3.0), [1, 1, 1, 0, 0, 0.5]),
        ("truncated", GEOMETRIC, [1, 1, 1, 1.5, 1.5, 0.5]),
    ],
)
def test_hand_values_of_weights(option, fields, expected):
    result = weights_of(option, **fields)
    np.testing.assert_allclose(result.weights[MASK], expected, rtol=1e-6)
    np.testing.assert_array_equal(result.kept[MASK], np.asarray(expected) > 0)


@pytest.mark.parametrize("level, mean", [("token", 9.75 / 6), ("sequence", 5.5 / 3)])
def test_normalised_weights_have_mean_one(level, mean):
    """Over tokens (1 + 4 + .25 + 2 + 2 + .5) / 6, over rows (1 + 4 + .5) / 3."""
    fields = dict(correction_level=level, correction_cap=5.0)
    plain = weights_of("truncated", **fields).weights
    normal = weights_of("truncated", **fields, correction_normalised=True).weights
    np.testing.assert_allclose(plain[MASK] / normal[MASK], np.full(6, mean), rtol=1e-6)


def test_nothing_to_normalise_by():
    fields = dict(correction_cap=0.1, correction_normalised=True)
    assert not weights_of("zeroed", **fields).weights.any()


def test_a_sampler_that_says_nothing_counts_as_ratio_one():
    given = arrays()
    given["behavior_logprobs"] = jnp.where(MASK, jnp.array([NAN, -INF, INF, NAN]), 0.0)
    for option in ("truncated", "zeroed"):
        result = apply(CORRECTIONS[option], given)
        np.testing.assert_array_equal(result.weights, MASK.astype(np.float32))
    assert kept_by("tokens", given)[MASK].all() and kept_by("sequences", given)[MASK].all()


def test_metrics_count_what_lies_beyond_the_bounds():
    metrics = weights_of("truncated", correction_cap=2.0, correction_floor=0.4).metrics
    assert metrics["correction_share_high"].mean() == pytest.approx(1 / 6)
    assert metrics["correction_share_low"].mean() == pytest.approx(1 / 6)
    assert metrics["correction_weight"].mean() == pytest.approx((1 + 2 + 0.4 + 2 + 2 + 0.5) / 6)


@pytest.mark.parametrize(
    "statistic, low, high, expected",
    [
        # Asymmetric bounds tell trainer / sampler from sampler / trainer.
        ("ratio", 0.49, 2.01, [1, 0, 0, 1, 1, 1]),
        ("ratio", None, 3.0, [1, 0, 1, 1, 1, 1]),
        ("k1", None, 3.0, [1, 1, 0, 1, 1, 1]),
        ("k1", 0.4, None, [1, 0, 1, 1, 1, 1]),
        ("k2", 0.0, 0.5, [1, 0, 0, 1, 1, 1]),  # x^2 / 2 = 0, .96, .96, .24, .24, .24
        ("k3", 0.0, 0.5, [1, 0, 0, 1, 1, 1]),  # 0, 1.61, .636, .307, .307, .193
        ("k3", 0.0, 0.7, [1, 0, 1, 1, 1, 1]),
        ("k3_reverse", 0.0, 0.7, [1, 1, 0, 1, 1, 1]),  # 0, .636, 1.61, .193, .193, .307
        ("k3_reverse", 0.0, 0.25, [1, 0, 0, 1, 1, 0]),
    ],
)
def test_hand_values_of_rejected_tokens(statistic, low, high, expected):
    fields = dict(reject_token_statistic=statistic, reject_token_low=low, reject_token_high=high)
    kept = kept_by("tokens", **fields)
    np.testing.assert_array_equal(kept[MASK], np.asarray(expected, bool))
    assert not kept[~MASK].any()


@pytest.mark.parametrize(
    "statistic, reduction, low, high, rows",
    [
        ("k1", "sum", 0.5, 2.0, [1, 0, 1]),  # sampler / trainer: 1, 1/4, 2
        ("k1", "mean", 0.5, 2.0, [1, 1, 1]),  # 1, 1/2, 2
        ("ratio", "mean", None, 1.5, [1, 0, 1]),
        ("ratio", "max", None, 2.0, [0, 1, 1]),
        ("k2", "max", 0.0, 0.5, [0, 1, 1]),
        ("k2", "sum", 0.0, 0.4, [0, 0, 1]),
        ("k3", "mean", 0.0, 0.31, [0, 1, 1]),
    ],
)
def test_hand_values_of_rejected_sequences(statistic, reduction, low, high, rows):
    # A hair of slack: log 2 - log 4 is not exactly -log 2.
    fields = dict(
        reject_sequence_statistic=statistic,
        reject_sequence_reduction=reduction,
        reject_sequence_low=low and low * (1 - 1e-6),
        reject_sequence_high=high and high * (1 + 1e-6),
    )
    kept = kept_by("sequences", **fields)
    np.testing.assert_array_equal(kept, MASK & np.array([*rows, 1], bool)[:, None])


def test_both_rejections_are_judged_on_the_whole_mask():
    fields = dict(reject_sequence_statistic="k3", reject_sequence_low=0.0)
    both = dict(fields, reject_sequence_reduction="max", reject_sequence_high=1.0)
    # Without its second token the first row would pass; the bound still sees it.
    kept = kept_by("tokens_and_sequences", **both, reject_token_low=0.4, reject_token_high=2.1)
    np.testing.assert_array_equal(kept, MASK & np.array([0, 1, 1, 0], bool)[:, None])


def test_shares_of_what_is_rejected():
    cut = functools.partial(REJECTIONS["sequences"], reject_sequence_high=2.1)
    metrics = apply(cut, arrays()).metrics
    assert metrics["rejected_share"].mean() == pytest.approx(2 / 6)
    assert metrics["rejected_sequence_share"].mean() == pytest.approx(1 / 3)


def test_product_of_weight_and_rejection():
    cut = functools.partial(REJECTIONS["tokens"], reject_token_low=0.4, reject_token_high=5.0)
    result = corrected(arrays(), correction=CORRECTIONS["truncated"], rejection=cut)
    np.testing.assert_allclose(result.weights[MASK], [1, 0, 0.25, 2, 2, 0.5], rtol=1e-6)


# ------------------------------------------------------------------ the decoupled loss as a whole


def decoupled(logprobs, given, advantages, **parts):
    """Loss of the three-policy objective; the aggregation divides by the whole mask."""
    weights, kept, _ = corrected(
        given,
        correction=parts.get("correction", CORRECTIONS["truncated"]),
        rejection=parts.get("rejection", REJECTIONS["none"]),
    )
    loss, _ = policy_gradient_loss(
        given | dict(logprobs=logprobs, advantages=advantages, correction=weights),
        ratio=RATIOS["token"],
        surrogate=SURROGATES["clipped"],
    )
    return jnp.sum(token_mean(given["mask"]) * loss)


@pytest.fixture
def policies():
    rng = np.random.default_rng(0)

    def draw(scale=1.0):
        return jnp.asarray(-1.5 + scale * rng.normal(size=MASK.shape))

    given = dict(old_logprobs=draw(), behavior_logprobs=draw(), mask=jnp.asarray(MASK))
    return draw(), given, draw()


def test_a_sampler_that_is_the_trainer_gives_standard_ppo(policies):
    logprobs, given, advantages = policies
    given["behavior_logprobs"] = given["old_logprobs"]
    gradient = jax.grad(decoupled)(logprobs, given, advantages)
    plain = jax.grad(functools.partial(decoupled, correction=CORRECTIONS["none"]))
    np.testing.assert_allclose(gradient, plain(logprobs, given, advantages), rtol=1e-6)


def test_at_the_old_policy_the_gradient_is_weight_times_advantage(policies):
    _, given, advantages = policies
    no_cap = functools.partial(CORRECTIONS["truncated"], correction_cap=None)
    gradient = jax.grad(functools.partial(decoupled, correction=no_cap))(
        given["old_logprobs"], given, advantages
    )
    weight = np.exp(given["old_logprobs"] - given["behavior_logprobs"])
    np.testing.assert_allclose(
        gradient, np.where(MASK, -weight * advantages / MASK.sum(), 0), rtol=1e-5
    )


def test_rejecting_a_token_leaves_the_gradient_of_the_others(policies):
    logprobs, given, advantages = policies
    strict = functools.partial(REJECTIONS["tokens"], reject_token_low=0.7, reject_token_high=1.5)
    kept = apply(strict, given).kept
    assert 0 < kept.sum() < MASK.sum()
    all_of_it = jax.grad(decoupled)(logprobs, given, advantages)
    left = jax.grad(functools.partial(decoupled, rejection=strict))(logprobs, given, advantages)
    np.testing.assert_array_equal(left, jnp.where(kept, all_of_it, 0.0))


def test_no_gradient_flows_through_weights(policies):
    logprobs, given, advantages = policies

    def loss(old, behavior):
        moved = given | dict(old_logprobs=old, behavior_logprobs=behavior)
        return decoupled(logprobs, moved, advantages)

    for gradient in jax.grad(loss, (0, 1))(given["old_logprobs"], given["behavior_logprobs"]):
        assert not gradient.any()


def test_masked_slots_may_hold_anything(policies):
    logprobs, given, advantages = policies
    expected = jax.value_and_grad(decoupled)(logprobs, given, advantages)
    dirty = {k: v if k == "mask" else jnp.where(MASK, v, NAN) for k, v in given.items()}
    found = jax.value_and_grad(decoupled)(jnp.where(MASK, logprobs, -INF), dirty, advantages)
    np.testing.assert_array_equal(expected[0], found[0])
    np.testing.assert_array_equal(expected[1], found[1])


def test_fields_may_be_traced():
    given = arrays()

    def kept(cap, high):
        first = functools.partial(CORRECTIONS["truncated"], correction_cap=cap)
        second = functools.partial(
            REJECTIONS["tokens"], reject_token_low=0.4, reject_token_high=high
        )
        return corrected(given, correction=first, rejection=second).weights[MASK]

    found = jax.vmap(kept)(jnp.array([1.0, 9.0]), jnp.array([1.0, 9.0]))
    np.testing.assert_allclose(found, [[1, 0, 0, 1, 1, 0], [1, 0, 0.25, 2, 2, 0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    "part, fields, name",
    [
        (CORRECTIONS["truncated"], dict(correction_level="row"), "correction_level is 'row'"),
        (CORRECTIONS["zeroed"], dict(correction_cap=0.0), "correction_cap is 0.0"),
        (CORRECTIONS["truncated"], dict(correction_floor=3.0), "correction_floor is 3.0"),
        (REJECTIONS["tokens"], dict(reject_token_statistic="k4"), "reject_token_statistic"),
        (REJECTIONS["tokens"], dict(reject_token_low=3.0), "reject_token_low is 3.0"),
        (REJECTIONS["sequences"], dict(reject_sequence_reduction="min"), "one of sum, mean, max"),
    ],
)
def test_errors_name_the_field(part, fields, name):
    with pytest.raises(ValueError, match=name):
        apply(functools.partial(part, **fields), arrays())


def test_tables_hold_parts_whose_arrays_are_known():
    for table in (CORRECTIONS, REJECTIONS):
        for part in table.values():
            assert "mask" in inspect.signature(part).parameters


# ----------------------------------------------------------------------- the proximal policy


def test_proximal_policy_between_sampler_and_current():
    versions = jnp.array([[3, 2, 0, -1, 4]])
    behavior, current = jnp.full((1, 5), -2.0), jnp.full((1, 5), -1.0)
    everything = jnp.ones((1, 5), bool)
    make = functools.partial(proximal_logprobs, behavior, current, versions, 4, everything)
    # alpha = 0 right before; (4 - 1 - 2) / 2 and 3 / 4; prompts and newer tokens keep mu.
    alpha = np.array([0.0, 0.5, 0.75, 0.0, 0.0])
    np.testing.assert_allclose(make()[0], -2.0 + alpha, rtol=1e-6)
    mixed = np.log((1 - alpha) * np.exp(-2.0) + alpha * np.exp(-1.0))
    np.testing.assert_allclose(make(interpolation="linear")[0], mixed, rtol=1e-6)
    np.testing.assert_array_equal(make(interpolation="behavior"), behavior)
    with pytest.raises(ValueError, match="interpolation is 'cubic'"):
        make(interpolation="cubic")


def test_proximal_policy_is_a_constant_without_padding():
    mask = jnp.array([[True, False]])
    args = jnp.array([[-2.0, NAN]]), jnp.array([[-1.0, INF]]), jnp.zeros((1, 2), int), 2, mask
    np.testing.assert_allclose(proximal_logprobs(*args), [[-1.5, 0.0]], rtol=1e-6)

    def total(current):
        return proximal_logprobs(args[0], current, *args[2:]).sum()

    assert not jax.grad(total)(args[1]).any()


# ------------------------------------------------------------- two policies: AIPO and PipelineRL


def aipo(logprobs, behavior, advantages, rho, mask=MASK):
    """Sum of the loss with a truncated ratio to the sampler as constant weight (2505.24034)."""
    loss, _ = policy_gradient_loss(
        dict(logprobs=logprobs, old_logprobs=behavior, advantages=advantages, mask=mask),
        ratio=RATIOS["token"],
        surrogate=functools.partial(SURROGATES["cispo"], clip_high=rho - 1.0),
    )
    return loss.sum()


@pytest.mark.parametrize("rho", [2.0, 4.0, 10.0])
def test_truncated_ratio_bounds_the_gradient_from_above_only(policies, rho):
    logprobs, given, advantages = policies
    behavior, mask = given["behavior_logprobs"], given["mask"]
    gradient, through = jax.grad(aipo, (0, 1))(logprobs, behavior, advantages, rho, mask)
    ratio = np.exp(logprobs - behavior)
    assert (ratio[MASK] < 0.5).any() and (ratio[MASK] > 2).any()
    np.testing.assert_allclose(
        gradient, np.where(MASK, -np.minimum(ratio, rho) * advantages, 0.0), rtol=1e-5
    )
    assert (np.abs(gradient) <= rho * np.abs(advantages) * (1 + 1e-6)).all()
    assert not through.any()


def test_on_policy_the_truncated_ratio_is_reinforce(policies):
    logprobs, given, advantages = policies
    gradient = jax.grad(aipo)(logprobs, logprobs, advantages, 2.0, given["mask"])
    np.testing.assert_allclose(gradient, np.where(MASK, -advantages, 0.0), rtol=1e-6)
    assert aipo(logprobs, logprobs, advantages, 2.0, jnp.zeros_like(given["mask"])) == 0
