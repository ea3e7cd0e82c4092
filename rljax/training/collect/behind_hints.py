"""Samples of some prompts of a step again, each behind a hint."""

from collections.abc import Sequence

import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.parallel.rules import rows_divisor
from rljax.sampling.engine import Engine
from rljax.training.collect.rollouts import Samples, sample_texts
from rljax.training.collect.sampled import Drawn
from rljax.training.collect.successive import filled, first_prompts
from rljax.training.collect.told_prompts import prompts_with
from rljax.training.run.context import Context


class BehindHints:
    """A sampler of prompts with hints, whose calls have the addresses of one random stream."""

    def __init__(
        self, context: Context, stage: Stage, engine: Engine, *, key: Array, first_step: int
    ) -> None:
        """Binds the sampler; nothing runs.

        Args:
            context: of the run.
            stage: with the field hint_pattern.
            engine: that samples.
            key: of the rollouts.
            first_step: steps of the run before the stage.
        """
        self.context, self.stage, self.engine = context, stage, engine
        self.key, self.first_step = key, first_step
        self.pattern = stage.objective.values["hint_pattern"]
        self.divisor = rows_divisor(context.rollout_mesh)

    def sample(
        self,
        drawn: Drawn,
        active: np.ndarray,
        hints: Sequence[str],
        *,
        call: int,
        keep_hints: bool,
    ) -> Samples:
        """Samples of A prompts behind their hints.

        Args:
            drawn: the step's plain samples.
            active: [A] i32, which of their prompts.
            hints: A texts.
            call: counts the calls of a step.
            keep_hints: whether the prompts of what is returned have the hints; else they are the
                plain ones, as if the samples were written without.
        """
        count = len(drawn.samples.records)
        asked = filled(active, count, self.divisor)
        records = [drawn.samples.records[i] for i in asked]
        hint_of_prompt = dict(zip(active.tolist(), hints, strict=True))
        texts = [hint_of_prompt[int(i)] for i in asked]
        prompts, mask = prompts_with(self.context, self.stage, records, texts, self.pattern)
        samples = sample_texts(
            self.context,
            self.engine,
            drawn.weights,
            records,
            key=self.key,
            step=self.first_step + drawn.step,
            version=drawn.policy.version,
            call=call,
            most_prompts=count,
            behind=(prompts, mask),
        )
        if keep_hints:
            samples = samples._replace(prompts=prompts, prompt_mask=mask)
        return first_prompts(samples, len(active))
