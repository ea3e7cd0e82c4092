"""Verdict on string edits."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from rljax.tasks.symbols.task import Verdict
from rljax.verifiers.text import equals_answer, read_content


def verify(facts: Mapping[str, Array], tokens: Array, mask: Array) -> Verdict:
    """Reward 1 for exactly the stored answer and an eos, else 0.

    Args:
        facts: of one problem, answer [L] (tasks/symbols/edit.py).
        tokens: [T] i32, one completion.
        mask: [T] bool, True on sampled tokens, the eos included.
    """
    correct = equals_answer(read_content(tokens, mask), facts["answer"])
    return Verdict(correct.astype(jnp.float32), correct, {})
