"""The likelihood of masked diffusion models: a bound of a completion's log-probability, from draws.

A row of a batch becomes a canvas: its prompt, its completion, and perhaps what is open behind it. A
draw hides tokens of it (objectives/masking.py), one pass of the network says the log-probability of
each hidden one, and the passes of a row are put together (objectives/bounds.py).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.network import Network, Params
from rljax.objectives.bounds import weighted_mean
from rljax.objectives.masking import MASKINGS, Draw, MaskSettings, Row, hidden_context
from rljax.sampling.diffusion import guided
from rljax.sampling.distribution import TokenFilter
from rljax.training.update.logprobs import FILL_STEPS, LIKELIHOOD_EPOCH
from rljax.training.update.token_statistics import TokenStatistics, token_statistics
from rljax.training.update.train_step import Batch

Stacked = TypeVar("Stacked")  # a tree of arrays


class Canvas(NamedTuple):
    """N rows of S slots, the last T of which can be learned."""

    tokens: Array  # [N, S] i32
    positions: Array  # [N, S] i32
    segment_ids: Array  # [N, S] i32, 0: not seen
    learned: Array  # [N, S] bool
    context: Array  # [N, S] bool, the prompt
    open: Array  # [N, S] bool, behind the completion, where the sampler saw mask tokens


class Pass(NamedTuple):
    """What one pass says of the T last slots."""

    logprobs: Array  # [N, T] f32
    entropy: Array  # [N, T] f32
    greedy: Array  # [N, T] bool
    weights: Array  # [N, T] f32, 0 where a token is not hidden


def canvas_of(rows: Batch, *, open_canvas: bool) -> Canvas:
    """The canvas of separate rows, each with one completion (update/rows.py).

    Args:
        rows: tokens, segment_ids [N, S] i32 and mask [N, T] bool of the last T slots.
        open_canvas: the slots behind a completion are seen, as the sampler saw them before they
            were filled; else they are padding.

    Raises:
        ValueError: for rows that hold several completions of a prompt.
    """
    mask, tokens = rows["mask"], rows["tokens"]
    if mask.ndim != 2:
        raise ValueError(
            f"Masked diffusion reads one completion in a row, and the mask has shape {mask.shape}: "
            "completions of a shared prompt would see each other (config.<stage>.batch."
            "share_prompts)."
        )
    learned = jnp.pad(mask, ((0, 0), (tokens.shape[1] - mask.shape[1], 0)))
    context = (rows["segment_ids"] > 0) & ~learned
    behind = jnp.zeros_like(learned)
    if open_canvas:
        counted = jnp.cumsum(learned, axis=1)
        behind = (counted == counted[:, -1:]) & (counted > 0) & ~learned & ~context
    seen = (learned | context | behind).astype(jnp.int32)
    positions = jnp.maximum(jnp.cumsum(seen, axis=1) - 1, 0)
    return Canvas(tokens, positions, seen, learned, context, behind)


def elbo(
    network: Network,
    params: Params,
    rows: Batch,
    token_filter: TokenFilter,
    *,
    key: Array | None = None,
    top_k: int = 0,
    epochs: int = 1,
    masking: str = "bernoulli",
    mask_draws: int = 1,
    mask_share_low: float = 1e-3,
    mask_share_high: float = 1.0,
    mask_block: int = 0,
    mask_steps: int = 128,
    trajectory_shrink: int = 1,
    context_mask_rate: float = 0.0,
    guidance_scale: float = 0.0,
    open_canvas: bool = False,
    plain_logprobs: bool = False,
    keep_passes: bool = False,
) -> TokenStatistics:
    """Evidence lower bound of masked diffusion, token by token (arXiv:2502.09992, eq. 5).

    Passes run one after the other. Unless `keep_passes`, the backward pass runs each of them again
    instead of keeping its activations, so that memory does not grow with the number of draws.

    Args:
        network: one that sees both ways, with a mask token.
        params: its parameters, differentiated.
        rows: separate rows, one completion each; may hold `LIKELIHOOD_EPOCH`; hold `FILL_STEPS`
            for the trajectory.
        token_filter: of the sampler. Bounds are of the model itself, at temperature 1, so only
            `textless` is read: ids that the sampler never draws have no share.
        key: [N] keys.
        top_k: must be 0: there is no next-token distribution.
        epochs: updates of a step that a row is in.
        masking: a key of `MASKINGS`.
        mask_draws: M.
        mask_share_low, mask_share_high, mask_block, mask_steps, trajectory_shrink,
            context_mask_rate: of `MaskSettings`.
        guidance_scale: s of classifier-free guidance (`guided`); 0 is off. Another pass for each.
        open_canvas: see `canvas_of`.
        plain_logprobs: `logprobs` are those of the tokens, in mean over the draws that hide them
            and 0 where none does, not shares of the bound; `token_share` says how much each counts.
        keep_passes: keep the activations of all passes.

    Returns:
        `TokenStatistics` with `entropy` and `greedy` weighted as the log-probabilities are; and in
        `more` `draw_logprobs` and `draw_weights`, [N, T, number of passes], and with
        `plain_logprobs` `token_share` [N, T], in mean 1 over the completion.

    Raises:
        ValueError: without a mask token, for rows of another layout or without the steps of a
            trajectory, a `top_k`, or guidance of a network with a `logit_softcap`.
    """
    config = network.config
    if config.mask_token < 0 or top_k:
        raise ValueError(
            f"likelihood='elbo' hides tokens behind mask_token={config.mask_token} and says "
            f"nothing of the top_k={top_k} next tokens: it needs a mask token and top_k=0 "
            "(config.model.mask_token)."
        )
    if guidance_scale and config.logit_softcap:
        raise ValueError(
            f"guidance_scale={guidance_scale} adds up hidden states, which logit_softcap="
            f"{config.logit_softcap} bends (config.<stage>.objective.guidance_scale)."
        )
    canvas = canvas_of(rows, open_canvas=open_canvas)
    length = rows["mask"].shape[1]
    settings = MaskSettings(
        draws=mask_draws,
        epochs=epochs,
        share_low=mask_share_low,
        share_high=mask_share_high,
        block=mask_block,
        context_rate=context_mask_rate,
        steps=mask_steps,
        length=length,
        shrink=trajectory_shrink,
    )
    epoch = rows.get(LIKELIHOOD_EPOCH, jnp.zeros(len(canvas.tokens), jnp.int32))
    # The mask token is never right (SUBS).
    of_text = dataclasses.replace(token_filter.of_text, forbidden_tokens=(config.mask_token,))
    drawing = Drawing(masking, settings, key, epoch, fill_steps(rows, masking, canvas))
    run = functools.partial(_pass, network, canvas, drawing, of_text, guidance_scale)
    passes = in_turn(run, params, mask_draws * MASKINGS[masking].passes, keep=keep_passes)
    return _statistics(passes, rows["mask"], plain=plain_logprobs)


class Drawing(NamedTuple):
    """How the rows of a canvas draw what they hide."""

    masking: str
    settings: MaskSettings
    key: Array  # [N] keys
    epoch: Array  # [N] i32
    steps: Array  # [N, S] i32, of the sampler; zeros where they are not read

    def hide(self, canvas: Canvas, number: Array) -> tuple[Array, Array]:
        """[N, S] bool, slots that pass `number` shows as masks; [N, S] f32, what each weighs."""

        def of_row(key: Array, epoch: Array, steps: Array, slots: tuple) -> tuple[Array, Array]:
            learned, context, behind = slots
            row = Row(learned, context, canvas=learned.sum() + behind.sum(), steps=steps)
            draw = Draw(key, epoch, number)
            masked = MASKINGS[self.masking].draw(row, draw, self.settings)
            weights = jnp.where(masked.hidden, masked.weights, 0.0).astype(jnp.float32)
            return masked.hidden | hidden_context(row, draw, self.settings) | behind, weights

        slots = canvas.learned, canvas.context, canvas.open
        return jax.vmap(of_row)(self.key, self.epoch, self.steps, slots)


def fill_steps(rows: Batch, masking: str, canvas: Canvas) -> Array:
    """[N, S] i32, the sampler's steps of the completion's slots; zeros elsewhere."""
    if masking != "trajectory":
        return jnp.zeros(canvas.tokens.shape, jnp.int32)
    if FILL_STEPS not in rows:
        raise ValueError(
            "masking='trajectory' scores tokens in the steps in which they were sampled, and "
            f"these rows do not hold them, rows[{FILL_STEPS!r}]: only samples of the policy do "
            "(config.<stage>.objective.masking)."
        )
    steps = rows[FILL_STEPS]
    return jnp.pad(steps, ((0, 0), (canvas.tokens.shape[1] - steps.shape[1], 0)))


def _pass(
    network: Network,
    canvas: Canvas,
    drawing: Drawing,
    token_filter: TokenFilter,
    guidance_scale: float,
    params: Params,
    number: Array,
) -> Pass:
    """Hides tokens of every row and asks the network for them."""
    config, length = network.config, drawing.settings.length
    shown_as_mask, weights = drawing.hide(canvas, number)
    model = network.bind(params)
    shown = jnp.where(shown_as_mask, config.mask_token, canvas.tokens)
    hidden = model(shown, canvas.positions, canvas.segment_ids).hidden
    if guidance_scale:  # logits are linear in the hidden states
        blind = jnp.where(canvas.context, config.mask_token, shown)
        without = model(blind, canvas.positions, canvas.segment_ids).hidden
        both = (x.astype(jnp.float32) for x in (hidden, without))
        hidden = guided(*both, guidance_scale).astype(hidden.dtype)
    first = hidden.shape[1] - length - config.shift_logits
    found = token_statistics(
        jax.lax.slice_in_dim(hidden, first, first + length, axis=1),
        model.vocabulary(),
        canvas.tokens[:, -length:],
        token_filter,
        vocab_size=config.vocab_size,
        logit_softcap=config.logit_softcap,
    )
    return Pass(found.logprobs, found.entropy, found.greedy, weights[:, -length:])


def in_turn(
    run: Callable[[Params, Array], Stacked], params: Params, count: int, *, keep: bool
) -> Stacked:
    """The passes one after the other, stacked at the end of the axes: [N, T, count].

    Args:
        run: what a pass says, given parameters and its number: arrays [N, T].
        params: differentiated.
        count: passes.
        keep: keep their activations; else the backward pass runs each of them again.
    """
    one = run if keep else jax.checkpoint(run)
    if count == 1:
        return jax.tree.map(lambda x: x[..., None], one(params, jnp.int32(0)))
    found = jax.lax.map(lambda number: one(params, number), jnp.arange(count, dtype=jnp.int32))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), found)


def _statistics(passes: Pass, mask: Array, *, plain: bool) -> TokenStatistics:
    weights = jax.lax.stop_gradient(passes.weights)
    more = {"draw_logprobs": passes.logprobs, "draw_weights": weights}
    logprobs = weighted_mean(passes.logprobs, weights)
    if plain:
        hidden = weights > 0
        count = hidden.sum(axis=-1)
        logprobs = jnp.where(hidden, passes.logprobs, 0.0).sum(axis=-1) / jnp.maximum(count, 1)
        tokens, all_hidden = mask.sum(axis=1), jnp.where(mask, count, 0).sum(axis=1)
        more["token_share"] = count * (tokens / jnp.maximum(all_hidden, 1))[:, None]
    return TokenStatistics(
        logprobs,
        weighted_mean(passes.entropy, weights),
        weighted_mean(passes.greedy, weights),
        more=more,
    )
