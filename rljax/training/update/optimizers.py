"""Optimizers and schedules by name, from optax.

Each builder's keyword-only arguments are its config fields (config.<stage>.optimizer). Two of
optax's own are left out on purpose: `adan` and `contrib.galore` do not compute what their papers
say.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rljax.config.stage import Stage
from rljax.errors import unknown_name
from rljax.models.network import Params
from rljax.objectives.parts import fields_of


def adamw(
    learning_rate: optax.Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    moment_dtype: str = "float32",
) -> optax.GradientTransformation:
    """AdamW (arXiv:1711.05101); the decay is multiplied by the learning rate.

    Norms and biases are not decayed. The first moment may be bfloat16; the second, whose changes
    are too small for it, is float32.
    """
    return optax.adamw(
        learning_rate,
        b1=b1,
        b2=b2,
        eps=epsilon,
        weight_decay=weight_decay,
        mask=decayed,
        mu_dtype=moment_dtype,
    )


def lion(
    learning_rate: optax.Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 0.0,
    moment_dtype: str = "float32",
) -> optax.GradientTransformation:
    """Lion (arXiv:2302.06675); no decay unless asked for, as the authors' code."""
    return optax.lion(
        learning_rate,
        b1=b1,
        b2=b2,
        weight_decay=weight_decay,
        mask=decayed,
        mu_dtype=moment_dtype,
    )


def rmsprop(
    learning_rate: optax.Schedule, *, decay: float = 0.99, epsilon: float = 1e-8
) -> optax.GradientTransformation:
    """RMSProp without momentum, as in the original DPO code: g / (sqrt(v) + epsilon)."""
    return optax.rmsprop(learning_rate, decay=decay, eps=epsilon, eps_in_sqrt=False)


def sgd(learning_rate: optax.Schedule, *, momentum: float = 0.0) -> optax.GradientTransformation:
    """Stochastic gradient descent with heavy-ball momentum."""
    return optax.sgd(learning_rate, momentum=momentum or None)


def constant(learning_rate: float, decay_steps: int) -> optax.Schedule:
    """The peak, throughout."""
    return optax.constant_schedule(learning_rate)


def linear(learning_rate: float, decay_steps: int, *, end_fraction: float = 0.0) -> optax.Schedule:
    """From the peak to `end_fraction` of it."""
    return optax.linear_schedule(learning_rate, end_fraction * learning_rate, decay_steps)


def cosine(learning_rate: float, decay_steps: int, *, end_fraction: float = 0.0) -> optax.Schedule:
    """Half a cosine from the peak to `end_fraction` of it (arXiv:1608.03983)."""
    return optax.cosine_decay_schedule(learning_rate, decay_steps, alpha=end_fraction)


OPTIMIZERS = {"adamw": adamw, "lion": lion, "rmsprop": rmsprop, "sgd": sgd}
SCHEDULES = {"constant": constant, "linear": linear, "cosine": cosine}


def decayed(params: Params) -> Params:
    """True for the parameters that weight decay acts on: all but the scales of norms and biases."""
    exempt = ("scale", "bias", "head_bias")
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in exempt, params)


def make_schedule(
    decay: Callable[[float, int], optax.Schedule],
    learning_rate: float,
    warmup_updates: int,
    updates: int,
) -> optax.Schedule:
    """Linear warm-up, then `decay` over the remaining updates of the stage.

    The first update already uses learning_rate / warmup_updates, not 0.
    """
    after = decay(learning_rate, max(1, updates - warmup_updates))
    if not warmup_updates:
        return after
    warmup = optax.linear_schedule(
        learning_rate / warmup_updates, learning_rate, max(1, warmup_updates - 1)
    )
    return optax.join_schedules([warmup, after], [warmup_updates])


def make_optimizer(
    transformation: optax.GradientTransformation, clip_norm: float
) -> optax.GradientTransformation:
    """Clips the global norm of the gradient (0: never), then applies the transformation."""
    if not clip_norm:
        return transformation
    return optax.chain(optax.clip_by_global_norm(clip_norm), transformation)


class Optimizer(NamedTuple):
    """An optax transformation that also knows its learning rate."""

    init: Callable
    update: Callable
    schedule: optax.Schedule

    def rate(self, state: Any) -> Array:
        """The learning rate of the next update, [] f32; `state` is the optimizer's."""
        (_, count), *_ = optax.tree.get_all_with_path(state, "count")  # all count the same
        return jnp.asarray(self.schedule(count), jnp.float32)


def build_critic_optimizer(stage: Stage) -> Optimizer:
    """The optimizer of a critic: the policy's with a learning rate and clip norm of its own."""
    own = {name: stage.critic[name] for name in ("learning_rate", "clip_norm")}
    stage = dataclasses.replace(stage, optimizer={**stage.optimizer, **own})
    return _build(stage, stage.steps * stage.batch.updates_per_step)


def build_optimizer(stage: Stage) -> Optimizer:
    """The optimizer of a stage's policy, checked.

    Its schedule ends with the stage; updates of the critic alone do not count.

    Raises:
        ValueError: unknown optimizer or schedule, or a field that neither of them reads.
    """
    alone = stage.critic.get("warmup_updates", 0)
    return _build(stage, stage.steps * stage.batch.updates_per_step - alone)


def _build(stage: Stage, updates: int) -> Optimizer:
    """An optimizer that makes so many updates."""
    where = f"config.{stage.name}.optimizer"
    settings = dict(stage.optimizer)
    common = {
        key: settings.pop(key)
        for key in ("name", "learning_rate", "schedule", "warmup_updates", "clip_norm")
    }
    for field, table in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
        if common[field] not in table:
            raise unknown_name(f"optimizer {field}", common[field], table, f"{where}.{field}")
    transformation, decay = OPTIMIZERS[common["name"]], SCHEDULES[common["schedule"]]
    read = {**fields_of(transformation), **fields_of(decay)}
    unread = sorted(set(settings) - set(read))
    if unread:
        raise ValueError(
            f"{where}.{unread[0]}={settings[unread[0]]!r} is never read by {common['name']!r} with "
            f"schedule {common['schedule']!r}; fields that are: {', '.join(sorted(read))} "
            f"({where})."
        )

    def pick(function: Callable) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name in fields_of(function)}

    schedule = make_schedule(
        functools.partial(decay, **pick(decay)),
        common["learning_rate"],
        common["warmup_updates"],
        updates,
    )
    built = make_optimizer(transformation(schedule, **pick(transformation)), common["clip_norm"])
    return Optimizer(built.init, built.update, schedule)
