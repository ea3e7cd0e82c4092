"""Slug tokenbuncher: likelihood with random other tokens, and an entropy loss."""

import jax
import jax.numpy as jnp

from golden_adapters.common import aggregation_weights, floats, lookup
from rljax.objectives.supervised import entropy_loss, token_noiser


def _token_mean(case: dict, loss_of) -> dict:
    """Labels are those of the next slot; the last slot predicts nothing."""
    labels = jnp.asarray(case["inputs"]["labels"])[:, 1:]
    mask = labels != case["args"].get("ignore_index", -100)
    weights = aggregation_weights(mask, "token_mean")

    def total(logits):
        return jnp.sum(weights * loss_of(logits[:, :-1], labels, mask)[0])

    loss, gradient = jax.value_and_grad(total)(floats(case, "logits"))
    return {"loss": loss, "grad_logits": gradient}


def _noiser(case: dict) -> dict:
    noise = floats(case, "uniform_noise")
    share = case["args"]["epsilon"]
    return _token_mean(
        case,
        lambda logits, labels, mask: token_noiser(
            logits, labels, mask, noise, noise_share=share, noise_weight="squared"
        ),
    )


def _entropy(case: dict) -> dict:
    return _token_mean(case, lambda logits, labels, mask: entropy_loss(logits, mask))


def tokenbuncher(case: dict) -> dict:
    functions = {"token_noiser": _noiser, "entropy_min_loss": _entropy}
    return lookup(functions, case["name"].split("/")[0], "function")(case)
