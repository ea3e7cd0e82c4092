"""Who has copied whom in a population, and with which numbers: in checkpoints and lineage.json."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rljax.reporting.files import as_written, read_json, write_json_atomic

LINEAGE_FILE = "lineage.json"
DRAWN = "drawn"  # a number that was drawn anew, where others have a factor


@dataclasses.dataclass(frozen=True)
class Generation:
    """What has happened at one step to R runs.

    Attributes:
        step: after which it was decided.
        sources: [R], the run whose state each has gone on with; its own number where it stayed.
        scores: [R], by which it was decided; NaN where there was none.
        values: field -> [R], the numbers from there on.
        factors: field -> [R], the number over that of the source; None where it was drawn anew,
            where it is not explored, and where a run has stayed.
    """

    step: int
    sources: tuple[int, ...]
    scores: tuple[float, ...]
    values: Mapping[str, tuple[float, ...]]
    factors: Mapping[str, tuple[float | None, ...]]

    def as_json(self) -> dict[str, Any]:
        """For the note of a checkpoint; `generation` reads it."""
        return as_written(dataclasses.asdict(self))


def generation(stored: Mapping[str, Any]) -> Generation:
    """What `Generation.as_json` wrote."""
    return Generation(
        int(stored["step"]),
        tuple(stored["sources"]),
        tuple(float(score) for score in stored["scores"]),
        *({name: tuple(row) for name, row in stored[key].items()} for key in ("values", "factors")),
    )


def followed(history: np.ndarray, when: np.ndarray, lineage: Sequence[Generation]) -> np.ndarray:
    """[R, K], what was measured of the weights that each run has now, whoever had them then.

    Args:
        history: [R, K], what each run has measured.
        when: [K], after which steps.
        lineage: what has happened since.
    """
    history = history.copy()
    for each in lineage:
        before = when <= each.step
        history[:, before] = history[list(each.sources)][:, before]
    return history


def write_lineage(
    folder: Path,
    rule: Mapping[str, Any],
    seeds: Sequence[int],
    beginnings: Mapping[str, Sequence[float]],
    lineage: Sequence[Generation],
) -> None:
    """Writes lineage.json.

    Args:
        folder: of the sweep.
        rule: of the population, with the names of its members.
        seeds: [S]; run p * S + s is member p with seed s.
        beginnings: field -> [R], the numbers at step 0.
        lineage: what has happened so far.
    """
    stored = {
        "rule": rule,
        "seeds": seeds,
        "beginnings": beginnings,
        "generations": [each.as_json() for each in lineage],
    }
    write_json_atomic(folder / LINEAGE_FILE, as_written(stored))


@dataclasses.dataclass(frozen=True)
class Lineage:
    """What lineage.json holds.

    Attributes:
        rule: all that decisions depend on.
        members: [P] names.
        seeds: [S]; run p * S + s is member p with seed s.
        beginnings: field -> [R], the numbers at step 0.
        generations: in their order.
    """

    rule: Mapping[str, Any]
    members: tuple[str, ...]
    seeds: tuple[int, ...]
    beginnings: Mapping[str, tuple[float, ...]]
    generations: tuple[Generation, ...]

    def run(self, member: int, seed: int) -> int:
        """The number of a run, of the numbers of a member and a seed."""
        return member * len(self.seeds) + seed

    def schedule(self, field: str, run: int) -> list[tuple[int, float]]:
        """(step, value from there on) of a run, from step 0; only where the value changes."""
        found = [(0, self.beginnings[field][run])]
        for each in self.generations:
            if each.values[field][run] != found[-1][1]:
                found.append((each.step, each.values[field][run]))
        return found

    def ancestors(self, run: int) -> list[tuple[int, int]]:
        """(step, run that had the weights of this one until then), the earliest first.

        The last one is (-1, run): it has them now.
        """
        found = [(-1, run)]
        for each in reversed(self.generations):
            if (source := each.sources[found[0][1]]) != found[0][1]:
                found.insert(0, (each.step, source))
        return found

    def schedule_of_weights(self, field: str, run: int) -> list[tuple[int, float]]:
        """(step, value from there on) that the weights of a run have been trained with."""
        found: list[tuple[int, float]] = []
        since = 0
        for until, holder in self.ancestors(run):
            own = self.schedule(field, holder)
            inside = [(step, v) for step, v in own if step > since and (step < until or until < 0)]
            at_start = [value for step, value in own if step <= since][-1]
            found += [(since, at_start), *inside]
            since = until
        return [each for at, each in enumerate(found) if at == 0 or each[1] != found[at - 1][1]]


class Copy(NamedTuple):
    """One member that has copied another one; `changes` says field -> its new value and why."""

    step: int
    seed: int
    member: str
    source: str
    score: float
    source_score: float
    changes: Mapping[str, tuple[float, str]]


def read_lineage(folder: Path) -> Lineage | None:
    """The lineage of a sweep, if it has one.

    Raises:
        ValueError: for a damaged file.
    """
    stored = read_json(folder / LINEAGE_FILE)
    if not stored:
        return None
    try:
        return Lineage(
            stored["rule"],
            tuple(stored["rule"]["members"]),
            tuple(stored["seeds"]),
            {name: tuple(row) for name, row in stored["beginnings"].items()},
            tuple(generation(each) for each in stored["generations"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / LINEAGE_FILE} is not complete: {error}.") from error


def copies(lineage: Lineage) -> list[Copy]:
    """Who has copied whom, in the order of steps, seeds and members."""
    found = []
    for each in lineage.generations:
        for index, seed in enumerate(lineage.seeds):
            for member, name in enumerate(lineage.members):
                run = lineage.run(member, index)
                source = each.sources[run]
                if source == run:
                    continue
                changes = {
                    field: (each.values[field][run], _why(each.factors[field][run]))
                    for field in lineage.rule["fields"]
                }
                whom = lineage.members[source // len(lineage.seeds)]
                scores = each.scores[run], each.scores[source]
                found.append(Copy(each.step, seed, name, whom, *scores, changes))
    return found


def _why(factor: float | None) -> str:
    return DRAWN if factor is None else f"x {factor:g}"
