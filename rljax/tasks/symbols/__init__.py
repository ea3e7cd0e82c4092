"""Small exact tasks over one alphabet, as arrays for the device and as texts for the host.

    task = make_task({"name": "sort", "max_length": 5})
    problems = task.generate(seed=0, count=1000, split="train")

The device judges completions with `rljax.verifiers.VERIFIERS[task.name]`, the host with
`task.verify_text`.

| file | what it holds |
| --- | --- |
| `alphabet.py` | the symbols: one character and one token id each |
| `task.py` | what the tasks share: problems as arrays, verdicts, drawing |
| `records.py` | the same problems as text, for the host loop |
| `countdown.py` | reach a target with given numbers |
| `edit.py` | instructions and a string: the edited string |
| `modchain.py` | chains of modular arithmetic |
| `sort.py` | digits in order |
| `sudoku4.py` | Sudoku of 4 x 4 cells |
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rljax.errors import unknown_name
from rljax.tasks.symbols.countdown import Countdown3, Countdown4
from rljax.tasks.symbols.edit import Edit
from rljax.tasks.symbols.modchain import ModChain
from rljax.tasks.symbols.sort import Sort
from rljax.tasks.symbols.sudoku4 import Sudoku4
from rljax.tasks.symbols.task import FIELD, SymbolProblems, SymbolTask, Verdict

TASKS: dict[str, type[SymbolTask]] = {
    "countdown3": Countdown3,
    "countdown4": Countdown4,
    "edit": Edit,
    "modchain": ModChain,
    "sort": Sort,
    "sudoku4": Sudoku4,
}

__all__ = ["TASKS", "SymbolProblems", "SymbolTask", "Verdict", "make_task"]


def make_task(entry: str | Mapping[str, Any]) -> SymbolTask:
    """Builds a task from its config entry.

    Args:
        entry: a name of TASKS, or a mapping with "name" and fields of that task.

    Raises:
        ValueError: unknown name or field, or a field out of its range.
    """
    fields = {"name": entry} if isinstance(entry, str) else dict(entry)
    name = fields.pop("name", None)
    if name not in TASKS:
        raise unknown_name("symbol task", name, TASKS, f"{FIELD}.name")
    known = {field.name for field in dataclasses.fields(TASKS[name])}
    for field in fields:
        if field not in known:
            raise unknown_name(f"field of the task {name!r}", field, known, FIELD)
    # A config holds its sequences as lists or tuples; a frozen task wants tuples.
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return TASKS[name](**fields)
