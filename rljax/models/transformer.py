"""The decoder trunk: one code path for training, prefill and decode.

What differs between the three is only what a layer's queries attend to and whether keys and values
are kept; both are in the small `attend` functions below.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from rljax.models.config import ModelConfig
from rljax.models.layers import Block, RMSNorm, make_param
from rljax.parallel.rules import constrain


class KVCache(NamedTuple):
    """Keys and values of every layer. Slot c of row n is seen only where `valid[n, c]`."""

    keys: Array  # [L, N, K, C, h]
    values: Array  # [L, N, K, C, h]
    valid: Array  # [N, C] bool

    @classmethod
    def empty(cls, config: ModelConfig, rows: int, slots: int) -> "KVCache":
        """A cache without any valid slot."""
        shape = (config.layers, rows, config.kv_heads, slots, config.head_dim)
        zeros = jnp.zeros(shape, config.compute_dtype)
        return cls(zeros, zeros, jnp.zeros((rows, slots), bool))


def attention_mask(segment_ids: Array) -> Array:
    """[N, S] i32 -> [N, 1, S, S] bool: causal, within a segment, never to padding (segment 0).

    Segments 1 1 2 2 0 give the rows 1.... / 11... / ..1.. / ..11. / .....
    """
    steps = jnp.arange(segment_ids.shape[1])
    causal = steps[:, None] >= steps[None, :]
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    return (causal & same & (segment_ids[:, None, :] > 0))[:, None]


def attend(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """Grouped-query attention: q [N,S,H,h], k and v [N,C,K,h], mask [N,1,S,C]; float32 softmax."""
    return jax.nn.dot_product_attention(q, k, v, mask=mask)


def attend_one(q: Array, keys: Array, values: Array, valid: Array) -> Array:
    """As `attend` for one query a row, on the cache's layout: q [N,1,H,h], keys [N,K,C,h]."""
    rows, _, heads, size = q.shape
    q = q.reshape(rows, keys.shape[1], -1, size)
    scores = jnp.einsum("nkgh,nkch->nkgc", q, keys, preferred_element_type=jnp.float32)
    scores = jnp.where(valid[:, None, None], scores * size**-0.5, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("nkgc,nkch->nkgh", weights, values).reshape(rows, 1, heads, size)


class Transformer(nnx.Module):
    """Decoder transformer with a language-model head."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        vocab, width = config.padded_vocab_size, config.width
        self.embedding = make_param(rngs, (vocab, width), ("vocab", "embed"), width**-0.5, config)
        self.blocks = Block(config, layers=config.layers, rngs=rngs)
        self.final_norm = RMSNorm(config)
        if not config.tied_embeddings:
            self.output = make_param(rngs, (width, vocab), ("embed", "vocab"), width**-0.5, config)

    def __call__(self, tokens: Array, positions: Array, segment_ids: Array) -> Array:
        """Final hidden states of whole rows.

        Args:
            tokens: [N, S] i32.
            positions: [N, S] i32, counted from 0 in each segment.
            segment_ids: [N, S] i32; a token sees the earlier ones of its own segment; 0 is padding.

        Returns:
            [N, S, D] normed hidden states in the compute dtype.
        """
        mask = attention_mask(segment_ids)

        def layer(block: Block, x: Array, index: Array, cache: None) -> tuple[Array, None]:
            return block(x, positions, lambda q, k, v: attend(q, k, v, mask)), cache

        return self._trunk(tokens, layer, None)[0]

    def prefill(
        self, tokens: Array, positions: Array, segment_ids: Array, cache: KVCache
    ) -> tuple[Array, KVCache]:
        """As `__call__`, and writes the keys and values into slots 0..S-1 of the cache."""
        mask = attention_mask(segment_ids)
        valid = jax.lax.dynamic_update_slice(cache.valid, segment_ids > 0, (0, 0))

        def layer(block: Block, x: Array, index: Array, cache: KVCache) -> tuple[Array, KVCache]:
            def keep_and_attend(q: Array, k: Array, v: Array) -> Array:
                nonlocal cache
                cache = _write(cache, index, 0, k, v)
                return attend(q, k, v, mask)

            return block(x, positions, keep_and_attend), cache

        return self._trunk(tokens, layer, cache._replace(valid=valid))

    def decode(
        self, tokens: Array, positions: Array, slot: Array, cache: KVCache
    ) -> tuple[Array, KVCache]:
        """One more token for every row, written to `slot` of the cache.

        Args:
            tokens: [N] i32.
            positions: [N] i32, position of the token in its own sequence.
            slot: [] i32, the same for all rows.
            cache: holds everything before.

        Returns:
            [N, D] normed hidden states and the updated cache.
        """
        valid = cache.valid.at[:, slot].set(True)

        def layer(block: Block, x: Array, index: Array, cache: KVCache) -> tuple[Array, KVCache]:
            def keep_and_attend(q: Array, k: Array, v: Array) -> Array:
                nonlocal cache
                cache = _write(cache, index, slot, k, v)
                return attend_one(q, cache.keys[index], cache.values[index], valid)

            return block(x, positions[:, None], keep_and_attend), cache

        hidden, cache = self._trunk(tokens[:, None], layer, cache._replace(valid=valid))
        return hidden[:, 0], cache

    def logits(self, hidden: Array) -> Array:
        """[..., D] -> [..., V] float32 logits."""
        weights = self.embedding[...].T if self.config.tied_embeddings else self.output[...]
        weights = weights.astype(hidden.dtype)
        logits = jnp.matmul(hidden, weights, preferred_element_type=jnp.float32)
        return logits[..., : self.config.vocab_size]

    def _trunk(self, tokens: Array, layer, cache: KVCache | None) -> tuple[Array, KVCache | None]:
        """Embeds, scans `layer(block, x, index, cache) -> (x, cache)` over the blocks, norms.

        The cache is carried, not stacked by the scan: a carried buffer is updated in place.
        """
        # Rows of tokens are split over fsdp, and so is the table's width: look up in whole rows.
        table = self.embedding[...].astype(self.config.compute_dtype)
        x = constrain(table, "vocab", "width")[tokens]
        x = constrain(x, "batch", "sequence", "width")
        graph, stacked = nnx.split(self.blocks)

        def body(carry, xs):
            x, cache = carry
            parameters, index = xs
            x, cache = layer(nnx.merge(graph, parameters), x, index, cache)
            return (constrain(x, "batch", "sequence", "width"), cache), None

        body = _rematerialised(body, self.config.remat)
        indices = jnp.arange(self.config.layers)
        (x, cache), _ = jax.lax.scan(body, (x, cache), (stacked, indices))
        return self.final_norm(x), cache


def _rematerialised(body: Callable, remat: str) -> Callable:
    """The scan body with a choice of what the backward pass recomputes instead of storing.

    "none" stores everything, "full" only what enters a block, "dots" also the results of matrix
    products. It has no effect where nothing is differentiated.
    """
    if remat == "none":
        return body
    policies = jax.checkpoint_policies
    policy = policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    # Inside a scan nothing can be merged with the forward pass anyway.
    return jax.checkpoint(body, policy=policy, prevent_cse=False)


def _write(cache: KVCache, layer: Array, slot: Array | int, k: Array, v: Array) -> KVCache:
    """Writes k, v [N, S, K, h] of one layer into the slots from `slot` on."""
    start = (layer, 0, 0, slot, 0)
    k, v = (x.swapaxes(1, 2)[None] for x in (k, v))
    return cache._replace(
        keys=jax.lax.dynamic_update_slice(cache.keys, k, start),
        values=jax.lax.dynamic_update_slice(cache.values, v, start),
    )
