"""JSON files of a model folder, and what their keys must hold."""

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rljax.errors import reason

# No JSON file of a model folder is near it: the largest, of a tokenizer, has some tens of millions.
JSON_BYTES = 500_000_000

KINDS = {
    "model_type": str,
    "architectures": list,
    "id2label": dict,
    "num_labels": int,
    "num_local_experts": int,
    "token_classification_bias": bool,
    "text_config": dict,
    "max_position_embeddings": int,
    "rope_theta": float,
    "rope_local_base_freq": float,
    "rope_scaling": dict,
    "rope_parameters": dict,
    "use_sliding_window": bool,
    "sliding_window": int,
    "sliding_window_pattern": int,
    "max_window_layers": int,
    "layer_types": list,
}
KIND_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "an object",
}
# Keys that change nothing that a model computes from its weights.
# How a reward model of ours is read besides at its last token (config/reward_role.py).
SCORED_AS = "rljax_scored_as"

HARMLESS = frozenset(
    """
    rljax_scored_as
    name_or_path transformers_version tokenizer_class dtype torch_dtype auto_map
    bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id decoder_start_token_id
    initializer_range use_cache cache_implementation pretraining_tp hidden_act router_aux_loss_coef
    output_router_logits output_attentions output_hidden_states return_dict return_dict_in_generate
    label2id problem_type finetuning_task task_specific_params prefix pruned_heads torchscript
    use_bfloat16 tf_legacy_loss is_decoder is_encoder_decoder add_cross_attention
    cross_attention_hidden_size tie_encoder_decoder chunk_size_feed_forward
    attn_implementation
    unsloth_fixed unsloth_version model_name
    max_length min_length max_new_tokens min_new_tokens do_sample early_stopping num_beams
    num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty
    length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores forced_bos_token_id forced_eos_token_id suppress_tokens
    begin_suppress_tokens remove_invalid_values exponential_decay_length_penalty
    vision_config image_token_index image_token_id mm_tokens_per_image boi_token_index
    eoi_token_index boi_token_id eoi_token_id
    init_device init_fn init_std init_cutoff_factor precision flash_attention mask_token_id
    mlp_ratio max_position_embeddings layer_norm_with_affine attention_layer_norm_with_affine
    rope_full_precision weight_tying vocab_size sliding_window_size
    """.split()
)
# Keys at which null says something; elsewhere it is as if the key were missing.
NULL_SPEAKS = (
    "sliding_window",
    "head_dim",
    "num_key_value_heads",
    "attn_logit_softcapping",
    "final_logit_softcapping",
)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: if the file cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > JSON_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, more than {JSON_BYTES}")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {reason(error)}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(values).__name__}.")
    return values


def check_kinds(values: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Raises ValueError if a key, where it is there and not null, holds another kind of value."""
    for key, kind in kinds.items():
        value = values.get(key)
        allowed = (int, float) if kind is float else kind
        fits = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
        if fits and kind is float and not abs(value) <= sys.float_info.max:
            raise ValueError(f"{key} must be finite, got {value!r}.")
        if value is not None and not fits:
            raise ValueError(f"{key} must be {KIND_NAMES[kind]}, got {value!r}.")


def check_quantisation(values: Mapping[str, Any]) -> None:
    """Raises ValueError for weights that are stored in fewer bits, with a way on."""
    found = values.get("quantization_config") or values.get("compression_config")
    if found is not None:
        method = found.get("quant_method") if isinstance(found, dict) else found
        raise ValueError(
            f"quantization_config={method!r}: quantised weights are not read. Take the checkpoint "
            "that they were made of, or let transformers write one once: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).dequantize().save_pretrained(NEW_FOLDER);"
            " config.model.lora.base=int8 or nf4 quantises a frozen base as it is read."
        )


def unread_keys(given: Mapping[str, Any], known: Collection[str]) -> tuple[str, ...]:
    """Remarks about the keys of a config.json that say something and are not looked at."""
    remarks = []
    if given.get("auto_map"):
        remarks.append("auto_map names code, which is never run: the family's own trunk is used.")
    if given.get("dtype") and given.get("torch_dtype", given["dtype"]) != given["dtype"]:
        remarks.append(
            f"dtype={given['dtype']!r} and torch_dtype={given['torch_dtype']!r} differ; neither is "
            "read, config.model.dtype and param_dtype say the types."
        )
    off = (None, False, 0, "", [], {})
    odd = {
        key: value
        for key, value in given.items()
        if key not in known and key not in HARMLESS and value not in off and key[:1] != "_"
    }
    if odd:
        listed = ", ".join(f"{key}={str(value)[:40]}" for key, value in sorted(odd.items()))
        remarks.append(f"config.json has keys that this family does not read: {listed}.")
    return tuple(remarks)


def without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that say something."""
    return {k: value for k, value in values.items() if value is not None or k in NULL_SPEAKS}
