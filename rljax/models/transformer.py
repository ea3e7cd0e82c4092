"""The trunk and its heads on whole rows. decoding.py runs the same blocks token by token."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from rljax.models.attention import GroupLayout, make_attend, soft_cap
from rljax.models.block import Block
from rljax.models.config import ModelConfig
from rljax.models.layers import RMSNorm, constant, make_param, normal
from rljax.models.moe import Routing
from rljax.models.products import embed
from rljax.models.rotary import rotary
from rljax.parallel.rules import constrain


class Encoded(NamedTuple):
    """What the trunk makes of whole rows."""

    hidden: Array  # [N, S, D] normed, in the compute dtype
    routing: Routing | None  # of each layer [L, ...], where there are experts


class Transformer(nnx.Module):
    """A trunk with the head that `config.head` names."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.width

        def table() -> nnx.Param:
            shape = (config.padded_vocab_size, width)
            return make_param(rngs.params(), shape, ("vocab", "embed"), normal(width**-0.5), config)

        self.embedding = table()
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
            self.output = table()

    def __call__(
        self,
        tokens: Array,
        positions: Array,
        segment_ids: Array,
        *,
        group: GroupLayout | None = None,
        shift: Array | None = None,
    ) -> Encoded:
        """Encodes whole rows.

        Args:
            tokens: [N, S] i32.
            positions: [N, S] i32, counted from 0 in each segment.
            segment_ids: [N, S] i32; a token sees the earlier ones of its own segment; 0 is padding.
            group: of shared-prefix rows, S = P + G*T; positions of each completion continue those
                of the prompt, segment_ids are 1 on tokens.
            shift: [N, S, D], added to what enters the first block: its gradient is that of the
                embedded tokens.
        """
        x, routing = self._trunk(tokens, self._layer(positions, segment_ids, group), shift)
        return Encoded(self.final_norm(x), routing)

    def hidden_states(self, tokens: Array, positions: Array, segment_ids: Array) -> Array:
        """[L + 1, N, S, D]: what enters each block, and what leaves the last one, before the norm.

        Holds all of them at once: for comparisons and probes, not for training.
        """
        run = self._layer(positions, segment_ids, None)

        def layer(block: Block, x: Array, at: _Layer) -> tuple[Array, Array]:
            left, _ = run(block, x, at)
            return left, x

        last, entered = self._trunk(tokens, layer)
        return jnp.concatenate([entered, last[None]])

    def last_mlp_inputs(self, tokens: Array, positions: Array, segment_ids: Array) -> Array:
        """[N, S, D], what enters the MLP of the last block; arguments as in `__call__`.

        Holds what enters each block at once, as `hidden_states` does.
        """
        entered = self.hidden_states(tokens, positions, segment_ids)[-2]
        attend = make_attend(self.config, positions, segment_ids, None)
        is_global = jnp.asarray(self.config.global_layers[-1])
        graph, stacked = nnx.split(self.blocks)
        block = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[-1], stacked))

        def seen(q: Array, k: Array, v: Array) -> Array:
            return attend(q, k, v, is_global)

        rotation = rotary(self.config, positions).of(is_global)
        return block.attended(entered, rotation, seen)[1]

    def embedded(self, tokens: Array) -> Array:
        """[N, S] i32 -> [N, S, D], what enters the first block."""
        config = self.config
        x = embed(self.embedding[...], tokens, config.compute_dtype)
        scale = config.embedding_scale
        return x * jnp.asarray(scale, x.dtype) if scale != 1 else x

    def layer_on(self, positions: Array, segment_ids: Array) -> Callable:
        """(block, x, is_global) -> x: one block on whole rows; arguments as in `__call__`."""
        run = self._layer(positions, segment_ids, None)
        return lambda block, x, is_global: run(block, x, _Layer(jnp.asarray(is_global)))[0]

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

    def _layer(self, positions: Array, segment_ids: Array, group: GroupLayout | None) -> Callable:
        """(block, x, at) -> (x, routing): one layer on whole rows, for `_trunk`."""
        attend = make_attend(self.config, positions, segment_ids, group)
        rope = rotary(self.config, positions)

        def layer(block: Block, x: Array, at: _Layer) -> tuple[Array, Routing | None]:
            def seen(q: Array, k: Array, v: Array) -> Array:
                return attend(q, k, v, at.is_global)

            return block(x, rope.of(at.is_global), seen, segment_ids > 0)

        return layer

    def _trunk(
        self, tokens: Array, layer: Callable, shift: Array | None = None
    ) -> tuple[Array, Any]:
        """Embeds and scans `layer(block, x, at) -> (x, kept)` over the blocks; stacks `kept`."""
        config, x = self.config, self.embedded(tokens)
        x = x if shift is None else x + shift.astype(x.dtype)
        x = constrain(x, "batch", "sequence", "width")
        graph, stacked = nnx.split(self.blocks)

        def body(x: Array, xs: tuple) -> tuple[Array, Any]:
            parameters, at = xs
            x, kept = layer(nnx.merge(graph, parameters), x, at)
            return constrain(x, "batch", "sequence", "width"), kept

        body = _rematerialised(body, config.remat)
        layers = _Layer(jnp.array(config.global_layers))
        return jax.lax.scan(body, x, (stacked, layers))


class _Layer(NamedTuple):
    """Which layer the scan is at."""

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
