"""What sampling reads of memory, from the shape of a network alone: no program is compiled."""

from rljax.benchmarks.flops import token_flops
from rljax.models.config import ModelConfig


def read_weights(model: ModelConfig) -> float:
    """Parameters that decoding a token reads: all matrices of the trunk, and the output's."""
    return token_flops(model) / 2 + model.width * model.vocab_size


def cache_bytes(model: ModelConfig, tokens: int, *, width: int = 2) -> float:
    """Keys and values of a row.

    Args:
        model: the shape.
        tokens: of the row; layers with a window hold no more than it.
        width: bytes of a number.
    """
    held = sum(
        tokens if wide else min(tokens, model.sliding_window) for wide in model.global_layers
    )
    return 2.0 * model.kv_heads * model.head_dim * width * held


def decode_bytes(model: ModelConfig, rows: int, tokens: int, *, width: int = 2) -> float:
    """Bytes that one step of decoding reads at least: weights once, the cache of every row.

    Args:
        model: the shape; without experts, of which rows together read more than one does.
        rows: that are decoded together.
        tokens: in the cache of each row.
        width: bytes of a weight and of a number of the cache.

    Raises:
        ValueError: for a model with experts.
    """
    if model.experts:
        raise ValueError(
            f"Decoding with {model.experts} experts reads as many of them as its rows choose: only "
            "dense models have a bound here (config.model.experts)."
        )
    return width * read_weights(model) + rows * cache_bytes(model, tokens, width=width)
