"""The shape of a transformer: one trunk, configured, for every published family."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from rljax.parallel.rules import check_context

DTYPES = ("float32", "bfloat16")
REMAT = ("none", "dots", "full", "offload")
CHOICES = {
    "dtype": DTYPES,
    "param_dtype": DTYPES,
    "remat": REMAT,
    "activation": ("silu", "gelu_tanh"),
    "query_key_norm": ("none", "head", "projection"),
    "norm_placement": ("pre", "post", "both"),
    "head": ("language_model", "value", "reward", "process_reward"),
    "attention": ("auto", "dense", "splash", "cudnn"),
    "decode_attention": ("auto", "dense", "ragged"),
    "router_score": ("softmax", "sigmoid"),
}
# What numbers may be: smallest and largest. The largest sizes lie far above any model that exists;
# beyond them a config is a slip or a damaged file, and would fill the memory first.
LIMITS: dict[str, tuple[float, float]] = {
    "vocab_size": (1, 2**24),
    "mask_token": (-1, 2**24),
    "layers": (1, 1024),
    "width": (1, 2**20),
    "heads": (1, 2**14),
    "kv_heads": (1, 2**14),
    "head_dim": (1, 2**14),
    "mlp_width": (1, 2**22),
    "embedding_scale": (0, 1e6),
    "rope_base": (1, 1e15),
    "local_rope_base": (0, 1e15),
    "attention_scale": (0, 1e6),
    "attention_softcap": (0, 1e6),
    "logit_softcap": (0, 1e6),
    "sliding_window": (0, 2**31 - 1),
    "global_every": (0, 1024),
    "norm_epsilon": (0, 1),
    "norm_offset": (-1e3, 1e3),
    "experts": (0, 2**14),
    "experts_per_token": (0, 2**14),
    "expert_width": (0, 2**22),
    "router_bias_rate": (0, 1e3),
    "router_aux_weight": (0, 1e6),
    "head_outputs": (1, 2**20),
    "max_positions": (0, 2**31 - 1),
}
ROPE_LIMITS: dict[str, tuple[float, float]] = {
    "factor": (1, 1e6),
    "original_positions": (1, 2**31 - 1),
    "low_frequency_factor": (0, 1e6),
    "high_frequency_factor": (0, 1e6),
    "beta_fast": (0, 1e6),
    "beta_slow": (0, 1e6),
    "attention_factor": (0, 1e6),
}

# The rows of the embedding are padded to a multiple of this, so that a mesh axis divides them.
VOCAB_MULTIPLE = 8


def check_limits(
    values: Mapping[str, Any], limits: Mapping[str, tuple[float, float]], section: str = ""
) -> None:
    """Raises ValueError unless every number is between its two limits, which nan is not.

    Args:
        values: fields; those without limits are not looked at.
        limits: field -> (smallest, largest).
        section: of a config that they belong to, such as "config.model"; "": of none.
    """
    for field, (least, most) in limits.items():
        if field in values and not least <= values[field] <= most:
            value, place = values[field], f" ({section}.{field})" if section else ""
            rule = f">= {least}" if value < least else f"in {least}..{most:g}"
            raise ValueError(f"{field} must be {rule}, got {value}{place}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched for contexts longer than those first trained on.

    Attributes:
        kind: "linear" divides positions by `factor`; "llama3" leaves fast pairs, slows slow ones by
            `factor` and blends between; "yarn" (arXiv:2309.00071) blends by rotations per context.
        factor: how much longer the context becomes.
        original_positions: llama3, yarn: length of the context first trained on.
        low_frequency_factor, high_frequency_factor: llama3: where blending begins and ends.
        beta_fast, beta_slow: yarn: rotations per original context where blending begins and ends.
        attention_factor: yarn: multiplies cosines and sines; 0 is 0.1 ln(factor) + 1.
    """

    kind: str
    factor: float
    original_positions: int = 8192
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "llama3", "yarn"):
            raise ValueError(
                f"Unknown rope scaling {self.kind!r}; known: linear, llama3, yarn "
                "(config.model.rope_scaling.kind)."
            )
        check_limits(vars(self), ROPE_LIMITS, "config.model.rope_scaling")
        for lower, upper, kind in (
            ("low_frequency_factor", "high_frequency_factor", "llama3"),
            ("beta_slow", "beta_fast", "yarn"),
        ):
            low, high = getattr(self, lower), getattr(self, upper)
            if self.kind == kind and not 0 < low < high:
                raise ValueError(
                    f"{kind} blends from {lower} to {upper}: 0 < {lower} < {upper}, got {low} and "
                    f"{high} (config.model.rope_scaling.{lower})."
                )


# Projections that an adapter can be put on, by the names of this package.
LORA_MODULES = ("query", "key", "value", "out", "gate", "up", "down")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adapters on frozen matrices (models/lora.py).

    Attributes:
        rank: r.
        alpha: the product of the adapters is scaled by alpha / r.
        rank_stabilised: scale by alpha / sqrt(r) instead (rsLoRA, arXiv:2312.03732).
        modules: the projections that carry an adapter.
        kind: "lora" trains A and B (arXiv:2106.09685); "lora_sb" trains only R of B R A, with
            A and B from the first full gradient (arXiv:2411.19557).
        base: how the frozen matrices are held: as "full" parameters, or quantised "int8", "nf4".
    """

    rank: int
    alpha: float
    rank_stabilised: bool = False
    modules: tuple[str, ...] = LORA_MODULES
    kind: str = "lora"
    base: str = "full"

    def __post_init__(self) -> None:
        unknown = [name for name in self.modules if name not in LORA_MODULES]
        if unknown or not self.modules:
            raise ValueError(
                f"Unknown modules {unknown or self.modules}; adapters can be on "
                f"{', '.join(LORA_MODULES)} (config.model.lora.modules)."
            )
        for field, known in (("kind", ("lora", "lora_sb")), ("base", ("full", "int8", "nf4"))):
            if getattr(self, field) not in known:
                raise ValueError(
                    f"Unknown {field} {getattr(self, field)!r}; known: {', '.join(known)} "
                    f"(config.model.lora.{field})."
                )
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(
                f"rank must be >= 1 and alpha > 0, got {self.rank} and {self.alpha} "
                "(config.model.lora.rank, config.model.lora.alpha)."
            )

    @property
    def scale(self) -> float:
        """What multiplies the product of the adapters."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape and precision of a transformer.

    By default it is as plain as Llama's; `presets.py` and `pretrained/` set what a family has more.
    """

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int  # of a dense MLP; ignored where there are experts
    activation: str = "silu"  # of the gate
    tied_embeddings: bool = True
    embedding_scale: float = 1.0  # multiplies the embedded tokens (Gemma: sqrt(width))
    causal: bool = True  # False: every token sees the whole segment (masked diffusion)
    mask_token: int = -1  # of masked diffusion: id of a position to be filled; -1: none
    shift_logits: bool = False  # of masked diffusion: slot i - 1 predicts token i (Dream), not i

    max_positions: int = 0  # tokens of a row that the model is made for; 0: not known
    rope_base: float = 10_000.0
    rope_scaling: RopeScaling | None = None  # of the layers that see everything
    local_rope_base: float = 0.0  # of the layers with a window; 0: as the others, scaling included

    attention_bias: bool = False  # on query, key and value (Qwen2)
    query_key_norm: str = "none"  # RMSNorm over each "head" (Qwen3), or the "projection" (OLMo2)
    attention_scale: float = 0.0  # multiplies the scores; 0 is head_dim ** -0.5
    attention_softcap: float = 0.0  # scores become c tanh(scores / c); 0: off
    sliding_window: int = 0  # tokens that a local layer sees, its own included; 0: no local layers
    global_every: int = 0  # every so many layers one sees everything; 0: none, if there is a window
    attention: str = "auto"  # which kernel for whole rows (models/attention/select.py)
    decode_attention: str = "auto"  # which one for a row's own cache (models/attention/ragged.py)

    norm_epsilon: float = 1e-6
    norm_offset: float = 0.0  # added to the scales (Gemma: 1)
    norm_placement: str = "pre"  # before each sublayer (Llama), after it (OLMo2), or both (Gemma2)
    logit_softcap: float = 0.0  # as attention_softcap, for the logits

    experts: int = 0  # E; 0: a dense MLP
    experts_per_token: int = 0  # K
    expert_width: int = 0  # hidden size of one expert
    router_score: str = "softmax"  # of the router's logits
    normalise_router: bool = True  # gates of the chosen experts sum to 1
    router_bias: bool = False  # added to the scores where experts are chosen (models/moe.py)
    router_bias_rate: float = 0.0  # auxiliary-loss-free balancing: step of the bias after an update
    router_aux_weight: float = 0.0  # weight of the load-balancing loss

    head: str = "language_model"
    head_outputs: int = 1  # labels of a process-reward head
    head_bias: bool = False  # of a value, reward or process-reward head

    dtype: str = "float32"  # of activations and matrix products; reductions and logits are float32
    param_dtype: str = "float32"  # of the stored parameters
    remat: str = "none"  # what the backward pass recomputes (models/transformer.py)
    lora: LoRAConfig | None = None

    def __post_init__(self) -> None:
        check_limits(vars(self), LIMITS, "config.model")
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
        for field, known in CHOICES.items():
            if getattr(self, field) not in known:
                raise ValueError(
                    f"Unknown {field} {getattr(self, field)!r}; known: {known} "
                    f"(config.model.{field})."
                )
        self._check_mask_token()
        if self.experts:
            self._check_experts()
        if self.global_every and not self.sliding_window:
            raise ValueError(
                f"global_every={self.global_every} without a sliding_window: there are no local "
                "layers (config.model.global_every, config.model.sliding_window)."
            )

    def _check_mask_token(self) -> None:
        if self.causal and (self.mask_token >= 0 or self.shift_logits):
            raise ValueError(
                f"mask_token={self.mask_token} and shift_logits={self.shift_logits} are of masked "
                "diffusion, causal=False; this network is causal (config.model.mask_token, "
                "config.model.shift_logits, config.model.causal)."
            )
        if self.mask_token >= self.vocab_size:
            raise ValueError(
                f"mask_token must be below vocab_size={self.vocab_size}, got {self.mask_token}: it "
                "needs a row of the embedding that no token of the text has "
                "(config.model.mask_token, config.model.vocab_size)."
            )

    def _check_experts(self) -> None:
        if not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(
                f"experts_per_token must be in 1..{self.experts} (experts), got "
                f"{self.experts_per_token} (config.model.experts_per_token)."
            )
        if self.expert_width < 1:
            raise ValueError(
                f"expert_width must be >= 1 with experts={self.experts}, got {self.expert_width} "
                "(config.model.expert_width)."
            )
        mlp = {"gate", "up", "down"}
        if self.lora is not None and mlp & set(self.lora.modules):
            raise ValueError(
                f"Adapters on experts are not supported; modules is {self.lora.modules}, leave out "
                "gate, up and down (config.model.lora.modules)."
            )

    def check_positions(self, tokens: int, what: str, remedy: str) -> None:
        """Raises ValueError for a row that is longer than the positions of this model.

        Args:
            tokens: of prompt and completion together.
            what: whose they are, such as "Prompt 0 and its completion".
            remedy: what to do, and the field where.
        """
        if self.max_positions and tokens > self.max_positions:
            raise ValueError(
                f"{what} can have {tokens} tokens, and the model is made for {self.max_positions} "
                f"positions (max_position_embeddings of its config.json): {remedy}."
            )

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding; ids from vocab_size on are never sampled nor scored."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    @property
    def compute_dtype(self) -> jnp.dtype:
        """The dtype of activations."""
        return jnp.dtype(self.dtype)

    @property
    def score_scale(self) -> float:
        """What multiplies the attention scores."""
        return self.attention_scale or self.head_dim**-0.5

    @property
    def global_layers(self) -> tuple[bool, ...]:
        """For each layer whether it sees everything before it, not only a window."""
        if not self.sliding_window:
            return (True,) * self.layers
        every = self.global_every
        return tuple(bool(every) and (index + 1) % every == 0 for index in range(self.layers))

    def check_mesh(self, mesh_shape: dict[str, int]) -> None:
        """Raises ValueError unless every sharded dimension divides by its mesh axis."""
        check_context(mesh_shape, self.heads)
        sharded = {
            "heads": (self.heads, "tensor"),
            "kv_heads": (self.kv_heads, "tensor"),
            "mlp_width": (self.mlp_width, "tensor"),
            "padded_vocab_size": (self.padded_vocab_size, "tensor"),
            "width": (self.width, "fsdp"),
        }
        if self.experts:
            del sharded["mlp_width"]
            sharded |= {
                "expert_width": (self.expert_width, "tensor"),
                "experts": (self.experts, "expert"),
            }
        elif mesh_shape.get("expert", 1) > 1:
            raise ValueError(
                f"The mesh axis expert={mesh_shape['expert']} needs a model with experts "
                "(config.mesh.expert, config.model.experts)."
            )
        for field, (size, axis) in sharded.items():
            if size % mesh_shape.get(axis, 1):
                place = "tokenizer" if field == "padded_vocab_size" else f"model.{field}"
                raise ValueError(
                    f"{field}={size} does not divide by the mesh axis {axis}={mesh_shape[axis]} "
                    f"(config.{place}, config.mesh.{axis})."
                )
