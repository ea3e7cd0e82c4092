"""Episodes: the model's replies and an environment's answers in turn, as one completion each.

    prompt | reply 1, answer 1, reply 2, answer 2, ... reply K

Replies are sampled, answers are inserted: `mask` is True on the former, `inserted` on the latter.
Ids are never made anew: a later reply is sampled behind the very ids of all before it.

Of several players each has a conversation, and so a completion, of its own (episode.py). Then the
samples of a step are rows with a prompt each, in the order of problems, episodes and players. A
player whose reply is cut off plays on, and one that has no room left says nothing, until the
environment ends the episode: else who is about to lose would do well to ramble.

The episodes of a step are played in cohorts of `rows_per_call`. While the environment answers one
cohort the next one is sampled; who is in a cohort is known beforehand, so that a run repeats.
"""

import concurrent.futures
import copy
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

from rljax.data.encode import check_length, pad_prompts
from rljax.data.next_turn import Rewritten, next_turn
from rljax.data.text_format import Prompt
from rljax.environments.players import joined
from rljax.environments.problems import PLAYERS, STATE
from rljax.environments.stepping import moved
from rljax.models.network import Params
from rljax.parallel.host import to_host
from rljax.rewards.worker import Outcome
from rljax.sampling.engine import Engine, fill_rows
from rljax.sampling.request import Requests, Rollouts, StopReason, for_each_prompt
from rljax.training.collect.episode import OF_TOKENS, Episode, View, row_arrays
from rljax.training.collect.experience import Policy
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rollouts import (
    Samples,
    noise_addresses,
    padded_prompts,
)
from rljax.training.run.context import Context, Record
from rljax.training.run.phases import phase


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
        noise_ids: Sequence[int] | None = None,
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
    records: Sequence[Record]  # B
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
            samples: episodes of a prompt.
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
        noise_ids: Sequence[int] | None = None,
    ) -> Samples:
        """The episodes of each of B problems; arguments as for `sample_texts` (rollouts.py).

        Returns:
            B prompts with a sample for each episode. Of several players: a prompt of one sample for
            each of them, in the order of problems, episodes and players.
        """
        started = time.perf_counter()
        context = self.context
        noise = noise_addresses(
            context, records, call=call, most_prompts=most_prompts, noise_ids=noise_ids
        )
        read = context.prompts(records)
        slopes = for_each_prompt(to_host(temperature_slopes), len(records))
        asked = Asked(weights, records, read, noise, slopes, key, step)
        episodes = [
            _started(place, sample, record, read[place])
            for place, record in enumerate(records)
            for sample in range(self.samples)
        ]
        steps = self._play(asked, episodes)
        arrays = row_arrays(episodes, room=self.room, pad_id=context.tokenizer.pad_id)
        views = [view for episode in episodes for view in episode.views]
        rows, prompts = self._prompts(asked, episodes)
        return Samples(
            records=rows,
            **prompts,
            rollouts=by_prompt(arrays, len(rows), steps),
            versions=np.full((len(rows), len(views) // len(rows), self.room), version, np.int32),
            texts=[view.turns[-1].reply if view.turns else "" for view in views],
            seconds=time.perf_counter() - started,
            episodes=[record for episode in episodes for record in episode.records()],
        )

    def _prompts(
        self, asked: Asked, episodes: Sequence[Episode]
    ) -> tuple[Sequence[Record], dict[str, Any]]:
        """The records of the samples' prompts, and fields of `Samples` that say what these are."""
        if not episodes[0].several:
            texts, prompts, mask = padded_prompts(self.context, asked.records)
            return asked.records, {"prompt_texts": texts, "prompts": prompts, "prompt_mask": mask}
        views = [(episode, view) for episode in episodes for view in episode.views]
        # A player that has not replied has no tokens; whatever its prompt is, it is not read.
        read = [view.prompt or asked.prompts[episode.prompt] for episode, view in views]
        tokens, mask = pad_prompts(
            [prompt.tokens for prompt in read],
            self.context.tokenizer.pad_id,
            max_prompt_tokens=self.context.config.data.max_prompt_tokens,
        )
        texts = [prompt.text for prompt in read]
        records = [asked.records[episode.prompt] for episode, _ in views]
        return records, {"prompt_texts": texts, "prompts": tokens, "prompt_mask": mask}

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
                    self._settle(cohort, answers.result(), asked)
                    cohort = [episode for episode in cohort if not episode.end]
                for episode in cohort:
                    if episode.view.full:
                        episode.reply("", [], {name: [] for name in OF_TOKENS})
                if speaking := [episode for episode in cohort if not episode.view.full]:
                    slot_steps += self._reply(asked, speaking, size)
                cohort = [episode for episode in cohort if not episode.end]
                if not cohort:
                    continue
                replies = [(each.state, each.view.turns[-1].reply) for each in cohort]
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
        ids = [[*each.view.prompt.tokens, *each.view.tokens] for each in cohort]
        length = np.array([len(row) for row in ids])
        prompts = np.zeros((len(ids), length.max()), np.int32)
        for row, tokens in enumerate(ids):
            prompts[row, -len(tokens) :] = tokens
        turn = np.array([episode.replies for episode in cohort])
        sample = np.array([episode.sample for episode in cohort])
        limit = self.engine.config.max_new_tokens
        left = np.array([self.room - len(episode.view.tokens) for episode in cohort])
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
        mask = rollouts.mask[row, 0]
        tokens = rollouts.tokens[row, 0][mask].tolist()
        said = {name: getattr(rollouts, name)[row, 0][mask].tolist() for name in OF_TOKENS}
        episode.reply(self.context.text_format.text(tokens), tokens, said)
        if rollouts.stop_reason[row, 0] == StopReason.LENGTH:
            episode.view.cut = True
            if not episode.several:
                episode.end = "cut"

    def _settle(self, cohort: Sequence[Episode], answers: Sequence[Outcome], asked: Asked) -> None:
        """Writes what the environment answers, or ends the episode."""
        for episode, outcome in zip(cohort, answers, strict=True):
            if outcome.answer is None:
                episode.fail(outcome.error)
                continue
            episode.move(*moved(outcome.answer, several=episode.several))
            if not episode.end and episode.replies == self.settings.turns:
                episode.end = "turns"
            if not episode.end:
                self._answer(episode, asked)

    def _answer(self, episode: Episode, asked: Asked) -> None:
        """Shows the player whose turn it is what has happened."""
        view, record = episode.view, asked.records[episode.prompt]
        where = f"an episode's turn {episode.replies}"
        try:
            if view.full:
                view.messages = [*view.whole, *view.waiting]
            elif view.turns:
                self._read_on(episode, asked.prompts[episode.prompt], where)
            else:
                self._read_first(view, record, where)
        except Rewritten as error:
            raise ValueError(
                f"{error}. Take another template, or let the model read on what it wrote itself "
                "(config.environment.rewritten_turns='keep')."
            ) from error
        except ValueError as error:  # a text that cannot be read on costs its own episode
            episode.fail(str(error))
        view.waiting = []

    def _read_first(self, view: View, record: Record, where: str) -> None:
        """The prompt of a player that has not replied yet."""
        messages = joined(view.messages, view.waiting)
        (prompt,) = self.context.prompts([{**record, "prompt": messages}])
        room = self.context.config.data.max_prompt_tokens
        check_length(prompt.tokens, room, f"{where}: the prompt", "config.data.max_prompt_tokens")
        view.prompt, view.messages = prompt, prompt.messages

    def _read_on(self, episode: Episode, prompt: Prompt, where: str) -> None:
        """What stands behind a player's latest reply."""
        view = episode.view
        last, news = view.turns[-1], joined([], view.waiting)
        if not news:
            raise ValueError(
                f"{where}: player {episode.player} replies again, and step() told it nothing "
                "(config.environment.name)."
            )
        found = next_turn(
            self.context.text_format,
            view.messages,
            view.tokens[last.begin : last.end],
            news,
            options=prompt.options,
            rewritten=self.settings.rewritten_turns,
            where=where,
        )
        if len(view.tokens) + len(found.tokens) < self.room:
            view.write(found.tokens, None)
            view.messages = found.messages
        elif episode.several:
            view.messages, view.full = [*view.whole, *news], True
        else:
            episode.end = "room"


def _started(place: int, sample: int, record: Record, prompt: Prompt) -> Episode:
    """An episode before its first reply."""
    state = copy.deepcopy(record[STATE])
    if PLAYERS not in record:
        return Episode(place, sample, state, [View(prompt.messages, prompt)])
    opening = record[PLAYERS]
    views = [
        View(messages, role=role)
        for messages, role in zip(opening.conversations, opening.roles, strict=True)
    ]
    views[opening.player] = View(prompt.messages, prompt, opening.roles[opening.player])
    return Episode(place, sample, state, views, opening.player)


def by_prompt(arrays: dict[str, np.ndarray], prompts: int, slot_steps: int) -> Rollouts:
    """Rows as samples [B, G, ...]."""
    shaped = jax.tree.map(lambda x: x.reshape(prompts, -1, *x.shape[1:]), arrays)
    return Rollouts(**shaped, slot_steps=np.full(prompts, slot_steps, np.int32))


def reply_tokens(context: Context, room: int) -> int:
    """Tokens of a reply at most, where an episode has `room` in all."""
    return min(context.config.environment.turn_tokens or room, room)


def rows_of_call(rows: int, size: int) -> int:
    """Rows of a call for so many episodes: `size`, or a quarter of it where that is enough.

    So a step needs few programs, and its last turns do not cost what the first ones do.
    """
    quarter = -(-size // 4)
    return quarter if rows <= quarter else size
