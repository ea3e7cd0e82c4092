"""The reward of the symbol tasks on the host."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from rljax.tasks.symbols import SymbolTask, make_task


def symbols(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    completion_tokens: int,
    binary: bool = False,
    end_required: bool = True,
) -> float:
    """Reward of a symbol task, the same as its verifier on the device gives.

    Args:
        prompt: not read.
        completion: the model's text, without eos.
        reference: of `rljax.tasks.symbols.records`, JSON text or the mapping in it.
        completion_tokens: sampled tokens including eos; filled in by the scorer.
        binary: 1.0 for a correct completion, else 0.0; no share of cells, no partial credit.
        end_required: a completion that was cut off is wrong. It has as many characters as tokens,
            for its eos is missing; so this needs a tokenizer with one token for each character,
            "symbols" or "byte".

    Raises:
        ValueError: if the reference is not that of a symbol task.
    """
    reference = json.loads(reference) if isinstance(reference, str) else reference
    if not isinstance(reference, Mapping) or not {"task", "facts"} <= set(reference):
        raise ValueError(
            f"The reward 'symbols' needs a reference with 'task' and 'facts', got {reference!r} "
            "(config.data.kind='symbols' makes them)."
        )
    finished = not end_required or completion_tokens == len(completion) + 1
    task = _task(reference["task"])
    verdict = task.verify_text(reference["facts"], completion, finished=finished)
    return float(verdict.correct if binary else verdict.reward)


@functools.cache
def _task(name: str) -> SymbolTask:
    """Any difficulty will do: a verdict depends on the facts alone."""
    return make_task(name)
