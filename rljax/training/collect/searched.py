"""Experience of tree searches: completions and values of their pieces (DeepSearch, 2509.25454).

A stage is cut into rounds. A round begins with a few samples of every problem: the problems that
are solved too often are left out of it, and the right samples of those that are solved sometimes
are kept. In the steps of a round a problem with kept solutions is sampled plainly, with them in the
place of its first samples; every other one is searched, all prompts of the step side by side.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.batches import equal_batches
from rljax.models.network import Params
from rljax.remarks import say_once
from rljax.rewards.pool import Scores
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests, Rollouts, StopReason
from rljax.training.collect.branches import PER_TOKEN, Branch, grow
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.prompts import State
from rljax.training.collect.rewards import Reward
from rljax.training.collect.rollouts import (
    Samples,
    noise_addresses,
    padded_prompts,
    require_rewards,
    rollout_metrics,
)
from rljax.training.collect.solutions import Solutions
from rljax.training.collect.tree_search import Trajectory, TreeSearch
from rljax.training.run.context import Context, Record
from rljax.training.run.phases import phase

# Calls of the sampler in a step that differ in their noise.
SEARCH, SCREEN = 0, 1
METHOD = "rollouts='search'"


class Step(NamedTuple):
    """The trajectories of a step's prompts."""

    found: list[list[Trajectory]]  # G at most of each prompt
    searched: np.ndarray  # [B] bool, others were sampled plainly
    tokens: int  # that were sampled
    expansions: int  # of nodes


class SearchedExperience:
    """Searches hard problems; see `ExperienceSource`."""

    def __init__(
        self,
        context: Context,
        stage: Stage,
        engines: tuple[Engine, Engine, Engine],
        search: TreeSearch,
        reward: Reward,
        *,
        key: Array,
        first_step: int,
    ) -> None:
        """Puts the parts together; nothing runs.

        Args:
            context: of the run.
            stage: with rollouts="search".
            engines: that write the children of a node, the plain samples of a prompt, and the
                samples that a problem is screened with.
            search: of the trees.
            reward: of completions.
            key: of the rollouts.
            first_step: steps of the run before the stage.
        """
        self.context, self.stage, self.search, self.reward = context, stage, search, reward
        self.pieces, self.plain, self.screener = engines
        self.key, self.first_step = key, first_step
        values = stage.objective.values
        self.round_steps, self.hard_share = values["round_steps"], values["hard_share"]
        self.penalty = penalty_tokens(stage)
        self.solutions = Solutions(
            values["kept_solutions"],
            stage.max_new_tokens,
            most=max(1, int(self.hard_share * stage.batch.samples_per_prompt)),
        )

    def first_state(self) -> State:
        """Nothing screened, taken or kept yet."""
        count = len(self.context.train_problems)
        return {
            "taken": np.int64(0),
            "hard": np.zeros(count, bool),
            "solved": np.full(count, np.nan, np.float32),
            **self.solutions.first_state(),
        }

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """See `ExperienceSource.collect`."""
        started = time.perf_counter()
        weights = self.pieces.load(policy.params) if policy.weights is None else policy.weights
        screened = 0
        if (step - 1) % self.round_steps == 0:
            state, screened = self._screened(weights, state, step)
        records, state = self._taken(state)
        texts, tokens, mask = padded_prompts(self.context, records)
        requests = Requests(tokens, mask, noise_addresses(self.context, records, call=SEARCH))
        done = self._step(weights, requests, records, texts, state, step)
        samples, arrays = self._samples(policy, records, texts, requests, done)
        seconds = time.perf_counter() - started
        scoring = time.perf_counter()
        scores = self.reward.score(samples)
        require_rewards(scores, METHOD)
        state = self._remembered(state, records, done)
        return Experience(
            records=records,
            samples=samples._replace(seconds=seconds),
            scores=scores,
            arrays=arrays,
            metrics=self._metrics(samples, scores, state, done, screened),
            seconds={"sampling": seconds, "scoring": time.perf_counter() - scoring},
        ), state

    def _screened(self, weights: Params, state: State, step: int) -> tuple[State, int]:
        """The state at the start of a round, and the tokens that its samples took."""
        problems, size = self.context.train_problems, self.stage.batch.prompts_per_step
        count, samples = len(problems), self.screener.config.samples_per_prompt
        solved, hard, tokens = np.zeros(count, np.float32), np.zeros(count, bool), 0
        kept = state
        for indices in equal_batches(count, size):
            records = [{**problems[index], "id": index} for index in indices]
            texts, prompts, mask = padded_prompts(self.context, records)
            call = noise_addresses(self.context, records, call=SCREEN)
            drawn = self._grown(
                self.screener,
                weights,
                Requests(prompts, mask, call),
                [Branch(place) for place in range(size)],
                step,
            )
            flat = [one for own in drawn for one in own]
            right = self.search.judge(self.context, records, texts, flat)
            right = right.reshape(size, samples)
            for place, index in enumerate(indices[: min(size, count - indices[0])]):
                share = float(right[place].mean())
                solved[index], hard[index] = share, share <= self.hard_share
                tokens += sum(one.length for one in drawn[place])
                if 0 < share <= self.hard_share:
                    own = [
                        one
                        for one, good in zip(drawn[place], right[place], strict=True)
                        if good and one.finished
                    ]
                    kept = self.solutions.add(kept, index, [one.tokens for one in own])
        if not hard.any() and state["hard"].any():
            say_once(
                "no problem is hard any more: those of the round before are searched again "
                f"({self.stage.name}.objective.hard_share)"
            )
            hard = state["hard"]
        if not hard.any():
            raise ValueError(
                f"No problem is hard: {samples} samples of each of {count} problems were right "
                f"with shares from {solved.min():.2f} to {solved.max():.2f}, and "
                f"hard_share={self.hard_share} keeps those up to it: raise it, give harder "
                f"problems, or end the stage (config.{self.stage.name}.objective.hard_share, "
                "config.data)."
            )
        return kept | {"hard": hard, "solved": solved}, tokens

    def _taken(self, state: State) -> tuple[list[Record], State]:
        """The next hard problems, in an order of the seed that begins anew when all were taken."""
        hard, first = np.flatnonzero(state["hard"]), int(state["taken"])
        count, records = self.stage.batch.prompts_per_step, []
        for place in range(first, first + count):
            epoch, within = divmod(place, len(hard))
            seed = [self.context.config.seed, self.first_step, epoch]
            index = int(np.random.default_rng(seed).permutation(hard)[within])
            records.append({**self.context.train_problems[index], "id": index})
        return records, state | {"taken": np.int64(first + count)}

    def _step(
        self,
        weights: Params,
        requests: Requests,
        records: Sequence[Record],
        texts: Sequence[str],
        state: State,
        step: int,
    ) -> Step:
        known = [self.solutions.of(state, record["id"]) for record in records]
        searched = np.array([not own for own in known])
        found: list[list[Trajectory]] = [[] for _ in records]
        tokens = expansions = 0

        def expand(nodes: Sequence[Branch], first: Sequence[int]) -> list[list[Branch]]:
            width = self.pieces.config.samples_per_prompt
            ids = np.asarray(first)[:, None] + np.arange(width)
            return self._grown(self.pieces, weights, requests, nodes, step, ids)

        def judge(branches: Sequence[Branch]) -> np.ndarray:
            return self.search.judge(self.context, records, texts, branches)

        if searched.any():
            trees = self.search(np.flatnonzero(searched), expand, judge)
            tokens, expansions = trees.tokens, trees.expansions
            for prompt, own in trees.found.items():
                found[prompt] = own
        plain = np.flatnonzero(~searched)
        if len(plain):
            drawn = self._grown(
                self.plain, weights, requests, [Branch(int(place)) for place in plain], step
            )
            tokens += sum(one.length for own in drawn for one in own)
            for place, own in zip(plain, drawn, strict=True):
                shown = [self._shown(int(place), one) for one in known[place]]
                rows = [*shown, *own[len(shown) :]]
                right = judge(rows)
                found[place] = [
                    Trajectory(one, [1.0 if good else -1.0], [one.length], bool(good))
                    for one, good in zip(rows, right, strict=True)
                ]
        return Step(found, searched, tokens, expansions)

    @staticmethod
    def _shown(place: int, tokens: np.ndarray) -> Branch:
        """A kept solution; no sampler has reported what its tokens' log-probabilities are now."""
        piece = {name: np.full(len(tokens), np.nan, np.float32) for name in PER_TOKEN}
        piece |= {"tokens": tokens, "entropy": np.zeros(len(tokens), np.float32)}
        return Branch(place, (piece,), StopReason.STOP_TOKEN)

    @phase("sampling")
    def _grown(
        self,
        engine: Engine,
        weights: Params,
        requests: Requests,
        branches: Sequence[Branch],
        step: int,
        ids: np.ndarray | None = None,
    ) -> list[list[Branch]]:
        count = engine.config.samples_per_prompt
        if ids is None:
            ids = np.broadcast_to(np.arange(count), (len(branches), count))
        return grow(
            engine,
            weights,
            requests,
            branches,
            ids,
            slots=self.stage.max_new_tokens,
            rows=len(requests.prompts),
            key=self.key,
            step=self.first_step + step,
        )

    def _samples(
        self,
        policy: Policy,
        records: list[Record],
        texts: list[str],
        requests: Requests,
        done: Step,
    ) -> tuple[Samples, dict[str, np.ndarray]]:
        """The trajectories as samples [B, G, T], and the reward of each token's node."""
        shape = len(records), self.stage.batch.samples_per_prompt, self.stage.max_new_tokens
        numbers = [name for name in PER_TOKEN if name != "tokens"]
        rollouts = Rollouts(
            tokens=np.full(shape, self.context.tokenizer.pad_id, np.int32),
            mask=np.zeros(shape, bool),
            **{name: np.zeros(shape, np.float32) for name in numbers},
            stop_reason=np.full(shape[:2], StopReason.LENGTH, np.int32),
            slot_steps=np.zeros(shape[0], np.int32),
        )
        values = np.zeros(shape, np.float32)
        completions = [""] * (shape[0] * shape[1])
        for prompt, own in enumerate(done.found):
            for number, (branch, rewards, lengths, _) in enumerate(own):
                at = prompt, number
                for name in PER_TOKEN:
                    getattr(rollouts, name)[at][: branch.length] = branch.joined(name)
                rollouts.mask[at][: branch.length] = True
                rollouts.stop_reason[at] = branch.stop_reason
                penalty = overlong_penalty(branch.length, shape[2], self.penalty)
                values[at][: branch.length] = np.repeat(rewards, lengths) + penalty
                text = self.context.text_format.text(branch.tokens)
                completions[prompt * shape[1] + number] = text
        versions = np.full(shape, policy.version, np.int32)
        prompts, mask = requests.prompts, requests.prompt_mask
        samples = Samples(records, texts, prompts, mask, rollouts, versions, completions, 0.0)
        return samples, {"end_values": values.reshape(-1, shape[2])}

    def _remembered(self, state: State, records: Sequence[Record], done: Step) -> State:
        """Keeps the right trajectories of searches that found few."""
        for record, own, searched in zip(records, done.found, done.searched, strict=True):
            right = [one.branch.tokens for one in own if one.correct and one.branch.finished]
            if searched and right and len(right) <= self.hard_share * len(own):
                state = self.solutions.add(state, record["id"], right)
        return state

    def _metrics(
        self, samples: Samples, scores: Scores, state: State, done: Step, screened: int
    ) -> dict[str, float]:
        trees = [own for own, found in zip(done.found, done.searched, strict=True) if found]
        metrics = rollout_metrics(samples, scores) | {
            "sampled_tokens": float(done.tokens + screened),
            "search_share": float(done.searched.mean()),
            "hard_problems": float(state["hard"].sum()),
            "kept_solutions": float((state["solution_of"] >= 0).sum()),
        }
        if trees:
            solved = [any(one.correct for one in own) for own in trees]
            metrics |= {
                "search_expansions": done.expansions / len(trees),
                "search_trajectories": float(np.mean([len(own) for own in trees])),
                "trees_without_success": 1.0 - float(np.mean(solved)),
            }
        return metrics


def penalty_tokens(stage: Stage) -> int:
    """Tokens before the limit over which the overlong penalty grows; by default a quarter of it."""
    given = stage.objective.values["penalty_tokens"]
    return stage.max_new_tokens // 4 if given is None else given


def overlong_penalty(length: int, limit: int, buffer: int) -> float:
    """min(-(length - (limit - buffer)) / buffer, 0), added to the reward of every piece."""
    return min(-(length - (limit - buffer)) / buffer, 0.0) if buffer else 0.0
