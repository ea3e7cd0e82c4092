"""The noise of a population's members in all parameters of a network (objectives/evolution.py).

    matrices of projections   low-rank: the adapters of `layers.Projection`, scale 1
    scales and biases         full noise, unless they are frozen
    everything else           none: embeddings, output matrix, routers, experts

What a member reads besides the shared parameters is its own noise: r (n + m) numbers of a matrix
[n, m]. Under vmap over members the product with the matrix stays one large product; only the thin
ones with the noise are a member's own.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.config import LORA_MODULES, LoRAConfig
from rljax.models.lora import flatten, unflatten
from rljax.models.network import Leaves, Network, Params
from rljax.objectives.evolution import (
    LowRank,
    direction_keys,
    full_gradient,
    full_noise,
    leaf_keys,
    low_rank_gradient,
    low_rank_noise,
    member_signs,
)
from rljax.parallel.rules import constrain

Path = tuple[str, ...]

VECTORS = ("scale", "bias")
# Members whose noise is drawn at a time where an update adds them up.
UPDATE_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """Which leaves are perturbed, and how.

    Attributes:
        network: of the policy, without adapters.
        member_network: the same with an adapter wherever a member has low-rank noise.
        sigma, rank, noise_reuse: see objectives/evolution.py.
        vectors: whether scales and biases are perturbed too.
        unperturbed: members without noise at the beginning of each group.
        group_size: members of a group; read with `unperturbed`.
    """

    network: Network
    member_network: Network
    sigma: float
    rank: int
    noise_reuse: int
    vectors: bool
    unperturbed: int = 0
    group_size: int = 1

    @classmethod
    def of(
        cls,
        network: Network,
        *,
        sigma: float = 1e-3,
        rank: int = 1,
        noise_reuse: int = 1,
        freeze_vectors: bool = True,
        modules: tuple[str, ...] | None = None,
        unperturbed: int = 0,
        group_size: int = 1,
    ) -> "Perturbation":
        """For a network without adapters; `modules` are the projections with noise, None: all.

        Raises:
            ValueError: for a network that cannot be perturbed, or unknown modules.
        """
        config = network.config
        if config.lora is not None:
            raise ValueError(
                "Noise takes the place of adapters: a model whose own adapters are trained cannot "
                "be perturbed; leave them out (config.model.lora.rank)."
            )
        if config.decode_attention == "ragged":
            raise ValueError(
                "decode_attention='ragged' reads the cache of one set of parameters, and every "
                "member of a population has its own: set 'auto' or 'dense' "
                "(config.model.decode_attention)."
            )
        modules = LORA_MODULES if modules is None else tuple(modules)
        try:
            noise = LoRAConfig(rank=rank, alpha=rank, modules=modules)
            changed = dataclasses.replace(config, lora=noise, decode_attention="dense")
        except ValueError as error:
            field = "config.<stage>.objective.modules"
            raise ValueError(str(error).replace("config.model.lora.modules", field)) from error
        members = Network.create(changed)
        vectors = not freeze_vectors
        return cls(network, members, sigma, rank, noise_reuse, vectors, unperturbed, group_size)

    @functools.cached_property
    def matrices(self) -> dict[Path, tuple[int, int]]:
        """{path of a kernel: its number of axes that are inputs, and that are outputs}."""
        shapes = flatten(self.member_network.shapes)

        def axes(path: Path, name: str) -> int:
            return len(shapes[(*path[:-1], name)].shape) - 2

        return {
            path: (axes(path, "lora_a"), axes(path, "lora_b"))
            for path in flatten(self.network.shapes)
            if path[-1] == "kernel" and (*path[:-1], "lora_a") in shapes
        }

    @functools.cached_property
    def vector_paths(self) -> list[Path]:
        """The paths of the scales and biases that are perturbed."""
        paths = flatten(self.network.shapes)
        return [path for path in paths if self.vectors and path[-1] in VECTORS]

    def keys(self, key: Array) -> dict[Path, Array]:
        """The base key of each leaf with noise, [L] of them for the layers of a stacked leaf.

        They are split off in the order of all leaves of the network, with noise or not.
        """
        shapes = flatten(self.network.shapes)
        own = dict(zip(sorted(shapes), leaf_keys(key, len(shapes)), strict=True))
        return {
            path: leaf_keys(own[path], shapes[path].shape[0]) if stacked(path) else own[path]
            for path in (*self.matrices, *self.vector_paths)
        }

    def signs(self, members: Array) -> Array:
        """[N] f32 for members with these numbers."""
        first = members % self.group_size < self.unperturbed
        return member_signs(members, first if self.unperturbed else None)

    def noise(self, keys: Mapping[Path, Array], update: Array, members: Array) -> Leaves:
        """What N members read besides the shared parameters.

        Args:
            keys: from `keys`.
            update: [] i32, updates before this one.
            members: [N] i32, their numbers in the whole population.

        Returns:
            {path: leaf} with a leading axis N, f32: `lora_a` [L, *in, r] and `lora_b` [L, r, *out]
            of matrices, and what is added to vectors.
        """
        leaves: Leaves = {}
        for path in self.matrices:
            low_rank = self._of_matrix(path, keys[path], update, members)
            shape = self.network_shape(path)
            inputs, count = self.matrices[path][0], len(members)
            outer, inner = shape[1 : 1 + inputs], shape[1 + inputs :]
            a = low_rank.inputs.reshape(shape[0], count, *outer, self.rank)
            b = low_rank.outputs.reshape(shape[0], count, self.rank, *inner)
            leaves[(*path[:-1], "lora_a")] = a.swapaxes(0, 1)
            leaves[(*path[:-1], "lora_b")] = b.swapaxes(0, 1)
        for path in self.vector_paths:
            noise = self._of_vector(path, keys[path], update, members)
            leaves[path] = noise.swapaxes(0, 1) if stacked(path) else noise
        return leaves

    def gradient(self, keys: Mapping[Path, Array], update: Array, fitness: Array) -> Params:
        """The pseudo-gradient of a whole population, to be given to an optimizer.

        The noise is drawn again, `UPDATE_CHUNK` members at a time. Every device draws all members
        and multiplies its own part of a matrix: nothing but the fitness is communicated, and the
        order of the sum does not depend on the mesh.

        Args:
            keys: from `keys`.
            update: [] i32, as the members were evaluated with.
            fitness: [N] f32, of the members 0 .. N-1.

        Returns:
            The tree of the network's parameters, f32, zero where there is no noise.
        """
        leaves: Leaves = {}
        for path, shape in flatten(self.network.shapes).items():
            leaves[path] = jnp.zeros(shape.shape, jnp.float32)
            if path in keys:
                leaves[path] = self._gradient_of(path, keys[path], update, fitness)
        return unflatten(leaves)

    def network_shape(self, path: Path) -> tuple[int, ...]:
        """The shape of a parameter."""
        return flatten(self.network.shapes)[path].shape

    def _sizes(self, path: Path) -> tuple[int, int]:
        """Inputs and outputs of a matrix, its axes merged."""
        shape, split = self.network_shape(path)[1:], self.matrices[path][0]
        return math.prod(shape[:split]), math.prod(shape[split:])

    def _of_matrix(self, path: Path, keys: Array, update: Array, members: Array) -> LowRank:
        """`LowRank` with leading axes [L, N]."""
        draw = functools.partial(
            low_rank_noise,
            signs=self.signs(members),
            inputs=self._sizes(path)[0],
            outputs=self._sizes(path)[1],
            sigma=self.sigma,
            rank=self.rank,
            dtype=self.network.config.param_dtype,
        )
        return jax.vmap(lambda key: draw(self._directions(key, update, members)))(keys)

    def _of_vector(self, path: Path, keys: Array, update: Array, members: Array) -> Array:
        """[L, N, ...], or [N, ...] of a leaf that is not stacked."""
        shape = self.network_shape(path)

        def draw(key: Array) -> Array:
            return full_noise(
                self._directions(key, update, members),
                self.signs(members),
                shape[1:] if stacked(path) else shape,
                sigma=self.sigma,
                dtype=self.network.config.param_dtype,
            )

        return jax.vmap(draw)(keys) if stacked(path) else draw(keys)

    def _directions(self, key: Array, update: Array, members: Array) -> Array:
        return direction_keys(key, update, members, noise_reuse=self.noise_reuse)

    def _gradient_of(self, path: Path, keys: Array, update: Array, fitness: Array) -> Array:
        population, matrix = len(fitness), path in self.matrices
        chunks = -(-population // UPDATE_CHUNK)
        size = -(-population // chunks)
        members = jnp.arange(chunks * size).reshape(chunks, size)
        fitness = jnp.pad(fitness, (0, chunks * size - population)).reshape(chunks, size)
        shape = self.network_shape(path)
        axes = flatten(self.network.logical_axes)[path]

        def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
            members, fitness = part
            if matrix:
                noise, function = self._of_matrix(path, keys, update, members), low_rank_gradient
            else:
                noise, function = self._of_vector(path, keys, update, members), full_gradient
            of_layer = functools.partial(function, fitness=fitness, population=population)
            found = jax.vmap(of_layer)(noise) if stacked(path) else of_layer(noise)
            return constrain(total + found.reshape(shape), *axes), None

        return jax.lax.scan(add, jnp.zeros(shape, jnp.float32), (members, fitness))[0]


def stacked(path: Path) -> bool:
    """Whether a parameter has a leading axis of layers."""
    return path[0] == "blocks"


def perturbed(weights: Params, noise: Leaves) -> Params:
    """One member's parameters: adapters beside the shared matrices, noise added to vectors.

    Args:
        weights: shared, stacked or from `Network.unstack`; a leaf may be quantised.
        noise: of the member, {path: leaf} as `Perturbation.noise` has it without the axis N.
    """
    rest = {path: leaf for path, leaf in noise.items() if not stacked(path)}
    blocks = {path[1:]: leaf for path, leaf in noise.items() if stacked(path)}
    shared = {name: node for name, node in weights.items() if name != "blocks"}
    if isinstance(weights["blocks"], tuple):
        layers = tuple(
            _added(layer, {path: leaf[index] for path, leaf in blocks.items()})
            for index, layer in enumerate(weights["blocks"])
        )
    else:
        layers = _added(weights["blocks"], blocks)
    return {**_added(shared, rest), "blocks": layers}


def _added(tree: Params, noise: Leaves) -> Params:
    leaves = flatten(tree)
    for path, leaf in noise.items():
        if path in leaves:
            leaf = (leaves[path].astype(jnp.float32) + leaf).astype(leaves[path].dtype)
        leaves[path] = leaf
    return unflatten(leaves)
