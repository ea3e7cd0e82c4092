"""Completions of the policy in some steps, of another source in the others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.registry.families.distillation import OF_SAMPLES
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.demonstrations import encode_demonstrations
from rljax.training.collect.experience import Demonstrations, Experience, ExperienceSource, Policy
from rljax.training.collect.prompts import PromptSource, State
from rljax.training.collect.rewards import TextReward
from rljax.training.collect.rollouts import NO_VERSION
from rljax.training.collect.sampled import SampledExperience, WholeRollouts, sampler_weights
from rljax.training.collect.sources import shuffled_problems, stage_engine
from rljax.training.run.context import Context, Record


class Mixture(NamedTuple):
    """Which steps learn from samples of the policy: a function of the run's seed and the step."""

    share: float
    seed: int
    first_step: int

    def on_policy(self, step: int) -> bool:
        """Whether a step (from 1) does."""
        drawn = np.random.default_rng([self.seed, self.first_step + step]).random()
        return bool(drawn < self.share)


class MixedExperience:
    """One of two sources in each step; both take their prompts from the same order."""

    def __init__(
        self, own: SampledExperience, other: ExperienceSource | None, mixture: Mixture
    ) -> None:
        """Puts the parts together; nothing runs.

        Args:
            own: samples of the policy.
            other: what the other steps learn from; None where there are none.
            mixture: which steps those are.
        """
        self.own, self.other, self.mixture = own, other, mixture

    def first_state(self) -> State:
        """The first state of the prompts."""
        return self.own.first_state()

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """See `ExperienceSource.collect`."""
        on_policy = self.other is None or self.mixture.on_policy(step)
        source = self.own if on_policy else self.other
        experience, state = source.collect(policy, state, step)
        metrics = {**experience.metrics, "on_policy": float(on_policy)}
        return experience._replace(metrics=metrics), state


class TeacherExperience:
    """Samples of a frozen teacher; the policy has no part in them."""

    def __init__(self, sampled: SampledExperience, params: Params) -> None:
        """Binds the teacher's parameters; its sampler loads them in the first step."""
        self.sampled = sampled
        self.teacher = Policy(params, NO_VERSION)

    def first_state(self) -> State:
        """The first state of the prompts."""
        return self.sampled.first_state()

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """See `ExperienceSource.collect`."""
        if self.teacher.weights is None:
            weights = sampler_weights(self.sampled.sampler, self.teacher)
            self.teacher = self.teacher._replace(weights=weights)
        return self.sampled.collect(self.teacher, state, step)


class GivenCompletions:
    """The demonstrations of the prompts."""

    def __init__(self, context: Context, stage: Stage, prompts: PromptSource) -> None:
        """Nothing is read yet."""
        self.context, self.stage, self.prompts = context, stage, prompts

    def first_state(self) -> State:
        """The first state of the prompts."""
        return self.prompts.first_state()

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """See `ExperienceSource.collect`."""
        prompts, state = self.prompts.take(state, step, self.stage.batch.prompts_per_step)
        shown = given_completions(self.context, self.stage, prompts.records)
        return Experience(prompts.records, demonstrations=shown), state


def given_completions(context: Context, stage: Stage, records: Sequence[Record]) -> Demonstrations:
    """The demonstrations of problems; nothing scores them."""
    tokens, mask = encode_demonstrations(context, stage, records)
    return Demonstrations(tokens, mask, np.zeros(len(records), np.float32))


def distillation_source(context: Context, stage: Stage, first_step: int) -> MixedExperience:
    """What a stage of distillation learns from.

    Args:
        context: of the stage, its teacher read.
        stage: of the family.
        first_step: steps of the run before the stage.
    """
    prompts = shuffled_problems(context)

    def sampled(context: Context) -> SampledExperience:
        engine = stage_engine(context, stage, samples=stage.batch.samples_per_prompt)
        key = purpose_key(context.config.seed, Purpose.ROLLOUTS)
        rollouts = WholeRollouts(context, engine, key=key, first_step=first_step)
        # A teacher that is told of samples needs to know what the verifiers say of them.
        verified = stage.objective.choices["teacher_context"] in OF_SAMPLES
        return SampledExperience(
            prompts,
            rollouts,
            prompts_per_step=stage.batch.prompts_per_step,
            reward=TextReward(context) if verified else None,
        )

    other: ExperienceSource | None = None
    if stage.objective.choices["off_policy"] == "demonstrations":
        other = GivenCompletions(context, stage, prompts)
    elif stage.objective.choices["off_policy"] == "teacher":
        teacher = context.models["teacher"]
        theirs = sampled(context.with_network(teacher.network))
        other = TeacherExperience(theirs, teacher.arrays(context.mesh))
    share = stage.objective.values.get("on_policy_share", 1.0)
    return MixedExperience(sampled(context), other, Mixture(share, context.config.seed, first_step))
