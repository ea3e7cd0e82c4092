"""What answers problems: an engine, an environment's player, or agents'."""

from collections.abc import Sequence

from jax import Array

from rljax.models.network import Params
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import Engine
from rljax.training.collect.agent_episodes import AgentPlayer
from rljax.training.collect.episodes import Player, reply_tokens
from rljax.training.collect.rollouts import Samples, sample_texts
from rljax.training.run.context import Context, Record

ProblemSampler = Engine | Player | AgentPlayer


def make_sampler(
    context: Context,
    *,
    samples_per_prompt: int,
    max_new_tokens: int,
    token_filter: TokenFilter,
    stop_strings: tuple[str, ...],
) -> ProblemSampler:
    """An engine; a player with one where the run has an environment; or one of agents.

    Args:
        context: of the run.
        samples_per_prompt: G.
        max_new_tokens: of a completion; of an episode, replies and answers together.
        token_filter: how every token is drawn.
        stop_strings: that end a completion, or a reply.
    """
    decoding = {"token_filter": token_filter, "stop_strings": stop_strings}
    if context.agents is not None:
        sizes = {"samples": samples_per_prompt, "room": max_new_tokens}
        return AgentPlayer(context, context.sampler_mesh, **sizes, **decoding)
    if context.stepper is None:
        return context.make_engine(
            samples_per_prompt=samples_per_prompt, max_new_tokens=max_new_tokens, **decoding
        )
    reply = reply_tokens(context, max_new_tokens)
    engine = context.make_engine(samples_per_prompt=1, max_new_tokens=reply, **decoding)
    return Player(context, engine, samples=samples_per_prompt, room=max_new_tokens)


def engine_of(sampler: ProblemSampler) -> Engine:
    """The engine whose copy of the weights a sampler reads."""
    return sampler.engine if isinstance(sampler, Player | AgentPlayer) else sampler


def drawn_samples(
    context: Context,
    sampler: ProblemSampler,
    weights: Params,
    records: Sequence[Record],
    *,
    key: Array,
    step: int,
    noise_ids: Sequence[int] | None = None,
) -> Samples:
    """Whole replies of an engine, or the episodes of a player; arguments as of `sample_texts`."""
    address = {"key": key, "step": step, "noise_ids": noise_ids}
    if isinstance(sampler, Player | AgentPlayer):
        return sampler.play(weights, records, **address)
    return sample_texts(context, sampler, weights, records, **address)
