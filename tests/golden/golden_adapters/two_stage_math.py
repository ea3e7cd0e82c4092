"""Slug two-stage-math: rewards of lengths in characters, and of the box before </think>."""

import jax.numpy as jnp

from rljax.objectives.reward_shaping import length_bonus
from rljax.rewards.functions import find_reward


def two_stage_math(case: dict) -> dict:
    inputs, args = case["inputs"], case["args"]
    right, lengths = inputs["correct"], inputs["n_chars"]
    rows = len(lengths)
    bonus = length_bonus(
        jnp.asarray(lengths, jnp.float32),
        jnp.ones(rows, bool),
        jnp.zeros(rows, jnp.int32),
        jnp.asarray(right),
    )
    outputs = {"length": bonus}
    if "cosine" in args:
        outputs["cosine"] = [
            _cosine(n, said, args["cosine"]) for n, said in zip(lengths, right, strict=True)
        ]
        outputs["format2"] = [
            find_reward("boxed_in_thinking")("", _text(before), "")
            for before in inputs["boxed_before_close_think"]
        ]
    return outputs


def _cosine(characters: int, right: bool, args: dict) -> float:
    return find_reward("cosine_length")(
        "",
        "x" * characters,
        "",
        right=right,
        completion_tokens=0,
        max_length=args["max_len"],
        unit="characters",
        right_short=args["max_value_correct"],
        right_long=args["min_value_correct"],
        wrong_short=args["min_value_wrong"],
        wrong_long=args["max_value_wrong"],
    )


def _text(boxed_before: bool) -> str:
    return r"\boxed{1}</think>" if boxed_before else r"</think>\boxed{1}"
