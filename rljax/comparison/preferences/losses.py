"""The losses of training on rows of this problem, by the functions that training uses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.comparison.preferences.draws import Rows, labelled_sides, majority_swapped
from rljax.comparison.preferences.task import token_logprobs, token_mask
from rljax.objectives.arrays import PREFERENCE_ARRAYS, UNPAIRED_ARRAYS
from rljax.objectives.unpaired import kl_estimate, step_sums, unpaired_loss
from rljax.registry import Objective
from rljax.training.families.preference import loss_of, whole_batch

# (logits, start, rows) -> the loss.
Loss = Callable[[Array, Array, Rows], Array]


def loss_for(objective: Objective) -> Loss:
    """The loss of a method: of pairs, of two groups or of labelled completions.

    Args:
        objective: of the preference or the unpaired family.
    """
    if objective.family == "unpaired":
        return _unpaired(objective)
    grouped = objective.choices["group_estimator"] != "none"
    sides = grouped_completions if grouped else paired_completions

    def loss(logits: Array, start: Array, rows: Rows) -> Array:
        prompts, tokens, chosen = sides(rows)
        arrays = _known(logits, start, prompts[:, None], tokens)
        mask = arrays["mask"]
        arrays |= {
            "chosen_sides": chosen,
            "present": jnp.ones_like(chosen),
            "usable": jnp.ones(len(mask), bool),
            "mean_chosen_length": jnp.full(
                len(mask), (mask & chosen[..., None]).sum() / len(mask), jnp.float32
            ),
        }
        read = {name: array for name, array in arrays.items() if name in PREFERENCE_ARRAYS}
        return loss_of(objective)(read | whole_batch(objective, read))[0].mean()

    return loss


def paired_completions(rows: Rows) -> tuple[Array, Array, Array]:
    """Prompts [B], completions [B, 2, T] and which side is chosen [B, 2], the first; B = N k."""
    tokens = labelled_sides(rows)
    flat = tokens.reshape(-1, *tokens.shape[2:])
    prompts = jnp.repeat(rows.prompts, tokens.shape[1])
    return prompts, flat, jnp.broadcast_to(jnp.arange(2) == 0, flat.shape[:2])


def grouped_completions(rows: Rows) -> tuple[Array, Array, Array]:
    """Prompts [N], completions [N, 2 k, T] and which are of the preferred group [N, 2 k]."""
    count, pairs, sides, slots = rows.tokens.shape
    tokens = jnp.moveaxis(rows.tokens, 2, 1).reshape(count, sides * pairs, slots)
    first = jnp.repeat(jnp.arange(sides) == 0, pairs)
    return rows.prompts, tokens, first ^ majority_swapped(rows)[:, None]


def labelled_completions(rows: Rows) -> dict[str, Array]:
    """Completions with a label each, and one for each token; all preferred ones come first.

    Returns:
        `prompts` [M] i32, `tokens` [M, T] i32, `labels` [M] bool, `step_labels` [M, T] bool, of
        M = 2 N k completions. Neighbours are of other rows of pairs.
    """
    pairs = rows.tokens.shape[1]
    swap = rows.swapped[..., None, None]
    steps = jnp.where(swap, rows.right_steps[:, :, ::-1], rows.right_steps)

    def by_side(array: Array) -> Array:
        return jnp.moveaxis(array, 2, 0).swapaxes(1, 2).reshape(-1, array.shape[-1])

    tokens = by_side(labelled_sides(rows))
    half = len(tokens) // 2
    return {
        "prompts": jnp.tile(rows.prompts, 2 * pairs),
        "tokens": tokens,
        "labels": jnp.arange(2 * half) < half,
        "step_labels": by_side(steps),
    }


def _unpaired(objective: Objective) -> Loss:
    def loss(logits: Array, start: Array, rows: Rows) -> Array:
        said = labelled_completions(rows)
        prompts, tokens = said["prompts"], said["tokens"]
        arrays = _known(logits, start, prompts, tokens) | said
        mask = arrays["mask"]
        # Each completion behind the prompt of the one after it, as in training.
        others = _known(logits, start, jnp.roll(prompts, -1), tokens)
        ratios = others["logprobs"] - others["ref_logprobs"]
        ids = jnp.where(mask, jnp.arange(mask.shape[1]), -1)
        baselines = {
            "kl_baseline": kl_estimate(ratios.sum(axis=-1), mask.any(axis=-1)),
            "step_baseline": kl_estimate(step_sums(ratios, ids), mask),
        }
        arrays |= {
            name: jnp.broadcast_to(jax.lax.stop_gradient(value), len(mask))
            for name, value in baselines.items()
        }
        # A token is a step.
        arrays |= {"step_ids": ids, "step_counted": mask, "labelled": jnp.ones(len(mask), bool)}
        read = {name: array for name, array in arrays.items() if name in UNPAIRED_ARRAYS}
        link, beta = objective.part("link"), objective.values["beta"]
        return unpaired_loss(read, link=link, beta=beta)[0].mean()

    return loss


def _known(logits: Array, start: Array, prompts: Array, tokens: Array) -> dict[str, Array]:
    """What is known of the tokens under the policy and under its start."""
    prompts = jnp.broadcast_to(prompts, tokens.shape[:-1])
    reference = token_logprobs(start, prompts, tokens)
    return {
        "mask": token_mask(tokens),
        "logprobs": token_logprobs(logits, prompts, tokens),
        "ref_logprobs": reference,
        "ref_sequence_logprobs": reference.sum(axis=-1),
    }
