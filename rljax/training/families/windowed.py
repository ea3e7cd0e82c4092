"""T-PPO's successive batching: every step learns from what every slot has just written.

Fan et al. 2025, arXiv:2506.15050. Each of prompts_per_step * samples_per_prompt slots continues its
response by at most `window_tokens` tokens a step (collect/windows.py). The policy learns from the
tokens of this window, also of responses that go on; the critic learns from complete responses, from
all of their tokens. A response is complete at a stop token, or at max_new_tokens: then it is
scored.

No cache of keys and values outlives a step: what has been written is read again under the new
weights, and the noise of a token depends on its address only. So a policy that stands still writes
the same responses whatever the window is.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.encode import encode_prompts
from rljax.models.network import Params
from rljax.parallel.rules import replicated
from rljax.rewards.pool import Scores
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.request import Requests, StopReason
from rljax.training.collect.continuations import Prefixes, with_prefixes
from rljax.training.collect.rollouts import Samples, rollout_metrics, score_samples, take_prompts
from rljax.training.collect.windows import (
    Slots,
    Window,
    extend,
    free_slots,
    refill,
    release,
    window_metrics,
)
from rljax.training.families import Experience
from rljax.training.families.policy_gradient import Detail, PolicyGradient
from rljax.training.learner.group import Group, step_arrays
from rljax.training.run.context import Context
from rljax.training.update.metrics import finished
from rljax.training.update.state import Extra, TrainState

STATE = "windows"  # where the slots are in `TrainState.extra`


class Responses(NamedTuple):
    """S responses as far as they are written: what is known of tokens of earlier windows too.

    It has the fields of `Rollouts` (sampling/request.py) that training reads, with G = 1.
    """

    tokens: np.ndarray  # [S, 1, T] i32
    mask: np.ndarray  # [S, 1, T] bool
    logprobs: np.ndarray  # [S, 1, T] f32, under the policies that wrote them
    temperature: np.ndarray  # [S, 1, T] f32
    stop_reason: np.ndarray  # [S, 1] i32

    @property
    def finished(self) -> np.ndarray:
        """[S, 1] bool, True where the response ended by itself."""
        return (self.stop_reason != StopReason.LENGTH) & (self.stop_reason != StopReason.PAUSED)

    @property
    def complete(self) -> np.ndarray:
        """[S] bool, True where nothing more will be written."""
        return self.stop_reason[:, 0] != StopReason.PAUSED


class WindowedPolicyGradient(PolicyGradient):
    """Policy gradients with a critic on responses that are written over several steps."""

    @property
    def window_tokens(self) -> int:
        """W, of one step."""
        return min(self.objective.values["window_tokens"], self.stage.max_new_tokens)

    def _engine(self, samples: int, token_filter: TokenFilter) -> Any:
        """A slot is a prompt of its own, with what has been written behind it."""
        return self.context.make_engine(
            samples_per_prompt=1,
            max_new_tokens=self.window_tokens,
            token_filter=token_filter,
            stop_strings=self.stage.stop_strings,
        )

    @staticmethod
    def extra(context: Context, stage: Stage) -> Extra:
        """The critic, and what the slots have written."""
        rest = PolicyGradient.extra(context, stage)
        first = free_slots(stage.batch.sequences_per_step, stage.max_new_tokens)._asdict()
        whole = replicated(context.mesh)

        def create(params: Params) -> dict[str, Any]:
            return rest.create(params) | {STATE: jax.tree.map(jnp.asarray, first)}

        return Extra(create, rest.shardings | {STATE: dict.fromkeys(first, whole)})

    def collect(self, state: TrainState, step: int) -> tuple[TrainState, Experience]:
        """Continues every slot's response, scores the complete ones, compares with the critic."""
        params = self.context.full(state.params)
        slots = refill(
            Slots(**jax.device_get(state.extra[STATE])),
            step=step,
            samples_per_prompt=self.stage.batch.samples_per_prompt,
        )
        slots, samples, new = self._continued(self.engine.load(params), slots)
        complete = samples.rollouts.complete
        done = take_prompts(samples, np.flatnonzero(complete))
        found, scoring_seconds = score_samples(self.context, done)
        scores = _spread(found, complete)
        group = _group(samples, scores)
        inputs = self._inputs(samples, group)
        arrays = step_arrays(group) | self._scored(params, state, inputs)
        arrays |= {"trained_tokens": new, "complete": complete}
        trained, _, compared = jax.device_get(self.compare(arrays, {}, step - 1))
        batches = self.batches(
            inputs, trained, seed=(self.context.config.seed, self.first_step + step)
        )
        metrics = window_metrics(slots, new, complete, step=step)
        metrics |= rollout_metrics(done, found) if complete.any() else {}
        metrics |= {name: float(value) for name, value in finished(compared).items()}
        del metrics["groups_without_signal"]  # a slot is compared with no other
        tokens = int(trained["mask"].sum()) * self.stage.batch.epochs_per_step
        detail = Detail(samples, scores, inputs, trained, np.zeros(new.shape))
        seconds = {"sampling": samples.seconds, "scoring": scoring_seconds}
        state = state.replace(extra=state.extra | _kept(release(slots, complete), state.extra))
        return state, Experience(batches, metrics, seconds, tokens, detail)

    def _continued(self, weights: Params, slots: Slots) -> tuple[Slots, Samples, np.ndarray]:
        """The slots after one more window, all that they have written, and where it is new."""
        started = time.perf_counter()
        context, problems = self.context, len(self.context.train_problems)
        records = [self.prompts[int(place)] for place in slots.prompt]
        ids = np.array([record["id"] for record in records])
        texts = context.prompt_texts(records)
        prompts, prompt_mask = encode_prompts(
            texts,
            context.tokenizer,
            max_prompt_tokens=context.config.data.max_prompt_tokens,
            ids=ids.tolist(),
            add_bos=context.config.tokenizer.add_bos,
        )
        # A prompt that comes again in a later epoch of the stream gets other noise.
        noise_ids = ids + slots.prompt // problems * problems
        requests = continued_requests(
            slots, prompts, prompt_mask, noise_ids.astype(np.int32), self.stage.max_new_tokens
        )
        # The same step in all calls of the stage: prompt, sample and place of a token tell noise
        # apart, and a response draws what it would have drawn in one go.
        rollouts = self.engine.sample(weights, requests, key=self.key, step=self.first_step + 1)
        window = (getattr(rollouts, name)[:, 0] for name in Window._fields)
        slots, new = extend(slots, Window(*window))
        mask = slots.written
        responses = Responses(
            tokens=np.where(mask, slots.tokens, context.tokenizer.pad_id).astype(np.int32)[:, None],
            mask=mask[:, None],
            logprobs=slots.logprobs[:, None],
            temperature=slots.temperature[:, None],
            stop_reason=rollouts.stop_reason,
        )
        written = [
            context.tokenizer.decode(row[kept])
            for row, kept in zip(slots.tokens, mask, strict=True)
        ]
        seconds = time.perf_counter() - started
        samples = Samples(records, texts, prompts, prompt_mask, responses, written, seconds)
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


def _spread(found: Scores, complete: np.ndarray) -> Scores:
    """Scores of the complete responses -> of all S; NaN, and not failed, where there is none."""

    def spread(values: np.ndarray, missing: float | bool) -> np.ndarray:
        whole = np.full(complete.shape, missing, values.dtype)
        whole[complete] = values
        return whole

    parts = {name: spread(part, np.nan) for name, part in found.parts.items()}
    return Scores(
        spread(found.total, np.nan), parts, spread(found.failed, False), found.first_error
    )


def _group(samples: Samples, scores: Scores) -> Group:
    """All slots, each a group of its own. A response that goes on has no score: it counts as 0."""
    responses = samples.rollouts
    return Group(
        tokens=responses.tokens,
        mask=responses.mask,
        logprobs=responses.logprobs,
        finished=responses.finished,
        scores=np.where(responses.complete, scores.total, np.float32(0))[:, None],
        correct=scores.correct[:, None],
    )


def _kept(slots: Slots, extra: dict[str, Any]) -> dict[str, dict[str, Array]]:
    """The slots as they are in the state."""
    place = lambda new, old: jax.device_put(np.asarray(new, old.dtype), old.sharding)  # noqa: E731
    return {STATE: jax.tree.map(place, slots._asdict(), extra[STATE])}
