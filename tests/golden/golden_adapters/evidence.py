"""Slug jepo: bounds, advantages and exactly enumerated toys."""

import functools
import itertools

import jax
import jax.numpy as jnp

from golden_adapters.common import bools, floats
from rljax.objectives.evidence import (
    BOUNDS,
    EvidenceAdvantages,
    evidence_loss,
    log_mean_exp,
    normalise_advantages,
)


@functools.partial(jax.jit, static_argnames=("clip", "eps"))
def _bounds_and_advantages(values, valid, *, clip, eps):
    outputs = {}
    for name in ("single_sample", "multi_sample"):
        bound = BOUNDS[name]
        value, advantages = bound(values, valid)
        short = name.removesuffix("_sample")
        outputs[f"adv_{short}"] = advantages
        outputs[{"multi": "bound", "single": "single_bound"}[short]] = value
        for scope, suffix in (("group", ""), ("batch", "_batch")):
            outputs[f"adv_{short}_norm{suffix}"] = normalise_advantages(
                advantages, valid, norm_scope=scope, advantage_clip=clip, advantage_epsilon=eps
            )
    outputs["sup_weights"] = jax.grad(lambda v: BOUNDS["multi_sample"](v, valid)[0].sum())(values)
    return outputs


def _bounds(case: dict) -> dict:
    values, valid = floats(case, "answer_logprob"), bools(case, "format_ok")
    args = case["args"]
    outputs = _bounds_and_advantages(values, valid, clip=args["clip"], eps=args["eps"])
    for key in ("bound", "single_bound"):
        # The files say null for a bound of nothing; ours is 0 there.
        some = valid.any(axis=-1)
        outputs[key] = [float(v) if s else None for v, s in zip(outputs[key], some, strict=True)]
    return outputs


def _answer_logprobs(answer_logits, target):
    return jax.nn.log_softmax(answer_logits, axis=-1)[:, target]


@functools.partial(jax.jit, static_argnames=("bound", "n"))
def _gradients_of_draws(cot_logits, answer_logits, target, with_baseline, *, bound, n):
    """Bound and gradients of `evidence_loss` for all draws of n chains of thought out of K.

    Each draw is one prompt with n one-token chains. Returns the draws' probabilities [D], bounds
    [D] and gradients in both kinds of logits, [D, K] and [D, K, M].
    """
    shape = (1, n)
    everything = jnp.ones(shape, bool)
    draws = jnp.asarray(list(itertools.product(range(len(cot_logits)), repeat=n)))
    # The multi-sample estimator sums over samples, `evidence_loss` averages.
    scale = n if bound == "multi_sample" else 1

    def loss(cot_logits, answer_logits, draw):
        logprobs = jax.nn.log_softmax(cot_logits)[draw][:, None]
        answers = _answer_logprobs(answer_logits, target)[draw].reshape(shape)
        value, raw = BOUNDS[bound](answers, everything)
        raw = jnp.where(with_baseline, raw, jnp.broadcast_to(value[:, None], shape))
        advantages = EvidenceAdvantages(scale * jax.lax.stop_gradient(raw), jnp.zeros(shape))
        token = everything.reshape(n, 1)
        losses, metrics = evidence_loss(
            logprobs, None, token, token, answers, advantages, everything, everything,
            bound=BOUNDS[bound], supervised_weight=1.0,
        )  # fmt: skip
        return losses.sum(), metrics["bound"].total

    gradient = jax.vmap(jax.value_and_grad(loss, (0, 1), has_aux=True), (None, None, 0))
    (_, values), (cot, answer) = gradient(cot_logits, answer_logits, draws)
    probability = jnp.exp(jax.nn.log_softmax(cot_logits)[draws].sum(axis=-1))
    return probability, values, cot, answer


def _expected_gradients(case: dict, bound: str, n: int, with_baseline: bool):
    """Over all draws: the bound's mean, its gradients, the trace variance of the first half."""
    probability, values, cot, answer = _gradients_of_draws(
        floats(case, "cot_logits"),
        floats(case, "answer_logits"),
        case["inputs"]["target"],
        with_baseline,
        bound=bound,
        n=n,
    )
    mean = jnp.einsum("d,dk->k", probability, cot)
    spread = jnp.einsum("d,dk->", probability, (cot - mean) ** 2)
    return probability @ values, -mean, -jnp.einsum("d,dkm->km", probability, answer), spread


def _toy(case: dict) -> dict:
    target = case["inputs"]["target"]

    def marginal(cot_logits, answer_logits):
        # log sum_c pi(c) pi(a|c) is log mean exp over the K chains of K pi(c) pi(a|c).
        logprobs = jax.nn.log_softmax(cot_logits) + jnp.log(len(cot_logits))
        joint = logprobs + _answer_logprobs(answer_logits, target)
        return log_mean_exp(joint, jnp.ones(joint.shape, bool))

    def posterior(answers):
        logprobs = jax.nn.log_softmax(floats(case, "cot_logits"))
        return log_mean_exp(logprobs + answers, jnp.ones(answers.shape, bool))

    logits = floats(case, "cot_logits"), floats(case, "answer_logits")
    value, (cot, answer) = jax.value_and_grad(marginal, (0, 1))(*logits)
    outputs = {
        "log_marginal": value,
        "marginal_grad_cot_logits": cot,
        "marginal_grad_answer_logits": answer,
        "posterior": jax.grad(posterior)(_answer_logprobs(logits[1], target)),
    }
    n = 1
    while f"L_{n}" in case["outputs"]:
        # One sample has no leave-one-out baseline: its bound's gradient is read off two samples
        # of the single-sample estimator.
        baseline = ("single_sample", 2) if n == 1 else ("multi_sample", n)
        value, cot, answer, spread = _expected_gradients(case, *baseline, with_baseline=True)
        outputs |= {
            f"L_{n}": value,
            f"grad_L_{n}_cot_logits": cot,
            f"grad_L_{n}_answer_logits": answer,
            f"var_no_baseline_{n}": _expected_gradients(case, "multi_sample", n, False)[3],
        }
        if n > 1:
            outputs[f"var_loo_baseline_{n}"] = spread
        n += 1
    return outputs


def jepo(case: dict) -> dict:
    return _toy(case) if "cot_logits" in case["inputs"] else _bounds(case)
