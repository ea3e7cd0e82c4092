"""Episodes: the model's replies and an environment's answers in turn, as one completion each.

    prompt | reply 1, answer 1, reply 2, answer 2, ... reply K

Replies are sampled, answers are inserted: `mask` is True on the former, `inserted` on the latter.
Ids are never made anew: a later reply is sampled behind the very ids of all before it.

The episodes of a step are played in cohorts of `rows_per_call`. While the environment answers one
cohort the next one is sampled; who is in a cohort is known beforehand, so that a run repeats.
"""

import concurrent.futures
import copy
import dataclasses
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

from rljax.data.conversations import Message
from rljax.data.next_turn import Rewritten, next_turn
from rljax.data.text_format import Prompt
from rljax.environments.problems import STATE
from rljax.environments.record import PlayedTurn, episode_record
from rljax.models.network import Params
from rljax.parallel.host import to_host
from rljax.rewards.worker import Outcome
from rljax.sampling.engine import Engine, fill_rows
from rljax.sampling.request import Requests, Rollouts, StopReason, for_each_prompt
from rljax.training.collect.experience import Policy
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rollouts import (
    Samples,
    noise_addresses,
    padded_prompts,
)
from rljax.training.run.context import Context, Record
from rljax.training.run.phases import phase

# What the sampler says of each token.
OF_TOKENS = ("logprobs", "model_logprobs", "tempered_logprobs", "entropy", "temperature")


@dataclasses.dataclass
class Episode:
    """An episode under way, which `play` writes."""

    prompt: int  # place of its prompt in the step
    sample: int  # which of the prompt's G episodes
    messages: list[Message]
    state: Any
    tokens: list[int] = dataclasses.field(default_factory=list)
    sampled: list[bool] = dataclasses.field(default_factory=list)
    said: dict[str, list[float]] = dataclasses.field(
        default_factory=lambda: {name: [] for name in OF_TOKENS}
    )
    turns: list[PlayedTurn] = dataclasses.field(default_factory=list)
    end: str = ""  # "": it goes on
    error: str | None = None

    def write(self, tokens: Sequence[int], said: dict[str, Sequence[float]] | None) -> None:
        """Appends a reply with what the sampler says of it, or an answer."""
        self.tokens += list(tokens)
        self.sampled += [said is not None] * len(tokens)
        for name in OF_TOKENS:
            self.said[name] += list(said[name]) if said else [0.0] * len(tokens)


class EpisodePlayer(Protocol):
    """What plays episodes: an environment (`Player`), or agents (agent_episodes.py)."""

    engine: Engine

    def load(self, params: Params) -> Params:
        """The sampler's copy of the trainer's parameters."""

    def play(
        self,
        weights: Params,
        records: Sequence[Record],
        *,
        key: Array,
        step: int,
        version: int = 0,
        call: int = 0,
        most_prompts: int | None = None,
        temperature_slopes: Array | None = None,
    ) -> Samples:
        """G episodes of each of B problems."""


class EpisodeRollouts:
    """Rollouts that are episodes, each of them one completion."""

    def __init__(
        self, context: Context, player: "EpisodePlayer", *, key: Array, first_step: int
    ) -> None:
        """Binds a player to a random stream; `first_step` is the number of steps before."""
        self.context, self.sampler = context, player
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
    ) -> Samples:
        """Plays episodes of B prompts; see `WholeRollouts.sample` (sampled.py)."""
        return self.sampler.play(
            weights,
            prompts.records,
            key=self.key,
            step=self.first_step + step,
            version=policy.version,
            call=call,
            most_prompts=most_prompts,
            temperature_slopes=policy.temperature_slopes,
        )


class Asked(NamedTuple):
    """What the replies of a step are sampled with."""

    weights: Params
    prompts: Sequence[Prompt]  # B
    noise: np.ndarray  # [B] i32, address of each prompt's noise
    slopes: np.ndarray | None  # [B, 4] f32
    key: Array
    step: int


class Player:
    """Plays episodes with one engine."""

    def __init__(self, context: Context, engine: Engine, *, samples: int, room: int) -> None:
        """Binds an engine.

        Args:
            context: with an environment.
            engine: with one sample per prompt, and room for a reply.
            samples: G, episodes of a prompt.
            room: T, tokens of a completion, replies and answers together.
        """
        self.context, self.engine = context, engine
        self.samples, self.room = samples, room
        self.settings = context.config.environment

    def load(self, params: Params) -> Params:
        """The sampler's copy of the trainer's parameters."""
        return self.engine.load(params)

    @phase("sampling")
    def play(
        self,
        weights: Params,
        records: Sequence[Record],
        *,
        key: Array,
        step: int,
        version: int = 0,
        call: int = 0,
        most_prompts: int | None = None,
        temperature_slopes: Array | None = None,
    ) -> Samples:
        """G episodes of each of B problems; arguments as for `sample_texts` (rollouts.py)."""
        started = time.perf_counter()
        context = self.context
        texts, prompts, prompt_mask = padded_prompts(context, records)
        noise = noise_addresses(context, records, call=call, most_prompts=most_prompts)
        read = context.prompts(records)
        slopes = for_each_prompt(to_host(temperature_slopes), len(records))
        asked = Asked(weights, read, noise, slopes, key, step)
        episodes = [
            Episode(place, sample, read[place].messages, copy.deepcopy(record[STATE]))
            for place, record in enumerate(records)
            for sample in range(self.samples)
        ]
        steps = self._play(asked, episodes)
        return Samples(
            records=records,
            prompt_texts=texts,
            prompts=prompts,
            prompt_mask=prompt_mask,
            rollouts=episode_rollouts(
                episodes, self.samples, self.room, context.tokenizer.pad_id, steps
            ),
            versions=np.full((len(records), self.samples, self.room), version, np.int32),
            texts=[episode.turns[-1].reply for episode in episodes],
            seconds=time.perf_counter() - started,
            episodes=[
                episode_record(each.messages, each.turns, each.end, each.error) for each in episodes
            ],
        )

    def _play(self, asked: Asked, episodes: list[Episode]) -> int:
        """Plays all episodes to their ends; returns the sampler's slot steps."""
        size = self.settings.rows_per_call or len(episodes)
        cohorts = [episodes[first : first + size] for first in range(0, len(episodes), size)]
        waiting: deque = deque((cohort, None) for cohort in cohorts)
        slot_steps = 0
        # One thread: the processes of a run step in the same order.
        with concurrent.futures.ThreadPoolExecutor(1, "environment") as thread:
            while waiting:
                cohort, answers = waiting.popleft()
                if answers is not None:
                    self._settle(cohort, answers.result(), asked.prompts)
                    cohort = [episode for episode in cohort if not episode.end]
                if not cohort:
                    continue
                slot_steps += self._reply(asked, cohort, size)
                cohort = [episode for episode in cohort if not episode.end]
                replies = [(each.state, each.turns[-1].reply) for each in cohort]
                waiting.append((cohort, self._submit(thread, replies)))
        return slot_steps

    def _submit(
        self, thread: concurrent.futures.Executor, replies: list[tuple[Any, str]]
    ) -> "concurrent.futures.Future[list[Outcome]]":
        """The environment's answers, which come meanwhile where it has processes of its own."""
        stepper = self.context.stepper
        if stepper.overlaps:
            return thread.submit(stepper.step, replies)
        answers: concurrent.futures.Future[list[Outcome]] = concurrent.futures.Future()
        answers.set_result(stepper.step(replies))
        return answers

    def _reply(self, asked: Asked, cohort: Sequence[Episode], size: int) -> int:
        """Samples the next reply of each episode; returns the sampler's slot steps."""
        place = np.array([episode.prompt for episode in cohort])
        ids = [[*asked.prompts[each.prompt].tokens, *each.tokens] for each in cohort]
        length = np.array([len(row) for row in ids])
        prompts = np.zeros((len(ids), length.max()), np.int32)
        for row, tokens in enumerate(ids):
            prompts[row, -len(tokens) :] = tokens
        turn = np.array([len(episode.turns) for episode in cohort])
        sample = np.array([episode.sample for episode in cohort])
        limit = self.engine.config.max_new_tokens
        left = np.array([self.room - len(episode.tokens) for episode in cohort])
        requests = Requests(
            prompts=prompts,
            prompt_mask=np.arange(prompts.shape[1]) >= prompts.shape[1] - length[:, None],
            prompt_ids=asked.noise[place],
            sample_ids=(sample + self.samples * turn).astype(np.int32)[:, None],
            temperature_slopes=None if asked.slopes is None else asked.slopes[place],
            max_new_tokens=np.minimum(left, limit).astype(np.int32)[:, None],
        )
        padded = fill_rows(requests, rows_of_call(len(cohort), size))
        padded.max_new_tokens[len(cohort) :] = 1
        rollouts = self.engine.sample(asked.weights, padded, key=asked.key, step=asked.step)
        for row, episode in enumerate(cohort):
            self._write(episode, rollouts, row)
        return int(np.max(rollouts.slot_steps))

    def _write(self, episode: Episode, rollouts: Rollouts, row: int) -> None:
        mask, begin = rollouts.mask[row, 0], len(episode.tokens)
        tokens = rollouts.tokens[row, 0][mask].tolist()
        said = {name: getattr(rollouts, name)[row, 0][mask].tolist() for name in OF_TOKENS}
        episode.write(tokens, said)
        text = self.context.text_format.text(tokens)
        episode.turns.append(PlayedTurn(text, 0.0, begin, len(episode.tokens)))
        if rollouts.stop_reason[row, 0] == StopReason.LENGTH:
            self._end(episode, "cut")

    def _settle(
        self, cohort: Sequence[Episode], answers: Sequence[Outcome], read: Sequence[Prompt]
    ) -> None:
        """Writes what the environment answers, or ends the episode."""
        for episode, outcome in zip(cohort, answers, strict=True):
            if outcome.answer is None:
                episode.error = outcome.error
                self._end(episode, "failed")
                continue
            episode.state, messages, reward, done = outcome.answer
            episode.turns[-1] = episode.turns[-1]._replace(reward=reward)
            if done:
                self._end(episode, "done")
            elif len(episode.turns) == self.settings.turns:
                self._end(episode, "turns")
            else:
                self._answer(episode, messages, read[episode.prompt])

    def _answer(self, episode: Episode, messages: list[Message], prompt: Prompt) -> None:
        last, number = episode.turns[-1], len(episode.turns)
        try:
            found = next_turn(
                self.context.text_format,
                episode.messages,
                episode.tokens[last.begin : last.end],
                messages,
                options=prompt.options,
                rewritten=self.settings.rewritten_turns,
                where=f"an episode's turn {number}",
            )
        except Rewritten as error:
            raise ValueError(
                f"{error}. Take another template, or let the model read on what it wrote itself "
                "(config.environment.rewritten_turns='keep')."
            ) from error
        except ValueError as error:  # a text that cannot be read on costs its own episode
            episode.error = str(error)
            self._end(episode, "failed")
            return
        if len(episode.tokens) + len(found.tokens) >= self.room:
            self._end(episode, "room")
            return
        episode.write(found.tokens, None)
        episode.messages = found.messages

    def _end(self, episode: Episode, end: str) -> None:
        episode.end = end
        reply = {"role": "assistant", "content": episode.turns[-1].reply}
        episode.messages = [*episode.messages, reply]


def episode_rollouts(
    episodes: Sequence[Episode], samples: int, room: int, pad_id: int, slot_steps: int
) -> Rollouts:
    """Episodes as samples [B, G, T].

    Args:
        episodes: B * G that have ended, those of a prompt together.
        samples: G.
        room: T.
        pad_id: fills what comes after the end.
        slot_steps: of the sampler, in all.
    """
    shape, prompts = (len(episodes), room), len(episodes) // samples
    tokens, mask = np.full(shape, pad_id, np.int32), np.zeros(shape, bool)
    inserted = np.zeros(shape, bool)
    said = {name: np.zeros(shape, np.float32) for name in OF_TOKENS}
    stop = np.full(len(episodes), StopReason.LENGTH, np.int32)
    for row, episode in enumerate(episodes):
        count = len(episode.tokens)
        tokens[row, :count], mask[row, :count] = episode.tokens, episode.sampled
        inserted[row, :count] = ~mask[row, :count]
        for name, values in said.items():
            values[row, :count] = episode.said[name]
        if episode.end == "done":
            stop[row] = StopReason.STOP_TOKEN
    arrays = {"tokens": tokens, "mask": mask, "inserted": inserted, "stop_reason": stop, **said}
    by_prompt = jax.tree.map(lambda x: x.reshape(prompts, samples, *x.shape[1:]), arrays)
    return Rollouts(**by_prompt, slot_steps=np.full(prompts, slot_steps, np.int32))


def reply_tokens(context: Context, room: int) -> int:
    """Tokens of a reply at most, where an episode has `room` in all."""
    return min(context.config.environment.turn_tokens or room, room)


def rows_of_call(rows: int, size: int) -> int:
    """Rows of a call for so many episodes: `size`, or a quarter of it where that is enough.

    So a step needs few programs, and its last turns do not cost what the first ones do.
    """
    quarter = -(-size // 4)
    return quarter if rows <= quarter else size
