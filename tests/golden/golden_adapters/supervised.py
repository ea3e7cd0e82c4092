"""The plain negative log-likelihood in slugs hpt and sft-variants."""

import jax
import jax.numpy as jnp

from golden_adapters.common import NotBuilt, bools, floats
from rljax.objectives.supervised import nll
from rljax.registry import resolve_objective


def _token_mean(logprobs, mask):
    weigh = resolve_objective("sft", {}).part("aggregation")
    return jnp.sum(weigh(mask) * nll(logprobs, mask)[0])


def hpt(case: dict) -> dict:
    if case.get("function") != "compute_sft_pure_loss":
        raise NotBuilt(case.get("function", case["name"]))
    mask = bools(case, "mask")
    loss, gradient = jax.value_and_grad(_token_mean)(floats(case, "log_prob"), mask)
    return {"loss": loss, "grad_log_prob": gradient}


def sft_variants(case: dict) -> dict:
    args = case["args"]
    if args.get("mode") != "sft":
        raise NotBuilt(f"mode {args.get('mode')!r}")
    labels = jnp.asarray(case["inputs"]["labels"])[:, 1:]
    mask = labels != args["ignore_index"]

    def total(logits):
        logprobs = jax.nn.log_softmax(logits[:, :-1])
        taken = jnp.take_along_axis(logprobs, jnp.where(mask, labels, 0)[..., None], axis=-1)
        return _token_mean(taken[..., 0], mask)

    loss, gradient = jax.value_and_grad(total)(floats(case, "logits"))
    return {"loss": loss, "grad_logits": gradient}
