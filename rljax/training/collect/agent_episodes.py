"""Episodes that agents play against a server in this process: rows as `Player` makes them.

The server's slots run the network of the stage with the weights of the policy. An agent (a program
of the user's, environments/agents.py) gets a problem, an address and a key, and asks as any client
does; the server keeps the ids of every turn (serving/episodes.py). What the first prompts of a
problem's G episodes begin with is the prompt of its rows, and all that follows is their completion:

    prompt | rest of the first prompt, reply 1, answer 1, reply 2, ... reply K

Replies are sampled, everything else is inserted. No id is made from a text that was an id before.
"""

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from rljax.data.encode import pad_prompts
from rljax.environments.agents import Agents, Endpoint
from rljax.environments.record import PlayedTurn, episode_record
from rljax.models.network import Params
from rljax.parallel.rules import rows_divisor
from rljax.rewards.worker import Outcome
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import Engine
from rljax.serving.episodes import Ended, Segment
from rljax.serving.limits import Limits
from rljax.serving.seats import MODEL, NO_ROOM, TOO_MANY_TURNS, Rules, Seat, SeatService
from rljax.serving.service import make_worker
from rljax.training.collect.episode import Episode, View, row_arrays
from rljax.training.collect.episodes import by_prompt, reply_tokens
from rljax.training.collect.rollouts import Samples, noise_addresses, padded_prompts
from rljax.training.collect.turn_rewards import REWARD
from rljax.training.run.context import Context, Record
from rljax.training.run.phases import phase

FIELD = "config.environment.agent"

# How an episode has ended whose agent was refused this and came back all the same.
ENDS = {TOO_MANY_TURNS: "turns", NO_ROOM: "room"}


class AgentPlayer:
    """Lets agents play episodes; `Player` (episodes.py) with other players."""

    def __init__(
        self,
        context: Context,
        mesh: Mesh,
        *,
        samples: int,
        room: int,
        token_filter: TokenFilter,
        stop_strings: tuple[str, ...],
    ) -> None:
        """Builds the programs of the server; nothing is compiled yet.

        Args:
            context: with agents.
            mesh: of the sampler.
            samples: G, episodes of a problem.
            room: T, tokens behind the prompt.
            token_filter: how every token is drawn.
            stop_strings: that end a reply.

        Raises:
            ValueError: for a temperature that follows the entropy, which slots cannot have.
        """
        if token_filter.entropy_temperature is not None:
            raise ValueError(
                "The server has one temperature for all tokens of a request: leave out "
                f"entropy_temperature where an agent plays (config.<stage>.sampling, {FIELD})."
            )
        settings, prompt = context.config.sampler, context.config.data.max_prompt_tokens
        self.context, self.samples, self.room = context, samples, room
        shards, count = rows_divisor(mesh), self.agents.count
        limits = Limits(
            slots=-(-count // shards) * shards,
            context=prompt + room,
            prefill_tokens=settings.prefill_tokens,
            queue=4 * count,
        )
        try:
            self.worker = make_worker(
                context.network,
                None,
                context.text_format,
                mesh,
                limits,
                weights=settings.weights,
                cache=settings.cache,
                gather_weights=settings.gather_weights,
                token_filter=token_filter.at_temperature(1.0),  # a row has its own
            )
        except ValueError as error:
            raise ValueError(
                f"The server for {count} agents at a time: {error} Its slots are "
                "config.environment.agent_processes, its context config.data.max_prompt_tokens "
                "and max_new_tokens together."
            ) from error
        rules = Rules(
            temperature=token_filter.temperature,
            top_k=token_filter.top_k,
            top_p=token_filter.top_p,
            min_p=token_filter.min_p,
            stop=stop_strings,
            prompt_tokens=prompt,
            room=room,
            turns=context.config.environment.turns,
            turn_tokens=reply_tokens(context, room),
        )
        rewritten = context.config.environment.rewritten_turns
        self.service = SeatService(self.worker, context.text_format, rules, rewritten)
        self._warm = False

    @property
    def agents(self) -> Agents:
        """The processes of the run's agents."""
        return self.context.agents

    @property
    def engine(self) -> Engine:
        """What gives the weights their layout."""
        return self.worker.engine

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
        """G episodes of each of B problems; arguments as for `sample_texts` (rollouts.py).

        Raises:
            ValueError: for a chat template that writes earlier turns anew, and first prompts of a
                problem that have nothing in common; for rewards that nobody reads.
            ScoringError: the agents' processes cannot start.
        """
        if temperature_slopes is not None:
            raise ValueError(f"An agent's episodes have one temperature ({FIELD}).")
        started = time.perf_counter()
        noise = noise_addresses(
            self.context, records, call=call, most_prompts=most_prompts, noise_ids=noise_ids
        )
        stream = tuple(np.asarray(jax.random.key_data(key)).tolist())
        seats = {
            secrets.token_urlsafe(24): Seat(stream, step, int(noise[place]), sample, self.samples)
            for place in range(len(records))
            for sample in range(self.samples)
        }
        ended, outcomes = self._served(weights, version, records, seats)
        texts, prompts, prompt_mask = padded_prompts(self.context, records)
        episodes: list[Episode] = []
        keys = list(seats)
        for place in range(len(records)):
            begin = place * self.samples
            played = [ended.get(each) for each in keys[begin : begin + self.samples]]
            shared = shared_prompt(played)
            if shared:
                prompts[place], prompt_mask[place] = self._padded(shared)
            for sample, one in enumerate(played):
                refused = self.service.refused.get(keys[begin + sample], "")
                episode = Episode(place, sample, None, [View([])])
                self._write(episode, one, len(shared), outcomes[begin + sample], refused)
                episodes.append(episode)
        pad_id = self.context.tokenizer.pad_id
        steps = self.worker.slot_steps
        return Samples(
            records=records,
            prompt_texts=texts,
            prompts=prompts,
            prompt_mask=prompt_mask,
            rollouts=by_prompt(
                row_arrays(episodes, room=self.room, pad_id=pad_id), len(records), steps
            ),
            versions=np.full((len(records), self.samples, self.room), version, np.int32),
            texts=[each.view.turns[-1].reply if each.view.turns else "" for each in episodes],
            seconds=time.perf_counter() - started,
            episodes=[
                episode_record(each.view.messages, each.view.turns, each.end, each.error)
                for each in episodes
            ],
        )

    def _served(
        self,
        weights: Params,
        version: int,
        records: Sequence[Record],
        seats: Mapping[str, Seat],
    ) -> tuple[dict[str, Ended], list[Outcome]]:
        """The ids of the episodes by key, and what the agents returned, by seat."""
        from rljax.serving.app import make_app  # of an extra
        from rljax.serving.in_process import in_process

        service, worker = self.service, self.worker
        service.seat(seats)
        worker.use(weights, version)
        worker.start()
        try:
            if not self._warm:  # so that compiling takes no time of an agent's
                worker.warm()
                self._warm = True
            with in_process(make_app(service, tuple(seats)), worker) as url:
                endpoints = [Endpoint(f"{url}/v1", key, MODEL) for key in seats]
                problems = [dict(records[n // self.samples]) for n in range(len(seats))]
                outcomes = self.agents.play(list(zip(problems, endpoints, strict=True)))
        finally:
            worker.drain()
            worker.join()
            worker.use(None, version)
        if worker.error is not None:
            raise worker.error
        if (error := service.template_error) is not None:
            raise ValueError(
                f"{error} Take another template, or let the model read on what it wrote itself "
                "(config.environment.rewritten_turns='keep')."
            )
        return service.end(), outcomes

    def _padded(self, tokens: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """[P] ids and mask of a prompt."""
        most, pad_id = self.context.config.data.max_prompt_tokens, self.context.tokenizer.pad_id
        (row,), (mask,) = pad_prompts([tokens], pad_id, max_prompt_tokens=most)
        return row, mask

    def _write(
        self, episode: Episode, ended: Ended | None, start: int, outcome: Outcome, refused: str
    ) -> None:
        """What the server kept of an episode, behind the `start` ids of its prompt."""
        episode.error = outcome.error
        if ended is None:
            episode.end = "failed"
            episode.error = outcome.error or f"The agent got no answer of the model ({FIELD})."
            return
        (segment,) = ended.segments
        view = episode.view
        view.messages = ended.messages
        count = len(segment.ids) - start
        if count > self.room:
            episode.end = "failed"
            episode.error = (
                f"The episodes of a problem begin with {start} ids in common, and {count} follow; "
                f"there is room for {self.room} (config.<stage>.sampling.max_new_tokens, {FIELD})."
            )
            return
        view.tokens, view.sampled = segment.ids[start:], segment.sampled[start:]
        view.said = said_of(segment, start)
        for turn in segment.turns:
            text = self.context.text_format.text(segment.ids[turn.start : turn.stop])
            view.turns.append(PlayedTurn(text, 0.0, turn.start - start, turn.stop - start))
        cut = "cut" if segment.turns[-1].reason == "length" else "done"
        episode.end = ENDS.get(refused, cut)
        if episode.error is None:
            episode.error = self._reward(episode, outcome.answer)
        if episode.error is not None:
            episode.end = "failed"

    def _reward(self, episode: Episode, reward: float | None) -> str | None:
        """Gives the last turn an agent's reward; returns what is wrong with it."""
        wanted = any(each.name == REWARD for each in self.context.scorer.composition.members)
        if reward is None:
            missing = (
                f"The agent has returned no reward, and config.scoring.rewards has {REWARD!r}."
            )
            return missing if wanted else None
        if not self.context.scorer.composition.needs_episodes:
            raise ValueError(
                f"The agent returns a reward, {reward!r}, that none of config.scoring.rewards "
                f"reads: name {REWARD!r} among them, or return None ({FIELD})."
            )
        episode.view.reward(reward)
        return None


def shared_prompt(played: Sequence[Ended | None]) -> list[int]:
    """The ids that the first prompts of all episodes begin with; [] where there is no episode.

    Raises:
        ValueError: if they have nothing in common, as rows of a problem share their prompt.
    """
    firsts = [each.segments[0] for each in played if each is not None]
    begun = [segment.ids[: segment.turns[0].start] for segment in firsts]
    shared = os.path.commonprefix(begun) if begun else []
    if begun and not shared:
        raise ValueError(
            "The first prompts of a problem's episodes differ from their first id on, and rows of "
            f"a problem share a prompt: let the agent begin them alike ({FIELD})."
        )
    return list(shared)


def said_of(segment: Segment, start: int) -> dict[str, list[float]]:
    """What the sampler says of each id from `start` on, by field of `Rollouts`."""
    temperature = [0.0] * len(segment.ids)
    for turn in segment.turns:
        temperature[turn.start : turn.stop] = [turn.temperature] * (turn.stop - turn.start)
    found: dict[str, Any] = {
        "logprobs": segment.logprobs,
        "model_logprobs": segment.model_logprobs,
        "tempered_logprobs": segment.tempered_logprobs,
        "entropy": segment.entropy,
        "temperature": temperature,
    }
    return {name: values[start:] for name, values in found.items()}
