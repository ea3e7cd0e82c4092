"""T-PPO's successive batching: every step has what every slot has just written.

Fan et al. 2025, arXiv:2506.15050. Each of prompts_per_step * samples_per_prompt slots continues its
response by at most `window_tokens` tokens a step (windows.py). The policy learns from the tokens of
this window, also of responses that go on; the critic learns from complete responses, from all of
their tokens. A response is complete at a stop token, or at max_new_tokens: then it is scored.

No cache of keys and values outlives a step: what has been written is read again under the new
weights, and the noise of a token depends on its address only. So a policy that stands still writes
the same responses whatever the window is.
"""

import time
from typing import NamedTuple

import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests, StopReason
from rljax.training.collect.continuations import Prefixes, with_prefixes
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.prompts import PromptSource, State
from rljax.training.collect.rewards import Reward
from rljax.training.collect.rollouts import (
    Samples,
    padded_prompts,
    rollout_metrics,
    spread_scores,
    take_prompts,
)
from rljax.training.collect.sampled import sampler_weights
from rljax.training.collect.windows import (
    Slots,
    Window,
    extend,
    free_slots,
    prompts_needed,
    refill,
    release,
    window_metrics,
)
from rljax.training.run.context import Context
from rljax.training.run.phases import phase


class Responses(NamedTuple):
    """S responses as far as they are written: what is known of tokens of earlier windows too.

    It has the fields of `Rollouts` (sampling/request.py) that training reads, with G = 1.
    """

    tokens: np.ndarray  # [S, 1, T] i32
    mask: np.ndarray  # [S, 1, T] bool
    logprobs: np.ndarray  # [S, 1, T] f32, under the policies that wrote them
    temperature: np.ndarray  # [S, 1, T] f32
    stop_reason: np.ndarray  # [S, 1] i32

    inserted = None  # nobody answers while a response is written

    @property
    def finished(self) -> np.ndarray:
        """[S, 1] bool, True where the response ended by itself."""
        return (self.stop_reason != StopReason.LENGTH) & (self.stop_reason != StopReason.PAUSED)

    @property
    def complete(self) -> np.ndarray:
        """[S] bool, True where nothing more will be written."""
        return self.stop_reason[:, 0] != StopReason.PAUSED


class WindowedExperience:
    """Responses that are written over several steps, a window of tokens in each."""

    def __init__(
        self,
        context: Context,
        stage: Stage,
        prompts: PromptSource,
        engine: Engine,
        reward: Reward,
        *,
        key: Array,
        first_step: int,
    ) -> None:
        """Puts the parts together; nothing runs.

        Args:
            context: of the run.
            stage: whose sequences of a step are the slots.
            prompts: which problems come next.
            engine: with one sample per prompt and room for a window.
            reward: of complete responses.
            key: of the stream that the noise of the samples is from.
            first_step: steps of the run before the stage.
        """
        self.context, self.stage, self.prompts = context, stage, prompts
        self.engine, self.reward = engine, reward
        # The same step in all calls of the stage: prompt, sample and place of a token tell noise
        # apart, and a response draws what it would have drawn in one go.
        self.key, self.noise_step = key, first_step + 1

    # What is complete decides over the next prompts: a step is collected as a whole.
    splits = False

    @property
    def sampler(self) -> Engine:
        """What continues responses."""
        return self.engine

    def first_state(self) -> State:
        """Free slots, and no prompt taken."""
        slots = free_slots(self.stage.batch.sequences_per_step, self.stage.max_new_tokens)
        return {"prompts": self.prompts.first_state(), "slots": slots._asdict()}

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """Continues every slot's response and scores the complete ones.

        Of responses that go on the scores are NaN; the arrays say what is new of them, which are
        complete, and count 0 for a score that is not there yet.
        """
        slots, prompts = self._refilled(state, step)
        started = time.perf_counter()
        weights = sampler_weights(self.sampler, policy)
        slots, samples, new = self._continued(weights, policy, slots)
        sampled = time.perf_counter()
        complete = samples.rollouts.complete
        done = take_prompts(samples, np.flatnonzero(complete))
        found = self.reward.score(done)
        seconds = {"sampling": sampled - started, "scoring": time.perf_counter() - sampled}
        scores = spread_scores(found, complete, missing=np.nan)
        metrics = window_metrics(slots, new, complete, step=step)
        metrics |= rollout_metrics(done, found) if complete.any() else {}
        arrays = {
            "trained_tokens": new,
            "complete": complete,
            "scores": np.where(complete, scores.total, np.float32(0)),
        }
        experience = Experience(
            samples.records, samples, scores, arrays=arrays, metrics=metrics, seconds=seconds
        )
        prompts = self.prompts.observe(prompts, done, found)
        return experience, {"prompts": prompts, "slots": release(slots, complete)._asdict()}

    def _refilled(self, state: State, step: int) -> tuple[Slots, State]:
        """The slots with the responses that begin in this step, and the prompt source's state."""
        slots, samples = Slots(**state["slots"]), self.stage.batch.samples_per_prompt
        count = prompts_needed(slots, samples)
        taken, prompts = self.prompts.take(state["prompts"], step, count)
        ids = np.array([record["id"] for record in taken.records], np.int32)
        visits = taken.visits.astype(np.int32)
        slots = refill(slots, step=step, samples_per_prompt=samples, ids=ids, visits=visits)
        return slots, prompts

    @phase("sampling")
    def _continued(
        self, weights: Params, policy: Policy, slots: Slots
    ) -> tuple[Slots, Samples, np.ndarray]:
        """The slots after one more window, all that they have written, and where it is new."""
        started = time.perf_counter()
        context, problems = self.context, self.context.train_problems
        records = [{**problems[number], "id": number} for number in slots.prompt.tolist()]
        texts, prompts, prompt_mask = padded_prompts(context, records)
        # A prompt that comes again in a later epoch gets other noise.
        noise_ids = (slots.prompt + slots.visit * len(problems)).astype(np.int32)
        requests = continued_requests(
            slots, prompts, prompt_mask, noise_ids, self.stage.max_new_tokens
        )
        rollouts = self.engine.sample(weights, requests, key=self.key, step=self.noise_step)
        window = (getattr(rollouts, name)[:, 0] for name in Window._fields)
        slots, new = extend(slots, Window(*window), policy.version)
        mask = slots.written
        responses = Responses(
            tokens=np.where(mask, slots.tokens, context.tokenizer.pad_id).astype(np.int32)[:, None],
            mask=mask[:, None],
            logprobs=slots.logprobs[:, None],
            temperature=slots.temperature[:, None],
            stop_reason=rollouts.stop_reason,
        )
        samples = Samples(
            records=records,
            prompt_texts=texts,
            prompts=prompts,
            prompt_mask=prompt_mask,
            rollouts=responses,
            versions=slots.version[:, None],
            texts=[
                context.text_format.text(row[kept])
                for row, kept in zip(slots.tokens, mask, strict=True)
            ],
            seconds=time.perf_counter() - started,
        )
        return slots, samples, new


def continued_requests(
    slots: Slots,
    prompts: np.ndarray,
    prompt_mask: np.ndarray,
    noise_ids: np.ndarray,
    max_new_tokens: int,
) -> Requests:
    """What the sampler is asked for: each slot's prompt, with what it has written at its end.

    Args:
        slots: S of them.
        prompts: [S, P] i32, padded on the left; prompt_mask: [S, P] bool.
        noise_ids: [S] i32, address of the noise of each slot's prompt.
        max_new_tokens: T, of a whole response.
    """
    each = np.arange(len(slots.length))
    prefixes = Prefixes(prompt=each, row=each, length=slots.length)
    tokens, mask = with_prefixes(prompts, prompt_mask, slots.tokens, prefixes)
    return Requests(
        prompts=tokens,
        prompt_mask=mask,
        prompt_ids=noise_ids,
        sample_ids=slots.sample[:, None],
        continued=slots.length,
        max_new_tokens=np.full((len(each), 1), max_new_tokens, np.int32),
    )
