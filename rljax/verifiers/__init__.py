"""Rewards of the symbol tasks on the device: exact, in JAX, without text.

A verifier judges one completion; callers map it over rows:

    verify(facts, tokens [T], mask [T]) -> Verdict(reward [] f32, correct [] bool, checks)

`facts` is one row of `SymbolProblems.facts`. A completion ends at its first eos, or where the mask
first is False; what follows is not read. Without an eos, or with malformed text, the reward is 0.

| file | what it holds |
| --- | --- |
| `text.py` | what the verifiers read of a completion |
| `countdown.py` | an expression parser with static shapes and exact fractions |
| `edit.py`, `modchain.py`, `sort.py`, `sudoku4.py` | verdicts on the other tasks |
"""

from collections.abc import Callable, Mapping

from jax import Array

from rljax.errors import unknown_name
from rljax.tasks.symbols.task import FIELD, Verdict
from rljax.verifiers import countdown, edit, modchain, sort, sudoku4

Verifier = Callable[[Mapping[str, Array], Array, Array], Verdict]

# By the name of the task in rljax.tasks.symbols.TASKS.
VERIFIERS: dict[str, Verifier] = {
    "countdown3": countdown.verify,
    "countdown4": countdown.verify,
    "edit": edit.verify,
    "modchain": modchain.verify,
    "sort": sort.verify,
    "sudoku4": sudoku4.verify,
}


def find_verifier(name: str) -> Verifier:
    """Returns the verifier of a task.

    Raises:
        ValueError: unknown name.
    """
    if name not in VERIFIERS:
        raise unknown_name("verifier", name, VERIFIERS, f"{FIELD}.name")
    return VERIFIERS[name]
