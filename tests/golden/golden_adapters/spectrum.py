"""Slug spectrum: the pieces of a row of draws, and which of them are learned."""

from rljax.data.draws import MARKUPS, draw_segments

_TOKENS = {"Qwen3": "<|im_start|>", "Llama-3": "<|start_header_id|>", "gemma": "<start_of_turn>"}


def spectrum(case: dict) -> dict:
    model = case["args"]["model"]
    (token,) = (token for name, token in _TOKENS.items() if model.startswith(name))
    segments = draw_segments(case["inputs"]["messages"], MARKUPS[token])
    return {"segments": [{"text": each.text, "compute_loss": each.learned} for each in segments]}
