"""The trunk and its heads: one code path for training, prefill and decode.

What differs between the three is only what a layer's queries attend to and whether keys and values
are kept.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from rljax.models.attention import GroupLayout, attend_one, make_attend, soft_cap
from rljax.models.block import Block
from rljax.models.config import ModelConfig
from rljax.models.layers import RMSNorm, constant, make_param, normal
from rljax.models.moe import Routing
from rljax.models.products import embed
from rljax.models.rotary import rotary
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


class Encoded(NamedTuple):
    """What the trunk makes of whole rows."""

    hidden: Array  # [N, S, D] normed, in the compute dtype
    routing: Routing | None  # of each layer [L, ...], where there are experts


class Transformer(nnx.Module):
    """A trunk with the head that `config.head` names."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        vocab, width = config.padded_vocab_size, config.width
        table = ((vocab, width), ("vocab", "embed"), normal(width**-0.5), config)
        self.embedding = make_param(rngs.params(), *table)
        self.blocks = Block(config, layers=config.layers, rngs=rngs)
        self.final_norm = RMSNorm(config)
        if config.head != "language_model":
            outputs = config.head_outputs
            self.head = make_param(
                rngs.params(), (width, outputs), ("embed", "head"), normal(width**-0.5), config
            )
            if config.head_bias:
                self.head_bias = make_param(
                    rngs.params(), (outputs,), ("head",), constant(0.0), config
                )
        elif not config.tied_embeddings:
            self.output = make_param(rngs.params(), *table)

    def __call__(
        self,
        tokens: Array,
        positions: Array,
        segment_ids: Array,
        *,
        group: GroupLayout | None = None,
    ) -> Encoded:
        """Encodes whole rows.

        Args:
            tokens: [N, S] i32.
            positions: [N, S] i32, counted from 0 in each segment.
            segment_ids: [N, S] i32; a token sees the earlier ones of its own segment; 0 is padding.
            group: of shared-prefix rows, S = P + G*T; positions of each completion continue those
                of the prompt, segment_ids are 1 on tokens.
        """
        attend = make_attend(self.config, positions, segment_ids, group)

        def layer(block: Block, x: Array, at: _Layer, cache: None):
            seen = lambda q, k, v: attend(q, k, v, at.is_global)  # noqa: E731
            x, routing = block(x, rope.of(at.is_global), seen, segment_ids > 0)
            return x, cache, routing

        rope = rotary(self.config, positions)
        x, _, routing = self._trunk(tokens, layer, None)
        return Encoded(self.final_norm(x), routing)

    def hidden_states(self, tokens: Array, positions: Array, segment_ids: Array) -> Array:
        """[L + 1, N, S, D]: what enters each block, and what leaves the last one, before the norm.

        Holds all of them at once: for comparisons and probes, not for training.
        """
        attend = make_attend(self.config, positions, segment_ids)
        rope = rotary(self.config, positions)

        def layer(block: Block, x: Array, at: _Layer, cache: None):
            seen = lambda q, k, v: attend(q, k, v, at.is_global)  # noqa: E731
            left, _ = block(x, rope.of(at.is_global), seen, segment_ids > 0)
            return left, cache, x

        last, _, entered = self._trunk(tokens, layer, None)
        return jnp.concatenate([entered, last[None]])

    def prefill(
        self, tokens: Array, positions: Array, segment_ids: Array, cache: KVCache
    ) -> tuple[Array, KVCache]:
        """As `__call__`, and writes the keys and values into slots 0..S-1 of the cache."""
        attend = make_attend(self.config, positions, segment_ids, sequence=None)
        rope = rotary(self.config, positions)
        valid = jax.lax.dynamic_update_slice(cache.valid, segment_ids > 0, (0, 0))

        def layer(block: Block, x: Array, at: _Layer, cache: KVCache):
            def keep_and_attend(q: Array, k: Array, v: Array) -> Array:
                nonlocal cache
                cache = _write(cache, at.index, 0, k, v)
                return attend(q, k, v, at.is_global)

            x, _ = block(x, rope.of(at.is_global), keep_and_attend, segment_ids > 0)
            return x, cache, None

        x, cache, _ = self._trunk(tokens, layer, cache._replace(valid=valid), sequence=None)
        return self.final_norm(x), cache

    def decode(
        self, tokens: Array, positions: Array, slot: Array, cache: KVCache
    ) -> tuple[Array, KVCache]:
        """One more token for every row, written to `slot` of the cache.

        Args:
            tokens: [N] i32.
            positions: [N] i32, position of the token in its own sequence.
            slot: [] i32, the same for all rows; a row's slots have consecutive positions.
            cache: holds everything before.

        Returns:
            [N, D] normed hidden states and the updated cache.
        """
        config = self.config
        rope = rotary(config, positions[:, None])
        valid = cache.valid.at[:, slot].set(True)
        near = valid & (slot - jnp.arange(valid.shape[1]) < config.sliding_window)
        present = jnp.ones((len(tokens), 1), bool)

        def layer(block: Block, x: Array, at: _Layer, cache: KVCache):
            seen = jnp.where(at.is_global, valid, near) if config.sliding_window else valid

            def keep_and_attend(q: Array, k: Array, v: Array) -> Array:
                nonlocal cache
                cache = _write(cache, at.index, slot, k, v)
                return attend_one(q, cache.keys[at.index], cache.values[at.index], seen, config)

            x, _ = block(x, rope.of(at.is_global), keep_and_attend, present)
            return x, cache, None

        cache = cache._replace(valid=valid)
        x, cache, _ = self._trunk(tokens[:, None], layer, cache, sequence=None)
        return self.final_norm(x)[:, 0], cache

    def vocabulary(self) -> Array:
        """The output matrix [V', D] of the language-model head, padded rows included."""
        return self.embedding[...] if self.config.tied_embeddings else self.output[...]

    def logits(self, hidden: Array) -> Array:
        """[..., D] -> [..., V] float32 logits."""
        weights = self.vocabulary().astype(hidden.dtype)
        logits = jnp.matmul(hidden, weights.T, preferred_element_type=jnp.float32)
        return soft_cap(logits, self.config.logit_softcap)[..., : self.config.vocab_size]

    def scores(self, hidden: Array) -> Array:
        """[..., D] -> [..., head_outputs] f32, of a value, reward or process-reward head."""
        scores = hidden.astype(jnp.float32) @ self.head[...].astype(jnp.float32)
        return scores + self.head_bias[...] if self.config.head_bias else scores

    def _trunk(
        self,
        tokens: Array,
        layer: Callable,
        cache: KVCache | None,
        sequence: str | None = "sequence",
    ):
        """Embeds and scans `layer(block, x, at, cache) -> (x, cache, kept)` over the blocks.

        `sequence` is the logical axis of the slots, None where they are not split over the mesh.

        The cache is carried, not stacked by the scan: a carried buffer is updated in place.
        """
        config = self.config
        x = embed(self.embedding[...], tokens, config.compute_dtype)
        x = x * jnp.asarray(config.embedding_scale, x.dtype) if config.embedding_scale != 1 else x
        x = constrain(x, "batch", sequence, "width")
        graph, stacked = nnx.split(self.blocks)

        def body(carry, xs):
            x, cache = carry
            parameters, at = xs
            x, cache, kept = layer(nnx.merge(graph, parameters), x, at, cache)
            return (constrain(x, "batch", sequence, "width"), cache), kept

        body = _rematerialised(body, config.remat)
        layers = _Layer(jnp.arange(config.layers), jnp.array(config.global_layers))
        (x, cache), kept = jax.lax.scan(body, (x, cache), (stacked, layers))
        return x, cache, kept


class _Layer(NamedTuple):
    """Which layer the scan is at."""

    index: Array  # [] i32
    is_global: Array  # [] bool, whether it sees everything, not only a window


def _rematerialised(body: Callable, remat: str) -> Callable:
    """The scan body with a choice of what the backward pass recomputes instead of storing.

        none     stores everything
        dots     stores what enters a block and the results of its projections (not of experts)
        full     stores what enters a block
        offload  stores what enters a block in the host's memory

    It has no effect where nothing is differentiated.
    """
    if remat == "none":
        return body
    # Inside a scan nothing can be merged with the forward pass anyway.
    return jax.checkpoint(body, policy=_POLICIES[remat], prevent_cse=False)


_POLICIES = {
    "dots": jax.checkpoint_policies.save_only_these_names("product"),  # models/layers.py
    "full": None,
    "offload": jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["block_input"],  # models/block.py
        offload_src="device",
        offload_dst="pinned_host",
    ),
}


def _write(cache: KVCache, layer: Array, slot: Array | int, k: Array, v: Array) -> KVCache:
    """Writes k, v [N, S, K, h] of one layer into the slots from `slot` on."""
    start = (layer, 0, 0, slot, 0)
    k, v = (x.swapaxes(1, 2)[None] for x in (k, v))
    return cache._replace(
        keys=jax.lax.dynamic_update_slice(cache.keys, k, start),
        values=jax.lax.dynamic_update_slice(cache.values, v, start),
    )
