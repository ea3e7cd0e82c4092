"""Bytes that a model takes: to be held, and to be trained."""

import dataclasses

from rljax.models.config import LoRAConfig, ModelConfig
from rljax.models.network import Network
from rljax.models.presets import preset

# Of the adapters whose memory is told.
LORA_RANK = 16
# Bytes that one parameter takes in AdamW besides itself: its gradient and two moments, float32.
TRAINED_BYTES = 12

DTYPES = {"float32": 4, "bfloat16": 2}
USES = ("to load", "to train all with AdamW", f"to train LoRA of rank {LORA_RANK}")

# Published shapes that the guide's table shows.
SHOWN = (
    *("qwen2_5_0_5b", "qwen2_5_1_5b", "qwen2_5_7b", "qwen3_0_6b", "qwen3_1_7b", "qwen3_4b"),
    *("qwen3_8b", "qwen3_30b_a3b", "llama3_2_1b", "llama3_2_3b", "llama3_1_8b", "gemma3_1b"),
    *("gemma3_4b", "olmo2_1b", "olmo2_7b"),
)


def model_bytes(network: Network) -> dict[str, int]:
    """Bytes of parameters and of what training keeps for them, all devices together.

    Returns:
        "USE, DTYPE" -> bytes, for every one of `USES` and every type of the parameters.
    """
    count, found = network.parameter_count, {}
    adapters = 0 if network.config.lora is not None else _adapters(network)
    for dtype, size in DTYPES.items():
        whole = count * size
        trained = whole + adapters * (size + TRAINED_BYTES)
        needed = (whole, whole + count * TRAINED_BYTES, trained)
        found |= dict(zip((f"{name}, {dtype}" for name in USES), needed, strict=True))
    return found


def _adapters(network: Network) -> int:
    """Parameters of adapters on every projection; of a mixture, of those of attention."""
    modules = ("query", "key", "value", "out") if network.config.experts else None
    lora = LoRAConfig(rank=LORA_RANK, alpha=float(LORA_RANK))
    if modules:
        lora = dataclasses.replace(lora, modules=modules)
    whole = Network.create(dataclasses.replace(network.config, lora=lora))
    return whole.parameter_count - network.parameter_count


def as_markdown() -> str:
    """The table of the guide: `SHOWN`, in GiB."""
    names = [f"{use}, {dtype}" for use in USES for dtype in DTYPES]
    lines = [
        f"| preset | parameters | {' | '.join(names)} |",
        f"| --- |{' ---: |' * (len(names) + 1)}",
    ]
    for name in SHOWN:
        network = Network.create(ModelConfig(**preset(name)))
        needed = model_bytes(network)
        cells = [f"{needed[each] / 2**30:.1f}" for each in names]
        millions = f"{network.parameter_count / 1e6:,.0f} M"
        lines.append(f"| `{name}` | {millions} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
