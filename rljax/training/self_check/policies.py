"""Whether sampler, trainer and reference say the same of the same tokens, before any update."""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from rljax.models.config import ModelConfig
from rljax.training.update.rows import Rows, per_sample

# Log-probabilities of a batch: all are of tokens that were drawn or given.
LOGPROBS = ("old_logprobs", "behavior_logprobs", "ref_logprobs")

# How far a log-probability may be above 0 by rounding.
ABOVE_ZERO = 1e-3


def rounding(network: ModelConfig, sampler: Mapping[str, object]) -> float:
    """A bound for the mean difference of two programs' log-probabilities, in nats a token.

    They compute the same sums in another order: 1e-4 in float32 on a CPU, 0.05 where products are
    rounded to bfloat16 or TF32, 0.5 where the sampler has int8 weights or caches. Faults are
    larger: a forgotten temperature of 0.9 is 0.1 or more.

    Args:
        network: of the policy.
        sampler: config.sampler.
    """
    if "int8" in (sampler["weights"], sampler["cache"]):
        return 0.5
    exact = network.dtype == "float32" and not sampler["weights"]
    return 1e-4 if exact and jax.default_backend() == "cpu" else 0.05


def check_logprobs(batch: Rows, find_layer: Callable[[int], str | None]) -> None:
    """Every log-probability that a batch brings is finite and not above 0.

    Args:
        batch: of the first update.
        find_layer: sequence of the batch -> what is the first that is not finite.

    Raises:
        ValueError: naming array, sequence and token.
    """
    mask = per_sample(batch["mask"])
    for name in LOGPROBS:
        if name not in batch or batch[name].shape != batch["mask"].shape:
            continue
        values = per_sample(batch[name])
        wrong = mask & ~(np.isfinite(values) & (values <= ABOVE_ZERO))
        if name == "behavior_logprobs":  # of demonstrations, which nobody sampled, there is none
            wrong &= ~np.isnan(values)
        if not wrong.any():
            continue
        row, token = map(int, np.argwhere(wrong)[0])
        value = float(values[row, token])
        layer = None if np.isfinite(value) else find_layer(row)
        found = f": {layer}" if layer else ""
        raise ValueError(
            f"{name} of token {token} of sequence {row} of the first batch is {value}; a "
            f"log-probability is a finite number <= 0{found} (config.checks.logprobs)."
        )


def check_gap(batch: Rows, bound: float) -> None:
    """The trainer gives sampled tokens the log-probabilities that the sampler reported.

    Args:
        batch: of the first update; without `old_logprobs` there is nothing to compare.
        bound: mean difference that rounding explains, see `rounding`.

    Raises:
        ValueError: naming the sequence that differs most.
    """
    if not {"old_logprobs", "behavior_logprobs"} <= batch.keys():
        return
    mask = per_sample(batch["mask"])
    old, behavior = (per_sample(batch[name]) for name in ("old_logprobs", "behavior_logprobs"))
    gap = np.where(mask & np.isfinite(behavior), np.abs(old - behavior), 0.0)
    mean = gap.sum() / max(mask.sum(), 1)
    if mean <= bound:
        return
    worst = int(gap.sum(axis=1).argmax())
    token = int(gap[worst].argmax())
    raise ValueError(
        f"Sampler and trainer differ by {mean:.2g} nats a token, {bound:.2g} are rounding. Most in "
        f"sequence {worst} of the first batch, at token {token}: sampler "
        f"{behavior[worst, token]:.4f}, trainer {old[worst, token]:.4f} "
        "(config.checks.sampler_gap)."
    )


def check_first_update(
    numbers: Mapping[str, float], *, bound: float, fresh: bool, closed: float | None, at_start: bool
) -> None:
    """What the first update said of the policy that it started from.

    Args:
        numbers: of that update, by name.
        bound: see `rounding`.
        fresh: whether the policy itself has just sampled all tokens.
        closed: the loss that the objective has where reference and policy are one; None: unknown.
        at_start: whether the policy is still what the reference is.

    Raises:
        ValueError: for a ratio that is not 1, a loss that is not the closed form, a KL to itself.
    """
    for name in ("ratio_min", "ratio_max"):
        ratio = numbers.get(name, 1.0)
        if abs(np.log(ratio)) > 10 * bound + 0.01:
            raise ValueError(
                f"{name} of the first update is {ratio:.4g}: before any update the policy is the "
                "one that the step started from, and every ratio is 1 (config.checks.ratio)."
            )
    gap = numbers.get("sampler_trainer_gap", 0.0)
    if fresh and gap > bound:
        raise ValueError(
            f"Sampler and trainer differ by {gap:.2g} nats a token in the first update, "
            f"{bound:.2g} are rounding (config.checks.sampler_gap)."
        )
    if not at_start:
        return
    kl = numbers.get("kl_to_start", 0.0)
    if abs(kl) > bound:
        raise ValueError(
            f"kl_to_start of the first update is {kl:.4g}: the policy is still what the reference "
            "is, and it is 0 (config.checks.closed_form)."
        )
    loss = numbers.get("loss")
    # Squared losses are large where a loss of logarithms is of the order of 1.
    allowed = max(bound, 1e-3) * max(1.0, abs(closed or 0.0))
    if closed is not None and loss is not None and abs(loss - closed) > allowed:
        raise ValueError(
            f"The first loss is {loss:.6g}; where the policy is what the reference is it is "
            f"{closed:.6g} (config.checks.closed_form)."
        )
