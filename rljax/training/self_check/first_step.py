"""The checks of a stage's first step in this process, in their order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from rljax.config.guide import guide_plan
from rljax.models.finite import first_not_finite
from rljax.objectives.selections import OF_TOKENS
from rljax.parallel.host import to_host
from rljax.reporting.files import EXAMPLES_FOLDER, write_json_atomic
from rljax.training.collect.rollouts import Samples
from rljax.training.families import Family, StepBatches
from rljax.training.self_check.example import first_example, in_colours
from rljax.training.self_check.policies import (
    check_first_update,
    check_gap,
    check_logprobs,
    rounding,
)
from rljax.training.self_check.tokens import check_ends
from rljax.training.update.metrics import mean_metrics
from rljax.training.update.rows import Rows
from rljax.training.update.sequences import sequences
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Metrics


class FirstStep:
    """Looks at the first batch before its update, and at what the update said."""

    def __init__(
        self,
        family: Family,
        *,
        begins: bool,
        at_start: bool,
        workdir: Path,
        console: Console,
    ) -> None:
        """Reads the names of the checks that are on.

        Args:
            family: of the stage.
            begins: whether this is the first step of the stage, whose example is kept.
            at_start: whether the policy still is its reference.
            workdir: of the run, for the example.
            console: for the example.
        """
        self.family, self.begins, self.at_start = family, begins, at_start
        self.workdir, self.console = workdir, console
        config = family.context.config
        self.on: Mapping[str, bool] = config.checks.to_dict()
        self.bound = rounding(family.context.network.config, config.sampler.to_dict())
        self.closed: float | None = None
        self.fresh = False

    def before(self, state: TrainState, samples: Samples | None, batches: StepBatches) -> None:
        """Checks the batch of the first update, and shows an example of it.

        Args:
            state: that the update starts from.
            samples: of the step, where there are any.
            batches: of the step.

        Raises:
            ValueError: naming the sequence that fails.
        """
        if not batches.batches:
            return  # the step learns nothing
        family, batch = self.family, batches.batches[0]
        if not {"tokens", "segment_ids", "mask"} <= batch.keys():
            return  # a population has no rows
        text_format = family.context.text_format
        if self.on["example"]:
            self._show(first_example(sequences(batch), text_format))
        # A policy that is sure of its ends gives them no part in what it is not sure of.
        whole = family.stage.objective.choices.get("selection") not in OF_TOKENS
        plan = guide_plan(family.stage)
        whole = whole and (plan is None or "out" not in plan.kinds)  # a guide writes the ends
        # A question stands behind the end of what a generative reward judges.
        asked = "question" in family.stage.data
        if self.on["ends"] and whole and not asked:
            # Samples that did not end are among those that the policy learns not to write.
            cut = family.stage.online or family.stage.data.get("unfinished") == "worst"
            check_ends(sequences(batch), text_format, every=not cut)
        if self.on["logprobs"]:
            check_logprobs(batch, lambda row: self._first_layer(state, batch, row))
        version = int(state.updates)
        self.fresh = samples is not None and bool(
            (samples.versions == version)[np.asarray(samples.rollouts.mask)].all()
        )
        if self.on["sampler_gap"] and self.fresh:
            check_gap(batch, self.bound)
        if self.on["closed_form"] and self.at_start:
            self.closed = family.first_loss(batch)

    def after(self, state: TrainState, batches: StepBatches, metrics: Metrics) -> None:
        """Checks what the first update said of the policy that it started from.

        Args:
            state: after the update; one that was skipped left it as it was.
            batches: of the step.
            metrics: of the update.

        Raises:
            ValueError: naming the number that is not what it must be.
        """
        numbers = mean_metrics([to_host(metrics)])
        if self.on["logprobs"] and numbers.get("updates_skipped"):
            if layer := self._first_layer(state, batches.batches[0], 0):
                raise ValueError(
                    f"The first loss is no finite number: {layer} (config.checks.logprobs)."
                )
        check_first_update(
            numbers if self.on["ratio"] else _without(numbers, "ratio_"),
            bound=self.bound,
            fresh=self.fresh and self.on["sampler_gap"],
            closed=self.closed,
            at_start=self.at_start and self.on["closed_form"],
        )

    def _first_layer(self, state: TrainState, batch: Rows, row: int) -> str | None:
        """Which layer breaks a sequence of the batch first."""
        context = self.family.context
        found = list(sequences(batch))
        tokens = found[min(row, len(found) - 1)].tokens
        return first_not_finite(context.network, context.full(state.params), tokens)

    def _show(self, example: dict[str, Any]) -> None:
        if not self.family.context.processes.is_first:
            return
        name = self.family.stage.name
        if self.begins:
            path = self.workdir / EXAMPLES_FOLDER / f"{name}.json"
            write_json_atomic(path, {"stage": name, **example})
        if example["tokens"]:
            self.console.print(in_colours(example), soft_wrap=True)


def _without(numbers: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if not name.startswith(prefix)}
