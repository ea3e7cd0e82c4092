"""The names and layouts of the tensors in published checkpoints.

In the tables, left is the path of our parameter, right the tensor in the file; {} stands for the
layer, then for the expert: these are the leading axes of our stacked parameter.
"""

import dataclasses
import math

import numpy as np

from rljax.models.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one of our parameters lies in files.

    Attributes:
        name: of the tensor; a {} for each leading axis that the file splits into separate tensors.
        kind: how the file has the rest of our shape: "rows" [V', D] is [V, D], "flat" [...] is [n],
            "linear" [*inputs, *outputs] is the transpose [outputs, inputs].
        inputs: how many axes of a linear map are inputs.
    """

    name: str
    kind: str
    inputs: int = 0

    @property
    def stacked(self) -> int:
        """How many of our leading axes are separate tensors in the file."""
        return self.name.count("{}")

    def file_shape(self, shape: tuple[int, ...], config: ModelConfig) -> tuple[int, ...]:
        """The shape of one tensor in the file, for our whole shape."""
        shape = shape[self.stacked :]
        if self.kind == "rows":
            return (config.vocab_size, *shape[1:])
        if self.kind == "flat":
            return (math.prod(shape),)
        return (math.prod(shape[self.inputs :]), math.prod(shape[: self.inputs]))

    def file_slices(self, parts: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
        """The part of a tensor in the file that holds a part of ours.

        Args:
            parts: of our axes without the stacked ones.
            shape: their sizes.
        """
        if self.kind == "rows":
            return parts
        if self.kind == "flat":
            return (_merged(parts, shape),)
        inputs = _merged(parts[: self.inputs], shape[: self.inputs])
        return (_merged(parts[self.inputs :], shape[self.inputs :]), inputs)

    def in_file_order(self, array: np.ndarray) -> np.ndarray:
        """A part of ours without the stacked axes, as the file has it; a view where possible."""
        if self.kind == "rows":
            return array
        if self.kind == "flat":
            return array.reshape(-1)
        return array.reshape(math.prod(array.shape[: self.inputs]), -1).T


def _merged(parts: tuple[slice, ...], shape: tuple[int, ...]) -> slice:
    """The part where several axes become one: only the first of them may be cut."""
    if any(part != slice(0, size) for part, size in zip(parts[1:], shape[1:], strict=True)):
        raise NotImplementedError(f"Only the first of the axes {shape} may be split, got {parts}.")
    inner = math.prod(shape[1:])
    return slice(parts[0].start * inner, parts[0].stop * inner)


def rows(name: str) -> Layout:
    """A table with a row for each token."""
    return Layout(name, "rows")


def flat(name: str) -> Layout:
    """Scales and biases."""
    return Layout(name, "flat")


def linear(name: str, inputs: int = 1) -> Layout:
    """A matrix."""
    return Layout(name, "linear", inputs)


_COMMON = {
    "embedding": rows("model.embed_tokens.weight"),
    "output": rows("lm_head.weight"),
    "head": linear("score.weight"),
    "head_bias": flat("score.bias"),
    "final_norm.scale": flat("model.norm.weight"),
    "blocks.attention.query.kernel": linear("model.layers.{}.self_attn.q_proj.weight"),
    "blocks.attention.query.bias": flat("model.layers.{}.self_attn.q_proj.bias"),
    "blocks.attention.key.kernel": linear("model.layers.{}.self_attn.k_proj.weight"),
    "blocks.attention.key.bias": flat("model.layers.{}.self_attn.k_proj.bias"),
    "blocks.attention.value.kernel": linear("model.layers.{}.self_attn.v_proj.weight"),
    "blocks.attention.value.bias": flat("model.layers.{}.self_attn.v_proj.bias"),
    "blocks.attention.out.kernel": linear("model.layers.{}.self_attn.o_proj.weight", inputs=2),
    "blocks.attention.query_norm.scale": flat("model.layers.{}.self_attn.q_norm.weight"),
    "blocks.attention.key_norm.scale": flat("model.layers.{}.self_attn.k_norm.weight"),
    "blocks.mlp.gate.kernel": linear("model.layers.{}.mlp.gate_proj.weight"),
    "blocks.mlp.up.kernel": linear("model.layers.{}.mlp.up_proj.weight"),
    "blocks.mlp.down.kernel": linear("model.layers.{}.mlp.down_proj.weight"),
    "blocks.mlp.router": linear("model.layers.{}.mlp.gate.weight"),
    "blocks.mlp.gate": linear("model.layers.{}.mlp.experts.{}.gate_proj.weight"),
    "blocks.mlp.up": linear("model.layers.{}.mlp.experts.{}.up_proj.weight"),
    "blocks.mlp.down": linear("model.layers.{}.mlp.experts.{}.down_proj.weight"),
}

# The same word means different norms: "post_attention" is the norm before the MLP where there are
# norms before sublayers only, and the one after attention elsewhere.
_PRE = _COMMON | {
    "blocks.attention_norm.scale": flat("model.layers.{}.input_layernorm.weight"),
    "blocks.mlp_norm.scale": flat("model.layers.{}.post_attention_layernorm.weight"),
}
_POST = _COMMON | {
    "blocks.attention_out_norm.scale": flat("model.layers.{}.post_attention_layernorm.weight"),
    "blocks.mlp_out_norm.scale": flat("model.layers.{}.post_feedforward_layernorm.weight"),
}
_BOTH = _POST | {
    "blocks.attention_norm.scale": flat("model.layers.{}.input_layernorm.weight"),
    "blocks.mlp_norm.scale": flat("model.layers.{}.pre_feedforward_layernorm.weight"),
}
_LLADA = {
    "embedding": rows("model.transformer.wte.weight"),
    "output": rows("model.transformer.ff_out.weight"),
    "final_norm.scale": flat("model.transformer.ln_f.weight"),
    "blocks.attention_norm.scale": flat("model.transformer.blocks.{}.attn_norm.weight"),
    "blocks.attention.query.kernel": linear("model.transformer.blocks.{}.q_proj.weight"),
    "blocks.attention.key.kernel": linear("model.transformer.blocks.{}.k_proj.weight"),
    "blocks.attention.value.kernel": linear("model.transformer.blocks.{}.v_proj.weight"),
    "blocks.attention.out.kernel": linear("model.transformer.blocks.{}.attn_out.weight", inputs=2),
    "blocks.mlp_norm.scale": flat("model.transformer.blocks.{}.ff_norm.weight"),
    "blocks.mlp.gate.kernel": linear("model.transformer.blocks.{}.ff_proj.weight"),
    "blocks.mlp.up.kernel": linear("model.transformer.blocks.{}.up_proj.weight"),
    "blocks.mlp.down.kernel": linear("model.transformer.blocks.{}.ff_out.weight"),
}

NAMES: dict[str, dict[str, Layout]] = {
    "llama": _PRE,
    "mistral": _PRE,
    "qwen2": _PRE,
    "qwen3": _PRE,
    "qwen3_moe": _PRE,
    "gemma2": _BOTH,
    "gemma3_text": _BOTH,
    "olmo2": _POST,
    "llada": _LLADA,
    "Dream": _PRE,
}

# Prefixes of the text part of checkpoints with a vision tower -> ours; what else such a
# checkpoint holds is left out.
TEXT_PREFIXES = {
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.lm_head.": "lm_head.",
}
VISION_PREFIXES = (
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)
# Buffers that some checkpoints hold and nothing reads.
BUFFERS = (".rotary_emb.inv_freq",)


def plain_name(name: str, *, vision: bool) -> str | None:
    """A tensor's name without the prefix of a text part; None for what is not read.

    Args:
        name: in the file.
        vision: whether the checkpoint has a vision tower.
    """
    if name.endswith(BUFFERS) or (vision and name.startswith(VISION_PREFIXES)):
        return None
    for prefix, ours in TEXT_PREFIXES.items():
        if vision and name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    return name
