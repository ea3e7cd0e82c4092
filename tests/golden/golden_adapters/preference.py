"""Slugs dpo-family (TRL), tulu3-dpo (open-instruct) and the loss of genarm."""

import jax
import jax.numpy as jnp
from jax import Array

from golden_adapters.common import NotBuilt, bools, floats, lookup, part
from golden_adapters.unpaired import bco_steps, labelled
from rljax.objectives.preference import QUANTILE_LINKS
from rljax.objectives.sequences import sequence_logprobs
from rljax.objectives.supervised import nll
from rljax.objectives.unpaired import UNPAIRED_LINKS
from rljax.registry import resolve_objective
from rljax.training.families.preference import loss_of, whole_batch

TRL_METRICS = {
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "rewards/accuracies": "reward_accuracy",
    "rewards/margins": "reward_margin",
    "logps/chosen": "logprob_chosen",
    "logps/rejected": "logprob_rejected",
}


# TRL's loss types: the link, and whether it compares scores (else their log-ratios themselves).
TRL_LINKS = {
    "sigmoid": ("logistic", True),
    "sigmoid_norm": ("logistic_per_token", True),
    "hinge": ("hinge", True),
    "ipo": ("squared_per_token", True),
    "exo_pair": ("exo", True),
    "robust": ("robust", True),
    "discopop": ("discovered", True),
    "nca_pair": ("nca", False),
    "bco_pair": ("binary", False),
    "sppo_hard": ("squared_sides", False),
    "aot": ("aot", False),
    "aot_unpaired": ("aot_unpaired", False),
    "apo_zero": ("apo_zero", False),
    "apo_down": ("apo_down", False),
}
TRL_SCORES = {
    "reverse_kl": "log_ratio",
    "forward_kl": "forward_kl",
    "js_divergence": "jensen_shannon",
    "alpha_divergence": "alpha_divergence",
}
# TRL smooths the labels of these alone.
TRL_SMOOTHED = ("exo_pair", "robust", "aot", "aot_unpaired")


def _pair_losses(method, fields, mask, logprobs, ref_logprobs=None, **arrays):
    """Per-pair losses, rows 0 .. B-1 of the [2B, T] arrays being the chosen completions."""
    objective = resolve_objective(method, fields)
    mask, logprobs = _by_pair(mask), _by_pair(logprobs)
    usable = jnp.ones(len(mask), bool)
    chosen = jnp.maximum(mask[:, 0].sum(), 1) / len(mask)
    arrays |= {
        "mask": mask,
        "logprobs": logprobs,
        "usable": usable,
        "mean_chosen_length": jnp.full(usable.shape, chosen, float),
        # Before an update the policy is the one that learns.
        "current_logprobs": logprobs,
        "current_sequence_logprobs": sequence_logprobs(logprobs, mask),
    }
    if ref_logprobs is not None:
        reference = _by_pair(ref_logprobs)
        arrays["ref_sequence_logprobs"] = sequence_logprobs(reference, mask)
        arrays["ref_logprobs"] = reference
    return loss_of(objective)(arrays | whole_batch(objective, arrays))


def _by_pair(rows):
    """[2B, ...] -> [B, 2, ...]"""
    return jnp.stack(jnp.split(rows, 2), axis=1)


def _rewards(losses, pairs):
    """Rewards of both sides [B], from losses(rows): the mean over one pair is its own reward."""
    metrics = [losses(jnp.asarray([pair, pair + pairs]))[1] for pair in range(pairs)]
    sides = ("reward_chosen", "reward_rejected")
    return [jnp.stack([pair[side].mean() for pair in metrics]) for side in sides]


def _trl_fields(args: dict) -> dict:
    """The objective's fields of a list of TRL's loss types with their weights."""
    types = args["loss_type"]
    weights = args.get("loss_weights") or [1.0] * len(types)
    links = [pair for pair in zip(types, weights, strict=True) if pair[0] != "sft"]
    if not 1 <= len(links) <= 2 or not {name for name, _ in links} <= TRL_LINKS.keys():
        raise NotBuilt(f"loss types {types!r}")
    fields = {"beta": args["beta"]}
    for place, (name, weight) in zip(("link", "second"), links, strict=False):
        fields["link" if place == "link" else "second_link"] = TRL_LINKS[name][0]
        fields[f"{place}_weight"] = weight
    if "sft" in types:
        fields |= {"chosen_nll": "token_mean", "nll_weight": weights[types.index("sft")]}
    names = {name for name, _ in links}
    if names & set(TRL_SMOOTHED):
        fields["label_smoothing"] = args["label_smoothing"]
    if "discopop" in names:
        fields["blend_temperature"] = args["discopop_tau"]
    if args.get("use_weighting"):
        fields["pair_weight"] = "wpo"
    return fields | _trl_score(args, all(TRL_LINKS[name][1] for name in names))


def _trl_score(args: dict, compares: bool) -> dict:
    divergence = args.get("f_divergence_type", "reverse_kl")
    if args.get("ld_alpha") is not None:
        if divergence != "reverse_kl" or not compares:
            raise NotBuilt("ld_alpha with another divergence or link")
        return {"score": "length_desensitised", "tail_weight": args["ld_alpha"]}
    if not compares:  # TRL ignores the divergence there
        return {"score": "log_ratio"}
    score = {"score": lookup(TRL_SCORES, divergence, "divergence")}
    if divergence == "alpha_divergence":
        score["divergence_alpha"] = args["f_alpha_divergence_coef"]
    return score


def dpo_family(case: dict) -> dict:
    args = case["args"]
    kind = args.get("loss_type")
    if "steps" in case["inputs"]:
        return bco_steps(case)
    if "label" in case["inputs"] and kind in UNPAIRED_LINKS:
        return labelled(case)
    if isinstance(kind, list):
        return _trl_sft(case) if kind == ["sft"] else _trl_pairs(case)
    if "odds" in str(case["outputs"].keys()):
        return _orpo(case)
    if "logps_are" in args and kind in CPO_LINKS:
        return _reference_free(case)
    raise NotBuilt(f"loss type {kind!r}")


def _trl_pairs(case: dict) -> dict:
    """Losses of pairs with a reference.

    The files' log-probabilities are 0 outside the completions and TRL adds all of them up, so that
    its gradient there is that of the sum. Here the sum of what lies outside is moved to the first
    token of the completion.
    """
    fields, reference = _trl_fields(case["args"]), floats(case, "ref_logps")
    mask = bools(case, "completion_mask")[:, 1:]
    first = (jnp.cumsum(mask, axis=1) == 1) & mask
    more = {}
    if "log_sum_sq_probs" in case["inputs"]:
        more["current_log_collision"] = _by_pair(floats(case, "log_sum_sq_probs"))

    def total(logprobs, fields):
        outside = jnp.where(mask, 0.0, logprobs).sum(axis=1, keepdims=True)
        moved = jnp.where(mask, logprobs, 0.0) + first * outside
        each, metrics = _pair_losses("dpo", fields, mask, moved, reference, **more)
        return each.mean(), (each, metrics)

    logprobs = floats(case, "policy_logps")
    gradient = jax.value_and_grad(total, has_aux=True)
    (loss, (each, metrics)), inside = gradient(logprobs, fields)
    # TRL's "sft" knows of the mask.
    sums = {name: value for name, value in fields.items() if "nll" not in name}
    outside = gradient(logprobs, sums)[1]
    if fields["score"] == "length_desensitised":
        # What comes after a completion counts there as its last token does.
        last = jnp.cumsum(mask[:, ::-1], axis=1)[:, ::-1] == 1
        outside = jnp.where(mask.cumsum(axis=1) > 0, (inside * (last & mask)).sum(1)[:, None], 0)
        metrics = _desensitised_metrics(fields, mask, logprobs, reference)
    coupled = "nll_weight" in fields or fields["link"] in QUANTILE_LINKS
    return {
        "loss": loss,
        "per_pair_loss": None if coupled else each,
        "grad_policy_logps": jnp.where(mask, inside, outside),
        "metrics": _trl_metrics(metrics),
    }


def _desensitised_metrics(fields: dict, mask: Array, logprobs: Array, reference: Array) -> dict:
    """TRL's metrics of LD-DPO are those of sums that count long tails less."""
    ours = part("ld_dpo", "score", "length_desensitised", tail_weight=fields["tail_weight"])
    sums = [
        ours(_by_pair(mask), _by_pair(values), jnp.zeros_like(_by_pair(values))).T.reshape(-1, 1)
        for values in (logprobs, reference)
    ]
    beta = {"beta": fields["beta"]}
    return _pair_losses("dpo", beta, jnp.ones((len(mask), 1), bool), *sums)[1]


def _trl_metrics(metrics: dict) -> dict:
    return {theirs: metrics[ours].mean() for theirs, ours in TRL_METRICS.items()}


def _trl_sft(case: dict) -> dict:
    """TRL's "sft" alone: the mean over the chosen tokens of the batch, which couples the pairs."""
    logprobs, every = floats(case, "policy_logps"), bools(case, "completion_mask")[:, 1:]
    chosen = len(logprobs) // 2
    weights = part("sft", "aggregation", "token_mean")(every[:chosen])

    def total(logprobs):
        return jnp.sum(weights * nll(logprobs[:chosen], every[:chosen])[0])

    loss, gradient = jax.value_and_grad(total)(logprobs)
    fields = {"beta": case["args"]["beta"]}
    _, metrics = _pair_losses("dpo", fields, every, logprobs, floats(case, "ref_logps"))
    return {
        "loss": loss,
        "per_pair_loss": None,
        "grad_policy_logps": gradient,
        "metrics": _trl_metrics(metrics),
    }


CPO_LINKS = {"sigmoid": "logistic", "hinge": "hinge", "ipo": "squared", "simpo": "simpo"}


def _reference_free(case: dict) -> dict:
    """CPO, SimPO and AlphaPO. Sums or means are given: completions of one token."""
    args = case["args"]
    fields = {"beta": args["beta"]}
    if args["loss_type"] == "simpo":
        method = "alphapo" if args["alpha"] else "simpo"
        fields["target_margin"] = args["simpo_gamma"]
        if args["alpha"]:
            fields["alpha"] = args["alpha"]
    elif args["alpha"]:
        raise NotBuilt("AlphaPO's reward with a link of CPO")
    else:
        method = "cpo"
        fields |= {"link": CPO_LINKS[args["loss_type"]], "chosen_nll": "none"}
    if args["loss_type"] in ("sigmoid", "simpo"):
        fields["label_smoothing"] = args["label_smoothing"]
    sides = [floats(case, f"policy_{side}_logps") for side in ("chosen", "rejected")]
    rows = jnp.concatenate(sides)[:, None]
    return _of_sides(method, fields, rows)


def _of_sides(method: str, fields: dict, rows: Array) -> dict:
    """Losses, rewards and gradients of completions of one token, [2B, 1]."""

    def losses(rows):
        return _pair_losses(method, fields, jnp.ones(rows.shape, bool), rows)

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


def _orpo(case: dict) -> dict:
    """The term that ORPO adds to the likelihood; mean log-probabilities are given."""
    weight = case["args"]["beta"]
    fields = {"link_weight": weight, "chosen_nll": "none"}
    sides = [floats(case, f"policy_{side}_logps") for side in ("chosen", "rejected")]
    made = _of_sides("orpo", fields, jnp.concatenate(sides)[:, None])
    # Of -log sigmoid(x) the log odds x.
    plain = made["per_pair_loss"] / weight
    return {
        "per_pair_value": -made["per_pair_loss"],
        "or_loss_term": made["loss"],
        "mean_log_sigmoid": -made["loss"] / weight,
        "mean_log_odds": -jnp.log(jnp.expm1(plain)).mean(),
        "grad_chosen": made["grad_chosen"],
        "grad_rejected": made["grad_rejected"],
    }


def tulu3(case: dict) -> dict:
    args, inputs = case["args"], case["inputs"]
    if "labels" not in inputs:
        return _open_instruct_simpo(case)
    method = "dpo_norm" if args["average_log_prob"] else "dpo"
    # Column t scores label t + 1; the last column scores nothing.
    scored = jnp.asarray(inputs["labels"])[:, 1:] != -100
    mask = jnp.pad(scored, ((0, 0), (0, 1)))
    reference = floats(case, "ref_per_token_logps")
    settings = {"beta": args["beta"], "label_smoothing": args["label_smoothing"]}

    def losses(rows, logprobs):
        return _pair_losses(method, settings, mask[rows], logprobs[rows], reference[rows])

    logprobs = floats(case, "per_token_logps")
    everything = jnp.arange(len(logprobs))

    def total(logprobs):
        each, _ = losses(everything, logprobs)
        return each.mean(), each

    (loss, each), gradient = jax.value_and_grad(total, has_aux=True)(logprobs)
    chosen, rejected = _rewards(lambda rows: losses(rows, logprobs), len(each))
    # Its log-probabilities and rewards are those of a mean token then; ours are sums.
    lengths = jnp.maximum(mask.sum(axis=1), 1) if args["average_log_prob"] else jnp.ones(len(mask))
    chosen, rejected = chosen / lengths[: len(each)], rejected / lengths[len(each) :]
    return {
        "seq_logps": sequence_logprobs(logprobs, mask) / lengths,
        "ref_seq_logps": sequence_logprobs(reference, mask) / lengths,
        "per_pair_loss": each,
        "loss": loss,
        "chosen_rewards": chosen,
        "rejected_rewards": rejected,
        "grad_per_token_logps": gradient,
    }


def _open_instruct_simpo(case: dict) -> dict:
    args = case["args"]
    fields = {"beta": args["beta"], "target_margin": args["beta"] * args["gamma_beta_ratio"]}
    sides = [floats(case, f"{side}_avg_logps") for side in ("chosen", "rejected")]
    made = _of_sides("simpo", fields, jnp.concatenate(sides)[:, None])
    return {"per_pair_loss": made["per_pair_loss"]}


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
