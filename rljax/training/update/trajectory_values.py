"""Values of what a sampler of masked diffusion saw when it filled each token (TraceRL)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.network import Params
from rljax.objectives.masking import MaskSettings
from rljax.training.update.logprobs import LIKELIHOOD_KEYS
from rljax.training.update.masked_likelihood import Drawing, canvas_of, fill_steps, in_turn
from rljax.training.update.train_step import Batch

# (parameters, tokens, positions, segment ids: [N, S] i32 each) -> the value at each slot, [N, S].
ValueFunction = Callable[[Params, Array, Array, Array], Array]


class _Values(NamedTuple):
    """What a pass says of the T last slots."""

    values: Array  # [N, T] f32
    scored: Array  # [N, T] bool, the tokens of its run


def trajectory_values(
    value: ValueFunction,
    params: Params,
    rows: Batch,
    *,
    mask_token: int,
    fields: Mapping[str, Any],
) -> Array:
    """The value at each token's open slot, in the pass that scores the token: [N, T] f32.

    The passes are those of masking='trajectory' (arXiv:2509.06949): one for each run of steps.

    Args:
        value: of all slots.
        params: its parameters, differentiated.
        rows: separate rows with `FILL_STEPS`, see `elbo` (update/masked_likelihood.py).
        mask_token: id of an open slot.
        fields: of the likelihood: `mask_draws`, `trajectory_shrink`, `open_canvas`.

    Returns:
        Zero outside the mask.
    """
    canvas, length = canvas_of(rows, open_canvas=fields["open_canvas"]), rows["mask"].shape[1]
    settings = MaskSettings(
        draws=fields["mask_draws"],
        epochs=1,
        share_low=0.0,
        share_high=1.0,
        block=0,
        context_rate=0.0,
        steps=1,
        length=length,
        shrink=fields["trajectory_shrink"],
    )
    keys = jax.random.wrap_key_data(rows[LIKELIHOOD_KEYS])
    once, steps = jnp.zeros(len(canvas.tokens), jnp.int32), fill_steps(rows, "trajectory", canvas)
    drawing = Drawing("trajectory", settings, keys, once, steps)

    def one(params: Params, number: Array) -> _Values:
        shown_as_mask, weights = drawing.hide(canvas, number)
        shown = jnp.where(shown_as_mask, mask_token, canvas.tokens)
        found = value(params, shown, canvas.positions, canvas.segment_ids)
        return _Values(found[:, -length:], weights[:, -length:] > 0)

    passes = in_turn(one, params, fields["mask_draws"], keep=False)
    return jnp.where(passes.scored, passes.values, 0.0).sum(axis=-1)
