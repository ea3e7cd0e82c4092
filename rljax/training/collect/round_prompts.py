"""Which problems each round of a stage samples: in turn, or as a curriculum says.

What a curriculum knows after a round is kept beside the round's rows, as they are: a run that was
interrupted goes on with both.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rljax.config.curriculum import curriculum_of
from rljax.config.stage import Stage
from rljax.rewards.pool import Scores
from rljax.training.collect.curriculum import check_problems, prompt_source
from rljax.training.collect.prompts import State
from rljax.training.collect.rollouts import (
    Samples,
    join_samples,
    join_scores,
    take_prompts,
    take_scores,
)
from rljax.training.collect.sampled_once import Sampled, place_in_round
from rljax.training.run.context import Context


def round_size(context: Context, stage: Stage) -> int:
    """Problems of a round: what the stage asks for, or all there are."""
    return min(stage.data["pair_prompts"], len(context.train_problems))


def check_round_prompts(context: Context, stage: Stage) -> None:
    """Raises ValueError where a curriculum asks for problems, or columns, that are not there."""
    check_problems(context, stage, round_size(context, stage))


class RoundPrompts:
    """The problems of the rounds, one round after the other."""

    def __init__(self, context: Context, stage: Stage, path: Callable[[int], Path]) -> None:
        """Nothing is read yet.

        Args:
            context: of the stage.
            stage: that samples its own rows.
            path: number of a round, from 0, to the file of its rows.
        """
        self.context, self.stage, self.path = context, stage, path
        self.count, self.state = round_size(context, stage), State()
        self.seen: list[tuple[Samples, Scores]] = []
        self.source = None
        if curriculum_of(stage) is not None:
            self.source = prompt_source(context, stage, _first_step(context, stage))

    def begin(self, number: int) -> list[int]:
        """The places of a round's problems among those of training.

        Raises:
            ValueError: where what the curriculum knew after the round before is lost.
        """
        if self.source is None:
            places = range(self.count)
            return [place_in_round(self.context, number, self.count, index) for index in places]
        before = self._kept(number - 1) if number else self.source.first_state()
        step = number * (self.stage.steps // self.stage.data["rounds"]) + 1
        prompts, self.state = self.source.take(before, step, self.count)
        self.seen = []
        return [record["id"] for record in prompts.records]

    def observe(self, found: Sampled) -> None:
        """Remembers what became of some of the round's problems."""
        if self.source is None or not self.source.observes:
            return
        group = found.samples.samples_per_prompt
        samples = take_prompts(found.samples, range(found.prompts))
        scores = take_scores(found.scores, np.arange(found.prompts * group))
        self.seen.append((samples, scores))

    def end(self, number: int) -> None:
        """Keeps what the curriculum knows after a round, which it sees as a whole.

        It is called before the rows of the round are written: where these are, so is this.
        """
        if self.source is None:
            return
        if self.seen:
            samples, scores = zip(*self.seen, strict=True)
            seen = join_samples(samples), join_scores(scores)
            self.state = self.source.observe(self.state, *seen)
        if not self.context.processes.is_first:
            return
        path = self._file(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **self.state)
        os.replace(part, path)

    def _file(self, number: int) -> Path:
        return self.path(number).with_suffix(".curriculum.npz")

    def _kept(self, number: int) -> State:
        path = self._file(number)
        if not path.exists():
            raise ValueError(
                f"{path} is gone, and with it what the curriculum of round {number + 2} goes by: "
                "put the file back, or start in a new workdir "
                f"(config.{self.stage.name}.objective.curriculum)."
            )
        with np.load(path) as kept:
            return {name: kept[name] for name in kept.files}


def _first_step(context: Context, stage: Stage) -> int:
    """Steps of the run's stages before this one."""
    names = [each.name for each in context.stages]
    return sum(each.steps for each in context.stages[: names.index(stage.name)])
