"""Shared-prefix rows: one prompt and its completions in a row, the prompt computed once.

A row is [left-padded prompt | completion 1 | ... | completion G]. A completion sees the prompt and
itself. Its scores are two blocks, one over the prompt's slots and one over its own, under one
softmax: G * T * (P + T) scores instead of the (P + G * T)^2 of a mask over the whole row.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention.dense import dense, soft_cap
from rljax.models.attention.visibility import attention_mask, within


@dataclasses.dataclass(frozen=True)
class GroupLayout:
    """How a row of slots is divided.

    Attributes:
        prompt_slots: P, of the left-padded prompt.
        samples: G, completions that follow, of equally many slots each.
    """

    prompt_slots: int
    samples: int

    def completion_slots(self, slots: int) -> int:
        """T of rows of `slots` = P + G * T.

        Raises:
            ValueError: where no T >= 1 fits.
        """
        length, rest = divmod(slots - self.prompt_slots, self.samples)
        if rest or length < 1:
            raise ValueError(
                f"A row of {slots} slots is no prompt of {self.prompt_slots} and {self.samples} "
                "completions of equal length (GroupLayout)."
            )
        return length

    def split(self, x: Array) -> tuple[Array, Array]:
        """[B, P + G*T, ...] -> [B, P, ...] and [B, G, T, ...]."""
        length = self.completion_slots(x.shape[1])
        prompt, rest = x[:, : self.prompt_slots], x[:, self.prompt_slots :]
        return prompt, rest.reshape(len(x), self.samples, length, *x.shape[2:])


class GroupMasks(NamedTuple):
    """Who sees whom, in each kind of scores."""

    prompt: Array  # [B, 1, P, P] bool, within the prompt
    shared: Array  # [B, G, T or 1, P] bool, from completions to the prompt; 1: all slots alike
    own: Array  # [B, G, T, T] bool, within each completion


def group_masks(
    layout: GroupLayout, positions: Array, segment_ids: Array, window: int
) -> GroupMasks:
    """The masks of causal group rows; positions and segment_ids [B, P + G*T] i32, window as usual.

    Raises:
        ValueError: where the rows do not fit the layout.
    """
    prompt, completions = layout.split(segment_ids)
    at_prompt, at_completions = layout.split(positions)
    steps = jnp.arange(completions.shape[2])
    own = (completions[:, :, None] > 0) & (steps[:, None] >= steps)
    shared = jnp.broadcast_to(
        (prompt > 0)[:, None, None], (*completions.shape[:2], 1, len(prompt[0]))
    )
    if window:
        own &= within(at_completions, at_completions, window)
        shared = shared & within(at_completions, at_prompt[:, None], window)
    inside = attention_mask(prompt, causal=True, positions=at_prompt, window=window)
    return GroupMasks(inside, shared, own)


def group_dense(
    q: Array,
    k: Array,
    v: Array,
    layout: GroupLayout,
    masks: GroupMasks,
    *,
    scale: float,
    softcap: float,
) -> Array:
    """q [B,P+G*T,H,h], k and v [B,P+G*T,K,h] -> [B,P+G*T,H,h]; float32 softmax."""
    (q_prompt, q_own), (k_prompt, k_own), (v_prompt, v_own) = map(layout.split, (q, k, v))
    prompt = dense(q_prompt, k_prompt, v_prompt, masks.prompt, scale=scale, softcap=softcap)
    rows, samples, steps, heads, size = q_own.shape
    q_own = q_own.reshape(rows, samples, steps, k.shape[2], -1, size)
    mix = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

    def scores(product: str, keys: Array, mask: Array) -> Array:
        found = mix(product, q_own, keys)
        # Finite: a slot that sees nothing (padding) must not become NaN.
        found = soft_cap(found * scale, softcap)
        return jnp.where(mask[:, None, :, :, None], found, jnp.finfo(jnp.float32).min)

    shared = scores("bgtkjh,bpkh->bkgtjp", k_prompt, masks.shared)
    own = scores("bgtkjh,bgckh->bkgtjc", k_own, masks.own)
    top = jnp.maximum(shared.max(-1), own.max(-1))[..., None]
    shared, own = (jnp.exp(part - jax.lax.stop_gradient(top)) for part in (shared, own))
    total = shared.sum(-1) + own.sum(-1)
    mixed = mix("bkgtjp,bpkh->bgtkjh", shared.astype(v.dtype), v_prompt)
    mixed += mix("bkgtjc,bgckh->bgtkjh", own.astype(v.dtype), v_own)
    mixed = (mixed / total.transpose(0, 2, 3, 1, 4)[..., None]).astype(v.dtype)
    return jnp.concatenate([prompt, mixed.reshape(rows, samples * steps, heads, size)], axis=1)
