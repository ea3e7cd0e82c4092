"""Methods one after the other, each within the budget that the first one sets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rljax.comparison.budget import Budget, at_budget, parse_budget, spent
from rljax.comparison.campaign import Campaign, run_campaign
from rljax.comparison.runs import MethodRuns
from rljax.config.identity import config_hash
from rljax.config.validate import plain, validate
from rljax.models.network import Params

Points = Sequence[Mapping[str, float]]

# Seeds that rates are tuned on begin here: reported ones are 0, 1, ...
TUNING_SEED = 1_000_000
# Steps that a budget of tokens or seconds may take, as a multiple of the config's.
MOST_STEPS = 8


class Tuning(NamedTuple):
    """Which learning rates are tried for each method, on how many seeds of their own."""

    rates: tuple[float, ...]
    seeds: int


class Runner:
    """Runs methods within one budget.

    Attributes:
        order: the methods, that of the baseline first.
        budget: of each seed; of tokens or seconds without an amount, None until the baseline has
            run.
    """

    def __init__(
        self,
        workdir: Path,
        configs: Mapping[str, ConfigDict],
        first: str,
        budget: str,
        tuning: Tuning | None,
        mesh: Mesh,
        report: Callable[[str], None],
    ) -> None:
        """Nothing runs yet.

        Args:
            workdir: of the comparison.
            configs: of each method, its stage alone.
            first: the method whose own steps are the budget where `budget` names no amount.
            budget: AXIS or AXIS:AMOUNT.
            tuning: of learning rates; None leaves those of the configs.
            mesh: of one device.
            report: takes lines of progress.
        """
        self.workdir, self.configs, self.tuning = workdir, configs, tuning
        self.mesh, self.report = mesh, report
        self.order = [first, *(method for method in configs if method != first)]
        self._axis, amount = parse_budget(budget)
        if self._axis == "updates" and amount is None:
            (stage,) = validate(configs[first])
            amount = stage.steps * stage.batch.updates_per_step
        self.budget = None if amount is None else Budget(self._axis, float(amount))

    def run(
        self, method: str, params: Params, seeds: tuple[int, ...], points: Points
    ) -> list[MethodRuns]:
        """The curves of a method at each point; its rate is tuned first where that was asked.

        Args:
            method: one of the configs.
            params: all runs start from these.
            seeds: of the runs that are reported.
            points: of a sweep; ({},) for none.
        """
        config = within(self.configs[method], self.budget)
        if self.tuning is not None:
            config = self._tuned(method, config, params)
        found = self._campaign("methods", method, config, seeds, points, params)
        if self.budget is None:  # the baseline in its own steps
            amount = float(spent(found[0], self._axis)[:, -1].min())  # of the seed with the least
            self.budget = Budget(self._axis, amount)
        return found

    def _campaign(
        self,
        place: str,
        method: str,
        config: ConfigDict,
        seeds: tuple[int, ...],
        points: Points,
        params: Params,
    ) -> list[MethodRuns]:
        # Updates are counted by steps; what else a run has spent is seen as it goes.
        limit = None if self._axis == "updates" else self.budget
        identity = {"config": config.to_dict(), "seeds": seeds, "points": points}
        if limit is not None:
            identity["budget"] = dataclasses.asdict(limit)
        folder = self.workdir / place / f"{method}-{config_hash(plain(identity))}"
        campaign = Campaign(method, config, seeds, tuple(points), limit)
        return run_campaign(campaign, folder, params, self.mesh, self.report)

    def _tuned(self, method: str, config: ConfigDict, params: Params) -> ConfigDict:
        """The config with the rate that is best on seeds of its own, by mean accuracy."""
        seeds = tuple(range(TUNING_SEED, TUNING_SEED + self.tuning.seeds))
        points = rate_points(self.tuning.rates)
        found = self._campaign("tuning", method, config, seeds, points, params)
        if self.budget is not None:
            found = [at_budget(run, self.budget) for run in found]
        # A rate at which runs end without a verdict is none to take.
        best = max(
            found, key=lambda run: float(np.nan_to_num(run.accuracy[:, -1], nan=-1.0).mean())
        )
        self.report(f"{method}: learning rate {best.learning_rate:g}")
        tuned = ConfigDict(config.to_dict())
        tuned[config.stages[-1]].optimizer.learning_rate = best.learning_rate
        return tuned


def within(config: ConfigDict, budget: Budget | None) -> ConfigDict:
    """A config whose steps hold its budget: just so many updates, or more than enough of others."""
    if budget is None:
        return config
    (stage,) = validate(config)
    changed = ConfigDict(config.to_dict())
    if budget.axis == "updates":
        changed[stage.name].steps = math.ceil(budget.amount / stage.batch.updates_per_step)
        return changed
    changed[stage.name].steps = MOST_STEPS * stage.steps
    changed.evaluation.every_steps = config.evaluation.every_steps or stage.steps
    return changed


def rate_points(rates: Sequence[float]) -> tuple[Mapping[str, float], ...]:
    """Learning rates as points of a sweep."""
    return tuple({"optimizer.learning_rate": rate} for rate in rates)
