"""Losses of the evidence and their advantages: hand values, and gradients of what is left out."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.evidence import (
    BOUNDS,
    EvidenceAdvantages,
    evidence_advantages,
    evidence_loss,
    format_advantages,
    normalise_advantages,
    prompt_weights,
)
from rljax.objectives.kl import KL_ESTIMATORS
from tests.objectives.evidence_batches import ALL, B, G, T, answers

normalise = jax.jit(
    normalise_advantages, static_argnames=("norm_scope", "advantage_clip", "advantage_epsilon")
)
format_part = jax.jit(format_advantages, static_argnames="format_penalty")


@functools.partial(jax.jit, static_argnames="bound")
def advantages_of(inputs, bound="multi_sample"):
    return evidence_advantages(
        inputs["answer_logprobs"], inputs["format_ok"], inputs["present"], bound=BOUNDS[bound]
    )


def batch(seed=0):
    """Prompt 0 whole, prompt 1 with a badly formatted sample, prompt 2 without a good one."""
    keys = jax.random.split(jax.random.key(seed), 3)
    logprobs = -jax.random.uniform(keys[0], (B * G, T))
    mask = jnp.arange(T) < jax.random.randint(keys[1], (B * G, 1), 2, T + 1)
    format_ok = ALL.at[1, 2].set(False).at[2].set(False)
    return dict(
        logprobs=logprobs,
        ref_logprobs=logprobs + 0.1 * jax.random.normal(keys[2], logprobs.shape),
        reasoning_mask=mask & (jnp.arange(T) < 3),
        mask=mask,
        answer_logprobs=answers(seed),
        format_ok=format_ok,
        present=ALL,
    )


def loss_of(inputs, bound="multi_sample", advantages=None, **settings):
    settings = dict(kl=KL_ESTIMATORS["k3_plus"], kl_weight=0.1, supervised_weight=0.5) | settings
    if settings["kl"] is None:
        inputs = inputs | dict(ref_logprobs=None)
    if advantages is None:
        advantages = advantages_of(inputs, bound)
    return evidence_loss(**inputs, advantages=advantages, bound=BOUNDS[bound], **settings)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    "values, valid",
    [
        ([-1.1, -1.1, -1.1], [1, 1, 1]),  # all equal
        ([-900.3, -900.3, -900.3], [1, 1, 1]),
        ([-1.0, -2.0, -3.0], [0, 1, 0]),  # one valid
        ([-1.0, jnp.nan, -jnp.inf], [0, 0, 0]),  # none valid
        ([-1.0, -jnp.inf, jnp.nan], [1, 0, 0]),
    ],
)
def test_groups_without_signal_have_zero_advantages_and_finite_gradients(bound, values, valid):
    values, valid = jnp.array([values]), jnp.array([valid]) != 0
    found = jax.jit(BOUNDS[bound])
    (value, advantages), gradient = (
        found(values, valid),
        jax.grad(lambda v: found(v, valid)[0].sum())(values),
    )
    np.testing.assert_array_equal(advantages, 0.0)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    np.testing.assert_array_equal(np.asarray(gradient)[~np.asarray(valid)], 0.0)
    for scope in ("batch", "group"):
        normalised = normalise(advantages, valid, norm_scope=scope)
        np.testing.assert_array_equal(normalised, 0.0)


def test_normalisation_divides_and_clips_without_centring():
    advantages = jnp.array([[1.0, 0.5, 0.0], [4.0, -0.2, 7.0]])
    valid = jnp.array([[True, True, True], [True, True, False]])
    group = normalise(advantages, valid, norm_scope="group", advantage_clip=2.0)
    deviations = np.array([[np.std([1, 0.5, 0.0])], [np.std([4.0, -0.2])]])
    expected = np.clip(np.array([[1.0, 0.5, 0.0], [4.0, -0.2, 0.0]]) / deviations, -2, 2)
    np.testing.assert_allclose(group, expected, rtol=1e-5)
    batch_wide = normalise(advantages, valid, advantage_clip=2.0)
    deviation = np.std([1.0, 0.5, 0.0, 4.0, -0.2])
    expected = np.clip(np.array([[1.0, 0.5, 0.0], [4.0, -0.2, 0.0]]) / deviation, -2, 2)
    np.testing.assert_allclose(batch_wide, expected, rtol=1e-5)
    clip_one = normalise(advantages, valid)
    assert float(jnp.abs(clip_one).max()) == 1.0


def test_groups_with_one_valid_sample_do_not_enter_the_deviation():
    advantages, valid = jnp.array([[1.0, -1.0], [100.0, 0.0]]), jnp.array([[1, 1], [1, 0]]) != 0
    got = normalise(advantages, valid, advantage_clip=5.0)
    np.testing.assert_allclose(got, [[1.0, -1.0], [0.0, 0.0]], rtol=1e-6)


def test_raw_advantages_are_clipped_alone():
    advantages, valid = (
        jnp.array([[0.5, -3.0, 2.0], [0.4, 9.0, 9.0]]),
        jnp.array([[1, 1, 1], [1, 0, 0]]),
    )
    got = normalise(advantages, valid != 0, norm_scope="none", advantage_clip=1.0)
    np.testing.assert_allclose(got, [[0.5, -1.0, 1.0], [0.0, 0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(norm_scope="row"), "Unknown norm_scope 'row'"),
        (dict(advantage_clip=0.0), "advantage_clip is 0.0"),
    ],
)
def test_impossible_normalisations_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        normalise(answers(), ALL, **settings)


def test_format_advantages_leave_one_out():
    format_ok = jnp.array([[True, True, False], [True, True, True], [False, True, True]])
    present = jnp.ones((3, 3), bool).at[2, 1:].set(False)
    got = format_part(format_ok, present, format_penalty=10.0)
    np.testing.assert_allclose(got, [[5.0, 5.0, -10.0], [0, 0, 0], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(format_part(format_ok, present, format_penalty=0.0), 0.0)


def test_badly_formatted_samples_receive_the_format_term_only():
    inputs = batch()
    advantages = advantages_of(inputs)
    np.testing.assert_array_equal(np.asarray(advantages.reasoning)[~inputs["format_ok"]], 0.0)
    assert advantages.format[1, 2] < 0 < advantages.format[1, 0]
    answer_gradient = jax.jit(
        jax.grad(
            lambda a: loss_of(inputs | dict(answer_logprobs=a), advantages=advantages)[0].sum()
        )
    )(inputs["answer_logprobs"])
    np.testing.assert_array_equal(np.asarray(answer_gradient)[~inputs["format_ok"]], 0.0)


def test_the_loss_adds_up_by_hand():
    inputs = batch()
    advantages = EvidenceAdvantages(
        jax.random.normal(jax.random.key(5), (B, G)), jax.random.normal(jax.random.key(6), (B, G))
    )
    loss, metrics = loss_of(inputs, advantages=advantages)
    expected, kl_total = np.zeros(B), 0.0
    logprobs, ref = (np.asarray(inputs[k], np.float64) for k in ("logprobs", "ref_logprobs"))
    for b, g in itertools.product(range(B), range(G)):
        n = b * G + g
        for t in range(T):
            x = logprobs[n, t] - ref[n, t]
            on, thinks = bool(inputs["mask"][n, t]), bool(inputs["reasoning_mask"][n, t])
            kl = np.exp(-x) + x - 1 if on else 0.0
            kl_total += kl
            weight = thinks * advantages.reasoning[b, g] + on * advantages.format[b, g]
            expected[b] += (-weight * logprobs[n, t] + 0.1 * kl) / G
    good = np.asarray(inputs["format_ok"])
    q = np.exp(np.asarray(inputs["answer_logprobs"], np.float64))
    for b in range(2):
        expected[b] -= 0.5 * np.log(q[b][good[b]].mean())
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["kl"].total, kl_total, rtol=1e-4)
    assert metrics["kl"].count == inputs["mask"].sum()
    np.testing.assert_allclose(metrics["format_share"].mean(), 7 / 12, rtol=1e-6)
    np.testing.assert_allclose(metrics["valid_share"].mean(), 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["answer_nll"].mean(), -metrics["bound"].mean(), rtol=1e-6)


@pytest.mark.parametrize("bound", BOUNDS)
def test_gradients_of_the_loss_agree_with_finite_differences(bound):
    inputs = batch()
    with jax.enable_x64(True):
        inputs = {
            k: np.asarray(v, np.float64) if v.dtype != bool else np.asarray(v)
            for k, v in inputs.items()
        }
        advantages = advantages_of(inputs, bound)

        def of(logprobs, answer_logprobs):
            changed = inputs | dict(logprobs=logprobs, answer_logprobs=answer_logprobs)
            return loss_of(changed, bound, advantages, kl=KL_ESTIMATORS["k3"])[0].sum()

        check_grads(jax.jit(of), (inputs["logprobs"], inputs["answer_logprobs"]), 1, ["rev"])


def test_solved_prompts_are_learned_from_the_verifier_alone():
    inputs = batch()
    solved = jnp.array([True, False, False])
    rewards = jnp.array([[1.0, 0.0, 0.0, 1.0], [0.3, 0.0, 0.0, 0.0], [0.0] * 4])
    names = ("answer_logprobs", "format_ok", "present")
    got = evidence_advantages(
        *(inputs[name] for name in names), rewards, solved, bound=BOUNDS["multi_sample"]
    )
    # Leave-one-out 2/3, -2/3, -2/3, 2/3, whose deviation is 2/3.
    np.testing.assert_allclose(got.reasoning[0], [1, -1, -1, 1], rtol=1e-5)
    np.testing.assert_array_equal(got.format[0], 0.0)
    # The other prompts: as if the solved one were not there.
    without = evidence_advantages(
        inputs["answer_logprobs"],
        inputs["format_ok"],
        ALL.at[0].set(False),
        bound=BOUNDS["multi_sample"],
    )
    np.testing.assert_allclose(got.reasoning[1:], without.reasoning[1:], rtol=1e-6)
    np.testing.assert_allclose(got.format[1:], without.format[1:], rtol=1e-6)

    def of(answer_logprobs):
        changed = inputs | dict(answer_logprobs=answer_logprobs, solved=solved)
        return loss_of(changed, advantages=got)[0].sum()

    gradient = jax.grad(of)(inputs["answer_logprobs"])
    np.testing.assert_array_equal(gradient[0], 0.0)
    assert np.abs(gradient[1]).sum() > 0
    _, metrics = loss_of(inputs | dict(solved=solved), advantages=got)
    np.testing.assert_allclose(metrics["solved_share"].mean(), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["valid_share"].mean(), 1 / 3, rtol=1e-6)


def test_absent_samples_and_padding_do_not_matter():
    inputs = batch()
    expected, metrics = jax.jit(loss_of)(inputs)
    weights = prompt_weights(inputs["present"])

    def extend(name, value):
        fill = False if value.dtype == bool else jnp.nan
        if value.shape == (B, G):  # one absent sample per group, one absent prompt
            return jnp.pad(value, ((0, 1), (0, 1)), constant_values=fill)
        rows = value.reshape(B, G, T)
        padded = jnp.pad(rows, ((0, 1), (0, 1), (0, 2)), constant_values=fill)
        return padded.reshape(-1, T + 2)

    bigger = {name: extend(name, value) for name, value in inputs.items()}
    loss, bigger_metrics = jax.jit(loss_of)(bigger)
    np.testing.assert_allclose(loss, np.append(expected, 0.0), rtol=1e-5)
    np.testing.assert_allclose(prompt_weights(bigger["present"]), np.append(weights, 0.0))
    for name in metrics:
        np.testing.assert_allclose(bigger_metrics[name], metrics[name], rtol=1e-5, err_msg=name)
    advantages = advantages_of(bigger)

    def of(logprobs, answer_logprobs):
        changed = bigger | dict(logprobs=logprobs, answer_logprobs=answer_logprobs)
        return loss_of(changed, advantages=advantages)[0].sum()

    gradients = jax.jit(jax.grad(of, (0, 1)))(bigger["logprobs"], bigger["answer_logprobs"])
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("bound", BOUNDS)
def test_micro_batches_of_whole_prompts_add_up(bound):
    inputs = batch()
    advantages = advantages_of(inputs, bound)
    weights = prompt_weights(inputs["present"])
    loss_per_prompt = jax.jit(lambda inputs, advantages: loss_of(inputs, bound, advantages)[0])
    whole = jnp.sum(weights * loss_per_prompt(inputs, advantages))
    parts = 0.0
    for prompts in (slice(0, 1), slice(1, 3)):
        rows = slice(prompts.start * G, prompts.stop * G)
        part = {k: v[prompts] if v.shape == (B, G) else v[rows] for k, v in inputs.items()}
        cut = EvidenceAdvantages(*(a[prompts] for a in advantages))
        parts += jnp.sum(weights[prompts] * loss_per_prompt(part, cut))
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_without_reasoning_the_gradient_is_the_supervised_one():
    inputs = batch() | dict(
        reasoning_mask=jnp.zeros((B * G, T), bool), mask=jnp.zeros((B * G, T), bool), format_ok=ALL
    )
    inputs["answer_logprobs"] = jnp.broadcast_to(inputs["answer_logprobs"][:, :1], (B, G))

    def of(logprobs, answers):
        changed = inputs | dict(logprobs=logprobs, answer_logprobs=answers)
        return loss_of(changed, supervised_weight=1.0)[0].sum()

    cot, answer = jax.jit(jax.grad(of, (0, 1)))(inputs["logprobs"], inputs["answer_logprobs"])
    np.testing.assert_array_equal(cot, 0.0)
    np.testing.assert_allclose(answer, -1 / G, rtol=1e-6)  # G copies of one answer's nll


@pytest.mark.parametrize(
    "change",
    [dict(kl=None), dict(kl=None, ref_logprobs=None, kl_weight=0.1), dict(ref_logprobs=None)],
)
def test_a_kl_term_without_its_input_is_an_error(change):
    inputs = batch() | dict(advantages=EvidenceAdvantages(answers(), answers()))
    settings = dict(bound=BOUNDS["multi_sample"], kl=KL_ESTIMATORS["k1"]) | change
    with pytest.raises(ValueError, match="kl"):
        evidence_loss(**(inputs | settings))
