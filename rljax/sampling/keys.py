"""Random keys by purpose and address: nothing depends on batch position, order or process."""

import enum

import jax
import jax.numpy as jnp
from jax import Array


class Purpose(enum.IntEnum):
    """Independent streams of one seed."""

    PARAMETERS = 0
    ROLLOUTS = 1
    HELDOUT_SAMPLES = 2
    PAIRS = 3
    ROUNDING = 4
    SELECTION = 5  # of tokens, by parts that choose at random
    POPULATION = 6  # what perturbs the members of a population
    LIKELIHOOD = 7  # masks of likelihood estimators that draw them


def purpose_key(seed: int, purpose: Purpose) -> Array:
    """The key of one stream of a run."""
    return jax.random.fold_in(jax.random.key(seed), int(purpose))


def row_keys(key: Array, step: Array | int, prompt_ids: Array, samples: int | Array) -> Array:
    """Keys for G samples of each of B prompts.

    Args:
        key: the key of a stream (`purpose_key`).
        step: [] i32, counted over the whole run, so that no two steps share noise.
        prompt_ids: [B] i32, the index of the prompt in its source.
        samples: [B, G] i32, the index of each sample; or G, for 0 .. G-1.

    Returns:
        [B * G] keys; row b * G + g belongs to sample g of prompt b.
    """
    step_key = jax.random.fold_in(key, step)
    if isinstance(samples, int):
        samples = jnp.broadcast_to(jnp.arange(samples), (len(prompt_ids), samples))

    def one_prompt(prompt_id: Array, samples: Array) -> Array:
        prompt_key = jax.random.fold_in(step_key, prompt_id)
        return jax.vmap(lambda g: jax.random.fold_in(prompt_key, g))(samples)

    return jax.vmap(one_prompt)(prompt_ids, samples).reshape(-1)
