"""Masked-diffusion decoding as published code does it, to be timed beside the sampler.

LLaDA's generate.py (arXiv:2502.09992): one call a step from the host; each predicts all slots of
the canvas, the prompt's too, draws for all of them, and keeps the most confident draws of a block.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.network import Network, Params
from rljax.sampling.diffusion import num_transfer
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.distribution import EXCLUDED, take


def plain_diffusion_sampler(
    network: Network, config: DiffusionConfig
) -> Callable[[Params, Array, Array], Array]:
    """fill(params, prompts [N, P] i32 without padding, key) -> tokens [N, T] i32.

    With temperature 0 they are the sampler's. Stop tokens end nothing.
    """

    @jax.jit
    def step(params: Params, canvas: Array, key: Array, start: Array, count: Array) -> Array:
        model, slots = network.bind(params), jnp.arange(canvas.shape[1])
        places = jnp.broadcast_to(slots, canvas.shape)
        logits = model.logits(model(canvas, places, jnp.ones_like(canvas)).hidden)
        logits = logits.astype(jnp.float32).at[..., config.mask_token].set(EXCLUDED)
        noise = jax.random.gumbel(key, logits.shape, mode="high")
        tokens = jnp.argmax(logits + config.temperature * noise, axis=-1).astype(jnp.int32)
        confidence = take(jax.nn.log_softmax(logits, axis=-1), tokens)
        in_block = (start <= slots) & (slots < start + config.block_tokens)
        is_open = (canvas == config.mask_token) & in_block
        order = jnp.argsort(jnp.where(is_open, -confidence, jnp.inf), axis=-1, stable=True)
        chosen = jnp.argsort(order, axis=-1) < count
        return jnp.where(chosen & is_open, tokens, canvas)

    counts = num_transfer(jnp.int32(config.block_tokens), config.steps_per_block)

    def fill(params: Params, prompts: Array, key: Array) -> Array:
        shape = (len(prompts), config.max_new_tokens)
        canvas = jnp.concatenate([prompts, jnp.full(shape, config.mask_token, jnp.int32)], axis=1)
        for block in range(config.blocks):
            start = prompts.shape[1] + block * config.block_tokens
            for number in range(config.steps_per_block):
                of_step = jax.random.fold_in(key, block * config.steps_per_block + number)
                canvas = step(params, canvas, of_step, start, counts[number])
        return canvas[:, prompts.shape[1] :]

    return fill
