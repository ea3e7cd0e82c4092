"""Adapters in the files of PEFT: adapter_config.json and adapter_model.safetensors.

PEFT keeps A as [r, in] and B as [out, r] of each layer under names like
base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight. Its scale is alpha / r, or
alpha / sqrt(r) with use_rslora. It knows no third matrix: the R of LoRA-SB is multiplied into A.
"""

import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rljax.models.config import LoRAConfig
from rljax.models.lora import Leaves, combine, drop_adapters, flatten, projections, unflatten
from rljax.models.network import Network, Params
from rljax.models.pretrained.checks import read_json
from rljax.models.pretrained.tensor_files import (
    DTYPES,
    FORMATS,
    check_finite,
    read_header,
    write_file,
)

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."

# No rank and no alpha is near it.
LARGEST = 10**6

# Our projections -> the modules of Hugging Face's decoders.
MODULES = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
OURS = {theirs.rpartition(".")[2]: ours for ours, theirs in MODULES.items()}

# Settings of PEFT that are read here, and those that change nothing in a trained adapter. Any other
# one must be empty: it may change what is computed.
READ = ("peft_type", "r", "lora_alpha", "use_rslora", "target_modules")
HARMLESS = (
    "task_type",
    "base_model_name_or_path",
    "revision",
    "auto_mapping",
    "inference_mode",
    "lora_dropout",
    "peft_version",
    "megatron_core",  # a name, read with megatron_config only
    "qalora_group_size",  # read with use_qalora only
)
# Values that are as good as none. Other ways to begin, such as "pissa", change the frozen matrices.
NEUTRAL = {"bias": ("none",), "init_lora_weights": (True, "gaussian", "orthogonal")}


def save_adapters(
    folder: str | Path, network: Network, params: Params, *, base_model: str = ""
) -> None:
    """Writes the adapters of a network, in their dtype.

    Args:
        folder: made if needed.
        network: with adapters.
        params: all parameters, or those of a state.
        base_model: name or folder of the frozen model, for `PeftModel` and for people.

    Raises:
        ValueError: if the network has no adapters.
    """
    lora = network.config.lora
    if lora is None:
        raise ValueError("This model has no adapters to save (config.model.lora.rank).")
    folder, leaves = Path(folder), flatten(params)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    for path in projections(network):
        a, b, r = (_on_host(leaves.get((*path, f"lora_{name}"))) for name in "abr")
        rank = b.shape[1]
        a = a.reshape(len(a), -1, rank)
        if r is not None:
            product = a.astype(np.float32) @ r.astype(np.float32)
            a = product.astype(a.dtype)
        b = b.reshape(len(b), rank, -1)
        for layer in range(len(a)):
            name = _name(layer, path[-1])
            tensors[f"{name}.lora_A.weight"] = a[layer].T
            tensors[f"{name}.lora_B.weight"] = b[layer].T
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    write_file(folder / WEIGHTS, shapes, tensors.values(), FORMATS[network.config.param_dtype])
    text = json.dumps(_peft_config(lora, base_model), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n")


def read_adapter_config(folder: str | Path) -> LoRAConfig:
    """The adapters that a folder of PEFT holds.

    Raises:
        ValueError: for another kind of adapter, or a setting that we do not have.
    """
    path = Path(folder) / CONFIG
    values = read_json(path)
    if values.get("peft_type") != "LORA":
        raise ValueError(f"{path}: peft_type is {values.get('peft_type')!r}; only 'LORA' is known.")
    for name, value in values.items():
        if value and name not in (*READ, *HARMLESS) and value not in NEUTRAL.get(name, ()):
            raise ValueError(f"{path}: {name}={value!r} is not supported.")
    for name, kinds in {"r": int, "lora_alpha": (int, float)}.items():
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value <= LARGEST:
            raise ValueError(
                f"{path}: {name} must be a number > 0, at most {LARGEST}, got {value!r}."
            )
    modules = values.get("target_modules")
    short = [str(module).rpartition(".")[2] for module in modules] if _is_list(modules) else []
    unknown = sorted(set(short) - set(OURS))
    if unknown or not short:
        raise ValueError(
            f"{path}: target_modules={unknown or modules}; known are {', '.join(sorted(OURS))}."
        )
    return LoRAConfig(
        rank=values["r"],
        alpha=float(values["lora_alpha"]),
        rank_stabilised=bool(values.get("use_rslora")),
        modules=tuple(name for name in MODULES if name in {OURS[module] for module in short}),
    )


def load_adapters(folder: str | Path, network: Network, params: Params, mesh: Mesh) -> Params:
    """`params` with the adapters of a folder, in the network's shardings; nothing else is copied.

    Args:
        folder: of PEFT.
        network: whose adapters must be those of `read_adapter_config`.
        params: with or without adapters.
        mesh: to place them on.

    Raises:
        ValueError: if the files are damaged or hold other adapters than the network's (all
            differences are listed).
    """
    folder, lora = Path(folder), network.config.lora
    found = read_adapter_config(folder)
    fields = ("rank", "alpha", "rank_stabilised", "kind")
    for field in fields:
        ours = getattr(lora, field, None)
        if ours != getattr(found, field):
            raise ValueError(
                f"{folder / CONFIG} has {field}={getattr(found, field)!r}, the model {ours!r} "
                f"(config.model.lora.{field})."
            )
    stored = _read(folder, network)
    shapes, shardings = flatten(network.shapes), flatten(network.shardings(mesh))
    adapters: Leaves = {}
    for path in projections(network):
        for leaf, theirs in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
            shape = shapes[(*path, leaf)]
            layers = [
                stored[f"{_name(layer, path[-1])}.{theirs}.weight"].T.reshape(shape.shape[1:])
                for layer in range(shape.shape[0])
            ]
            value = np.stack(layers).astype(shape.dtype)
            check_finite(f"{theirs} of {path[-1]}, by layer,", folder / WEIGHTS, value)
            adapters[(*path, leaf)] = jax.device_put(value, shardings[(*path, leaf)])
    return combine(drop_adapters(params), unflatten(adapters))


def _read(folder: Path, network: Network) -> dict[str, np.ndarray]:
    """The tensors, which must be exactly those of the network's adapters; read as they are used."""
    path, expected = folder / WEIGHTS, _tensor_shapes(network)
    try:
        stored = read_header(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    found = {name: tensor.shape for name, tensor in stored.items()}
    wrong = [
        f"{name}: stored {found.get(name, 'nothing')}, expected {expected.get(name, 'nothing')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    wrong += [
        f"{name}: is {tensor.dtype}, supported are {', '.join(DTYPES)}"
        for name, tensor in stored.items()
        if tensor.dtype not in DTYPES
    ]
    if wrong:
        listed = "\n  ".join(wrong[:20])
        raise ValueError(
            f"{len(wrong)} tensors of {path} are not those of this model's adapters:\n  {listed}\n"
            "(config.model.lora.modules, config.model.lora.rank)."
        )
    return {name: tensor.map() for name, tensor in stored.items()}


def _tensor_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """PEFT's tensors for the adapters of a network."""
    shapes, expected = flatten(network.shapes), {}
    for path in projections(network):
        a, b = shapes[(*path, "lora_a")].shape, shapes[(*path, "lora_b")].shape
        for layer in range(a[0]):
            name = _name(layer, path[-1])
            expected[f"{name}.lora_A.weight"] = (a[-1], math.prod(a[1:-1]))
            expected[f"{name}.lora_B.weight"] = (math.prod(b[2:]), b[1])
    return expected


def _name(layer: int, module: str) -> str:
    return f"{PREFIX}model.layers.{layer}.{MODULES[module]}"


def _on_host(leaf: jax.Array | None) -> np.ndarray | None:
    return None if leaf is None else np.asarray(leaf)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _peft_config(lora: LoRAConfig, base_model: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "use_rslora": lora.rank_stabilised,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": [MODULES[name].rpartition(".")[2] for name in lora.modules],
    }
