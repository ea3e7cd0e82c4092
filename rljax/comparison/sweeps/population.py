"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846): weights and a schedule.

All conditions of a sweep are one population, for each seed one of its own. Every so many steps the
worse members copy better ones, with optimizer and all (exploit), and then change their numbers
(explore). All decide at once, so members wait for nobody and nobody is judged early. A decision
depends on scores, the seed of the rule, the seed of the population, the step and the member alone:
a sweep that goes on decides the same again.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rljax.comparison.sweeps.exploit import EXPLOITS, check_members, latest_scores
from rljax.comparison.sweeps.explore import Allowed, Change, Numbers, explored
from rljax.comparison.sweeps.lineage import Generation, followed, write_lineage
from rljax.errors import unknown_name

Curves = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the command says of a population.

    Attributes:
        ready: steps between two decisions.
        exploit: of `EXPLOITS`.
        fields: that are explored; "a.b" as the sweep file has them.
        resample: the probability that a copied number is drawn anew instead of multiplied.
        seed: of all decisions.
    """

    ready: int
    exploit: str = "truncation"
    fields: tuple[str, ...] = ()
    resample: float = 0.0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Population:
    """The members of a sweep, as a campaign runs them: run p * S + s is member p with seed s.

    Attributes:
        rule: of it.
        members: [P] names.
        seeds: [S]; each has a population of its own.
        points: [P], the numbers that members begin with.
        metric: KIND/NAME; more is better.
        allowed: whether the config can hold some numbers.
        folder: of the sweep, which takes the lineage.
    """

    rule: Rule
    members: tuple[str, ...]
    seeds: tuple[int, ...]
    points: tuple[Numbers, ...]
    metric: str
    allowed: Allowed
    folder: Path

    def identity(self) -> dict[str, Any]:
        """What makes it another population: all that decisions depend on."""
        return {
            **dataclasses.asdict(self.rule),
            "metric": self.metric,
            "members": list(self.members),
        }

    def is_ready(self, step: int, steps: int) -> bool:
        """Whether members are judged at a step; at the last one nothing follows."""
        return step < steps and step % self.rule.ready == 0

    def values(self, lineage: Sequence[Generation]) -> dict[str, list[float]]:
        """Field -> [P * S], the numbers of all runs after some generations."""
        if lineage:
            return {name: list(values) for name, values in lineage[-1].values.items()}
        return {
            name: [point[name] for point in self.points for _ in self.seeds]
            for name in self.points[0]
        }

    def decide(self, step: int, curves: Curves, lineage: Sequence[Generation]) -> Generation:
        """What happens to all runs at a step.

        Args:
            step: that all of them have made.
            curves: KIND/NAME -> [P * S, K] what was measured; "steps" and "train_steps" say when.
            lineage: the generations before.

        Raises:
            ValueError: for a metric that the runs do not log.
        """
        known = [name for name in curves if name.startswith(("heldout/", "train/"))]
        if self.metric not in known:
            raise unknown_name("metric", self.metric, known, "--metric")
        kind = self.metric.partition("/")[0]
        when = curves["train_steps" if kind == "train" else "steps"]
        history = followed(curves[self.metric], when, lineage)
        scores, latest = latest_scores(history, kind)
        before = self.values(lineage)
        sources = np.arange(len(scores))
        values = {name: list(given) for name, given in before.items()}
        factors: dict[str, list[float | None]] = {name: [None] * len(scores) for name in before}
        for index, seed in enumerate(self.seeds):
            mine = np.arange(len(self.members)) * len(self.seeds) + index
            chosen = EXPLOITS[self.rule.exploit](
                scores[mine],
                latest[mine],
                lambda member, seed=seed: self._random(step, seed, member, "exploit"),
            )
            for member in np.flatnonzero(chosen != np.arange(len(chosen))).tolist():
                run, source = int(mine[member]), int(mine[chosen[member]])
                sources[run] = source
                numbers = {name: given[source] for name, given in before.items()}
                for name, number in numbers.items():
                    values[name][run] = number
                for name, change in self._explore(step, seed, member, numbers).items():
                    values[name][run], factors[name][run] = change
        return Generation(
            step,
            tuple(sources.tolist()),
            tuple(float(score) for score in scores),
            {name: tuple(given) for name, given in values.items()},
            {name: tuple(given) for name, given in factors.items()},
        )

    def keep(self, lineage: Sequence[Generation]) -> None:
        """Writes who has copied whom so far."""
        write_lineage(self.folder, self.identity(), self.seeds, self.values(()), lineage)

    def _explore(self, step: int, seed: int, member: int, numbers: Numbers) -> dict[str, Change]:
        beginnings = {name: [point[name] for point in self.points] for name in self.rule.fields}
        return explored(
            numbers,
            beginnings,
            self.rule.resample,
            lambda field: self._random(step, seed, member, field),
            self.allowed,
        )

    def _random(self, step: int, seed: int, member: int, what: str) -> np.random.Generator:
        return np.random.default_rng(
            (self.rule.seed, seed, step, member, zlib.crc32(what.encode()))
        )


def check_rule(rule: Rule, members: Sequence[str], steps: int, every: int) -> None:
    """Raises ValueError for a rule that never decides anything.

    Args:
        rule: of the population.
        members: their names.
        steps: of a whole run.
        every: steps between two evaluations, after each of which members can be judged.
    """
    check_members(members)
    if rule.exploit not in EXPLOITS:
        raise unknown_name("way to exploit", rule.exploit, EXPLOITS, "--exploit")
    if not every or rule.ready % every:
        raise ValueError(
            f"Members are judged after an evaluation, every {every or steps} steps, and "
            f"{rule.ready} steps are no multiple of that (--ready, config.evaluation.every_steps)."
        )
    if rule.ready >= steps:
        raise ValueError(
            f"Runs of {steps} steps that are judged every {rule.ready} are never judged before "
            "their end: take more steps, or judge more often (--ready)."
        )


def explored_fields(
    asked: Sequence[str], swept: Mapping[str, Sequence[Any]], stage: str
) -> tuple[str, ...]:
    """The fields that members change.

    Args:
        asked: names, as --explore has them; none: all that the sweep sets.
        swept: field -> its value in each cell.
        stage: whose numbers can change.

    Raises:
        ValueError: for no field at all, one that the sweep does not set, one that is no number of
            the stage, or one that is 0 somewhere and so would stay 0.
    """
    if not swept:
        raise ValueError(
            "The cells set no field besides the seed, so there is nothing to perturb (--sweep)."
        )
    for name in asked:
        if name not in swept:
            raise unknown_name("field of the sweep", name, swept, "--explore")
    chosen = tuple(asked) or tuple(swept)
    for name in chosen:
        for value in swept[name]:
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(
                    f"{name}={value!r} is no number, so it cannot be perturbed; fields that are: "
                    f"numbers of {stage}.objective and {stage}.optimizer (--explore, --sweep)."
                )
            if value == 0:
                raise ValueError(
                    f"{name}=0 stays 0 whatever it is multiplied by: begin with another value, or "
                    "leave the field out (--explore, --sweep)."
                )
    return chosen
