"""Prompts and settings of the tests of masked-diffusion decoding."""

import jax.numpy as jnp
import numpy as np

from rljax.sampling.diffusion import (
    DiffusionConfig,
)
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests

KEY = purpose_key(0, Purpose.ROLLOUTS)
STEP = 4
LENGTHS = (1, 5, 3, 4)  # of four prompts
IDS = (40, 10, 30, 20)
MASK, STOPS, PAD = 12, (2, 9), 0


def config_of(**fields) -> DiffusionConfig:
    defaults = dict(
        samples_per_prompt=2,
        max_new_tokens=6,
        block_tokens=3,
        steps=4,
        mask_token=MASK,
        stop_tokens=STOPS,
        pad_token=PAD,
        temperature=1.0,
    )
    return DiffusionConfig(**{**defaults, **fields})


def requests_of(extra=0, **fields) -> Requests:
    """Prompt b depends on b only; padding holds any ids."""
    slots = max(LENGTHS) + extra
    tokens = np.random.default_rng(extra).integers(0, MASK, (len(LENGTHS), slots))
    mask = np.arange(slots) >= slots - np.array(LENGTHS)[:, None]
    for row, length in enumerate(LENGTHS):
        tokens[row, slots - length :] = np.random.default_rng(100 + row).integers(0, MASK, length)
    ids = jnp.array(IDS, jnp.int32)
    return Requests(jnp.asarray(tokens, jnp.int32), jnp.asarray(mask), ids, **fields)
