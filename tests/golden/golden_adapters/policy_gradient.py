"""What the adapters of policy-gradient slugs share: parts by name, the loss and its gradients."""

import jax
import jax.numpy as jnp

from golden_adapters.common import floats, part
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.registry import resolve_objective


def function_of(case: dict) -> str:
    return case.get("function", case["name"].split("/")[0]).split(" ")[0]


def advantage_part(name: str, **fields):
    return part("grpo", "advantage", name, **fields)


def surrogate_part(name: str, **fields):
    return part("grpo", "surrogate", name, **fields)


def kl_part(estimator: str):
    return resolve_objective("grpo", {"kl_estimator": estimator}).kl


def loss_and_gradients(case, advantages, mask, weights, *, ratio, surrogate, **settings):
    """The scalar that a training step minimises, its gradients and the metrics."""
    names = {"old_log_prob": "old_logprobs", "ref_log_prob": "ref_logprobs"}
    given = {
        ours: floats(case, theirs) for theirs, ours in names.items() if theirs in case["inputs"]
    }
    entropy = floats(case, "entropy") if settings.get("entropy_weight") else None
    given |= {"advantages": advantages, "mask": mask} | settings.pop("arrays", {})

    def total(logprobs, entropy):
        arrays = given | {"logprobs": logprobs}
        arrays |= {} if entropy is None else {"entropy": entropy}
        loss, metrics = policy_gradient_loss(
            arrays, ratio=part("grpo", "ratio", ratio), surrogate=surrogate, **settings
        )
        return jnp.sum(weights * loss), metrics

    argnums = 0 if entropy is None else (0, 1)
    (loss, metrics), gradients = jax.value_and_grad(total, argnums, has_aux=True)(
        floats(case, "log_prob"), entropy
    )
    if entropy is None:
        gradients = (gradients, None)
    return loss, gradients, metrics
