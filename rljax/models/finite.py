"""Which layer of a model is the first whose output is not finite; looked for after the fact."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.models.block import Block
from rljax.models.network import Network, Params


def first_not_finite(network: Network, params: Params, tokens: np.ndarray) -> str | None:
    """Runs one row through the model, layer by layer, and says where it breaks.

    Args:
        network: a language model.
        params: stacked, or of `Network.unstack`; quantised matrices may be among them.
        tokens: [S] integers.

    Returns:
        A clause such as "the output of layer 3 of 18 is the first that is not finite"; None where
        everything is finite.
    """
    for name, output in _outputs(network, params, tokens):
        if not bool(jnp.isfinite(output).all()):
            return f"{name} is the first that is not finite"
    return None


def _outputs(network: Network, params: Params, tokens: np.ndarray) -> Iterator[tuple[str, Array]]:
    """What comes out of each part of the model, in order."""
    config, blocks = network.config, params["blocks"]

    def of_layer(index: int) -> Params:
        if isinstance(blocks, tuple):
            return blocks[index]
        return jax.tree.map(lambda leaf: leaf[index], blocks)

    rows = jnp.asarray(tokens, jnp.int32)[None]
    positions, segments = jnp.arange(rows.shape[1])[None], jnp.ones_like(rows)
    model, _ = network.bind_layers({**params, "blocks": (of_layer(0),)})
    x = model.embedded(rows)
    yield "the embedding", x
    run: Callable[[Block, Array, bool], Array] = model.layer_on(positions, segments)
    for index, is_global in enumerate(config.global_layers):
        _, (block,) = network.bind_layers({**params, "blocks": (of_layer(index),)})
        x = run(block, x, is_global)
        yield f"the output of layer {index} of {config.layers}", x
    x = model.final_norm(x)
    yield "the output of the final norm", x
    yield "the row of logits", model.logits(x)
