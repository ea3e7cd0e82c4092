"""Verdict on chains of modular arithmetic."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from rljax.tasks.symbols.alphabet import IDS
from rljax.tasks.symbols.task import Verdict
from rljax.verifiers.text import Content, equals_answer, is_digit, read_content


def verify(facts: Mapping[str, Array], tokens: Array, mask: Array) -> Verdict:
    """Reward 1 for digits, the marker and the right digit; the digits before it are only checked.

    Args:
        facts: of one problem, line [L], answer [] and line_credit [] (tasks/symbols/modchain.py).
        tokens: [T] i32, one completion.
        mask: [T] bool, True on sampled tokens, the eos included.

    Returns:
        The verdict, with the check "line_right".
    """
    content = read_content(tokens, mask)
    # The last two places belong to the marker and the answer, all before them to the line.
    places = jnp.arange(tokens.shape[0]) - content.length
    line_place, marker_place, answer_place = places < -2, places == -2, places == -1
    fits = (
        jnp.where(line_place, is_digit(content.tokens), True)
        & jnp.where(marker_place, content.tokens == IDS[">"], True)
        & jnp.where(answer_place, is_digit(content.tokens), True)
    )
    well_formed = content.finished & (content.length >= 2) & jnp.all(fits)
    right = jnp.any(answer_place & (content.tokens == facts["answer"]))
    line = Content(content.tokens, content.length - 2, content.finished)
    line_right = well_formed & equals_answer(line, facts["line"])
    correct = well_formed & right
    reward = jnp.where(correct, 1.0, jnp.where(line_right, facts["line_credit"], 0.0))
    return Verdict(reward.astype(jnp.float32), correct, {"line_right": line_right})
