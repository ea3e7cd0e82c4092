"""The shape of a decoder transformer."""

import dataclasses

import jax.numpy as jnp

DTYPES = ("float32", "bfloat16")
REMAT = ("none", "dots", "full")

# The rows of the embedding are padded to a multiple of this, so that a mesh axis divides them.
VOCAB_MULTIPLE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape and precision of a decoder transformer (pre-norm, rotary, grouped-query, gated MLP)."""

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6
    tied_embeddings: bool = True
    dtype: str = "float32"  # of activations and matrix products; reductions and logits are float32
    param_dtype: str = "float32"  # of the stored parameters
    remat: str = "none"  # what the backward pass recomputes: nothing, all but products, or blocks

    def __post_init__(self) -> None:
        for field in (
            "vocab_size",
            "layers",
            "width",
            "heads",
            "kv_heads",
            "head_dim",
            "mlp_width",
        ):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"{field} must be >= 1, got {getattr(self, field)} (config.model.{field})."
                )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}: each key-value "
                f"head serves an equal group of query heads (config.model.kv_heads)."
            )
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim must be even for rotary positions, got {self.head_dim} "
                "(config.model.head_dim)."
            )
        for field, known in (("dtype", DTYPES), ("param_dtype", DTYPES), ("remat", REMAT)):
            if getattr(self, field) not in known:
                raise ValueError(
                    f"Unknown {field} {getattr(self, field)!r}; known: {known} "
                    f"(config.model.{field})."
                )

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding; ids from vocab_size on are never sampled nor scored."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    @property
    def compute_dtype(self) -> jnp.dtype:
        """The dtype of activations."""
        return jnp.dtype(self.dtype)

    def check_mesh(self, mesh_shape: dict[str, int]) -> None:
        """Raises ValueError unless every sharded dimension divides by its mesh axis."""
        tensor, fsdp = mesh_shape["tensor"], mesh_shape["fsdp"]
        sharded = {
            "heads": (self.heads, "tensor", tensor),
            "kv_heads": (self.kv_heads, "tensor", tensor),
            "mlp_width": (self.mlp_width, "tensor", tensor),
            "padded_vocab_size": (self.padded_vocab_size, "tensor", tensor),
            "width": (self.width, "fsdp", fsdp),
        }
        for field, (size, axis, shards) in sharded.items():
            if size % shards:
                place = "tokenizer" if field == "padded_vocab_size" else f"model.{field}"
                raise ValueError(
                    f"{field}={size} does not divide by the mesh axis {axis}={shards} "
                    f"(config.{place}, config.mesh.{axis})."
                )
