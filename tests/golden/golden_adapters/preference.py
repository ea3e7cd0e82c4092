"""Slugs dpo-family (TRL), tulu3-dpo (open-instruct) and the loss of genarm."""

import jax
import jax.numpy as jnp

from golden_adapters.common import NotBuilt, bools, floats, part
from rljax.objectives.preference import METRICS, preference_loss
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


def _pair_losses(method, fields, mask, logprobs, ref_logprobs=None):
    """Per-pair losses, rows 0 .. B-1 of the [2B, T] arrays being the chosen completions."""
    objective = resolve_objective(method, fields)
    arrays = {"mask": _by_pair(mask), "logprobs": _by_pair(logprobs)}
    if ref_logprobs is not None:
        arrays["ref_sequence_logprobs"] = _by_pair(sequence_logprobs(ref_logprobs, mask))
    return preference_loss(
        arrays,
        score=objective.part("score"),
        link=objective.part("link"),
        metrics=[objective.bind(metric) for metric in METRICS],
    )


def _by_pair(rows):
    """[2B, ...] -> [B, 2, ...]"""
    return jnp.stack(jnp.split(rows, 2), axis=1)


def _rewards(losses, pairs):
    """Rewards of both sides [B], from losses(rows): the mean over one pair is its own reward."""
    metrics = [losses(jnp.asarray([pair, pair + pairs]))[1] for pair in range(pairs)]
    sides = ("reward_chosen", "reward_rejected")
    return [jnp.stack([pair[side].mean() for pair in metrics]) for side in sides]


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
    if args.get("loss_type") == "simpo":
        return _simpo(case)
    if args.get("loss_type") not in (["sigmoid"], ["sft"]):
        raise NotBuilt(f"loss type {args.get('loss_type')!r}")
    _check_is_plain(args)
    reference = floats(case, "ref_logps")

    def pairs(logprobs):
        # The files' log-probabilities are 0 outside the completions and TRL adds all of them up:
        # its gradient does not know of the mask. It ignores label smoothing for this loss type.
        everything = jnp.ones(logprobs.shape, bool)
        losses, metrics = _pair_losses(
            "dpo", {"beta": args["beta"]}, everything, logprobs, reference
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


def _simpo(case: dict) -> dict:
    """Their log-probabilities are means already: completions of one token."""
    args = case["args"]
    if args["alpha"]:
        raise NotBuilt("a term of the likelihood of the chosen completion")
    fields = {
        "beta": args["beta"],
        "target_margin": args["simpo_gamma"],
        "label_smoothing": args["label_smoothing"],
    }
    sides = [floats(case, f"policy_{side}_logps") for side in ("chosen", "rejected")]
    rows = jnp.concatenate(sides)[:, None]

    def losses(rows):
        return _pair_losses("simpo", fields, jnp.ones(rows.shape, bool), rows)

    def total(rows):
        each, _ = losses(rows)
        return each.mean(), each

    (loss, each), gradient = jax.value_and_grad(total, has_aux=True)(rows)
    gradient = _by_pair(gradient[:, 0])
    chosen, rejected = _rewards(lambda index: losses(rows[index]), len(each))
    return {
        "per_pair_loss": each,
        "loss": loss,
        "chosen_rewards": chosen,
        "rejected_rewards": rejected,
        "grad_chosen": gradient[:, 0],
        "grad_rejected": gradient[:, 1],
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

    def losses(rows, logprobs):
        return _pair_losses("dpo", settings, mask[rows], logprobs[rows], reference[rows])

    logprobs = floats(case, "per_token_logps")
    everything = jnp.arange(len(logprobs))

    def total(logprobs):
        each, _ = losses(everything, logprobs)
        return each.mean(), each

    (loss, each), gradient = jax.value_and_grad(total, has_aux=True)(logprobs)
    chosen, rejected = _rewards(lambda rows: losses(rows, logprobs), len(each))
    return {
        "seq_logps": sequence_logprobs(logprobs, mask),
        "ref_seq_logps": sequence_logprobs(reference, mask),
        "per_pair_loss": each,
        "loss": loss,
        "chosen_rewards": chosen,
        "rejected_rewards": rejected,
        "grad_per_token_logps": gradient,
    }


def autoregressive_reward(case: dict) -> dict:
    args = case["args"]
    if args["loss_type"] != "sigmoid":
        raise NotBuilt(f"loss type {args['loss_type']!r}")
    fields = {
        "beta": args["beta"],
        "target_margin": args["gamma"],
        "label_smoothing": args["label_smoothing"],
    }
    # Sums are given: completions of one token.
    sides = [floats(case, f"{side}_sum_logp") for side in ("chosen", "rejected")]
    rows = jnp.concatenate(sides)[:, None]

    def losses(index):
        return _pair_losses("genarm", fields, jnp.ones((len(index), 1), bool), rows[index])

    pairs = len(sides[0])
    chosen, rejected = _rewards(losses, pairs)
    return {
        "loss": losses(jnp.arange(2 * pairs))[0],
        "chosen_reward": chosen,
        "rejected_reward": rejected,
    }
