"""A reward model of few pairs, and policies that are optimised against it further and further.

The reward model is a table like the gold reward, or one that does not see the order of tokens,
learnt from labels with the loss of training (`bradley_terry`). Policy gradients (`rloo`) then learn
from samples that it scores. What the gold reward says of them on the way is exact, and so are the
proxy's reward and the KL to the start.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rljax.comparison.preferences.draws import Rows, labelled_sides
from rljax.comparison.preferences.task import (
    PROMPTS,
    SYMBOLS,
    Problem,
    best,
    expected,
    kl_to,
    sample,
    token_logprobs,
    token_mask,
    token_values,
)
from rljax.objectives.parts import apply
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.registry import resolve_objective
from rljax.training.learner.compare import compare_samples

PROXY_UPDATES, PROXY_RATE = 300, 0.03
STEPS, EVERY, RATE, SAMPLES = 600, 20, 0.05, 16  # of the policy; samples of each prompt and step


class Curve(NamedTuple):
    """A policy on its way, K points, the start first; shares are 0 at the start, 1 at the best."""

    kl: np.ndarray  # [K], nats of a completion
    proxy: np.ndarray  # [K], share of the proxy's reward
    gold: np.ndarray  # [K], share of the gold reward


def fit_proxy(rows: Rows, *, sees_order: bool) -> Array:
    """The reward model of labelled pairs: [X, V + 1, V + 1].

    Args:
        rows: of one seed.
        sees_order: a token's reward depends on the token before it, as that of the gold reward
            does; without, the model knows which tokens a completion has and nothing of their order.
    """
    objective = resolve_objective("bradley_terry", {})
    prompts = rows.prompts[:, None, None]
    sides = labelled_sides(rows)

    def whole(table: Array) -> Array:
        return jnp.broadcast_to(table, (PROMPTS, SYMBOLS + 1, SYMBOLS + 1))

    def loss(table: Array) -> Array:
        scores = token_values(whole(table), prompts, sides).sum(axis=-1).reshape(-1, 2)
        arrays = {"chosen_scores": scores[:, 0], "rejected_scores": scores[:, 1]}
        return apply(objective.part("reward_loss"), arrays)[0].mean()

    adam = optax.adam(PROXY_RATE)

    def update(carry: tuple[Array, optax.OptState], _: None) -> tuple:
        table, state = carry
        step, state = adam.update(jax.grad(loss)(table), state)
        return (table + step, state), None

    zero = jnp.zeros((PROMPTS, SYMBOLS + 1 if sees_order else 1, SYMBOLS + 1))
    (table, _), _ = jax.lax.scan(update, (zero, adam.init(zero)), None, PROXY_UPDATES)
    return whole(table)


def optimised(kl_weight: float) -> Callable[[Array, Problem, Array], Array]:
    """Training of one policy against a proxy.

    Args:
        kl_weight: factor of a KL to the start, in the loss; 0 for none.

    Returns:
        (key, problem, proxy) -> logits [K, X, V + 1, V + 1] after every `EVERY` steps, the start
        first.
    """
    changed = dict(kl_placement="loss", kl_estimator="k3", kl_weight=kl_weight)
    objective = resolve_objective("rloo", changed if kl_weight else {})

    def loss(logits: Array, key: Array, problem: Problem, proxy: Array) -> Array:
        prompts = jnp.repeat(jnp.arange(PROMPTS), SAMPLES)
        tokens = sample(key, jax.lax.stop_gradient(logits), prompts)
        logprobs = token_logprobs(logits, prompts, tokens)
        scores = token_values(proxy, prompts, tokens).sum(axis=-1)
        fixed = jax.lax.stop_gradient(logprobs)
        arrays = {
            "mask": token_mask(tokens),
            "group_ids": prompts,
            "scores": scores,
            "correct": scores > 0,
            "finished": jnp.ones_like(prompts, bool),
            "behavior_logprobs": fixed,
            "old_logprobs": fixed,
            "ref_logprobs": token_logprobs(problem.start, prompts, tokens),
        }
        known = compare_samples(objective, arrays).trained | {"logprobs": logprobs}
        each, _ = policy_gradient_loss(
            known,
            ratio=objective.part("ratio"),
            surrogate=objective.part("surrogate"),
            kl=objective.kl if kl_weight else None,
            kl_weight=kl_weight,
        )
        return (objective.part("aggregation")(known["mask"]) * each).sum()

    adam = optax.adam(RATE)

    def run(key: Array, problem: Problem, proxy: Array) -> Array:
        def update(carry: tuple[Array, optax.OptState], key: Array) -> tuple:
            logits, state = carry
            step, state = adam.update(jax.grad(loss)(logits, key, problem, proxy), state)
            return (logits + step, state), None

        def point(carry: tuple[Array, optax.OptState], keys: Array) -> tuple:
            carry, _ = jax.lax.scan(update, carry, keys)
            return carry, carry[0]

        keys = jax.random.split(key, (STEPS // EVERY, EVERY))
        start = (problem.start, adam.init(problem.start))
        _, logits = jax.lax.scan(point, start, keys)
        return jnp.concatenate([problem.start[None], logits])

    return run


def curve_of(problem: Problem, proxy: Array, logits: Array) -> tuple[Array, Array, Array]:
    """The `Curve` of policies [K, X, V + 1, V + 1]."""

    def share(table: Array) -> Array:
        low = expected(problem.start, table).mean()
        values = jax.vmap(lambda one: expected(one, table).mean())(logits)
        return (values - low) / (best(table).mean() - low)

    kl = jax.vmap(lambda one: kl_to(one, problem.start).mean())(logits)
    return kl, share(proxy), share(problem.gold)


def gold_at(curve: Curve, kl: float) -> float:
    """The gold reward where the curve first reaches a KL, on the line between two points.

    That of its end where it does not get there.
    """
    beyond = np.flatnonzero(curve.kl >= kl)
    if not len(beyond):
        return float(curve.gold[-1])
    last = int(beyond[0])
    if last == 0:
        return float(curve.gold[0])
    return float(np.interp(kl, curve.kl[last - 1 : last + 1], curve.gold[last - 1 : last + 1]))
