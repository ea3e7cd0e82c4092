"""Makes the checkpoints in fixtures/ and what transformers computes with them.

    python tests/models/pretrained/make_fixtures.py

Each folder holds a random float32 checkpoint (config.json, model.safetensors), gradient.safetensors
with the gradient of a loss under the names of the weights, and expected.npz:

    tokens, positions, segment_ids   [3, 13] i32: a full row, one padded left, one padded right
    hidden                           [L + 1, 3, 13, D] what enters each layer and leaves the last
    scores                           logits [3, 13, V]; or those of a classification head

Numbers are large enough that norms, biases, windows and caps matter. LLaDA and Dream are no part of
transformers: they are Llama and Qwen2 without a causal mask, and LLaDA has other names.
"""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

FIXTURES = Path(__file__).parent / "fixtures"
VOCAB, STEPS, PAD = 61, 13, 0
LENGTHS = (STEPS, 9, 7)  # full, padded left, padded right

SMALL = dict(
    vocab_size=VOCAB,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    rms_norm_eps=1e-3,
    rope_theta=100.0,
    tie_word_embeddings=False,
    pad_token_id=PAD,
    bos_token_id=1,
    eos_token_id=2,
    attn_implementation="eager",
)
LLAMA3 = dict(
    rope_type="llama3",
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
EXPERTS = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=16)
GEMMA2 = dict(
    num_hidden_layers=3,
    head_dim=10,
    query_pre_attn_scalar=6,
    sliding_window=4,
    attn_logit_softcapping=2.0,
    final_logit_softcapping=3.0,
    tie_word_embeddings=True,
)
GEMMA3 = dict(
    num_hidden_layers=3,
    head_dim=10,
    query_pre_attn_scalar=6,
    sliding_window=4,
    layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    rope_scaling=dict(rope_type="linear", factor=8.0),
    rope_theta=1000.0,
    rope_local_base_freq=50.0,
    tie_word_embeddings=True,
)
OLMO2 = {key: value for key, value in SMALL.items() if key != "head_dim"}

# Folder: (class without its head, the head, options over SMALL).
LANGUAGE_MODEL, SEQUENCE, TOKEN = "CausalLM", "SequenceClassification", "TokenClassification"
CASES = {
    "llama3_tied": ("Llama", LANGUAGE_MODEL, dict(rope_scaling=LLAMA3, tie_word_embeddings=True)),
    "llama_linear": (
        "Llama",
        LANGUAGE_MODEL,
        dict(rope_scaling=dict(rope_type="linear", factor=4.0), num_key_value_heads=4),
    ),
    "mistral_window": ("Mistral", LANGUAGE_MODEL, dict(sliding_window=4)),
    "qwen2_tied": ("Qwen2", LANGUAGE_MODEL, dict(tie_word_embeddings=True)),
    "qwen2_yarn": ("Qwen2", LANGUAGE_MODEL, dict(rope_scaling=YARN, num_key_value_heads=1)),
    "qwen2_window": (
        "Qwen2",
        LANGUAGE_MODEL,
        dict(use_sliding_window=True, sliding_window=5, max_window_layers=0),
    ),
    "qwen3": ("Qwen3", LANGUAGE_MODEL, dict()),
    "qwen3_moe_normalised": ("Qwen3Moe", LANGUAGE_MODEL, EXPERTS | dict(norm_topk_prob=True)),
    "qwen3_moe": ("Qwen3Moe", LANGUAGE_MODEL, EXPERTS | dict(norm_topk_prob=False)),
    "gemma2": ("Gemma2", LANGUAGE_MODEL, GEMMA2),
    "gemma3_text": ("Gemma3", LANGUAGE_MODEL, GEMMA3),
    "olmo2": ("Olmo2", LANGUAGE_MODEL, dict(num_attention_heads=4, num_key_value_heads=2)),
    "llada": ("Llama", LANGUAGE_MODEL, dict(head_dim=6)),
    "dream": ("Qwen2", LANGUAGE_MODEL, dict()),
    "llama_reward": ("Llama", SEQUENCE, dict(num_labels=1)),
    "qwen2_process_reward": ("Qwen2", TOKEN, dict(num_labels=2)),
    "gemma3_reward": ("Gemma3Text", SEQUENCE, GEMMA3 | dict(num_labels=1)),
}

LLADA_NAMES = {
    "model.embed_tokens.weight": "model.transformer.wte.weight",
    "lm_head.weight": "model.transformer.ff_out.weight",
    "model.norm.weight": "model.transformer.ln_f.weight",
    "model.layers": "model.transformer.blocks",
    "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj",
    "self_attn.v_proj": "v_proj",
    "self_attn.o_proj": "attn_out",
    "mlp.gate_proj": "ff_proj",
    "mlp.up_proj": "up_proj",
    "mlp.down_proj": "ff_out",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ff_norm",
}
LLADA_CONFIG = dict(
    model_type="llada",
    architectures=["LLaDAModelLM"],
    d_model=24,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    mlp_hidden_size=40,
    rms_norm_eps=1e-3,
    rope_theta=100.0,
    vocab_size=VOCAB,
    embedding_size=VOCAB,
    weight_tying=False,
    activation_type="silu",
    block_type="llama",
    layer_norm_type="rms",
    rope=True,
    alibi=False,
    max_sequence_length=64,
)


def make_model(name: str) -> nn.Module:
    """A model of a case with random numbers."""
    prefix, head, options = CASES[name]
    kind = "Gemma3Text" if prefix.startswith("Gemma3") else prefix
    base = OLMO2 if prefix == "Olmo2" else SMALL
    # Configs write into the dicts that they are given.
    config = getattr(transformers, f"{kind}Config")(**copy.deepcopy(base | options))
    torch.manual_seed(list(CASES).index(name))
    model = getattr(transformers, f"{prefix}For{head}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def make_rows(seed: int) -> dict[str, np.ndarray]:
    """Tokens, positions and segments of three rows."""
    random = np.random.default_rng(seed)
    tokens = random.integers(PAD + 1, VOCAB, (3, STEPS), dtype=np.int32)
    segments = np.ones((3, STEPS), np.int32)
    segments[1, : STEPS - LENGTHS[1]] = 0
    segments[2, LENGTHS[2] :] = 0
    positions = np.maximum(np.cumsum(segments, axis=1, dtype=np.int32) - 1, 0)
    return {
        "tokens": np.where(segments > 0, tokens, PAD).astype(np.int32),
        "positions": positions,
        "segment_ids": segments,
    }


def forward(model: nn.Module, rows: dict[str, np.ndarray], *, causal: bool) -> tuple:
    """Scores, and what enters each layer and leaves the last one."""
    tokens, positions, segments = (torch.tensor(rows[key]).long() for key in rows)
    mask = segments
    if not causal:
        hidden_keys = (segments == 0)[:, None, None, :].expand(-1, 1, STEPS, -1)
        mask = hidden_keys * torch.finfo(torch.float32).min
    kept = []
    layers = model.model.layers
    hooks = [
        layer.register_forward_pre_hook(
            lambda module, args, kwargs: kept.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        for layer in layers
    ]
    hooks += [layers[-1].register_forward_hook(lambda module, args, output: kept.append(output))]
    scores = model(tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return scores, torch.stack(kept)


def loss_of(scores: torch.Tensor, rows: dict[str, np.ndarray]) -> torch.Tensor:
    """Mean next-token cross-entropy over pairs of real tokens; of a head half the mean square."""
    real = torch.tensor(rows["segment_ids"]) > 0
    if scores.ndim == 2:
        return 0.5 * scores.square().mean()
    if scores.shape[-1] != VOCAB:
        return 0.5 * scores[real].square().mean()
    targets = torch.tensor(rows["tokens"]).long()[:, 1:]
    losses = nn.functional.cross_entropy(scores[:, :-1].transpose(1, 2), targets, reduction="none")
    return losses[real[:, :-1] & real[:, 1:]].mean()


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """The gradient of every weight, by the name it has in files: experts one by one."""
    found = {}
    for name, parameter in model.named_parameters():
        stem, _, last = name.rpartition(".")
        if last == "gate_up_proj":
            for expert, pair in enumerate(parameter.grad):
                gate, up = pair.chunk(2)
                found[f"{stem}.{expert}.gate_proj.weight"] = gate.contiguous()
                found[f"{stem}.{expert}.up_proj.weight"] = up.contiguous()
        elif last == "down_proj":
            for expert, down in enumerate(parameter.grad):
                found[f"{stem}.{expert}.down_proj.weight"] = down.contiguous()
        else:
            found[name] = parameter.grad
    return found


def llada_named(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Llama's tensors under LLaDA's names."""
    renamed = {}
    for name, tensor in tensors.items():
        for theirs, new in LLADA_NAMES.items():
            name = name.replace(theirs, new)
        renamed[name] = tensor
    return renamed


def make_case(name: str) -> None:
    """Writes one folder."""
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    model, rows = make_model(name), make_rows(len(name))
    scores, hidden = forward(model, rows, causal=name not in ("llada", "dream"))
    loss_of(scores, rows).backward()
    expected = {"scores": scores.detach().numpy(), "hidden": hidden.detach().numpy()}
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    weights, gradient = load_file(folder / "model.safetensors"), gradients(model)
    if name == "llada":
        weights, gradient, config = llada_named(weights), llada_named(gradient), LLADA_CONFIG
    if name == "dream":
        config |= dict(model_type="Dream", architectures=["DreamModel"])
    assert weights.keys() == gradient.keys(), weights.keys() ^ gradient.keys()
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(weights, folder / "model.safetensors")
    save_file(gradient, folder / "gradient.safetensors")
    np.savez_compressed(folder / "expected.npz", **rows, **expected)


def make_rope() -> None:
    """Frequencies and the factor of cosines and sines, of each kind of scaling at real sizes."""
    published = {
        "llama_3_1": (
            500_000.0,
            128,
            dict(LLAMA3, factor=8.0) | dict(original_max_position_embeddings=8192),
        ),
        "llama_3_2": (
            500_000.0,
            64,
            dict(LLAMA3, factor=32.0) | dict(original_max_position_embeddings=8192),
        ),
        "gemma_3_4b": (1_000_000.0, 256, dict(rope_type="linear", factor=8.0)),
        "qwen_2_5_yarn": (1_000_000.0, 128, dict(YARN, original_max_position_embeddings=32768)),
        "yarn_betas": (
            10_000.0,
            16,
            dict(YARN, beta_fast=4.0, beta_slow=0.5, attention_factor=1.3),
        ),
        "yarn_mscale": (10_000.0, 16, dict(YARN, mscale=0.7, mscale_all_dim=1.2)),
    }
    found = {}
    for name, (base, size, scaling) in published.items():
        options = dict(hidden_size=2 * size, num_attention_heads=2, head_dim=size, rope_theta=base)
        config = transformers.LlamaConfig(**options, rope_scaling=dict(scaling))
        frequencies, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu")
        found[name] = {
            "config": options | {"rope_scaling": scaling, "max_position_embeddings": 131_072},
            "frequencies": frequencies.tolist(),
            "factor": factor,
        }
    (FIXTURES / "rope.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    for name in CASES:
        make_case(name)
    make_rope()
