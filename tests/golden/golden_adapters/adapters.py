"""Slug lora: PEFT's linear layer with an adapter, through the projection of our blocks."""

import jax
from flax import nnx

from golden_adapters.common import floats
from rljax.models.config import LoRAConfig, ModelConfig
from rljax.models.layers import Projection
from rljax.models.lora import merged_kernel


def lora(case: dict) -> dict:
    args = case["args"]
    settings = LoRAConfig(
        rank=args["r"], alpha=args["alpha"], rank_stabilised=args["use_rslora"], modules=("query",)
    )
    # Theirs are [out, in], [r, in] and [out, r].
    kernel, a, b = (floats(case, name).T for name in ("W", "A", "B"))
    sizes = dict(vocab_size=1, layers=1, width=2, heads=1, kv_heads=1, head_dim=2, mlp_width=1)
    projection = Projection(
        "query",
        ModelConfig(**sizes, lora=settings),
        layers=1,
        inputs={"embed": kernel.shape[0]},
        outputs={"mlp": kernel.shape[1]},
        std=1.0,
        rngs=nnx.Rngs(params=0, adapters=1),
        bias=True,
    )
    graph = nnx.graphdef(projection)

    def forward(x, a, b):
        leaves = {"kernel": kernel, "bias": floats(case, "bias"), "lora_a": a, "lora_b": b}
        return nnx.merge(graph, leaves)(x[None])[0]

    y, pull = jax.vjp(forward, floats(case, "x"), a, b)
    grad_x, grad_a, grad_b = pull(floats(case, "cotangent"))
    merged = merged_kernel(kernel[None], a[None], b[None], scale=settings.scale)[0]
    return {
        "y": y,
        "scaling": settings.scale,
        "delta_W": (merged - kernel).T,
        "grad_A": grad_a.T,
        "grad_B": grad_b.T,
        "grad_x": grad_x,
    }
