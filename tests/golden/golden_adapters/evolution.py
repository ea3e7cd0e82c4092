"""Slug eggroll: noise, perturbed projection, fitness and update, as a stage has them."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from rljax.models.config import LoRAConfig, ModelConfig
from rljax.models.layers import Projection
from rljax.objectives.evolution import (
    FITNESS,
    direction_keys,
    full_gradient,
    full_noise,
    leaf_keys,
    low_rank_gradient,
    low_rank_noise,
    member_signs,
)


def eggroll(case: dict) -> dict:
    args = case["args"]
    kernel, bias, x, scores = (
        jnp.asarray(case["inputs"][name], jnp.float32) for name in ("W", "bias", "x", "raw_scores")
    )
    kernel = kernel.T  # theirs is [out, in]
    count, sigma = args["population"], args["sigma"]
    members = jnp.arange(count)
    signs = member_signs(members)
    of_kernel, of_bias = (
        direction_keys(key, args["epoch"], members, noise_reuse=args["noise_reuse"])
        for key in leaf_keys(jax.random.key(case["inputs"]["seed"]), 2)
    )
    noise = low_rank_noise(of_kernel, signs, *kernel.shape, sigma=sigma, rank=args["rank"])
    of_vector = full_noise(of_bias, signs, bias.shape, sigma=sigma)
    fitness, group_ids = FITNESS["population_zscore"], jnp.zeros(count, int)
    if args["group_size"]:
        fitness, group_ids = FITNESS["group_mean"], members // args["group_size"]
    fitness = fitness(scores[:, None], group_ids)
    gradient = {
        "W": low_rank_gradient(noise, fitness, count),
        "bias": full_gradient(of_vector, fitness, count),
    }
    params = {"W": kernel, "bias": bias}
    optimizer = {"sgd": optax.sgd}[args["solver"]](args["lr"])
    changes, _ = optimizer.update(gradient, optimizer.init(params), params)
    moved = optax.apply_updates(params, changes)
    return {
        "A_scaled": noise.outputs.swapaxes(1, 2),
        "B": noise.inputs,
        "y": jax.vmap(_projection(kernel, args["rank"]), in_axes=(0, 0, None))(*noise, x),
        "noisy_bias": bias + of_vector,
        "fitness": fitness,
        "new_W": moved["W"].T,
        "new_bias": moved["bias"],
    }


def _projection(kernel, rank: int):
    """(inputs, outputs, x) -> x (W + inputs outputs), by the projection of our blocks."""
    settings = LoRAConfig(rank=rank, alpha=rank, modules=("query",))
    sizes = dict(vocab_size=1, layers=1, width=2, heads=1, kv_heads=1, head_dim=2, mlp_width=1)
    projection = Projection(
        "query",
        ModelConfig(**sizes, lora=settings),
        layers=1,
        inputs={"embed": kernel.shape[0]},
        outputs={"mlp": kernel.shape[1]},
        std=1.0,
        rngs=nnx.Rngs(params=0, adapters=1),
    )
    graph = nnx.graphdef(projection)

    def forward(inputs, outputs, x):
        leaves = {"kernel": kernel, "lora_a": inputs, "lora_b": outputs}
        return nnx.merge(graph, leaves)(x[None])[0]

    return forward
