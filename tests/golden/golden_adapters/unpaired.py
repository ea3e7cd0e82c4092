"""Unpaired losses of the slug dpo-family: TRL's KTO, APO-zero and BCO."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from golden_adapters.common import bools, floats
from rljax.objectives.sequences import sequence_logprobs
from rljax.objectives.unpaired import kl_estimate, running_mean, unpaired_loss
from rljax.registry import resolve_objective


def _loss(method, fields, logprobs, ref_logprobs, labels, **numbers):
    """Losses and metrics; as TRL adds up all slots, every slot counts here."""
    objective = resolve_objective(method, fields)
    mask = jnp.ones(logprobs.shape, bool)
    arrays = {
        "mask": mask,
        "logprobs": logprobs,
        "ref_sequence_logprobs": sequence_logprobs(ref_logprobs, mask),
        "labels": labels,
        **{name: jnp.full(labels.shape, value) for name, value in numbers.items()},
    }
    beta = objective.values["beta"]
    return unpaired_loss(arrays, link=objective.part("link"), beta=beta)


def labelled(case: dict) -> dict:
    args, labels = case["args"], bools(case, "label")
    method, fields, baseline = args["loss_type"], {"beta": args["beta"]}, jnp.zeros(())
    if method == "kto":
        fields |= {name: args[name] for name in ("desirable_weight", "undesirable_weight")}
        mask = bools(case, "KL_completion_mask")[:, 1:]
        policy, reference = (floats(case, f"{which}_KL_logps") for which in ("policy", "ref"))
        ratios = sequence_logprobs(policy - reference, mask)
        baseline = kl_estimate(ratios, mask.any(axis=-1))

    def total(logprobs):
        each, metrics = _loss(
            method, fields, logprobs, floats(case, "ref_logps"), labels, kl_baseline=baseline
        )
        return each.mean(), metrics

    (loss, metrics), gradient = jax.value_and_grad(total, has_aux=True)(
        floats(case, "policy_logps")
    )
    found = {"kl": baseline}
    sides = (("chosen", "desired", labels), ("rejected", "undesired", ~labels))
    for theirs, ours, there in sides:
        if there.any():
            found[f"rewards/{theirs}"] = metrics[f"reward_{ours}"].mean()
            found[f"logps/{theirs}"] = metrics[f"logprob_{ours}"].mean()
    if labels.any() and not labels.all():
        found["rewards/margins"] = found["rewards/chosen"] - found["rewards/rejected"]
    return {
        "loss": loss,
        "kl_baseline": baseline,
        "grad_policy_logps": gradient,
        "metrics": found,
    }


def bco_steps(case: dict) -> dict:
    """Several updates; what is expected of each stands among the inputs."""
    beta = case["args"]["beta"]
    total = count = shift = jnp.zeros(())
    for number, step in enumerate(case["inputs"]["steps"]):
        policy, reference = (
            jnp.asarray(step[f"{which}_chosen_logps"] + step[f"{which}_rejected_logps"])
            for which in ("policy", "ref")
        )
        labels = jnp.arange(len(policy)) < len(step["policy_chosen_logps"])
        rewards = beta * (policy - reference)
        total, count, shift = running_mean(total, count, rewards, jnp.ones(labels.shape, bool))
        run = functools.partial(
            _loss,
            "bco",
            {"beta": beta},
            ref_logprobs=reference[:, None],
            labels=labels,
            reward_shift=shift,
        )
        each, _ = run(policy[:, None])
        gradient = jax.grad(lambda x, run=run: run(x)[0].mean())(policy[:, None])[:, 0]
        found = {
            "out_per_example_loss": each,
            "out_delta": shift,
            "out_running_count": count,
            "out_grad_chosen": gradient[labels],
            "out_grad_rejected": gradient[~labels],
        }
        for name, value in found.items():
            np.testing.assert_allclose(value, step[name], rtol=1e-6, err_msg=f"{name}, {number}")
    return {"final_delta": shift}
