"""Who differs from whom, and in what."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Facts that are told; the first of them are enough to find the cause.
MOST_LINES = 5
LONGEST_VALUE = 80


def differences(facts: Sequence[Any], names: Sequence[str] | None = None) -> list[str]:
    """A line for every fact that is not the same on all processes.

    Args:
        facts: one value for each process; nested mappings are compared entry by entry.
        names: of the processes, by default "process 0" and so on.

    Returns:
        Lines such as "jax: '0.10.1' on process 3, '0.10.2' on the others"; [] where all agree. At
        most `MOST_LINES`, and one that counts the rest.
    """
    names = names or [f"process {index}" for index in range(len(facts))]
    tables = [dict(_flat(value)) for value in facts]
    paths = dict.fromkeys(path for table in tables for path in table)
    lines = []
    for path in paths:
        values = [table.get(path, "nothing") for table in tables]
        if len(set(values)) > 1:
            lines.append(f"{path}: {_who(values, names)}" if path else _who(values, names))
    more = len(lines) - MOST_LINES
    return lines[:MOST_LINES] + ([f"{more} more"] if more > 0 else [])


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, value as text) of every entry of nested mappings."""
    if not isinstance(value, Mapping) or not value:
        yield path, json.dumps(value, sort_keys=True)
        return
    for name, entry in value.items():
        yield from _flat(entry, f"{path}.{name}" if path else str(name))


def _who(values: Sequence[str], names: Sequence[str]) -> str:
    """ "1 on process 3, 2 on the others": the most frequent value comes last."""
    groups: dict[str, list[str]] = {}
    for value, name in zip(values, names, strict=True):
        groups.setdefault(value, []).append(name)
    *rare, usual = sorted(groups, key=lambda value: len(groups[value]))
    told = [f"{_short(value)} on {', '.join(groups[value])}" for value in rare]
    of_usual = groups[usual]
    told.append(f"{_short(usual)} on {of_usual[0] if len(of_usual) == 1 else 'the others'}")
    return ", ".join(told)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
