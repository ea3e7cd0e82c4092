"""Evidence objectives: the model's own likelihood of a reference answer is the reward.

JEPO (Tang et al. 2025, arXiv:2503.19618). A prompt x comes with a reference answer a* and no
verifier. The policy samples G chains of thought c_i; one teacher-forced pass scores each,

    l[b, i] = sum_t log pi(a*_t | x, c_i, a*_<t)     (a sum, never divided by the length)

and a lower bound on log pi(a* | x) is maximised. Its gradient has two halves: a policy gradient on
the tokens of c_i with an advantage made of l, and ordinary backpropagation through l itself.

Shapes are [B, G]: row n = b * G + g of a flattened [N, T] array is sample g of prompt b. A group
must stay whole: micro-batches are cut between prompts, never inside one.

`BOUNDS` also holds the likelihood itself, which is the expected reward of VeriFree. Other bounds
(ELBO with a learned posterior, upper bounds, mixtures) would be more entries.

Prompts that a verifier finds solved may be learned from it instead (app. B.3): their samples are
kept as they were written, and compared by their rewards.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked


def log_mean_exp(values: Array, valid: Array) -> Array:
    """log of the mean of exp(values) over the valid entries of the last axis, differentiable.

    Args:
        values: [..., G] f32; -900 and the like are fine: exp is only taken of differences.
        valid: [..., G] bool.

    Returns:
        [...] f32; 0, with zero gradient, where no entry is valid.
    """
    count = valid.sum(axis=-1)
    some = count > 0
    top = jax.lax.stop_gradient(jnp.where(valid, values, -jnp.inf).max(axis=-1))
    top = jnp.where(some, top, 0.0)
    # Two `where`s: the inner one keeps invalid entries (perhaps NaN) out of exp and its gradient.
    shifted = jnp.where(valid, values, top[..., None]) - top[..., None]
    total = jnp.where(valid, jnp.exp(shifted), 0.0).sum(axis=-1)
    value = top + jnp.log(jnp.where(some, total, 1.0)) - jnp.log(jnp.maximum(count, 1))
    return jnp.where(some, value, 0.0)


def _others(valid: Array) -> Array:
    """[B, G] -> [B, G, G] bool: entry [b, i, j] is True for the valid samples j other than i."""
    return valid[:, None, :] & ~jnp.eye(valid.shape[-1], dtype=bool)


def _without_signal(values: Array, valid: Array) -> Array:
    """[B, 1] bool: fewer than two valid samples, or all of them equal."""
    highest = jnp.where(valid, values, -jnp.inf).max(axis=-1, keepdims=True)
    lowest = jnp.where(valid, values, jnp.inf).min(axis=-1, keepdims=True)
    # Compared exactly: the rounding error of a mean of equal values is not a signal.
    return highest <= lowest


def _mean(values: Array, valid: Array) -> Array:
    return jnp.where(valid, values, 0.0).sum(axis=-1) / jnp.maximum(valid.sum(axis=-1), 1)


def single_sample(answer_logprobs: Array, valid: Array) -> tuple[Array, Array]:
    """Jensen's bound E[l] (arXiv:2503.19618, eq. 3-4): v_i = mean of the other l_j.

    Args:
        answer_logprobs: [B, G] f32, l.
        valid: [B, G] bool, samples that count.

    Returns:
        The bound [B], differentiable: the mean of l over valid samples (0 if there are none). And
        the advantages [B, G], constant: l_i - v_i, zero for invalid samples and for groups with
        fewer than two valid ones.
    """
    chex.assert_rank(answer_logprobs, 2)
    chex.assert_equal_shape([answer_logprobs, valid])
    fixed = jax.lax.stop_gradient(answer_logprobs)
    baseline = _mean(fixed[:, None, :], _others(valid))
    advantages = jnp.where(valid & ~_without_signal(fixed, valid), fixed - baseline, 0.0)
    return _mean(answer_logprobs, valid), advantages


def multi_sample(answer_logprobs: Array, valid: Array) -> tuple[Array, Array]:
    """The tighter n-sample bound E[log mean exp l] (arXiv:2503.19618, eq. 6-7).

    A_i = logmeanexp over all samples - logmeanexp over the others (n - 1 of them). It has the sign
    of exp(l_i) - mean of the others' exp(l_j). It is never below log((n - 1) / n) and has no upper
    bound. Its mean is not zero: do not centre it.

    Args:
        answer_logprobs: [B, G] f32, l.
        valid: [B, G] bool, samples that count.

    Returns:
        The bound [B], differentiable (its gradient weighs the samples by softmax(l)), 0 without a
        valid sample; and the advantages [B, G], constant, zero for invalid samples and for groups
        with fewer than two valid ones.
    """
    chex.assert_rank(answer_logprobs, 2)
    chex.assert_equal_shape([answer_logprobs, valid])
    fixed = jax.lax.stop_gradient(answer_logprobs)
    # Differences of large numbers: l of -900 keeps its digits after the group's best is taken off.
    best = jnp.where(valid, fixed, -jnp.inf).max(axis=-1, keepdims=True)
    fixed = jnp.where(valid, fixed - best, 0.0)
    baseline = log_mean_exp(
        jnp.broadcast_to(fixed[:, None, :], (*fixed.shape, fixed.shape[-1])), _others(valid)
    )
    raw = log_mean_exp(fixed, valid)[:, None] - baseline
    advantages = jnp.where(valid & ~_without_signal(fixed, valid), raw, 0.0)
    return log_mean_exp(answer_logprobs, valid), advantages


def probability(answer_logprobs: Array, valid: Array) -> tuple[Array, Array]:
    """The likelihood itself, E[exp l] = p(a* | x): the probability as a reward (VeriFree).

    With leave-one-out baselines it is the mean of RLOO with exact match over what the policy could
    have answered, so it never varies more (arXiv:2505.21493; arXiv:2503.19618, section 4.3). A long
    answer has a likelihood that float32 cannot tell from 0, and then there is no signal.

    Args:
        answer_logprobs: [B, G] f32, l.
        valid: [B, G] bool, samples that count.

    Returns:
        The mean of exp(l) over valid samples [B], differentiable, 0 if there are none; and the
        advantages [B, G], constant: exp(l_i) minus the mean of the others, zero for invalid samples
        and for groups with fewer than two valid ones.
    """
    chex.assert_equal_shape([answer_logprobs, valid])
    # exp is kept from invalid entries, whose l may be anything.
    return single_sample(jnp.exp(jnp.where(valid, answer_logprobs, -jnp.inf)), valid)


BOUNDS = {
    "single_sample": single_sample,
    "multi_sample": multi_sample,
    "probability": probability,
}

NORM_SCOPES = ("batch", "group", "none")


def normalise_advantages(
    advantages: Array,
    valid: Array,
    *,
    norm_scope: str = "batch",
    advantage_clip: float = 1.0,
    advantage_epsilon: float = 1e-8,
) -> Array:
    """clip(A / (std(A) + epsilon), -clip, clip): divides only, takes no mean away.

    The paper does not say over which samples the deviation is taken. Here it is the population
    deviation over the valid samples of all groups that have at least two ("batch"), or over those
    of the sample's own group ("group"). With "none" nothing is divided, and A itself is clipped.

    Args:
        advantages: [B, G] f32.
        valid: [B, G] bool, samples that count.
        norm_scope: "batch", "group" or "none".
        advantage_clip: bound on the result.
        advantage_epsilon: added to the deviation; signals far below it vanish.

    Returns:
        [B, G] f32, constant; zero for invalid samples, for groups with fewer than two valid ones
        and where the deviation is 0.

    Raises:
        ValueError: for an unknown scope or a clip that is not positive.
    """
    if norm_scope not in NORM_SCOPES:
        raise ValueError(
            f"Unknown norm_scope {norm_scope!r}; known: {', '.join(map(repr, NORM_SCOPES))} "
            "(config.<stage>.objective.norm_scope)."
        )
    if advantage_clip <= 0:
        raise ValueError(
            f"advantage_clip is {advantage_clip}; it must be > 0 "
            "(config.<stage>.objective.advantage_clip)."
        )
    chex.assert_equal_shape([advantages, valid])
    counted = valid & (valid.sum(axis=-1, keepdims=True) >= 2)
    axis = -1 if norm_scope == "group" else None
    values = jnp.where(counted, jax.lax.stop_gradient(advantages), 0.0)
    if norm_scope == "none":
        return jnp.clip(values, -advantage_clip, advantage_clip)
    count = jnp.maximum(counted.sum(axis=axis, keepdims=True), 1)
    mean = values.sum(axis=axis, keepdims=True) / count
    centred = jnp.where(counted, values - mean, 0.0)
    deviation = jnp.sqrt((centred**2).sum(axis=axis, keepdims=True) / count)
    some = counted & (deviation > 0)
    scaled = values / (jnp.where(deviation > 0, deviation, 1.0) + advantage_epsilon)
    return jnp.where(some, jnp.clip(scaled, -advantage_clip, advantage_clip), 0.0)


def format_advantages(format_ok: Array, present: Array, *, format_penalty: float = 10.0) -> Array:
    """Leave-one-out advantage of the format reward: -penalty without the answer phrase, else 0.

    After `normalise_advantages` the size of the penalty cancels, except against epsilon.

    Args:
        format_ok: [B, G] bool, the sample contains the answer phrase.
        present: [B, G] bool, the sample exists (False pads an incomplete group).
        format_penalty: how much a badly formatted sample loses.

    Returns:
        [B, G] f32, zero where not present and in groups with fewer than two samples.
    """
    chex.assert_equal_shape([format_ok, present])
    rewards = jnp.where(format_ok, 0.0, -jnp.asarray(format_penalty, float))
    # The leave-one-out difference is the same function for every reward.
    return single_sample(rewards, present)[1]


class EvidenceAdvantages(NamedTuple):
    """Constant, normalised advantages of one batch."""

    reasoning: Array  # [B, G] f32, acts on the tokens of the chain of thought
    format: Array  # [B, G] f32, acts on every generated token


def evidence_advantages(
    answer_logprobs: Array,
    format_ok: Array,
    present: Array,
    rewards: Array | None = None,
    solved: Array | None = None,
    thinks: Array | None = None,
    *,
    bound: Callable,
    norm_scope: str = "batch",
    advantage_clip: float = 1.0,
    advantage_epsilon: float = 1e-8,
    format_penalty: float = 10.0,
    thought_cost: float = 0.0,
) -> EvidenceAdvantages:
    """Both advantages of JEPO, computed once on the global batch (arXiv:2503.19618, app. B.2).

    Samples with a bad format take no part in the bound and only receive the format advantage. The
    samples of a solved prompt take no part in either: their advantage is the leave-one-out
    difference of their rewards, normalised by itself over the solved prompts.

    With a `thought_cost` c the reward of a sample with a thought is l - c: one that raises the
    likelihood of the answer by less than c nats does not pay. It stands for the KL to a prior that
    seldom thinks in a temporal bound (RA3, arXiv:2509.25810).

    Args:
        answer_logprobs: [B, G] f32, l, scored by the trained policy at temperature 1.
        format_ok: [B, G] bool, the sample contains the answer phrase.
        present: [B, G] bool, the sample exists and its prompt has a non-empty answer.
        rewards: [B, G] f32, what a verifier says of the samples; with `solved`.
        solved: [B] bool, prompts that are learned from the rewards; None: no prompt is.
        thinks: [B, G] bool, something stands before the answer phrase; with a `thought_cost`.
        bound: a value of `BOUNDS`.
        norm_scope: see `normalise_advantages`.
        advantage_clip: see `normalise_advantages`.
        advantage_epsilon: see `normalise_advantages`.
        format_penalty: see `format_advantages`; 0 switches the format term off.
        thought_cost: c, nats.

    Returns:
        `EvidenceAdvantages`, two [B, G] arrays without gradient.
    """
    settings = dict(
        norm_scope=norm_scope, advantage_clip=advantage_clip, advantage_epsilon=advantage_epsilon
    )
    verified = jnp.zeros_like(present) if solved is None else present & solved[:, None]
    open_ones = present & ~verified
    valid = format_ok & open_ones
    if thinks is not None:
        answer_logprobs = answer_logprobs - thought_cost * thinks
    _, reasoning = bound(answer_logprobs, valid)
    reasoning = normalise_advantages(reasoning, valid, **settings)
    if solved is not None:
        _, compared = single_sample(rewards, verified)
        reasoning = reasoning + normalise_advantages(compared, verified, **settings)
    form = format_advantages(format_ok, open_ones, format_penalty=format_penalty)
    return EvidenceAdvantages(reasoning, normalise_advantages(form, open_ones, **settings))


def prompt_weights(present: Array) -> Array:
    """Weights such that `loss = sum(weights * loss_per_prompt)` is the mean over prompts.

    Compute them on the global batch, then cut them with it into micro-batches.

    Args:
        present: [B, G] bool.

    Returns:
        [B] f32; 0 for prompts without a sample, which are not counted.
    """
    some = present.any(axis=-1).astype(float)
    return some / jnp.maximum(some.sum(), 1.0)


def evidence_loss(
    logprobs: Array,
    ref_logprobs: Array | None,
    reasoning_mask: Array,
    mask: Array,
    answer_logprobs: Array,
    advantages: EvidenceAdvantages,
    format_ok: Array,
    present: Array,
    solved: Array | None = None,
    *,
    bound: Callable,
    supervised_weight: float = 1.0,
    kl: Callable | None = None,
    kl_weight: float = 0.0,
) -> tuple[Array, dict[str, SumCount]]:
    """Loss per prompt of an evidence objective (arXiv:2503.19618, app. B.2).

        loss[b] = (1/n) sum_i [ -(A_i + A_i^format) log pi(c_i | x) + kl_weight * kl_i ]
                  - supervised_weight * bound(l[b])

    log pi(c_i | x) and kl_i are sums over tokens, n is the number of samples present. A_i acts on
    the tokens of `reasoning_mask`, A_i^format and the KL on those of `mask`. The last term is
    differentiated through the answer's log-probabilities: log mean exp for the multi-sample bound,
    the mean for the single-sample one. With supervised_weight = 1 and raw advantages the gradient
    is the bound's, up to the factor 1/n of the multi-sample policy gradient that the authors use.

    Args:
        logprobs: [N, T] f32 of the generated tokens, N = B * G, differentiated.
        ref_logprobs: [N, T] f32 under the frozen reference; None without a KL term.
        reasoning_mask: [N, T] bool, tokens up to and including the answer phrase.
        mask: [N, T] bool, all generated tokens.
        answer_logprobs: [B, G] f32, summed over the reference answer's tokens (the end token
            included), differentiated; gradients must also flow into the context.
        advantages: from `evidence_advantages`.
        format_ok: [B, G] bool, the sample contains the answer phrase.
        present: [B, G] bool, the sample exists and its prompt has a non-empty answer.
        solved: [B] bool, prompts without a bound: they are learned from advantages alone.
        bound: a value of `BOUNDS`.
        supervised_weight: the paper's beta_sup; 0 to 1e-2 for short answers, 1 for long ones.
        kl: a value of `KL_ESTIMATORS`, or None.
        kl_weight: factor of the KL term (the paper's beta, 1e-3).

    Returns:
        [B] loss, to be multiplied by `prompt_weights` and added up; 0 for a prompt without
        samples. Metrics: `bound`, `answer_nll` (minus log mean exp, the paper's proxy) and
        `answer_logprob` over prompts or samples that are valid, `format_share`, `valid_share`
        (prompts with at least one valid sample), with `solved` the `solved_share` of prompts, and
        with an estimator `kl` per token.

    Raises:
        ValueError: if a KL term is asked for whose input is missing.
    """
    if (kl is None) != (ref_logprobs is None) or (kl is None and kl_weight):
        raise ValueError(
            "A KL term needs an estimator and ref_logprobs, no KL term needs neither and weight 0; "
            f"got estimator {kl}, ref_logprobs {'None' if ref_logprobs is None else 'given'}, "
            f"{kl_weight=} (config.<stage>.objective.kl_placement)."
        )
    chex.assert_rank([logprobs, answer_logprobs], 2)
    chex.assert_equal_shape([logprobs, reasoning_mask, mask])
    chex.assert_equal_shape([answer_logprobs, format_ok, present, *advantages])
    groups = answer_logprobs.shape
    rows = present.reshape(-1, 1)
    reasoning_mask, mask = reasoning_mask & rows, mask & rows
    valid = format_ok & present
    if solved is not None:
        valid &= ~solved[:, None]

    def weigh(row_values: Array, token_mask: Array) -> Array:
        return jnp.where(token_mask, jax.lax.stop_gradient(row_values).reshape(-1, 1), 0.0)

    weights = weigh(advantages.reasoning, reasoning_mask) + weigh(advantages.format, mask)
    per_token = -weights * jnp.where(mask | reasoning_mask, logprobs, 0.0)
    metrics = {}
    if kl is not None:
        values = kl(logprobs, ref_logprobs, mask)
        metrics["kl"] = masked(values, mask)
        per_token = per_token + kl_weight * values
    per_sample = per_token.sum(axis=-1).reshape(groups)
    value, _ = bound(answer_logprobs, valid)
    some = valid.any(axis=-1)
    metrics |= {
        "bound": masked(value, some),
        "answer_nll": masked(-log_mean_exp(answer_logprobs, valid), some),
        "answer_logprob": masked(answer_logprobs, valid),
        "format_share": masked(format_ok, present),
        "valid_share": masked(some, present.any(axis=-1)),
    }
    if solved is not None:
        metrics["solved_share"] = masked(solved, present.any(axis=-1))
    return _mean(per_sample, present) - supervised_weight * value, metrics
