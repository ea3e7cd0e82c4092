"""Slugs async_areal, async_pipelinerl, async_prime_rl, llamarl_aipo: losses of lagging samplers."""

import functools

import jax
import jax.numpy as jnp

from golden_adapters.common import NotBuilt, aggregation_weights, bools, floats, lookup, part
from golden_adapters.policy_gradient import kl_part, surrogate_part
from rljax.objectives.advantages.signed import keep_sign
from rljax.objectives.corrections import CORRECTIONS, REJECTIONS, corrected, proximal_logprobs
from rljax.objectives.metrics import masked
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.selections import SELECTIONS
from rljax.objectives.supervised import nll
from rljax.objectives.surrogates import SURROGATES, clipped_tokens

# ------------------------------------------------------------------------------------------ AReaL

# Its kl_k1 is compared in log space, with bounds that are no ratios.
_STATISTICS = {"ratio": "ratio", "kl_k2": "k2", "kl_k3": "k3_reverse"}


def _areal_parts(rule: dict | None):
    """The correction and the rejection of AReaL's `rejection_sampling`."""
    if rule is None:
        return CORRECTIONS["none"], REJECTIONS["none"]
    geometric = rule["level"] == "sequence" and rule["metric"] == "ratio"
    level = "geometric" if geometric else "token"
    clamped = rule["action"] == "clamp"
    if clamped and rule["metric"] != "ratio":
        raise NotBuilt("weights clamped to bounds of a divergence")
    if rule["metric"] not in _STATISTICS:
        raise NotBuilt(f"rejection by {rule['metric']}")
    correction = functools.partial(
        CORRECTIONS["truncated"],
        correction_level=level,
        correction_cap=rule["upper"] if clamped else None,
        correction_floor=rule.get("lower") if clamped else None,
    )
    if clamped:
        return correction, REJECTIONS["none"]
    prefix = f"reject_{rule['level']}"
    fields = {
        f"{prefix}_statistic": _STATISTICS[rule["metric"]],
        f"{prefix}_low": rule.get("lower"),
        f"{prefix}_high": rule["upper"],
    }
    if rule["level"] == "sequence":
        fields[f"{prefix}_reduction"] = rule["agg"]
    option = {"token": "tokens", "sequence": "sequences"}[rule["level"]]
    return correction, functools.partial(REJECTIONS[option], **fields)


def _level(correction) -> str:
    """The `correction_level` that is bound."""
    return getattr(correction, "keywords", {}).get("correction_level", "none")


def _areal_loss(case: dict) -> dict:
    args, mask = case["args"], bools(case, "loss_mask")
    rule = args["rejection_sampling"]
    arrays = {
        "old_logprobs": floats(case, "proximal_logprobs"),
        "behavior_logprobs": floats(case, "old_logprobs"),
        "advantages": floats(case, "advantages"),
        "mask": mask,
    }
    correction, rejection = _areal_parts(rule)
    weights, kept, metrics = corrected(arrays, correction=correction, rejection=rejection)
    shares = aggregation_weights(mask, "token_mean")  # of the mask before the rejection
    high = args["eps_clip"] if args["eps_clip_higher"] is None else args["eps_clip_higher"]
    fields = dict(clip_low=args["eps_clip"], clip_high=high)
    surrogate = surrogate_part("clipped", **fields, dual_clip=args["c_clip"])
    if args["importance_sampling_level"] == "sequence" and _level(correction) == "token":
        raise NotBuilt("gradient of a row's ratio under weights that differ within the row")
    ratio = part("grpo", "ratio", args["importance_sampling_level"])
    seen = arrays | {"mask": kept, "correction": weights}

    def total(logprobs):
        loss, _ = policy_gradient_loss(
            seen | {"logprobs": logprobs}, ratio=ratio, surrogate=surrogate
        )
        return jnp.sum(shares * loss)

    logprobs = floats(case, "logprobs")
    loss, gradient = jax.value_and_grad(total)(logprobs)
    log_ratio = ratio(logprobs, arrays["old_logprobs"], kept)
    outputs = {
        "loss": loss,
        "grad_logprobs": gradient,
        "ratio": jnp.where(kept, jnp.exp(log_ratio), 0.0),
    }
    masks = _clip_masks(log_ratio, arrays["advantages"], kept, fields, args["c_clip"])
    outputs |= dict(zip(("clip_mask", "dual_clip_mask"), masks, strict=True))
    if rule is None:
        return outputs
    names = ("rejected_share", "correction_share_high", "correction_share_low")
    outside = [metrics[name].mean() for name in names if name in metrics]
    return outputs | {"behave_weight": weights, "kept": kept, "filtered_fraction": sum(outside)}


def _clip_masks(log_ratio, advantages, mask, fields: dict, dual_clip) -> tuple:
    """Tokens stopped by the clip range, and by the dual clip."""
    clipped = clipped_tokens(log_ratio, advantages, mask, **fields)
    if dual_clip is None:
        return clipped, jnp.zeros_like(mask)
    either = clipped_tokens(log_ratio, advantages, mask, **fields, dual_clip=dual_clip)
    return clipped, either & ~clipped


def areal(case: dict) -> dict:
    if "m2_threshold" in case["args"]:
        keep = functools.partial(
            SELECTIONS["second_moment"], second_moment_below=case["args"]["m2_threshold"]
        )
        mask = bools(case, "loss_mask")
        return {"mask": keep(mask, floats(case, "proximal_logprobs"), floats(case, "old_logprobs"))}
    if "current_version" in case["args"]:
        behavior = floats(case, "old_logprobs")
        names = {"loglinear": "log_linear", "linear": "linear", "rollout": "behavior"}
        return {
            theirs: proximal_logprobs(
                behavior,
                floats(case, "logprobs"),
                jnp.asarray(case["inputs"]["versions"]),
                case["args"]["current_version"],
                jnp.ones(behavior.shape, bool),
                interpolation=ours,
            )
            for theirs, ours in names.items()
        }
    return _areal_loss(case)


# --------------------------------------------------------------------------------------- prime-rl


def prime_rl(case: dict) -> dict:
    mask = bools(case, "loss_mask")[None]
    arrays = {
        "behavior_logprobs": floats(case, "inference_logprobs")[None],
        "ref_logprobs": floats(case, "ref_logprobs")[None],
        "advantages": floats(case, "advantages")[None],
        "mask": mask,
    }
    arrays["old_logprobs"] = arrays["behavior_logprobs"]  # config: denominator="behavior"
    weights = jnp.ones(mask.shape)
    if case["inputs"]["loss_weights"] is not None:
        weights = floats(case, "loss_weights")[None]
    if case["args"]["kind"] == "ce":

        def per_token(arrays):
            return nll(arrays["logprobs"], mask)

    else:
        per_token = functools.partial(
            policy_gradient_loss, ratio=part("grpo", "ratio", "token"), surrogate=_prime(case)
        )

    def total(logprobs):
        loss, metrics = per_token(arrays | {"logprobs": logprobs[None]})
        return jnp.sum(weights * loss), (metrics, loss)

    (loss, (metrics, losses)), gradient = jax.value_and_grad(total, has_aux=True)(
        floats(case, "trainer_logprobs")
    )
    return {
        "loss": loss,
        "grad_trainer_logprobs": gradient,
        "metrics": _prime_metrics(case, metrics, losses, mask),
    }


def _prime(case: dict):
    args = case["args"]
    if args["kind"] == "default":
        names = {
            "dppo_mask_low": "probability_low",
            "dppo_mask_high": "probability_high",
            "kl_tau": "mismatch_weight",
            "adv_tau": "policy_weight",
        }
        fields = {ours: args[theirs] for theirs, ours in names.items() if theirs in args}
        return functools.partial(SURROGATES["probability_gap"], **fields)
    options = {"ipo": "probability_gap_both", "ref_kl": "reference_distillation"}
    return SURROGATES[lookup(options, args["kind"], "loss")]


def _prime_metrics(case: dict, metrics: dict, losses, mask) -> dict:
    if case["args"]["kind"] == "ce":
        return {"nll": losses.sum() / mask.sum()}
    names = {
        "masked_mismatch_kl": "mismatch_kl_dropped",
        "unmasked_mismatch_kl": "mismatch_kl_kept",
        "is_masked": "dropped_share",
        "is_masked_low": "dropped_share_low",
        "is_masked_high": "dropped_share_high",
        "masked_advantage_positive": "dropped_positive_share",
        "masked_advantage_negative": "dropped_negative_share",
    }
    prefix = "ref_kl/" if case["args"]["kind"] == "ref_kl" else ""
    found = {
        prefix + theirs: metrics[ours].mean() for theirs, ours in names.items() if ours in metrics
    }
    # Theirs is the mean of log reference - log policy.
    return found | ({"ref_kl": -metrics["reference_kl"].mean()} if prefix else {})


# -------------------------------------------------------------------------- AIPO and PipelineRL


def _logprobs(logits, tokens):
    return jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], -1)[..., 0]


def _entropy(logits):
    logprobs = jax.nn.log_softmax(logits)
    return -(jnp.exp(logprobs) * logprobs).sum(-1)


def _weights(surrogate, log_ratio, logprobs):
    """The constant factors of A * logprobs: minus the slope of the loss at an advantage of 1."""
    ones = jnp.ones(logprobs.shape)

    def loss(x):
        return surrogate(log_ratio, x, ones, ones.astype(bool))[0].sum()

    return -jax.grad(loss)(logprobs)


def aipo(case: dict) -> dict:
    mask, tokens = bools(case, "mask"), jnp.asarray(case["inputs"]["target_ids"])
    arrays = {
        "old_logprobs": floats(case, "behaviour_logprobs"),  # config: denominator="behavior"
        "advantages": floats(case, "advantages"),
        "mask": mask,
    }
    shares = aggregation_weights(mask, "token_mean")
    ratio = part("grpo", "ratio", "token")

    def loss_and_gradient(surrogate):
        def total(logits):
            given = arrays | {"logprobs": _logprobs(logits, tokens)}
            loss, _ = policy_gradient_loss(given, ratio=ratio, surrogate=surrogate)
            return jnp.sum(shares * loss)

        return jax.value_and_grad(total)(floats(case, "logits"))

    capped = surrogate_part("cispo", clip_high=case["args"]["rho"] - 1.0)
    clamped = surrogate_part("cispo", clip_low=0.9, clip_high=9.0)
    logprobs = _logprobs(floats(case, "logits"), tokens)
    log_ratio = ratio(logprobs, arrays["old_logprobs"], jnp.ones(mask.shape, bool))
    names = ("loss", "grad_logits")
    loss, gradient = loss_and_gradient(capped)
    return {
        "reinforce_clamped_0p1_10": dict(zip(names, loss_and_gradient(clamped), strict=True)),
        "aipo": {
            "surrogate_loss": loss,
            "weights": _weights(capped, log_ratio, logprobs),
            "grad_logits": gradient,
        },
    }


def pipeline_rl(case: dict) -> dict:
    # Position t of everything but the logits belongs to token t, which logits[t - 1] predict.

    def after_first(name):
        return floats(case, name)[:, 1:]

    args, tokens = case["args"], jnp.asarray(case["inputs"]["input_ids"])[:, 1:]
    mask = sampled = jnp.asarray(case["inputs"]["labels"])[:, 1:] != -100
    advantages = after_first("advantages")
    if args["overlong_filtering"]:
        mask = part("grpo", "selection", "finished")(mask, ~bools(case, "overflow").any(axis=-1))
    if args["relu_log_p_weights"]:
        advantages = keep_sign(advantages, "positive")
    arrays = {
        "old_logprobs": after_first("old_logprobs"),  # config: denominator="behavior"
        "ref_logprobs": after_first("ref_logprobs"),
        "advantages": advantages,
        "mask": mask,
    }
    weights = jnp.full(mask.shape, 1.0 / args["batch_size"])
    if args["group_normalization"]:
        weights = 1.0 / after_first("group_tokens")
    ratio = part("grpo", "ratio", "token")
    fields = dict(clip_high=args["epsilon"])
    if args["policy_loss"] == "ppo":
        fields |= dict(clip_low=args["epsilon"])
    name = {"ppo": "clipped", "reinforce": "cispo"}[args["policy_loss"]]
    surrogate = surrogate_part(name, **fields)

    def total(logits):
        given = arrays | {
            "logprobs": _logprobs(logits[:, :-1], tokens),
            "entropy": _entropy(logits[:, :-1]),
        }
        loss, _ = policy_gradient_loss(
            given,
            ratio=ratio,
            surrogate=surrogate,
            kl=kl_part("k3") if args["kl_coef"] else None,
            kl_weight=args["kl_coef"],
            entropy_weight=args["entropy_bonus"],
        )
        return jnp.sum(weights * loss), given["logprobs"]

    (loss, logprobs), gradient = jax.value_and_grad(total, has_aux=True)(floats(case, "logits"))
    log_ratio = ratio(logprobs, arrays["old_logprobs"], sampled)
    ratios = jnp.exp(log_ratio)
    if args["policy_loss"] == "reinforce":
        ratios = _weights(surrogate, log_ratio, logprobs)
    return {
        "loss": loss,
        "grad_logits": gradient,
        "ratio_sum": masked(ratios, sampled).total,
        "ratio_sq_sum": masked(ratios**2, sampled).total,
    }
