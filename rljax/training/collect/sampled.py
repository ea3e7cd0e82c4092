"""Experience that is sampled anew in every step: prompts, completions, scores, annotations."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax import Array

from rljax.models.network import Params
from rljax.remarks import say_once
from rljax.rewards.pool import Scores
from rljax.sampling.request import Requests, Rollouts
from rljax.training.collect.experience import Annotations, Demonstrations, Experience, Policy
from rljax.training.collect.prompts import Prompts, PromptSource, State
from rljax.training.collect.rewards import Reward
from rljax.training.collect.rollouts import Samples, rollout_metrics, sample_texts
from rljax.training.collect.rounds import Round, Rounds, means, one_round, sample_rounds
from rljax.training.collect.successive import Allocated
from rljax.training.learner.group import Group
from rljax.training.run.context import Context, Record


class Sampler(Protocol):
    """What answers prompts: an engine, a tree of engines, a population of policies."""

    def load(self, params: Params) -> Params:
        """The sampler's copy of the trainer's parameters."""

    def sample(self, weights: Params, requests: Requests, *, key: Array, step: int) -> Rollouts:
        """Answers the requests of B prompts."""


class Allocation(Protocol):
    """What draws different numbers of samples of the prompts of a step."""

    def draw(self, weights: Params, policy: Policy, prompts: Prompts, step: int) -> Allocated:
        """The samples of a step, and what they took."""


class Drawn(NamedTuple):
    """The samples of a step, and all that an annotator may need to sample further."""

    policy: Policy
    weights: Params  # the sampler's copy
    samples: Samples
    scores: Scores
    step: int  # of the stage, from 1


class Scaffolded(NamedTuple):
    """Samples of which some were replaced by others behind a hint."""

    samples: Samples  # N prompts of one sample each, in the order of the groups
    scores: Scores
    annotations: Annotations


Annotator = Callable[[Drawn], Annotations]
Guide = Callable[[Drawn], tuple[Group, Annotations]]
Scaffold = Callable[[Drawn], Scaffolded]
More = Callable[[Params, Policy, Rounds, int], Rounds]


def sampler_weights(sampler: Sampler, policy: Policy) -> Params:
    """The sampler's copy of a policy, which may be there already."""
    return sampler.load(policy.params) if policy.weights is None else policy.weights


class WholeRollouts:
    """Rollouts that are written in one go, whatever the sampler is."""

    def __init__(self, context: Context, sampler: Sampler, *, key: Array, first_step: int) -> None:
        """Binds a sampler to a random stream; `first_step` is the number of steps before."""
        self.context, self.sampler = context, sampler
        self.key, self.first_step = key, first_step

    def sample(
        self,
        weights: Params,
        policy: Policy,
        prompts: Prompts,
        *,
        step: int,
        call: int = 0,
        most_prompts: int | None = None,
        noise_ids: Sequence[int] | None = None,
    ) -> Samples:
        """Answers B prompts.

        Args:
            weights: the sampler's copy of the policy.
            policy: its version is stamped on every token.
            prompts: B problems.
            step: of the stage, from 1.
            call: counts the calls of a step.
            most_prompts: of any call of the step; B by default.
            noise_ids: see `noise_addresses`.
        """
        return sample_texts(
            self.context,
            self.sampler,
            weights,
            prompts.records,
            key=self.key,
            step=self.first_step + step,
            version=policy.version,
            call=call,
            most_prompts=most_prompts,
            noise_ids=noise_ids,
            temperature_slopes=policy.temperature_slopes,
        )


class SampledExperience:
    """Samples prompts, scores the samples, and lets annotators add to them."""

    def __init__(
        self,
        prompts: PromptSource,
        rollouts: WholeRollouts,
        *,
        prompts_per_step: int,
        reward: Reward | None = None,
        annotators: Sequence[Annotator] = (),
        demonstrate: Callable[[Sequence[Record]], Demonstrations] | None = None,
        keep: Callable[[Samples, Scores], np.ndarray] | None = None,
        most_rounds: int = 1,
        prompt_values: Callable[[Policy, np.ndarray], np.ndarray] | None = None,
        allocation: Allocation | None = None,
        guide: Guide | None = None,
        scaffold: Scaffold | None = None,
        more: More | None = None,
    ) -> None:
        """Puts the parts together; nothing runs.

        Args:
            prompts: which problems come next.
            rollouts: what answers them.
            prompts_per_step: B.
            reward: of the samples; None where nothing is verified.
            annotators: called in order on the samples of a step.
            demonstrate: problems to their worked solutions; None where none are read.
            keep: which groups are good enough to learn from; others are sampled again.
            most_rounds: with `keep`: so many times in a step, at most.
            prompt_values: what the critic of a policy expects of problems, where it values prompts.
            allocation: what draws the samples where prompts get different numbers of them.
            guide: what samples prompts again behind a hint, once it is known which are not solved.
            more: what draws further samples of the prompts of a step, once these passed `keep`.
            scaffold: as `guide`, where a sample behind a hint takes the place of one without.
        """
        self.prompts, self.rollouts, self.count = prompts, rollouts, prompts_per_step
        self.reward, self.annotators, self.demonstrate = reward, annotators, demonstrate
        self.keep, self.most_rounds = keep, most_rounds
        self.prompt_values, self.allocation, self.guide = prompt_values, allocation, guide
        self.scaffold, self.more = scaffold, more

    def first_state(self) -> State:
        """The first state of the prompt source."""
        return self.prompts.first_state()

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """See `ExperienceSource.collect`."""
        weights = sampler_weights(self.sampler, policy)
        rounds, of_pools = self._rounds(policy, weights, state, step), None
        if self.allocation is not None:
            found, of_pools = self._allocated(policy, weights, state, step)
        elif self.keep is None:
            found = one_round(next(rounds))
        else:
            found = sample_rounds(rounds, self.keep, prompts=self.count)
            say_if_nothing_passed(found, self.count)
            found = found if self.more is None else self.more(weights, policy, found, step)
        experience = self._experience(found)
        experience = experience if of_pools is None else annotated(experience, of_pools)
        drawn = Drawn(policy, weights, found.samples, found.scores, step)
        if self.guide is not None:
            guided, more = self.guide(drawn)
            experience = annotated(experience, more)._replace(guided=guided)
        if self.scaffold is not None:
            samples, scores, more = self.scaffold(drawn)
            experience = annotated(experience, more)._replace(samples=samples, scores=scores)
        for annotate in self.annotators:
            experience = annotated(experience, annotate(drawn))
        return experience, found.prompts

    @property
    def sampler(self) -> Sampler:
        """What answers prompts."""
        return self.rollouts.sampler

    @property
    def splits(self) -> bool:
        """Whether `draw` and `judge` are all of `collect`: scores decide over no further sample."""
        later = (self.keep, self.allocation, self.guide, self.scaffold)
        whole = all(part is None for part in later) and not self.annotators
        return whole and not self.prompts.observes

    def draw(self, policy: Policy, state: State, step: int) -> tuple[Samples, State]:
        """The first half of `collect` where it `splits`: samples, and the state after the step."""
        weights = sampler_weights(self.sampler, policy)
        prompts, state = self.prompts.take(state, step, self.count)
        return self.rollouts.sample(weights, policy, prompts, step=step), state

    def judge(self, samples: Samples) -> Experience:
        """The second half: scores the samples; it may run beside the next `draw`."""
        scores, seconds = self._scored(samples)
        return self._experience(one_round(Round(samples, scores, seconds, prompts={})))

    def _experience(self, found: Rounds) -> Experience:
        records, seconds = found.samples.records, {"sampling": found.samples.seconds}
        if self.reward is not None:
            seconds["scoring"] = found.scoring_seconds
        return Experience(
            records=records,
            samples=found.samples,
            scores=found.scores,
            demonstrations=None if self.demonstrate is None else self.demonstrate(records),
            metrics=self._metrics(found),
            seconds=seconds,
        )

    def _allocated(
        self, policy: Policy, weights: Params, state: State, step: int
    ) -> tuple[Rounds, Annotations]:
        """A step whose prompts are sampled as often as their samples say."""
        prompts, state = self._taken(policy, state, step)
        drawn = self.allocation.draw(weights, policy, prompts, step)
        scoring = drawn.annotations.seconds["scoring"]
        found = one_round(Round(drawn.samples, drawn.scores, scoring, state))
        found = found._replace(failed=int(drawn.scored.failed.sum()), of_all=means([drawn.scored]))
        return found, drawn.annotations._replace(seconds={})

    def _taken(self, policy: Policy, state: State, step: int) -> tuple[Prompts, State]:
        values = self.prompt_values
        predict = None if values is None else functools.partial(values, policy)
        return self.prompts.take(state, step, self.count, predict)

    def _rounds(self, policy: Policy, weights: Params, state: State, step: int) -> Iterator[Round]:
        for call in range(self.most_rounds):
            prompts, state = self._taken(policy, state, step)
            samples = self.rollouts.sample(weights, policy, prompts, step=step, call=call)
            scores, seconds = self._scored(samples)
            state = self.prompts.observe(state, samples, scores)
            yield Round(samples, scores, seconds, state)

    def _scored(self, samples: Samples) -> tuple[Scores | None, float]:
        """Scores where there is a reward, and the seconds that they took."""
        return (None, 0.0) if self.reward is None else timed_scores(self.reward, samples)

    def _metrics(self, found: Rounds) -> dict[str, float]:
        metrics = rollout_metrics(found.samples, found.scores)
        if found.prompts:  # not where samples are judged apart from the source that drew them
            metrics |= self.prompts.metrics(found.prompts)
        if found.scores is not None:
            metrics["scoring_failures"] = float(found.failed)
        if self.keep is not None:
            metrics["sampling_rounds"] = float(found.count)
            metrics["filled_prompts"] = float(found.filled)
        return metrics | found.of_all


def say_if_nothing_passed(found: Rounds, prompts: int) -> None:
    """Says once that a filter let nothing pass, with what was seen: nothing is learned then."""
    if found.filled < prompts:
        return
    seen = ", ".join(f"{name} {value:.3f}" for name, value in found.of_all.items())
    say_once(
        f"no group of {found.count} rounds of {prompts} prompts passed the filter ({seen}): "
        "nothing is learned in such a step (config.<stage>.objective.group_filter, filter_rounds)"
    )


def timed_scores(reward: Reward, samples: Samples) -> tuple[Scores, float]:
    """The scores of samples, and the seconds that they took."""
    started = time.perf_counter()
    return reward.score(samples), time.perf_counter() - started


def annotated(experience: Experience, more: Annotations) -> Experience:
    """Experience with the arrays, metrics and seconds of an annotator."""
    seconds: dict[str, Any] = dict(experience.seconds)
    for phase, spent in more.seconds.items():
        seconds[phase] = seconds.get(phase, 0.0) + spent
    return experience._replace(
        arrays=experience.arrays | more.arrays,
        metrics=experience.metrics | more.metrics,
        seconds=seconds,
    )
