"""A Markov chain of completions for each problem, which goes on whenever the problem is visited.

The chains' states are the memory of TRICE (arXiv:2312.02179): arrays over all problems of the run,
found by their ids, part of the source's state and so of every checkpoint. A state is a completion;
how likely it is under the policy is never kept, as the policy moves on.

With a guide a chain begins, at its first visit, with a sample of the prompt that shows the answer.
The paper draws all of them before the first step; here each is drawn by the policy of its visit.
"""

import time
from typing import NamedTuple

import numpy as np

from rljax.config.stage import Stage
from rljax.objectives.posterior import accepted_proposals
from rljax.rewards.pool import Scores
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.hinted import hinted_samples
from rljax.training.collect.prompts import Prompts, PromptSource, State
from rljax.training.collect.rewards import Reward
from rljax.training.collect.rollouts import Samples, rollout_metrics
from rljax.training.collect.sampled import WholeRollouts, sampler_weights
from rljax.training.run.context import Context

# Calls in a row that bring no other prompt, until it is sure that there is none.
MOST_FRUITLESS = 1000


class Chains(NamedTuple):
    """The states of the chains of N problems, or of M of them."""

    tokens: np.ndarray  # [N, T] i32
    length: np.ndarray  # [N] i32
    right: np.ndarray  # [N] bool
    begun: np.ndarray  # [N] bool, visited before
    age: np.ndarray  # [N] i32, visits since the state was accepted

    @property
    def mask(self) -> np.ndarray:
        """[N, T] bool."""
        return np.arange(self.tokens.shape[1]) < self.length[:, None]


def no_chains(problems: int, slots: int) -> Chains:
    """Chains of N problems before any visit."""
    zeros = np.zeros(problems, np.int32)
    return Chains(
        tokens=np.zeros((problems, slots), np.int32),
        length=zeros,
        right=np.zeros(problems, bool),
        begun=np.zeros(problems, bool),
        age=zeros,
    )


def states_of(samples: Samples, right: np.ndarray) -> Chains:
    """The samples of M prompts, one each, as new states."""
    mask, zeros = samples.flat("mask"), np.zeros(len(right), np.int32)
    return Chains(
        tokens=np.where(mask, samples.flat("tokens"), 0).astype(np.int32),
        length=mask.sum(axis=1).astype(np.int32),
        right=right,
        begun=np.ones(len(right), bool),
        age=zeros,
    )


def chosen(where: np.ndarray, new: Chains, old: Chains) -> Chains:
    """The states of `new` where [M] bool says so, those of `old` elsewhere."""

    def pick(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(where.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return Chains(*(pick(a, b) for a, b in zip(new, old, strict=True)))


def is_right(samples: Samples, scores: Scores) -> np.ndarray:
    """[N] bool: samples that ended, were judged, and are right."""
    return samples.flat("finished") & scores.judged & scores.correct & ~scores.failed


def distinct_prompts(
    source: PromptSource, state: State, step: int, count: int
) -> tuple[Prompts, State]:
    """The next prompts of a source, each once: one that comes again, at the end of an epoch, is
    passed over.

    Raises:
        ValueError: where the source has not handed out another one for a long time.
    """
    found: dict[int, tuple] = {}
    fruitless = 0
    while len(found) < count:
        known = len(found)
        more, state = source.take(state, step, count - known)
        for record, visits in zip(more.records, more.visits, strict=True):
            found.setdefault(record["id"], (record, visits))
        fruitless = 0 if len(found) > known else fruitless + 1
        if fruitless == MOST_FRUITLESS:
            raise ValueError(
                f"The curriculum hands out {len(found)} different problems, and a step visits "
                f"prompts_per_step={count} chains: widen the curriculum, or lower the number "
                "(config.<stage>.objective.curriculum, config.<stage>.batch.prompts_per_step)."
            )
    records, visits = zip(*found.values(), strict=True)
    return Prompts(list(records), np.array(visits)), state


class ChainExperience:
    """A fresh sample of each prompt of a step, and the state of its chain after it."""

    def __init__(
        self,
        context: Context,
        stage: Stage,
        prompts: PromptSource,
        rollouts: WholeRollouts,
        reward: Reward,
    ) -> None:
        """Puts the parts together; nothing runs."""
        self.context, self.stage, self.prompts = context, stage, prompts
        self.rollouts, self.reward = rollouts, reward

    def first_state(self) -> State:
        """No problem taken, no chain begun."""
        chains = no_chains(len(self.context.train_problems), self.stage.max_new_tokens)
        return {"prompts": self.prompts.first_state(), "chains": chains._asdict()}

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """See `ExperienceSource.collect`; arrays of the experience begin with `memory_`."""
        weights = sampler_weights(self.rollouts.sampler, policy)
        prompts, taken = distinct_prompts(
            self.prompts, state["prompts"], step, self.stage.batch.prompts_per_step
        )
        memory = Chains(**state["chains"])
        ids = np.array([record["id"] for record in prompts.records])
        samples = self.rollouts.sample(weights, policy, prompts, step=step)
        started = time.perf_counter()
        scores = self.reward.score(samples)
        taken = self.prompts.observe(taken, samples, scores)
        scoring = time.perf_counter() - started
        before = Chains(*(np.asarray(x)[ids] for x in memory))
        if self.stage.objective.choices["guide"] == "hinted" and not before.begun.all():
            before = chosen(before.begun, before, self._guided(weights, samples, step))
        right = is_right(samples, scores)
        accepted, after_right = map(np.asarray, accepted_proposals(before.right, right))
        aged = before._replace(age=before.age + 1, begun=np.ones(len(ids), bool))
        after = chosen(accepted, states_of(samples, right), aged)
        chains = {name: _with(getattr(memory, name), ids, x) for name, x in after._asdict().items()}
        experience = Experience(
            records=prompts.records,
            samples=samples,
            scores=scores,
            arrays={"memory_tokens": after.tokens, "memory_mask": after.mask}
            | {"memory_right": after_right, "proposal_right": right},
            metrics=rollout_metrics(samples, scores)
            | _chain_metrics(after, accepted)
            | self.prompts.metrics(taken),
            seconds={"sampling": samples.seconds, "scoring": scoring},
        )
        return experience, {"prompts": taken, "chains": chains}

    def _guided(self, weights: dict, samples: Samples, step: int) -> Chains:
        """What the chains of the problems begin with."""
        rollouts = self.rollouts
        guided = hinted_samples(
            self.context,
            self.stage,
            rollouts.sampler,
            weights,
            samples,
            self.stage.objective.values["context_pattern"],
            key=rollouts.key,
            step=rollouts.first_step + step,
        )
        return states_of(guided, is_right(guided, self.reward.score(guided)))


def _with(all_of: np.ndarray, ids: np.ndarray, some: np.ndarray) -> np.ndarray:
    """A copy with new values in some places: the old state may still be being saved."""
    changed = np.array(all_of)
    changed[ids] = some
    return changed


def _chain_metrics(after: Chains, accepted: np.ndarray) -> dict[str, float]:
    found = {"accepted_share": float(accepted.mean()), "chains_right": float(after.right.mean())}
    if after.right.any():  # how long a state has been learned from, which may reason wrongly
        found["chain_age"] = float(after.age[after.right].mean())
    return found
