"""The transformer as a pure function of a parameter tree."""

import dataclasses
from collections.abc import Collection
from typing import Any

import jax
from flax import nnx
from flax.nnx.traversals import flatten_mapping
from jax import Array
from jax.sharding import Mesh

from rljax.models.block import Block
from rljax.models.config import ModelConfig
from rljax.models.transformer import Transformer
from rljax.parallel.rules import named_sharding

Params = dict[str, Any]  # nested dict of arrays
Leaves = dict[tuple[str, ...], Any]  # the same as {path: array}


@dataclasses.dataclass(frozen=True)
class Network:
    """Structure without numbers: everything about the model but its parameters.

    `bind(params)` gives the module; inside jit that costs nothing:

        hidden = network.bind(params)(tokens, positions, segment_ids)
    """

    config: ModelConfig
    graph: Any = dataclasses.field(repr=False, compare=False)
    block_graph: Any = dataclasses.field(repr=False, compare=False)
    logical_axes: Params = dataclasses.field(repr=False, compare=False)  # tuples of names
    shapes: Params = dataclasses.field(repr=False, compare=False)  # ShapeDtypeStructs

    @classmethod
    def create(cls, config: ModelConfig) -> "Network":
        """Builds the structure by abstract evaluation: no memory is taken."""
        abstract = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(params=0, adapters=1)))
        graph, state = nnx.split(abstract, nnx.Param)
        axes = {path: v.get_metadata()["logical_axes"] for path, v in nnx.to_flat_state(state)}
        return cls(
            config=config,
            graph=graph,
            block_graph=nnx.split(abstract.blocks, nnx.Param)[0],
            logical_axes=nnx.traversals.unflatten_mapping(axes),
            shapes=nnx.to_pure_dict(state),
        )

    def bind(self, params: Params) -> Transformer:
        """The module with these parameters."""
        return nnx.merge(self.graph, params)

    def unstack(self, params: Params) -> Params:
        """The same tree with a tuple of trees, one for each layer, in place of the stacked blocks.

        Decoding reads every layer once for each token: slices of a stack would be copied each time.
        """

        def layer(index: int) -> Params:
            return jax.tree.map(lambda x: x[index], params["blocks"])

        return {**params, "blocks": tuple(layer(index) for index in range(self.config.layers))}

    def bind_layers(self, unstacked: Params) -> tuple[Transformer, tuple[Block, ...]]:
        """The module, whose own blocks must not be used, and the blocks that `unstack` made."""
        blocks = unstacked["blocks"]
        model = self.bind({**unstacked, "blocks": blocks[0]})
        return model, tuple(nnx.merge(self.block_graph, layer) for layer in blocks)

    def shardings(self, mesh: Mesh) -> Params:
        """The parameter tree with a NamedSharding at each leaf."""
        return jax.tree.map(
            lambda axes: named_sharding(mesh, axes),
            self.logical_axes,
            is_leaf=lambda node: isinstance(node, tuple),
        )

    def init(self, key: Array, mesh: Mesh) -> Params:
        """Fresh parameters, created directly in their sharding; the values depend on `key` only."""

        def create(key: Array) -> Params:
            streams = nnx.Rngs(params=key, adapters=jax.random.fold_in(key, 1))
            model = Transformer(self.config, rngs=streams)
            return nnx.to_pure_dict(nnx.state(model, nnx.Param))

        return jax.jit(create, out_shardings=self.shardings(mesh))(key)

    def draw(self, key: Array, mesh: Mesh, paths: Collection[tuple[str, ...]]) -> Leaves:
        """Some of the parameters that `init` makes, without making the others.

        Args:
            key: as in `init`.
            mesh: to place them on.
            paths: of the parameters in the nested dicts.

        Returns:
            {path: parameter}.
        """
        if not paths:
            return {}

        def pick(tree: Params) -> Leaves:
            leaves = flatten_mapping(tree)
            return {path: leaves[path] for path in paths}

        shardings = pick(self.shardings(mesh))
        return jax.jit(lambda key: pick(self.init(key, mesh)), out_shardings=shardings)(key)

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.shapes))
