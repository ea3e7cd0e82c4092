"""The symbol tasks as ordinary text problems."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rljax.tasks.problem import Problem
from rljax.tasks.symbols import make_task
from rljax.tasks.symbols.task import Drawn


class SymbolSet(Sequence[Problem]):
    """Random access to the problems that `SymbolTask.generate` makes of the same arguments.

    The reference is a JSON text {"task": name, "facts": {...}}, the facts as nested lists; the
    demonstration is the solution.

    Args:
        task: a name of TASKS, or a mapping with "name" and fields of that task.
        seed: of the draws.
        size: number of problems.
        split: "train" or "heldout".

    Raises:
        ValueError: where `make_task` or `SymbolTask.generate` raises it.
    """

    def __init__(self, task: str | Mapping[str, Any], *, seed: int, size: int, split: str) -> None:
        self.task = make_task(task)
        self._drawn = self.task.texts(seed, size, split)

    def __len__(self) -> int:
        return len(self._drawn)

    def __getitem__(self, index: int) -> Problem:
        index = range(len(self))[index]
        drawn = self._drawn[index]
        reference = _reference(self.task.name, drawn)
        return Problem(index, drawn.prompt, reference, drawn.solution, drawn.level)


def symbol_splits(
    task: str | Mapping[str, Any],
    *,
    train_seed: int,
    heldout_seed: int,
    train_size: int,
    heldout_size: int,
) -> tuple[SymbolSet, SymbolSet]:
    """A training and a held-out set; they share no problem, whatever the seeds."""
    train = SymbolSet(task, seed=train_seed, size=train_size, split="train")
    heldout = SymbolSet(task, seed=heldout_seed, size=heldout_size, split="heldout")
    return train, heldout


def _reference(name: str, drawn: Drawn) -> str:
    facts = {key: np.asarray(value).tolist() for key, value in drawn.facts.items()}
    return json.dumps({"task": name, "facts": facts})
