"""Slug bleuberi: BLEU of one sentence."""

from rljax.rewards.text_metrics.bleu import sentence_bleu


def bleuberi(case: dict) -> dict:
    inputs, args = case["inputs"], case["args"]
    found = sentence_bleu(
        inputs["prediction"],
        inputs["references"],
        max_order=args["max_order"],
        smooth=args["smooth"],
    )
    return {
        "bleu": found.score,
        "precisions": found.precisions,
        "brevity_penalty": found.brevity_penalty,
        "length_ratio": found.length_ratio,
    }
