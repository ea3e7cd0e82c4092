"""Slugs dpo-family (TRL) and tulu3-dpo (open-instruct)."""

from functools import partial

import jax
import jax.numpy as jnp

from golden_adapters.common import NotBuilt, bools, floats, part
from rljax.objectives.preference import preference_loss
from rljax.objectives.sequences import sequence_logprobs
from rljax.objectives.supervised import nll
from rljax.registry import resolve_objective

TRL_METRICS = {
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "rewards/accuracies": "reward_accuracy",
    "rewards/margins": "reward_margin",
    "logps/chosen": "logprob_chosen",
    "logps/rejected": "logprob_rejected",
}


def _pair_losses(logprobs, ref_logprobs, mask, *, beta, label_smoothing):
    """Per-pair losses, rows 0 .. B-1 of the [2B, T] arrays being the chosen completions."""
    fields = {"beta": beta, "label_smoothing": label_smoothing}
    objective = resolve_objective("dpo", fields)
    policy = jnp.split(sequence_logprobs(logprobs, mask), 2)
    reference = jnp.split(sequence_logprobs(ref_logprobs, mask), 2)
    return preference_loss(
        *policy,
        *reference,
        score=objective.part("score"),
        # The loss hands beta to the link itself.
        link=partial(objective.part("link").func, label_smoothing=label_smoothing),
        beta=beta,
    )


def _check_is_plain(args: dict) -> None:
    for name, plain in {
        "f_divergence_type": "reverse_kl",
        "ld_alpha": None,
        "use_weighting": False,
        "loss_weights": None,
    }.items():
        if args.get(name, plain) != plain:
            raise NotBuilt(f"{name} {args[name]!r}")


def dpo_family(case: dict) -> dict:
    args = case["args"]
    if args.get("loss_type") not in (["sigmoid"], ["sft"]):
        raise NotBuilt(f"loss type {args.get('loss_type')!r}")
    _check_is_plain(args)
    reference = floats(case, "ref_logps")

    def pairs(logprobs):
        # The files' log-probabilities are 0 outside the completions and TRL adds all of them up:
        # its gradient does not know of the mask. It ignores label smoothing for this loss type.
        everything = jnp.ones(logprobs.shape, bool)
        losses, metrics = _pair_losses(
            logprobs, reference, everything, beta=args["beta"], label_smoothing=0.0
        )
        return losses.mean(), (losses, metrics)

    def supervised(logprobs):
        # TRL's "sft": the mean over the chosen tokens of the batch, which couples the pairs.
        chosen = len(logprobs) // 2
        mask = bools(case, "completion_mask")[:chosen, 1:]
        weights = part("sft", "aggregation", "token_mean")(mask)
        return jnp.sum(weights * nll(logprobs[:chosen], mask)[0]), (None, pairs(logprobs)[1][1])

    function = pairs if args["loss_type"] == ["sigmoid"] else supervised
    (loss, (each, metrics)), gradient = jax.value_and_grad(function, has_aux=True)(
        floats(case, "policy_logps")
    )
    return {
        "loss": loss,
        "per_pair_loss": each,
        "grad_policy_logps": gradient,
        "metrics": {theirs: metrics[ours].mean() for theirs, ours in TRL_METRICS.items()},
    }


def tulu3(case: dict) -> dict:
    args, inputs = case["args"], case["inputs"]
    if args.get("average_log_prob", True) or "labels" not in inputs:
        raise NotBuilt("a score normalised by length")
    # Column t scores label t + 1; the last column scores nothing.
    scored = jnp.asarray(inputs["labels"])[:, 1:] != -100
    mask = jnp.pad(scored, ((0, 0), (0, 1)))
    reference = floats(case, "ref_per_token_logps")
    settings = {"beta": args["beta"], "label_smoothing": args["label_smoothing"]}

    def total(logprobs):
        losses, _ = _pair_losses(logprobs, reference, mask, **settings)
        return losses.mean(), losses

    logprobs = floats(case, "per_token_logps")
    (loss, losses), gradient = jax.value_and_grad(total, has_aux=True)(logprobs)

    def rewards(pair):
        # One pair at a time: the mean over one pair is its own reward.
        rows = jnp.asarray([pair, pair + len(losses)])
        metrics = _pair_losses(logprobs[rows], reference[rows], mask[rows], **settings)[1]
        return metrics["reward_chosen"].mean(), metrics["reward_rejected"].mean()

    chosen, rejected = zip(*[rewards(pair) for pair in range(len(losses))], strict=True)
    return {
        "seq_logps": sequence_logprobs(logprobs, mask),
        "ref_seq_logps": sequence_logprobs(reference, mask),
        "per_pair_loss": losses,
        "loss": loss,
        "chosen_rewards": jnp.stack(chosen),
        "rejected_rewards": jnp.stack(rejected),
        "grad_per_token_logps": gradient,
    }
