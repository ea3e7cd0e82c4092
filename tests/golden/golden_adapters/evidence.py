"""Slug jepo: bounds, advantages and exactly enumerated toys."""

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


def _bounds(case: dict) -> dict:
    values, valid, args = floats(case, "answer_logprob"), bools(case, "format_ok"), case["args"]
    some = valid.any(axis=-1)
    outputs = {}
    for name, bound in BOUNDS.items():
        value, advantages = bound(values, valid)
        short = name.removesuffix("_sample")
        outputs[f"adv_{short}"] = advantages
        for scope, suffix in (("group", ""), ("batch", "_batch")):
            outputs[f"adv_{short}_norm{suffix}"] = normalise_advantages(
                advantages,
                valid,
                norm_scope=scope,
                advantage_clip=args["clip"],
                advantage_epsilon=args["eps"],
            )
        # The files say null for a bound of nothing; ours is 0 there.
        key = {"multi": "bound", "single": "single_bound"}[short]
        outputs[key] = [float(v) if s else None for v, s in zip(value, some, strict=True)]
    outputs["sup_weights"] = jax.grad(lambda v: BOUNDS["multi_sample"](v, valid)[0].sum())(values)
    return outputs


def _tuples(count: int, n: int):
    """All [count^n, n] draws of n samples out of `count` chains of thought."""
    return jnp.asarray(list(itertools.product(range(count), repeat=n)))


def _answer_logprobs(answer_logits, target):
    return jax.nn.log_softmax(answer_logits, axis=-1)[:, target]


def _expected_gradients(case, bound: str, n: int, with_baseline: bool):
    """Over all draws: the bound's mean, its gradients, the trace variance of the first half.

    Each draw is one prompt with n one-token chains of thought; both halves of the gradient are
    those of `evidence_loss`.
    """
    target, cot_logits = case["inputs"]["target"], floats(case, "cot_logits")
    draws = _tuples(len(cot_logits), n)
    shape = (1, n)
    everything = jnp.ones(shape, bool)
    # The multi-sample estimator sums over samples, `evidence_loss` averages.
    scale = n if bound == "multi_sample" else 1

    def gradient(draw, parts):
        def loss(cot_logits, answer_logits):
            logprobs = jax.nn.log_softmax(cot_logits)[draw][:, None]
            answers = _answer_logprobs(answer_logits, target)[draw].reshape(shape)
            value, raw = BOUNDS[bound](answers, everything)
            if not with_baseline:
                raw = jnp.broadcast_to(value[:, None], shape)
            raw = jax.lax.stop_gradient(raw) * scale * parts[0]
            token = everything.reshape(n, 1)
            losses, metrics = evidence_loss(
                logprobs, None, token, token, answers, EvidenceAdvantages(raw, 0 * raw),
                everything, everything, bound=BOUNDS[bound], supervised_weight=parts[1],
            )  # fmt: skip
            return losses.sum(), metrics["bound"].total

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(
            cot_logits, floats(case, "answer_logits")
        )

    ones = jnp.asarray([1.0, 1.0])
    (_, values), (cot, answer) = jax.vmap(lambda d: gradient(d, ones))(draws)
    probability = jnp.exp(jax.nn.log_softmax(cot_logits)[draws].sum(axis=-1))
    mean = -jnp.einsum("d,dk->k", probability, cot)
    spread = jnp.einsum("d,dk->", probability, (cot + mean) ** 2)
    expected = jnp.einsum("d,dkm->km", probability, answer)
    return probability @ values, mean, -expected, spread


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
