"""What a value or reward head says of whole completions, in both layouts of rows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention import GroupLayout
from rljax.models.moe import Routing
from rljax.models.network import Network, Params
from rljax.training.update.train_step import Batch


def completion_scores(
    network: Network, params: Params, rows: Batch
) -> tuple[Array, Routing | None]:
    """The score at the last token of each completion, which is its eos where it ended by itself.

    An empty completion is scored at the last token of its prompt.

    Args:
        network: with a head of one score a token.
        params: all of its parameters, differentiated.
        rows: tokens, positions, segment_ids i32 and mask bool in either layout (update/rows.py);
            the True slots of a completion come first.

    Returns:
        f32 with the axes of the mask but the last, [N] for separate rows, [B, G] for group rows;
        and the routing of the whole rows, where there are experts.
    """
    states, routing = completion_states(network, params, rows)
    return scores_at_end(network, params, states, rows["mask"]), routing


def completion_states(
    network: Network, params: Params, rows: Batch
) -> tuple[Array, Routing | None]:
    """The last layer's states of each completion, from the last token of its prompt on.

    Arguments as for `completion_scores`.

    Returns:
        f32 with the axes of the mask but the last and [T + 1, D]: slot 0 is the prompt's last
        token, slot n the n-th token of the completion; and the routing of the whole rows.
    """
    model, mask = network.bind(params), rows["mask"]
    inputs = (rows["tokens"], rows["positions"], rows["segment_ids"])
    length = mask.shape[-1]
    if mask.ndim == 3:
        samples = mask.shape[1]
        layout = GroupLayout(rows["tokens"].shape[1] - samples * length, samples)
        encoded = model(*inputs, group=layout)
        prompt, own = layout.split(encoded.hidden)
        before = jnp.broadcast_to(prompt[:, None, -1:], own[:, :, :1].shape)
        return jnp.concatenate([before, own], axis=2), encoded.routing
    encoded = model(*inputs)
    return encoded.hidden[:, -length - 1 :], encoded.routing


def scores_at_end(network: Network, params: Params, states: Array, mask: Array) -> Array:
    """The head's score at the last state of each completion.

    Args:
        network, params: as for `completion_scores`.
        states: of `completion_states`.
        mask: [N, T] or [B, G, T] bool.

    Returns:
        [N] or [B, G] f32.
    """
    return network.bind(params).scores(last_states(states, mask))[..., 0]


def last_states(states: Array, mask: Array) -> Array:
    """The state at the last token of each completion; of an empty one, of its prompt.

    Args:
        states: of `completion_states`.
        mask: [N, T] or [B, G, T] bool.

    Returns:
        [N, D] or [B, G, D] f32.
    """
    last = mask.sum(axis=-1, dtype=jnp.int32)[..., None, None]
    return jnp.take_along_axis(states, last, axis=-2)[..., 0, :]


def make_token_scores(network: Network) -> Callable[[Params, Batch], Array]:
    """Builds scores(params, rows) -> the head's score at each token of the completions, [N, T]."""

    def scores(params: Params, rows: Batch) -> Array:
        states, _ = completion_states(network, params, rows)
        return jax.lax.stop_gradient(scores_of_tokens(network, params, states))

    return scores


def scores_of_tokens(network: Network, params: Params, states: Array) -> Array:
    """The head's score at each token of the completions: [N, T] or [B, G, T] f32.

    Args:
        network, params: as for `completion_scores`.
        states: of `completion_states`.
    """
    return network.bind(params).scores(states[..., 1:, :])[..., 0]


def make_head_scores(network: Network) -> Callable[[Params, Batch], Array]:
    """Builds scores(params, rows) -> the scores of `completion_scores`, without a gradient."""

    def scores(params: Params, rows: Batch) -> Array:
        return jax.lax.stop_gradient(completion_scores(network, params, rows)[0])

    return scores
