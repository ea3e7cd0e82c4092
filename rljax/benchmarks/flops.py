"""Floating-point operations that the model needs.

Every function here returns a count of operations, and says of what.

Only matrix products are counted, a multiplication and an addition as two. A product's backward pass
counts twice its forward one, or once where one factor is a frozen matrix, which has no gradient.
What `remat` computes again is not counted.
"""

import numpy as np

from rljax.models.config import ModelConfig


def projection_sides(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Sizes (inputs, outputs) of the matrices of a layer that can carry an adapter."""
    width = config.width
    heads, kv_heads = config.heads * config.head_dim, config.kv_heads * config.head_dim
    sides = {
        "query": (width, heads),
        "key": (width, kv_heads),
        "value": (width, kv_heads),
        "out": (heads, width),
    }
    if not config.experts:
        hidden = config.mlp_width
        sides |= {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}
    return sides


def token_flops(config: ModelConfig) -> float:
    """The trunk for one token, forward, without attention scores, vocabulary and adapters."""
    weights = sum(inputs * outputs for inputs, outputs in projection_sides(config).values())
    if config.experts:
        chosen = config.experts_per_token * 3 * config.expert_width
        weights += config.width * (config.experts + chosen)
    return 2.0 * config.layers * weights


def adapter_flops(config: ModelConfig) -> tuple[float, float]:
    """The adapters for one token, forward: their trained matrices, and their other ones."""
    if config.lora is None:
        return 0.0, 0.0
    sides, rank = projection_sides(config), config.lora.rank
    outer = 2.0 * config.layers * rank * sum(sum(sides[name]) for name in config.lora.modules)
    if config.lora.kind == "lora":
        return outer, 0.0
    return 2.0 * config.layers * rank**2 * len(config.lora.modules), outer


def attention_flops(config: ModelConfig, first: int, count: int) -> float:
    """Scores and mixing of the queries at positions first .. first + count - 1, forward.

    Each sees every position up to its own, or those in its layer's window.
    """
    seen = np.arange(first + 1, first + count + 1)
    local = np.minimum(seen, config.sliding_window or seen)
    pairs = sum(float((seen if wide else local).sum()) for wide in config.global_layers)
    return 4.0 * config.heads * config.head_dim * pairs


def logits_flops(config: ModelConfig) -> float:
    """The output matrix for one token, forward."""
    return 2.0 * config.width * config.vocab_size


def forward_flops(
    config: ModelConfig,
    prompts: int,
    samples: int,
    prompt_tokens: int,
    new_tokens: int,
    *,
    shared: bool,
) -> float:
    """Scoring `samples` completions for each prompt.

    Args:
        config: of the model.
        prompts, samples, prompt_tokens, new_tokens: B, G, P, T; no padding.
        shared: whether a prompt is computed once or with each of its completions.
    """
    copies = prompts * (1 if shared else samples)
    completions = prompts * samples
    token = token_flops(config) + sum(adapter_flops(config))
    trunk = token * (copies * prompt_tokens + completions * new_tokens)
    attention = copies * attention_flops(config, 0, prompt_tokens)
    attention += completions * attention_flops(config, prompt_tokens, new_tokens)
    return trunk + attention + completions * new_tokens * logits_flops(config)


def update_flops(
    config: ModelConfig,
    prompts: int,
    samples: int,
    prompt_tokens: int,
    new_tokens: int,
    *,
    shared: bool,
) -> float:
    """Learning once from each of the completions of `forward_flops`: forward and backward."""
    forward = forward_flops(config, prompts, samples, prompt_tokens, new_tokens, shared=shared)
    if config.lora is None:
        return 3 * forward
    completions = prompts * samples * new_tokens
    tokens = prompts * (1 if shared else samples) * prompt_tokens + completions
    frozen = token_flops(config) + adapter_flops(config)[1]
    return 3 * forward - tokens * frozen - completions * logits_flops(config)


def canvas_flops(config: ModelConfig, rows: int, tokens: int, predicted: int) -> float:
    """A pass over rows whose tokens all see each other, as masked diffusion has them, forward.

    Args:
        config: of the model.
        rows, tokens: N rows of S tokens; no padding.
        predicted: tokens of a row that meet the vocabulary.
    """
    trunk = tokens * (token_flops(config) + sum(adapter_flops(config)))
    attention = 4.0 * config.heads * config.head_dim * config.layers * tokens**2
    return rows * (trunk + attention + predicted * logits_flops(config))


def canvas_update_flops(config: ModelConfig, rows: int, tokens: int, predicted: int) -> float:
    """A pass of `canvas_flops`, forward and backward."""
    forward = canvas_flops(config, rows, tokens, predicted)
    if config.lora is None:
        return 3 * forward
    frozen = tokens * (token_flops(config) + adapter_flops(config)[1])
    return 3 * forward - rows * (frozen + predicted * logits_flops(config))


def sampling_flops(
    config: ModelConfig, prompts: int, samples: int, prompt_tokens: int, new_tokens: int
) -> float:
    """Sampling: as `forward_flops` with shared prompts, but the last token enters no layer."""
    completions = prompts * samples
    last = token_flops(config) + sum(adapter_flops(config))
    last += attention_flops(config, prompt_tokens + new_tokens - 1, 1)
    total = forward_flops(config, prompts, samples, prompt_tokens, new_tokens, shared=True)
    return total - completions * last
