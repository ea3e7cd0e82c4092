"""What draws a step's samples: in one go, or in pieces that may have weights of their own.

    begin    the work of a step, from the state of the source before it
    go_on    one piece of it, with a policy
    is_done  whether nothing is left to draw
    finished what was drawn, and the state of the source after the step
    judge    what was drawn -> experience; in another thread, beside the next step

Work is made of NumPy arrays where there are several pieces: a checkpoint may come between them.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from rljax.config.stage import Stage
from rljax.sampling.request import Requests, Rollouts, StopReason
from rljax.training.collect.continuations import Prefixes, sample_continuations, with_prefixes
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.prompts import State
from rljax.training.collect.rollouts import Samples, noise_addresses, padded_prompts
from rljax.training.collect.sampled import SampledExperience
from rljax.training.collect.sources import stage_engine
from rljax.training.collect.windowed import Responses
from rljax.training.run.context import Context


class Writer(Protocol):
    """See above."""

    def begin(self, state: State, step: int) -> Any: ...

    def go_on(self, work: Any, policy: Policy) -> Any: ...

    def is_done(self, work: Any) -> bool: ...

    def finished(self, work: Any) -> tuple[Any, State]: ...

    def judge(self, made: Any) -> Experience: ...


class InOneGo:
    """Asks a source for whole steps; scores beside the next one where the source splits."""

    def __init__(self, source: Any) -> None:
        """Takes a source with `splits` (collect/sampled.py)."""
        self.source = source

    def begin(self, state: State, step: int) -> tuple[State, int]:
        """What a source is asked with."""
        return state, step

    def go_on(self, work: tuple[State, int], policy: Policy) -> tuple[Any, State]:
        """What it answers: samples, or all experience of a step."""
        draw = self.source.draw if self.source.splits else self.source.collect
        return draw(policy, *work)

    def is_done(self, work: Any) -> bool:
        """One piece is all."""
        return True

    def finished(self, work: tuple[Any, State]) -> tuple[Any, State]:
        """The answer."""
        return work

    def judge(self, made: Any) -> Experience:
        """Scores samples; experience is scored already."""
        return self.source.judge(made) if self.source.splits else made


class Paused(NamedTuple):
    """The samples of a step as far as they are drawn. N = B * G rows; NumPy."""

    step: int
    ids: np.ndarray  # [B] i64, of the problems
    state: State  # of the prompt source after the step
    tokens: np.ndarray  # [N, T] i32
    logprobs: np.ndarray  # [N, T] f32, under the weights that drew each
    temperature: np.ndarray  # [N, T] f32
    versions: np.ndarray  # [N, T] i32
    length: np.ndarray  # [N] i32
    stop_reason: np.ndarray  # [N] i32, PAUSED where a sample goes on
    seconds: float


class InPieces:
    """Draws so many tokens of every sample at a time (AReaL, arXiv:2505.24298, section 4.1).

    No cache outlives a piece: what is written is read again under the next weights. The noise of a
    token depends on its address alone, so a policy that stands still writes the same samples
    whatever the pieces are.
    """

    def __init__(
        self, context: Context, stage: Stage, source: SampledExperience, tokens: int
    ) -> None:
        """Builds the engine of one piece; nothing is compiled.

        Args:
            context: of the stage.
            stage: that samples whole completions.
            source: of its experience, which `splits`.
            tokens: of a piece.
        """
        self.context, self.stage, self.source = context, stage, source
        self.engine = stage_engine(context, stage, samples=1, max_new_tokens=tokens)

    def begin(self, state: State, step: int) -> Paused:
        """Takes the prompts; nothing is written."""
        batch = self.stage.batch
        prompts, state = self.source.prompts.take(state, step, batch.prompts_per_step)
        rows, room = batch.prompts_per_step * batch.samples_per_prompt, self.stage.max_new_tokens
        return Paused(
            step=step,
            ids=np.array([record["id"] for record in prompts.records]),
            state=state,
            tokens=np.full((rows, room), self.context.tokenizer.pad_id, np.int32),
            logprobs=np.zeros((rows, room), np.float32),
            temperature=np.zeros((rows, room), np.float32),
            versions=np.zeros((rows, room), np.int32),
            length=np.zeros(rows, np.int32),
            stop_reason=np.full(rows, StopReason.PAUSED, np.int32),
            seconds=0.0,
        )

    def go_on(self, work: Paused, policy: Policy) -> Paused:
        """Every sample that is not complete, by one piece."""
        started = time.perf_counter()
        work = work._replace(
            **{name: getattr(work, name).copy() for name in (*_PER_TOKEN, "length", "stop_reason")}
        )
        rollouts = self.source.rollouts
        going_on = np.flatnonzero(work.stop_reason == StopReason.PAUSED)
        for index, found in sample_continuations(
            self.engine,
            policy.weights,
            self._requests(work),
            rows=len(work.length),
            key=rollouts.key,
            step=rollouts.first_step + work.step,
        ):
            _append(work, going_on[index], found, policy.version)
        return work._replace(seconds=work.seconds + time.perf_counter() - started)

    def is_done(self, work: Paused) -> bool:
        """Whether every sample is complete."""
        return not (work.stop_reason == StopReason.PAUSED).any()

    def finished(self, work: Paused) -> tuple[Samples, State]:
        """The samples, with the version of the weights that drew each token."""
        records = self._records(work)
        texts, prompts, prompt_mask = padded_prompts(self.context, records)
        shape = (len(records), -1, work.tokens.shape[1])
        mask = np.arange(work.tokens.shape[1]) < work.length[:, None]
        responses = Responses(
            tokens=work.tokens.reshape(shape),
            mask=mask.reshape(shape),
            logprobs=work.logprobs.reshape(shape),
            temperature=work.temperature.reshape(shape),
            stop_reason=work.stop_reason.reshape(len(records), -1),
        )
        completions = [
            self.context.text_format.text(row[kept])
            for row, kept in zip(work.tokens, mask, strict=True)
        ]
        samples = Samples(
            records=records,
            prompt_texts=texts,
            prompts=prompts,
            prompt_mask=prompt_mask,
            rollouts=responses,
            versions=work.versions.reshape(shape),
            texts=completions,
            seconds=work.seconds,
        )
        return samples, work.state

    def judge(self, made: Samples) -> Experience:
        """Scores the samples."""
        return self.source.judge(made)

    def _records(self, work: Paused) -> list[dict[str, Any]]:
        problems = self.context.train_problems
        return [{**problems[number], "id": number} for number in work.ids.tolist()]

    def _requests(self, work: Paused) -> Requests:
        """The prompts of samples that go on, each with what is written of it at its end."""
        records = self._records(work)
        _, prompts, prompt_mask = padded_prompts(self.context, records)
        rows = np.flatnonzero(work.stop_reason == StopReason.PAUSED)
        samples = self.stage.batch.samples_per_prompt
        prefixes = Prefixes(prompt=rows // samples, row=rows, length=work.length[rows])
        tokens, mask = with_prefixes(prompts, prompt_mask, work.tokens, prefixes)
        return Requests(
            prompts=tokens,
            prompt_mask=mask,
            prompt_ids=noise_addresses(self.context, records)[prefixes.prompt],
            sample_ids=(rows % samples).astype(np.int32)[:, None],
            continued=prefixes.length,
            max_new_tokens=np.full((len(rows), 1), self.stage.max_new_tokens, np.int32),
        )


_PER_TOKEN = ("tokens", "logprobs", "temperature", "versions")


def _append(work: Paused, rows: Sequence[int], found: Rollouts, version: int) -> None:
    """Writes a piece behind what the rows hold, in place.

    Args:
        work: with arrays of its own.
        rows: [S] of the step.
        found: [S, 1, W].
        version: of the weights that drew it.
    """
    for place, row in enumerate(rows):
        kept = np.asarray(found.mask[place, 0])
        start, count = int(work.length[row]), int(kept.sum())
        for name in ("tokens", "logprobs", "temperature"):
            getattr(work, name)[row, start : start + count] = getattr(found, name)[place, 0][kept]
        work.versions[row, start : start + count] = version
        work.length[row] += count
        work.stop_reason[row] = found.stop_reason[place, 0]


def pieces_of(stage: Stage, tokens: int) -> int:
    """Pieces of so many tokens that a whole completion takes; 0 tokens: one piece."""
    return -(-stage.max_new_tokens // tokens) if tokens else 1


def make_writer(context: Context, stage: Stage, source: Any, tokens: int) -> InOneGo | InPieces:
    """The writer of `config.asynchronous.partial_tokens`."""
    return InPieces(context, stage, source, tokens) if tokens else InOneGo(source)
