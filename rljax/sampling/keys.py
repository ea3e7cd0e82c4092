"""Random keys by purpose and address: nothing depends on batch position, order or process."""

import enum

import jax
import jax.numpy as jnp
import numpy as np
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
    CURRICULUM = 8  # which problems come next
    PREFIXES = 9  # which samples have a prefix of another policy, and how long it is


def purpose_key(seed: int, purpose: Purpose) -> Array:
    """The key of one stream of a run."""
    return jax.random.fold_in(jax.random.key(seed), int(purpose))


def call_offsets(problems: int, prompts: int, calls: int) -> np.ndarray:
    """What is added to prompt ids in each call of a step, so that no two calls share noise.

    Ids of one call are below problems * prompts: the n-th repetition of a prompt counts as
    id + n * problems. Call c adds c * problems * prompts, as long as ids stay below 2**31. Later
    calls use the upper half of the 32 bits, closer together: B places in a row of a shuffled
    stream repeat a prompt B // problems + 1 times at most.

    Args:
        problems: in the source.
        prompts: B of a call.
        calls: of a step, at most.

    Returns:
        [calls] i32, to be added modulo 2**32; an id is read as 32 bits (`jax.random.fold_in`).

    Raises:
        ValueError: if 32 bits do not suffice.
    """
    stride = problems * prompts
    dense = problems * min(prompts, prompts // problems + 2)
    low = max(0, (2**31 - dense) // stride + 1)  # calls whose ids stay below 2**31
    if dense > 2**31 or (calls - low) * dense > 2**31:
        raise ValueError(
            f"{problems} problems with {prompts} prompts in each of {calls} rounds of a step need "
            "more than 32 bits to tell their noise apart: take fewer problems, or fewer rounds "
            "(config.data, config.<stage>.batch.prompts_per_step, "
            "config.<stage>.objective.filter_rounds, allocation_rounds)."
        )
    call = np.arange(calls, dtype=np.int64)
    offsets = np.where(call < low, call * stride, 2**31 + (call - low) * dense)
    return offsets.astype(np.uint32).view(np.int32)


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
