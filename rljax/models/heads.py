"""Values and rewards: the trunk with another head than the language model's.

`segment_ids` alone say what is a token: rows may be padded on either side, with any id.
"""

import dataclasses

import jax.numpy as jnp
from jax import Array

from rljax.models.lora import without_adapters
from rljax.models.network import Network, Params
from rljax.models.transformer import Transformer


def token_values(
    network: Network, params: Params, tokens: Array, positions: Array, segment_ids: Array
) -> Array:
    """The scores of every token: a value function, or the parts of a process reward.

    Args:
        network: with head "value", "reward" or "process_reward".
        params: its parameters.
        tokens: [N, S] i32.
        positions: [N, S] i32, counted from 0 in each segment.
        segment_ids: [N, S] i32; 0 is padding, several segments are rows packed into one.

    Returns:
        [N, S, O] f32; zero on padding.
    """
    model = _bound(network, params)
    scores = model.scores(model(tokens, positions, segment_ids).hidden)
    return jnp.where(segment_ids[..., None] > 0, scores, 0.0)


def sequence_rewards(
    network: Network, params: Params, tokens: Array, positions: Array, segment_ids: Array
) -> Array:
    """The scores at the last token of each row; padding is no token.

    Arguments as in `token_values`; one sequence a row.

    Returns:
        [N, O] f32; zero for a row without tokens.
    """
    model = _bound(network, params)
    hidden = model(tokens, positions, segment_ids).hidden
    present = segment_ids > 0
    last = present.shape[1] - 1 - jnp.argmax(present[:, ::-1], axis=1)
    scores = model.scores(jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0])
    return jnp.where(present.any(axis=1, keepdims=True), scores, 0.0)


def process_rewards(
    network: Network,
    params: Params,
    tokens: Array,
    positions: Array,
    segment_ids: Array,
    steps: Array,
) -> Array:
    """The scores at the ends of reasoning steps.

    Arguments as in `token_values`, and

    Args:
        steps: [N, J] i32, slots in which the steps end; -1 fills rows with fewer than J steps.

    Returns:
        [N, J, O] f32; zero where `steps` is -1.
    """
    values = token_values(network, params, tokens, positions, segment_ids)
    at_steps = jnp.take_along_axis(values, jnp.maximum(steps, 0)[..., None], axis=1)
    return jnp.where(steps[..., None] >= 0, at_steps, 0.0)


def value_network(policy: Network, outputs: int = 1) -> Network:
    """The network of a value model beside a policy: its trunk without adapters, so many scores."""
    config = without_adapters(policy).config
    changes = {"head": "value", "head_outputs": outputs, "head_bias": True}
    return Network.create(dataclasses.replace(config, **changes))


def _bound(network: Network, params: Params) -> Transformer:
    if network.config.head == "language_model":
        raise ValueError(
            "A language model has no scores; head must be 'value', 'reward' or 'process_reward' "
            "(config.model.head)."
        )
    return network.bind(params)
